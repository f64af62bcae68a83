use super::rig::{Kind, Rig, attempt, open, open_dir, order};
use gpuloom_agent::launch::LaunchError;
use gpuloom_fleet::Exit;
use std::collections::BTreeMap;

fn sh(id: &str, script: &str) -> gpuloom_agent::launch::Order {
    order(id, &["sh", "-c", script])
}

pub(crate) fn an_exit_status_and_a_signal_are_told_apart(kind: Kind) {
    let rig = Rig::new(kind);
    for (id, script, exit) in [
        ("1#1", "exit 0", Exit::Code(0)),
        ("2#1", "exit 7", Exit::Code(7)),
        ("3.4#2", "exit 255", Exit::Code(255)),
        ("4#1", "kill -KILL $$", Exit::Signal(9)),
        ("5#1", "kill -SEGV $$", Exit::Signal(11)),
        ("6#1", "kill -TERM $$", Exit::Signal(15)),
    ] {
        let started = rig.launch(sh(id, script)).expect("starts");
        let gone = rig.gone(id);
        assert_eq!((gone.exit, gone.lost), (Some(exit), None), "{script}");
        assert!(gone.at.0 + 1 >= started.at.0 / 1000 * 1000, "{script}");
    }
}

pub(crate) fn a_job_that_cannot_start_says_why(kind: Kind) {
    let rig = Rig::new(kind);
    let dir = open_dir();
    let file = |name: &str, text: &str, mode| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("writes");
        open(&path, mode);
        path.display().to_string()
    };
    let plain = file("plain", "#!/bin/sh\n", 0o644);
    let no_shebang = file("script", "echo hello\n", 0o755);
    let no_interpreter = file("interpreted", "#!/nowhere/sh\n", 0o755);
    for (n, program, told) in [
        (1, "no-such-program", "No such file or directory"),
        (2, "/nowhere/program", "No such file or directory"),
        (3, plain.as_str(), "Permission denied"),
        (4, no_shebang.as_str(), "Exec format error"),
        (5, no_interpreter.as_str(), "No such file or directory"),
        (6, "/tmp", "Permission denied"),
    ] {
        let id = format!("{n}#1");
        match rig.launch(order(&id, &[program])) {
            Err(LaunchError::NotStarted { message }) => {
                assert!(message.contains(told), "{message}");
                assert!(
                    message.contains(&format!("execute {program:?}")),
                    "{message}"
                );
            }
            other => panic!("{program} started: {other:?}"),
        }
        assert!(rig.gone(&id).launch_failed.is_some());
    }
    let mut elsewhere = order("9#1", &["true"]);
    elsewhere.spec.workdir = Some("/nowhere/at/all".to_owned());
    let message = rig.launch(elsewhere).expect_err("no directory").to_string();
    assert!(
        message.contains("working directory \"/nowhere/at/all\""),
        "{message}"
    );
}

pub(crate) fn the_environment_is_what_was_granted_and_nothing_else(kind: Kind) {
    let rig = Rig::with(kind, |config| config.sim_state = Some("/sim/state".into()));
    let mut job = order("17.3#2", &["env"]);
    job.spec.env.insert("LR".to_owned(), "0.1 =x\ny".to_owned());
    let mut second = job.grants[0].clone();
    second.device = gpuloom_fleet::DeviceId::new("GPU-2").expect("an id");
    job.grants.push(second);
    rig.launch(job).expect("starts");
    rig.gone("17.3#2");
    let work = rig.launcher.dir_of(attempt("17.3#2")).join("work");
    let work = work.display().to_string();
    let node = rig.config.node.to_string();
    let mut expected = BTreeMap::from([
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("HOME", work.as_str()),
        ("LR", "0.1 =x\ny"),
        ("CUDA_VISIBLE_DEVICES", "GPU-1,GPU-2"),
        ("GPULOOM_JOB_ID", "17.3"),
        ("GPULOOM_ATTEMPT", "17.3#2"),
        ("GPULOOM_ARRAY_INDEX", "3"),
        ("GPULOOM_TENANT", "research"),
        ("GPULOOM_NODE", node.as_str()),
        ("GPULOOM_GPU_MEMORY_BYTES", "8589934592"),
        ("GPULOOM_SIM_STATE", "/sim/state"),
    ]);
    if rustix::process::geteuid().is_root() {
        expected.insert("USER", "nobody");
        expected.insert("LOGNAME", "nobody");
    }
    let expected: String = expected.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
    assert_eq!(rig.output("17.3#2").0, expected);
}

