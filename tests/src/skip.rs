//! Tests that need something of the machine: where it is missing the runner says `skipped`, and the test's name says why.

use libtest_mimic::{Arguments, Trial};

/// Something a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing beyond what every test needs.
    Nothing,
    /// The superuser: to run a job as somebody else.
    Root,
    /// systemd's own checks of units.
    SystemdAnalyze,
}

// === impl Needs ===

impl Needs {
    /// Why it is not there; `None` when it is.
    fn missing(self) -> Option<&'static str> {
        let on_path = |program: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
        };
        match self {
            Self::Root if !rustix::process::geteuid().is_root() => Some("needs root"),
            Self::SystemdAnalyze if !on_path("systemd-analyze") => Some("needs systemd-analyze"),
            _ => None,
        }
    }
}

/// Runs the tests as cargo and nextest ask, and ends the process.
pub fn run(tests: &[(&'static str, Needs, fn())]) -> ! {
    let trials = tests
        .iter()
        .map(|(name, needs, test)| {
            let missing = needs.missing();
            let name = match missing {
                Some(why) => format!("{name} (skipped: {why})"),
                None => (*name).to_owned(),
            };
            let test = *test;
            let trial = Trial::test(name, move || match missing {
                // Asked for by name all the same.
                Some(why) => Err(why.into()),
                None => {
                    test();
                    Ok(())
                }
            });
            trial.with_ignored_flag(missing.is_some())
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit()
}
