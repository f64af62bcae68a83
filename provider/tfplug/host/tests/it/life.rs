//! State safety (traps 19 to 30): what is stored after every way a call can end.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tfplug::{Path, Value};
use tfplug_host::{Action, Applied, Host, HostError, ResourceDriver, Rule, State, UNKNOWN};

use crate::{fixture, host, options};

async fn thing(host: &Host) -> ResourceDriver<'_> {
    host.resource("fixture_thing")
        .await
        .expect("the type exists")
}

async fn create(host: &Host, config: Json) -> Applied {
    thing(host)
        .await
        .create(&config)
        .await
        .expect("an apply that breaks no rule")
}

/// The rules that a failed call broke.
fn rules(error: HostError) -> Vec<Rule> {
    match error {
        HostError::Violations { violations, .. } => {
            violations.into_iter().map(|one| one.rule).collect()
        }
        other => panic!("{other}"),
    }
}

fn full() -> Json {
    json!({
        "name": "a", "note": "n", "ratio": 0.7, "secret": "hunter2", "tags": {"k": "v"}, "names": ["x", "y"],
        "any": {"deep": [1, "two"]}, "limits": [{"kind": "gpu"}], "rule": [{"port": 1}, {"port": 2}], "local": {"path": "/p"}
    })
}

#[tokio::test]
async fn a_thing_with_everything_lives_and_dies() {
    let (mut host, dir) = host("").await;
    let plan = {
        let driver = thing(&host).await;
        let config = driver.config(&full()).expect("a configuration");
        driver.validate(&config).await.expect("valid");
        driver.plan(None, &config).await.expect("a plan")
    };
    assert_eq!(plan.action, Action::Create);
    // Terraform applies in another process than it plans in.
    host.restart().await.expect("a new process");
    let driver = thing(&host).await;
    let state = driver
        .apply(&plan)
        .await
        .expect("no broken rule")
        .state()
        .expect("a state");
    assert_eq!(state.value.get("id"), &Value::from("thing-a"));
    assert_eq!(state.value.get("mood"), &Value::from("calm"), "the default");
    let state = driver
        .settled(&state, &full())
        .await
        .expect("an empty plan");

    let mut changed = full();
    changed["note"] = json!("other");
    let (plan, applied) = driver.update(&state, &changed).await.expect("an update");
    assert_eq!(plan.action, Action::Update);
    let state = driver
        .settled(&applied.state().expect("a state"), &changed)
        .await
        .expect("an empty plan");

    changed["name"] = json!("b");
    let (plan, applied) = driver
        .update(&state, &changed)
        .await
        .expect("a replacement");
    assert_eq!(
        (plan.action, &plan.requires_replace[..]),
        (Action::Replace, &[Path::root("name")][..])
    );
    assert!(!dir.path().join("a.json").exists(), "the old one is gone");
    let state = driver
        .settled(&applied.state().expect("a state"), &changed)
        .await
        .expect("an empty plan");

    let gone = driver
        .destroy(&state)
        .await
        .expect("a destroy")
        .ok()
        .expect("no error");
    assert_eq!(gone, None);
    assert!(driver.read(&state).await.expect("an answer").is_none());
}

#[tokio::test]
async fn a_write_only_value_is_seen_by_create_and_stored_nowhere() {
    let (host, dir) = host("").await;
    let state = create(&host, full()).await.state().expect("a state");
    assert_eq!(state.value.get("secret"), &Value::Null);
    assert_eq!(
        std::fs::read_to_string(dir.path().join("secret-seen")).expect("seen"),
        "hunter2"
    );
    assert!(!format!("{state:?}").contains("hunter2"));
    assert!(!String::from_utf8_lossy(&state.private).contains("hunter2"));
}

#[tokio::test]
async fn a_panic_in_create_keeps_what_was_made() {
    let (host, dir) = host("panic-in-create").await;
    let applied = create(&host, json!({"name": "a"})).await;
    assert_eq!(applied.errors().len(), 1, "{:?}", applied.diagnostics);
    let state = applied
        .state
        .expect("the file is there, so the state must be");
    assert!(state.tainted && dir.path().join("a.json").exists());
    assert_eq!(state.value.get("id"), &Value::from("thing-a"));
}

