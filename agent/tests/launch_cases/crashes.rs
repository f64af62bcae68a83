use super::rig::{Kind, Rig, attempt, config, order, this_program};
use gpuloom_agent::launch::{FAILPOINTS, Found, Launcher};
use gpuloom_fleet::{AttemptEnd, EndCause, StopCause};
use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// `test-agent DIR NODE KIND MODE ATTEMPT SCRIPT`: an agent that launches one attempt; with MODE
/// `life` it also stops and forgets it, with `start` it stays until it is killed.
pub(crate) fn agent_main(args: &[OsString]) -> ExitCode {
    let text: Vec<_> = args.iter().filter_map(|a| a.to_str()).collect();
    let [dir, node, kind, mode, id, script] = text[..] else {
        return ExitCode::from(2);
    };
    let kind = Kind::ALL.into_iter().find(|k| k.as_str() == kind);
    let kind = kind.expect("a kind");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let id = attempt(id);
    let life = async {
        let launcher = Launcher::open(config(kind, dir.into(), node)).expect("opens");
        let record = launcher.record(order(&id.to_string(), &["sh", "-c", script]));
        let started = launcher.launch(&record.expect("records")).await;
        println!("running");
        if mode == "start" {
            std::future::pending::<()>().await;
        }
        launcher
            .record_stop(id, StopCause::Drained)
            .expect("records");
        launcher.stop(id, Duration::ZERO).await.expect("stops");
        let gone = launcher.wait(id).await.expect("waits");
        let end = AttemptEnd {
            started_at: started.ok().map(|s| s.at),
            ended_at: gone.at,
            exit: gone.exit,
            cause: EndCause::Exited,
        };
        launcher.record_end(id, &end).expect("records");
        launcher.forget(id).expect("forgets");
    };
    runtime.block_on(life);
    ExitCode::SUCCESS
}

pub(crate) fn a_crash_at_any_step_starts_no_job_twice_and_leaves_none_behind(kind: Kind) {
    for name in FAILPOINTS {
        let mut rig = Rig::new(kind);
        let trace = rig.dir.path().join("trace");
        let script = format!("echo $$ >> {}; sleep 1000", trace.display());
        let agent = Command::new(this_program())
            .arg("test-agent")
            .args([
                rig.config.dir.as_os_str(),
                rig.config.node.as_str().as_ref(),
            ])
            .args([kind.as_str(), "life", "1#1", &script])
            .env("GPULOOM_FAILPOINTS", format!("{name}=kill"))
            .stdout(Stdio::null())
            .status()
            .expect("runs");
        assert_eq!(
            agent.success(),
            name.starts_with("shim."),
            "{name} was not passed"
        );
        rig.reopen();
        // A shim may be starting the job in this very moment: adopting it settles that.
        let found = rig.launcher.adopt().expect("adopts");
        assert!(found.len() <= 1, "{name}");
        for adopted in &found {
            if adopted.found == Found::Starting {
                // It starts, or it does not: either way it is known from then on.
                drop(rig.run(rig.launcher.wait_started(attempt("1#1"))));
            }
            if !matches!(adopted.found, Found::Ended(_)) {
                rig.stop("1#1", Duration::ZERO);
                rig.gone("1#1");
            }
        }
        let starts = std::fs::read_to_string(&trace).unwrap_or_default();
        assert!(starts.lines().count() <= 1, "{name}: {starts}");
        if let Some(pid) = starts.lines().next() {
            assert!(rig.launcher.has_seen(attempt("1#1")), "{name}");
            rig.ended(pid);
        }
        let again = rig.launcher.adopt().expect("adopts");
        assert!(
            again
                .iter()
                .all(|a| matches!(a.found, Found::Gone(_) | Found::Ended(_))),
            "{name}: {again:?}"
        );
    }
}
