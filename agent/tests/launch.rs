//! The job side of a node, with real processes and, where the host has them, real cgroups.
//!
//! Each test runs once per kind of fence the host offers, and once through a jobs holder. What the host cannot do is listed as
//! ignored with the reason in the test's kind, so that a runner counts it as skipped.

mod launch_cases;

use libtest_mimic::{Arguments, Trial};
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|a| a.to_str()) {
        // The tests' launchers run this very program as their shims and as an agent to be killed.
        Some("shim") => return gpuloom_agent::launch::shim_main(&args[2..]),
        Some("jobs-holder") => return gpuloom_agent::launch::holder_main(&args[2..]),
        Some("test-agent") => return launch_cases::agent_main(&args[2..]),
        _ => {}
    }
    let host = launch_cases::Host::probe();
    let mut trials = Vec::new();
    for case in launch_cases::HOLDER {
        let run = case.run;
        let trial = Trial::test(format!("holder::{}", case.name), move || {
            run(launch_cases::Kind::Held);
            Ok(())
        });
        trials.push(match host.lacks(launch_cases::Kind::Held, true) {
            None => trial,
            Some(why) => trial.with_kind(why).with_ignored_flag(true),
        });
    }
    for kind in launch_cases::Kind::ALL {
        for case in launch_cases::ALL {
            let run = case.run;
            let trial = Trial::test(format!("{}::{}", kind.as_str(), case.name), move || {
                run(kind);
                Ok(())
            });
            trials.push(match host.lacks(kind, case.needs_root) {
                None => trial,
                Some(why) => trial.with_kind(why).with_ignored_flag(true),
            });
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
