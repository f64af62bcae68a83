//! What every cloud must do, here.

use std::sync::{Arc, Mutex};

use gpuloom_cloud::contract::{Setup, run};
use gpuloom_cloud::{Cloud, InstanceState, LaunchRequest, Tags};
use gpuloom_doubles::gcp::{Double, Options};
use gpuloom_fleet::{FleetName, Market, PoolPlace};

use crate::setup::{Rig, driver, lead, node, offering, place, token};

async fn holds(request: fn() -> LaunchRequest) {
    let doubles: Arc<Mutex<Vec<Double>>> = Arc::default();
    run(|| {
        let doubles = doubles.clone();
        async move {
            let double = Double::start(Options::default()).await.unwrap();
            double.set_room("*", 3);
            let cloud = Arc::new(driver(&double).await);
            doubles.lock().unwrap().push(double);
            let foreign = LaunchRequest {
                fleet: FleetName::new("other").unwrap(),
                ..request()
            };
            Setup {
                cloud,
                request: request(),
                foreign,
            }
        }
    })
    .await;
    for double in doubles.lock().unwrap().iter() {
        assert_eq!(double.control().violations(), [""; 0]);
        assert!(
            double.living().is_empty(),
            "nothing is left in the cloud itself"
        );
        for logged in double.control().log() {
            assert!(!logged.body.contains("a-secret-token"), "{}", logged.line);
        }
    }
}

#[tokio::test]
async fn the_driver_holds_the_contract_of_all_clouds() {
    holds(|| node("t-0")).await;
}

#[tokio::test]
async fn so_it_does_with_several_offerings_and_spot() {
    holds(|| LaunchRequest {
        offerings: vec![
            offering("a", "g2-standard-4", Market::Spot),
            offering("b", "g2-standard-4", Market::Spot),
            offering("a", "g2-standard-8", Market::Spot),
        ],
        ..node("t-0")
    })
    .await;
}

#[tokio::test]
async fn a_launch_asks_for_what_the_place_says() {
    let rig = Rig::new().await;
    let place = gpuloom_fleet::GcpPlace {
        subnetwork: Some("gpus".to_owned()),
        public_address: true,
        ..place()
    };
    let request = LaunchRequest {
        offerings: vec![offering("b", "n1-standard-8", Market::Spot)],
        gpu: Some(crate::setup::shape("T4", 2)),
        place: PoolPlace::Gcp(Box::new(place)),
        ..node("t-1")
    };
    let launched = rig.cloud.launch(&request).await.unwrap();
    assert_eq!(launched.instance.offering, request.offerings[0]);
    assert!(launched.instance.public_address.is_some());
    let log = rig.double.control().log();
    let insert = log
        .iter()
        .find(|l| l.action == "regionInstances.bulkInsert")
        .unwrap();
    let body: serde_json::Value = serde_json::from_str(&insert.body).unwrap();
    let of = &body["instanceProperties"];
    assert_eq!(body["minCount"], "1");
    assert_eq!(of["machineType"], "n1-standard-8");
    assert_eq!(
        of["guestAccelerators"][0]["acceleratorType"],
        "nvidia-tesla-t4"
    );
    assert_eq!(of["guestAccelerators"][0]["acceleratorCount"], 2);
    assert_eq!(of["scheduling"]["provisioningModel"], "SPOT");
    assert_eq!(of["scheduling"]["onHostMaintenance"], "TERMINATE");
    assert_eq!(of["scheduling"]["instanceTerminationAction"], "DELETE");
    assert_eq!(of["labels"]["cost-center"], "ml-42");
    assert_eq!(of["labels"]["gpuloom-token"], "t-1");
    assert_eq!(of["disks"][0]["initializeParams"]["diskSizeGb"], "50");
    let subnetwork = "projects/gpuloom-test/regions/us-central1/subnetworks/gpus";
    assert_eq!(of["networkInterfaces"][0]["subnetwork"], subnetwork);
    let locations = &body["locationPolicy"]["locations"];
    assert_eq!(locations["zones/us-central1-b"]["preference"], "ALLOW");
    assert_eq!(
        locations["zones/us-central1-a"]["preference"], "DENY",
        "a zone left out would be allowed"
    );
    let machine = &rig.double.living()[0];
    assert_eq!(machine.gpus.as_deref(), Some("2xT4"));
    assert_eq!(machine.script(), request.user_data.script);
    assert_eq!(machine.metadata["enable-guest-attributes"], "TRUE");
}

