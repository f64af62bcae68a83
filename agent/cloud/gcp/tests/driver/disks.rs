//! The disk that outlives its lead.

use gpuloom_cloud::{Cloud, FailureClass, LaunchRequest, Tags};
use gpuloom_doubles::gcp::Options;
use gpuloom_fleet::Market;

use crate::setup::{Rig, lead, node, offering};

fn kept(rig: &Rig) -> Vec<(String, String, bool)> {
    let mut disks = rig.double.disks();
    disks.retain(|(_, name, _)| name.starts_with("ml-data-"));
    disks
}

#[tokio::test]
async fn it_is_kept_and_attached_again_in_its_zone() {
    let rig = Rig::new().await;
    rig.double.set_room("us-central1-a/*", 0);
    let first = rig.cloud.launch(&lead("t-1")).await.unwrap();
    assert_eq!(first.failed.len(), 1, "there was no room in the first zone");
    assert_eq!(first.instance.offering.zone(), "us-central1-b");
    assert_eq!(rig.double.living()[0].disks[0].0, "gpuloom-data");
    rig.cloud.terminate(&first.instance.id).await.unwrap();
    let disks = kept(&rig);
    assert_eq!((disks.len(), disks[0].2), (1, false), "{disks:?}");
    assert_eq!(
        rig.double.disks().len(),
        1,
        "the boot disk went with its instance"
    );

    rig.double.clear_rooms();
    let second = rig.cloud.launch(&lead("t-2")).await.unwrap();
    assert_eq!(
        second.instance.offering.zone(),
        "us-central1-b",
        "where the disk is"
    );
    assert_eq!(
        rig.double.living()[0].disks[0].1,
        disks[0].1,
        "the same disk"
    );
    assert_eq!(kept(&rig).len(), 1);
    rig.cloud.terminate(&second.instance.id).await.unwrap();

    let fleet = lead("t").fleet;
    let tags = Tags::of_fleet(&fleet).with_fleet_id("another-fleets-id");
    rig.cloud.delete_disks(&tags).await.unwrap();
    assert_eq!(kept(&rig).len(), 1, "another fleet's are left alone");
    let tags = Tags::of_fleet(&fleet).with_fleet_id("0123456789abcdef");
    rig.cloud.delete_disks(&tags).await.unwrap();
    assert!(rig.double.disks().is_empty());
    rig.cloud.delete_disks(&tags).await.unwrap();
}

#[tokio::test]
async fn a_disk_in_use_is_neither_taken_nor_deleted() {
    let rig = Rig::new().await;
    let first = rig.cloud.launch(&lead("t-1")).await.unwrap();
    let refused = rig.cloud.launch(&lead("t-2")).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Capacity, "{refused}");
    assert!(
        refused.message.contains(first.instance.id.as_str()),
        "{refused}"
    );
    rig.cloud.delete_disks(&Tags::default()).await.unwrap();
    assert_eq!(kept(&rig).len(), 1);
    assert_eq!(rig.double.living().len(), 1);
}

#[tokio::test]
async fn a_disk_whose_instance_could_not_be_had_does_not_bind_the_zone() {
    let rig = Rig::with(Options {
        strand_disks: true,
        ..Options::default()
    })
    .await;
    rig.double.set_room("us-central1-a/*", 0);
    let launched = rig.cloud.launch(&lead("t-1")).await.unwrap();
    assert_eq!(launched.instance.offering.zone(), "us-central1-b");
    assert_eq!(kept(&rig).len(), 2, "the first try left one");
    rig.cloud.terminate(&launched.instance.id).await.unwrap();
    let again = rig.cloud.launch(&lead("t-2")).await.unwrap();
    assert_eq!(
        again.instance.offering.zone(),
        "us-central1-b",
        "the one with data decides"
    );
    rig.cloud.terminate(&again.instance.id).await.unwrap();
    rig.cloud
        .delete_disks(&Tags::of_fleet(&lead("t").fleet))
        .await
        .unwrap();
    assert!(
        rig.double.disks().is_empty(),
        "the empty one is deleted too"
    );
}

#[tokio::test]
async fn a_lead_that_may_not_be_where_its_disk_is_does_not_start_without_it() {
    let rig = Rig::new().await;
    let first = rig.cloud.launch(&lead("t-1")).await.unwrap();
    rig.cloud.terminate(&first.instance.id).await.unwrap();
    let elsewhere = LaunchRequest {
        offerings: vec![offering("c", "e2-standard-4", Market::OnDemand)],
        ..lead("t-2")
    };
    let refused = rig.cloud.launch(&elsewhere).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Unsupported);
    assert!(refused.message.contains("us-central1-a"), "{refused}");
    assert!(rig.double.living().is_empty());
}

#[tokio::test]
async fn nodes_leave_no_disks() {
    let rig = Rig::new().await;
    let id = rig.cloud.launch(&node("t-1")).await.unwrap().instance.id;
    rig.cloud.terminate(&id).await.unwrap();
    assert!(rig.double.disks().is_empty());
}
