//! Who holds memory: a process known by pid and start time, so that a reused pid is another owner.

use std::fs;

/// A process of this machine and boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Process id in the machine's pid namespace.
    pub pid: u32,
    /// Start time in clock ticks after boot, field 22 of `/proc/<pid>/stat`.
    pub start_ticks: u64,
}

// === impl Owner ===

impl Owner {
    /// The calling process.
    #[must_use]
    pub fn current() -> Self {
        let pid = std::process::id();
        Self::of(pid).unwrap_or(Self {
            pid,
            start_ticks: 0,
        })
    }

    /// The live process `pid`; `None` when there is none or it is a zombie.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let start_ticks = start_ticks(&stat)?;
        Some(Self { pid, start_ticks })
    }

    /// Whether this very process, not a later one of the same pid, still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// Field 22 of a `/proc/<pid>/stat` line; `None` for a zombie or dead process. The command (field 2)
/// may hold spaces and parentheses, so fields are counted from the last `)`.
fn start_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(start_ticks(&format!("42 (a) b (c)) {tail}")), Some(4711));
        assert_eq!(
            start_ticks(&format!("42 (x) {}", tail.replacen('S', "Z", 1))),
            None
        );
        assert_eq!(start_ticks("42 (x"), None);
    }

    #[test]
    fn the_current_process_is_alive_and_another_start_time_is_another_process() {
        let me = Owner::current();
        assert!(me.is_alive());
        let other = Owner {
            start_ticks: me.start_ticks + 1,
            ..me
        };
        assert!(!other.is_alive());
    }
}
