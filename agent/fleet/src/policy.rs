//! How a pool's size follows its load.

use crate::id::{PolicyName, PoolName};
use crate::limits::MAX_DURATION_S;
use crate::problem::Problems;
use crate::unit::Seconds;
use serde::{Deserialize, Serialize};

/// Target tracking on GPU utilization and queue length, between the pool's min and max.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoscalingPolicySpec {
    /// Unique in the fleet.
    pub name: PolicyName,
    /// The pool it moves; at most one policy a pool.
    pub pool: PoolName,
    /// Utilization aimed at, in thousandths, 50 to 1000: 700 is 70%.
    pub target_utilization_milli: u32,
    /// Jobs waiting for this pool that justify one more node, 1 to 10,000.
    pub queue_per_node: u32,
    /// Readings older than this do not count, 10 s to 1 day.
    pub window: Seconds,
    /// Shortest time between two growths.
    pub grow_cooldown: Seconds,
    /// Shortest time from any change to a shrink.
    pub shrink_cooldown: Seconds,
}

// === impl AutoscalingPolicySpec ===

impl AutoscalingPolicySpec {
    /// Checks the spec by itself.
    pub fn check(&self) -> Result<(), Problems> {
        let mut p = Problems::default();
        let milli = self.target_utilization_milli;
        if !(50..=1000).contains(&milli) {
            let value = format!("{}.{:03}", milli / 1000, milli % 1000);
            p.add(
                "target_utilization",
                value,
                "is out of range",
                "use a value from 0.05 to 1",
            );
        }
        p.range("queue_per_node", self.queue_per_node, 1, 10_000);
        p.range("window", self.window.0, 10, 86_400);
        p.range("grow_cooldown", self.grow_cooldown.0, 0, MAX_DURATION_S);
        p.range("shrink_cooldown", self.shrink_cooldown.0, 0, MAX_DURATION_S);
        p.into_result()
    }
}
