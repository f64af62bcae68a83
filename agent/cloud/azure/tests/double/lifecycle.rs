//! What a machine is made of and how it is seen.

use super::{Azure, T4, place, request};
use gpuloom_cloud::{Cloud, FailureClass, InstanceState, LaunchRequest, Role, Tags};
use gpuloom_fleet::{AzurePlace, InstanceId, Millis, PoolPlace};

fn on(place: AzurePlace, token: &str, offering: &str) -> LaunchRequest {
    LaunchRequest {
        place: PoolPlace::Azure(Box::new(place)),
        ..request(token, offering)
    }
}

/// The body of the last PUT of a machine.
fn body(azure: &Azure) -> serde_json::Value {
    let log = azure.double.control().log();
    let put = log
        .iter()
        .rfind(|l| l.action == "virtualMachines.put")
        .expect("a PUT");
    serde_json::from_str(&put.body).expect("JSON")
}

#[tokio::test]
async fn an_instance_is_listed_with_all_that_is_known_of_it() {
    let azure = Azure::start().await;
    let asked = request("t-1", T4);
    let made = azure.cloud.launch(&asked).await.expect("a launch").instance;
    assert!(made.id.as_str().starts_with("ml-t4-"), "{}", made.id);
    let listed = azure
        .cloud
        .list(&Tags::of_fleet(&asked.fleet))
        .await
        .expect("a list");
    assert_eq!(listed, std::slice::from_ref(&made));
    assert_eq!(
        (made.state, made.role),
        (InstanceState::Running, Role::Node)
    );
    assert_eq!(made.pool, asked.pool);
    assert_eq!(made.revision(), Some(asked.revision.as_str()));
    assert_eq!(
        made.tags.get("example.com/tier"),
        Some("gold"),
        "a label keeps its slash"
    );
    assert_eq!(made.tags.get("team"), Some("ml"), "the place's tags");
    assert!(made.launched_at > Millis(1_700_000_000_000));
    assert!(
        made.private_address
            .as_deref()
            .is_some_and(|a| a.starts_with("10.0."))
    );
    assert_eq!(made.public_address, None);
    assert_eq!(azure.double.machines()[0].user_data, asked.user_data.script);
    azure.cloud.terminate(&made.id).await.expect("ends");
    azure.finish();
}

#[tokio::test]
async fn zone_market_and_scale_set_are_pinned() {
    let azure = Azure::start().await;
    let spot = "azure/eastus/2/Standard_NC8as_T4_v3/spot";
    let made = azure
        .cloud
        .launch(&request("t-1", spot))
        .await
        .expect("a launch")
        .instance;
    let sent = body(&azure);
    let properties = &sent["properties"];
    assert_eq!(sent["zones"][0], "2");
    assert_eq!(
        properties["hardwareProfile"]["vmSize"],
        "Standard_NC8as_T4_v3"
    );
    assert_eq!(
        (&properties["priority"], &properties["evictionPolicy"]),
        (&"Spot".into(), &"Delete".into())
    );
    assert_eq!(properties["billingProfile"]["maxPrice"], -1);
    assert_eq!(
        properties["storageProfile"]["osDisk"]["deleteOption"],
        "Delete"
    );
    let nic = &properties["networkProfile"]["networkInterfaceConfigurations"][0];
    assert_eq!(nic["properties"]["deleteOption"], "Delete");
    let sets = azure.double.others();
    let sets: Vec<_> = sets
        .iter()
        .filter(|o| o.starts_with("virtualMachineScaleSets/"))
        .collect();
    assert_eq!(sets.len(), 1, "one set for the pool: {sets:?}");
    assert!(sets[0].ends_with("-z"), "{sets:?}");
    assert!(azure.double.machines()[0].spot);
    azure.cloud.terminate(&made.id).await.expect("ends");
    azure.finish();
}

#[tokio::test]
async fn a_place_without_zones_is_regional_and_may_have_a_public_address() {
    let azure = Azure::start().await;
    let regional = AzurePlace {
        zones: Vec::new(),
        public_address: true,
        identity: None,
        image: "/subscriptions/x/resourceGroups/g/providers/Microsoft.Compute/images/gpuloom"
            .to_owned(),
        ..place()
    };
    let asked = on(
        regional,
        "t-1",
        "azure/eastus/-/Standard_NC4as_T4_v3/on-demand",
    );
    let made = azure.cloud.launch(&asked).await.expect("a launch").instance;
    let sent = body(&azure);
    assert!(sent["zones"].is_null() && sent["identity"].is_null());
    assert_eq!(sent["properties"]["priority"], "Regular");
    assert!(
        made.public_address
            .as_deref()
            .is_some_and(|a| a.starts_with("203.0.")),
        "{made:?}"
    );
    let listed = azure.cloud.list(&Tags::default()).await.expect("a list");
    assert_eq!(listed, std::slice::from_ref(&made));
    azure.cloud.terminate(&made.id).await.expect("ends");
    azure.finish();
}

