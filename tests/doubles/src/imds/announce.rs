//! What a cloud announces, in each dialect's own form.

use super::Dialect;
use crate::clock::rfc3339;
use serde_json::{Value, json};

/// What is announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// The spot instance is taken back in so many milliseconds. On Google Cloud it is always 30 s.
    Preempt {
        /// From now.
        in_ms: u64,
    },
    /// Work on the host ends what runs, in so many milliseconds (Google: an hour, whatever is said).
    Maintenance {
        /// From now.
        in_ms: u64,
    },
    /// AWS alone: a higher risk of being taken back.
    Rebalance,
    /// The machine stands still for a moment (Azure), or is moved while it runs (Google).
    Freeze {
        /// From now.
        in_ms: u64,
    },
    /// Azure alone: an event of another machine of the scale set.
    OfAnother {
        /// From now.
        in_ms: u64,
    },
}

/// What is announced now.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    pub(crate) spot_action: Option<Value>,
    pub(crate) rebalance: Option<Value>,
    pub(crate) scheduled: Vec<Value>,
    pub(crate) preempted: bool,
    pub(crate) maintenance_event: Option<&'static str>,
    pub(crate) events: Vec<Value>,
    pub(crate) incarnation: u64,
    number: u64,
}

/// `21 Jan 2019 09:00:43 GMT`.
fn gmt(ms: u64, weekday: bool) -> String {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap_or_default());
    let format = if weekday {
        "%a, %d %b %Y %H:%M:%S GMT"
    } else {
        "%-d %b %Y %H:%M:%S GMT"
    };
    at.unwrap_or_default().strftime(format).to_string()
}

// === impl Announced ===

impl Announced {
    pub(crate) fn clear(&mut self) {
        *self = Self {
            incarnation: self.incarnation + 1,
            number: self.number,
            ..Self::default()
        };
    }

    pub(crate) fn add(&mut self, dialect: Dialect, what: Announcement, now: u64) {
        self.number += 1;
        match dialect {
            Dialect::Aws => self.aws(&what, now),
            Dialect::Gcp => match what {
                Announcement::Preempt { .. } => self.preempted = true,
                Announcement::Maintenance { .. } => {
                    self.maintenance_event = Some("TERMINATE_ON_HOST_MAINTENANCE");
                }
                Announcement::Freeze { .. } => {
                    self.maintenance_event = Some("MIGRATE_ON_HOST_MAINTENANCE");
                }
                Announcement::Rebalance | Announcement::OfAnother { .. } => {}
            },
            Dialect::Azure => self.azure(&what, now),
        }
    }

    fn aws(&mut self, what: &Announcement, now: u64) {
        match what {
            Announcement::Preempt { in_ms } => {
                self.spot_action =
                    Some(json!({ "action": "terminate", "time": rfc3339(now + in_ms) }));
            }
            Announcement::Rebalance => self.rebalance = Some(json!({ "noticeTime": rfc3339(now) })),
            Announcement::Maintenance { in_ms } => self.scheduled.push(json!({
                "NotBefore": gmt(now + in_ms, false),
                "NotAfter": gmt(now + in_ms + 3_600_000, false),
                "Code": "instance-stop",
                "Description": "The instance is running on degraded hardware",
                "EventId": format!("instance-event-{:017x}", self.number),
                "State": "active",
            })),
            Announcement::Freeze { .. } | Announcement::OfAnother { .. } => {}
        }
    }

    fn azure(&mut self, what: &Announcement, now: u64) {
        let (kind, in_ms, of) = match what {
            Announcement::Preempt { in_ms } => ("Preempt", in_ms, None),
            Announcement::Maintenance { in_ms } => ("Redeploy", in_ms, None),
            Announcement::Freeze { in_ms } => ("Freeze", in_ms, None),
            Announcement::OfAnother { in_ms } => ("Preempt", in_ms, Some("another-vm")),
            Announcement::Rebalance => return,
        };
        self.incarnation += 1;
        self.events.push(json!({
            "EventId": format!("00000000-0000-0000-0000-{:012}", self.number),
            "EventType": kind,
            "ResourceType": "VirtualMachine",
            "Resources": [of],
            "EventStatus": "Scheduled",
            "NotBefore": gmt(now + in_ms, true),
            "Description": "",
            "EventSource": "Platform",
            "DurationInSeconds": -1,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_each_cloud_writes_them() {
        assert_eq!(gmt(1_548_061_243_000, false), "21 Jan 2019 09:00:43 GMT");
        assert_eq!(
            gmt(1_626_929_417_000, true),
            "Thu, 22 Jul 2021 04:50:17 GMT"
        );
    }
}
