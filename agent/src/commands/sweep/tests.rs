//! What is swept, what is left alone, and what is asked before.

use super::*;
use clap::Parser as _;
use gpuloom_cloud::{
    Cloud, FailureClass, FakeCloud, Faults, LaunchRequest, Offering, Token, UserData,
};
use gpuloom_fleet::{PoolName, PoolPlace};
use std::sync::Arc;

#[derive(Debug, clap::Parser)]
struct Typed {
    #[command(flatten)]
    args: SweepArgs,
}

fn args(more: &[&str]) -> SweepArgs {
    let typed = ["sweep", "--fleet", "ml", "--at", "aws:us-east-1"];
    let typed = typed.into_iter().chain(more.iter().copied());
    Typed::try_parse_from(typed).expect("can be typed").args
}

async fn launch(cloud: &FakeCloud, token: &str, fleet: &str, fleet_id: &str, role: Role) -> String {
    let request = LaunchRequest {
        token: Token::new(token).expect("a token"),
        fleet: FleetName::new(fleet).expect("a name"),
        fleet_id: fleet_id.to_owned(),
        pool: (role == Role::Node).then(|| PoolName::new("t4").expect("a name")),
        role,
        offerings: vec![Offering("local/T4x1".to_owned())],
        place: PoolPlace::Local,
        gpu: None,
        labels: Tags::default(),
        revision: String::new(),
        data_disk: None,
        user_data: UserData::default(),
    };
    let launched = cloud.launch(&request).await.expect("launched");
    launched.instance.id.to_string()
}

/// A lead, two nodes, a node of a namesake, and one of another fleet.
async fn cloud() -> (Arc<FakeCloud>, Vec<String>) {
    let cloud = Arc::new(FakeCloud::new());
    let mut ids = Vec::new();
    for (token, fleet, id, role) in [
        ("a", "ml", "key", Role::Lead),
        ("b", "ml", "one", Role::Node),
        ("c", "ml", "one", Role::Node),
        ("d", "ml", "two", Role::Node),
        ("e", "other", "one", Role::Node),
    ] {
        ids.push(launch(&cloud, token, fleet, id, role).await);
    }
    (cloud, ids)
}

struct Ran {
    ended: Result<(), CommandError>,
    said: String,
    left: Vec<String>,
}

async fn run(
    cloud: &Arc<FakeCloud>,
    args: &SweepArgs,
    known: Option<&Known>,
    as_json: bool,
    answer: Option<&str>,
) -> Ran {
    let mut out = Vec::new();
    let places = vec![Place {
        name: "aws:us-east-1".to_owned(),
        cloud: cloud.clone(),
    }];
    let now = Millis(3_600_000);
    let mut sweep = Sweep {
        args,
        known,
        as_json,
        now,
        places,
        out: &mut out,
    };
    let mut answers = answer.map(str::as_bytes);
    let answers = answers.as_mut().map(|a| a as &mut dyn BufRead);
    let ended = sweep.run(answers).await;
    let left = cloud.truth().iter().map(|i| i.id.to_string()).collect();
    Ran {
        ended,
        said: String::from_utf8(out).expect("text"),
        left,
    }
}

fn known(ids: &[&String]) -> Known {
    Known {
        fleet_id: "one".to_owned(),
        nodes: ids.iter().map(|id| (*id).clone()).collect(),
    }
}

#[tokio::test]
async fn a_dry_run_lists_and_ends_nothing() {
    let (cloud, ids) = cloud().await;
    for more in [&["--dry-run"][..], &["--dry-run", "--lead-is-gone"]] {
        let ran = run(&cloud, &args(more), None, false, None).await;
        assert!(ran.ended.is_ok(), "{:?}", ran.ended);
        assert_eq!(ran.left.len(), 5);
        for id in &ids[..4] {
            assert!(ran.said.contains(id.as_str()), "{}", ran.said);
        }
        assert!(!ran.said.contains(ids[4].as_str()), "another fleet's");
    }
    assert_eq!(cloud.calls().terminations, 0);
}

#[tokio::test]
async fn nothing_ends_while_nobody_said_that_the_lead_is_gone() {
    let (cloud, _) = cloud().await;
    let ran = run(&cloud, &args(&["--yes"]), None, false, None).await;
    let error = ran.ended.expect_err("refused");
    assert_eq!(error.code(), 6);
    assert!(error.to_string().contains("--lead-is-gone"), "{error}");
    assert_eq!(ran.left.len(), 5);
}

#[tokio::test]
async fn with_the_lead_gone_everything_of_the_fleet_ends_and_nothing_else() {
    let (cloud, ids) = cloud().await;
    let ran = run(
        &cloud,
        &args(&["--lead-is-gone", "--yes"]),
        None,
        false,
        None,
    )
    .await;
    assert!(ran.ended.is_ok(), "{:?}", ran.ended);
    assert_eq!(ran.left, [ids[4].clone()]);
    assert!(ran.said.contains("4 instances ended"), "{}", ran.said);
    assert!(
        ran.said.contains("no retained disk is left"),
        "{}",
        ran.said
    );
    let again = run(
        &cloud,
        &args(&["--lead-is-gone", "--yes", "--keep-disks"]),
        None,
        false,
        None,
    )
    .await;
    assert!(
        again.ended.is_ok() && again.said.contains("has no instance"),
        "{}",
        again.said
    );
}

