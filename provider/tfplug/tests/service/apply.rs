//! Creating, changing, destroying: what exists is never lost.

use tfplug::Value;
use tfplug::proto::tfplugin6 as pb;
use tfplug::proto::tfplugin6::provider_server::Provider as _;
use tonic::Request;

use crate::thing::{FINISHED, WAITING, config, stored};
use crate::{Terraform, told};

#[tokio::test]
async fn a_success_saves_the_state_the_identity_and_the_private_part() {
    let terraform = Terraform::new().await;
    let answer = terraform.create("").await;
    assert_eq!(told(&answer.diagnostics), [""; 0]);
    assert_eq!(terraform.value(&answer.new_state), stored("a", ""));
    assert_eq!(answer.private, br#"{"token":"t"}"#);
    let identity = answer
        .new_identity
        .expect("an identity")
        .identity_data
        .expect("data");
    assert_eq!(identity.msgpack, b"\x81\xa2id\xa3i-1");
}

#[tokio::test]
async fn whatever_goes_wrong_in_create_the_saved_part_survives() {
    let terraform = Terraform::new().await;
    let half = |chaos: &str| {
        config("a", chaos)
            .with("secret", Value::Null)
            .with("id", "i-1")
    };
    let table = [
        ("early error", Value::Null, "error : The cloud failed"),
        ("late error", half("late error"), "error : The cloud failed"),
        ("panic", half("panic"), "error : Create failed"),
        ("unsaved", Value::Null, "error : No state was saved"),
        (
            "unknown",
            half("unknown").with("id", Value::Null),
            "error id: Unknown value for id",
        ),
        ("degraded", stored("a", "degraded"), "warning : Degraded"),
        ("leak", stored("a", "leak"), ""),
    ];
    for (chaos, state, problem) in table {
        let answer = terraform.create(chaos).await;
        assert_eq!(terraform.value(&answer.new_state), state, "{chaos}");
        assert_eq!(told(&answer.diagnostics).join("\n"), problem, "{chaos}");
        assert_eq!(answer.private, br#"{"token":"t"}"#, "{chaos}");
    }
}

#[tokio::test]
async fn a_state_that_does_not_fit_is_bent_rather_than_lost() {
    let terraform = Terraform::new().await;
    let answer = terraform.create("malformed").await;
    let state = terraform.value(&answer.new_state);
    assert_eq!(state.get("id").as_str(), Some("i-1"));
    assert!(state.get("size").is_null());
    assert_eq!(state.get("rule"), &Value::List(vec![]));
    assert!(
        told(&answer.diagnostics)[0].contains("does not fit its schema"),
        "{:?}",
        answer.diagnostics
    );
}

#[tokio::test]
async fn an_update_that_fails_keeps_what_is_there() {
    let terraform = Terraform::new().await;
    let prior = stored("a", "");
    for (chaos, size) in [("late error", 7), ("half", 8)] {
        let config = config("a", chaos);
        let planned = terraform.value(&terraform.plan(&prior, &config).await.planned_state);
        let answer = terraform.apply(&prior, &planned, &config).await;
        assert_eq!(
            terraform.value(&answer.new_state),
            prior.clone().with("size", size),
            "{chaos}"
        );
        assert_eq!(told(&answer.diagnostics), ["error : The cloud failed"]);
    }
}

#[tokio::test]
async fn a_destroyed_object_is_null_and_a_stuck_one_stays() {
    let terraform = Terraform::new().await;
    for (chaos, survives) in [("", false), ("stuck", true), ("panic", true)] {
        let prior = stored("a", chaos);
        let answer = terraform.apply(&prior, &Value::Null, &Value::Null).await;
        let expected = if survives { prior } else { Value::Null };
        assert_eq!(terraform.value(&answer.new_state), expected, "{chaos}");
        assert_eq!(answer.diagnostics.len(), usize::from(survives), "{chaos}");
    }
}

#[tokio::test]
async fn an_unreadable_request_changes_nothing() {
    let terraform = Terraform::new().await;
    let mut request = terraform.apply_request(&Value::Null, &config("a", ""), &config("a", ""));
    request.planned_state = Some(pb::DynamicValue {
        msgpack: vec![0xc1],
        json: vec![],
    });
    let prior = request.prior_state.clone();
    let answer = terraform
        .service
        .apply_resource_change(Request::new(request))
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(answer.new_state, prior);
    assert_eq!(answer.diagnostics.len(), 1);
}

#[tokio::test]
async fn stopped_and_abandoned_handlers_wind_up_and_save() {
    let terraform = Terraform::new().await;
    let config = config("a", "wait");
    let planned = terraform.value(&terraform.plan(&Value::Null, &config).await.planned_state);

    let stopped = async {
        WAITING.notified().await;
        let stop = Request::new(pb::stop_provider::Request {});
        let answer = terraform
            .service
            .stop_provider(stop)
            .await
            .expect("an answer");
        assert_eq!(answer.into_inner().error, "");
    };
    let (answer, ()) = tokio::join!(terraform.apply(&Value::Null, &planned, &config), stopped);
    assert_eq!(
        terraform.value(&answer.new_state).get("id").as_str(),
        Some("i-1")
    );
    FINISHED.notified().await;

    let request = terraform.apply_request(&Value::Null, &planned, &config);
    let service = terraform.service.clone();
    let call =
        tokio::spawn(async move { service.apply_resource_change(Request::new(request)).await });
    WAITING.notified().await;
    call.abort();
    // Reached although nobody waits for the answer any more.
    FINISHED.notified().await;
}
