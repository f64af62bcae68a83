//! How busy devices were over a window of time.

use gpuloom_fleet::{Millis, Seconds};
use serde::{Deserialize, Serialize};

use crate::history::History;
use crate::reading::Reading;

/// How busy a set of devices was over a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Devices asked about.
    pub devices: usize,
    /// Devices of which at least one reading in the window states a utilization.
    pub reporting: usize,
    /// Readings in the window that state a utilization.
    pub samples: usize,
    /// Mean over the reporting devices of each one's mean, in thousandths; `None` when no device
    /// reports. A device that is read more often weighs no more.
    pub utilization_mean_milli: Option<u32>,
    /// Highest single reading, in thousandths; `None` when no device reports.
    pub utilization_max_milli: Option<u32>,
}

/// The load of `histories` over the `window` that ends `now`. Readings from the future (a clock
/// that was set back) do not count; neither do readings that state no utilization.
pub fn load<'a>(
    histories: impl IntoIterator<Item = &'a History>,
    now: Millis,
    window: Seconds,
) -> Load {
    let mut sum = Load::default();
    let mut means = 0_u64;
    for history in histories {
        sum.devices += 1;
        let recent = history.iter().rev().filter(|r| within(r, now, window));
        let (mut total, mut count) = (0_u64, 0_usize);
        for milli in recent.filter_map(|r| r.utilization_milli) {
            total += u64::from(milli);
            count += 1;
            sum.utilization_max_milli = sum.utilization_max_milli.max(Some(milli));
        }
        if count > 0 {
            sum.reporting += 1;
            sum.samples += count;
            means += total / count as u64;
        }
    }
    if sum.reporting > 0 {
        let mean = means / sum.reporting as u64;
        sum.utilization_mean_milli = u32::try_from(mean).ok();
    }
    sum
}

/// Whether the reading lies in the `window` that ends `now`, both ends included.
pub(crate) fn within(reading: &Reading, now: Millis, window: Seconds) -> bool {
    reading.at <= now && now.since_ms(reading.at) <= window.0.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_fleet::DeviceId;
    use proptest::prelude::*;

    /// Each text is one device: `seconds:milli` pairs, `-` for a reading without utilization.
    fn histories(devices: &[&str]) -> Vec<History> {
        let device = |text: &&str| {
            let mut history = History::default();
            for pair in text.split_ascii_whitespace() {
                let (s, milli) = pair.split_once(':').expect("pair");
                let id = DeviceId::new("GPU-1").expect("id");
                let at = Millis(s.parse::<u64>().expect("seconds") * 1000);
                let utilization_milli = milli.parse().ok();
                history.push(Reading {
                    utilization_milli,
                    ..Reading::unanswered(id, at)
                });
            }
            history
        };
        devices.iter().map(device).collect()
    }

    #[track_caller]
    fn check(devices: &[&str], mean: Option<u32>, max: Option<u32>, reporting: usize) {
        let load = load(&histories(devices), Millis(100_000), Seconds(10));
        assert_eq!(
            (load.utilization_mean_milli, load.utilization_max_milli),
            (mean, max)
        );
        assert_eq!((load.devices, load.reporting), (devices.len(), reporting));
    }

    #[test]
    fn the_window_has_both_its_ends() {
        check(&["89:999 90:100 100:300 101:999"], Some(200), Some(300), 1);
    }

    #[test]
    fn a_missing_reading_is_not_an_idle_device() {
        check(&["95:800", "95:-", ""], Some(800), Some(800), 1);
        check(&["95:-", "80:900"], None, None, 0);
        check(&[], None, None, 0);
        check(&["95:0"], Some(0), Some(0), 1);
    }

    #[test]
    fn a_device_read_more_often_weighs_no_more() {
        check(
            &["91:1000 92:1000 93:1000 94:1000", "95:0"],
            Some(500),
            Some(1000),
            2,
        );
    }

    proptest! {
        #[test]
        fn the_mean_never_exceeds_the_maximum(values in prop::collection::vec(0_u32..=1000, 1..40)) {
            let text: Vec<String> =
                values.iter().enumerate().map(|(i, v)| format!("{}:{v}", 50 + i)).collect();
            let all = histories(&[&text.join(" ")]);
            let load = load(&all, Millis(100_000), Seconds(60));
            prop_assert!(load.utilization_mean_milli <= load.utilization_max_milli);
            prop_assert_eq!(load.samples, values.len());
        }
    }
}
