//! Jobs: a thousand of three tenants without one broken promise, and everything a single one may ask for.

use gpuloom_tests::{
    Audit, Fleet, LONG, LimitOf, Needs, PROVIDER, Rig, SHORT, Terraform, mentioning, run, until,
};
use serde_json::Value;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

fn main() {
    run(&[
        (
            "a_thousand_jobs_of_three_tenants_finish_within_every_quota",
            Needs::Nothing,
            a_thousand_jobs,
        ),
        (
            "jobs_do_what_was_asked_of_them",
            Needs::Nothing,
            single_jobs,
        ),
        (
            "a_job_above_its_memory_limit_is_stopped_and_its_neighbour_is_not",
            Needs::Nothing,
            memory_limits,
        ),
        ("a_job_runs_as_nobody", Needs::Root, as_nobody),
    ]);
}

/// How long a thousand jobs may take on a slow machine.
const THOUSAND: Duration = Duration::from_secs(240);

fn fleet_of(
    rig: &Rig,
    simulate: &str,
    nodes: u32,
    per_node: u32,
    more: &str,
) -> (Terraform, Fleet) {
    let terraform = rig.terraform();
    let model = simulate
        .split_once('x')
        .map_or(simulate, |(_, model)| model);
    terraform.write(&format!(
        r#"{PROVIDER}
resource "gpuloom_fleet" "j" {{
  name = "j"
  local {{ simulate = "{simulate}" }}
}}
resource "gpuloom_pool" "all" {{
  fleet = gpuloom_fleet.j.connection
  name  = "all"
  gpu   = {{ model = "{model}", per_node = {per_node} }}
  local {{}}
  autoscaling {{
    min = {nodes}
    max = {nodes}
  }}
  on_destroy = "kill"
}}
resource "gpuloom_tenant" "x" {{
  for_each = toset(["a", "b", "c"])
  fleet    = gpuloom_fleet.j.connection
  name     = each.key
}}
{more}
"#
    ));
    terraform.apply(&[]);
    let fleet = rig.fleet("j");
    (terraform, fleet)
}

fn a_thousand_jobs() {
    let rig = Rig::new();
    let quotas = r#"
locals {
  limits = { a = 8, b = 12, c = 16 }
}
resource "gpuloom_quota" "x" {
  for_each = local.limits
  fleet    = gpuloom_fleet.j.connection
  name     = each.key
  tenant   = gpuloom_tenant.x[each.key].name
  limit    = { gpus = each.value }
}
"#;
    let (terraform, fleet) = fleet_of(&rig, "32xA100-80G", 4, 8, quotas);
    // A thousand in all: sizes from a quarter of a GPU to a whole node, three priorities, some that fail at first.
    let mut submitted = 0;
    for (tenant, priority, gpus, array, command) in [
        ("a", "background", "1", 100, "sleep 0.3"),
        ("b", "background", "1", 100, "sleep 0.3"),
        ("c", "background", "2", 60, "sleep 0.3"),
        ("a", "normal", "0.25", 100, "true"),
        ("b", "normal", "0.5", 100, "true"),
        ("c", "normal", "1", 100, "true"),
        ("c", "normal", "8", 10, "true"),
        ("a", "normal", "1", 100, "exit 0"),
        ("b", "normal", "2", 60, "true"),
        ("c", "background", "0.25", 100, "true"),
        ("a", "urgent", "2", 30, "true"),
        ("b", "urgent", "4", 20, "true"),
        ("c", "urgent", "8", 10, "sleep 0.1"),
        ("b", "background", "0.5", 110, "true"),
    ] {
        let count = array.to_string();
        fleet.submit(&[
            "--tenant",
            tenant,
            "--priority",
            priority,
            "--gpus",
            gpus,
            "--array",
            &count,
            "--grace",
            "1s",
            "--",
            "sh",
            "-c",
            command,
        ]);
        submitted += array;
    }
    assert_eq!(submitted, 1000);
    until("all jobs end", THOUSAND, || {
        let queue = fleet.json(&["queue", "--limit", "1"]);
        let open = queue["pending"].as_u64().zip(queue["active"].as_u64());
        match open {
            Some((0, 0)) => Ok(()),
            _ => Err(format!(
                "{} pending, {} active",
                queue["pending"], queue["active"]
            )),
        }
    });
    let limits = [("a", 8_000), ("b", 12_000), ("c", 16_000)];
    let limits = limits.map(|(tenant, gpus_milli)| LimitOf { tenant, gpus_milli });
    let audit = Audit::of(&fleet.events(), &limits);
    audit.holds();
    assert_eq!(audit.finished_as("succeeded"), 1000, "{audit:?}");
    // The property was worth checking: quotas were reached, the machine was full, somebody was preempted.
    assert_eq!(audit.most.get("a"), Some(&8_000), "{:?}", audit.most);
    assert!(
        audit.most_in_all > 24_000,
        "{} of 32,000",
        audit.most_in_all
    );
    assert!(audit.preemptions > 0, "nobody was preempted");
    let top = fleet.json(&["top", "--once"]);
    assert_eq!(top["gpus_held_milli"], 0, "what ended holds nothing");
    terraform.destroy();
    rig.nothing_is_left();
}

