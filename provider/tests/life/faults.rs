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
