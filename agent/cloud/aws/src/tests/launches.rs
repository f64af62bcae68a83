//! What is launched, found, ended and left behind.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Rig, SECRET};
use gpuloom_cloud::{Cloud, FailureClass, InstanceState, LaunchRequest, Role, Tags};
use gpuloom_doubles::aws::Options;
use gpuloom_fleet::{FleetName, InstanceId, Market, PoolName, PoolPlace};

#[tokio::test]
async fn an_instance_is_made_as_its_place_says() {
    let rig = Rig::new().await;
    let launched = rig
        .cloud
        .launch(&rig.request("t-1"))
        .await
        .expect("launched");
    assert!(launched.failed.is_empty());
    assert_eq!(launched.instance.state, InstanceState::Launching);
    let machine = rig.double.living().remove(0);
    for (parameter, value) in [
        ("ImageId", "ami-0123456789abcdef0"),
        ("InstanceType", "g4dn.xlarge"),
        ("IamInstanceProfile.Name", "nodes"),
        ("InstanceInitiatedShutdownBehavior", "terminate"),
        ("MetadataOptions.HttpTokens", "required"),
        ("MetadataOptions.HttpPutResponseHopLimit", "1"),
        ("MetadataOptions.InstanceMetadataTags", "enabled"),
        ("BlockDeviceMapping.1.DeviceName", "/dev/sda1"),
        ("BlockDeviceMapping.1.Ebs.VolumeSize", "60"),
        ("BlockDeviceMapping.1.Ebs.DeleteOnTermination", "true"),
        ("NetworkInterface.1.AssociatePublicIpAddress", "false"),
        ("NetworkInterface.1.SubnetId", rig.subnets[0].as_str()),
    ] {
        let sent = machine.launch.get(parameter).map(String::as_str);
        assert_eq!(sent, Some(value), "{parameter}");
    }
    assert_eq!(machine.user_data, "#!/bin/sh\necho hello\n");
    let listed = rig
        .cloud
        .list(&Tags::default())
        .await
        .expect("listed")
        .remove(0);
    assert_eq!(listed.id, launched.instance.id);
    assert_eq!(listed.offering, launched.instance.offering);
    for (key, value) in [
        (Tags::FLEET, "ml"),
        (Tags::FLEET_ID, "0123456789abcdef"),
        (Tags::POOL, "t4"),
        (Tags::ROLE, "node"),
        (Tags::TOKEN, "t-1"),
        (Tags::REVISION, "aabbccddeeff"),
        ("team", "vision"),
        ("cost-centre", "42"),
    ] {
        assert_eq!(listed.tags.get(key), Some(value), "{key}");
        assert_eq!(launched.instance.tags.get(key), Some(value), "{key}");
    }
    assert!(listed.private_address.is_some());
    assert!(listed.launched_at.0 > 0);
    assert_eq!(
        (listed.pool.as_ref().map(PoolName::as_str), listed.role),
        (Some("t4"), Role::Node)
    );
    let volumes = machine
        .launch
        .iter()
        .filter(|(k, v)| k.ends_with("ResourceType") && *v == "volume");
    assert_eq!(volumes.count(), 1, "the root disk is tagged, too");
}

#[tokio::test]
async fn like_launches_share_a_template_and_a_spot_launch_is_spot() {
    let rig = Rig::new().await;
    rig.cloud
        .launch(&rig.request("t-1"))
        .await
        .expect("launched");
    let mut spot = rig.request("t-2");
    spot.offerings = vec![rig.offering(1, "g4dn.xlarge", Market::Spot)];
    let launched = rig.cloud.launch(&spot).await.expect("launched").instance;
    assert_eq!(launched.offering, spot.offerings[0]);
    let listed = rig.cloud.list(&Tags::default()).await.expect("listed");
    let markets: BTreeSet<_> = listed.iter().map(|i| i.offering.market()).collect();
    assert_eq!(markets, BTreeSet::from([Market::OnDemand, Market::Spot]));
    assert_eq!(rig.sent("CreateLaunchTemplate"), 1);
    assert_eq!(rig.sent("CreateFleet"), 2);
    let mut other = rig.request("t-3");
    other.user_data.script.push_str("echo changed\n");
    rig.cloud.launch(&other).await.expect("launched");
    assert_eq!(
        rig.double.templates().len(),
        2,
        "another thing is another template"
    );
    // A driver that starts again finds the template it made before.
    let again = super::driver(&rig.double).await;
    again.launch(&rig.request("t-4")).await.expect("launched");
    assert_eq!(rig.double.templates().len(), 2);
}

