//! What nodes say of themselves, and what it changes in the ledger.

use super::draft::{Change, Draft};
use super::{State, live_attempt};
use crate::lead::record::{NodeRecord, Piece};
use gpuloom_fleet::{
    AttemptEnd, AttemptId, AttemptState, Backend, Bytes, Device, DeviceHealth, DeviceId, EndCause,
    EventKind, Exit, JobId, Millis, NodeId, StopCause,
};
use gpuloom_watch::{Histories, Reading};
use std::collections::BTreeMap;

/// Most attempts believed of one report.
pub(crate) const MAX_REPORTED_ATTEMPTS: usize = 10_000;

/// What a node said last; lost with the lead's process and learnt anew.
#[derive(Debug)]
pub(crate) struct NodeLive {
    /// The connection the reports come over; those of older ones do not count.
    pub(crate) session: u64,
    pub(crate) boot_id: String,
    pub(crate) last_seen: Millis,
    /// Whether it has been silent for too long.
    pub(crate) suspect: bool,
    pub(crate) driver_problem: String,
    /// What its cloud is about to do to it.
    pub(crate) notice: Option<CloudNotice>,
    pub(crate) health: BTreeMap<DeviceId, (DeviceHealth, String)>,
    pub(crate) histories: Histories,
    /// Attempts it reported last, with the device memory they use.
    pub(crate) attempts: BTreeMap<AttemptId, Option<Bytes>>,
    /// Of those, ended ones.
    pub(crate) ended: Vec<AttemptId>,
    /// Memory used by processes that are no job of ours, of each device.
    pub(crate) foreign: BTreeMap<DeviceId, Bytes>,
}

/// One report, read and checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeSaid {
    pub(crate) boot_id: String,
    pub(crate) agent_version: String,
    pub(crate) endpoint: String,
    pub(crate) simulated: bool,
    pub(crate) driver_problem: String,
    pub(crate) devices: Vec<Device>,
    pub(crate) readings: Vec<Reading>,
    pub(crate) foreign: BTreeMap<DeviceId, Bytes>,
    pub(crate) attempts: Vec<AttemptSaid>,
    pub(crate) capabilities: BTreeMap<String, String>,
    pub(crate) health: BTreeMap<DeviceId, (DeviceHealth, String)>,
    pub(crate) notice: Option<CloudNotice>,
}

/// A cloud's announcement that it takes the instance away or disturbs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CloudNotice {
    /// The cloud's word, e.g. `preempt`.
    pub(crate) kind: String,
    /// When, by the node's clock, if the cloud says.
    pub(crate) at: Option<Millis>,
}

/// One attempt as its node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttemptSaid {
    pub(crate) id: AttemptId,
    pub(crate) phase: SaidPhase,
    pub(crate) memory_used: Option<Bytes>,
}

/// Where the node says an attempt stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SaidPhase {
    Starting,
    Running {
        since: Millis,
    },
    Stopping {
        since: Option<Millis>,
        cause: Option<StopCause>,
    },
    Ended(AttemptEnd),
}

// === impl State ===

impl State {
    /// A node is connected anew; what older connections say from now on does not count.
    pub(crate) fn node_connected(&mut self, node: &NodeId, session: u64, now: Millis) {
        let history = self.keep.history;
        let live = self.live.entry(node.clone()).or_insert_with(|| NodeLive {
            session,
            boot_id: String::new(),
            last_seen: now,
            // Until its first report: it is connected, but what it has is unknown.
            suspect: true,
            driver_problem: String::new(),
            notice: None,
            health: BTreeMap::new(),
            histories: Histories::new(history),
            attempts: BTreeMap::new(),
            ended: Vec::new(),
            foreign: BTreeMap::new(),
        });
        live.session = live.session.max(session);
    }