#[tokio::test]
async fn a_set_stays_as_long_as_a_machine_is_in_it() {
    let azure = Azure::start().await;
    let a = azure.launch("t-1").await.expect("a launch").instance;
    let zone_2 = "azure/eastus/2/Standard_NC4as_T4_v3/on-demand";
    let b = azure
        .cloud
        .launch(&request("t-2", zone_2))
        .await
        .expect("a launch")
        .instance;
    assert_eq!(
        azure.sent("virtualMachineScaleSets.put"),
        1,
        "both zones at once"
    );
    azure.cloud.terminate(&a.id).await.expect("ends");
    assert_eq!(azure.sent("virtualMachineScaleSets.delete"), 0);
    azure.cloud.terminate(&b.id).await.expect("ends");
    assert_eq!(azure.sent("virtualMachineScaleSets.delete"), 1);
    let c = azure
        .launch("t-3")
        .await
        .expect("the set is made again")
        .instance;
    azure.cloud.terminate(&c.id).await.expect("ends");
    azure.finish();
}

#[tokio::test]
async fn a_set_that_vanished_is_made_again() {
    let azure = Azure::start().await;
    let a = azure.launch("t-1").await.expect("a launch").instance;
    let other = super::driver(&azure.double.endpoint());
    other
        .terminate(&a.id)
        .await
        .expect("another lead ends it, and the set");
    let lost = azure
        .launch("t-2")
        .await
        .expect_err("the set we knew is gone");
    assert_eq!(lost.class, FailureClass::Transient, "{lost}");
    azure.launch("t-2").await.expect("made again");
    azure
        .cloud
        .terminate(&azure.cloud.list(&Tags::default()).await.expect("a list")[0].id)
        .await
        .expect("ends");
    azure
        .cloud
        .delete_disks(&Tags::default())
        .await
        .expect("clean");
    azure.finish();
}

#[tokio::test]
async fn a_stopped_machine_is_seen_and_started() {
    let azure = Azure::start().await;
    let made = azure.launch("t-1").await.expect("a launch").instance;
    azure.double.stop(made.id.as_str()).expect("it exists");
    let state = |listed: Vec<gpuloom_cloud::Instance>| listed[0].state;
    let listed = azure.cloud.list(&Tags::default()).await.expect("a list");
    assert_eq!(state(listed), InstanceState::Stopped);
    let started = azure.cloud.start(&made.id).await.expect("starts");
    assert_eq!(started.state, InstanceState::Running);
    azure.cloud.terminate(&made.id).await.expect("ends");
    azure.finish();
}

#[tokio::test]
async fn attributes_are_tags_that_leave_the_others_alone() {
    let azure = Azure::start().await;
    let made = azure.launch("t-1").await.expect("a launch").instance;
    let read = |key| azure.cloud.read_attribute(&made.id, key);
    assert_eq!(read("ca-pin").await.expect("reads"), None);
    azure
        .cloud
        .write_attribute(&made.id, "ca-pin", "sha256:00")
        .await
        .expect("writes");
    azure
        .cloud
        .write_attribute(&made.id, "ca-pin", "sha256:00")
        .await
        .expect("writes");
    azure
        .cloud
        .write_attribute(&made.id, "fleet-id", "f-1")
        .await
        .expect("writes");
    assert_eq!(
        azure.sent("virtualMachines.patch"),
        2,
        "the same value is not sent again"
    );
    assert_eq!(
        read("ca-pin").await.expect("reads").as_deref(),
        Some("sha256:00")
    );
    let listed = azure
        .cloud
        .list(&Tags::of_fleet(&request("t", T4).fleet))
        .await
        .expect("a list");
    assert_eq!(listed[0].token, made.token);
    let long = "x".repeat(257);
    let refused = azure
        .cloud
        .write_attribute(&made.id, "ca-pin", &long)
        .await
        .expect_err("too long");
    assert_eq!(refused.class, FailureClass::Invalid, "{refused}");
    let nobody = InstanceId::new("nobody").expect("an id");
    let refused = azure
        .cloud
        .write_attribute(&nobody, "a", "b")
        .await
        .expect_err("nobody");
    assert_eq!(refused.class, FailureClass::Invalid, "{refused}");
    azure.cloud.terminate(&made.id).await.expect("ends");
    azure.finish();
}

#[tokio::test]
async fn pages_are_followed_to_their_end() {
    // Two rows a page.
    let azure = Azure::start().await;
    for n in 0..5 {
        azure.launch(&format!("t-{n}")).await.expect("a launch");
    }
    let listed = azure.cloud.list(&Tags::default()).await.expect("a list");
    assert_eq!(listed.len(), 5);
    assert!(listed.is_sorted_by(|a, b| a.id < b.id));
    for instance in listed {
        azure.cloud.terminate(&instance.id).await.expect("ends");
    }
    azure.finish();
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_it_is() {
    let azure = Azure::start().await;
    let elsewhere = request("t-1", "azure/westus/1/Standard_NC4as_T4_v3/spot");
    let nowhere = LaunchRequest {
        place: PoolPlace::Local,
        ..request("t-1", T4)
    };
    let nothing = LaunchRequest {
        offerings: Vec::new(),
        ..request("t-1", T4)
    };
    let mut labelled = request("t-1", T4);
    for n in 0..50 {
        labelled.labels.0.insert(format!("l{n}"), String::new());
    }
    let mut large = request("t-1", T4);
    large.user_data.script = "x".repeat(70_000);
    for asked in [elsewhere, nowhere, nothing, labelled, large] {
        let refused = azure.cloud.launch(&asked).await.expect_err("refused");
        assert_eq!(refused.class, FailureClass::Invalid, "{refused}");
    }
    assert_eq!(azure.sent("virtualMachines.put"), 0);
    azure.fair();
}
