//! The cheapest work to stop on one node, for each number of pieces that shall fit there.

use super::Held;
use crate::place::{Room, Shape};

/// Most sets of victims tried on one node: all of them with up to 14 candidates.
pub const MAX_TRIED: u32 = 1 << 14;
/// Most candidates of a node; the dearest beyond are left alone.
pub(crate) const MAX_CANDIDATES: usize = 64;

/// Work that may be stopped, with what that costs here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) held: &'a Held,
    pub(crate) cost: u128,
}

/// For one node and each number of pieces, from 0 on: the least cost, and who is stopped.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Bit i: the i-th candidate is stopped. Costs never fall from one to the next.
    pub(crate) best: Vec<(u128, u64)>,
    /// Whether every set was looked at.
    pub(crate) exact: bool,
}

struct Search<'a, 'h> {
    node: usize,
    shape: &'a Shape,
    candidates: &'a [Candidate<'h>],
    room: Room,
    best: Vec<(u128, u64)>,
    /// Sets that cost as much or more are of no interest.
    below: u128,
    tried: u32,
}

/// The least cost at which 0, 1, .. up to `most` pieces of `shape` fit on the node, as far as they can
/// at a cost below `below`. `candidates` are in order of cost, cheapest first.
pub(crate) fn options(
    node: usize,
    room: &Room,
    shape: &Shape,
    candidates: &[Candidate<'_>],
    most: usize,
    below: u128,
) -> Options {
    let candidates = &candidates[..candidates.len().min(MAX_CANDIDATES)];
    let free = room.times(shape).min(most);
    let mut search = Search {
        node,
        shape,
        candidates,
        room: room.clone(),
        best: vec![(0, 0); free + 1],
        below,
        tried: 0,
    };
    if free < most && !candidates.is_empty() && shape.models.has(room.model) {
        // With everybody stopped as many fit as can: what cannot fit is not looked for.
        for c in candidates {
            search.give(c.held);
        }
        let limit = search.room.times(shape).min(most);
        search.best.resize(limit + 1, (below, 0));
        if limit > free {
            search.room.clone_from(room);
            search.seed(free);
            search.room.clone_from(room);
            search.go(0, 0, 0);
        }
        let found = search.best.iter().take_while(|(cost, _)| *cost < below);
        let found = found.count().max(free + 1);
        search.best.truncate(found);
    }
    Options {
        best: search.best,
        exact: search.tried < MAX_TRIED,
    }
}

// === impl Search ===

impl Search<'_, '_> {
    fn give(&mut self, held: &Held) {
        for piece in held.pieces.iter().filter(|p| p.node == self.node) {
            self.room.give(&held.shape, &piece.gpus);
        }
    }

    fn take(&mut self, held: &Held) {
        for piece in held.pieces.iter().filter(|p| p.node == self.node) {
            self.room.take(&held.shape, &piece.gpus);
        }
    }

    /// A first answer, cheapest first: the search only has to be better.
    fn seed(&mut self, free: usize) {
        let (mut cost, mut mask) = (0u128, 0u64);
        let mut had = free;
        for (i, c) in self.candidates.iter().enumerate() {
            self.give(c.held);
            cost += c.cost;
            mask |= 1 << i;
            let times = self.room.times(self.shape).min(self.best.len() - 1);
            if times > had {
                had = times;
                self.note(times, cost, mask);
            }
        }
    }

    fn note(&mut self, times: usize, cost: u128, mask: u64) {
        // Costs never fall, so those to be improved are at the end of what fits.
        for best in self.best[..=times].iter_mut().rev() {
            if best.0 <= cost {
                break;
            }
            *best = (cost, mask);
        }
    }

    /// Adds one more of the candidates from `from` on to those already stopped.
    fn go(&mut self, from: usize, cost: u128, mask: u64) {
        let candidates = self.candidates;
        for (i, c) in candidates.iter().enumerate().skip(from) {
            let with = cost + c.cost;
            let dearest = self.best.last().map_or(0, |b| b.0);
            if with >= dearest.min(self.below) || self.tried >= MAX_TRIED {
                return;
            }
            self.tried += 1;
            let mask = mask | 1 << i;
            self.give(c.held);
            let times = self.room.times(self.shape).min(self.best.len() - 1);
            self.note(times, with, mask);
            self.go(i + 1, with, mask);
            self.take(c.held);
        }
    }
}
