//! Pool sizes that follow their load: asks the pure rule, moves what is wanted.

use crate::lead::core::Core;
use crate::lead::state::{State, Waits};
use gpuloom_fleet::{Millis, NodeState, PoolName, PoolSpec, Seconds};
use gpuloom_scale::{PoolLoad, ScalePlan, plan};
use std::collections::BTreeMap;

/// How often sizes are looked at.
const EVERY: Seconds = Seconds(2);

/// When each pool last grew, since this lead started.
#[derive(Debug, Default)]
pub(super) struct Autoscaler {
    grown_at: BTreeMap<PoolName, Millis>,
    next: Option<Millis>,
}

// === impl Autoscaler ===

impl Autoscaler {
    pub(super) async fn turn(&mut self, core: &Core) {
        let grown = self.grown_at.clone();
        let due = self.next;
        let decide = move |s: &State, now: Millis| {
            let due = due.is_none_or(|at| now >= at);
            let moves = if due {
                moves(s, &grown, now)
            } else {
                Vec::new()
            };
            (moves, due, now)
        };
        let Ok((moves, due, now)) = core.read(decide).await else {
            return;
        };
        if due {
            self.next = Some(now.plus(EVERY));
        }
        for (pool, to, grows, reason) in moves {
            if grows {
                self.grown_at.insert(pool.clone(), now);
            }
            let resize = move |s: &State, now| Ok((s.resize_pool(&pool, to, &reason, now), ()));
            if core.write("resize", resize).await.is_err() {
                return;
            }
        }
    }
}

fn moves(
    state: &State,
    grown: &BTreeMap<PoolName, Millis>,
    now: Millis,
) -> Vec<(PoolName, u32, bool, String)> {
    let pools = state.pool_specs().filter(|(_, r)| !r.withdrawing);
    pools
        .filter_map(|(spec, _)| {
            let policy = state.autoscaling_policies().find(|p| p.pool == spec.name);
            let window = policy.map_or(Seconds(60), |p| p.window);
            let load = load(state, spec, grown.get(&spec.name).copied(), window, now)?;
            match plan(&load, policy, now) {
                ScalePlan::Hold { .. } => None,
                ScalePlan::Grow { to, reason } => Some((spec.name.clone(), to, true, reason)),
                ScalePlan::Shrink { to, reason } => Some((spec.name.clone(), to, false, reason)),
            }
        })
        .collect()
}

fn load(
    state: &State,
    spec: &PoolSpec,
    grown_at: Option<Millis>,
    window: Seconds,
    now: Millis,
) -> Option<PoolLoad> {
    let status = state.pools.get(&spec.name)?;
    let ready = state
        .nodes
        .values()
        .filter(|n| n.pool == spec.name && state.node_state(&n.id).0 == NodeState::Ready);
    let devices: usize = ready.clone().map(|n| n.devices.len()).sum();
    let histories = ready.filter_map(|n| {
        let live = state.live.get(&n.id)?;
        Some(n.devices.iter().filter_map(|d| live.histories.of(&d.id)))
    });
    let seen = gpuloom_watch::load(histories.flatten(), now, window);
    let complete = seen.reporting == devices && devices > 0;
    Some(PoolLoad {
        wanted: status.wanted,
        ready: state.ready_nodes(&spec.name),
        min: spec.min,
        max: spec.max,
        utilization_milli: seen.utilization_mean_milli.filter(|_| complete),
        queued: queued(state, spec),
        grown_at,
        changed_at: Some(status.changed_at),
    })
}

/// Jobs that wait for a device and could run on this pool.
fn queued(state: &State, spec: &PoolSpec) -> u64 {
    let waits = state.pending.iter().filter(|id| {
        let Some(record) = state.jobs.get(id) else {
            return false;
        };
        let job = &record.job.spec;
        let here = job.pool.as_ref().is_none_or(|p| *p == spec.name);
        let model = job
            .request
            .model
            .as_ref()
            .is_none_or(|m| *m == spec.gpu.model);
        let fits = job.request.devices() <= u64::from(spec.gpu.per_node);
        // More nodes do not help a job that waits for a quota.
        let device = state.reasons.get(id).is_some_and(|(_, r)| {
            matches!(
                r,
                gpuloom_sched::Reason::NoFreeDevice { .. }
                    | gpuloom_sched::Reason::NoNode { .. }
                    | gpuloom_sched::Reason::NeverFits { .. }
            )
        });
        here && model && fits && device && state.waits(record) == Waits::Met
    });
    waits.count() as u64
}
