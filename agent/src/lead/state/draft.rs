//! A change in the making: decided on a state that stays as it is.

use super::State;
use crate::lead::record::{JobRecord, Piece};
use gpuloom_fleet::{EventKind, JobId};
use std::collections::BTreeMap;

/// What one command changes, in parts that are each stored whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) parts: Vec<Part>,
}

/// Records and events that are stored together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) events: Vec<EventKind>,
}

/// A state with changes laid over its jobs.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) state: &'a State,
    jobs: BTreeMap<JobId, JobRecord>,
    change: Change,
}

// === impl Change ===

impl Change {
    /// True when nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.iter().all(Part::is_empty)
    }
}

// === impl Part ===

impl Part {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.events.is_empty()
    }
}

// === impl Draft ===

impl<'a> Draft<'a> {
    pub(crate) fn new(state: &'a State) -> Self {
        Self {
            state,
            jobs: BTreeMap::new(),
            change: Change {
                parts: vec![Part::default()],
            },
        }
    }

    /// The job as this draft leaves it.
    pub(crate) fn job(&self, id: JobId) -> Option<&JobRecord> {
        self.jobs.get(&id).or_else(|| self.state.jobs.get(&id))
    }

    /// Every job of a number as this draft leaves it.
    pub(crate) fn job_numbered(&self, number: u64) -> Vec<&JobRecord> {
        self.state
            .job_numbered(number)
            .map(|r| self.jobs.get(&r.job.id).unwrap_or(r))
            .collect()
    }

    pub(crate) fn put_job(&mut self, record: JobRecord) {
        self.jobs.insert(record.job.id, record.clone());
        self.put(Piece::Job(record));
    }

    pub(crate) fn put(&mut self, piece: Piece) {
        self.part().pieces.push(piece);
    }

    pub(crate) fn event(&mut self, what: EventKind) {
        self.part().events.push(what);
    }

    /// What follows may be stored later than what came before.
    pub(crate) fn next_part(&mut self) {
        if !self.part().is_empty() {
            self.change.parts.push(Part::default());
        }
    }

    pub(crate) fn finish(mut self) -> Change {
        self.change.parts.retain(|p| !p.is_empty());
        self.change
    }

    fn part(&mut self) -> &mut Part {
        if self.change.parts.is_empty() {
            self.change.parts.push(Part::default());
        }
        let last = self.change.parts.len() - 1;
        &mut self.change.parts[last]
    }
}
