//! What goes wrong, and what it is called.

use super::Rig;
use gpuloom_cloud::{Cloud, FailureClass as C, Tags};
use gpuloom_doubles::aws::error_body;
use gpuloom_doubles::faults::{Effect, FaultRule};

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_same_token_finds_the_instance() {
    let rig = Rig::new().await;
    let lost = FaultRule::new("CreateFleet", Effect::DropAfter).times(1);
    rig.double.faults().add(lost).expect("a rule");
    let error = rig
        .cloud
        .launch(&rig.request("t-1"))
        .await
        .expect_err("lost");
    assert_eq!(error.class, C::Transient, "{error}");
    assert_eq!(rig.double.living().len(), 1, "it was carried out");
    assert_eq!(
        rig.sent("CreateFleet"),
        1,
        "launches are not sent again by themselves"
    );
    let found = rig
        .cloud
        .launch(&rig.request("t-1"))
        .await
        .expect("found")
        .instance;
    assert_eq!(found.id.as_str(), rig.double.living()[0].id);
    assert_eq!(rig.sent("CreateFleet"), 1, "it was found by its tag");

    // Never arrived: sent again, and launched then.
    let lost = FaultRule::new("CreateFleet", Effect::DropBefore).times(1);
    rig.double.faults().add(lost).expect("a rule");
    let error = rig
        .cloud
        .launch(&rig.request("t-2"))
        .await
        .expect_err("lost");
    assert_eq!(error.class, C::Transient, "{error}");
    assert_eq!(rig.double.living().len(), 1);
    rig.cloud
        .launch(&rig.request("t-2"))
        .await
        .expect("launched");
    assert_eq!(rig.double.living().len(), 2);
}

#[tokio::test]
async fn a_listing_that_lags_makes_no_second_instance() {
    let rig = Rig::new().await;
    rig.double.set_list_lag(3);
    let lost = FaultRule::new("CreateFleet", Effect::DropAfter).times(1);
    rig.double.faults().add(lost).expect("a rule");
    rig.cloud
        .launch(&rig.request("t-1"))
        .await
        .expect_err("lost");
    let again = rig.cloud.launch(&rig.request("t-1")).await.expect("found");
    assert_eq!(
        rig.sent("CreateFleet"),
        2,
        "the listing did not show it yet"
    );
    assert_eq!(rig.double.living().len(), 1, "the client token did");
    assert_eq!(again.instance.id.as_str(), rig.double.living()[0].id);
}

#[tokio::test]
async fn after_a_lost_answer_a_call_that_did_nothing_does_not_say_that_nothing_exists() {
    let rig = Rig::new().await;
    rig.double.set_list_lag(2);
    for effect in [Effect::DropAfter, Effect::Throttle] {
        let rule = FaultRule::new("CreateFleet", effect).times(1);
        rig.double.faults().add(rule).expect("a rule");
    }
    for said in ["lost", "throttled"] {
        let error = rig.cloud.launch(&rig.request("t-1")).await;
        let error = error.expect_err(said);
        assert_eq!(error.class, C::Transient, "{error}");
    }
    let found = rig.cloud.launch(&rig.request("t-1")).await.expect("found");
    assert_eq!(found.instance.id.as_str(), rig.double.living()[0].id);
    assert_eq!(rig.double.living().len(), 1);
    // Of a token that was never unknown, the same refusal is one.
    let rule = FaultRule::new("CreateFleet", Effect::Throttle).times(1);
    rig.double.faults().add(rule).expect("a rule");
    let error = rig.cloud.launch(&rig.request("t-2")).await;
    assert_eq!(error.expect_err("throttled").class, C::Throttled);
}

#[tokio::test]
async fn a_token_that_was_sent_for_something_else_stands_for_what_it_made() {
    let rig = Rig::new().await;
    rig.double.set_list_lag(2);
    let first = rig
        .cloud
        .launch(&rig.request("t-1"))
        .await
        .expect("launched");
    let mut other = rig.request("t-1");
    other.user_data.script.push_str("echo newer\n");
    let again = rig.cloud.launch(&other).await.expect("found");
    assert_eq!(again.instance.id, first.instance.id);
    assert_eq!(rig.double.living().len(), 1);
}

#[tokio::test]
async fn without_capacity_in_the_first_zone_the_next_is_had_by_the_same_call() {
    let rig = Rig::new().await;
    rig.double.set_room(&format!("*/{}/*", rig.subnets[0]), 0);
    let request = rig.request("t-1");
    let launched = rig.cloud.launch(&request).await.expect("launched");
    assert_eq!(launched.instance.offering, request.offerings[1]);
    let failed: Vec<_> = launched
        .failed
        .iter()
        .map(|f| (&f.offering, f.class))
        .collect();
    assert_eq!(failed, [(&request.offerings[0], C::Capacity)]);
    assert_eq!(rig.sent("CreateFleet"), 1);
}

