//! Processes, named by pid **and** start time, so that a number used again is never mistaken.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::spawn::MARK;

/// One process for its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks since boot, field 22 of `/proc/<pid>/stat`.
    pub(crate) start_time: u64,
}

/// What `/proc/<pid>/stat` says.
#[derive(Debug, Clone, Copy)]
struct Stat {
    process: Process,
    parent: i32,
    dead: bool,
}

// === impl Process ===

impl Process {
    /// `pid starttime`, as an agent writes it into its lock.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (pid, start_time) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { pid, start_time })
    }

    /// It still runs (a zombie does not).
    pub(crate) fn lives(self) -> bool {
        stat(self.pid).is_some_and(|s| s.process == self && !s.dead)
    }

    /// Sends `signal` if it still is this process; one that is gone is fine.
    pub(crate) fn signal(self, signal: Signal) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.pid > 1) else {
            return Ok(());
        };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            other => other?,
        };
        // The handle names whoever has the pid now: only after this look is it known to be ours.
        if !self.lives() {
            return Ok(());
        }
        match pidfd_send_signal(handle, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }
}

// === functions ===

/// The living agent that is named in the lock; `None` when there is none, or when it has not yet named itself.
pub(crate) fn agent(dir: &Path) -> Option<Process> {
    let text = std::fs::read_to_string(dir.join("lock")).ok()?;
    Process::parse(&text).filter(|p| p.lives())
}

fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, blanks and parentheses too.
    let rest: Vec<&str> = text.get(text.rfind(')')? + 2..)?.split(' ').collect();
    Some(Stat {
        process: Process {
            pid,
            start_time: rest.get(19)?.parse().ok()?,
        },
        parent: rest.get(1)?.parse().ok()?,
        dead: matches!(*rest.first()?, "Z" | "X"),
    })
}

/// Everything alive that belongs to the instance in `dir`: what carries its mark, what runs its binary on its
/// files, what it has recorded (lock, shims, cgroup), and all of their children. Never this process itself, and
/// never what carries another instance's mark: a lead's nodes are its children and outlive it.
pub(crate) fn of_instance(dir: &Path, binary: &Path, cgroup: Option<&Path>) -> BTreeSet<Process> {
    let stats: BTreeMap<i32, Stat> = pids().filter_map(|p| Some((p, stat(p)?))).collect();
    let live = |p: &Process| {
        stats
            .get(&p.pid)
            .is_some_and(|s| s.process == *p && !s.dead)
    };
    let mut found: BTreeSet<Process> = recorded(dir).into_iter().filter(live).collect();
    let in_cgroup = cgroup.map(cgroup_pids).unwrap_or_default();
    for s in stats.values().filter(|s| !s.dead) {
        let pid = s.process.pid;
        if in_cgroup.contains(&pid)
            || mark(pid).is_some_and(|m| m == dir.as_os_str().as_bytes())
            || runs(pid, binary, dir)
        {
            found.insert(s.process);
        }
    }
    // Children of children: until nothing new is found.
    loop {
        let before = found.len();
        let parents: BTreeSet<i32> = found.iter().map(|p| p.pid).collect();
        found.extend(
            stats
                .values()
                .filter(|s| !s.dead && parents.contains(&s.parent))
                .filter(|s| mark(s.process.pid).is_none_or(|m| m == dir.as_os_str().as_bytes()))
                .map(|s| s.process),
        );
        if found.len() == before {
            break;
        }
    }
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    found.retain(|p| p.pid != me && p.pid > 1);
    found
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// The instance a process was started by; `None` without a mark or when it cannot be read.
fn mark(pid: i32) -> Option<Vec<u8>> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let name = [MARK.as_bytes(), b"="].concat();
    environment
        .split(|b| *b == 0)
        .find_map(|entry| Some(entry.strip_prefix(&*name)?.to_vec()))
}

/// Its program is the instance's and an argument lies in the instance's directory.
fn runs(pid: i32, binary: &Path, dir: &Path) -> bool {
    let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
    let same = exe.is_ok_and(|exe| {
        let exe = exe.to_string_lossy();
        Path::new(exe.trim_end_matches(" (deleted)")) == binary
    });
    same && std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
        line.split(|b| *b == 0)
            .any(|arg| Path::new(std::ffi::OsStr::from_bytes(arg)).starts_with(dir))
    })
}

/// The agent's own record in `lock`, and every `pid` with a `start_time` in `attempts/*/shim.json`.
fn recorded(dir: &Path) -> Vec<Process> {
    let lock = std::fs::read_to_string(dir.join("lock")).ok();
    let mut found: Vec<_> = lock
        .as_deref()
        .and_then(Process::parse)
        .into_iter()
        .collect();
    for attempt in std::fs::read_dir(dir.join("attempts"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let Ok(text) = std::fs::read(attempt.path().join("shim.json")) else {
            continue;
        };
        if let Ok(value) = serde_json::from_slice::<serde_json::Value>(&text) {
            collect(&value, &mut found);
        }
    }
    found
}

fn collect(value: &serde_json::Value, found: &mut Vec<Process>) {
    match value {
        serde_json::Value::Object(map) => {
            let pid = map.get("pid").and_then(serde_json::Value::as_i64);
            let start_time = map.get("start_time").and_then(serde_json::Value::as_u64);
            if let (Some(Ok(pid)), Some(start_time)) = (pid.map(i32::try_from), start_time) {
                found.push(Process { pid, start_time });
            }
            map.values().for_each(|v| collect(v, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|v| collect(v, found)),
        _ => {}
    }
}

/// The pids in a cgroup and in those below it.
fn cgroup_pids(cgroup: &Path) -> BTreeSet<i32> {
    let text = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut found: BTreeSet<i32> = text.lines().filter_map(|l| l.parse().ok()).collect();
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.extend(cgroup_pids(&entry.path()));
        }
    }
    found
}
