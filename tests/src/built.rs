//! The programs under test: those of the build this test belongs to, never others on PATH.

use std::path::{Path, PathBuf};

/// Where each program lies.
#[derive(Debug, Clone)]
pub struct Built {
    /// The agent and command line.
    pub gpuloom: PathBuf,
    /// The Terraform provider.
    pub provider: PathBuf,
    /// The simulated driver, which the lead finds beside `gpuloom`.
    pub driver: PathBuf,
    /// A program that uses simulated GPUs.
    pub workload: PathBuf,
    /// The injector.
    pub sim: PathBuf,
}

// === impl Built ===

impl Built {
    /// The programs beside this test's own folder, `target/<profile>/`.
    ///
    /// # Panics
    /// When one is missing, with the command that builds it.
    #[must_use]
    pub fn find() -> Self {
        let exe = std::env::current_exe().expect("a running program has a path");
        let profile = exe
            .ancestors()
            .find(|dir| dir.file_name().is_some_and(|name| name == "deps"))
            .and_then(Path::parent)
            .expect("cargo puts tests into target/<profile>/deps");
        let file = |name: &str| {
            let path = profile.join(name);
            assert!(
                path.is_file(),
                "{} does not exist: run `cargo build --workspace` first (or scripts/test)",
                path.display()
            );
            path
        };
        Self {
            gpuloom: file("gpuloom"),
            provider: file("terraform-provider-gpuloom"),
            driver: file(gpuloom_nvml_sim::LIBRARY_FILE),
            workload: file("gpuloom-sim-workload"),
            sim: file("gpuloom-sim"),
        }
    }
}

/// The checkout this test was built from.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the repository")
}