#[tokio::test]
async fn a_panic_before_anything_was_made_leaves_no_state_and_no_status() {
    let (host, dir) = host("panic-before-save").await;
    let applied = create(&host, json!({"name": "a"})).await;
    assert!(
        applied.state.is_none() && applied.errors().len() == 1,
        "{applied:?}"
    );
    assert!(!dir.path().join("a.json").exists());
    thing(&host)
        .await
        .plan(
            None,
            &thing(&host).await.config(&json!({"name": "b"})).expect("c"),
        )
        .await
        .expect("it lives on");
}

#[tokio::test]
async fn an_exit_in_create_is_a_status_that_loses_the_object() {
    let (mut host, dir) = host("exit-in-create").await;
    let lost = thing(&host)
        .await
        .create(&json!({"name": "a"}))
        .await
        .expect_err("nobody can answer");
    assert!(
        matches!(
            lost,
            HostError::Rpc {
                rpc: "ApplyResourceChange",
                ..
            }
        ),
        "{lost}"
    );
    assert!(
        dir.path().join("a.json").exists(),
        "this is the orphan that the trap is about"
    );
    host.set_env("FIXTURE_MODE", "");
    host.kill_and_restart()
        .await
        .expect("a new process without the fault");
    let state = create(&host, json!({"name": "a"}))
        .await
        .state()
        .expect("adopted");
    thing(&host)
        .await
        .settled(&state, &json!({"name": "a"}))
        .await
        .expect("an empty plan");
}

#[tokio::test]
async fn a_create_that_fails_with_state_is_tainted_and_replaced() {
    let (host, _dir) = host("error-in-create").await;
    let state = create(&host, json!({"name": "a"}))
        .await
        .state
        .expect("half of it is there");
    assert!(state.tainted);
    let driver = thing(&host).await;
    let config = driver
        .config(&json!({"name": "a"}))
        .expect("a configuration");
    let plan = driver.plan(Some(&state), &config).await.expect("a plan");
    assert_eq!(plan.action, Action::Replace);
}

#[tokio::test]
async fn a_create_that_fails_without_state_leaves_nothing() {
    let (host, _dir) = host("refuse-create").await;
    let applied = create(&host, json!({"name": "a"})).await;
    assert!(applied.state.is_none());
    assert_eq!(applied.errors()[0].summary, "No capacity");
}

#[tokio::test]
async fn a_degraded_create_is_a_warning_with_a_clean_truthful_state() {
    let (host, _dir) = host("degrade").await;
    let applied = create(&host, json!({"name": "a", "size": 3})).await;
    // A planned unknown may come out smaller than wanted; a known one may not change.
    let warned: Vec<_> = applied
        .diagnostics
        .iter()
        .map(|one| one.summary.clone())
        .collect();
    assert_eq!(warned, ["Degraded"]);
    let state = applied.state().expect("a warning is no error");
    assert!(!state.tainted);
    assert_eq!(
        (state.value.get("size"), state.value.get("provisioned")),
        (&Value::from(3), &Value::from(0))
    );
    thing(&host)
        .await
        .settled(&state, &json!({"name": "a", "size": 3}))
        .await
        .expect("an empty plan");
}

/// A thing made by a provider that behaves, in the hands of one that does not.
async fn made_then(mode: &str) -> (Host, tempfile::TempDir, State) {
    let (host, dir) = host("").await;
    let state = create(
        &host,
        json!({"name": "a", "note": "old", "tags": {"k": "v"}}),
    )
    .await
    .state()
    .expect("a state");
    host.shutdown().await.expect("a clean end");
    let mut host = Host::spawn(fixture(), options(&dir, mode))
        .await
        .expect("the provider starts");
    host.configure(&json!({})).await.expect("configured");
    (host, dir, state)
}

#[tokio::test]
async fn a_failed_update_stores_what_is_really_there() {
    let (host, _dir, state) = made_then("error-in-update").await;
    let wanted = json!({"name": "a", "note": "new", "tags": {"k": "w"}});
    let (_, applied) = thing(&host)
        .await
        .update(&state, &wanted)
        .await
        .expect("no broken rule");
    assert_eq!(applied.errors().len(), 1);
    let stored = applied.state.expect("a state");
    assert!(!stored.tainted, "a failed update never taints");
    assert_eq!(stored.value.get("note"), &Value::from("new"));
    assert_eq!(
        stored.value.at(&Path::root("tags").key("k")),
        &Value::from("v"),
        "the tags were not changed"
    );
}