#[tokio::test]
async fn when_all_fail_each_offering_is_named_with_its_class() {
    let rig = Rig::new().await;
    let request = rig.request("t-1");
    let rule = |zone: usize, effect| {
        FaultRule::new("CreateFleet.offering", effect).matching(&rig.subnets[zone])
    };
    let unsupported = Effect::Status {
        code: 400,
        body: "Unsupported".to_owned(),
    };
    for (first, second, whole) in [
        (Effect::Capacity, Effect::Capacity, C::Capacity),
        (Effect::Quota, Effect::Capacity, C::Capacity),
        (Effect::Quota, unsupported, C::Quota),
        (Effect::Throttle, Effect::Quota, C::Throttled),
        (Effect::ServerError, Effect::Capacity, C::Throttled),
    ] {
        let classes = [&first, &second].map(|effect| match effect {
            Effect::Capacity => C::Capacity,
            Effect::Quota => C::Quota,
            Effect::Status { .. } => C::Unsupported,
            _ => C::Throttled,
        });
        rig.double.faults().clear();
        for (zone, effect) in [first, second].into_iter().enumerate() {
            rig.double.faults().add(rule(zone, effect)).expect("a rule");
        }
        let mut request = request.clone();
        let token = format!("t-{}", rig.sent("CreateFleet"));
        request.token = gpuloom_cloud::Token::new(token).expect("token");
        let error = rig.cloud.launch(&request).await.expect_err("nothing");
        assert_eq!(error.class, whole, "{error}");
        let failed: Vec<_> = error.failed.iter().map(|f| f.class).collect();
        assert_eq!(failed, classes);
        for offering in &request.offerings {
            assert!(error.message.contains(&offering.0), "{error}");
        }
    }
    assert_eq!(rig.double.living().len(), 0);
}

#[tokio::test]
async fn errors_of_the_whole_call_have_their_class_and_are_sent_once() {
    let rig = Rig::new().await;
    let status = |code: u16, name: &str| Effect::Status {
        code,
        body: error_body(name, "no"),
    };
    let cases = [
        (Effect::Capacity, C::Capacity),
        (Effect::Quota, C::Quota),
        (Effect::Throttle, C::Throttled),
        (Effect::ServerError, C::Transient),
        (status(403, "UnauthorizedOperation"), C::Auth),
        (status(401, "AuthFailure"), C::Auth),
        (status(400, "InvalidParameterValue"), C::Invalid),
        (status(400, "MaxSpotInstanceCountExceeded"), C::Quota),
        (
            status(400, "InsufficientFreeAddressesInSubnet"),
            C::Capacity,
        ),
        (status(400, "Unsupported"), C::Unsupported),
        (status(503, "Unavailable"), C::Transient),
    ];
    for (n, (effect, class)) in cases.into_iter().enumerate() {
        rig.double.faults().clear();
        let rule = FaultRule::new("CreateFleet", effect.clone());
        rig.double.faults().add(rule).expect("a rule");
        let request = rig.request(&format!("t-{n}"));
        let error = rig.cloud.launch(&request).await.expect_err("refused");
        assert_eq!(error.class, class, "{effect:?}: {error}");
        assert!(error.failed.is_empty());
        assert_eq!(rig.sent("CreateFleet"), n + 1, "{effect:?} was sent once");
    }
    assert_eq!(rig.double.living().len(), 0);
}

#[tokio::test]
async fn a_listing_that_fails_is_no_empty_list_and_an_end_that_is_lost_is_sent_again() {
    let rig = Rig::new().await;
    let id = rig
        .cloud
        .launch(&rig.request("t-1"))
        .await
        .expect("launched")
        .instance
        .id;
    let denied = Effect::Status {
        code: 403,
        body: error_body("UnauthorizedOperation", "no"),
    };
    let rule = FaultRule::new("Describe*", denied).times(1);
    rig.double.faults().add(rule).expect("a rule");
    let error = rig.cloud.list(&Tags::default()).await.expect_err("denied");
    assert_eq!(error.class, C::Auth, "{error}");
    let throttled = FaultRule::new("Describe*", Effect::Throttle).times(1);
    rig.double.faults().add(throttled).expect("a rule");
    assert_eq!(
        rig.cloud.list(&Tags::default()).await.expect("again").len(),
        1
    );
    let lost = FaultRule::new("TerminateInstances", Effect::DropAfter).times(1);
    rig.double.faults().add(lost).expect("a rule");
    rig.cloud.terminate(&id).await.expect("ended");
    assert_eq!(rig.double.living().len(), 0);
}
