//! Processes as /proc shows them.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs;
use std::path::Path;

fn pid(raw: i32) -> Option<Pid> {
    Pid::from_raw(raw)
}

/// True while the process exists and is no zombie.
#[must_use]
pub fn is_alive(raw: i32) -> bool {
    pid(raw).is_some_and(|p| test_kill_process(p).is_ok()) && state(raw).is_some_and(|s| s != 'Z')
}

fn state(raw: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{raw}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Clock ticks from boot to its start: with the pid, who it is.
#[must_use]
pub fn start_time(raw: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{raw}/stat")).ok()?;
    // After the name come fields 3 and on; the start time is field 22.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// The session it belongs to; 0 when that is led from outside of this process namespace.
#[must_use]
pub fn session_of(raw: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{raw}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(3)?.parse().ok()
}

/// SIGKILL; a process that is gone is fine.
pub fn kill(raw: i32) {
    if let Some(pid) = pid(raw) {
        kill_process(pid, Signal::KILL).ok();
    }
}

/// Every other live process that has `path` in its command line, environment or working directory, each with its
/// command line.
#[must_use]
pub fn mentioning(path: &Path) -> Vec<(i32, String)> {
    let needle = path.as_os_str().as_encoded_bytes().to_vec();
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(raw) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        if raw == own || !is_alive(raw) {
            continue;
        }
        let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if holds(&command) || holds(&environment) || cwd.starts_with(path) {
            let shown = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push((raw, shown.trim().to_owned()));
        }
    }
    found
}