#[tokio::test]
async fn a_refused_update_and_a_failed_destroy_keep_the_prior_state() {
    let (host, _dir, state) = made_then("refuse-update").await;
    let (_, applied) = thing(&host)
        .await
        .update(&state, &json!({"name": "a", "note": "new"}))
        .await
        .expect("no broken rule");
    assert_eq!(applied.state.map(|stored| stored.value), Some(state.value));

    let (host, dir, state) = made_then("error-in-delete").await;
    let applied = thing(&host)
        .await
        .destroy(&state)
        .await
        .expect("no broken rule");
    assert_eq!(applied.errors().len(), 1);
    assert_eq!(applied.state.map(|stored| stored.value), Some(state.value));
    assert!(dir.path().join("a.json").exists());
}

#[tokio::test]
async fn an_unreadable_thing_is_an_error_and_a_missing_one_is_gone() {
    let (host, _dir, state) = made_then("error-in-read").await;
    let error = thing(&host)
        .await
        .read(&state)
        .await
        .expect_err("it cannot be read");
    assert!(
        matches!(
            error,
            HostError::Diagnostics {
                rpc: "ReadResource",
                ..
            }
        ),
        "{error}"
    );

    let (host, dir, state) = made_then("").await;
    std::fs::remove_file(dir.path().join("a.json")).expect("deleted out of band");
    let driver = thing(&host).await;
    assert!(driver.refresh(&state).await.expect("an answer").is_none());
    let config = driver
        .config(&json!({"name": "a"}))
        .expect("a configuration");
    assert_eq!(
        driver.plan(None, &config).await.expect("a plan").action,
        Action::Create
    );
}

#[tokio::test]
async fn a_plan_that_differs_from_run_to_run_is_caught() {
    let (host, _dir) = host("impure-plan").await;
    let caught = thing(&host)
        .await
        .create(&json!({"name": "a"}))
        .await
        .expect_err("P9");
    assert_eq!(rules(caught), [Rule::P9]);
}

#[tokio::test]
async fn private_bytes_survive_refresh_and_update() {
    let (host, _dir) = host("").await;
    let driver = thing(&host).await;
    let state = create(&host, json!({"name": "a"}))
        .await
        .state()
        .expect("a state");
    assert!(
        String::from_utf8_lossy(&state.private).contains("made_by"),
        "{:?}",
        state.private
    );
    let fresh = driver
        .refresh(&state)
        .await
        .expect("an answer")
        .expect("it is there");
    assert_eq!(fresh.private, state.private);
    let (_, applied) = driver
        .update(&fresh, &json!({"name": "a", "note": "n"}))
        .await
        .expect("an update");
    assert_eq!(applied.state().expect("a state").private, state.private);
}

#[tokio::test]
async fn unknown_provider_and_resource_configuration_is_planned_and_never_deferred() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut host = Host::spawn(fixture(), options(&dir, ""))
        .await
        .expect("the provider starts");
    host.configure(&json!({"dir": UNKNOWN}))
        .await
        .expect("an unknown directory is no error at plan");
    let driver = thing(&host).await;
    let mut config = full();
    for name in [
        "name", "note", "size", "tags", "rule", "limits", "any", "secret",
    ] {
        config[name] = json!(UNKNOWN);
    }
    let config = driver.config(&config).expect("a configuration");
    driver
        .validate(&config)
        .await
        .expect("unknown values are valid");
    // A deferral would be a broken rule.
    let plan = driver.plan(None, &config).await.expect("a plan");
    assert_eq!(plan.action, Action::Create);
}

#[tokio::test]
async fn values_known_only_at_apply_complete_the_plan() {
    let (host, _dir) = host("").await;
    let driver = thing(&host).await;
    let vague = driver
        .config(&json!({"name": "a", "note": UNKNOWN, "size": UNKNOWN}))
        .expect("a configuration");
    let mut plan = driver.plan(None, &vague).await.expect("a plan");
    plan.config = driver
        .config(&json!({"name": "a", "note": "now known", "size": 7}))
        .expect("a configuration");
    let state = driver
        .apply(&plan)
        .await
        .expect("no broken rule")
        .state()
        .expect("a state");
    assert_eq!(state.value.get("size"), &Value::from(7));
}

