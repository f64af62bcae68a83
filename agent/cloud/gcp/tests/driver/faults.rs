//! What goes wrong on the way, and in the cloud.

use gpuloom_cloud::{Cloud, FailureClass, LaunchRequest, Tags};
use gpuloom_doubles::faults::{Effect, FaultRule};
use gpuloom_doubles::gcp::Options;
use gpuloom_fleet::Market;

use crate::setup::{Rig, node, offering};

const BULK: &str = "regionInstances.bulkInsert";

fn add(rig: &Rig, rule: FaultRule) {
    rig.double.faults().add(rule).unwrap();
}

fn two_zones(name: &str) -> LaunchRequest {
    LaunchRequest {
        offerings: vec![
            offering("a", "g2-standard-4", Market::Spot),
            offering("b", "g2-standard-4", Market::Spot),
        ],
        ..node(name)
    }
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_same_token_finds_what_was_made() {
    let rig = Rig::new().await;
    add(&rig, FaultRule::new(BULK, Effect::DropAfter).times(1));
    let lost = rig.cloud.launch(&node("t-1")).await.unwrap_err();
    assert_eq!(lost.class, FailureClass::Transient, "{lost}");
    assert_eq!(rig.double.living().len(), 1, "it was made all the same");
    let found = rig.cloud.launch(&node("t-1")).await.unwrap();
    assert_eq!(found.instance.id.as_str(), rig.double.living()[0].name);
    assert_eq!(
        rig.count(BULK),
        1,
        "the insert was not repeated, by the SDK neither"
    );
}

#[tokio::test]
async fn a_request_that_never_arrived_is_sent_again_by_the_caller_alone() {
    let rig = Rig::new().await;
    add(&rig, FaultRule::new(BULK, Effect::DropBefore).times(1));
    add(&rig, FaultRule::new(BULK, Effect::ServerError).times(1));
    for _ in 0..2 {
        let lost = rig.cloud.launch(&node("t-1")).await.unwrap_err();
        assert_eq!(lost.class, FailureClass::Transient, "{lost}");
    }
    assert_eq!(rig.count(BULK), 2);
    rig.cloud.launch(&node("t-1")).await.unwrap();
    assert_eq!(rig.double.living().len(), 1);
}

#[tokio::test]
async fn no_capacity_in_the_first_zone_gives_the_second_and_says_so() {
    let rig = Rig::new().await;
    rig.double.set_room("us-central1-a/*", 0);
    let request = two_zones("t-1");
    let launched = rig.cloud.launch(&request).await.unwrap();
    assert_eq!(launched.instance.offering, request.offerings[1]);
    assert_eq!(launched.failed.len(), 1, "{:?}", launched.failed);
    let failed = &launched.failed[0];
    assert_eq!(
        (&failed.offering, failed.class),
        (&request.offerings[0], FailureClass::Capacity)
    );
}

#[tokio::test]
async fn no_capacity_anywhere_names_every_offering_and_leaves_nothing() {
    let rig = Rig::new().await;
    rig.double.set_room("*", 0);
    let request = two_zones("t-1");
    let refused = rig.cloud.launch(&request).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Capacity);
    let failed: Vec<_> = refused
        .failed
        .iter()
        .map(|f| (f.offering.clone(), f.class))
        .collect();
    let both = request
        .offerings
        .iter()
        .map(|o| (o.clone(), FailureClass::Capacity));
    assert_eq!(failed, both.collect::<Vec<_>>());
    assert!(
        refused.message.contains("ZONE_RESOURCE_POOL_EXHAUSTED"),
        "{refused}"
    );
    assert!(rig.double.living().is_empty() && rig.double.disks().is_empty());
    // Google answers the same request id with the same operation: only another token launches.
    rig.double.clear_rooms();
    let again = rig.cloud.launch(&request).await.unwrap_err();
    assert_eq!(again.class, FailureClass::Capacity);
    rig.cloud.launch(&two_zones("t-2")).await.unwrap();
}

#[tokio::test]
async fn a_type_without_room_gives_the_next_type() {
    let rig = Rig::new().await;
    rig.double.set_room("*/g2-standard-4/*", 0);
    let request = LaunchRequest {
        offerings: vec![
            offering("a", "g2-standard-4", Market::OnDemand),
            offering("a", "g2-standard-8", Market::OnDemand),
        ],
        ..node("t-1")
    };
    let launched = rig.cloud.launch(&request).await.unwrap();
    assert_eq!(launched.instance.offering, request.offerings[1]);
}

#[tokio::test]
async fn a_quota_is_a_quota_by_operation_and_by_call() {
    let rig = Rig::new().await;
    rig.double.set_quota("*/spot", 0);
    let refused = rig.cloud.launch(&two_zones("t-1")).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Quota, "{refused}");
    assert_eq!(refused.failed.len(), 2);
    let body = r#"{"error":{"code":403,"message":"Quota 'GPUS_ALL_REGIONS' exceeded.","errors":[{"message":"m","domain":"usageLimits","reason":"quotaExceeded"}]}}"#;
    let effect = Effect::Status {
        code: 403,
        body: body.to_owned(),
    };
    add(&rig, FaultRule::new(BULK, effect).times(1));
    let refused = rig.cloud.launch(&node("t-2")).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Quota, "{refused}");
    assert_eq!(
        refused.failed.len(),
        1,
        "an error of the whole call trips its offerings"
    );
}

