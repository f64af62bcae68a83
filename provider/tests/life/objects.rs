use crate::rig::{Rig, connection, details, fleet_config, number};
use serde_json::{Value as Json, json};
use tfplug_host::State;

fn configs(fleet: &State) -> Vec<(&'static str, Json, Json)> {
    let fleet = || connection(fleet);
    vec![
        (
            "gpuloom_tenant",
            json!({"fleet": fleet(), "name": "t"}),
            json!({"fleet": fleet(), "name": "t", "weight": 3}),
        ),
        (
            "gpuloom_quota",
            json!({"fleet": fleet(), "name": "q", "tenant": "t", "limit": {"gpus": 1.25, "gpu_memory_gib": 0.5}}),
            json!({"fleet": fleet(), "name": "q", "tenant": "t", "guaranteed": {"gpus": 0.5}, "on_excess": "preempt"}),
        ),
        (
            "gpuloom_priority_class",
            json!({"fleet": fleet(), "name": "urgent", "value": 7, "grace": "60s"}),
            json!({"fleet": fleet(), "name": "urgent", "value": 8, "cost_multiplier": 1.5}),
        ),
        (
            "gpuloom_limit_range",
            json!({"fleet": fleet(), "name": "r", "max": {"walltime": "90m"}}),
            json!({"fleet": fleet(), "name": "r", "default": {"gpus": 1}, "max": {"gpus": 2, "walltime": "1h"}}),
        ),
        (
            "gpuloom_autoscaling_policy",
            json!({"fleet": fleet(), "name": "a", "pool": "p", "window": "120s"}),
            json!({"fleet": fleet(), "name": "a", "pool": "p", "target_utilization": 0.5}),
        ),
    ]
}

#[tokio::test]
async fn every_object_is_created_settles_changes_imports_and_goes() {
    let mut rig = Rig::new().await;
    let fleet = rig.fleet().await;
    let mut made = Vec::new();
    for (kind, first, second) in configs(&fleet) {
        let state = rig.made(kind, &first).await;
        assert_eq!(number(&state, "generation"), 1, "{kind}");
        rig.settled(kind, &state, &first).await;
        let driver = rig.host.resource(kind).await.expect("declared");
        let (_, applied) = driver.update(&state, &second).await.expect("updated");
        let state = applied.state().expect("changed");
        assert_eq!(number(&state, "generation"), 2, "{kind}");
        let state = rig.settled(kind, &state, &second).await;
        let name = second["name"].as_str().expect("a name");
        let imported = driver
            .import(&format!("ml/{name}"))
            .await
            .expect("imported");
        let imported = rig.settled(kind, &imported, &second).await;
        assert_eq!(imported.value, state.value, "{kind}");
        let c = connection(&fleet);
        let anywhere = format!(
            "{}|{}|{name}",
            c["endpoints"][0].as_str().expect("one"),
            c["ca_pin"].as_str().expect("one")
        );
        let elsewhere = driver.import(&anywhere).await.expect("imported");
        assert_eq!(
            rig.settled(kind, &elsewhere, &second).await.value,
            state.value,
            "{kind}"
        );
        let identity = state.identity.clone().expect("an identity");
        let by_identity = driver
            .import_by_identity(&identity)
            .await
            .expect("imported");
        assert_eq!(
            rig.settled(kind, &by_identity, &second).await.value,
            state.value,
            "{kind}"
        );
        made.push((kind, state, second));
    }
    rig.walk().await;
    let (kind, _, config) = &made[0];
    let exists = rig.create(kind, config).await;
    assert!(
        details(&exists).contains("terraform import gpuloom_tenant"),
        "{}",
        details(&exists)
    );
    for (kind, state, _) in made.iter().rev() {
        rig.destroy(kind, state).await.ok().expect("destroyed");
        let driver = rig.host.resource(kind).await.expect("declared");
        assert!(
            driver.refresh(state).await.expect("read").is_none(),
            "{kind}"
        );
        rig.destroy(kind, state)
            .await
            .ok()
            .expect("what is gone is destroyed");
    }
    rig.end(&fleet).await;
}

#[tokio::test]
async fn what_the_lead_refuses_points_at_its_attribute() {
    let rig = Rig::new().await;
    let fleet = rig.fleet().await;
    let quota =
        json!({"fleet": connection(&fleet), "name": "q", "tenant": "nobody", "limit": {"gpus": 1}});
    let refused = rig.create("gpuloom_quota", &quota).await;
    let error = refused.errors()[0];
    assert_eq!(
        error.path.as_ref().map(ToString::to_string).as_deref(),
        Some("tenant"),
        "{error:?}"
    );
    assert!(refused.state.is_none());
    rig.end(&fleet).await;
}