#[tokio::test]
async fn listings_lag_and_names_do_not() {
    let rig = Rig::new().await;
    rig.double.set_list_lag(2);
    let first = rig.cloud.launch(&node("t-1")).await.unwrap();
    assert!(
        rig.cloud.list(&Tags::default()).await.unwrap().is_empty(),
        "late"
    );
    let again = rig.cloud.launch(&node("t-1")).await.unwrap();
    assert_eq!(again.instance.id, first.instance.id);
    assert_eq!(
        rig.count("regionInstances.bulkInsert"),
        1,
        "found by its name"
    );
    rig.cloud.terminate(&first.instance.id).await.unwrap();
    assert!(
        rig.double.living().is_empty(),
        "ended although no listing ever had it"
    );
}

#[tokio::test]
async fn long_listings_come_in_pages() {
    let rig = Rig::with(Options {
        page: 2,
        ..Options::default()
    })
    .await;
    for n in 0..5 {
        rig.cloud.launch(&node(&format!("t-{n}"))).await.unwrap();
    }
    let listed = rig
        .cloud
        .list(&Tags::of_fleet(&node("t").fleet))
        .await
        .unwrap();
    assert_eq!(listed.len(), 5);
    assert!(listed.is_sorted_by_key(|i| i.id.clone()), "ordered by id");
}

#[tokio::test]
async fn a_stopped_instance_starts_again() {
    let rig = Rig::new().await;
    let id = rig.cloud.launch(&node("t-1")).await.unwrap().instance.id;
    rig.double.stop(id.as_str());
    let listed = rig.cloud.list(&Tags::default()).await.unwrap();
    assert_eq!(listed[0].state, InstanceState::Stopped);
    let started = rig.cloud.start(&id).await.unwrap();
    assert_eq!((started.id, started.state), (id, InstanceState::Running));
}

#[tokio::test]
async fn a_lead_leaves_attributes_even_while_others_set_labels() {
    let rig = Rig::new().await;
    let id = rig.cloud.launch(&lead("t-1")).await.unwrap().instance.id;
    let pin = format!("sha256:{}", "ab".repeat(32));
    assert_eq!(rig.cloud.read_attribute(&id, "ca-pin").await.unwrap(), None);
    rig.cloud
        .write_attribute(&id, "ca-pin", &pin)
        .await
        .unwrap();
    rig.double.set_label(id.as_str(), "owner", "somebody");
    rig.cloud
        .write_attribute(&id, "fleet-id", "f-1")
        .await
        .unwrap();
    let read = rig.cloud.read_attribute(&id, "ca-pin").await.unwrap();
    assert_eq!(read, Some(pin));
    assert_eq!(
        rig.cloud
            .read_attribute(&id, "fleet-id")
            .await
            .unwrap()
            .as_deref(),
        Some("f-1")
    );
    assert_eq!(rig.double.living()[0].labels["owner"], "somebody");
    rig.cloud
        .write_attribute(&id, "ca-pin", "short")
        .await
        .unwrap();
    assert_eq!(
        rig.cloud
            .read_attribute(&id, "ca-pin")
            .await
            .unwrap()
            .as_deref(),
        Some("short")
    );
    let missing = gpuloom_fleet::InstanceId::new("nobody").unwrap();
    let refused = rig
        .cloud
        .write_attribute(&missing, "ca-pin", "x")
        .await
        .unwrap_err();
    assert_eq!(refused.class, gpuloom_cloud::FailureClass::Invalid);
    assert_eq!(
        rig.cloud.list(&Tags::default()).await.unwrap()[0].token,
        token("t-1")
    );
}