#[tokio::test]
async fn throttling_waits_and_is_nobodys_offering() {
    let rig = Rig::new().await;
    add(&rig, FaultRule::new(BULK, Effect::Throttle).times(1));
    let refused = rig.cloud.launch(&node("t-1")).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Throttled, "{refused}");
    assert!(refused.failed.is_empty() && refused.retry_after.is_some());
    assert_eq!(rig.count(BULK), 1, "not retried behind our back");
}

#[tokio::test]
async fn wrong_credentials_and_wrong_places_are_for_a_person() {
    let rig = Rig::new().await;
    let dir = tempfile::tempdir().unwrap();
    rig.double.key_file(dir.path()).unwrap();
    let refused = rig.cloud.launch(&node("t-1")).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Auth, "{refused}");
    let unlisted = rig.cloud.list(&Tags::default()).await.unwrap_err();
    assert_eq!(unlisted.class, FailureClass::Auth, "{unlisted}");
}

#[tokio::test]
async fn what_does_not_exist_is_unsupported_or_wrong() {
    let rig = Rig::new().await;
    let request = |machine_type: &str| LaunchRequest {
        offerings: vec![offering("a", machine_type, Market::OnDemand)],
        ..node("t-1")
    };
    let refused = rig
        .cloud
        .launch(&request("g9-standard-4"))
        .await
        .unwrap_err();
    assert_eq!(refused.class, FailureClass::Unsupported, "{refused}");
    rig.double.remove_image(crate::setup::IMAGE);
    let refused = rig
        .cloud
        .launch(&request("g2-standard-4"))
        .await
        .unwrap_err();
    assert_eq!(refused.class, FailureClass::Invalid, "{refused}");
    assert!(refused.message.contains(crate::setup::IMAGE), "{refused}");
    let nothing = LaunchRequest {
        offerings: Vec::new(),
        ..node("t-1")
    };
    let refused = rig.cloud.launch(&nothing).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Invalid);
}

#[tokio::test]
async fn a_deletion_whose_answer_was_lost_is_done_by_calling_again() {
    let rig = Rig::new().await;
    let id = rig.cloud.launch(&node("t-1")).await.unwrap().instance.id;
    add(
        &rig,
        FaultRule::new("instances.delete", Effect::DropAfter).times(1),
    );
    let lost = rig.cloud.terminate(&id).await.unwrap_err();
    assert_eq!(lost.class, FailureClass::Transient, "{lost}");
    rig.cloud.terminate(&id).await.unwrap();
    assert!(rig.double.living().is_empty());
}

#[tokio::test]
async fn a_listing_that_failed_is_not_an_empty_one() {
    let rig = Rig::new().await;
    rig.cloud.launch(&node("t-1")).await.unwrap();
    add(
        &rig,
        FaultRule::new("instances.list", Effect::ServerError).matching("us-central1-b"),
    );
    let unknown = rig.cloud.list(&Tags::default()).await.unwrap_err();
    assert_eq!(unknown.class, FailureClass::Transient, "{unknown}");
    assert!(unknown.message.contains("us-central1-b"), "{unknown}");
}

#[tokio::test]
async fn passing_errors_while_waiting_change_nothing() {
    let rig = Rig::new().await;
    add(
        &rig,
        FaultRule::new("*Operations.wait", Effect::Throttle).times(2),
    );
    rig.cloud.launch(&node("t-1")).await.unwrap();
    assert_eq!(rig.double.living().len(), 1);
}

#[tokio::test]
async fn an_instance_taken_back_before_its_launch_was_known_is_not_made_again() {
    let rig = Rig::new().await;
    add(&rig, FaultRule::new(BULK, Effect::DropAfter).times(1));
    rig.cloud.launch(&node("t-1")).await.unwrap_err();
    let name = rig.double.living()[0].name.clone();
    rig.double.kill(&name);
    let gone = rig.cloud.launch(&node("t-1")).await.unwrap_err();
    assert_eq!(gone.class, FailureClass::Capacity, "{gone}");
    assert!(rig.double.living().is_empty());
}

/// The smallest form of the benchmark: launches and terminations under 30% of faults converge without orphans.
#[tokio::test]
async fn a_hundred_operations_with_faults_leave_nothing_and_make_nothing_twice() {
    let rig = Rig::with(Options {
        polls: 1,
        ..Options::default()
    })
    .await;
    let effects = [
        Effect::DropAfter,
        Effect::DropBefore,
        Effect::ServerError,
        Effect::Throttle,
    ];
    for (seed, effect) in (1..).zip(effects) {
        for action in [BULK, "instances.delete"] {
            add(
                &rig,
                FaultRule::new(action, effect.clone()).chance(0.08, seed),
            );
        }
    }
    for n in 0..50 {
        let request = node(&format!("t-{n}"));
        let launched = loop {
            match rig.cloud.launch(&request).await {
                Ok(launched) => break launched,
                Err(e) => assert!(
                    matches!(e.class, FailureClass::Transient | FailureClass::Throttled),
                    "{e}"
                ),
            }
        };
        assert_eq!(rig.double.living().len(), 1);
        while rig.cloud.terminate(&launched.instance.id).await.is_err() {}
        assert!(rig.double.living().is_empty());
    }
    assert_eq!(rig.double.machines().len(), 50, "none was made twice");
    let mutations = rig.double.control().mutations();
    assert!(mutations <= 300, "{mutations} changes for 100 operations");
}
