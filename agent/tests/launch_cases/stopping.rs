use super::rig::{Kind, PATIENCE, Rig, attempt, order};
use gpuloom_fleet::{Exit, StopCause};
use std::time::{Duration, Instant};

pub(crate) fn a_daemon_that_left_its_session_dies_with_the_job(kind: Kind) {
    let rig = Rig::new(kind);
    // Forked twice in a session of its own, the second one without its environment.
    let script = "setsid -f sh -c 'echo $$ > one; exec sleep 1000'; \
        env -i /usr/bin/setsid -f /bin/sh -c 'echo $$ > two; exec /bin/sleep 1000'; \
        while ! test -s one -a -s two; do :; done; exit 5";
    rig.launch(order("1#1", &["sh", "-c", script]))
        .expect("starts");
    assert_eq!(rig.gone("1#1").exit, Some(Exit::Code(5)));
    let work = rig.launcher.dir_of(attempt("1#1")).join("work");
    for daemon in ["one", "two"] {
        let pid = rig.line_in(&work.join(daemon));
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "lives: {stat}");
    }
}

/// Starts `script`, which makes the file `ready` in its directory once it is.
fn start(rig: &Rig, script: &str) {
    let script = format!("{script}; echo yes > ready; while :; do sleep 0.05; done");
    rig.launch(order("1#1", &["sh", "-c", &script]))
        .expect("starts");
    let work = rig.launcher.dir_of(attempt("1#1")).join("work");
    rig.line_in(&work.join("ready"));
}

pub(crate) fn a_job_may_end_by_itself_within_its_grace(kind: Kind) {
    let rig = Rig::new(kind);
    start(&rig, "trap 'exit 7' TERM");
    // Far less than the grace, or the rig's patience is over.
    rig.stop("1#1", PATIENCE * 10);
    assert_eq!(rig.gone("1#1").exit, Some(Exit::Code(7)));
}

pub(crate) fn a_job_that_ignores_sigterm_is_killed_after_its_grace(kind: Kind) {
    let rig = Rig::new(kind);
    start(&rig, "trap '' TERM");
    let grace = Duration::from_millis(300);
    let before = Instant::now();
    rig.stop("1#1", grace);
    assert!(before.elapsed() >= grace);
    assert_eq!(rig.gone("1#1").exit, Some(Exit::Signal(9)));
}

pub(crate) fn without_grace_everything_is_killed_at_once(kind: Kind) {
    let rig = Rig::new(kind);
    start(
        &rig,
        "trap 'exit 7' TERM; (trap '' TERM; sleep 1000) & echo $! > child",
    );
    rig.stop("1#1", Duration::ZERO);
    assert_eq!(rig.gone("1#1").exit, Some(Exit::Signal(9)));
    let work = rig.launcher.dir_of(attempt("1#1")).join("work");
    rig.ended(&rig.line_in(&work.join("child")));
    // Stopping what is gone is fine.
    rig.stop("1#1", Duration::ZERO);
}

pub(crate) fn the_first_cause_of_a_stop_stays(kind: Kind) {
    let rig = Rig::new(kind);
    start(&rig, "true");
    let id = attempt("1#1");
    let first = rig
        .launcher
        .record_stop(id, StopCause::Walltime)
        .expect("records");
    let later = rig
        .launcher
        .record_stop(id, StopCause::Drained)
        .expect("records");
    assert_eq!((&first.cause, &later), (&StopCause::Walltime, &first));
    rig.stop("1#1", Duration::ZERO);
    let found = rig.launcher.adopt().expect("adopts");
    assert_eq!(found[0].stop.as_ref(), Some(&first));
}

pub(crate) fn processes_are_told_by_attempt_and_leave_nothing_behind(kind: Kind) {
    let rig = Rig::new(kind);
    let mut seen = Vec::new();
    for id in ["1#1", "1#2"] {
        rig.launch(order(id, &["sleep", "1000"])).expect("starts");
        let dir = rig.launcher.dir_of(attempt(id));
        let started = std::fs::read_to_string(dir.join("started.json")).expect("reads");
        let started: serde_json::Value = serde_json::from_str(&started).expect("is JSON");
        let pid = started["job"]["pid"].as_i64().expect("a pid");
        let pid = i32::try_from(pid).expect("a pid");
        assert_eq!(rig.launcher.attempt_of(pid), Some(attempt(id)));
        seen.push((
            pid,
            std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok(),
        ));
    }
    let me = i32::try_from(std::process::id()).expect("a pid");
    assert_eq!(rig.launcher.attempt_of(me), None);
    assert_eq!(rig.launcher.attempt_of(i32::MAX), None);
    if kind != Kind::Marker {
        assert_ne!(seen[0].1, seen[1].1, "each attempt has a cgroup of its own");
        let jobs = rig.cgroups()[0].join("jobs");
        assert!(jobs.join("1-1/work").is_dir() && jobs.join("1-2/work").is_dir());
        rig.stop("1#1", Duration::ZERO);
        rig.gone("1#1");
        assert!(!jobs.join("1-1").exists() && jobs.join("1-2/work").is_dir());
    }
    rig.stop("1#2", Duration::ZERO);
    rig.gone("1#2");
}
