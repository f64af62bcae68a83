use crate::rig::{Rig, connection, details, number, text};
use serde_json::{Value as Json, json};
use tfplug_host::State;

const POOL: &str = "gpuloom_pool";

fn pool(fleet: &State, min: u32, on_shortfall: &str) -> Json {
    json!({
        "fleet": connection(fleet), "name": "t4", "gpu": {"model": "T4", "per_node": 1}, "local": {},
        "autoscaling": {"min": min, "max": 9}, "capacity": {"on_shortfall": on_shortfall, "max_wait": "5s"}
    })
}

#[tokio::test]
async fn a_pool_comes_up_settles_grows_imports_and_goes() {
    let mut rig = Rig::new().await;
    let fleet = rig.fleet().await;
    let config = pool(&fleet, 2, "fail");
    let state = rig.made(POOL, &config).await;
    assert_eq!(
        (number(&state, "size"), number(&state, "ready_size")),
        (2, 2)
    );
    assert_eq!(text(&state, "status"), "ready");
    rig.walk().await;
    let state = rig.settled(POOL, &state, &config).await;
    let driver = rig.host.resource(POOL).await.expect("declared");
    let (_, applied) = driver
        .update(&state, &pool(&fleet, 3, "fail"))
        .await
        .expect("updated");
    let state = applied.state().expect("grown");
    assert_eq!(
        (number(&state, "size"), number(&state, "generation")),
        (3, 2)
    );
    let imported = driver.import("ml/t4").await.expect("imported");
    let imported = rig.settled(POOL, &imported, &pool(&fleet, 3, "fail")).await;
    assert_eq!(
        imported.value,
        rig.settled(POOL, &state, &pool(&fleet, 3, "fail"))
            .await
            .value
    );
    rig.destroy(POOL, &state).await.ok().expect("destroyed");
    assert!(driver.refresh(&state).await.expect("read").is_none());
    rig.end(&fleet).await;
}

#[tokio::test]
async fn degrade_succeeds_with_the_true_counts() {
    let rig = Rig::new().await;
    let fleet = rig.fleet().await;
    let config = pool(&fleet, 6, "degrade");
    let applied = rig.create(POOL, &config).await;
    assert!(
        details(&applied).contains("4 of 6 nodes"),
        "{}",
        details(&applied)
    );
    let state = applied.state().expect("a warning only");
    assert!(!state.tainted);
    assert_eq!(
        (number(&state, "size"), number(&state, "ready_size")),
        (6, 4)
    );
    assert_eq!(text(&state, "status"), "degraded");
    rig.settled(POOL, &state, &config).await;
    rig.destroy(POOL, &state).await.ok().expect("destroyed");
    rig.end(&fleet).await;
}

#[tokio::test]
async fn fail_ends_with_nothing_left_and_nothing_stored() {
    let mut rig = Rig::new().await;
    let fleet = rig.fleet().await;
    let applied = rig.create(POOL, &pool(&fleet, 6, "fail")).await;
    assert!(
        details(&applied).contains("4 of 6 nodes"),
        "{}",
        details(&applied)
    );
    assert!(!applied.errors().is_empty());
    assert!(applied.state.is_none());
    rig.walk().await;
    let state = rig.made(POOL, &pool(&fleet, 4, "fail")).await;
    assert_eq!(
        number(&state, "generation"),
        1,
        "nothing of the first try was there"
    );
    let driver = rig.host.resource(POOL).await.expect("declared");
    let (_, short) = driver
        .update(&state, &pool(&fleet, 5, "fail"))
        .await
        .expect("answered");
    assert!(
        details(&short).contains("4 of 5 nodes"),
        "{}",
        details(&short)
    );
    let state = short.state.expect("kept");
    assert!(!state.tainted);
    assert_eq!(
        (number(&state, "size"), number(&state, "ready_size")),
        (5, 4)
    );
    rig.destroy(POOL, &state).await.ok().expect("destroyed");
    rig.end(&fleet).await;
}

#[tokio::test]
async fn existing_machines_are_not_waited_for() {
    let rig = Rig::new().await;
    let fleet = rig.fleet().await;
    let mut config = pool(&fleet, 6, "fail");
    let members = config.as_object_mut().expect("an object");
    let place = members.remove("local").expect("there");
    members.insert("existing".to_owned(), place);
    let state = rig.made(POOL, &config).await;
    rig.settled(POOL, &state, &config).await;
    rig.destroy(POOL, &state).await.ok().expect("destroyed");
    rig.end(&fleet).await;
}

#[tokio::test]
async fn a_pool_without_its_lead_keeps_its_state_and_can_be_destroyed() {
    let mut rig = Rig::new().await;
    let fleet = rig.fleet().await;
    let config = pool(&fleet, 2, "fail");
    let state = rig.made(POOL, &config).await;
    rig.kill_lead("ml");
    rig.walk().await;
    let driver = rig.host.resource(POOL).await.expect("declared");
    let kept = driver.refresh(&state).await.expect("read").expect("kept");
    assert_eq!(kept.value, state.value);
    let applied = rig.destroy(POOL, &kept).await;
    assert!(
        details(&applied).contains("dropped from the state only"),
        "{}",
        details(&applied)
    );
    applied.ok().expect("a warning only");
    rig.end(&fleet).await;
}

fn slow(fleet: &State, on_shortfall: &str, timeout: &str) -> Json {
    let mut config = pool(fleet, 2, on_shortfall);
    config["name"] = json!("slow");
    config["capacity"]["max_wait"] = json!("1h");
    config["timeouts"] = json!({"create": timeout});
    config
}

#[tokio::test]
async fn the_create_timeout_is_honoured_and_the_counts_are_true() {
    let rig = Rig::new().await;
    let fleet = rig.fleet().await;
    let applied = rig.create(POOL, &slow(&fleet, "degrade", "1s")).await;
    assert!(
        details(&applied).contains("0 of 2 nodes"),
        "{}",
        details(&applied)
    );
    let state = applied.state().expect("a warning only");
    assert_eq!(
        (number(&state, "size"), number(&state, "ready_size")),
        (2, 0)
    );
    assert_eq!(text(&state, "status"), "provisioning");
    rig.destroy(POOL, &state).await.ok().expect("destroyed");
    let applied = rig.create(POOL, &slow(&fleet, "fail", "1s")).await;
    assert!(!applied.errors().is_empty());
    assert!(applied.state.is_none(), "withdrawn and verified gone");
    rig.end(&fleet).await;
}

#[tokio::test]
async fn a_wait_that_is_interrupted_keeps_what_was_declared() {
    let rig = Rig::new().await;
    let fleet = rig.fleet().await;
    let objects = rig.root().join("lead-ml/objects.json");
    let config = slow(&fleet, "fail", "10m");
    let interrupt = async {
        while !std::fs::read_to_string(&objects)
            .unwrap_or_default()
            .contains("slow")
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        rig.host.stop().await.expect("stopped");
    };
    let (applied, ()) = tokio::join!(rig.create(POOL, &config), interrupt);
    assert!(
        details(&applied).contains("interrupted"),
        "{}",
        details(&applied)
    );
    let state = applied
        .state()
        .expect("no error: it would be destroyed for being late");
    assert_eq!(
        (number(&state, "generation"), number(&state, "size")),
        (1, 2)
    );
    let mut rig = rig;
    rig.walk().await;
    let state = rig.settled(POOL, &state, &config).await;
    rig.destroy(POOL, &state).await.ok().expect("destroyed");
    rig.end(&fleet).await;
}
