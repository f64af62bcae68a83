use super::rig::{Kind, PATIENCE, Rig, attempt, order, this_program};
use gpuloom_agent::launch::{Adopted, Found, LaunchError};
use gpuloom_fleet::{AttemptEnd, EndCause, Exit};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Starts `script` as 1#1 from another process, an agent, and kills that with SIGKILL.
fn start_by_an_agent_that_dies(rig: &Rig, kind: Kind, script: &str) {
    let mut agent = Command::new(this_program())
        .arg("test-agent")
        .args([
            rig.config.dir.as_os_str(),
            rig.config.node.as_str().as_ref(),
        ])
        .args([kind.as_str(), "start", "1#1", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut said = [0u8; 8];
    let mut stdout = agent.stdout.take().expect("is piped");
    stdout.read_exact(&mut said).expect("launches");
    assert_eq!(&said, b"running\n");
    agent.kill().expect("kills");
    agent.wait().expect("ends");
}

fn adopted(rig: &Rig) -> Adopted {
    let mut found = rig.launcher.adopt().expect("adopts");
    assert_eq!(found.len(), 1);
    found.remove(0)
}

pub(crate) fn shim_pid(rig: &Rig, id: &str) -> i32 {
    let path = rig.launcher.dir_of(attempt(id)).join("shim.json");
    let text = std::fs::read_to_string(path).expect("reads");
    let shim: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
    i32::try_from(shim["shim"]["pid"].as_i64().expect("a pid")).expect("a pid")
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kills");
}

pub(crate) fn a_running_job_is_adopted_after_the_agent_was_killed(kind: Kind) {
    let rig = Rig::new(kind);
    let script = "while ! test -e go; do sleep 0.05; done; exit 3";
    start_by_an_agent_that_dies(&rig, kind, script);
    let found = adopted(&rig);
    assert_eq!(found.found, Found::Running { orphan: false });
    assert_eq!(found.record.attempt, attempt("1#1"));
    assert_eq!(found.record.spec.command[2], script);
    assert!(found.started.is_some());
    let work = rig.launcher.dir_of(attempt("1#1")).join("work");
    std::fs::write(work.join("go"), "").expect("writes");
    assert_eq!(rig.gone("1#1").exit, Some(Exit::Code(3)));
}

pub(crate) fn a_job_that_ended_without_an_agent_keeps_its_exit_status(kind: Kind) {
    let rig = Rig::new(kind);
    start_by_an_agent_that_dies(&rig, kind, "exit 4");
    // Its shim alone sees it end.
    rig.ended(&shim_pid(&rig, "1#1").to_string());
    match adopted(&rig).found {
        Found::Gone(gone) => assert_eq!((gone.exit, gone.lost), (Some(Exit::Code(4)), None)),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn a_killed_shim_leaves_an_orphan_whose_end_is_unknown(kind: Kind) {
    let rig = Rig::new(kind);
    rig.launch(order("1#1", &["sleep", "1000"]))
        .expect("starts");
    let shim = shim_pid(&rig, "1#1");
    kill(shim);
    rig.ended(&shim.to_string());
    assert_eq!(adopted(&rig).found, Found::Running { orphan: true });
    rig.stop("1#1", Duration::ZERO);
    let gone = rig.gone("1#1");
    assert_eq!(gone.exit, None);
    assert!(gone.lost.expect("is lost").contains("shim was killed"));
}

pub(crate) fn a_late_shim_does_nothing_once_its_place_is_taken(kind: Kind) {
    let rig = Rig::new(kind);
    let trace = rig.dir.path().join("trace");
    let script = format!("echo ran >> {}", trace.display());
    let record = rig.launcher.record(order("1#1", &["sh", "-c", &script]));
    let dir = rig.launcher.dir_of(record.expect("records").attempt);
    // The agent died before it spawned the shim, or the shim is slow: the next agent cannot tell.
    let lost = adopted(&rig).found;
    assert!(
        matches!(&lost, Found::Gone(gone) if gone.lost.is_some()),
        "{lost:?}"
    );
    let late = Command::new(this_program())
        .args(["shim", "--attempt-dir"])
        .arg(&dir)
        .status();
    assert!(late.expect("runs").success());
    assert!(!trace.exists() && !dir.join("started.json").exists());
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).expect("reads");
    assert!(text.contains(from));
    std::fs::write(path, text.replace(from, to)).expect("writes");
}

pub(crate) fn after_a_reboot_everything_unfinished_is_lost(kind: Kind) {
    let rig = Rig::new(kind);
    rig.launch(order("1#1", &["sleep", "1000"]))
        .expect("starts");
    rig.launch(order("2#1", &["true"])).expect("starts");
    rig.gone("2#1");
    for id in ["1#1", "2#1"] {
        let spec = rig.launcher.dir_of(attempt(id)).join("spec.json");
        edit(
            &spec,
            rig.launcher.boot_id(),
            "00000000-aaaa-bbbb-cccc-000000000000",
        );
    }
    let found = rig.launcher.adopt().expect("adopts");
    match [&found[0].found, &found[1].found] {
        [Found::Gone(lost), Found::Gone(seen)] => {
            assert_eq!(lost.lost.as_deref(), Some("the node was restarted"));
            assert_eq!(
                seen.exit,
                Some(Exit::Code(0)),
                "its end was recorded before"
            );
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn an_end_is_kept_until_it_is_forgotten(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.launch(order("1#1", &["true"])).expect("starts");
    let gone = rig.gone("1#1");
    let end = AttemptEnd {
        started_at: None,
        ended_at: gone.at,
        exit: gone.exit,
        cause: EndCause::Exited,
    };
    rig.launcher
        .record_end(attempt("1#1"), &end)
        .expect("records");
    rig.reopen();
    assert_eq!(adopted(&rig).found, Found::Ended(end));
    rig.launcher.forget(attempt("1#1")).expect("forgets");
    rig.launcher
        .forget(attempt("1#1"))
        .expect("forgetting again is fine");
    rig.reopen();
    assert!(rig.launcher.adopt().expect("adopts").is_empty());
    assert!(!rig.launcher.dir_of(attempt("1#1")).exists());
}

pub(crate) fn a_record_that_does_not_read_is_refused_and_named(kind: Kind) {
    let rig = Rig::new(kind);
    rig.launch(order("1#1", &["true"])).expect("starts");
    rig.run(async { tokio::time::timeout(PATIENCE, rig.launcher.wait(attempt("1#1"))).await })
        .expect("in time")
        .expect("waits");
    let dir = rig.launcher.dir_of(attempt("1#1"));
    let whole = std::fs::read(dir.join("spec.json")).expect("reads");
    std::fs::write(dir.join("spec.json"), &whole[..whole.len() / 2]).expect("writes");
    let error = rig.launcher.adopt().expect_err("is corrupt");
    assert!(matches!(error, LaunchError::Corrupt { .. }));
    assert!(error.to_string().contains("1-1/spec.json"), "{error}");
    // A directory without a record is a crash before anything was started.
    std::fs::remove_file(dir.join("spec.json")).expect("removes");
    assert!(rig.launcher.adopt().expect("adopts").is_empty());
    assert!(!dir.exists());
}