    /// What a report changes in what is stored.
    pub(crate) fn report(&self, node: &NodeId, said: &NodeSaid, now: Millis) -> Change {
        let mut draft = Draft::new(self);
        self.note_node(&mut draft, node, said);
        let reported: BTreeMap<AttemptId, &AttemptSaid> = said
            .attempts
            .iter()
            .take(MAX_REPORTED_ATTEMPTS)
            .map(|a| (a.id, a))
            .collect();
        for id in self.on_node.get(node).cloned().unwrap_or_default() {
            let Some(attempt) = self.jobs.get(&id).and_then(live_attempt) else {
                continue;
            };
            let attempt_id = AttemptId {
                job: id,
                number: attempt.number,
            };
            draft.next_part();
            match reported.get(&attempt_id) {
                Some(said) => note_attempt(&mut draft, id, said, now),
                None if self.knew(node, attempt_id, &attempt.state) => {
                    let why = format!("node {node} no longer knows of it");
                    self.lose(&mut draft, id, &why, now);
                }
                None => {}
            }
        }
        draft.finish()
    }

    /// Whether the node has confirmed the attempt before: then it may not forget it by itself.
    fn knew(&self, node: &NodeId, id: AttemptId, state: &AttemptState) -> bool {
        let reported = self
            .live
            .get(node)
            .is_some_and(|l| l.attempts.contains_key(&id));
        let confirmed = match state {
            AttemptState::Starting | AttemptState::Running { .. } => true,
            AttemptState::Stopping { since, .. } => since.is_some(),
            AttemptState::Granted | AttemptState::Ended(_) => false,
        };
        reported || confirmed
    }

