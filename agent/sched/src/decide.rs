//! One decision over the whole fleet.

use crate::decision::{Decision, Grant, Preemption, Reason, Refusal};
use crate::fit::{best, fit, fitting_devices, may_run_on};
use crate::ledger::{Ledger, Room};
use crate::preempt;
use crate::quota::{Amount, Soft, Usage};
use crate::snapshot::{Held, NodeView, Snapshot, Waiting};
use gpuloom_fleet::{
    AttemptId, Bytes, DeviceGrant, GpuModel, JobId, MilliGpu, Millis, PoolName, StopCause,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Most jobs looked at in one decision; those behind them are told so.
pub const MAX_WAITING_PER_DECISION: usize = 20_000;

/// What makes two jobs equally hard to place.
type Shape<'a> = (
    MilliGpu,
    Option<Bytes>,
    Option<&'a GpuModel>,
    Option<&'a PoolName>,
);

struct Round<'a> {
    snapshot: &'a Snapshot,
    usage: Usage<'a>,
    /// Room now, less what is kept for jobs whose victims are stopping.
    free: Ledger<'a>,
    /// Room once those told to stop have stopped, less the same.
    soon: Ledger<'a>,
    stopped: BTreeSet<AttemptId>,
    full: BTreeMap<Shape<'a>, Reason>,
    decision: Decision,
}

/// Grants what fits, most urgent and then oldest first; stops what stands in the way of those who
/// may; gives everybody else the reason. Grants never exceed what is free now, quotas are never
/// exceeded, a preempted attempt has a lower priority than its preemptor, and a reclaimed one no
/// higher.
pub fn decide(snapshot: &Snapshot, now: Millis) -> Decision {
    let mut round = Round::new(snapshot);
    round.cut_excess();
    let mut waiting: Vec<&Waiting> = snapshot.waiting.iter().collect();
    waiting.sort_by_key(|w| (Reverse(w.priority), w.submitted_at, w.job));
    let mut soft = Vec::new();
    for (i, job) in waiting.into_iter().enumerate() {
        if let Some(until) = job.not_before.filter(|t| *t > now) {
            let earliest = round.decision.wake_at.map_or(until, |w| w.min(until));
            round.decision.wake_at = Some(earliest);
            round.refuse(job, Reason::Backoff { until });
        } else if i >= MAX_WAITING_PER_DECISION {
            let limit = MAX_WAITING_PER_DECISION;
            round.refuse(job, Reason::QueueTooLong { limit });
        } else if let Some(limit) = round.start(job, None) {
            soft.push((job, limit));
        }
    }
    round.soft_pass(soft);
    round.decision
}

// === impl Round ===

