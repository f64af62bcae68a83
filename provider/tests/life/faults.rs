use crate::rig::{Rig, connection, fleet_config, number};
use serde_json::json;
use tfplug_host::HostError;

const ENV: &str = "GPULOOM_FAILPOINTS";

/// Every place on the way of creating a fleet: killed there, the next walk ends with exactly one.
#[tokio::test]
async fn a_provider_killed_while_it_creates_a_fleet_leaves_one_fleet_to_adopt() {
    let places = gpuloom_provider::FAILPOINTS
        .iter()
        .chain(gpuloom_cloud_local::FAILPOINTS);
    let on_the_way = |p: &&&str| {
        let of_create = [
            "note", "launch", "answer", "stage", "publish", "spawn", "alive",
        ];
        of_create.iter().any(|word| p.contains(word))
    };
    let places: Vec<_> = places.filter(on_the_way).collect();
    assert!(places.len() >= 9, "{places:?}");
    for place in places {
        let mut rig = Rig::with(&[(ENV, &format!("{place}=kill"))]).await;
        let driver = rig.host.resource("gpuloom_fleet").await.expect("declared");
        let killed = driver.create(&fleet_config()).await;
        assert!(killed.is_err(), "{place} was not passed");
        rig.walk_after_kill((ENV, "")).await;
        let state = rig.fleet().await;
        let state = rig.settled("gpuloom_fleet", &state, &fleet_config()).await;
        assert_eq!(rig.left(), ["lead-ml"], "{place}");
        rig.end(&state).await;
    }
}

#[tokio::test]
async fn a_provider_killed_while_it_declares_leaves_one_object_to_adopt() {
    for place in ["provider.declare.before", "provider.declare.after"] {
        let mut rig = Rig::new().await;
        let fleet = rig.fleet().await;
        let config = json!({"fleet": connection(&fleet), "name": "t", "weight": 2});
        rig.walk_after_kill((ENV, &format!("{place}=kill"))).await;
        let killed: Result<_, HostError> = rig
            .host
            .resource("gpuloom_tenant")
            .await
            .expect("declared")
            .create(&config)
            .await;
        assert!(killed.is_err(), "{place} was not passed");
        rig.walk_after_kill((ENV, "")).await;
        let state = rig.made("gpuloom_tenant", &config).await;
        assert_eq!(number(&state, "generation"), 1, "{place}");
        rig.destroy("gpuloom_tenant", &state)
            .await
            .ok()
            .expect("destroyed");
        rig.end(&fleet).await;
    }
}

#[tokio::test]
async fn a_provider_killed_while_it_destroys_goes_on_where_it_was() {
    for place in ["provider.withdraw.before", "provider.withdraw.after"] {
        let mut rig = Rig::new().await;
        let fleet = rig.fleet().await;
        let config = json!({"fleet": connection(&fleet), "name": "t"});
        let state = rig.made("gpuloom_tenant", &config).await;
        rig.walk_after_kill((ENV, &format!("{place}=kill"))).await;
        let driver = rig.host.resource("gpuloom_tenant").await.expect("declared");
        assert!(
            driver.destroy(&state).await.is_err(),
            "{place} was not passed"
        );
        rig.walk_after_kill((ENV, "")).await;
        rig.destroy("gpuloom_tenant", &state)
            .await
            .ok()
            .expect("destroyed");
        rig.walk_after_kill((ENV, "provider.terminate.after=kill"))
            .await;
        let driver = rig.host.resource("gpuloom_fleet").await.expect("declared");
        assert!(driver.destroy(&fleet).await.is_err());
        rig.walk_after_kill((ENV, "")).await;
        rig.end(&fleet).await;
    }
}

#[tokio::test]
async fn a_provider_killed_while_it_waits_for_a_pool_finds_it_again() {
    for place in [
        "provider.pool.wait.before",
        "provider.pool.wait.after",
        "provider.pool.abandon.before",
    ] {
        let mut rig = Rig::new().await;
        let fleet = rig.fleet().await;
        let config = |min: u32| {
            json!({
                "fleet": connection(&fleet), "name": "t4", "gpu": {"model": "T4"}, "local": {},
                "autoscaling": {"min": min, "max": 9}
            })
        };
        let too_many = if place.contains("abandon") { 6 } else { 2 };
        rig.walk_after_kill((ENV, &format!("{place}=kill"))).await;
        let driver = rig.host.resource("gpuloom_pool").await.expect("declared");
        assert!(
            driver.create(&config(too_many)).await.is_err(),
            "{place} was not passed"
        );
        rig.walk_after_kill((ENV, "")).await;
        let state = rig.made("gpuloom_pool", &config(2)).await;
        let state = rig.settled("gpuloom_pool", &state, &config(2)).await;
        assert_eq!(number(&state, "ready_size"), 2, "{place}");
        rig.destroy("gpuloom_pool", &state)
            .await
            .ok()
            .expect("destroyed");
        rig.end(&fleet).await;
    }
}

#[tokio::test]
async fn a_provider_killed_while_it_starts_a_lead_starts_it_the_next_time() {
    let places = ["provider.fleet.start.before", "provider.fleet.start.after"];
    for place in places {
        let mut rig = Rig::new().await;
        let fleet = rig.fleet().await;
        rig.kill_lead("ml");
        rig.walk_after_kill((ENV, &format!("{place}=kill"))).await;
        let driver = rig.host.resource("gpuloom_fleet").await.expect("declared");
        assert!(
            driver.update(&fleet, &fleet_config()).await.is_err(),
            "{place} was not passed"
        );
        rig.walk_after_kill((ENV, "")).await;
        let driver = rig.host.resource("gpuloom_fleet").await.expect("declared");
        let (_, applied) = driver
            .update(&fleet, &fleet_config())
            .await
            .expect("answered");
        let state = applied.state().expect("running");
        let state = rig.settled("gpuloom_fleet", &state, &fleet_config()).await;
        rig.end(&state).await;
    }
}

/// The list is what tests go by: a place in the source that it lacks would never be tried.
#[test]
fn every_failpoint_is_listed_and_every_listed_one_exists() {
    fn sources(dir: &std::path::Path, all: &mut String) {
        for entry in std::fs::read_dir(dir).expect("the source").flatten() {
            if entry.path().is_dir() {
                sources(&entry.path(), all);
            } else {
                all.push_str(&std::fs::read_to_string(entry.path()).expect("a source file"));
            }
        }
    }
    let mut all = String::new();
    sources(
        &std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut all,
    );
    let mut passed: Vec<_> = all
        .split("failpoint::hit(\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    passed.sort_unstable();
    passed.dedup();
    let mut listed = gpuloom_provider::FAILPOINTS.to_vec();
    listed.sort_unstable();
    assert_eq!(passed, listed);
}
