//! What holds an attempt's processes together, so that every one is found and none survives it.

use super::cgroup;
use super::process;
use rustix::process::{PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How the processes of an attempt are told from all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub(crate) enum Fence {
    /// They are in this cgroup: nothing leaves it.
    Cgroup { leaf: PathBuf },
    /// Without cgroups: they descend from the shim (a subreaper, so daemons do too), or were
    /// started with all these environment entries. A process that clears its environment escapes
    /// once the shim is killed; the `cgroup_v2` capability says so.
    Marker { entries: Vec<String> },
}

// === impl Fence ===

impl Fence {
    /// The attempt's live processes; `shim` is its shim's pid while that lives.
    pub(crate) fn processes(&self, shim: Option<i32>) -> Vec<i32> {
        match self {
            Self::Cgroup { leaf } => cgroup::processes(leaf),
            Self::Marker { entries } => process::descendants(shim, |pid| {
                entries.iter().all(|e| process::environ_has(pid, e))
            }),
        }
    }

    /// Whether any process of the attempt lives.
    pub(crate) fn is_populated(&self, shim: Option<i32>) -> bool {
        match self {
            Self::Cgroup { leaf } => cgroup::is_populated(leaf),
            Self::Marker { .. } => !self.processes(shim).is_empty(),
        }
    }

    /// Sends `signal` to each process; ones that end meanwhile are fine.
    pub(crate) fn signal(&self, signal: Signal, shim: Option<i32>) {
        for pid in self.processes(shim) {
            self.signal_one(pid, signal, shim);
        }
    }

    fn signal_one(&self, pid: i32, signal: Signal, shim: Option<i32>) {
        let Some(target) = rustix::process::Pid::from_raw(pid) else {
            return;
        };
        // The descriptor pins the process; only then is it asked whether it is still ours.
        let Ok(pidfd) = rustix::process::pidfd_open(target, PidfdFlags::empty()) else {
            return;
        };
        if self.holds(pid, shim)
            && let Err(error) = rustix::process::pidfd_send_signal(pidfd, signal)
        {
            // It has ended meanwhile, or the agent may not: then it stays and is seen to stay.
            tracing::debug!(pid, %error, "not signalled");
        }
    }

    fn holds(&self, pid: i32, shim: Option<i32>) -> bool {
        match self {
            Self::Cgroup { leaf } => process::cgroup_of(pid).is_some_and(|path| {
                let tail = |p: &Path| p.iter().rev().take(2).collect::<PathBuf>();
                tail(Path::new(&path)) == tail(leaf)
            }),
            Self::Marker { .. } => self.processes(shim).contains(&pid),
        }
    }

    /// Kills every process at once; call again until [`Self::is_populated`] is false.
    pub(crate) fn kill(&self, shim: Option<i32>) {
        if let Self::Cgroup { leaf } = self {
            match fs::write(leaf.join("cgroup.kill"), "1") {
                Ok(()) => return,
                Err(e) if e.kind() == io::ErrorKind::NotFound && !leaf.exists() => return,
                // A kernel without cgroup.kill: one by one.
                Err(_) => {}
            }
        }
        self.signal(Signal::KILL, shim);
    }

    /// Removes what the fence left behind, once it is empty.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match self {
            Self::Cgroup { leaf } => cgroup::remove(leaf),
            Self::Marker { .. } => Ok(()),
        }
    }
}
