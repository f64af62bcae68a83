//! Carrying out what the scheduler decided: nothing is chosen here, everything is checked again.

use super::draft::{Change, Draft};
use super::queue::Waits;
use super::{State, usage};
use gpuloom_fleet::{
    Attempt, AttemptId, AttemptState, Bytes, DeviceGrant, DeviceId, EventKind, JobState, MilliGpu,
    Millis, NodeId, NodeState,
};
use gpuloom_sched::{Decision, Grant};
use std::collections::BTreeMap;

/// What carrying out a decision did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) change: Change,
    /// Grants that could not be carried out, with why: a fault of the scheduler.
    pub(crate) refused: Vec<String>,
}

// === impl State ===

impl State {
    /// Turns a decision into attempts and stops.
    pub(crate) fn carry_out(&self, decision: &Decision, now: Millis) -> Started {
        let mut draft = Draft::new(self);
        let mut refused = Vec::new();
        let mut given = BTreeMap::new();
        for grant in &decision.grants {
            draft.next_part();
            match self.check_grant(grant, &given) {
                Ok(()) => {
                    for g in &grant.grants {
                        add(given.entry(g.device.clone()).or_default(), g);
                    }
                    start(&mut draft, grant, now);
                }
                Err(why) => refused.push(format!("job {}: {why}", grant.job)),
            }
        }
        for preemption in &decision.preemptions {
            draft.next_part();
            let id = preemption.victim.job;
            let last = draft.job(id).map(|r| r.job.attempts_made);
            if last == Some(preemption.victim.number) {
                draft.stop(id, &preemption.cause, now);
            }
        }
        Started {
            change: draft.finish(),
            refused,
        }
    }

    /// Whether the grant keeps every promise: one live attempt a job, no device oversubscribed.
    fn check_grant(
        &self,
        grant: &Grant,
        given: &BTreeMap<DeviceId, (MilliGpu, Bytes)>,
    ) -> Result<(), String> {
        let record = self.jobs.get(&grant.job).ok_or("it is gone")?;
        if !matches!(record.job.state, JobState::Pending { .. }) {
            return Err(format!("it is {}", record.job.state.as_str()));
        }
        if self.waits(record) != Waits::Met {
            return Err("its dependencies are not met".to_owned());
        }
        let node = self.nodes.get(&grant.node).ok_or("its node is gone")?;
        let (state, reason) = self.node_state(&node.id);
        if state != NodeState::Ready {
            return Err(format!("node {} is {state:?}: {reason}", node.id));
        }
        for g in &grant.grants {
            let device = node.devices.iter().find(|d| d.id == g.device);
            let device = device.ok_or_else(|| format!("{} has no {}", node.id, g.device))?;
            let held = usage::held_on(self, &g.device);
            let (share, memory) = given.get(&g.device).copied().unwrap_or_default();
            if held.share + share + g.share > MilliGpu::ONE {
                return Err(format!("{} has no share of {} left", g.device, g.share));
            }
            if held.memory + memory + g.memory > device.memory {
                return Err(format!("{} has no {} of memory left", g.device, g.memory));
            }
        }
        Ok(())
    }

    /// Whether a node takes jobs, and why not.
    pub(crate) fn node_state(&self, id: &NodeId) -> (NodeState, String) {
        let Some(record) = self.nodes.get(id) else {
            return (NodeState::Joining, "it is not known".to_owned());
        };
        let live = self.live.get(id);
        match live {
            None => {
                let why = "it has not reported since the lead started";
                return (NodeState::Joining, why.to_owned());
            }
            Some(live) if live.suspect => {
                let why = format!(
                    "it has been silent for more than {} s",
                    self.keep.node_timeout_s
                );
                return (NodeState::Suspect, why);
            }
            Some(live) if live.driver_problem == gpuloom_gpu::OPENING => {
                return (NodeState::Joining, live.driver_problem.clone());
            }
            Some(live) if !live.driver_problem.is_empty() => {
                return (NodeState::DriverUnresponsive, live.driver_problem.clone());
            }
            Some(live) if live.notice.is_some() => {
                let kind = live.notice.as_ref().map_or("", |n| n.kind.as_str());
                return (NodeState::Draining, format!("its cloud announces: {kind}"));
            }
            Some(_) => {}
        }
        let pool_going = self.pool(&record.pool).is_none_or(|(_, r)| r.withdrawing);
        if record.draining || pool_going {
            let why = record
                .cordon
                .clone()
                .unwrap_or_else(|| "its pool is going away".to_owned());
            return (NodeState::Draining, why);
        }
        match &record.cordon {
            Some(why) => (NodeState::Cordoned, why.clone()),
            None => (NodeState::Ready, String::new()),
        }
    }
}

fn add(sum: &mut (MilliGpu, Bytes), g: &DeviceGrant) {
    sum.0 += g.share;
    sum.1 += g.memory;
}

fn start(draft: &mut Draft<'_>, grant: &Grant, now: Millis) {
    let Some(mut record) = draft.job(grant.job).cloned() else {
        return;
    };
    let priority = draft.priority(&record);
    let number = record.job.attempts_made + 1;
    record.job.attempts_made = number;
    record.job.state = JobState::Active { cancelling: false };
    record.job.attempts.push(Attempt {
        number,
        node: grant.node.clone(),
        grants: grant.grants.clone(),
        granted_at: now,
        state: AttemptState::Granted,
    });
    let tenant = record.job.spec.tenant.clone();
    draft.put_job(record);
    draft.event(EventKind::Granted {
        attempt: AttemptId {
            job: grant.job,
            number,
        },
        tenant,
        priority,
        node: grant.node.clone(),
        grants: grant.grants.clone(),
    });
}
