//! The newest readings of many devices in one line.

use gpuloom_fleet::{Bytes, Millis, Seconds};
use serde::{Deserialize, Serialize};

use crate::load::within;
use crate::reading::Reading;

/// Sums over devices. Each sum covers the devices that stated the figure; `None` when none did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSum {
    /// Devices with a reading, fresh or not.
    pub devices: usize,
    /// Of those, devices whose reading is fresh and which are not lost.
    pub reporting: usize,
    /// Of those, devices that have fallen off the bus.
    pub lost: usize,
    /// Mean utilization in thousandths.
    pub utilization_mean_milli: Option<u32>,
    /// Memory in use.
    pub memory_used: Option<Bytes>,
    /// All memory.
    pub memory_total: Option<Bytes>,
    /// Highest temperature.
    pub temperature_max_c: Option<i32>,
    /// Power drawn by all.
    pub power_total_mw: Option<u64>,
}

/// Sums the newest reading of each device. A reading older than `max_age`, or from the future,
/// counts as a device but adds nothing.
pub fn sum<'a>(
    newest: impl IntoIterator<Item = &'a Reading>,
    now: Millis,
    max_age: Seconds,
) -> ClusterSum {
    let mut sum = ClusterSum::default();
    let (mut utilization, mut stated) = (0_u64, 0_u64);
    for reading in newest {
        sum.devices += 1;
        if reading.lost {
            sum.lost += 1;
            continue;
        }
        if !within(reading, now, max_age) {
            continue;
        }
        sum.reporting += 1;
        if let Some(milli) = reading.utilization_milli {
            utilization += u64::from(milli);
            stated += 1;
        }
        sum.memory_used = plus(sum.memory_used, reading.memory_used, |a, b| a + b);
        sum.memory_total = plus(sum.memory_total, reading.memory_total, |a, b| a + b);
        sum.power_total_mw = plus(sum.power_total_mw, reading.power_mw, u64::saturating_add);
        sum.temperature_max_c = sum.temperature_max_c.max(reading.temperature_c);
    }
    let mean = utilization.checked_div(stated);
    sum.utilization_mean_milli = mean.and_then(|m| u32::try_from(m).ok());
    sum
}

fn plus<T: Copy>(a: Option<T>, b: Option<T>, add: impl Fn(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(add(a, b)),
        (known, None) | (None, known) => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_fleet::DeviceId;

    fn reading(at_s: u64) -> Reading {
        Reading::unanswered(DeviceId::new("GPU-1").expect("id"), Millis(at_s * 1000))
    }

    #[test]
    fn stale_lost_and_silent_devices_add_nothing_but_are_counted() {
        let busy = Reading {
            utilization_milli: Some(900),
            memory_used: Some(Bytes::gib(2)),
            memory_total: Some(Bytes::gib(16)),
            temperature_c: Some(60),
            power_mw: Some(50_000),
            ..reading(100)
        };
        let idle = Reading {
            utilization_milli: Some(100),
            temperature_c: Some(70),
            ..reading(99)
        };
        let stale = Reading {
            utilization_milli: Some(1000),
            ..reading(1)
        };
        let lost = Reading::of_lost(idle.device.clone(), Millis(100_000));
        let all = [&busy, &idle, &stale, &lost, &reading(100)];
        assert_eq!(
            sum(all, Millis(100_000), Seconds(5)),
            ClusterSum {
                devices: 5,
                reporting: 3,
                lost: 1,
                utilization_mean_milli: Some(500),
                memory_used: Some(Bytes::gib(2)),
                memory_total: Some(Bytes::gib(16)),
                temperature_max_c: Some(70),
                power_total_mw: Some(50_000),
            }
        );
    }

    #[test]
    fn nothing_known_is_not_zero() {
        assert_eq!(sum([], Millis(1), Seconds(1)), ClusterSum::default());
        assert_eq!(
            sum([&reading(100)], Millis(100_000), Seconds(1)).memory_used,
            None
        );
    }
}
