//! The device selector: which of several devices is the best place for more work.

use crate::snapshot::DeviceView;
use gpuloom_fleet::{Bytes, DeviceId, GpuModel};

/// How much each part counts, in thousandths; memory and utilization need not add up to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// Free memory as a part of the device's own. Default 600.
    pub free_memory_milli: u32,
    /// Idle time. Default 400.
    pub idle_milli: u32,
    /// Above this, each degree costs `penalty_per_degree_milli`. Default 80 degrees Celsius.
    pub hot_above_c: i32,
    /// Default 20: 10 degrees above cost 0.2.
    pub penalty_per_degree_milli: u32,
}

/// Which devices come into question at all.
#[derive(Debug, Clone, Default)]
pub struct Constraints {
    /// At least this much free memory.
    pub min_free_memory: Option<Bytes>,
    /// Only this model.
    pub model: Option<GpuModel>,
    /// No hotter than this; a device whose temperature is unknown does not qualify.
    pub max_temperature_c: Option<i32>,
    /// No busier than this, in thousandths; a device whose utilization is unknown does not qualify.
    pub max_utilization_milli: Option<u32>,
}

/// A device and how well it does, larger is better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Score {
    /// Which.
    pub device: DeviceId,
    /// In thousandths of the weights' scale; may be negative for a hot device.
    pub score_milli: i64,
}

// === impl Weights ===

impl Default for Weights {
    fn default() -> Self {
        Self {
            free_memory_milli: 600,
            idle_milli: 400,
            hot_above_c: 80,
            penalty_per_degree_milli: 20,
        }
    }
}

/// Healthy devices that meet the constraints, best first; equals in the order given. An unknown
/// utilization counts as fully busy and an unknown temperature costs nothing: a device that does
/// not answer is never preferred to one that does.
pub fn rank(devices: &[DeviceView], weights: &Weights, only: &Constraints) -> Vec<Score> {
    let mut scores: Vec<Score> = devices
        .iter()
        .filter(|d| d.healthy && meets(d, only))
        .map(|d| Score {
            device: d.id.clone(),
            score_milli: score(d, weights),
        })
        .collect();
    scores.sort_by_key(|s| std::cmp::Reverse(s.score_milli));
    scores
}

fn meets(d: &DeviceView, only: &Constraints) -> bool {
    let free = d.memory.saturating_sub(d.foreign_memory);
    only.min_free_memory.is_none_or(|m| free >= m)
        && only.model.as_ref().is_none_or(|m| *m == d.model)
        && only
            .max_temperature_c
            .is_none_or(|m| d.temperature_c.is_some_and(|t| t <= m))
        && only
            .max_utilization_milli
            .is_none_or(|m| d.utilization_milli.is_some_and(|u| u <= m))
}

fn score(d: &DeviceView, w: &Weights) -> i64 {
    let free = d.memory.saturating_sub(d.foreign_memory);
    let free_milli = (u128::from(free.0) * 1000)
        .checked_div(u128::from(d.memory.0))
        .and_then(|m| i64::try_from(m).ok())
        .unwrap_or(0);
    let idle_milli = 1000 - i64::from(d.utilization_milli.unwrap_or(1000).min(1000));
    let degrees = d.temperature_c.map_or(0, |t| (t - w.hot_above_c).max(0));
    (free_milli * i64::from(w.free_memory_milli) + idle_milli * i64::from(w.idle_milli)) / 1000
        - i64::from(degrees) * i64::from(w.penalty_per_degree_milli)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, foreign_gib: u64, util: Option<u32>, temp: Option<i32>) -> DeviceView {
        DeviceView {
            id: DeviceId::new(id).expect("an id"),
            model: GpuModel::new("T4").expect("a model"),
            memory: Bytes::gib(16),
            healthy: true,
            foreign_memory: Bytes::gib(foreign_gib),
            utilization_milli: util,
            temperature_c: temp,
        }
    }

    fn order(devices: &[DeviceView], w: &Weights, only: &Constraints) -> String {
        let ids: Vec<_> = rank(devices, w, only)
            .into_iter()
            .map(|s| s.device.to_string())
            .collect();
        ids.join(" ")
    }

    #[test]
    fn free_memory_counts_60_and_idle_time_40_by_default() {
        let d = [
            device("busy", 0, Some(1000), None),
            device("full", 16, Some(0), None),
        ];
        assert_eq!(
            order(&d, &Weights::default(), &Constraints::default()),
            "busy full"
        );
        let idle = Weights {
            free_memory_milli: 400,
            idle_milli: 600,
            ..Weights::default()
        };
        assert_eq!(order(&d, &idle, &Constraints::default()), "full busy");
    }

    #[test]
    fn a_hot_device_and_one_that_does_not_answer_come_last() {
        let d = [
            device("hot", 0, Some(0), Some(95)),
            device("silent", 0, None, None),
            device("cool", 0, Some(100), Some(60)),
        ];
        assert_eq!(
            order(&d, &Weights::default(), &Constraints::default()),
            "cool hot silent"
        );
    }

    #[test]
    fn constraints_leave_out_what_is_unknown() {
        let d = [
            device("a", 8, None, None),
            device("b", 0, Some(500), Some(70)),
        ];
        let only = Constraints {
            max_utilization_milli: Some(500),
            ..Constraints::default()
        };
        assert_eq!(order(&d, &Weights::default(), &only), "b");
        let only = Constraints {
            min_free_memory: Some(Bytes::gib(9)),
            ..Constraints::default()
        };
        assert_eq!(order(&d, &Weights::default(), &only), "b");
        let only = Constraints {
            max_temperature_c: Some(69),
            ..Constraints::default()
        };
        assert_eq!(order(&d, &Weights::default(), &only), "");
    }
}
