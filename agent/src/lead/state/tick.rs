//! What time alone changes: walltimes, silent nodes, ended tokens, and what is forgotten.

use super::draft::{Change, Draft};
use super::{State, live_attempt};
use crate::lead::record::{JobRecord, Piece};
use gpuloom_fleet::{AttemptState, EventKind, JobId, Millis, NodeId, StopCause};

/// Jobs forgotten in one turn; the next turn goes on.
const FORGET_AT_ONCE: usize = 50;

// === impl State ===

impl State {
    /// Everything that is due at `now`.
    pub(crate) fn tick(&self, now: Millis) -> Change {
        let mut draft = Draft::new(self);
        for id in self.active.clone() {
            let over = self.jobs.get(&id).is_some_and(|r| walltime_over(r, now));
            if over {
                draft.next_part();
                draft.stop(id, &StopCause::Walltime, now);
            }
        }
        for node in self.newly_silent(now) {
            draft.next_part();
            draft.event(EventKind::NodeChanged {
                node,
                state: "suspect".to_owned(),
                reason: format!("silent for more than {} s", self.keep.node_timeout_s),
            });
        }
        for token in self.tokens.values().filter(|t| t.expires_at <= now) {
            draft.next_part();
            draft.put(Piece::NoToken(token.hash.clone()));
        }
        self.forget_jobs(&mut draft);
        draft.finish()
    }

    /// Nodes that have just been silent for too long.
    pub(crate) fn newly_silent(&self, now: Millis) -> Vec<NodeId> {
        let limit = self.keep.node_timeout_s.saturating_mul(1000);
        self.live
            .iter()
            .filter(|(id, live)| {
                let silent = now.since_ms(live.last_seen) > limit;
                silent && !live.suspect && self.nodes.contains_key(id)
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Marks silent nodes; after [`State::tick`] is absorbed.
    pub(crate) fn mark_silent(&mut self, now: Millis) {
        for id in self.newly_silent(now) {
            if let Some(live) = self.live.get_mut(&id) {
                live.suspect = true;
            }
        }
    }

    /// Forgets the jobs that ended first once more than [`super::Keep::jobs`] are kept; a job that a live
    /// one waits for stays, and an array goes as a whole.
    fn forget_jobs(&self, draft: &mut Draft<'_>) {
        let excess = self.ended.len().saturating_sub(self.keep.jobs);
        let mut forgotten = 0;
        let mut arrays = std::collections::BTreeSet::new();
        for (_, id) in &self.ended {
            if forgotten >= excess.min(FORGET_AT_ONCE) {
                break;
            }
            if self.dependents.contains_key(&id.number) || arrays.contains(&id.number) {
                continue;
            }
            if !self.arrays.contains_key(&id.number) {
                draft.next_part();
                draft.put(Piece::NoJob(*id));
                forgotten += 1;
                continue;
            }
            let elements: Vec<&JobRecord> = self.job_numbered(id.number).collect();
            if elements.iter().all(|r| r.job.state.is_final()) {
                // The array first: elements without their array are rubbish that a restart removes.
                draft.next_part();
                draft.put(Piece::NoArray(id.number));
                for r in &elements {
                    draft.next_part();
                    draft.put(Piece::NoJob(r.job.id));
                }
                forgotten += elements.len();
                arrays.insert(id.number);
            }
        }
    }

    /// Records that an interrupted removal left: elements without their array.
    pub(crate) fn rubbish(&self) -> Change {
        let mut draft = Draft::new(self);
        let orphans: Vec<JobId> = self
            .jobs
            .keys()
            .filter(|id| id.index.is_some() && !self.arrays.contains_key(&id.number))
            .copied()
            .collect();
        for id in orphans {
            draft.next_part();
            draft.put(Piece::NoJob(id));
        }
        draft.finish()
    }
}

fn walltime_over(record: &JobRecord, now: Millis) -> bool {
    let Some(walltime) = record.job.spec.walltime else {
        return false;
    };
    match live_attempt(record).map(|a| &a.state) {
        Some(AttemptState::Running { since }) => now >= since.plus(walltime),
        _ => false,
    }
}
