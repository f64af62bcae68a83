//! The fleet's state as the scheduler looks at it.

use super::state::{State, live_attempt, not_before};
use crate::lead::state::Waits;
use gpuloom_fleet::{AttemptId, AttemptState, Bytes, DeviceHealth, NodeState, StopCause};
use gpuloom_sched::{DeviceView, Held, NodeView, PoolView, Snapshot, Waiting, Weights};

/// Everything a decision is made from.
pub(crate) fn snapshot(state: &State) -> Snapshot {
    Snapshot {
        nodes: state
            .nodes
            .keys()
            .filter_map(|id| node(state, id))
            .collect(),
        held: held(state),
        waiting: waiting(state),
        quotas: state.quotas().cloned().collect(),
        parents: state
            .tenants()
            .filter_map(|t| Some((t.name.clone(), t.parent.clone()?)))
            .collect(),
        pools: state
            .pool_specs()
            .map(|(spec, record)| {
                let view = PoolView {
                    model: spec.gpu.model.clone(),
                    per_node: spec.gpu.per_node,
                    wanted: state.pools.get(&spec.name).map_or(0, |s| s.wanted),
                    max: spec.max,
                    withdrawing: record.withdrawing,
                };
                (spec.name.clone(), view)
            })
            .collect(),
        weights: Weights::default(),
    }
}

fn node(state: &State, id: &gpuloom_fleet::NodeId) -> Option<NodeView> {
    let record = state.nodes.get(id)?;
    let live = state.live.get(id);
    let devices = record.devices.iter().map(|d| {
        let newest = live.and_then(|l| l.histories.of(&d.id)?.newest());
        let health = live.and_then(|l| l.health.get(&d.id));
        let lost = newest.is_some_and(|r| r.lost);
        DeviceView {
            id: d.id.clone(),
            model: d.model.clone(),
            memory: d.memory,
            healthy: !lost && health.is_none_or(|(h, _)| *h != DeviceHealth::Failed),
            foreign_memory: live
                .and_then(|l| l.foreign.get(&d.id).copied())
                .unwrap_or(Bytes(0)),
            utilization_milli: newest.and_then(|r| r.utilization_milli),
            temperature_c: newest.and_then(|r| r.temperature_c),
        }
    });
    Some(NodeView {
        id: id.clone(),
        pool: record.pool.clone(),
        schedulable: state.node_state(id).0 == NodeState::Ready,
        devices: devices.collect(),
    })
}

fn held(state: &State) -> Vec<Held> {
    let live = state.active.iter().filter_map(|id| {
        let record = state.jobs.get(id)?;
        let attempt = live_attempt(record)?;
        let class = record.job.spec.priority_class.as_ref();
        Some(Held {
            attempt: AttemptId {
                job: *id,
                number: attempt.number,
            },
            tenant: record.job.spec.tenant.clone(),
            priority: state.priority_class(class).map_or(0, |c| c.value),
            node: attempt.node.clone(),
            grants: attempt.grants.clone(),
            granted_at: attempt.granted_at,
            stopping: attempt.is_stopping(),
            freed_for: match &attempt.state {
                AttemptState::Stopping {
                    cause: StopCause::Preempted { by } | StopCause::Reclaimed { by },
                    ..
                } => Some(*by),
                _ => None,
            },
        })
    });
    live.collect()
}

fn waiting(state: &State) -> Vec<Waiting> {
    let pending = state.pending.iter().filter_map(|id| {
        let record = state.jobs.get(id)?;
        if !record.job.spec.depends_on.is_empty() && state.waits(record) != Waits::Met {
            return None;
        }
        let spec = &record.job.spec;
        let class = state.priority_class(spec.priority_class.as_ref());
        Some(Waiting {
            job: *id,
            tenant: spec.tenant.clone(),
            priority: class.as_ref().map_or(0, |c| c.value),
            preempts: class.is_some_and(|c| c.preempts),
            submitted_at: record.job.submitted_at,
            pool: spec.pool.clone(),
            request: spec.request.clone(),
            not_before: not_before(record),
        })
    });
    pending.collect()
}