#[tokio::test]
async fn an_optional_computed_size_may_be_moved_by_others() {
    let (host, dir) = host("").await;
    let driver = thing(&host).await;
    let config = json!({"name": "a"});
    let state = create(&host, config.clone())
        .await
        .state()
        .expect("a state");
    let file = dir.path().join("a.json");
    let mut json: Json =
        serde_json::from_slice(&std::fs::read(&file).expect("the file")).expect("JSON");
    json["size"] = json!(9);
    std::fs::write(&file, json.to_string()).expect("moved out of band");
    let state = driver
        .settled(&state, &config)
        .await
        .expect("the plan stays empty");
    assert_eq!(
        state.value.get("size"),
        &Value::from(9),
        "and the state tells the truth"
    );
    let drift = driver
        .settled(&state, &json!({"name": "a", "size": 2}))
        .await
        .expect_err("configured, it is drift");
    assert_eq!(rules(drift), [Rule::NOOP]);
}

#[tokio::test]
async fn stop_cancels_a_create_which_returns_with_its_state() {
    let (host, dir) = host("hang-in-create").await;
    let driver = thing(&host).await;
    let config = json!({"name": "a"});
    let creating = driver.create(&config);
    let stopping = async {
        let marker = dir.path().join("creating");
        while !marker.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        host.process().interrupt().expect("it runs");
        host.stop().await.expect("it listens");
    };
    let (applied, ()) = tokio::join!(creating, stopping);
    let applied = applied.expect("diagnostics, not a status");
    assert_eq!(applied.errors()[0].summary, "Cancelled");
    assert!(applied.state.expect("what was made").tainted);
}

#[tokio::test]
async fn killed_in_create_the_next_process_finds_the_object_by_import() {
    let (mut host, dir) = host("hang-in-create").await;
    let request = {
        let driver = thing(&host).await;
        driver
            .plan(
                None,
                &driver
                    .config(&json!({"name": "a"}))
                    .expect("a configuration"),
            )
            .await
            .expect("a plan")
    };
    {
        let driver = thing(&host).await;
        let applying = driver.apply(&request);
        let waiting = async {
            while !dir.path().join("creating").exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            applied = applying => panic!("it should hang: {applied:?}"),
            () = waiting => {}
        }
    }
    host.kill_and_restart().await.expect("a new process");
    let imported = thing(&host)
        .await
        .import("a")
        .await
        .expect("the orphan is found by its name");
    assert_eq!(imported.value.get("id"), &Value::from("thing-a"));
}

#[tokio::test]
async fn lies_in_plan_and_apply_are_caught() {
    let (bad, _dir) = host("bad-plan").await;
    match thing(&bad).await.create(&json!({"name": "a"})).await {
        // The framework may notice before the host does.
        Err(HostError::Diagnostics { .. }) => {}
        Err(error) => assert_eq!(rules(error), [Rule::P1]),
        Ok(applied) => panic!("accepted: {applied:?}"),
    }
    let (liar, _dir) = host("lying-apply").await;
    match thing(&liar).await.create(&json!({"name": "a"})).await {
        Err(error) => assert!(rules(error).contains(&Rule::A1)),
        Ok(applied) => assert!(!applied.errors().is_empty(), "accepted: {applied:?}"),
    }
}

