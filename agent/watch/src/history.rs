//! The newest readings of each device, at most a fixed number of them.

use std::collections::{BTreeMap, VecDeque};

use gpuloom_fleet::DeviceId;
use serde::{Deserialize, Serialize};

use crate::reading::Reading;

/// Readings kept per device unless configured otherwise.
pub const DEFAULT_HISTORY: usize = 100;
/// Most readings kept per device, whatever is configured: at 1 Hz nearly three hours.
pub const MAX_HISTORY: usize = 10_000;

/// Readings of one device in order of time, the oldest dropped when full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    capacity: usize,
    readings: VecDeque<Reading>,
}

/// A history per device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histories {
    capacity: usize,
    devices: BTreeMap<DeviceId, History>,
}

// === impl History ===

impl History {
    /// An empty history of `capacity` readings, brought into 1..=[`MAX_HISTORY`].
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.clamp(1, MAX_HISTORY),
            readings: VecDeque::new(),
        }
    }

    /// Adds `reading` and drops the oldest when full. Returns false, and changes nothing, when it
    /// is not newer than the newest: a repeated report is not counted twice.
    pub fn push(&mut self, reading: Reading) -> bool {
        if self
            .readings
            .back()
            .is_some_and(|newest| newest.at >= reading.at)
        {
            return false;
        }
        if self.readings.len() == self.capacity {
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
        true
    }

    /// The newest reading; `None` when there is none yet.
    #[must_use]
    pub fn newest(&self) -> Option<&Reading> {
        self.readings.back()
    }

    /// Readings, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Reading> + ExactSizeIterator {
        self.readings.iter()
    }

    /// How many readings there are, 0 to [`History::capacity`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.readings.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.readings.is_empty()
    }

    /// How many readings fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new(DEFAULT_HISTORY)
    }
}

// === impl Histories ===

impl Histories {
    /// No devices yet; each will keep `capacity` readings, see [`History::new`].
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.clamp(1, MAX_HISTORY),
            devices: BTreeMap::new(),
        }
    }

    /// Adds a reading to its device's history, see [`History::push`].
    pub fn push(&mut self, reading: Reading) -> bool {
        let capacity = self.capacity;
        let history = self.devices.entry(reading.device.clone());
        history
            .or_insert_with(|| History::new(capacity))
            .push(reading)
    }

    /// The history of `device`; `None` when it was never read.
    #[must_use]
    pub fn of(&self, device: &DeviceId) -> Option<&History> {
        self.devices.get(device)
    }

    /// Every device's history, in order of id.
    pub fn iter(&self) -> impl Iterator<Item = (&DeviceId, &History)> {
        self.devices.iter()
    }

    /// The newest reading of every device that has one.
    pub fn newest(&self) -> impl Iterator<Item = &Reading> {
        self.devices.values().filter_map(History::newest)
    }

    /// Forgets devices for which `keep` is false, e.g. those of a node that has left.
    pub fn retain(&mut self, mut keep: impl FnMut(&DeviceId) -> bool) {
        self.devices.retain(|id, _| keep(id));
    }

    /// Readings each device keeps.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

impl Default for Histories {
    fn default() -> Self {
        Self::new(DEFAULT_HISTORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_fleet::Millis;
    use proptest::prelude::*;

    fn at(ms: u64) -> Reading {
        Reading::unanswered(DeviceId::new("GPU-1").expect("id"), Millis(ms))
    }

    #[test]
    fn capacity_is_brought_into_its_limits() {
        for (asked, given) in [
            (0, 1),
            (1, 1),
            (MAX_HISTORY, MAX_HISTORY),
            (usize::MAX, 10_000),
        ] {
            assert_eq!(History::new(asked).capacity(), given);
            assert_eq!(Histories::new(asked).capacity(), given);
        }
        assert_eq!(History::default().capacity(), 100);
    }

    #[test]
    fn a_repeated_or_older_reading_changes_nothing() {
        let mut history = History::new(3);
        assert!(history.push(at(10)));
        for ms in [10, 9] {
            assert!(!history.push(at(ms)), "{ms}");
        }
        assert_eq!(history.len(), 1);
    }

    #[test]
    fn histories_keep_devices_apart_and_forget_on_request() {
        let mut all = Histories::new(2);
        let other = Reading {
            device: DeviceId::new("GPU-2").expect("id"),
            ..at(1)
        };
        assert!(all.push(at(1)) && all.push(other.clone()) && all.push(at(2)));
        assert_eq!(all.newest().count(), 2);
        all.retain(|id| *id == other.device);
        assert_eq!(all.newest().collect::<Vec<_>>(), [&other]);
    }

    proptest! {
        #[test]
        fn it_holds_the_newest_in_order(capacity in 1_usize..20, times in prop::collection::vec(0_u64..50, 0..60)) {
            let mut history = History::new(capacity);
            let mut kept: Vec<u64> = Vec::new();
            for ms in times {
                let newer = kept.last().is_none_or(|last| *last < ms);
                prop_assert_eq!(history.push(at(ms)), newer);
                if newer {
                    kept.push(ms);
                }
            }
            let newest = &kept[kept.len().saturating_sub(capacity)..];
            prop_assert!(history.iter().map(|r| r.at.0).eq(newest.iter().copied()));
        }
    }
}
