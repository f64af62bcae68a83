//! What /proc says of processes. A process is a pid and its start time: pids are used again.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;

/// A process that no later one is mistaken for (within one boot).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Clock ticks since boot, field 22 of /proc/PID/stat.
    pub(crate) start_time: u64,
}

struct Stat {
    state: char,
    parent: i32,
    start_time: u64,
}

/// The id of the machine's present boot.
pub fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name, field 2, may hold spaces and parentheses: fields are counted after its last `)`.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let start_time = fields.nth(17)?.parse().ok()?;
    Some(Stat {
        state,
        parent,
        start_time,
    })
}

/// The session `pid` belongs to; 0 when its leader is outside of our process namespace (getsid(2)
/// answers the same, which is no process number).
pub(crate) fn session_of(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name: state, parent, process group, session.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    fields.nth(3)?.parse().ok()
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The cgroup v2 path of `pid`, while it exists.
pub(crate) fn cgroup_of(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("0::"))?;
    Some(line.trim_end().to_owned())
}

/// True when the environment `pid` was started with holds `entry` (`NAME=value`).
pub(crate) fn environ_has(pid: i32, entry: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|bytes| bytes.split(|b| *b == 0).any(|e| e == entry.as_bytes()))
}

/// The value of `name` in the environment `pid` was started with.
pub(crate) fn environ_value(pid: i32, name: &str) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let text = bytes.split(|b| *b == 0).find_map(|entry| {
        let entry = std::str::from_utf8(entry).ok()?;
        entry.strip_prefix(name)?.strip_prefix('=')
    })?;
    Some(text.to_owned())
}

/// Kills `pid`; one that ended in this very moment is fine.
pub(crate) fn kill(pid: rustix::process::Pid) {
    if let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
        tracing::debug!(?pid, %error, "not killed");
    }
}

fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Live (not zombie) processes that descend from `root` or satisfy `also`; `root` left out.
pub(crate) fn descendants(root: Option<i32>, also: impl Fn(i32) -> bool) -> Vec<i32> {
    let table: BTreeMap<i32, Stat> = all()
        .into_iter()
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect();
    let descends = |pid: i32| {
        let mut at = pid;
        // A chain longer than the table would be a loop made by pids used again while we read.
        for _ in 0..table.len() {
            match table.get(&at) {
                Some(s) if Some(s.parent) == root => return true,
                Some(s) if s.parent > 1 => at = s.parent,
                _ => return false,
            }
        }
        false
    };
    table
        .iter()
        .filter(|(pid, s)| Some(**pid) != root && !matches!(s.state, 'Z' | 'X'))
        .map(|(pid, _)| *pid)
        .filter(|pid| (root.is_some() && descends(*pid)) || also(*pid))
        .collect()
}

// === impl Identity ===

impl Identity {
    /// The process `pid` as it is now; `None` when there is none.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let start_time = stat(pid)?.start_time;
        Some(Self { pid, start_time })
    }

    /// True while this very process runs; a zombie does not.
    pub(crate) fn is_alive(self) -> bool {
        stat(self.pid)
            .is_some_and(|s| s.start_time == self.start_time && !matches!(s.state, 'Z' | 'X'))
    }

    pub(crate) fn as_pid(self) -> Option<rustix::process::Pid> {
        rustix::process::Pid::from_raw(self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text = "7 (a) S b) (c)) R 3 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 4242 9 9";
        let s = parse_stat(text).expect("reads");
        assert_eq!((s.state, s.parent, s.start_time), ('R', 3, 4242));
        assert!(parse_stat("7 (a").is_none());
    }

    #[test]
    fn a_process_is_not_mistaken_for_a_later_one_with_its_pid() {
        let me = Identity::of(i32::try_from(std::process::id()).expect("a pid")).expect("lives");
        assert!(me.is_alive());
        let other = Identity {
            start_time: me.start_time + 1,
            ..me
        };
        assert!(!other.is_alive());
        assert_eq!(Identity::of(i32::MAX), None);
    }
}
