//! Decides how many nodes a pool wants: its load and the time in, a [`ScalePlan`] out.
//!
//! Architecture invariant: pure. A missing reading never shrinks a pool.

use gpuloom_fleet::{AutoscalingPolicySpec, Millis};

/// Utilization within this many thousandths of the target changes nothing (the Kubernetes
/// Horizontal Pod Autoscaler's tolerance is the same 10% of the target).
pub const TOLERANCE_MILLI: u64 = 100;

/// What a pool is and does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLoad {
    /// Nodes wanted now.
    pub wanted: u32,
    /// Nodes that take jobs.
    pub ready: u32,
    /// Fewest nodes.
    pub min: u32,
    /// Most nodes.
    pub max: u32,
    /// Mean utilization of the ready nodes' GPUs over the policy's window, in thousandths; `None`
    /// when any ready node has no reading in it.
    pub utilization_milli: Option<u32>,
    /// Jobs that wait and could run on this pool.
    pub queued: u64,
    /// When the pool last grew.
    pub grown_at: Option<Millis>,
    /// When the pool last changed its size.
    pub changed_at: Option<Millis>,
}

/// What to do about a pool's size. The reason is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScalePlan {
    /// Nothing.
    Hold {
        /// Why.
        reason: String,
    },
    /// Want more nodes.
    Grow {
        /// How many in all.
        to: u32,
        /// Why.
        reason: String,
    },
    /// Want fewer nodes; those leaving are drained first.
    Shrink {
        /// How many in all.
        to: u32,
        /// Why.
        reason: String,
    },
}

/// Target tracking: `ceil(ready x utilization / target)` nodes, and one more for every
/// `queue_per_node` jobs waiting beyond the nodes already on their way; the larger counts, within
/// min and max. Shrinks only with an empty queue, every wanted node ready and every reading there.
/// Bounds that moved are followed at once. Source of the ratio: Kubernetes documentation,
/// Horizontal Pod Autoscaling, "Algorithm details".
pub fn plan(load: &PoolLoad, policy: Option<&AutoscalingPolicySpec>, now: Millis) -> ScalePlan {
    if load.wanted < load.min {
        let reason = format!("the pool's min is {}", load.min);
        return ScalePlan::Grow {
            to: load.min,
            reason,
        };
    }
    if load.wanted > load.max {
        let reason = format!("the pool's max is {}", load.max);
        return ScalePlan::Shrink {
            to: load.max,
            reason,
        };
    }
    let Some(policy) = policy else {
        return hold("no autoscaling policy names this pool");
    };
    let (by_queue, queue_reason) = wanted_by_queue(load, policy);
    let (by_use, use_reason) = wanted_by_use(load, policy);
    let (to, reason) = match by_use {
        Some(n) if n >= by_queue => (n, use_reason),
        _ => (by_queue, queue_reason),
    };
    let to = to.clamp(load.min, load.max);
    if to > load.wanted {
        return grow(load, policy, to, reason, now);
    }
    if to < load.wanted {
        return shrink(load, policy, by_use.is_some(), to, reason, now);
    }
    hold("the load is met")
}

fn hold(reason: impl Into<String>) -> ScalePlan {
    ScalePlan::Hold {
        reason: reason.into(),
    }
}

fn wanted_by_queue(load: &PoolLoad, policy: &AutoscalingPolicySpec) -> (u32, String) {
    let per_node = u64::from(policy.queue_per_node.max(1));
    let more = u32::try_from(load.queued.div_ceil(per_node)).unwrap_or(u32::MAX);
    let wanted = load.ready.min(load.wanted).saturating_add(more);
    let wanted = if more == 0 { load.min } else { wanted.max(1) };
    (
        wanted,
        format!("{} jobs wait, {per_node} a node", load.queued),
    )
}

fn wanted_by_use(load: &PoolLoad, policy: &AutoscalingPolicySpec) -> (Option<u32>, String) {
    let Some(used) = load.utilization_milli else {
        return (None, "no utilization reading".to_owned());
    };
    let target = u64::from(policy.target_utilization_milli.max(1));
    let used = u64::from(used);
    let reason = format!(
        "utilization is {}% and its target {}%",
        used / 10,
        target / 10
    );
    if used.abs_diff(target) * 1000 <= target * TOLERANCE_MILLI {
        return (Some(load.wanted), reason);
    }
    let nodes = (u64::from(load.ready) * used).div_ceil(target);
    (Some(u32::try_from(nodes).unwrap_or(u32::MAX)), reason)
}

