//! One story on three clouds: a pool from its creation to nothing, through what clouds do to it.

use gpuloom_tests::{CloudRig, Fleet, Kind, LONG, PROVIDER, Rig, SECRETS, SHORT, Terraform, until};
use std::path::Path;
use std::time::Duration;

/// A node has to boot, to prove who it is and to join.
const BOOT: Duration = Duration::from_secs(150);

fn hcl(cloud: &CloudRig, min: u32, max: u32, more: &str) -> String {
    format!(
        r#"{PROVIDER}
resource "gpuloom_fleet" "c" {{
  name = "c"
  local {{}}
}}
resource "gpuloom_tenant" "a" {{
  fleet = gpuloom_fleet.c.connection
  name  = "a"
}}
resource "gpuloom_pool" "p" {{
  fleet = gpuloom_fleet.c.connection
  name  = "p"
  gpu   = {{ model = "{}" }}
  {}
  autoscaling {{
    min = {min}
    max = {max}
  }}
  on_destroy = "kill"
  {more}
}}
"#,
        cloud.model(),
        cloud.block()
    )
}

/// So many exist, all of them ready.
fn stands(fleet: &Fleet, cloud: &CloudRig, nodes: u64) {
    let what = format!("has {nodes} nodes");
    fleet.pool_is("p", &what, BOOT, |p| {
        p["ready"] == nodes && p["provisioned"] == nodes
    });
    until("the double has as many", LONG, || {
        let there = cloud.instances();
        let exact = there.len() as u64 == nodes;
        exact.then_some(()).ok_or(format!("{there:?}"))
    });
}

fn story(kind: Kind) {
    let rig = Rig::new();
    let cloud = CloudRig::start(kind, rig.dir(), &rig.built);
    let terraform = rig.terraform_with(&cloud.env());
    terraform.write(&hcl(&cloud, 3, 3, ""));
    terraform.apply(&[]);
    terraform.plan_is_empty();
    let fleet = rig.fleet("c");
    stands(&fleet, &cloud, 3);
    for seen in cloud.instances() {
        for secret in SECRETS {
            assert!(!seen.user_data.contains(secret), "{}", seen.user_data);
        }
        assert!(
            seen.user_data.starts_with("#!/bin/sh"),
            "{}",
            seen.user_data
        );
        assert!(
            !seen.user_data.contains("PRIVATE KEY"),
            "{}",
            seen.user_data
        );
    }

    // One is killed behind our back: the lead restores three, and the plan stays empty.
    let victim = cloud.instances()[0].id.clone();
    cloud.kill(&victim);
    until("it is gone", SHORT, || {
        let there = cloud.instances().iter().any(|i| i.id == victim);
        (!there).then_some(()).ok_or(victim.clone())
    });
    stands(&fleet, &cloud, 3);
    terraform.plan_is_empty();

    a_job_runs(&rig, &fleet);
    a_notice_drains(&fleet, &cloud);

    // Bounds and the spot ratio change in place.
    terraform.write(&hcl(&cloud, 2, 2, ""));
    terraform.plan_is(&[("gpuloom_pool.p", "update")]);
    terraform.apply(&[]);
    stands(&fleet, &cloud, 2);
    let spot = "capacity {\n    spot_ratio = 1\n  }";
    terraform.write(&hcl(&cloud, 2, 2, spot));
    terraform.plan_is(&[("gpuloom_pool.p", "update")]);
    terraform.apply(&[]);
    terraform.write(&hcl(&cloud, 3, 3, spot));
    terraform.apply(&[]);
    until("what is new is spot", BOOT, || {
        let there = cloud.instances();
        let spot = there.iter().filter(|i| i.spot).count();
        (spot > 0).then_some(()).ok_or(format!("{there:?}"))
    });
    stands(&fleet, &cloud, 3);

    imports(&terraform);
    no_secret(rig.dir(), &terraform);
    terraform.destroy();
    assert_eq!(cloud.instances(), [], "destroy leaves nothing");
    assert_eq!(cloud.violations(), Vec::<String>::new());
    rig.nothing_is_left();
}

