//! Agents that die: the plan still works, an apply mends it, jobs go on, and destroy finds what is left by its tags.

use gpuloom_tests::{LONG, PROVIDER, Rig, SHORT, Terraform, is_alive, kill, mentioning, until};
use serde_json::Value;

const FLEET: &str = r#"
resource "gpuloom_fleet" "g" {
  name = "g"
  local { simulate = "2xT4" }
}
resource "gpuloom_pool" "t4" {
  fleet = gpuloom_fleet.g.connection
  name  = "t4"
  gpu   = { model = "T4" }
  local {}
  autoscaling {
    min = 1
    max = 1
  }
  on_destroy = "kill"
}
resource "gpuloom_tenant" "a" {
  fleet = gpuloom_fleet.g.connection
  name  = "a"
}
resource "gpuloom_quota" "a" {
  fleet  = gpuloom_fleet.g.connection
  name   = "a"
  tenant = gpuloom_tenant.a.name
  limit  = { gpus = 2 }
}
"#;

fn applied(rig: &Rig) -> Terraform {
    let terraform = rig.terraform();
    terraform.write(&format!("{PROVIDER}{FLEET}"));
    terraform.apply(&[]);
    terraform
}

#[track_caller]
fn pid_of(rig: &Rig, instance: &str) -> i32 {
    let pid = rig.agent_pid(instance);
    pid.unwrap_or_else(|| panic!("the agent of {instance} does not run"))
}

#[track_caller]
fn kill_agent(rig: &Rig, instance: &str) -> i32 {
    let pid = pid_of(rig, instance);
    kill(pid);
    until("it is dead", SHORT, || {
        (!is_alive(pid))
            .then_some(())
            .ok_or_else(|| pid.to_string())
    });
    pid
}

fn node_of(rig: &Rig) -> String {
    let found = rig.instances().into_iter().find(|id| id.starts_with("t4-"));
    found.expect("a node of the pool")
}

/// The pid of the job that sleeps for `seconds`.
#[track_caller]
fn sleeper(rig: &Rig, seconds: &str) -> i32 {
    until("the job's process", SHORT, || {
        let all = mentioning(rig.dir());
        let found = all
            .iter()
            .find(|(_, line)| *line == format!("sleep {seconds}"));
        found.map(|(pid, _)| *pid).ok_or_else(|| format!("{all:?}"))
    })
}

#[test]
fn a_lead_that_was_killed_is_started_again_in_place_with_its_jobs() {
    let rig = Rig::new();
    let terraform = applied(&rig);
    let fleet = rig.fleet("g");
    let job = fleet.submit(&["--tenant", "a", "--", "sleep", "601"]);
    fleet.runs(&job, LONG);
    let process = sleeper(&rig, "601");
    let before = terraform.values("gpuloom_fleet.g");
    let waiting = fleet.submit(&["--tenant", "a", "--", "sleep", "1"]);
    let dead = kill_agent(&rig, "lead-g");

    // Only the lead is planned; what it keeps is neither lost nor planned anew.
    terraform.plan_is(&[("gpuloom_fleet.g", "update")]);
    let warned = terraform.try_plan(&[]).diagnostics("warning");
    assert!(
        warned.iter().any(|w| w.contains("does not answer")),
        "{warned:#?}"
    );
    terraform.apply(&[]);
    terraform.plan_is_empty();
    assert_ne!(pid_of(&rig, "lead-g"), dead);
    let after = terraform.values("gpuloom_fleet.g");
    assert_eq!(
        after["connection"], before["connection"],
        "the connection stays the same"
    );

    // The job was adopted: the same process, its first attempt; and the fleet goes on.
    let seen = fleet.runs(&job, LONG);
    assert_eq!(seen["number"], 1, "{seen}");
    assert_eq!(sleeper(&rig, "601"), process);
    fleet.ok(&["cancel", &job]);
    fleet.state_is(&job, "cancelled", SHORT);
    until("its process is gone", SHORT, || {
        (!is_alive(process))
            .then_some(())
            .ok_or_else(|| process.to_string())
    });
    fleet.state_is(&waiting, "succeeded", LONG);
    terraform.destroy();
    rig.nothing_is_left();
}

