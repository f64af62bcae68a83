//! A node end to end: real processes, the simulated driver, and a lead that says what is wanted.

mod node_cases;

use libtest_mimic::{Arguments, Trial};
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let text = |from: usize| -> Vec<String> { std::env::args().skip(from).collect() };
    match args.get(1).and_then(|a| a.to_str()) {
        // The node runs this very program as its shims, as its GPU probe, and as its jobs.
        Some("shim") => return gpuloom_agent::launch::shim_main(&args[2..]),
        Some(gpuloom_gpu::PROBE_COMMAND) => return gpuloom_gpu::probe_main(text(2)),
        Some("workload") => return node_cases::workload_main(&text(2)),
        _ => {}
    }
    let trials = node_cases::ALL
        .iter()
        .map(|(name, case)| {
            Trial::test(*name, move || {
                node_cases::run(*case);
                Ok(())
            })
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