pub(crate) fn a_job_has_no_privileges_and_no_descriptors_of_ours(kind: Kind) {
    let rig = Rig::new(kind);
    let script = "id -u; id -g; id -G; umask; ulimit -c; ls /proc/self/fd | tr '\\n' ' '; echo; \
        grep -E '^(NoNewPrivs|CapInh|CapPrm|CapEff|CapBnd|CapAmb|SigBlk):' \
        /proc/self/status; readlink /proc/self/fd/0; echo into a name > /dev/stderr; \
        sed -n 's/^SigIgn:.//p' /proc/self/status > ignored";
    rig.launch(sh("1#1", script)).expect("starts");
    assert_eq!(rig.gone("1#1").exit, Some(Exit::Code(0)));
    let none = "0000000000000000";
    let caps: String = ["Inh", "Prm", "Eff", "Bnd", "Amb"]
        .iter()
        .map(|c| format!("Cap{c}:\t{none}\n"))
        .collect();
    // `ls` holds a fourth descriptor: the directory it reads.
    let (out, err) = rig.output("1#1");
    assert_eq!(
        out,
        format!(
            "65534\n65534\n65534\n0022\n0\n0 1 2 3 \nSigBlk:\t{none}\n{caps}\
             NoNewPrivs:\t1\n/dev/null\n"
        )
    );
    assert_eq!(err, "into a name\n");
    let ignored = rig.launcher.dir_of(attempt("1#1")).join("work/ignored");
    let ignored = u64::from_str_radix(&rig.line_in(&ignored), 16).expect("a mask");
    // The C library keeps 32 and 33 to itself.
    assert_eq!(ignored & !(0b11 << 31), 0, "{ignored:x}");
}

pub(crate) fn a_directory_the_job_user_may_not_enter_is_refused(kind: Kind) {
    let rig = Rig::new(kind);
    let private = tempfile::tempdir().expect("a directory");
    open(private.path(), 0o700);
    let mut job = order("1#1", &["true"]);
    job.spec.workdir = Some(private.path().display().to_string());
    let message = rig.launch(job).expect_err("refused").to_string();
    assert!(
        message.contains("as nobody: Permission denied"),
        "{message}"
    );
}

pub(crate) fn a_job_starts_where_it_was_told_to(kind: Kind) {
    let rig = Rig::new(kind);
    let dir = open_dir();
    let mut job = order("1#1", &["pwd"]);
    job.spec.workdir = Some(dir.path().display().to_string());
    rig.launch(job).expect("starts");
    rig.gone("1#1");
    assert_eq!(rig.output("1#1").0, format!("{}\n", dir.path().display()));
    // Its own directory is empty, writable and private.
    let script = "pwd; ls; echo x > mine; stat -c %a .";
    rig.launch(sh("2#1", script)).expect("starts");
    assert_eq!(rig.gone("2#1").exit, Some(Exit::Code(0)));
    let work = rig.launcher.dir_of(attempt("2#1")).join("work");
    assert_eq!(rig.output("2#1").0, format!("{}\n700\n", work.display()));
}

pub(crate) fn an_attempt_is_never_started_twice(kind: Kind) {
    let mut rig = Rig::new(kind);
    let refused = |rig: &Rig| {
        assert!(rig.launcher.has_seen(attempt("1#1")));
        let again = rig.launcher.record(order("1#1", &["true"]));
        assert!(matches!(again, Err(LaunchError::SeenBefore { .. })));
    };
    assert!(!rig.launcher.has_seen(attempt("1#1")));
    rig.launch(order("1#1", &["true"])).expect("starts");
    refused(&rig);
    rig.gone("1#1");
    refused(&rig);
    rig.reopen();
    refused(&rig);
    rig.launcher.forget(attempt("1#1")).expect("forgets");
    refused(&rig);
    rig.reopen();
    refused(&rig);
    assert_eq!(rig.launcher.adopt().expect("adopts").len(), 0);
    rig.launch(order("1#2", &["true"]))
        .expect("the next attempt is another");
    rig.gone("1#2");
}

pub(crate) fn fifty_attempts_run_at_once(kind: Kind) {
    let rig = Rig::new(kind);
    let gate = rig.dir.path().join("gate");
    let script = format!(
        "while ! test -e {}; do sleep 0.1; done; exit $0",
        gate.display()
    );
    let all = async {
        let mut running = tokio::task::JoinSet::new();
        for n in 1..=50 {
            let launcher = rig.launcher.clone();
            let status = n.to_string();
            let job = order(&format!("{n}#1"), &["sh", "-c", &script, &status]);
            running.spawn(async move {
                let record = launcher.record(job).expect("records");
                launcher.launch(&record).await.expect("starts");
                record.attempt
            });
        }
        let attempts = running.join_all().await;
        // Each runs before any may end.
        std::fs::write(&gate, "").expect("opens the gate");
        for id in attempts {
            let gone = rig.launcher.wait(id).await.expect("waits");
            let status = i32::try_from(id.job.number).expect("small");
            assert_eq!(gone.exit, Some(Exit::Code(status)));
        }
    };
    rig.run(all);
}
