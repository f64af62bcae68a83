use crate::rig::{Rig, connection, details, fleet_config, text};
use serde_json::json;
use tfplug_host::Action;

const FLEET: &str = "gpuloom_fleet";

#[tokio::test]
async fn a_fleet_comes_up_settles_imports_and_goes() {
    let mut rig = Rig::new().await;
    let state = rig.fleet().await;
    assert_eq!(text(&state, "status"), "running");
    assert_eq!(text(&state, "backend"), "simulated");
    assert_eq!(text(&state, "agent_sha256").len(), 64);
    assert!(
        rig.left().contains(&".create-ml.json".to_owned()),
        "{:?}",
        rig.left()
    );
    rig.walk().await;
    let settled = rig.settled(FLEET, &state, &fleet_config()).await;
    assert_eq!(
        rig.left(),
        ["lead-ml"],
        "read back: its creation is no longer open"
    );
    let driver = rig.host.resource(FLEET).await.expect("declared");
    let imported = driver.import("ml").await.expect("imported");
    let imported = rig.settled(FLEET, &imported, &fleet_config()).await;
    assert_eq!(imported.value, settled.value);
    rig.end(&settled).await;
    assert!(
        driver.refresh(&settled).await.expect("read").is_none(),
        "gone is gone"
    );
}

#[tokio::test]
async fn a_dead_lead_is_started_again_in_place() {
    let mut rig = Rig::new().await;
    let state = rig.fleet().await;
    rig.kill_lead("ml");
    rig.walk().await;
    let driver = rig.host.resource(FLEET).await.expect("declared");
    let state = driver
        .refresh(&state)
        .await
        .expect("read")
        .expect("not gone");
    assert_eq!(text(&state, "status"), "stopped");
    let (plan, applied) = driver
        .update(&state, &fleet_config())
        .await
        .expect("updated");
    assert_eq!(plan.action, Action::Update);
    let after = applied.state().expect("started");
    assert_eq!(text(&after, "status"), "running");
    assert_eq!(connection(&after), connection(&state));
    let after = rig.settled(FLEET, &after, &fleet_config()).await;
    rig.end(&after).await;
}

#[tokio::test]
async fn another_agent_program_is_an_upgrade_in_place() {
    let mut rig = Rig::new().await;
    let state = rig.fleet().await;
    let program = rig.dir.path().join("gpuloom");
    let mut bytes = std::fs::read(&program).expect("the program");
    bytes.extend_from_slice(b"another version");
    let new = rig.dir.path().join("new");
    std::fs::write(&new, bytes).expect("written");
    std::fs::set_permissions(
        &new,
        std::fs::metadata(&program).expect("there").permissions(),
    )
    .expect("executable");
    std::fs::rename(new, program).expect("replaced");
    let (before, old) = (rig.pid("ml"), text(&state, "agent_sha256").to_owned());
    rig.walk().await;
    let driver = rig.host.resource(FLEET).await.expect("declared");
    let (plan, applied) = driver
        .update(&state, &fleet_config())
        .await
        .expect("updated");
    assert_eq!(plan.action, Action::Update);
    let after = applied.state().expect("upgraded");
    assert_ne!(text(&after, "agent_sha256"), old);
    assert_ne!(rig.pid("ml"), before);
    assert_eq!(connection(&after), connection(&state));
    let after = rig.settled(FLEET, &after, &fleet_config()).await;
    rig.end(&after).await;
}

/// Another configuration of the same name and key, before this one was ever refreshed.
#[tokio::test]
async fn a_fleet_that_something_was_declared_to_is_nobody_elses_to_make_anew() {
    let mut rig = Rig::new().await;
    let state = rig.fleet().await;
    let tenant = json!({"fleet": connection(&state), "name": "t"});
    let tenant = rig.made("gpuloom_tenant", &tenant).await;
    for config in [
        fleet_config(),
        json!({"name": "ml", "local": {"simulate": "2xT4"}}),
    ] {
        rig.walk().await;
        let other = rig.create(FLEET, &config).await;
        assert!(
            details(&other).contains("terraform import"),
            "{}",
            details(&other)
        );
        assert!(other.state.is_none());
    }
    rig.walk().await;
    rig.settled(FLEET, &state, &fleet_config()).await;
    rig.destroy("gpuloom_tenant", &tenant).await;
    rig.end(&state).await;
}

#[tokio::test]
async fn a_name_in_use_is_refused_with_the_import() {
    let mut rig = Rig::new().await;
    let state = rig.fleet().await;
    let twice = rig.create(FLEET, &fleet_config()).await;
    assert!(
        details(&twice).contains("declared twice"),
        "{}",
        details(&twice)
    );
    rig.walk().await;
    let state = rig.settled(FLEET, &state, &fleet_config()).await;
    rig.walk().await;
    let again = rig.create(FLEET, &fleet_config()).await;
    assert!(
        details(&again).contains("terraform import"),
        "{}",
        details(&again)
    );
    assert!(again.state.is_none());
    rig.end(&state).await;
}

#[tokio::test]
async fn a_fleet_that_does_not_come_up_leaves_nothing() {
    let rig = Rig::new().await;
    std::fs::write(
        rig.dir.path().join("gpuloom"),
        "#!/bin/sh\necho no such luck >&2\nexit 3\n",
    )
    .expect("written");
    let applied = rig.create(FLEET, &fleet_config()).await;
    assert!(
        details(&applied).contains("no such luck"),
        "{}",
        details(&applied)
    );
    assert!(applied.state.is_none());
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_fleet_with_pools_is_not_destroyed() {
    let rig = Rig::new().await;
    let fleet = rig.fleet().await;
    let pool = json!({
        "fleet": connection(&fleet), "name": "t4", "gpu": {"model": "T4"}, "local": {},
        "autoscaling": {"min": 1, "max": 1}
    });
    let pool = rig.made("gpuloom_pool", &pool).await;
    let refused = rig.destroy(FLEET, &fleet).await;
    assert!(
        details(&refused).contains("t4 (of terraform)"),
        "{}",
        details(&refused)
    );
    assert!(refused.state.is_some());
    rig.destroy("gpuloom_pool", &pool)
        .await
        .ok()
        .expect("destroyed");
    rig.end(&fleet).await;
}
