//! Who holds what, and what stopping it would cost.

use crate::place::{Placement, Shape};
use std::collections::BTreeMap;

/// Most pieces of work that hold something.
pub const MAX_HELD: usize = 1_000_000;

/// A piece of work that runs: one placement, or several for a gang that only runs as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Unique.
    pub id: u64,
    /// Larger ones are not stopped for smaller ones.
    pub priority: i32,
    /// What each of its pieces takes.
    pub shape: Shape,
    /// Where its pieces are.
    pub pieces: Vec<Placement>,
    /// Since when it runs, in milliseconds.
    pub started_ms: u64,
    /// When its work was last saved; `None`: what it did since it started would be lost.
    pub checkpointed_ms: Option<u64>,
    /// How long saving takes; 0 when it cannot.
    pub checkpoint_ms: u64,
    /// How long starting again takes.
    pub restart_ms: u64,
    /// It is not stopped before it ran so long.
    pub min_runtime_ms: u64,
    /// How often it may still be stopped or moved.
    pub disruptions_left: u32,
    /// When it was last moved, so that it is not moved to and fro.
    pub moved_ms: Option<u64>,
}

/// Everything that runs, by node.
#[derive(Debug, Clone, Default)]
pub struct Holders {
    held: BTreeMap<u64, Held>,
    /// Ids of those with a piece on the node, ascending.
    by_node: Vec<Vec<u64>>,
}

/// Why work that runs is not stopped for an ask: how many GPUs, in thousandths, each rule keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NotVictims {
    /// Of equal or higher priority.
    pub priority_milli: u64,
    /// Before its minimum runtime.
    pub min_runtime_milli: u64,
    /// Disrupted as often as it may be.
    pub disruptions_milli: u64,
}

// === impl Held ===

impl Held {
    /// GPU share of all its pieces together, in thousandths.
    #[must_use]
    pub fn gpu_milli(&self) -> u64 {
        u64::from(self.shape.gpu_milli()) * self.pieces.len() as u64
    }

    /// What stopping it now costs, in thousandths of a GPU times milliseconds: GPUs x (work since the
    /// checkpoint + checkpoint + restart). Work without GPUs costs as a thousandth of one.
    #[must_use]
    pub fn stop_cost(&self, now_ms: u64) -> u128 {
        let saved = self.checkpointed_ms.unwrap_or(self.started_ms);
        let lost = now_ms.saturating_sub(saved.max(self.started_ms));
        self.cost(u128::from(lost) + u128::from(self.checkpoint_ms))
    }

    /// What moving it now costs: it saves its work first if it can.
    #[must_use]
    pub fn move_cost(&self, now_ms: u64) -> u128 {
        if self.checkpoint_ms > 0 {
            self.cost(u128::from(self.checkpoint_ms))
        } else {
            self.stop_cost(now_ms)
        }
    }

    fn cost(&self, for_ms: u128) -> u128 {
        u128::from(self.gpu_milli().max(1)) * (for_ms + u128::from(self.restart_ms))
    }

    /// Whether it may be stopped for work of `priority`.
    #[must_use]
    pub fn may_stop_for(&self, priority: i32, now_ms: u64) -> bool {
        self.priority < priority && self.ran_enough(now_ms) && self.disruptions_left > 0
    }

    /// Whether it ran as long as it is promised to.
    #[must_use]
    pub fn ran_enough(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.started_ms) >= self.min_runtime_ms
    }
}

// === impl Holders ===

impl Holders {
    /// Adds work that runs. `false` when its id is known, it has no piece, or there are [`MAX_HELD`].
    pub fn add(&mut self, held: Held) -> bool {
        if held.pieces.is_empty() || self.held.len() >= MAX_HELD || self.held.contains_key(&held.id)
        {
            return false;
        }
        for piece in &held.pieces {
            if self.by_node.len() <= piece.node {
                self.by_node.resize(piece.node + 1, Vec::new());
            }
            let ids = &mut self.by_node[piece.node];
            if let Err(at) = ids.binary_search(&held.id) {
                ids.insert(at, held.id);
            }
        }
        self.held.insert(held.id, held);
        true
    }

    /// Takes work out that ended.
    pub fn remove(&mut self, id: u64) -> Option<Held> {
        let held = self.held.remove(&id)?;
        for piece in &held.pieces {
            let ids = &mut self.by_node[piece.node];
            if let Ok(at) = ids.binary_search(&id) {
                ids.remove(at);
            }
        }
        Some(held)
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Held> {
        self.held.get(&id)
    }

    /// Those with a piece on the node, by id.
    pub fn on(&self, node: usize) -> impl Iterator<Item = &Held> {
        let ids = self.by_node.get(node).map_or(&[][..], Vec::as_slice);
        ids.iter().filter_map(|id| self.held.get(id))
    }

    /// All, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }

    /// How many run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// What each rule keeps from work of `priority`.
    #[must_use]
    pub fn not_victims(&self, priority: i32, now_ms: u64) -> NotVictims {
        let mut kept = NotVictims::default();
        for held in self.held.values() {
            let milli = held.gpu_milli();
            if held.priority >= priority {
                kept.priority_milli += milli;
            } else if !held.ran_enough(now_ms) {
                kept.min_runtime_milli += milli;
            } else if held.disruptions_left == 0 {
                kept.disruptions_milli += milli;
            }
        }
        kept
    }
}
