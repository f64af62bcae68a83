//! What a person types: exit codes, JSON that programs rely on, words that say what to do.

use gpuloom_tests::{LONG, PROVIDER, Rig, Terraform};
use serde_json::Value;
use std::collections::BTreeSet;

fn fleet_of_one(rig: &Rig) -> Terraform {
    let terraform = rig.terraform();
    terraform.write(&format!(
        r#"{PROVIDER}
resource "gpuloom_fleet" "c" {{
  name = "c"
  local {{ simulate = "1xT4" }}
}}
resource "gpuloom_pool" "t4" {{
  fleet = gpuloom_fleet.c.connection
  name  = "t4"
  gpu   = {{ model = "T4" }}
  local {{}}
  autoscaling {{
    min = 1
    max = 1
  }}
  on_destroy = "kill"
}}
resource "gpuloom_tenant" "a" {{
  fleet = gpuloom_fleet.c.connection
  name  = "a"
}}
"#
    ));
    terraform.apply(&[]);
    terraform
}

/// Each has exactly these members: programs rely on them.
#[track_caller]
fn has_members(what: &str, value: &Value, expected: &[&str]) {
    let found: BTreeSet<&str> = value
        .as_object()
        .unwrap_or_else(|| panic!("{what} is no object: {value}"))
        .keys()
        .map(String::as_str)
        .collect();
    let missing: Vec<_> = expected
        .iter()
        .filter(|name| !found.contains(**name))
        .collect();
    assert!(missing.is_empty(), "{what} lacks {missing:?}: {value}");
}