#[tokio::test]
async fn a_fleet_id_tells_namesakes_apart() {
    let (cloud, ids) = cloud().await;
    let typed = args(&["--lead-is-gone", "--fleet-id", "two", "--yes"]);
    let ran = run(&cloud, &typed, None, false, None).await;
    assert!(ran.ended.is_ok(), "{:?}", ran.ended);
    assert!(
        !ran.left.contains(&ids[3]) && ran.left.len() == 4,
        "{:?}",
        ran.left
    );
}

#[tokio::test]
async fn what_the_lead_knows_stays_and_what_it_does_not_know_ends_when_old_enough() {
    let (cloud, ids) = cloud().await;
    let lead = known(&[&ids[1]]);
    let young = run(
        &cloud,
        &args(&["--yes", "--grace", "2h"]),
        Some(&lead),
        false,
        None,
    )
    .await;
    assert!(
        young.ended.is_ok() && young.said.contains("may still join"),
        "{}",
        young.said
    );
    assert_eq!(young.left.len(), 5);
    let ran = run(&cloud, &args(&["--yes"]), Some(&lead), false, None).await;
    assert!(ran.ended.is_ok(), "{:?}", ran.ended);
    assert_eq!(ran.left.len(), 4);
    assert!(!ran.left.contains(&ids[2]), "the one nobody knows");
    assert!(
        !ran.said.contains("disk"),
        "a lead that lives keeps its disk: {}",
        ran.said
    );
}

#[tokio::test]
async fn it_asks_and_takes_only_the_fleets_name_for_a_yes() {
    let (cloud, _) = cloud().await;
    let typed = args(&["--lead-is-gone"]);
    for answer in ["y\n", "", "other\n"] {
        let ran = run(&cloud, &typed, None, false, Some(answer)).await;
        let error = ran.ended.expect_err(answer);
        assert_eq!(error.code(), 1);
        assert_eq!(ran.left.len(), 5, "{answer:?}");
        assert!(
            ran.said
                .contains("4 instances and the retained disks of ml"),
            "{}",
            ran.said
        );
    }
    let nobody = run(&cloud, &typed, None, false, None).await;
    assert_eq!(nobody.ended.expect_err("nobody to ask").code(), 2);
    let ran = run(&cloud, &typed, None, false, Some("ml\n")).await;
    assert!(ran.ended.is_ok(), "{:?}", ran.ended);
    assert_eq!(ran.left.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_listed_or_ended_is_told_by_name() {
    let (cloud, ids) = cloud().await;
    let typed = args(&["--lead-is-gone", "--yes"]);
    cloud.set(Faults {
        no_listing: true,
        ..Faults::default()
    });
    let ran = run(&cloud, &typed, None, false, None).await;
    let error = ran.ended.expect_err("not listed");
    assert!(
        error
            .to_string()
            .contains("cannot list what ml has in aws:us-east-1"),
        "{error}"
    );
    assert_eq!(ran.left.len(), 5, "unknown is not empty");
    cloud.set(Faults {
        lost_terminations: 1,
        ..Faults::default()
    });
    let ran = run(&cloud, &typed, None, true, None).await;
    let error = ran.ended.expect_err("one is left");
    assert_eq!(error.code(), 1);
    let document: Value = serde_json::from_str(&ran.said).expect("one JSON document");
    let left = document["left"].as_array().expect("a list");
    assert_eq!(left.len(), 1, "{document:#}");
    let named = ids.iter().any(|id| {
        left[0]
            .as_str()
            .is_some_and(|text| text.contains(id.as_str()))
    });
    assert!(named, "{document:#}");
}

#[tokio::test]
async fn json_tells_every_instance_with_its_verdict() {
    let (cloud, ids) = cloud().await;
    let lead = known(&[&ids[1]]);
    let ran = run(&cloud, &args(&["--dry-run"]), Some(&lead), true, None).await;
    let document: Value = serde_json::from_str(&ran.said).expect("one JSON document");
    let verdict = |id: &String| -> String {
        let all = document["instances"].as_array().expect("a list");
        let one = all.iter().find(|i| i["id"] == id.as_str()).expect("listed");
        one["verdict"].as_str().expect("a word").to_owned()
    };
    let verdicts: Vec<String> = ids[..4].iter().map(verdict).collect();
    assert_eq!(verdicts, ["kept", "kept", "orphan", "kept"]);
    assert_eq!(document["fleet"], "ml");
}

#[test]
fn codes_follow_what_the_caller_can_do() {
    let cloud = |class| CommandError::cloud("x")(CloudError::new(class, "y")).code();
    assert_eq!(cloud(FailureClass::Auth), 4);
    assert_eq!(cloud(FailureClass::Transient), 5);
    assert_eq!(cloud(FailureClass::Invalid), 2);
    assert_eq!(CommandError::Usage(String::new()).code(), 2);
    assert_eq!(CommandError::Unreachable(String::new()).code(), 5);
}
