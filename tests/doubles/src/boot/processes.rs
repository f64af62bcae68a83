//! The processes of a machine: whatever has its folder in its command, environment or working directory.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long what was sent SIGKILL may take to be gone.
const END: Duration = Duration::from_secs(20);

/// Those that live: zombies and ourselves are not among them.
pub(super) fn of(dir: &Path) -> Vec<i32> {
    let mut needle = dir.as_os_str().as_encoded_bytes().to_vec();
    // `m1` is not `m10`.
    needle.push(b'/');
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| *pid != own && belongs(*pid, &needle, dir) && lives(*pid))
        .collect()
}

fn belongs(pid: i32, needle: &[u8], dir: &Path) -> bool {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let holds = |file: &str| {
        let bytes = fs::read(proc.join(file)).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    };
    let cwd = fs::read_link(proc.join("cwd")).unwrap_or_default();
    cwd.starts_with(dir) || holds("environ") || holds("cmdline")
}

fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// SIGKILL until none is left: they may start others while we look. True when none is.
pub(super) fn end(dir: &Path) -> bool {
    let deadline = Instant::now() + END;
    loop {
        let left = of(dir);
        if left.is_empty() {
            return true;
        }
        for pid in left {
            kill(pid);
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::yield_now();
    }
}

/// Ends the processes in the cgroups `gpuloom/<id>` of every cgroup tree, and the cgroups.
pub(super) fn end_cgroups(id: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        if let (Some(at), Some("cgroup2")) = (fields.next(), fields.next()) {
            end_cgroup(&Path::new(at).join("gpuloom").join(id));
        }
    }
}

fn end_cgroup(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            end_cgroup(&entry.path());
        }
    }
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    procs
        .lines()
        .filter_map(|pid| pid.parse().ok())
        .for_each(kill);
    let deadline = Instant::now() + END;
    // Busy until its last process is reaped; gone when it never was.
    while dir.is_dir() && fs::remove_dir(dir).is_err() && Instant::now() < deadline {
        std::thread::yield_now();
    }
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // One that is gone is fine.
        kill_process(pid, Signal::KILL).ok();
    }
}
