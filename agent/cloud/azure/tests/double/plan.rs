//! What is known before anything is launched.

use super::{Azure, place, t4};
use gpuloom_cloud::{Cloud, CloudError, Offered};
use gpuloom_cloud_azure::{AzureCloud, AzureOptions};
use gpuloom_fleet::{AzurePlace, Bytes, PoolPlace};

async fn offered(azure: &Azure, place: AzurePlace) -> Result<Vec<Offered>, CloudError> {
    let place = PoolPlace::Azure(Box::new(place));
    azure.cloud.offerings(&place, Some(&t4())).await
}

#[tokio::test]
async fn offerings_are_all_that_fits_in_every_zone_and_market() {
    let azure = Azure::start().await;
    let any = AzurePlace {
        vm_sizes: Vec::new(),
        ..place()
    };
    let found = offered(&azure, any).await.expect("offerings");
    let names: Vec<_> = found.iter().map(|o| o.offering.0.as_str()).collect();
    assert_eq!(
        names.len(),
        8,
        "two sizes with one T4, two zones, two markets: {names:?}"
    );
    assert!(names.contains(&"azure/eastus/2/Standard_NC8as_T4_v3/spot"));
    let first = found
        .iter()
        .find(|o| o.offering.instance_type() == "Standard_NC4as_T4_v3");
    let first = first.expect("it is sold");
    assert_eq!((first.vcpus, first.memory), (4, Bytes::gib(28)));
    assert_eq!(first.gpu_memory_each, Some(Bytes::gib(16)));
    assert_eq!(
        (first.hourly, first.price_at),
        (None, None),
        "unknown is not zero"
    );
    azure.finish();
}

#[tokio::test]
async fn a_plan_is_warned_of_what_will_not_come_up() {
    let azure = Azure::start().await;
    let check = |place: AzurePlace, nodes| {
        let cloud = azure.cloud.clone();
        async move {
            cloud
                .check(&place, Some(&t4()), nodes, true, true)
                .await
                .expect("asked")
        }
    };
    assert_eq!(check(place(), 3).await, [""; 0]);
    azure.double.set_quota("standardNCASv3_T4Family", 8);
    azure.double.set_quota("lowPriorityCores", 8);
    let short = check(place(), 3).await;
    assert_eq!(short.len(), 2, "{short:?}");
    assert!(
        short[0].contains("standardNCASv3_T4Family") && short[0].contains("need 12"),
        "{short:?}"
    );
    let wrong = AzurePlace {
        vm_sizes: vec![
            "Standard_NC5as_T4_v3".to_owned(),
            "Standard_D2s_v5".to_owned(),
        ],
        zones: vec!["1".to_owned(), "9".to_owned()],
        subnet_id: place().subnet_id.replace("default", "other"),
        ..place()
    };
    let said = check(wrong, 1).await;
    for part in [
        "azure.vm_sizes[0]",
        "gpu asks for 1 x T4",
        "azure.zones[1]",
        "azure.subnet_id",
        "nothing in",
    ] {
        assert!(said.iter().any(|w| w.contains(part)), "{part} in {said:?}");
    }
    let nowhere = check(
        AzurePlace {
            location: "mars".to_owned(),
            ..place()
        },
        1,
    )
    .await;
    assert!(nowhere[0].contains("azure.location"), "{nowhere:?}");
    azure.finish();
}

#[test]
fn a_token_goes_nowhere_without_tls() {
    let with = |endpoint: &str| {
        AzureCloud::new(AzureOptions {
            endpoint: Some(endpoint.to_owned()),
            ..AzureOptions::default()
        })
    };
    for endpoint in [
        "http://arm.example.com",
        "http://10.0.0.1:80",
        "arm",
        "ftp://127.0.0.1",
    ] {
        let refused = with(endpoint).expect_err(endpoint);
        assert!(refused.message.contains(endpoint), "{refused}");
    }
    for endpoint in [
        "http://127.0.0.1:1",
        "http://[::1]:1",
        "http://localhost:1",
        "https://arm.example.com",
    ] {
        with(endpoint).expect(endpoint);
    }
}