#[tokio::test]
async fn a_refusal_at_plan_points_at_the_attribute() {
    let (host, _dir) = host("").await;
    let driver = thing(&host).await;
    let config = driver
        .config(&json!({"name": "a", "size": 13}))
        .expect("a configuration");
    match driver.plan(None, &config).await {
        Err(HostError::Diagnostics { diagnostics, .. }) => {
            assert_eq!(diagnostics.len(), 1);
            assert_eq!(diagnostics[0].path, Some(Path::root("size")));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn states_are_imported_upgraded_and_moved() {
    let (host, _dir) = host("").await;
    let driver = thing(&host).await;
    let state = create(&host, full()).await.state().expect("a state");
    let imported = driver.import("a").await.expect("it exists");
    assert_eq!(imported.value, state.value);
    driver
        .settled(&imported, &full())
        .await
        .expect("import is followed by an empty plan");
    let missing = driver
        .import("nobody")
        .await
        .expect_err("it does not exist");
    assert_eq!(rules(missing), [Rule::I1]);

    let upgraded = driver
        .upgrade(0, &json!({"name": "a", "comment": "old word", "gone": 1}))
        .await
        .expect("version 0");
    assert_eq!(upgraded.get("note"), &Value::from("old word"));
    assert_eq!(
        upgraded.get("rule"),
        &Value::List(vec![]),
        "blocks are empty, never null"
    );
    let future = driver.upgrade(7, &json!({"name": "a"})).await;
    assert!(
        !matches!(future, Err(HostError::Rpc { .. })),
        "a newer state is answered with a status: {future:?}"
    );

    let moved = driver
        .move_from(
            "terraform.io/builtin/terraform",
            "terraform_data",
            0,
            &json!({"input": "a", "id": "x"}),
        )
        .await
        .expect("a known source");
    assert_eq!(moved.value.get("name"), &Value::from("a"));
    let stranger = driver
        .move_from("registry.terraform.io/x/y", "y_z", 0, &json!({}))
        .await
        .expect_err("unknown");
    assert!(
        matches!(stranger, HostError::Diagnostics { .. }),
        "{stranger}"
    );
}

#[tokio::test]
async fn identities_are_given_kept_and_imported_by() {
    let (host, _dir) = host("").await;
    let schemas = host.identity_schemas().await.expect("identity schemas");
    assert_eq!(schemas.keys().collect::<Vec<_>>(), ["fixture_thing"]);
    let driver = thing(&host).await;
    let state = create(&host, full()).await.state().expect("a state");
    let identity = state.identity.clone().expect("an identity");
    assert_eq!(identity, Value::object([("name", "a")]));
    let fresh = driver
        .refresh(&state)
        .await
        .expect("an answer")
        .expect("it is there");
    assert_eq!(fresh.identity.as_ref(), Some(&identity));
    let imported = driver.import_by_identity(&identity).await.expect("found");
    assert_eq!(imported.value, state.value);
}

#[tokio::test]
async fn a_function_answers_or_names_the_argument_at_fault() {
    let (host, _dir) = host("").await;
    let double = host.function("double").await.expect("the function");
    assert_eq!(
        double.call(&[json!(21)]).await.expect("pure"),
        Ok(Value::from(42))
    );
    let refused = double
        .call(&[json!(-1)])
        .await
        .expect("pure")
        .expect_err("negative");
    assert_eq!(refused.argument, Some(0));
    assert!(
        double.call(&[]).await.is_err(),
        "Terraform itself counts arguments"
    );
}

#[tokio::test]
async fn an_ephemeral_resource_is_opened_renewed_and_closed() {
    let (host, dir) = host("").await;
    let ticket = host.ephemeral("fixture_ticket").await.expect("the type");
    let file = dir.path().join("me.ticket");
    let open = ticket.open(&json!({"holder": "me"})).await.expect("opened");
    assert_eq!(open.value.get("token"), &Value::from("token-of-me"));
    assert!(open.renew_at.is_some());
    let renewed = ticket.renew(&open).await.expect("renewed");
    assert_eq!(
        std::fs::read_to_string(&file).expect("the ticket"),
        "renewed"
    );
    ticket.close(renewed).await.expect("closed");
    assert!(!file.exists());
}

#[tokio::test]
async fn a_data_source_tells_what_is_there() {
    let (host, _dir) = host("").await;
    let things = host.data_source("fixture_things").await.expect("the type");
    create(&host, json!({"name": "ab"}))
        .await
        .state()
        .expect("a state");
    create(&host, json!({"name": "cd"}))
        .await
        .state()
        .expect("a state");
    let all = things.read(&json!({})).await.expect("known and present");
    assert_eq!(all.get("names"), &Value::list(["ab", "cd"]));
    let some = things
        .read(&json!({"prefix": "c"}))
        .await
        .expect("known and present");
    assert_eq!(some.get("names"), &Value::list(["cd"]));
}

#[tokio::test]
async fn decimals_and_big_integers_keep_every_digit() {
    let (host, _dir) = host("").await;
    for ratio in [
        "0.7",
        "18446744073709551615",
        "0.333333333333333333333333333333333333333",
        "12345678901234567890.5",
        "-0.5",
    ] {
        let config = json!({"name": "a", "ratio": ratio});
        let state = create(&host, config.clone())
            .await
            .state()
            .expect("a state");
        assert_eq!(
            state
                .value
                .get("ratio")
                .as_number()
                .map(ToString::to_string)
                .as_deref(),
            Some(ratio)
        );
        thing(&host)
            .await
            .settled(&state, &config)
            .await
            .expect("an empty plan");
    }
}

#[tokio::test]
async fn text_is_compared_after_normalisation_and_kept_as_written() {
    let (host, _dir) = host("").await;
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let state = create(&host, json!({"name": "a", "note": decomposed}))
        .await
        .state()
        .expect("a state");
    assert_eq!(state.value.get("note").as_str(), Some(decomposed));
    thing(&host)
        .await
        .settled(&state, &json!({"name": "a", "note": composed}))
        .await
        .expect("the same text");
}