impl<'a> Round<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        Self {
            snapshot,
            usage: Usage::new(snapshot),
            free: Ledger::new(snapshot, |_| true),
            soon: Ledger::new(snapshot, |h| !h.stopping),
            stopped: BTreeSet::new(),
            full: BTreeMap::new(),
            decision: Decision::default(),
        }
    }

    fn cut_excess(&mut self) {
        let cut = preempt::over_limit(self.snapshot, &mut self.usage, &mut self.stopped);
        self.decision.preemptions.extend(cut);
    }

    /// Starts the job, makes room for it, or refuses it. Answers with the soft limit it would
    /// exceed, when that is all that keeps it; `over` lets it pass.
    fn start(&mut self, job: &'a Waiting, over: Option<Soft>) -> Option<Soft> {
        let (allowed, forbidden) = self.allowed_nodes(job);
        if allowed.is_empty()
            && let Some(reason) = forbidden
        {
            self.refuse(job, reason);
            return None;
        }
        let soft = self.soft_limit(job, &allowed);
        if over.is_none() && soft.is_some() {
            return soft;
        }
        let may = |node: &NodeView| allowed.contains(&node.id);
        if !self.full.contains_key(&shape(job))
            && let Some((node, grants)) = best(job, &self.free, may, &self.snapshot.weights)
        {
            self.grant(job, node, grants);
            return None;
        }
        let made_room =
            over.is_none() && (self.wait_for_victims(job) || self.make_room(job, &allowed));
        if !made_room {
            let reason = self.full_reason(job);
            self.refuse(job, reason);
        }
        None
    }

    /// Nodes the job may run on as far as pools and hard limits go; and a reason if any forbids.
    fn allowed_nodes(
        &self,
        job: &Waiting,
    ) -> (BTreeSet<&'a gpuloom_fleet::NodeId>, Option<Reason>) {
        let mut verdicts: BTreeMap<(&PoolName, MilliGpu, Bytes), Option<Reason>> = BTreeMap::new();
        let mut allowed = BTreeSet::new();
        let mut forbidden = None;
        for node in self.snapshot.nodes.iter().filter(|n| may_run_on(job, n)) {
            let Some(asked) = Amount::asked(job, node) else {
                continue;
            };
            let verdict = verdicts
                .entry((&node.pool, asked.gpus, asked.memory))
                .or_insert_with(|| self.usage.forbids(job, &node.pool, asked));
            match verdict {
                None => {
                    allowed.insert(&node.id);
                }
                Some(reason) => forbidden = Some(reason.clone()),
            }
        }
        (allowed, forbidden)
    }

    /// The soft limit exceeded on every allowed node, if so.
    fn soft_limit(
        &self,
        job: &Waiting,
        allowed: &BTreeSet<&gpuloom_fleet::NodeId>,
    ) -> Option<Soft> {
        let mut first = None;
        for node in self
            .snapshot
            .nodes
            .iter()
            .filter(|n| allowed.contains(&n.id))
        {
            let asked = Amount::asked(job, node)?;
            first = Some(self.usage.softly_exceeds(job, &node.pool, asked)?);
        }
        first
    }

    fn grant(&mut self, job: &Waiting, node: usize, grants: Vec<DeviceGrant>) {
        let view = self.free.nodes[node].node;
        self.free.take(&view.id, &grants);
        self.soon.take(&view.id, &grants);
        self.usage
            .count(&job.tenant, Some(&view.pool), Amount::of(&grants), false);
        self.decision.grants.push(Grant {
            job: job.job,
            node: view.id.clone(),
            grants,
        });
    }

    /// Keeps room for a job whose victims are already stopping.
    fn wait_for_victims(&mut self, job: &Waiting) -> bool {
        let victims: Vec<&Held> = self
            .snapshot
            .held
            .iter()
            .filter(|h| h.stopping && h.freed_for == Some(job.job))
            .collect();
        let Some(at) = victims.first().map(|v| &v.node) else {
            return false;
        };
        let Some(node) = self.soon.nodes.iter().position(|n| n.node.id == *at) else {
            return false;
        };
        let Some(grants) = fit(job, &self.soon.nodes[node], &self.snapshot.weights) else {
            return false;
        };
        self.keep(node, &grants);
        let victims = victims.into_iter().map(|v| v.attempt).collect();
        self.refuse(job, Reason::WaitsForVictims { victims });
        true
    }

    /// Tells others to stop for the job, if it may and that helps.
    fn make_room(&mut self, job: &Waiting, allowed: &BTreeSet<&gpuloom_fleet::NodeId>) -> bool {
        let may = |node: &NodeView| allowed.contains(&node.id);
        let plan = job.preempts.then(|| {
            preempt::plan(self.snapshot, &self.soon, job, may, |held, _, _| {
                held.priority < job.priority && !self.stopped.contains(&held.attempt)
            })
        });
        let (plan, reclaimed) = match plan.flatten() {
            Some(plan) => (Some(plan), false),
            None => (self.reclaim_plan(job, allowed), true),
        };
        let Some(plan) = plan else {
            return false;
        };
        let view = self.soon.nodes[plan.node].node;
        for held in &plan.victims {
            let amount = Amount::of(&held.grants);
            self.usage.release(&held.tenant, &view.pool, amount);
            self.stopped.insert(held.attempt);
            self.soon.nodes[plan.node].give(&held.grants);
            let cause = if reclaimed {
                StopCause::Reclaimed { by: job.job }
            } else {
                StopCause::Preempted { by: job.job }
            };
            self.decision.preemptions.push(Preemption {
                victim: held.attempt,
                cause,
            });
        }
        self.keep(plan.node, &plan.grants);
        let victims = plan.victims.iter().map(|v| v.attempt).collect();
        self.refuse(job, Reason::WaitsForVictims { victims });
        true
    }

    fn reclaim_plan(
        &self,
        job: &Waiting,
        allowed: &BTreeSet<&gpuloom_fleet::NodeId>,
    ) -> Option<preempt::Plan<'a>> {
        let guarantee = |node: &NodeView| {
            let asked = Amount::asked(job, node)?;
            self.usage.guarantees(job, &node.pool, asked)
        };
        let may = |node: &NodeView| allowed.contains(&node.id) && guarantee(node).is_some();
        preempt::plan(self.snapshot, &self.soon, job, may, |held, node, chosen| {
            let Some(i) = guarantee(node) else {
                return false;
            };
            let mut usage = self.usage.clone();
            for v in chosen {
                usage.release(&v.tenant, &node.pool, Amount::of(&v.grants));
            }
            held.priority <= job.priority
                && !self.stopped.contains(&held.attempt)
                && usage.may_reclaim(i, &held.tenant, &node.pool, Amount::of(&held.grants))
        })
    }

    /// Keeps what a job will get: nobody else is granted it.
    fn keep(&mut self, node: usize, grants: &[DeviceGrant]) {
        let id = &self.soon.nodes[node].node.id;
        self.soon.take(id, grants);
        let soon = self.soon.nodes[node].devices.clone();
        for (free, soon) in self.free.nodes[node].devices.iter_mut().zip(soon) {
            if let (Some(free), Some(soon)) = (free, soon) {
                *free = Room {
                    share: free.share.min(soon.share),
                    memory: free.memory.min(soon.memory),
                };
            }
        }
    }

    fn refuse(&mut self, job: &Waiting, reason: Reason) {
        self.decision.refusals.push(Refusal {
            job: job.job,
            reason,
        });
    }

    /// Jobs above a soft limit start only while nobody else waits for devices.
    fn soft_pass(&mut self, soft: Vec<(&'a Waiting, Soft)>) {
        let others: Vec<(JobId, &Waiting)> = self
            .decision
            .refusals
            .iter()
            .filter(|r| {
                matches!(
                    r.reason,
                    Reason::NoFreeDevice { .. } | Reason::WaitsForVictims { .. }
                )
            })
            .filter_map(|r| {
                let job = self.snapshot.waiting.iter().find(|w| w.job == r.job)?;
                Some((r.job, job))
            })
            .collect();
        for (job, limit) in soft {
            let reason = others
                .iter()
                .find_map(|(id, other)| self.usage.soft_reason(&limit, *id, &other.tenant));
            match reason {
                Some(reason) => self.refuse(job, reason),
                None => {
                    self.start(job, Some(limit));
                }
            }
        }
    }

    /// Why nothing is free for the job; the same for every job of its shape in this decision.
    fn full_reason(&mut self, job: &'a Waiting) -> Reason {
        let key = shape(job);
        if let Some(reason) = self.full.get(&key) {
            return reason.clone();
        }
        let reason = self.why_full(job);
        // A quota may have kept it from nodes with room: then the shape itself is not full.
        if best(job, &self.free, |_| true, &self.snapshot.weights).is_none() {
            self.full.insert(key, reason.clone());
        }
        reason
    }

    fn why_full(&self, job: &Waiting) -> Reason {
        let growable = self.growable(job);
        if !self.snapshot.nodes.iter().any(|n| may_run_on(job, n)) {
            return Reason::NoNode {
                pool: job.pool.clone(),
                growable,
            };
        }
        let empty = Ledger::new(self.snapshot, |_| false);
        let devices = job.request.devices();
        let most = |ledger: &Ledger<'_>| ledger.nodes.iter().map(|n| fitting_devices(job, n)).max();
        if most(&empty).unwrap_or(0) < devices {
            return Reason::NeverFits {
                message: never_fits(job, self.snapshot),
                growable,
            };
        }
        Reason::NoFreeDevice {
            devices,
            share: job.request.gpus_or_one().min(MilliGpu::ONE),
            memory: job.request.memory_per_gpu,
            best: most(&self.free).unwrap_or(0),
            growable,
        }
    }

    /// A pool that may still grow by nodes that could run the job.
    fn growable(&self, job: &Waiting) -> Option<PoolName> {
        let fits = |(name, pool): &(&PoolName, &crate::snapshot::PoolView)| {
            job.pool.as_ref().is_none_or(|p| p == *name)
                && job.request.model.as_ref().is_none_or(|m| *m == pool.model)
                && u64::from(pool.per_node) >= job.request.devices()
                && pool.wanted < pool.max
                && !pool.withdrawing
        };
        self.snapshot
            .pools
            .iter()
            .find(fits)
            .map(|(name, _)| name.clone())
    }
}

fn shape(job: &Waiting) -> Shape<'_> {
    let r = &job.request;
    (
        r.gpus_or_one(),
        r.memory_per_gpu,
        r.model.as_ref(),
        job.pool.as_ref(),
    )
}

fn never_fits(job: &Waiting, snapshot: &Snapshot) -> String {
    let r = &job.request;
    let mut asked = format!("it asks for {} GPU on one node", r.gpus_or_one());
    if let Some(model) = &r.model {
        asked.push_str(&format!(" of model {model}"));
    }
    if let Some(memory) = r.memory_per_gpu {
        asked.push_str(&format!(" with {memory} of memory on each"));
    }
    let largest = snapshot
        .nodes
        .iter()
        .filter(|n| may_run_on(job, n))
        .max_by_key(|n| (n.devices.len(), n.devices.first().map(|d| d.memory)));
    let largest = largest.and_then(|n| n.devices.first().map(|d| (n, d)));
    match largest {
        Some((n, d)) => format!(
            "no node could run it even when empty: {asked}; the largest has {} x {} with {} each; ask for less or declare a pool that has it",
            n.devices.len(),
            d.model,
            d.memory
        ),
        None => format!("no node has a GPU: {asked}"),
    }
}