fn grow(
    load: &PoolLoad,
    policy: &AutoscalingPolicySpec,
    to: u32,
    reason: String,
    now: Millis,
) -> ScalePlan {
    let open = load.grown_at.map(|t| t.plus(policy.grow_cooldown));
    if open.is_some_and(|t| now < t) {
        return hold(format!(
            "{reason}; it grew less than {} ago",
            policy.grow_cooldown
        ));
    }
    ScalePlan::Grow { to, reason }
}

fn shrink(
    load: &PoolLoad,
    policy: &AutoscalingPolicySpec,
    known: bool,
    to: u32,
    reason: String,
    now: Millis,
) -> ScalePlan {
    let idle = load.ready == 0 && load.wanted == 0;
    if !known && !idle {
        return hold("utilization is unknown, and an unknown reading never shrinks a pool");
    }
    if load.queued > 0 {
        return hold(format!("{} jobs wait", load.queued));
    }
    if load.ready < load.wanted {
        return hold(format!("{} of {} nodes are ready", load.ready, load.wanted));
    }
    let open = load.changed_at.map(|t| t.plus(policy.shrink_cooldown));
    if open.is_some_and(|t| now < t) {
        return hold(format!(
            "{reason}; its size changed less than {} ago",
            policy.shrink_cooldown
        ));
    }
    ScalePlan::Shrink { to, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_fleet::{PolicyName, PoolName, Seconds};
    use proptest::prelude::*;

    fn policy() -> AutoscalingPolicySpec {
        AutoscalingPolicySpec {
            name: PolicyName::new("p").expect("a name"),
            pool: PoolName::new("t4").expect("a name"),
            target_utilization_milli: 700,
            queue_per_node: 4,
            window: Seconds(60),
            grow_cooldown: Seconds(30),
            shrink_cooldown: Seconds(300),
        }
    }

    fn load(wanted: u32, utilization_milli: Option<u32>, queued: u64) -> PoolLoad {
        PoolLoad {
            wanted,
            ready: wanted,
            min: 1,
            max: 10,
            utilization_milli,
            queued,
            grown_at: None,
            changed_at: None,
        }
    }

    fn size(load: &PoolLoad) -> u32 {
        match plan(load, Some(&policy()), Millis(1_000_000)) {
            ScalePlan::Hold { .. } => load.wanted,
            ScalePlan::Grow { to, .. } | ScalePlan::Shrink { to, .. } => to,
        }
    }

    #[test]
    fn a_pool_follows_its_load_within_its_bounds() {
        for (wanted, used, queued, expected) in [
            (4, Some(1000), 0, 6),
            (4, Some(350), 0, 2),
            (4, Some(0), 0, 1),
            (4, Some(740), 0, 4),
            (4, Some(1000), 9, 7),
            (4, Some(350), 1, 5),
            (4, None, 0, 4),
            (4, None, 100, 10),
            (0, None, 1, 1),
            (12, None, 0, 10),
        ] {
            assert_eq!(
                size(&load(wanted, used, queued)),
                expected,
                "{wanted} {used:?} {queued}"
            );
        }
    }

    #[test]
    fn cooldowns_and_nodes_on_their_way_hold_it() {
        let mut l = load(4, Some(1000), 0);
        l.grown_at = Some(Millis(980_000));
        assert_eq!(size(&l), 4);
        l.grown_at = Some(Millis(970_000));
        assert_eq!(size(&l), 6);
        let mut l = load(4, Some(350), 0);
        l.changed_at = Some(Millis(701_000));
        assert_eq!(size(&l), 4);
        l.changed_at = Some(Millis(700_000));
        assert_eq!(size(&l), 2);
        l.ready = 3;
        assert_eq!(size(&l), 4);
    }

    #[test]
    fn without_a_policy_only_the_bounds_move_it() {
        let now = Millis(0);
        assert!(matches!(
            plan(&load(4, Some(0), 9), None, now),
            ScalePlan::Hold { .. }
        ));
        assert!(matches!(
            plan(&load(0, None, 0), None, now),
            ScalePlan::Grow { to: 1, .. }
        ));
    }

    proptest! {
        #[test]
        fn a_missing_reading_never_shrinks_and_bounds_always_hold(
            wanted in 0u32..20, ready in 0u32..20, used in prop::option::of(0u32..1001), queued in 0u64..100,
        ) {
            let l = PoolLoad { ready: ready.min(wanted), ..load(wanted, used, queued) };
            match plan(&l, Some(&policy()), Millis(0)) {
                ScalePlan::Grow { to, .. } => prop_assert!(to > wanted && to <= 10),
                ScalePlan::Shrink { to, .. } => {
                    prop_assert!(to < wanted && to >= 1);
                    prop_assert!(used.is_some() || wanted > 10);
                }
                ScalePlan::Hold { .. } => prop_assert!((1..=10).contains(&wanted)),
            }
        }
    }
}