#[test]
fn a_node_that_was_killed_is_started_again_by_its_lead_and_adopts_its_job() {
    let rig = Rig::new();
    let terraform = applied(&rig);
    let fleet = rig.fleet("g");
    let job = fleet.submit(&["--tenant", "a", "--", "sleep", "602"]);
    fleet.runs(&job, LONG);
    let process = sleeper(&rig, "602");
    let node = node_of(&rig);
    let dead = kill_agent(&rig, &node);
    let again = until("the lead starts the node again", LONG, || {
        rig.agent_pid(&node)
            .filter(|pid| *pid != dead)
            .ok_or_else(|| "no agent".to_owned())
    });
    assert_ne!(again, dead);
    until("the node is ready", LONG, || {
        let nodes = fleet.json(&["nodes"]);
        (nodes["nodes"][0]["state"] == "ready")
            .then_some(())
            .ok_or_else(|| nodes.to_string())
    });
    let seen = fleet.job(&job);
    assert_eq!(seen["attempts"].as_array().map(Vec::len), Some(1), "{seen}");
    assert_eq!(seen["attempts"][0]["state"], "running", "{seen}");
    assert_eq!(sleeper(&rig, "602"), process);
    assert_eq!(rig.instances().len(), 2, "no second node was launched");
    terraform.plan_is_empty();
    // Its end is seen by the agent that adopted it.
    kill(process);
    let ended = fleet.state_is(&job, "failed", SHORT);
    assert_eq!(ended["attempts"][0]["signal"], 9, "{ended}");
    terraform.destroy();
    rig.nothing_is_left();
}

#[test]
fn a_fleet_whose_lead_is_dead_is_destroyed_by_what_its_machine_lists() {
    let rig = Rig::new();
    let terraform = applied(&rig);
    let fleet = rig.fleet("g");
    let job = fleet.submit(&["--tenant", "a", "--", "sleep", "603"]);
    fleet.runs(&job, LONG);
    let process = sleeper(&rig, "603");
    kill_agent(&rig, "lead-g");
    let done = terraform.destroy();
    let warned = done.diagnostics("warning");
    assert!(
        warned.iter().any(|w| w.contains("without its lead")),
        "{warned:#?}"
    );
    assert!(!is_alive(process), "the node's job outlived it");
    assert_eq!(terraform.state(), []);
    rig.nothing_is_left();
}

#[test]
fn a_fleet_whose_lead_is_gone_with_its_instance_is_made_anew() {
    let rig = Rig::new();
    let terraform = applied(&rig);
    let before = terraform.values("gpuloom_fleet.g")["connection"]["id"].clone();
    // As if the machine had been made anew: no agent, no directory, no cgroup.
    rig.wipe();
    let planned = terraform.plan();
    let fleet = planned.iter().find(|c| c.address == "gpuloom_fleet.g");
    assert_eq!(
        fleet.map(|c| c.action.as_str()),
        Some("create"),
        "{planned:?}"
    );
    terraform.apply(&[]);
    terraform.plan_is_empty();
    let after = terraform.values("gpuloom_fleet.g")["connection"]["id"].clone();
    assert!(after != before && after != Value::Null, "{before} {after}");
    assert_eq!(rig.instances().len(), 2);
    let fleet = rig.fleet("g");
    assert_eq!(
        fleet.json(&["get", "quota", "a"])["spec"]["limit"]["gpus_milli"],
        2000
    );
    terraform.destroy();
    rig.nothing_is_left();
}

#[test]
fn another_agent_binary_upgrades_the_lead_in_place() {
    let rig = Rig::new();
    let terraform = applied(&rig);
    let fleet = rig.fleet("g");
    let job = fleet.submit(&["--tenant", "a", "--", "sleep", "604"]);
    fleet.runs(&job, LONG);
    let before = terraform.values("gpuloom_fleet.g");
    let folder = rig.dir().join("other");
    std::fs::create_dir(&folder).expect("the folder is ours");
    let other = folder.join("gpuloom");
    let mut program = std::fs::read(&rig.built.gpuloom).expect("it is built");
    // Bytes after the end of an ELF file change its checksum and nothing else.
    program.extend(b"another build");
    std::fs::write(&other, program).expect("the folder is ours");
    let mode = std::fs::metadata(&rig.built.gpuloom)
        .expect("it is built")
        .permissions();
    std::fs::set_permissions(&other, mode).expect("the file is ours");
    std::fs::copy(
        &rig.built.driver,
        folder.join(rig.built.driver.file_name().expect("a file")),
    )
    .expect("copied");

    let provider = format!(
        "provider \"gpuloom\" {{\n  local {{\n    agent_binary = {:?}\n  }}\n}}\n",
        other.display().to_string()
    );
    terraform.write(&format!("{PROVIDER}{FLEET}{provider}"));
    terraform.plan_is(&[("gpuloom_fleet.g", "update")]);
    terraform.apply(&[]);
    terraform.plan_is_empty();
    let after = terraform.values("gpuloom_fleet.g");
    assert_ne!(after["agent_sha256"], before["agent_sha256"]);
    assert_eq!(after["connection"], before["connection"]);
    let seen = fleet.runs(&job, LONG);
    assert_eq!(seen["number"], 1, "{seen}");
    fleet.cancel_all();
    terraform.destroy();
    rig.nothing_is_left();
}