fn single_jobs() {
    let rig = Rig::new();
    let (terraform, fleet) = fleet_of(&rig, "4xT4", 2, 2, "");
    the_environment_and_the_logs(&rig, &fleet);
    arrays_and_dependencies(&rig, &fleet);
    retries_and_walltime(&fleet);
    cancelling(&rig, &fleet);
    run_and_follow(&rig, &fleet);
    fractions_and_gangs(&fleet);
    tenants_apart(&fleet);
    Audit::of(&fleet.events(), &[]).holds();
    terraform.destroy();
    rig.nothing_is_left();
}

fn script(tenant: &'static str, text: &'static str) -> Vec<&'static str> {
    vec!["--tenant", tenant, "--", "sh", "-c", text]
}

fn with(flags: &[&'static str], script: Vec<&'static str>) -> Vec<&'static str> {
    [flags, &script].concat()
}

fn the_environment_and_the_logs(rig: &Rig, fleet: &Fleet) {
    let text = "echo out $GREETING; echo err >&2; echo \"$CUDA_VISIBLE_DEVICES\"; pwd; ls \"$GPULOOM_SIM_STATE\" >/dev/null && echo driver";
    let id = fleet.submit(&with(
        &["--env", "GREETING=hi", "--name", "greeter"],
        script("a", text),
    ));
    let job = fleet.state_is(&id, "succeeded", LONG);
    assert_eq!(job["spec"]["name"], "greeter");
    let device = job["attempts"][0]["grants"][0]["device"]
        .as_str()
        .expect("a device")
        .to_owned();
    let out = fleet.ok(&["logs", &id, "--stream", "stdout"]).stdout;
    let lines: Vec<_> = out.lines().collect();
    assert_eq!((lines[0], lines[1]), ("out hi", device.as_str()), "{out}");
    assert!(
        lines[2].starts_with(&rig.root().display().to_string()),
        "a directory of its own: {out}"
    );
    assert_eq!(lines[3], "driver", "{out}");
    assert_eq!(
        fleet.ok(&["logs", &id, "--stream", "stderr"]).stderr,
        "err\n"
    );

    // -f shows what comes, as it comes, and ends with the job.
    let slow = fleet.submit(&script(
        "a",
        "echo first; while [ ! -e go ]; do sleep 0.1; done; echo last",
    ));
    fleet.runs(&slow, LONG);
    let mut follow = fleet.start(&["logs", "-f", &slow]);
    let mut pipe = follow.stdout.take().expect("it is piped");
    let mut seen = [0; 6];
    pipe.read_exact(&mut seen)
        .expect("the first line comes before the job ends");
    assert_eq!(&seen, b"first\n");
    release(rig, fleet, &slow);
    let mut rest = String::new();
    pipe.read_to_string(&mut rest)
        .expect("it ends with the job");
    assert_eq!(rest, "last\n");
    assert!(follow.wait().expect("it ends").success());
}

/// Lets a job go on that waits for a file `go` in its working directory.
fn release(rig: &Rig, fleet: &Fleet, id: &str) {
    let node = fleet.runs(id, LONG)["node"]
        .as_str()
        .expect("a node")
        .to_owned();
    let work = rig
        .instance(&node)
        .join("attempts")
        .join(format!("{id}-1/work"));
    std::fs::write(work.join("go"), "").unwrap_or_else(|e| panic!("{}: {e}", work.display()));
}

