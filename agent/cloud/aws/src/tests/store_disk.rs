//! The lead's disk outlives its lead.

use super::Rig;
use gpuloom_cloud::{Cloud, DataDisk, LaunchRequest, Role, Tags};
use gpuloom_fleet::Market;

fn lead(rig: &Rig, token: &str) -> LaunchRequest {
    LaunchRequest {
        role: Role::Lead,
        pool: None,
        revision: String::new(),
        data_disk: Some(DataDisk { size_gib: 20 }),
        ..rig.request(token)
    }
}

#[tokio::test]
async fn a_replacement_gets_the_disk_of_the_lead_before_it_and_where_that_is() {
    let rig = Rig::new().await;
    // The first lead gets into zone b alone.
    rig.double.set_room(&format!("*/{}/*", rig.subnets[0]), 0);
    let first = rig
        .cloud
        .launch(&lead(&rig, "t-1"))
        .await
        .expect("launched")
        .instance;
    let request = lead(&rig, "t-1");
    let disk = rig
        .cloud
        .data_disk(&request)
        .await
        .expect("listed")
        .expect("made");
    rig.cloud.launch(&request).await.expect("the same again");
    assert_eq!(rig.sent("CreateVolume"), 1);
    assert_eq!(rig.sent("AttachVolume"), 1);
    rig.cloud.terminate(&first.id).await.expect("ended");
    let tags = Tags::of_lead(&request.fleet);
    let kept = rig
        .cloud
        .data_disk(&request)
        .await
        .expect("listed")
        .expect("kept");
    assert_eq!((&kept.id, &kept.zone), (&disk.id, &disk.zone));

    // Room is everywhere again: the replacement still goes to its disk.
    rig.double.clear_rooms();
    let second = rig
        .cloud
        .launch(&lead(&rig, "t-2"))
        .await
        .expect("launched")
        .instance;
    assert_eq!(second.offering.zone(), rig.subnets[1]);
    assert_eq!((rig.sent("CreateVolume"), rig.sent("AttachVolume")), (1, 2));
    rig.cloud.delete_disks(&tags).await.expect("in use is left");
    assert!(
        rig.cloud
            .data_disk(&request)
            .await
            .expect("listed")
            .is_some()
    );
    rig.cloud.terminate(&second.id).await.expect("ended");
    rig.cloud.delete_disks(&tags).await.expect("deleted");
    assert_eq!(rig.cloud.data_disk(&request).await.expect("listed"), None);
    rig.cloud.delete_disks(&tags).await.expect("none is fine");
}

#[tokio::test]
async fn without_a_subnet_where_the_disk_is_the_lead_is_refused_with_the_zone_to_add() {
    let rig = Rig::new().await;
    let first = rig
        .cloud
        .launch(&lead(&rig, "t-1"))
        .await
        .expect("launched")
        .instance;
    rig.cloud.terminate(&first.id).await.expect("ended");
    let mut elsewhere = lead(&rig, "t-2");
    elsewhere.offerings = vec![rig.offering(1, "g4dn.xlarge", Market::OnDemand)];
    let error = rig
        .cloud
        .launch(&elsewhere)
        .await
        .expect_err("another zone");
    assert!(
        error.message.contains("add a subnet of us-east-1a"),
        "{error}"
    );
    assert_eq!(rig.double.living().len(), 0);
}
