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

/// Whether a finding is about one of these blocks, or about what a pool has on clouds alone.
fn blocks_of(found: &str, kinds: &[&str]) -> bool {
    let place = found.split(": ").next().unwrap_or_default();
    let of_block = |kind: &&str| {
        place.ends_with(&format!("gpuloom_pool.{kind}"))
            || place.ends_with(&format!("gpuloom_fleet.{kind}"))
            || place.contains(&format!("gpuloom_pool.{kind}."))
            || place.contains(&format!("gpuloom_fleet.{kind}."))
    };
    let of_clouds = ["spot_ratio", "on_demand_base", "max_unavailable"];
    kinds.iter().any(of_block) || of_clouds.iter().any(|name| place.contains(name))
}

#[tokio::test]
async fn every_rule_holds_for_everything_that_is_declared() {
    let (mut host, dir) = host().await;
    let found = check_provider(&mut host, &fixtures())
        .await
        .expect("it can be asked");
    // What only clouds have is tried with each cloud's own configuration.
    let all: Vec<_> = found
        .iter()
        .map(ToString::to_string)
        .filter(|found| !blocks_of(found, &["aws", "gcp", "azure"]))
        .collect();
    assert_eq!(all, Vec::<String>::new(), "{all:#?}");
    let left = std::fs::read_dir(dir.path())
        .expect("the directory")
        .count();
    assert_eq!(left, 0, "validating and planning wrote something");
}

/// The same with the pool and the fleet on each of the clouds, where nobody answers.
#[tokio::test]
async fn every_rule_holds_for_pools_and_fleets_on_each_cloud() {
    for kind in ["aws", "gcp", "azure"] {
        let (mut host, dir) = host().await;
        let mut fixtures = fixtures::fixtures_on(kind);
        fixtures
            .resources
            .retain(|name, _| name == "gpuloom_pool" || name == "gpuloom_fleet");
        fixtures.data_sources.clear();
        fixtures.ephemeral.clear();
        fixtures.functions.clear();
        let found = check_provider(&mut host, &fixtures)
            .await
            .expect("it can be asked");
        let all: Vec<_> = found
            .iter()
            .map(ToString::to_string)
            .filter(|found| blocks_of(found, &[kind]))
            .collect();
        assert_eq!(all, Vec::<String>::new(), "{kind}: {all:#?}");
        let left = std::fs::read_dir(dir.path())
            .expect("the directory")
            .count();
        assert_eq!(left, 0, "validating and planning wrote something");
    }
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
async fn what_nodes_are_made_of_changes_in_place_and_where_they_are_replaces_the_pool() {
    let (host, _dir) = host().await;
    let kind = "gpuloom_pool";
    let computed = [
        ("size", json!(2)),
        ("provisioned_size", json!(2)),
        ("ready_size", json!(2)),
        ("status", json!("ready")),
        ("shortfall", json!("")),
        ("generation", json!(1)),
    ];
    type Changes = &'static [(&'static str, &'static str)];
    let cases: [(&str, Changes, Changes); 3] = [
        (
            "aws",
            &[("image", "ami-0b"), ("instance_profile", "other")],
            &[("region", "us-west-2")],
        ),
        (
            "gcp",
            &[
                ("image", "projects/p/global/images/j"),
                ("network", "other"),
            ],
            &[("region", "europe-west4"), ("project", "my-project-2")],
        ),
        (
            "azure",
            &[
                ("image", "publisher:offer:sku:1.0"),
                ("ssh_public_key", "ssh-rsa BBBB"),
            ],
            &[
                ("location", "westus"),
                ("resource_group", "h"),
                ("subscription", "00000000-0000-0000-0000-000000000001"),
            ],
        ),
    ];
    for (cloud, in_place, replacing) in cases {
        let config = fixtures::cloud_pool(cloud);
        let state = stored(&host, kind, &config, &computed).await;
        let of = async |config: &Json| action(&host, kind, &state, config).await;
        assert_eq!(of(&config).await, Action::NoOp, "{cloud}");
        for (name, value) in in_place {
            let changed = with(&config, &format!("/{cloud}/{name}"), *value);
            assert_eq!(of(&changed).await, Action::Update, "{cloud}.{name}");
        }
        for (name, value) in replacing {
            let mut changed = with(&config, &format!("/{cloud}/{name}"), *value);
            if (cloud, *name) == ("gcp", "region") {
                changed = with(&changed, "/gcp/zones", json!(["europe-west4-a"]));
            }
            assert_eq!(of(&changed).await, Action::Replace, "{cloud}.{name}");
        }
        let spot = with(&config, "/capacity/spot_ratio", 0);
        assert_eq!(of(&spot).await, Action::Update, "{cloud}");
        let mut here = config.clone();
        let members = here.as_object_mut().expect("an object");
        members.remove(cloud);
        members.insert("local".to_owned(), json!({}));
        let here = with(&here, "/capacity/spot_ratio", 0);
        assert_eq!(of(&here).await, Action::Replace, "{cloud}");
    }
}

#[tokio::test]
async fn a_plan_knows_what_a_pool_will_cost_and_null_where_it_does_not() {
    let (host, _dir) = host().await;
    let driver = host.resource("gpuloom_pool").await.expect("declared");
    let cost = async |config: &Json| {
        let value = driver.config(config).expect("a configuration");
        let plan = driver.plan(None, &value).await.expect("a plan");
        plan.planned.get("estimated_hourly_usd").clone()
    };
    let two = with(&fixtures::cloud_pool("aws"), "/capacity/spot_ratio", 0);
    let three = with(&two, "/initial_size", 3);
    let (two, three) = (cost(&two).await, cost(&three).await);
    let (two, three) = (two.as_f64().expect("known"), three.as_f64().expect("known"));
    assert!(
        two > 0.0 && (three / two - 1.5).abs() < 1e-9,
        "{two} {three}"
    );
    let mut unknown = with(&fixtures::cloud_pool("aws"), "/capacity/spot_ratio", 0);
    unknown["aws"]["instance_types"] = json!(["x9.huge"]);
    assert!(cost(&unknown).await.is_null());
    assert!(
        cost(&fixtures::pool()).await.is_null(),
        "this machine has no price"
    );
}

#[tokio::test]
async fn a_fleet_moves_to_another_instance_in_place_and_to_another_region_anew() {
    let (host, _dir) = host().await;
    let kind = "gpuloom_fleet";
    let computed = [
        ("status", json!("running")),
        ("data_dir", json!("/var/lib/gpuloom")),
        ("backend", json!("nvml")),
    ];
    for (cloud, image, region) in [
        ("aws", "ami-0b", ("region", "us-west-2")),
        (
            "gcp",
            "projects/p/global/images/j",
            ("project", "my-project-2"),
        ),
        ("azure", "publisher:offer:sku:1.0", ("location", "westus")),
    ] {
        let config = fixtures::cloud_fleet(cloud);
        let state = stored(&host, kind, &config, &computed).await;
        let of = async |config: &Json| action(&host, kind, &state, config).await;
        let image = with(&config, &format!("/{cloud}/image"), image);
        assert_eq!(of(&image).await, Action::Update, "{cloud}");
        let region = with(&config, &format!("/{cloud}/{}", region.0), region.1);
        assert_eq!(of(&region).await, Action::Replace, "{cloud}");
        let disk = with(&config, &format!("/{cloud}/data_disk_gib"), 40);
        assert_eq!(of(&disk).await, Action::Replace, "{cloud}");
    }
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
