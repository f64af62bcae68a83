//! What the region sells, and what can be said before anything is launched.

use gpuloom_cloud::{Cloud, FailureClass};
use gpuloom_fleet::{Bytes, GcpPlace, PoolPlace};

use crate::setup::{Rig, place, shape};

fn of(place: GcpPlace) -> PoolPlace {
    PoolPlace::Gcp(Box::new(place))
}

#[tokio::test]
async fn any_that_fits_is_found_in_every_zone_that_is_up() {
    let rig = Rig::new().await;
    let found = rig
        .cloud
        .offerings(&of(place()), Some(&shape("L4", 1)))
        .await
        .unwrap();
    let names: Vec<&str> = found.iter().map(|o| o.offering.0.as_str()).collect();
    assert_eq!(
        names[0],
        "gcp/us-central1/us-central1-a/g2-standard-4/on-demand"
    );
    assert_eq!(names[1], "gcp/us-central1/us-central1-a/g2-standard-4/spot");
    assert_eq!(
        names.len(),
        2 * 3 * 2,
        "two types, three zones, two markets: {names:?}"
    );
    assert!(
        !names.iter().any(|n| n.contains("us-central1-f")),
        "it is down"
    );
    assert_eq!((found[0].vcpus, found[0].memory), (4, Bytes::gib(16)));
    assert_eq!(found[0].gpu_memory_each, Some(Bytes::gib(24)));
    assert_eq!(found[0].hourly, None, "Compute Engine tells no prices");
}

#[tokio::test]
async fn stated_types_and_zones_keep_their_order() {
    let rig = Rig::new().await;
    let place = GcpPlace {
        zones: vec!["us-central1-b".to_owned(), "us-central1-a".to_owned()],
        machine_types: vec!["n1-standard-8".to_owned(), "n1-standard-4".to_owned()],
        ..place()
    };
    let found = rig
        .cloud
        .offerings(&of(place), Some(&shape("T4", 1)))
        .await
        .unwrap();
    let names: Vec<String> = found
        .iter()
        .map(|o| format!("{}/{}", o.offering.zone(), o.offering.instance_type()))
        .collect();
    assert_eq!(names[0], "us-central1-b/n1-standard-8");
    assert_eq!(names[2], "us-central1-a/n1-standard-8");
    assert_eq!(names[4], "us-central1-b/n1-standard-4");
    assert_eq!(found[0].gpu, Some(shape("T4", 1)));
}

#[tokio::test]
async fn a_place_is_checked_before_anything_is_launched() {
    let rig = Rig::new().await;
    assert_eq!(rig.cloud.check(&of(place())).await.unwrap(), []);
    rig.double.remove_image(crate::setup::IMAGE);
    let place = GcpPlace {
        zones: vec![
            "us-central1-a".to_owned(),
            "us-central1-f".to_owned(),
            "us-central1-x".to_owned(),
        ],
        machine_types: vec!["g2-standard-4".to_owned(), "g9-standard-4".to_owned()],
        ..place()
    };
    let warnings = rig.cloud.check(&of(place)).await.unwrap();
    let fields: Vec<&str> = warnings.iter().map(|w| w.field.as_str()).collect();
    assert_eq!(
        fields,
        ["gcp.zones", "gcp.zones", "gcp.machine_types", "gcp.image"]
    );
    assert!(
        warnings[0].message.contains("us-central1-f")
            && warnings[1].message.contains("us-central1-x")
    );
    assert!(warnings[2].message.contains("g9-standard-4"));
    assert_eq!(rig.double.control().mutations(), 0);
}

#[tokio::test]
async fn another_clouds_place_is_refused() {
    let rig = Rig::new().await;
    let refused = rig
        .cloud
        .offerings(&PoolPlace::Local, None)
        .await
        .unwrap_err();
    assert_eq!(refused.class, FailureClass::Invalid);
    assert!(refused.message.contains("local"), "{refused}");
}