#[tokio::test]
async fn a_stale_generation_is_refused_and_the_state_stays() {
    let mut rig = Rig::new().await;
    let fleet = rig.fleet().await;
    let config = |weight: u32| json!({"fleet": connection(&fleet), "name": "t", "weight": weight});
    let first = rig.made("gpuloom_tenant", &config(1)).await;
    let driver = rig.host.resource("gpuloom_tenant").await.expect("declared");
    let (_, applied) = driver.update(&first, &config(2)).await.expect("updated");
    let second = applied.state().expect("changed");
    let value = driver.config(&config(3)).expect("a configuration");
    // Planned from the first state, without the refresh that would have seen the second.
    let plan = driver.plan(Some(&first), &value).await.expect("planned");
    let stale = driver.apply_as_planned(&plan).await.expect("answered");
    assert!(
        details(&stale).contains("generation 2"),
        "{}",
        details(&stale)
    );
    assert_eq!(stale.state.expect("kept").value, first.value);
    rig.walk().await;
    rig.destroy("gpuloom_tenant", &second)
        .await
        .ok()
        .expect("destroyed");
    rig.end(&fleet).await;
}

#[tokio::test]
async fn a_lead_that_is_gone_blocks_nothing() {
    let mut rig = Rig::new().await;
    let fleet = rig.fleet().await;
    let config = json!({"fleet": connection(&fleet), "name": "t"});
    let state = rig.made("gpuloom_tenant", &config).await;
    rig.kill_lead("ml");
    rig.walk().await;
    let driver = rig.host.resource("gpuloom_tenant").await.expect("declared");
    let kept = driver.refresh(&state).await.expect("read").expect("kept");
    assert_eq!(kept.value, state.value);
    let applied = rig.destroy("gpuloom_tenant", &state).await;
    assert!(
        details(&applied).contains("does not run"),
        "{}",
        details(&applied)
    );
    applied.ok().expect("with a warning only");
    rig.end(&fleet).await;
    rig.walk().await;
    let applied = rig.destroy("gpuloom_tenant", &state).await;
    assert_eq!(details(&applied), "", "verified gone: nothing to warn of");
}

#[tokio::test]
async fn data_sources_and_tokens_tell_what_the_lead_says() {
    let rig = Rig::new().await;
    let fleet = rig.fleet().await;
    let of_fleet = json!({"fleet": connection(&fleet)});
    let nodes = rig
        .host
        .data_source("gpuloom_nodes")
        .await
        .expect("declared");
    let read = nodes.read(&of_fleet).await.expect("read");
    assert_eq!(
        read.get("nodes").elements()[0].get("id").as_str(),
        Some("t4-1")
    );
    let devices = rig
        .host
        .data_source("gpuloom_devices")
        .await
        .expect("declared");
    let read = devices.read(&of_fleet).await.expect("read");
    let device = &read.get("devices").elements()[0];
    assert_eq!(device.get("memory_gib").as_i64(), Some(16));
    assert!(
        device.get("temperature_c").is_null(),
        "what was not read is not zero"
    );
    let queue = rig
        .host
        .data_source("gpuloom_queue")
        .await
        .expect("declared");
    assert_eq!(
        queue
            .read(&of_fleet)
            .await
            .expect("read")
            .get("pending")
            .as_i64(),
        Some(1)
    );
    let by_name = rig
        .host
        .data_source("gpuloom_fleet")
        .await
        .expect("declared");
    let read = by_name.read(&json!({"name": "ml"})).await.expect("read");
    assert_eq!(read.get("connection"), fleet.value.get("connection"));
    let token = rig
        .host
        .ephemeral("gpuloom_join_token")
        .await
        .expect("declared");
    let mut config = of_fleet.clone();
    config["pool"] = json!("p");
    let open = token.open(&config).await.expect("opened");
    assert_eq!(open.value.get("token").as_str(), Some("glj_p"));
    assert_eq!(
        open.value.get("expires_at").as_str(),
        Some("1970-01-01T00:00:01Z")
    );
    token.close(open).await.expect("closed");
    assert_eq!(fleet_config()["name"], "ml");
    rig.end(&fleet).await;
}
