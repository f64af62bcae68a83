//! A plan that is being carried out: it does not change, and what its victims free is kept for its job.

use super::Plan;
use crate::place::{Placement, Placer, Shape, WHOLE};
use std::collections::{BTreeMap, BTreeSet};

/// The plan's victims end one by one; all they free that the plan needs stays taken in the placer, so
/// that nobody else is placed there. Nothing is planned anew meanwhile: stopping some, planning again
/// and stopping others destroys work for no gain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nomination {
    plan: Plan,
    waiting: BTreeSet<u64>,
    /// What is still missing on each node, and what is kept already.
    missing: BTreeMap<usize, Part>,
    kept: BTreeMap<usize, Part>,
}

/// A part of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Part {
    cpu_milli: u32,
    memory_mib: u32,
    /// Of each GPU, in thousandths.
    gpus: BTreeMap<u8, u16>,
}

// === impl Nomination ===

impl Nomination {
    /// Begins to carry out `plan`: stop its victims, and tell [`Self::ended`] as they end. What is free
    /// of its places already is taken at once.
    #[must_use]
    pub fn begin(plan: Plan, placer: &mut Placer) -> Self {
        let mut missing: BTreeMap<usize, Part> = BTreeMap::new();
        for at in &plan.placements {
            let part = missing.entry(at.node).or_default();
            part.cpu_milli += plan.shape.cpu_milli;
            part.memory_mib += plan.shape.memory_mib;
            for g in &at.gpus {
                *part.gpus.entry(*g).or_default() += plan.shape.share_milli;
            }
        }
        let mut begun = Self {
            waiting: plan.victims.iter().copied().collect(),
            plan,
            missing,
            kept: BTreeMap::new(),
        };
        let nodes: Vec<usize> = begun.missing.keys().copied().collect();
        for node in nodes {
            begun.keep(node, placer);
        }
        begun
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Work that `held` described ended, a victim or not: its room goes back to the placer, less what
    /// the plan needs of it. `true` once the job can start: its places are taken in the placer.
    pub fn ended(
        &mut self,
        id: u64,
        shape: &Shape,
        pieces: &[Placement],
        placer: &mut Placer,
    ) -> bool {
        self.waiting.remove(&id);
        for at in pieces {
            placer.give(shape, at);
        }
        let nodes: BTreeSet<usize> = pieces.iter().map(|p| p.node).collect();
        for node in nodes {
            self.keep(node, placer);
        }
        self.ready()
    }

    /// Whether all its room is there. Victims that still run then need not be stopped any more.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.missing.is_empty()
    }

    /// Victims that have not ended.
    pub fn waiting(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().copied()
    }

    /// Gives the plan up: a node of it is gone, or the job is. What was kept is free again.
    pub fn cancel(self, placer: &mut Placer) {
        for (node, part) in self.kept {
            for (shape, at) in part.pieces(node) {
                placer.give(&shape, &at);
            }
        }
    }

    /// Takes what is free on the node and still missing.
    fn keep(&mut self, node: usize, placer: &mut Placer) {
        let (Some(missing), Some(room)) = (self.missing.get_mut(&node), placer.room(node)) else {
            return;
        };
        let mut part = Part {
            cpu_milli: missing.cpu_milli.min(room.cpu_milli),
            memory_mib: missing.memory_mib.min(room.memory_mib),
            gpus: BTreeMap::new(),
        };
        for (g, milli) in &mut missing.gpus {
            let free = room.gpus.get(usize::from(*g)).copied().unwrap_or(0);
            let now = free.min(*milli);
            if now > 0 {
                part.gpus.insert(*g, now);
                *milli -= now;
            }
        }
        missing.gpus.retain(|_, milli| *milli > 0);
        missing.cpu_milli -= part.cpu_milli;
        missing.memory_mib -= part.memory_mib;
        if *missing == Part::default() {
            self.missing.remove(&node);
        }
        for (shape, at) in part.pieces(node) {
            placer.take(&shape, &at);
        }
        let kept = self.kept.entry(node).or_default();
        kept.cpu_milli += part.cpu_milli;
        kept.memory_mib += part.memory_mib;
        for (g, milli) in part.gpus {
            *kept.gpus.entry(g).or_default() += milli;
        }
    }
}

// === impl Part ===

impl Part {
    /// The part as pieces of one GPU each, and one for the rest.
    fn pieces(&self, node: usize) -> Vec<(Shape, Placement)> {
        let rest = Shape {
            cpu_milli: self.cpu_milli,
            memory_mib: self.memory_mib,
            gpus: 0,
            share_milli: 0,
            models: crate::place::Models::ANY,
        };
        let mut pieces = vec![(rest, Placement { node, gpus: vec![] })];
        for (g, milli) in &self.gpus {
            let shape = Shape {
                cpu_milli: 0,
                memory_mib: 0,
                gpus: 1,
                share_milli: (*milli).min(WHOLE),
                ..rest
            };
            pieces.push((
                shape,
                Placement {
                    node,
                    gpus: vec![*g],
                },
            ));
        }
        pieces
    }
}