#[tokio::test]
async fn a_listing_is_read_to_its_last_page() {
    let options = Options {
        page: Some(1),
        ..Options::default()
    };
    let rig = Rig::with(options).await;
    for token in ["t-1", "t-2", "t-3"] {
        rig.cloud
            .launch(&rig.request(token))
            .await
            .expect("launched");
    }
    let listed = rig.cloud.list(&Tags::default()).await.expect("listed");
    let tokens: BTreeSet<_> = listed.iter().map(|i| i.token.as_str()).collect();
    assert_eq!(tokens, BTreeSet::from(["t-1", "t-2", "t-3"]));
    assert!(listed.is_sorted_by(|a, b| a.id < b.id));
}

#[tokio::test]
async fn with_the_last_instance_of_a_fleet_its_templates_go() {
    let rig = Rig::new().await;
    let a = rig
        .cloud
        .launch(&rig.request("t-1"))
        .await
        .expect("launched");
    let mut other = rig.request("t-2");
    other.pool = Some(PoolName::new("l4").expect("name"));
    let b = rig.cloud.launch(&other).await.expect("launched");
    let foreign = LaunchRequest {
        fleet: FleetName::new("other").expect("name"),
        ..rig.request("t-3")
    };
    rig.cloud.launch(&foreign).await.expect("launched");
    assert_eq!(rig.double.templates().len(), 3);
    rig.cloud.terminate(&a.instance.id).await.expect("ended");
    assert_eq!(rig.double.templates().len(), 3, "the fleet lives");
    rig.cloud.terminate(&b.instance.id).await.expect("ended");
    let left = rig.double.templates();
    assert!(
        matches!(left.as_slice(), [one] if one.contains("other")),
        "{left:?}"
    );

    // A launch that gave no instance leaves no template of a fleet that has nothing; of one that lives it does.
    rig.double.set_room("*", 0);
    rig.cloud
        .launch(&rig.request("t-4"))
        .await
        .expect_err("no room");
    assert_eq!(rig.double.templates(), left);
    let foreign = LaunchRequest {
        pool: Some(PoolName::new("l4").expect("name")),
        fleet: FleetName::new("other").expect("name"),
        ..rig.request("t-5")
    };
    rig.cloud.launch(&foreign).await.expect_err("no room");
    assert_eq!(rig.double.templates().len(), 2);
    let deadline = Instant::now() + Duration::from_secs(30);
    for fleet in ["ml", "other"] {
        let tags = Tags::of_fleet(&FleetName::new(fleet).expect("name"));
        rig.cloud
            .terminate_all(&tags, deadline)
            .await
            .expect("all end");
    }
    assert_eq!(rig.double.templates(), Vec::<String>::new());
    assert_eq!(rig.double.living().len(), 0);
}

#[tokio::test]
async fn a_template_that_somebody_deleted_is_made_again() {
    let rig = Rig::new().await;
    rig.cloud
        .launch(&rig.request("t-1"))
        .await
        .expect("launched");
    let second = super::driver(&rig.double).await;
    let tags = Tags::of_fleet(&FleetName::new("ml").expect("name"));
    second.delete_templates(&tags).await.expect("deleted");
    assert_eq!(rig.double.templates().len(), 0);
    rig.cloud
        .launch(&rig.request("t-2"))
        .await
        .expect("launched");
    assert_eq!(rig.double.living().len(), 2);
}