fn a_job_runs(rig: &Rig, fleet: &Fleet) {
    let workload = rig.workload();
    let job = ["--tenant", "a", "--pool", "p", "--", workload.as_str()];
    let job = [&job[..], &["--gpu-memory", "1GiB", "--duration", "1s"]].concat();
    let job = fleet.submit(&job);
    fleet.state_is(&job, "succeeded", LONG);
}

/// The node of a running job is announced to go: the job goes on elsewhere, and the node is replaced.
fn a_notice_drains(fleet: &Fleet, cloud: &CloudRig) {
    let job = [
        "--tenant", "a", "--pool", "p", "--grace", "1s", "--", "sleep", "600",
    ];
    let job = fleet.submit(&job);
    let first = fleet.runs(&job, LONG);
    let node = first["node"].as_str().expect("a node").to_owned();
    cloud.preempt(&node, 30_000);
    let elsewhere = |job: &serde_json::Value| {
        let last = job["attempts"].as_array().and_then(|a| a.last()).cloned();
        last.is_some_and(|a| a["state"] == "running" && a["node"] != node.as_str())
    };
    fleet.job_is(&job, "runs elsewhere", LONG, elsewhere);
    fleet.ok(&["cancel", &job]);
    until("the node is replaced", BOOT, || {
        let there = cloud.instances();
        let gone = !there.iter().any(|i| i.id == node);
        gone.then_some(()).ok_or(format!("{there:?}"))
    });
    stands(fleet, cloud, 3);
}

fn imports(terraform: &Terraform) {
    terraform.ok(&["state", "rm", "gpuloom_pool.p"]);
    terraform.ok(&[
        "import",
        "-no-color",
        "-input=false",
        "gpuloom_pool.p",
        "c/p",
    ]);
    terraform.plan_is_empty();
}

/// Nothing below `dir` but the credentials' own files holds a secret: state, plans, logs, configurations.
fn no_secret(dir: &Path, terraform: &Terraform) {
    let mut folders = vec![dir.to_owned(), terraform.folder()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let kind = entry.file_type().expect("it is listed");
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).unwrap_or_default();
                for secret in SECRETS {
                    let holds = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
                    assert!(!holds, "{} holds a secret", path.display());
                }
            }
        }
    }
}

/// The first zone has no room: the next is tried. None has: the apply ends with the true counts, and the lead goes on.
fn shortage(kind: Kind) {
    let rig = Rig::new();
    let cloud = CloudRig::start(kind, rig.dir(), &rig.built);
    let terraform = rig.terraform_with(&cloud.env());
    cloud.set_first_room(0);
    let degrade = "capacity {\n    on_shortfall = \"degrade\"\n    max_wait = \"20s\"\n  }";
    terraform.write(&hcl(&cloud, 1, 1, ""));
    terraform.apply(&[]);
    let fleet = rig.fleet("c");
    stands(&fleet, &cloud, 1);

    cloud.set_room(1);
    terraform.write(&hcl(&cloud, 2, 2, degrade));
    let done = terraform.apply(&[]);
    let warnings = done.diagnostics("warning");
    let told = warnings
        .iter()
        .any(|w| w.contains("Pool p has 1 of 2 nodes"));
    assert!(told, "{warnings:#?}");
    let values = terraform.values("gpuloom_pool.p");
    assert_eq!(values["ready_size"], 1, "{values}");
    terraform.plan_is_empty();
    terraform.destroy();
    assert_eq!(cloud.instances(), []);
    assert_eq!(cloud.violations(), Vec::<String>::new());
    rig.nothing_is_left();
}

#[test]
fn aws_pool_lives_from_its_creation_to_nothing() {
    story(Kind::Aws);
}

#[test]
fn gcp_pool_lives_from_its_creation_to_nothing() {
    story(Kind::Gcp);
}

#[test]
fn azure_pool_lives_from_its_creation_to_nothing() {
    story(Kind::Azure);
}

#[test]
fn aws_shortage_takes_the_next_zone_and_is_told() {
    shortage(Kind::Aws);
}

#[test]
fn gcp_shortage_takes_the_next_zone_and_is_told() {
    shortage(Kind::Gcp);
}

#[test]
fn azure_shortage_takes_the_next_zone_and_is_told() {
    shortage(Kind::Azure);
}