fn arrays_and_dependencies(rig: &Rig, fleet: &Fleet) {
    let array = fleet.submit(&with(
        &["--array", "3", "--gpus", "0.2"],
        script(
            "b",
            "echo $GPULOOM_ARRAY_INDEX; test $GPULOOM_ARRAY_INDEX != 9",
        ),
    ));
    let after: &'static str = Box::leak(array.clone().into_boxed_str());
    let next = fleet.submit(&with(&["--after", after], script("b", "true")));
    fleet.state_is(&next, "succeeded", LONG);
    for index in 0..3 {
        let element = format!("{array}.{index}");
        assert_eq!(fleet.job(&element)["state"], "succeeded");
        assert_eq!(fleet.ok(&["logs", &element]).stdout, format!("{index}\n"));
    }
    assert_eq!(
        fleet.json(&["jobs", &array])["jobs"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );

    let failing = fleet.submit(&script(
        "b",
        "while [ ! -e go ]; do sleep 0.1; done; exit 3",
    ));
    let of: &'static str = Box::leak(failing.clone().into_boxed_str());
    let of_failed: &'static str = Box::leak(format!("{failing}:failed").into_boxed_str());
    let never = fleet.submit(&with(&["--after", of], script("b", "true")));
    let always = fleet.submit(&with(&["--after", of_failed], script("b", "true")));
    release(rig, fleet, &failing);
    let failed = fleet.state_is(&failing, "failed", LONG);
    assert_eq!(failed["attempts"][0]["exit_code"], 3, "{failed}");
    let cancelled = fleet.state_is(&never, "cancelled", SHORT);
    assert!(
        cancelled["why"].to_string().contains(&failing),
        "{cancelled}"
    );
    fleet.state_is(&always, "succeeded", SHORT);
}

fn retries_and_walltime(fleet: &Fleet) {
    let stubborn = fleet.submit(&with(&["--retries", "2"], script("a", "exit 7")));
    let gone = fleet.submit(&with(
        &["--walltime", "1s", "--grace", "1s"],
        script("b", "sleep 600"),
    ));
    let deaf = fleet.submit(&with(
        &["--walltime", "1s", "--grace", "1s"],
        script("c", "trap '' TERM; while :; do sleep 1; done"),
    ));
    let timed = fleet.state_is(&gone, "timed_out", LONG);
    assert!(timed["why"].to_string().contains("walltime"), "{timed}");
    assert_eq!(timed["attempts"][0]["signal"], 15, "{timed}");
    let killed = fleet.state_is(&deaf, "timed_out", LONG);
    assert_eq!(killed["attempts"][0]["signal"], 9, "{killed}");
    let failed = fleet.state_is(&stubborn, "failed", LONG);
    let attempts = failed["attempts"].as_array().cloned().unwrap_or_default();
    let numbers: Vec<_> = attempts.iter().map(|a| a["number"].clone()).collect();
    assert_eq!(numbers, [1, 2, 3], "{failed}");
    assert_eq!(failed["failures"], 3, "{failed}");
    // A program that does not exist is told as such.
    let absent = fleet.submit(&["--tenant", "a", "--", "/no/such/program"]);
    let absent = fleet.state_is(&absent, "failed", LONG);
    assert!(absent.to_string().contains("/no/such/program"), "{absent}");
}

fn cancelling(rig: &Rig, fleet: &Fleet) {
    // The whole tree goes, children that changed their session too.
    let id = fleet.submit(&with(
        &["--grace", "1s"],
        script("a", "setsid sleep 605 & sleep 605"),
    ));
    fleet.runs(&id, LONG);
    until("both sleep", SHORT, || {
        let all = mentioning(rig.dir());
        let found = all.iter().filter(|(_, line)| *line == "sleep 605").count();
        (found == 2).then_some(()).ok_or_else(|| format!("{all:?}"))
    });
    let said = fleet.json(&["cancel", &id]);
    assert_eq!(said["jobs"][0]["cancelled"], 1, "{said}");
    fleet.state_is(&id, "cancelled", SHORT);
    let left: Vec<_> = mentioning(rig.dir())
        .into_iter()
        .filter(|(_, line)| line.starts_with("sleep 605"))
        .collect();
    assert_eq!(left, [], "of a cancelled job");
    assert_eq!(fleet.json(&["cancel", &id])["jobs"][0]["already_ended"], 1);
}

fn run_and_follow(rig: &Rig, fleet: &Fleet) {
    let answer = fleet.run(&with(
        &["run"],
        script("a", "echo to-stdout; echo to-stderr >&2; exit 42"),
    ));
    assert_eq!(
        (answer.code, answer.stdout.as_str()),
        (42, "to-stdout\n"),
        "{answer:?}"
    );
    assert!(answer.stderr.contains("to-stderr"), "{answer:?}");
    let killed = fleet.run(&with(&["run"], script("a", "kill -9 $$")));
    assert_eq!(killed.code, 137, "{killed:?}");

    // Ctrl-C cancels the job.
    let mut following = fleet.start(&with(
        &["run", "--grace", "1s"],
        script("a", "echo started; sleep 606"),
    ));
    let mut pipe = following.stdout.take().expect("it is piped");
    let mut seen = [0; 8];
    pipe.read_exact(&mut seen).expect("the job's first line");
    let pid = i32::try_from(following.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::INT)
        .expect("it runs");
    assert_eq!(following.wait().expect("it ends").code(), Some(130));
    let left = mentioning(rig.dir())
        .into_iter()
        .any(|(_, line)| line == "sleep 606");
    assert!(!left, "the job goes on");
}

fn fractions_and_gangs(fleet: &Fleet) {
    let hold = ["--grace", "1s", "--tenant", "a"];
    let sleep = ["--", "sleep", "607"];
    let half =
        |share: &'static str| fleet.submit(&[&hold[..], &["--gpus", share], &sleep].concat());
    let grant = |id: &str| fleet.runs(id, LONG)["grants"].clone();
    let (one, two) = (half("0.5"), half("0.5"));
    let (first, second) = (grant(&one), grant(&two));
    assert_eq!(
        first[0]["device"], second[0]["device"],
        "two halves share a device"
    );
    assert_eq!(first[0]["share_milli"], 500);
    assert_eq!(first[0]["memory_bytes"], second[0]["memory_bytes"]);
    // A gang is on one node, on devices of its own.
    let gang = half("2");
    let grants = grant(&gang);
    assert_eq!(grants.as_array().map(Vec::len), Some(2), "{grants}");
    assert!(
        grants[0]["device"] != grants[1]["device"] && grants[0]["device"] != first[0]["device"],
        "{grants}"
    );
    // A second gang does not fit beside the fractions and says why.
    let waits = half("2");
    let why = until("the second gang waits", SHORT, || {
        let why = fleet.why(&waits);
        (!why.is_empty()).then_some(why.clone()).ok_or(why)
    });
    assert!(why.contains("GPU"), "{why}");
    // One that never fits is refused at once.
    let never = ["submit", "--tenant", "a", "--gpus", "4", "--", "true"];
    fleet.refuses(&never, 2, "ask for at most 2");
    fleet.ok(&["cancel", &one, &two, &gang, &waits]);
    fleet.state_is(&gang, "cancelled", SHORT);
    fleet.state_is(&two, "cancelled", SHORT);
    fleet.state_is(&one, "cancelled", SHORT);
}

fn tenants_apart(fleet: &Fleet) {
    let made = fleet.json(&["token", "create", "--tenant", "a", "--ttl", "1h"]);
    let a = fleet.with_token(made["token"].as_str().expect("a token"));
    let b = fleet.with_token(&fleet.token("b"));
    let own = a.submit(&["--", "sleep", "608"]);
    a.runs(&own, LONG);
    assert_eq!(
        fleet.job(&own)["spec"]["tenant"],
        "a",
        "a token speaks for its tenant"
    );
    for args in [["why", &own], ["cancel", &own], ["logs", &own]] {
        b.refuses(&args, 3, &own);
    }
    b.refuses(&["submit", "--tenant", "a", "--", "true"], 4, "tenant");
    let listed = b.json(&["jobs"]);
    assert!(
        listed["jobs"]
            .as_array()
            .is_some_and(|j| j.iter().all(|j| j["spec"]["tenant"] == "b")),
        "{listed}"
    );
    for args in [
        &["token", "create", "--tenant", "a"][..],
        &["cordon", "n"],
        &["events"],
        &["get", "tenant", "a"],
    ] {
        let refused = b.run(args);
        assert!([3, 4].contains(&refused.code), "{args:?}: {refused:?}");
    }
    let known = b.json(&["objects", "tenant"]);
    let names: Vec<_> = known["objects"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|o| &o["name"])
        .collect();
    assert_eq!(names, ["b"], "{known}");
    // That a device is taken everybody sees; by what, only its owner.
    for args in [
        ["-o", "json", "devices"],
        ["-o", "json", "top"],
        ["-o", "json", "queue"],
    ] {
        let seen = b.ok(&args).stdout;
        assert!(
            !seen.contains("608"),
            "another tenant's command is shown: {seen}"
        );
    }
    a.ok(&["cancel", &own]);
    fleet.state_is(&own, "cancelled", SHORT);
    fleet.ok(&["token", "revoke", made["id"].as_str().expect("an id")]);
    a.refuses(&["jobs"], 4, "");
    fleet
        .with_token("glt_nonsense")
        .refuses(&["jobs"], 2, "token");
}

fn memory_limits() {
    let rig = Rig::new();
    let (terraform, fleet) = fleet_of(&rig, "1xT4", 1, 1, "");
    let workload = rig.workload();
    let share = ["--gpus", "0.5", "--gpu-memory", "4GiB", "--grace", "0s"];
    let quiet = ["--tenant", "a", "--", &workload, "--gpu-memory", "3GiB"];
    let greedy = [
        "--tenant",
        "b",
        "--",
        &workload,
        "--gpu-memory",
        "1GiB",
        "--grow-to",
        "6GiB",
        "--grow-after",
        "2s",
    ];
    let neighbour = fleet.submit(&[&share[..], &quiet].concat());
    fleet.runs(&neighbour, LONG);
    let id = fleet.submit(&[&share[..], &greedy].concat());
    fleet.runs(&id, LONG);
    let ended = fleet.state_is(&id, "failed", LONG);
    let attempt = &ended["attempts"][0];
    let number = |v: &Value| v.as_u64().expect("a time");
    // It grew 2 s after its start; one poll of 1 s, no grace, and 100 ms later it is dead. What a loaded machine needs
    // to start the program and to be scheduled is not the agent's.
    let lived = number(&attempt["ended_at_ms"]) - number(&attempt["started_at_ms"]);
    assert!(
        lived < 2_000 + 1_000 + 100 + 1_500,
        "it lived {lived} ms: {attempt}"
    );
    let why = fleet.why(&id);
    for words in ["memory", "6", "4"] {
        assert!(why.contains(words), "{why:?} does not say {words:?}");
    }
    let other = fleet.job(&neighbour);
    assert_eq!(other["attempts"][0]["state"], "running", "{other}");
    assert_eq!(
        other["attempts"].as_array().map(Vec::len),
        Some(1),
        "{other}"
    );
    until("what the neighbour uses is known", SHORT, || {
        let job = fleet.job(&neighbour);
        (job["memory_used_bytes"] == 3_u64 << 30)
            .then_some(())
            .ok_or(job.to_string())
    });
    fleet.cancel_all();
    terraform.destroy();
    rig.nothing_is_left();
}

fn as_nobody() {
    let rig = Rig::new();
    let (terraform, fleet) = fleet_of(&rig, "1xT4", 1, 1, "");
    let open = rig.dir().join("open");
    std::fs::create_dir(&open).expect("the folder is ours");
    let id = fleet.submit(&[
        "--tenant",
        "a",
        "--",
        "sh",
        "-c",
        "id -un; id -G; touch mine; cat /etc/shadow; umask",
    ]);
    let job = fleet.state_is(&id, "succeeded", LONG);
    let out = fleet.ok(&["logs", &id, "--stream", "stdout"]).stdout;
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], "nobody", "{out}");
    assert_eq!(
        lines[1].split(' ').count(),
        1,
        "no group but its own: {out}"
    );
    let err = fleet.ok(&["logs", &id, "--stream", "stderr"]).stderr;
    assert!(err.contains("Permission denied"), "{err}");
    let node = job["attempts"][0]["node"]
        .as_str()
        .expect("a node")
        .to_owned();
    // What is private to the agents a job cannot read.
    let secrets = [
        rig.instance(&node).join("identity/key.pem"),
        rig.instance("lead-j").join("ca/ca.key"),
        rig.instance("lead-j").join("store.db"),
        rig.key("admin.pem"),
    ];
    for secret in secrets {
        let meta =
            std::fs::metadata(&secret).unwrap_or_else(|e| panic!("{}: {e}", secret.display()));
        assert_eq!(
            meta.mode() & 0o077,
            0,
            "{} is open to others",
            secret.display()
        );
    }
    terraform.destroy();
    rig.nothing_is_left();
}
