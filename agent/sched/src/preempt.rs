//! Whom to stop: as few as needed, of the lowest priority, the youngest first.

use crate::decision::Preemption;
use crate::fit::fit;
use crate::ledger::{Ledger, NodeRoom};
use crate::quota::{Amount, Usage};
use crate::select::Weights;
use crate::snapshot::{Held, NodeView, Snapshot, Waiting};
use gpuloom_fleet::{AttemptId, DeviceGrant, StopCause};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Those to stop on one node, and what the job will get there.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) node: usize,
    pub(crate) victims: Vec<&'a Held>,
    pub(crate) grants: Vec<DeviceGrant>,
}

/// The order in which attempts are given up.
fn order(held: &Held) -> (i32, Reverse<u64>, Reverse<AttemptId>) {
    (
        held.priority,
        Reverse(held.granted_at.0),
        Reverse(held.attempt),
    )
}

/// The cheapest plan over all allowed nodes: by the highest priority stopped, then by how many,
/// then by how much they hold, then by node id. `soon` is the room once those already told to stop
/// have stopped; `may_stop` is asked with the victims chosen so far on that node.
pub(crate) fn plan<'a>(
    snapshot: &'a Snapshot,
    soon: &Ledger<'_>,
    job: &Waiting,
    allowed: impl Fn(&NodeView) -> bool,
    may_stop: impl Fn(&Held, &NodeView, &[&Held]) -> bool,
) -> Option<Plan<'a>> {
    soon.nodes
        .iter()
        .enumerate()
        .filter(|(_, room)| allowed(room.node))
        .filter_map(|(i, room)| {
            let (victims, grants) = on_node(snapshot, room, job, &may_stop)?;
            Some(Plan {
                node: i,
                victims,
                grants,
            })
        })
        .min_by_key(|p| {
            let top = p.victims.iter().map(|v| v.priority).max();
            let held: u64 = p.victims.iter().map(|v| Amount::of(&v.grants).gpus.0).sum();
            (top, p.victims.len(), held, &soon.nodes[p.node].node.id)
        })
}

fn on_node<'a>(
    snapshot: &'a Snapshot,
    room: &NodeRoom<'_>,
    job: &Waiting,
    may_stop: impl Fn(&Held, &NodeView, &[&Held]) -> bool,
) -> Option<(Vec<&'a Held>, Vec<DeviceGrant>)> {
    let mut candidates: Vec<&Held> = snapshot
        .held
        .iter()
        .filter(|h| h.node == room.node.id && !h.stopping)
        .collect();
    candidates.sort_by_key(|h| order(h));
    let mut freed = room.clone();
    let mut victims: Vec<&Held> = Vec::new();
    let mut found = None;
    for held in candidates {
        if !may_stop(held, room.node, &victims) {
            continue;
        }
        freed.give(&held.grants);
        victims.push(held);
        found = fit(job, &freed, &snapshot.weights);
        if found.is_some() {
            break;
        }
    }
    let mut grants = found?;
    spare(room, job, &snapshot.weights, &mut victims, &mut grants);
    Some((victims, grants))
}

/// Lets go of victims the job does not need after all, the most important first.
fn spare(
    room: &NodeRoom<'_>,
    job: &Waiting,
    weights: &Weights,
    victims: &mut Vec<&Held>,
    grants: &mut Vec<DeviceGrant>,
) {
    for i in (0..victims.len()).rev() {
        let mut freed = room.clone();
        for (k, v) in victims.iter().enumerate() {
            if k != i {
                freed.give(&v.grants);
            }
        }
        if let Some(fitting) = fit(job, &freed, weights) {
            *grants = fitting;
            victims.remove(i);
        }
    }
}

/// Attempts of tenants above a limit whose quota says `on_excess = "preempt"`.
pub(crate) fn over_limit(
    snapshot: &Snapshot,
    usage: &mut Usage<'_>,
    stopped: &mut BTreeSet<AttemptId>,
) -> Vec<Preemption> {
    let mut order_all: Vec<&Held> = snapshot.held.iter().filter(|h| !h.stopping).collect();
    order_all.sort_by_key(|h| order(h));
    let mut preemptions = Vec::new();
    for held in order_all {
        let Some(node) = snapshot.nodes.iter().find(|n| n.id == held.node) else {
            continue;
        };
        if let Some(quota) = usage.to_cut(&held.tenant, &node.pool) {
            usage.release(&held.tenant, &node.pool, Amount::of(&held.grants));
            stopped.insert(held.attempt);
            preemptions.push(Preemption {
                victim: held.attempt,
                cause: StopCause::OverQuota {
                    quota: quota.name.clone(),
                },
            });
        }
    }
    preemptions
}
