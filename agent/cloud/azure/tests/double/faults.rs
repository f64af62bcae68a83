//! What goes wrong, and that nothing is left of it.

use super::{Azure, T4, request};
use gpuloom_cloud::{Cloud, FailureClass, InstanceState, LaunchRequest, Offering, Tags};
use gpuloom_doubles::faults::{Effect, FaultRule};
use gpuloom_fleet::Seconds;

const ZONE_2: &str = "azure/eastus/2/Standard_NC4as_T4_v3/on-demand";

fn rule(azure: &Azure, action: &str, effect: Effect) {
    let rule = FaultRule::new(action, effect).times(1);
    azure.double.faults().add(rule).expect("a rule");
}

async fn end_all(azure: &Azure) {
    for instance in azure.cloud.list(&Tags::default()).await.expect("a list") {
        azure.cloud.terminate(&instance.id).await.expect("ends");
    }
}

#[tokio::test]
async fn a_lost_answer_is_found_again_by_its_token() {
    for effect in [Effect::DropAfter, Effect::DropBefore] {
        let azure = Azure::start().await;
        rule(&azure, "virtualMachines.put", effect.clone());
        let lost = azure.launch("t-1").await.expect_err("no answer");
        assert_eq!(lost.class, FailureClass::Transient, "{lost}");
        assert_eq!(
            azure.sent("virtualMachines.put"),
            1,
            "a launch is sent once"
        );
        azure.launch("t-1").await.expect("found, or made");
        assert_eq!(azure.double.machines().len(), 1);
        let puts = if effect == Effect::DropAfter { 1 } else { 2 };
        assert_eq!(azure.sent("virtualMachines.put"), puts);
        end_all(&azure).await;
        azure.finish();
    }
}

#[tokio::test]
async fn an_error_of_the_service_is_unknown_and_not_repeated() {
    let azure = Azure::start().await;
    rule(&azure, "virtualMachines.put", Effect::ServerError);
    let error = azure.launch("t-1").await.expect_err("a 500");
    assert_eq!(error.class, FailureClass::Transient, "{error}");
    assert_eq!(azure.sent("virtualMachines.put"), 1);
    azure.launch("t-1").await.expect("a launch");
    end_all(&azure).await;
    azure.finish();
}

#[tokio::test]
async fn an_exhausted_zone_leaves_nothing_and_the_next_is_had() {
    let azure = Azure::start().await;
    azure.double.set_room("1/Standard_NC4as_T4_v3/*", 0);
    let none = azure.launch("t-1").await.expect_err("no room in zone 1");
    assert_eq!(none.class, FailureClass::Capacity, "{none}");
    assert!(
        none.message.contains("ZonalAllocationFailed") && none.message.contains(T4),
        "{none}"
    );
    assert_eq!(none.failed.len(), 1);
    assert_eq!(none.failed[0].offering, Offering(T4.to_owned()));
    assert_eq!(azure.double.machines(), [], "the failed machine is gone");
    let left = azure.double.others();
    assert!(
        left.iter()
            .all(|o| o.starts_with("virtualMachineScaleSets/")),
        "{left:?}"
    );
    let had = azure
        .cloud
        .launch(&request("t-2", ZONE_2))
        .await
        .expect("zone 2")
        .instance;
    assert_eq!(azure.double.machines()[0].zone, "2");
    azure.cloud.terminate(&had.id).await.expect("ends");
    azure.finish();
}

#[tokio::test]
async fn a_failure_after_201_has_its_class() {
    use FailureClass::{Capacity, Quota, Transient};
    for (effect, class) in [
        (Effect::Capacity, Capacity),
        (Effect::Quota, Quota),
        (status("OverconstrainedZonalAllocationRequest"), Capacity),
        (status("InternalExecutionError"), Transient),
    ] {
        let azure = Azure::start().await;
        rule(&azure, "virtualMachines.create", effect);
        let failed = azure.launch("t-1").await.expect_err("the operation failed");
        assert_eq!(failed.class, class, "{failed}");
        assert_eq!(azure.double.machines(), []);
        azure
            .launch("t-1")
            .await
            .expect("the same token makes it now");
        end_all(&azure).await;
        azure.finish();
    }
}

fn status(code: &str) -> Effect {
    Effect::Status {
        code: 200,
        body: code.to_owned(),
    }
}

