//! Terraform's own rules over everything the provider declares, from its schema and one fixture each.
//!
//! No fleet runs here: what is checked is all that Terraform asks before it touches anything.

mod fixtures;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tfplug_host::rules::check_provider;
use tfplug_host::{Action, Host, SpawnOptions, State};

use fixtures::{connection, fixtures, quota};

async fn host() -> (Host, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = SpawnOptions::default()
        .env("GPULOOM_LOCAL_ROOT", dir.path())
        .env("GPULOOM_ADMIN_KEY", "");
    let binary = Path::new(env!("CARGO_BIN_EXE_terraform-provider-gpuloom"));
    let mut host = Host::spawn(binary, options)
        .await
        .expect("the provider starts");
    host.configure(&json!({}))
        .await
        .expect("the provider is configured");
    (host, dir)
}

#[tokio::test]
async fn every_rule_holds_for_everything_that_is_declared() {
    let (mut host, dir) = host().await;
    let found = check_provider(&mut host, &fixtures())
        .await
        .expect("it can be asked");
    let all: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(all, Vec::<String>::new(), "{all:#?}");
    let left = std::fs::read_dir(dir.path())
        .expect("the directory")
        .count();
    assert_eq!(left, 0, "validating and planning wrote something");
}

/// The state that a plan of this configuration ends in, every computed value filled in.
async fn stored(host: &Host, kind: &str, config: &Json, computed: &[(&str, Json)]) -> State {
    let driver = host.resource(kind).await.expect("declared");
    let value = driver.config(config).expect("a configuration");
    let plan = driver.plan(None, &value).await.expect("a plan");
    let mut state = plan.planned.clone();
    for (name, json) in computed {
        let value = match json {
            Json::Number(n) => n
                .to_string()
                .parse::<tfplug::Number>()
                .expect("a number")
                .into(),
            Json::String(s) => tfplug::Value::from(s.as_str()),
            _ => tfplug::Value::Null,
        };
        state.set(name, value);
    }
    State {
        value: state.unknown_as_null(),
        private: plan.private,
        identity: None,
        tainted: false,
    }
}

async fn action(host: &Host, kind: &str, state: &State, config: &Json) -> Action {
    let driver = host.resource(kind).await.expect("declared");
    let value = driver.config(config).expect("a configuration");
    driver
        .plan(Some(state), &value)
        .await
        .expect("a plan")
        .action
}

fn with(config: &Json, path: &str, value: impl Into<Json>) -> Json {
    let mut changed = config.clone();
    *changed.pointer_mut(path).expect("there") = value.into();
    changed
}

#[tokio::test]
async fn only_another_fleet_or_another_owner_of_the_object_replaces_it() {
    let (host, _dir) = host().await;
    let config = quota();
    let state = stored(&host, "gpuloom_quota", &config, &[("generation", json!(3))]).await;
    let of = async |config: &Json| action(&host, "gpuloom_quota", &state, config).await;
    assert_eq!(of(&config).await, Action::NoOp);
    assert_eq!(
        of(&with(&config, "/fleet/endpoints", json!(["127.0.0.1:9"]))).await,
        Action::Update
    );
    assert_eq!(of(&with(&config, "/limit/gpus", 9)).await, Action::Update);
    assert_eq!(
        of(&with(&config, "/fleet/id", "another")).await,
        Action::Replace
    );
    assert_eq!(of(&with(&config, "/name", "other")).await, Action::Replace);
    assert_eq!(
        of(&with(&config, "/tenant", "other")).await,
        Action::Replace
    );
    // A connection that is not known yet belongs to a fleet that is made anew.
    let unknown = with(&config, "/fleet", tfplug_host::UNKNOWN);
    assert_eq!(of(&unknown).await, Action::Replace);
}

#[tokio::test]
async fn the_same_duration_in_other_words_plans_nothing() {
    let (host, _dir) = host().await;
    let config = json!({"fleet": connection(), "name": "c", "value": 5, "grace": "60s"});
    let kind = "gpuloom_priority_class";
    let state = stored(&host, kind, &config, &[("generation", json!(1))]).await;
    assert_eq!(
        action(&host, kind, &state, &with(&config, "/grace", "1m")).await,
        Action::NoOp
    );
    assert_eq!(
        action(&host, kind, &state, &with(&config, "/grace", "61s")).await,
        Action::Update
    );
}

#[tokio::test]
async fn a_pool_whose_size_the_autoscaler_moved_plans_nothing() {
    let (host, _dir) = host().await;
    let config = fixtures::pool();
    let moved = [
        ("size", json!(3)),
        ("provisioned_size", json!(3)),
        ("ready_size", json!(2)),
        ("status", json!("degraded")),
        ("shortfall", json!("no GPU is free")),
        ("generation", json!(1)),
    ];
    let kind = "gpuloom_pool";
    let state = stored(&host, kind, &config, &moved).await;
    let of = async |config: &Json| action(&host, kind, &state, config).await;
    assert_eq!(of(&config).await, Action::NoOp);
    assert_eq!(
        of(&with(&config, "/capacity/max_wait", "60s")).await,
        Action::NoOp
    );
    assert_eq!(
        of(&with(&config, "/autoscaling/max", 4)).await,
        Action::Update
    );
    assert_eq!(
        of(&with(&config, "/gpu/model", "H100")).await,
        Action::Replace
    );
    assert_eq!(
        of(&with(&config, "/gpu/per_node", 2)).await,
        Action::Replace
    );
    let mut elsewhere = config.clone();
    let members = elsewhere.as_object_mut().expect("an object");
    let place = members.remove("local").expect("there");
    members.insert("existing".to_owned(), place);
    assert_eq!(of(&elsewhere).await, Action::Replace);
}

#[tokio::test]
async fn planning_many_objects_asks_nobody() {
    let (host, _dir) = host().await;
    // Nothing listens there and there is no admin key: a plan that asked would fail.
    let config = quota();
    let state = stored(&host, "gpuloom_quota", &config, &[("generation", json!(3))]).await;
    let changed = with(&config, "/limit/gpus", 9);
    let started = Instant::now();
    for _ in 0..100 {
        assert_eq!(
            action(&host, "gpuloom_quota", &state, &changed).await,
            Action::Update
        );
    }
    // Generous: a debug build on a loaded machine; one connection attempt each would cost more.
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn what_needs_a_key_or_a_fleet_says_what_to_do() {
    let (host, _dir) = host().await;
    let driver = host.resource("gpuloom_quota").await.expect("declared");
    let applied = driver.create(&quota()).await.expect("applied");
    let errors: Vec<_> = applied.errors().iter().map(|d| d.detail.clone()).collect();
    assert!(
        errors.iter().any(|e| e.contains("gpuloom keygen")),
        "{errors:?}"
    );
    let fleet = host.resource("gpuloom_fleet").await.expect("declared");
    let import = fleet.import("Not A Name").await.expect_err("malformed");
    assert!(import.to_string().contains("lower-case"), "{import}");
}