#[tokio::test]
async fn stopped_killed_and_foreign_instances_are_seen_as_what_they_are() {
    let rig = Rig::new().await;
    let a = rig
        .cloud
        .launch(&rig.request("t-1"))
        .await
        .expect("launched")
        .instance;
    let b = rig
        .cloud
        .launch(&rig.request("t-2"))
        .await
        .expect("launched")
        .instance;
    rig.double.stop(a.id.as_str()).await.expect("moto answers");
    rig.double.kill(b.id.as_str()).await.expect("moto answers");
    let listed = rig.cloud.list(&Tags::default()).await.expect("listed");
    let states: Vec<_> = listed.iter().map(|i| (&i.id, i.state)).collect();
    assert_eq!(states, [(&a.id, InstanceState::Stopped)]);
    let started = rig.cloud.start(&a.id).await.expect("started");
    assert_eq!(started.id, a.id);
    let listed = rig.cloud.list(&Tags::default()).await.expect("listed");
    assert_eq!(listed[0].state, InstanceState::Running);
    // Its token stands for the one that is gone: another token is for another instance.
    let again = rig
        .cloud
        .launch(&rig.request("t-2"))
        .await
        .expect("known")
        .instance;
    assert_eq!((again.id, again.state), (b.id, InstanceState::Terminating));
    assert_eq!(rig.sent("CreateFleet"), 2);
}

#[tokio::test]
async fn attributes_are_tags_of_the_instance() {
    let rig = Rig::new().await;
    let id = rig
        .cloud
        .launch(&rig.request("t-1"))
        .await
        .expect("launched")
        .instance
        .id;
    let pin = "sha256:0123456789abcdef";
    assert_eq!(
        rig.cloud.read_attribute(&id, "ca-pin").await.expect("read"),
        None
    );
    rig.cloud
        .write_attribute(&id, "ca-pin", pin)
        .await
        .expect("written");
    let read = rig.cloud.read_attribute(&id, "ca-pin").await.expect("read");
    assert_eq!(read.as_deref(), Some(pin));
    let listed = rig.cloud.list(&Tags::default()).await.expect("listed");
    assert_eq!(listed[0].tags.get("gpuloom:attribute:ca-pin"), Some(pin));
    let long = "x".repeat(257);
    let refused = rig.cloud.write_attribute(&id, "ca-pin", &long).await;
    assert_eq!(refused.expect_err("too long").class, FailureClass::Invalid);
    let nobody = InstanceId::new("i-0000000000000000f").expect("id");
    let refused = rig.cloud.write_attribute(&nobody, "ca-pin", pin).await;
    assert_eq!(
        refused.expect_err("no instance").class,
        FailureClass::Invalid
    );
}

#[tokio::test]
async fn what_ec2_would_refuse_late_is_refused_before_it_is_sent() {
    let rig = Rig::new().await;
    let refused = async |change: &dyn Fn(&mut LaunchRequest), word: &str| {
        let mut request = rig.request("t-1");
        change(&mut request);
        let refused = rig.cloud.launch(&request).await.expect_err("wrong");
        assert_eq!(refused.class, FailureClass::Invalid, "{refused}");
        assert!(refused.message.contains(word), "{refused}");
    };
    refused(&|r| r.offerings.clear(), "0 offerings").await;
    refused(&|r| r.place = PoolPlace::Local, "local").await;
    refused(
        &|r| r.offerings = vec![gpuloom_cloud::Offering("aws/eu-west-1/s/t/spot".to_owned())],
        "eu-west-1",
    )
    .await;
    let label = |r: &mut LaunchRequest| {
        r.labels.0.insert("team/a".to_owned(), "x".to_owned());
    };
    refused(&label, "team/a").await;
    refused(&|r| r.user_data.script = "x".repeat(17_000), "17000 bytes").await;
    let image = |r: &mut LaunchRequest| {
        if let PoolPlace::Aws(place) = &mut r.place {
            place.image = "ami-00000000000000000".to_owned();
        }
    };
    refused(&image, "ami-00000000000000000").await;
    assert_eq!(rig.sent("CreateFleet"), 0);
    assert_eq!(rig.double.control().mutations(), 0);
}

#[tokio::test]
async fn no_request_holds_a_secret() {
    let rig = Rig::new().await;
    let mut request = rig.request("t-1");
    request.user_data.config = format!("token = {SECRET:?}");
    request.user_data.join_token = Some(SECRET.to_owned());
    let id = rig
        .cloud
        .launch(&request)
        .await
        .expect("launched")
        .instance
        .id;
    rig.cloud.terminate(&id).await.expect("ended");
    let log = rig.double.control().log();
    assert!(log.len() >= 5, "{} requests", log.len());
    for logged in log {
        let text = format!("{} {}", logged.line, logged.body);
        assert!(!text.contains(SECRET), "{}", logged.action);
    }
    let machine = rig.double.machines().remove(0);
    assert!(!machine.user_data.contains(SECRET));
}