#[tokio::test]
async fn a_refusal_at_once_has_its_class() {
    use FailureClass::{Auth, Capacity, Invalid, Quota, Throttled, Unsupported};
    let said = |code: u16, error: &str| Effect::Status {
        code,
        body: format!("{{\"error\":{{\"code\":\"{error}\",\"message\":\"no\"}}}}"),
    };
    for (effect, class) in [
        (Effect::Capacity, Capacity),
        (Effect::Quota, Quota),
        (Effect::Throttle, Throttled),
        (said(403, "AuthorizationFailed"), Auth),
        (said(409, "SkuNotAvailable"), Unsupported),
        (said(400, "InvalidParameter"), Invalid),
    ] {
        let azure = Azure::start().await;
        rule(&azure, "virtualMachines.put", effect);
        let refused = azure.launch("t-1").await.expect_err("refused");
        assert_eq!(refused.class, class, "{refused}");
        if class == Throttled {
            assert_eq!(
                refused.retry_after,
                Some(Seconds(1)),
                "Retry-After is passed on"
            );
        }
        assert_eq!(azure.double.machines(), []);
        azure.fair();
    }
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_told_with_its_name() {
    let azure = Azure::start().await;
    azure.double.set_quota("standardNCASv3_T4Family", 4);
    let first = azure.launch("t-1").await.expect("4 vCPUs").instance;
    let refused = azure.launch("t-2").await.expect_err("4 more");
    assert_eq!(refused.class, FailureClass::Quota, "{refused}");
    assert!(
        refused.message.contains("standardNCASv3_T4Family"),
        "{refused}"
    );
    azure.cloud.terminate(&first.id).await.expect("ends");
    azure.finish();
}

#[tokio::test]
async fn throttled_looks_at_an_operation_do_not_end_the_launch() {
    let azure = Azure::start().await;
    rule(&azure, "operations.get", Effect::ServerError);
    rule(&azure, "operations.get", Effect::DropBefore);
    let throttle = Effect::Status {
        code: 429,
        body: "{\"error\":{\"code\":\"TooManyRequests\",\"message\":\"slow down\"}}".to_owned(),
    };
    rule(&azure, "operations.get", throttle);
    azure.launch("t-1").await.expect("a launch");
    end_all(&azure).await;
    azure.finish();
}

#[tokio::test]
async fn after_a_lost_answer_no_other_error_says_that_nothing_exists() {
    let azure = Azure::start().await;
    rule(&azure, "virtualMachines.put", Effect::DropAfter);
    azure.launch("t-1").await.expect_err("no answer");
    for _ in 0..2 {
        rule(&azure, "virtualMachines.get", Effect::Throttle);
        let unsure = azure.launch("t-1").await.expect_err("throttled");
        assert_eq!(unsure.class, FailureClass::Transient, "{unsure}");
    }
    azure.launch("t-1").await.expect("found");
    rule(&azure, "virtualMachines.get", Effect::Throttle);
    let other = azure.launch("t-2").await.expect_err("throttled");
    assert_eq!(other.class, FailureClass::Throttled, "{other}");
    end_all(&azure).await;
    azure.finish();
}

#[tokio::test]
async fn a_launch_that_cannot_be_followed_is_unknown_and_kept() {
    let azure = Azure::start().await;
    azure.launch("t-0").await.expect("the scale set is there");
    let forbidden = Effect::Status {
        code: 403,
        body: "{\"error\":{\"code\":\"AuthorizationFailed\",\"message\":\"no\"}}".to_owned(),
    };
    rule(&azure, "operations.get", forbidden);
    let unknown = azure.launch("t-1").await.expect_err("cannot be followed");
    assert_eq!(unknown.class, FailureClass::Transient, "{unknown}");
    assert_eq!(azure.double.machines().len(), 2, "it is not taken away");
    azure.launch("t-1").await.expect("found");
    assert_eq!(azure.sent("virtualMachines.put"), 2);
    end_all(&azure).await;
    azure.finish();
}

#[tokio::test]
async fn no_token_and_no_right_are_a_persons_work() {
    let azure = Azure::start().await;
    let denied = Effect::Status {
        code: 400,
        body: "{\"error\":\"invalid_request\",\"error_description\":\"Identity not found\"}"
            .to_owned(),
    };
    rule(&azure, "token", denied);
    let none = azure.launch("t-1").await.expect_err("no token");
    assert_eq!(none.class, FailureClass::Auth, "{none}");
    let forbidden = Effect::Status {
        code: 403,
        body: "{\"error\":{\"code\":\"AuthorizationFailed\",\"message\":\"no right to list\"}}"
            .to_owned(),
    };
    rule(&azure, "virtualMachines.list", forbidden);
    let error = azure
        .cloud
        .list(&Tags::default())
        .await
        .expect_err("forbidden");
    assert_eq!(error.class, FailureClass::Auth, "{error}");
    azure.finish();
}

#[tokio::test]
async fn an_expired_token_is_renewed() {
    let azure = Azure::start().await;
    let expired = Effect::Status {
        code: 401,
        body: "{\"error\":{\"code\":\"ExpiredAuthenticationToken\",\"message\":\"expired\"}}"
            .to_owned(),
    };
    rule(&azure, "virtualMachines.list", expired);
    azure
        .cloud
        .list(&Tags::default())
        .await
        .expect_err("expired");
    azure
        .cloud
        .list(&Tags::default())
        .await
        .expect("a new token");
    assert_eq!(azure.sent("token"), 2);
    azure.finish();
}

#[tokio::test]
async fn a_termination_that_is_cut_off_is_done_by_the_next() {
    let azure = Azure::start().await;
    let instance = azure.launch("t-1").await.expect("a launch").instance;
    for effect in [Effect::DropAfter, Effect::DropBefore, Effect::ServerError] {
        rule(&azure, "virtualMachines.delete", effect);
    }
    azure
        .cloud
        .terminate(&instance.id)
        .await
        .expect_err("three faults in a row");
    let listed = azure.cloud.list(&Tags::default()).await.expect("a list");
    assert!(
        listed.iter().all(|i| i.state == InstanceState::Terminating),
        "{listed:?}"
    );
    azure.cloud.terminate(&instance.id).await.expect("ends");
    // The set goes with the fleet when the machine's end was not ours to see.
    azure
        .cloud
        .delete_disks(&Tags::of_fleet(&request("t", T4).fleet))
        .await
        .expect("clean");
    azure.finish();
}

#[tokio::test]
async fn what_a_machine_left_behind_is_listed_and_removed() {
    let azure = Azure::start().await;
    let instance = azure.launch("t-1").await.expect("a launch").instance;
    azure.double.leave_behind();
    azure.double.kill(instance.id.as_str()).expect("it exists");
    let left = azure.double.others();
    assert!(
        left.iter().any(|o| o.starts_with("networkInterfaces/")),
        "{left:?}"
    );
    let listed = azure.cloud.list(&Tags::default()).await.expect("a list");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(
        (&listed[0].id, listed[0].state),
        (&instance.id, InstanceState::Terminating)
    );
    assert_eq!(listed[0].token, instance.token);
    let mut tags = instance.tags.clone();
    let told = tags.0.remove("gpuloom:vm-id");
    assert!(told.is_some_and(|id| id.len() == 36), "Azure's own id");
    assert_eq!(listed[0].tags, tags, "of a machine that is no more");
    azure.cloud.terminate(&instance.id).await.expect("cleans");
    assert_eq!(
        azure.cloud.list(&Tags::default()).await.expect("a list"),
        []
    );
    azure
        .cloud
        .delete_disks(&Tags::default())
        .await
        .expect("clean");
    azure.finish();

    let azure = Azure::start().await;
    let instance = azure.launch("t-2").await.expect("a launch").instance;
    azure.double.leave_behind();
    azure
        .cloud
        .terminate(&instance.id)
        .await
        .expect("takes the rest with it");
    azure.finish();
}

#[tokio::test]
async fn a_name_that_is_taken_is_never_changed() {
    let azure = Azure::start().await;
    let first = azure.launch("t-1").await.expect("a launch").instance;
    // Another fleet's token that happens to give the same name cannot be made by hand: the tag is what counts.
    azure.double.stop(first.id.as_str()).expect("it exists");
    let other = LaunchRequest {
        offerings: vec![Offering(ZONE_2.to_owned())],
        ..request("t-1", T4)
    };
    let same = azure
        .cloud
        .launch(&other)
        .await
        .expect("the same token")
        .instance;
    assert_eq!(
        (&same.id, &same.offering),
        (&first.id, &Offering(T4.to_owned()))
    );
    assert_eq!(azure.sent("virtualMachines.put"), 1);
    end_all(&azure).await;
    azure.finish();
}

/// 60 launches and ends with 30% faults: nothing is doubled or orphaned.
#[tokio::test]
async fn under_faults_every_launch_is_one_machine_and_every_end_is_an_end() {
    let azure = Azure::start().await;
    for (i, effect) in [Effect::DropAfter, Effect::DropBefore, Effect::ServerError]
        .into_iter()
        .enumerate()
    {
        let seed = u64::try_from(i).expect("small");
        let rule = FaultRule::new("virtualMachine*", effect).chance(0.1, seed);
        azure.double.faults().add(rule).expect("a rule");
    }
    for n in 0..30 {
        let token = format!("t-{n}");
        let mut had = None;
        for _ in 0..30 {
            match azure.launch(&token).await {
                Ok(launched) => {
                    had = Some(launched.instance);
                    break;
                }
                Err(e) => assert_eq!(e.class, FailureClass::Transient, "{e}"),
            }
        }
        let instance = had.expect("30 tries at 30% faults");
        assert_eq!(azure.double.machines().len(), 1, "{token}");
        let mut ended = false;
        for _ in 0..30 {
            ended = azure.cloud.terminate(&instance.id).await.is_ok();
            if ended {
                break;
            }
        }
        assert!(ended && azure.double.machines().is_empty(), "{token}");
    }
    let changes = azure.double.control().mutations();
    assert!(changes <= 3 * 60, "{changes} changes for 60 operations");
    azure.double.faults().clear();
    azure
        .cloud
        .delete_disks(&Tags::default())
        .await
        .expect("clean");
    azure.finish();
}
