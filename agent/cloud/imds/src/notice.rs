//! What a cloud announces of an instance.

use gpuloom_fleet::Millis;
use std::fmt;
use std::sync::Arc;

/// Milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// What will happen to the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoticeKind {
    /// The cloud takes the spot instance back.
    Preempt,
    /// It is ended, by whoever.
    Terminate,
    /// It is stopped or hibernated.
    Stop,
    /// It is started anew.
    Reboot,
    /// It is moved to another host: started anew, its local disks lost.
    Redeploy,
    /// Its host is worked on, and it is stopped meanwhile.
    Maintenance,
    /// It is at a higher risk of being preempted; nothing is certain.
    Rebalance,
    /// It stands still for seconds, or is moved while it runs: its jobs live on.
    Freeze,
}

/// One announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What will happen.
    pub kind: NoticeKind,
    /// When, by the cloud's word or by the least it promises; `None`: nobody says.
    pub at: Option<Millis>,
    /// The cloud's id of the event; empty where it has none.
    pub id: String,
    /// Where it was read, for people.
    pub source: &'static str,
}

/// The announcement that leaves the least time; one without a time comes last.
#[must_use]
pub fn most_pressing(notices: &[Notice]) -> Option<&Notice> {
    notices
        .iter()
        .filter(|n| n.kind != NoticeKind::Freeze)
        .min_by_key(|n| (n.at.is_none(), n.at, n.kind))
}

// === impl NoticeKind ===

impl NoticeKind {
    /// `preempt`, `terminate`, ...: as the wire has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preempt => "preempt",
            Self::Terminate => "terminate",
            Self::Stop => "stop",
            Self::Reboot => "reboot",
            Self::Redeploy => "redeploy",
            Self::Maintenance => "maintenance",
            Self::Rebalance => "rebalance",
            Self::Freeze => "freeze",
        }
    }

    /// Whether what runs on the instance will certainly be ended.
    #[must_use]
    pub fn ends_jobs(self) -> bool {
        !matches!(self, Self::Rebalance | Self::Freeze)
    }
}

impl fmt::Display for NoticeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(kind: NoticeKind, at: Option<u64>) -> Notice {
        Notice {
            kind,
            at: at.map(Millis),
            id: String::new(),
            source: "test",
        }
    }

    #[test]
    fn what_comes_soonest_presses_most_and_a_freeze_not_at_all() {
        use NoticeKind::{Freeze, Maintenance, Preempt, Rebalance};
        let all = [
            notice(Freeze, Some(1)),
            notice(Rebalance, None),
            notice(Maintenance, Some(9)),
            notice(Preempt, Some(3)),
        ];
        assert_eq!(most_pressing(&all), Some(&all[3]));
        assert_eq!(most_pressing(&all[..3]), Some(&all[2]));
        assert_eq!(most_pressing(&all[..2]), Some(&all[1]));
        assert_eq!(most_pressing(&all[..1]), None);
    }
}