#[test]
fn every_command_answers_people_and_programs_and_says_what_to_do() {
    let rig = Rig::new();
    let terraform = fleet_of_one(&rig);
    let fleet = rig.fleet("c");

    // Shapes.
    let job = fleet.submit(&["--tenant", "a", "--label", "k=v", "--", "echo", "hello"]);
    fleet.state_is(&job, "succeeded", LONG);
    let one = fleet.job(&job);
    has_members(
        "a job",
        &one,
        &[
            "id",
            "state",
            "state_since_ms",
            "submitted_at_ms",
            "priority",
            "failures",
            "preemptions",
            "why",
            "position",
            "memory_used_bytes",
            "spec",
            "attempts",
        ],
    );
    has_members(
        "an attempt",
        &one["attempts"][0],
        &[
            "number",
            "node",
            "state",
            "granted_at_ms",
            "started_at_ms",
            "ended_at_ms",
            "exit_code",
            "signal",
            "reason",
            "grants",
        ],
    );
    has_members(
        "a grant",
        &one["attempts"][0]["grants"][0],
        &["device", "share_milli", "memory_bytes"],
    );
    assert_eq!(
        fleet.json(&["jobs", "--label", "k=v"])["jobs"][0]["id"],
        job.as_str()
    );
    assert_eq!(
        fleet.json(&["jobs", "--label", "k=other"])["jobs"],
        serde_json::json!([])
    );
    let nodes = fleet.json(&["nodes"]);
    has_members(
        "a node",
        &nodes["nodes"][0],
        &[
            "id",
            "pool",
            "state",
            "reason",
            "endpoint",
            "backend",
            "agent_version",
            "last_seen_ms",
            "joined_at_ms",
            "capabilities",
            "devices",
        ],
    );
    assert_eq!(nodes["nodes"][0]["backend"], "simulated");
    let devices = fleet.json(&["devices"]);
    has_members(
        "a device",
        &devices["devices"][0],
        &[
            "id",
            "node",
            "index",
            "model",
            "memory_bytes",
            "health",
            "share_held_milli",
            "memory_held_bytes",
            "attempts",
            "reading",
        ],
    );
    let device = devices["devices"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    has_members(
        "a history",
        &fleet.json(&["devices", "--history", &device]),
        &["device", "capacity", "readings"],
    );
    let history = fleet.json(&["devices", "--history", &device]);
    assert_eq!(history["capacity"], 100);
    has_members(
        "top",
        &fleet.json(&["top", "--once"]),
        &[
            "fleet",
            "at_ms",
            "jobs_pending",
            "jobs_active",
            "gpus_total",
            "gpus_held_milli",
            "nodes",
            "usage",
        ],
    );
    has_members(
        "a queue",
        &fleet.json(&["queue"]),
        &["jobs", "pending", "active"],
    );
    has_members(
        "a quota",
        &fleet.json(&["quota"])["usage"][0],
        &[
            "tenant",
            "pool",
            "gpus_milli",
            "gpu_memory_bytes",
            "pending",
            "active",
            "guaranteed",
            "limit",
            "soft_limit",
        ],
    );
    has_members(
        "a pool",
        &fleet.json(&["pools"])["pools"][0],
        &["kind", "name", "generation", "owner", "spec", "status"],
    );
    let events = fleet.events();
    assert!(
        events.iter().all(|e| e["what"]["event"].is_string()),
        "{events:?}"
    );

    // Tables for people.
    for (args, words) in [
        (vec!["jobs"], "succeeded"),
        (vec!["why", &job], "exit"),
        (vec!["nodes"], "ready"),
        (vec!["nodes"], "simulated"),
        (vec!["devices"], "T4"),
        (vec!["devices", "--history", &device], ""),
        (vec!["top", "--once"], "T4"),
        (vec!["quota"], "a"),
        (vec!["queue"], ""),
        (vec!["pools"], "ready"),
        (vec!["pools", "wait", "t4", "--timeout", "10s"], "1"),
        (vec!["objects", "tenant"], "a"),
        (vec!["get", "pool", "t4"], "gpu_model"),
        (vec!["events"], "joined pool t4"),
        (vec!["events"], &format!("attempt {job}#1 started")),
        (vec!["logs", &job], "hello"),
    ] {
        let answer = fleet.ok(&args);
        assert!(answer.stdout.contains(words), "{args:?}: {answer:?}");
        assert!(
            !answer.stdout.contains('\u{1b}'),
            "no colours where nobody looks: {answer:?}"
        );
    }

    // Refusals: an exit code for programs, words for people, a document where it is asked for.
    let node = nodes["nodes"][0]["id"].as_str().expect("an id").to_owned();
    fleet.refuses(&["why", "999"], 3, "gpuloom jobs");
    fleet.refuses(&["logs", "999"], 3, "999");
    fleet.refuses(&["cancel", "999"], 3, "999");
    fleet.refuses(&["get", "tenant", "ghost"], 3, "ghost");
    fleet.refuses(&["pools", "wait", "ghost"], 3, "ghost");
    fleet.refuses(&["cordon", "ghost"], 3, "ghost");
    fleet.refuses(&["devices", "--history", "GPU-ghost"], 3, "GPU-ghost");
    fleet.refuses(&["token", "revoke", "ghost"], 3, "ghost");
    fleet.refuses(&["token", "create", "--tenant", "ghost"], 3, "ghost");
    fleet.refuses(
        &["token", "create", "--tenant", "a", "--ttl", "1s"],
        2,
        "ttl",
    );
    fleet.refuses(&["submit", "--tenant", "ghost", "--", "true"], 2, "ghost");
    fleet.refuses(
        &["submit", "--tenant", "a", "--pool", "ghost", "--", "true"],
        2,
        "ghost",
    );
    fleet.refuses(
        &[
            "submit",
            "--tenant",
            "a",
            "--priority",
            "ghost",
            "--",
            "true",
        ],
        2,
        "ghost",
    );
    fleet.refuses(
        &["submit", "--tenant", "a", "--after", "999", "--", "true"],
        2,
        "999",
    );
    fleet.refuses(&["submit", "--", "true"], 2, "--tenant");
    fleet.refuses(
        &["submit", "--tenant", "a", "--gpus", "1.5", "--", "true"],
        2,
        "share of one GPU",
    );
    fleet.refuses(&["frobnicate"], 2, "frobnicate");
    let document = fleet.run(&["-o", "json", "why", "999"]);
    let document: Value = serde_json::from_str(&document.stderr).expect("a document on stderr");
    assert_eq!(document["error"]["code"], "not_found");
    assert_eq!(document["error"]["exit_code"], 3);

    // Who may not, and who cannot be reached.
    let foreign = rig.keygen("foreign.pem");
    fleet.with_key(&foreign).refuses(&["jobs"], 4, "");
    let mut elsewhere = fleet.clone();
    elsewhere.endpoint = "127.0.0.1:1".to_owned();
    elsewhere.refuses(&["jobs"], 5, "127.0.0.1:1");
    let mut pinned = fleet.clone();
    pinned.ca_pin = format!("sha256:{}", "0".repeat(64));
    pinned.refuses(&["jobs"], 4, "pin");

    // Out of service and back.
    fleet.ok(&["cordon", &node, "--reason", "dust"]);
    assert_eq!(fleet.json(&["nodes"])["nodes"][0]["state"], "cordoned");
    let waiting = fleet.submit(&["--tenant", "a", "--", "true"]);
    assert_eq!(fleet.job(&waiting)["state"], "pending");
    fleet.ok(&["uncordon", &node]);
    fleet.state_is(&waiting, "succeeded", LONG);
    terraform.destroy();
    rig.nothing_is_left();
}

#[test]
fn what_needs_no_fleet_works_without_one() {
    let rig = Rig::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = rig.say(&["completion", shell]);
        assert!(
            script.code == 0
                && script.stdout.contains("cordon")
                && script.stdout.contains("ca-pin"),
            "{shell}: {}",
            script.stderr
        );
    }
    let bash = rig.dir().join("completion.bash");
    std::fs::write(&bash, rig.say(&["completion", "bash"]).stdout).expect("the folder is ours");
    let read = std::process::Command::new("bash")
        .arg("-n")
        .arg(&bash)
        .output()
        .expect("bash is there");
    assert!(
        read.status.success(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );

    let help = rig.say(&["--help"]);
    assert!(
        help.code == 0
            && help.stdout.contains("GPULOOM_ENDPOINT")
            && help.stdout.contains("Exit codes"),
        "{help:?}"
    );
    let version = rig.say(&["--version"]);
    assert_eq!(
        (version.code, version.stdout.trim()),
        (0, format!("gpuloom {}", env!("CARGO_PKG_VERSION")).as_str())
    );
    let lost = rig.say(&["jobs"]);
    assert!(
        lost.code == 2 && lost.stderr.contains("GPULOOM_ENDPOINT"),
        "{lost:?}"
    );
    let key = rig.say(&["-o", "json", "keygen"]).json();
    assert!(
        key["private_key_pem"]
            .as_str()
            .is_some_and(|k| k.contains("BEGIN PRIVATE KEY")),
        "{key}"
    );
    let again = rig.say(&[
        "keygen",
        "--out",
        &rig.key("admin.pem").display().to_string(),
    ]);
    assert!(
        again.code == 1 && again.stderr.contains("admin.pem"),
        "{again:?}"
    );
}