    fn note_node(&self, draft: &mut Draft<'_>, node: &NodeId, said: &NodeSaid) {
        let Some(old) = self.nodes.get(node) else {
            return;
        };
        let devices = if said.devices.is_empty() && !said.driver_problem.is_empty() {
            // The driver is silent: what it had said still stands.
            old.devices.clone()
        } else {
            said.devices.clone()
        };
        let new = NodeRecord {
            agent_version: said.agent_version.clone(),
            endpoint: said.endpoint.clone(),
            backend: if said.simulated {
                Backend::Simulated
            } else {
                Backend::Nvml
            },
            devices,
            capabilities: said.capabilities.clone(),
            ..old.clone()
        };
        if new != *old {
            draft.put(Piece::Node(new));
        }
        let live = self.live.get(node);
        if let Some(notice) = &said.notice
            && live.is_none_or(|l| l.notice.as_ref().map(|n| &n.kind) != Some(&notice.kind))
        {
            draft.event(EventKind::NodeChanged {
                node: node.clone(),
                state: "leaving".to_owned(),
                reason: format!("its cloud announces: {}", notice.kind),
            });
        }
        let was_silent = live.is_none_or(|l| l.suspect);
        let was_problem = live.map_or("", |l| l.driver_problem.as_str());
        let (state, reason) = if said.driver_problem == gpuloom_gpu::OPENING {
            // A moment of each start: what it ends in is told.
            return;
        } else if said.driver_problem != was_problem && !said.driver_problem.is_empty() {
            ("driver_unresponsive", said.driver_problem.as_str())
        } else if was_silent || said.driver_problem != was_problem {
            ("ready", "")
        } else {
            return;
        };
        draft.event(EventKind::NodeChanged {
            node: node.clone(),
            state: state.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// Remembers what a report said beside the ledger; after [`State::report`] is absorbed.
    pub(crate) fn note_live(&mut self, node: &NodeId, said: NodeSaid, now: Millis) {
        let Some(live) = self.live.get_mut(node) else {
            return;
        };
        live.last_seen = now;
        live.suspect = false;
        live.boot_id = said.boot_id;
        live.driver_problem = said.driver_problem;
        live.health = said.health;
        live.notice = said.notice;
        live.foreign = said.foreign;
        let mine: Vec<&DeviceId> = said.devices.iter().map(|d| &d.id).collect();
        if !mine.is_empty() {
            live.histories.retain(|id| mine.contains(&id));
        }
        for reading in said.readings {
            if mine.contains(&&reading.device) {
                live.histories.push(reading);
            }
        }
        live.ended = said
            .attempts
            .iter()
            .filter(|a| matches!(a.phase, SaidPhase::Ended(_)))
            .map(|a| a.id)
            .collect();
        live.attempts = said
            .attempts
            .iter()
            .map(|a| (a.id, a.memory_used))
            .collect();
    }

    /// Ended attempts the node may forget: the ledger no longer counts on them.
    pub(crate) fn to_forget(&self, node: &NodeId) -> Vec<AttemptId> {
        let Some(live) = self.live.get(node) else {
            return Vec::new();
        };
        let counted_on = |id: &AttemptId| {
            self.jobs
                .get(&id.job)
                .and_then(live_attempt)
                .is_some_and(|a| a.number == id.number && a.node == *node)
        };
        live.ended
            .iter()
            .filter(|id| !counted_on(id))
            .copied()
            .collect()
    }
}

fn note_attempt(draft: &mut Draft<'_>, id: JobId, said: &AttemptSaid, now: Millis) {
    let Some(record) = draft.job(id) else { return };
    let Some(attempt) = live_attempt(record) else {
        return;
    };
    let number = attempt.number;
    let old = attempt.state.clone();
    let granted_at = attempt.granted_at;
    // By the node's clock, which may be another time than ours: an attempt began after its grant
    // and before it was said, or its walltime would be over before it began, or never.
    let on_our_clock = |since: &Millis| Millis(since.0.max(granted_at.0).min(now.0));
    let new = match (&said.phase, &old) {
        (SaidPhase::Ended(end), _) => {
            draft.end_attempt(id, told_cause(end.clone(), &old), now);
            return;
        }
        (SaidPhase::Starting, AttemptState::Granted) => AttemptState::Starting,
        (SaidPhase::Running { since }, AttemptState::Granted | AttemptState::Starting) => {
            AttemptState::Running {
                since: on_our_clock(since),
            }
        }
        // The node stops it on its own account: its walltime, its memory.
        (
            SaidPhase::Stopping {
                since,
                cause: Some(cause),
            },
            s,
        ) if !matches!(s, AttemptState::Stopping { .. }) => {
            if let Some(since) = since {
                let since = on_our_clock(since);
                set_state(draft, id, AttemptState::Running { since });
            }
            draft.stop(id, cause, now);
            return;
        }
        (
            SaidPhase::Running { since }
            | SaidPhase::Stopping {
                since: Some(since), ..
            },
            AttemptState::Stopping {
                since: None,
                cause,
                at,
            },
        ) => AttemptState::Stopping {
            since: Some(on_our_clock(since)),
            cause: cause.clone(),
            at: *at,
        },
        _ => return,
    };
    let started = matches!(new, AttemptState::Running { .. });
    set_state(draft, id, new);
    if started {
        draft.event(EventKind::Started {
            attempt: AttemptId { job: id, number },
        });
    }
}

fn set_state(draft: &mut Draft<'_>, id: JobId, state: AttemptState) {
    let Some(mut record) = draft.job(id).cloned() else {
        return;
    };
    if let Some(attempt) = record.job.attempts.last_mut() {
        attempt.state = state;
        draft.put_job(record);
    }
}

/// A process that dies of the signal it was told to stop with did not end by itself.
fn told_cause(end: AttemptEnd, state: &AttemptState) -> AttemptEnd {
    let AttemptState::Stopping { cause, .. } = state else {
        return end;
    };
    let by_signal = matches!(end.exit, Some(Exit::Signal(_)));
    match end.cause {
        EndCause::Exited if by_signal => AttemptEnd {
            cause: EndCause::Stopped { why: cause.clone() },
            ..end
        },
        _ => end,
    }
}
