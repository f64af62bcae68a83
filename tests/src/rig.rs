//! A place of its own for one test: root directory, admin key, terraform; and the end of everything in it.

use crate::built::Built;
use crate::fleet::{Answer, Fleet};
use crate::terraform::Terraform;
use crate::{leftovers, process};
use gpuloom_nvml_sim::Machine;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tfplug_host::terraform::Cli;

/// The first lines of a configuration.
pub const PROVIDER: &str =
    "terraform {\n  required_providers {\n    gpuloom = { source = \"gpuloom/gpuloom\" }\n  }\n}\n";

/// How long the end of everything may take.
const END: Duration = Duration::from_secs(20);
/// How much of each agent's log is shown when a test fails.
const LOG_TAIL: usize = 4_000;

/// One test's place. Dropping it ends every process that belongs to it; after a failure the directory stays.
#[derive(Debug)]
pub struct Rig {
    /// The programs.
    pub built: Built,
    dir: PathBuf,
    instances: Mutex<Vec<String>>,
}

// === impl Rig ===

impl Rig {
    /// A fresh place.
    ///
    /// # Panics
    /// When a program is not built.
    #[must_use]
    pub fn new() -> Self {
        let built = Built::find();
        // Jobs run as somebody else and have to get to their own folder.
        let dir = tempfile::Builder::new()
            .prefix("gpuloom-e2e-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a temporary directory")
            .keep();
        std::fs::create_dir(dir.join("local")).expect("the folder is ours");
        let rig = Self {
            built,
            dir,
            instances: Mutex::default(),
        };
        rig.keygen("admin.pem");
        rig
    }

