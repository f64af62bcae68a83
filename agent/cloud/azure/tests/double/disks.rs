//! The disk that outlives its lead.

use super::{Azure, T4, place, request};
use gpuloom_cloud::{Cloud, DataDisk, FailureClass, LaunchRequest, Role, Tags};
use gpuloom_fleet::{AzurePlace, PoolPlace};

fn lead(token: &str, zone: &str) -> LaunchRequest {
    let place = AzurePlace {
        vm_sizes: vec!["Standard_D2s_v5".to_owned()],
        ..place()
    };
    LaunchRequest {
        pool: None,
        role: Role::Lead,
        gpu: None,
        revision: String::new(),
        place: PoolPlace::Azure(Box::new(place)),
        data_disk: Some(DataDisk { size_gib: 32 }),
        ..request(
            token,
            &format!("azure/eastus/{zone}/Standard_D2s_v5/on-demand"),
        )
    }
}

fn data_disks(azure: &Azure) -> Vec<String> {
    let others = azure.double.others();
    others
        .into_iter()
        .filter(|o| o.starts_with("disks/ml-data-"))
        .collect()
}

#[tokio::test]
async fn a_leads_disk_is_kept_and_attached_to_its_replacement() {
    let azure = Azure::start().await;
    let first = azure
        .cloud
        .launch(&lead("t-1", "1"))
        .await
        .expect("a lead")
        .instance;
    assert!(first.id.as_str().starts_with("ml-lead-"), "{}", first.id);
    let kept = data_disks(&azure);
    assert_eq!(kept.len(), 1);
    let while_on = azure
        .cloud
        .launch(&lead("t-2", "1"))
        .await
        .expect_err("the first has the disk");
    assert_eq!(while_on.class, FailureClass::Transient, "{while_on}");
    assert!(while_on.message.contains(first.id.as_str()), "{while_on}");

    azure.cloud.terminate(&first.id).await.expect("ends");
    assert_eq!(data_disks(&azure), kept, "it survives");
    assert_eq!(
        azure.cloud.list(&Tags::default()).await.expect("a list"),
        [],
        "and is no instance"
    );
    let elsewhere = azure
        .cloud
        .launch(&lead("t-2", "2"))
        .await
        .expect_err("the disk is in zone 1");
    assert_eq!(elsewhere.class, FailureClass::Unsupported, "{elsewhere}");

    let second = azure
        .cloud
        .launch(&lead("t-2", "1"))
        .await
        .expect("a replacement")
        .instance;
    assert_eq!((data_disks(&azure), azure.sent("disks.put")), (kept, 1));
    let fleet = Tags::of_fleet(&lead("t", "1").fleet).with_fleet_id("0011223344556677");
    azure
        .cloud
        .delete_disks(&fleet)
        .await
        .expect("nothing to do");
    assert_eq!(data_disks(&azure).len(), 1, "a disk in use stays");
    azure.cloud.terminate(&second.id).await.expect("ends");
    azure
        .cloud
        .delete_disks(&Tags::of_fleet(&lead("t", "1").fleet).with_fleet_id("other"))
        .await
        .expect("none");
    assert_eq!(
        data_disks(&azure).len(),
        1,
        "another fleet's is not touched"
    );
    azure.cloud.delete_disks(&fleet).await.expect("deleted");
    azure
        .cloud
        .delete_disks(&fleet)
        .await
        .expect("what is gone is fine");
    azure.finish();
}

#[tokio::test]
async fn a_killed_lead_leaves_its_disk() {
    let azure = Azure::start().await;
    let first = azure
        .cloud
        .launch(&lead("t-1", "1"))
        .await
        .expect("a lead")
        .instance;
    azure.double.kill(first.id.as_str()).expect("it exists");
    let second = azure
        .cloud
        .launch(&lead("t-2", "1"))
        .await
        .expect("a replacement")
        .instance;
    assert_eq!(azure.sent("disks.put"), 1);
    azure.cloud.terminate(&second.id).await.expect("ends");
    azure
        .cloud
        .delete_disks(&Tags::default())
        .await
        .expect("deleted");
    azure.finish();
}

#[tokio::test]
async fn nodes_have_no_such_disk() {
    let azure = Azure::start().await;
    let node = azure
        .cloud
        .launch(&request("t-1", T4))
        .await
        .expect("a node")
        .instance;
    assert_eq!(azure.sent("disks.put"), 0);
    azure.cloud.terminate(&node.id).await.expect("ends");
    azure.finish();
}