    /// A folder that ends with the rig.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where this test's instances live.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join("local")
    }

    /// The file of an admin key.
    #[must_use]
    pub fn key(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes another admin key.
    pub fn keygen(&self, name: &str) -> PathBuf {
        let path = self.key(name);
        let made = Command::new(&self.built.gpuloom)
            .args(["keygen", "--out"])
            .arg(&path)
            .output()
            .expect("gpuloom starts");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "gpuloom keygen: {said}");
        path
    }

    /// A working directory of terraform for this place's fleets and admin.
    ///
    /// # Panics
    /// When terraform is missing, with where to get it.
    #[must_use]
    pub fn terraform(&self) -> Terraform {
        self.terraform_with(&[])
    }

    /// As [`Rig::terraform`], with more in its environment.
    #[must_use]
    pub fn terraform_with(&self, env: &[(&str, &str)]) -> Terraform {
        let mut cli = Cli::new()
            .and_then(|cli| cli.provider("gpuloom/gpuloom", &self.built.provider))
            .unwrap_or_else(|error| panic!("{error}"))
            .env("GPULOOM_LOCAL_ROOT", self.root())
            .env("GPULOOM_ADMIN_KEY", self.key("admin.pem"));
        for (key, value) in env {
            cli = cli.env(key, value);
        }
        Terraform::new(cli)
    }

    /// The command line of `gpuloom` without a fleet.
    #[must_use]
    pub fn gpuloom(&self) -> Command {
        let mut command = Command::new(&self.built.gpuloom);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("GPULOOM_") {
                command.env_remove(key);
            }
        }
        // No context file of the person who runs the tests.
        command.env("XDG_CONFIG_HOME", self.dir.join("config"));
        command.current_dir(&self.dir);
        command
    }

    /// Runs `gpuloom` without a fleet.
    pub fn say(&self, args: &[&str]) -> Answer {
        Answer::of(self.gpuloom().args(args))
    }

    /// The data directory of an instance.
    #[must_use]
    pub fn instance(&self, id: &str) -> PathBuf {
        self.root().join(id)
    }

    /// The ids of all instances that exist. They are remembered: their cgroups have to be gone in the end.
    #[must_use]
    pub fn instances(&self) -> Vec<String> {
        let found = leftovers::instances(&self.root());
        self.remember(&found);
        found
    }

    fn remember(&self, ids: &[String]) -> Vec<String> {
        let known = self.instances.lock();
        let mut known = known.expect("no test panics while it holds this");
        known.extend(ids.iter().cloned());
        known.sort();
        known.dedup();
        known.clone()
    }

    /// A program that uses simulated GPUs, where every user may run it.
    #[must_use]
    pub fn workload(&self) -> String {
        let path = self.dir.join("workload");
        if !path.exists() {
            std::fs::copy(&self.built.workload, &path).expect("the folder is ours");
        }
        path.display().to_string()
    }

    /// The machine of a simulated fleet, for what breaks on it.
    ///
    /// # Panics
    /// When the fleet has none.
    #[must_use]
    pub fn machine(&self, fleet: &str) -> Machine {
        let state = self
            .instance(&format!("lead-{fleet}"))
            .join("sim/machine.state");
        Machine::open(&state).expect("a simulated machine")
    }

    /// What an instance's agent has told its driver.
    #[must_use]
    pub fn attribute(&self, instance: &str, key: &str) -> Option<String> {
        let path = self.instance(instance).join("attributes").join(key);
        let text = std::fs::read_to_string(path).ok()?;
        Some(text.trim().to_owned())
    }

    /// The pid of an instance's agent, while it runs.
    #[must_use]
    pub fn agent_pid(&self, instance: &str) -> Option<i32> {
        let lock = std::fs::read_to_string(self.instance(instance).join("lock")).ok()?;
        let pid = lock.split_whitespace().next()?.parse().ok()?;
        let start = lock.split_whitespace().nth(1)?.parse().ok()?;
        (process::is_alive(pid) && process::start_time(pid) == Some(start)).then_some(pid)
    }

    /// Takes every instance away at once, as when the machine is made anew: processes, directories, cgroups.
    pub fn wipe(&self) {
        let ids = self.instances();
        leftovers::end_processes(&self.root(), Instant::now() + END);
        leftovers::end_cgroups(&ids);
        for id in ids {
            std::fs::remove_dir_all(self.instance(&id)).expect("the folder is ours");
        }
    }

    /// The fleet of this name, as its admin.
    ///
    /// # Panics
    /// When its lead has not said where it answers.
    #[track_caller]
    #[must_use]
    pub fn fleet(&self, name: &str) -> Fleet {
        let lead = format!("lead-{name}");
        self.remember(&leftovers::instances(&self.root()));
        let say = |key: &str| {
            let said = self.attribute(&lead, key);
            said.unwrap_or_else(|| panic!("{lead} has no attribute {key}"))
        };
        Fleet {
            program: self.built.gpuloom.clone(),
            dir: self.dir.clone(),
            endpoint: say("endpoint"),
            ca_pin: say("ca-pin"),
            credential: (
                "GPULOOM_ADMIN_KEY",
                self.key("admin.pem").display().to_string(),
            ),
        }
    }

    /// Demands that nothing of this place is left but its own files: no instance, no process, no cgroup.
    ///
    /// # Panics
    /// With what is left.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        let ids = self.remember(&[]);
        let left = leftovers::find(&self.root(), &ids);
        assert!(left.is_empty(), "left behind: {left:#?}");
    }

    /// The ends of all agents' logs, for a failed test.
    fn logs(&self) -> String {
        let mut text = String::new();
        for id in leftovers::instances(&self.root()) {
            let log = std::fs::read(self.instance(&id).join("agent.log")).unwrap_or_default();
            let tail = &log[log.len().saturating_sub(LOG_TAIL)..];
            let tail = String::from_utf8_lossy(tail);
            text.push_str(&format!("--- {id}/agent.log\n{tail}\n"));
        }
        text
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!(
                "{}\nthe test's files stay in {}",
                self.logs(),
                self.dir.display()
            );
        }
        leftovers::end_processes(&self.dir, Instant::now() + END);
        leftovers::end_cgroups(&leftovers::instances(&self.root()));
        if !failed {
            std::fs::remove_dir_all(&self.dir).ok();
        }
    }
}
