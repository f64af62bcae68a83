//! Gangs of equal pieces: how many fit, and all of them in one rack.

use super::mix::UNIT;
use super::placer::{Node, Placer};
use super::score::{NEVER, chosen, score};
use super::tree::Tree;
use super::{Placement, Room, Shape};
use std::collections::BTreeMap;

/// Which nodes are near each other: a rack, a switch, an NVLink domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Racks {
    by_rack: Vec<Vec<usize>>,
}

// === impl Racks ===

impl Racks {
    /// The rack of each node, in the order of addition. Racks are tried by their numbers.
    #[must_use]
    pub fn new(of_node: &[u32]) -> Self {
        let mut by_rack: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (node, rack) in of_node.iter().enumerate() {
            by_rack.entry(*rack).or_default().push(node);
        }
        Self {
            by_rack: by_rack.into_values().collect(),
        }
    }

    /// The nodes of each rack, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &[usize]> {
        self.by_rack.iter().map(Vec::as_slice)
    }
}

// === impl Room ===

impl Room {
    /// How many pieces of `shape` fit side by side. A shape that takes nothing fits `usize::MAX` times.
    #[must_use]
    pub fn times(&self, shape: &Shape) -> usize {
        if !shape.models.has(self.model) {
            return 0;
        }
        let part = |free: u32, asked: u32| free.checked_div(asked).unwrap_or(u32::MAX);
        let rest =
            part(self.cpu_milli, shape.cpu_milli).min(part(self.memory_mib, shape.memory_mib));
        let gpus = match shape.gpus {
            0 => u32::MAX,
            1 if shape.share_milli > 0 => {
                let each = self.gpus.iter().map(|g| u32::from(g / shape.share_milli));
                each.sum()
            }
            n => {
                let fitting = self.gpus.iter().filter(|g| **g >= shape.share_milli);
                u32::try_from(fitting.count()).unwrap_or(u32::MAX) / u32::from(n)
            }
        };
        let times = rest.min(gpus);
        if times == u32::MAX {
            return usize::MAX;
        }
        usize::try_from(times).unwrap_or(usize::MAX)
    }
}

// === impl Placer ===

impl Placer {
    /// Whether the node takes work; unknown ones do not.
    #[must_use]
    pub fn is_open(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|n| n.open)
    }

    /// How many pieces of `shape` fit now on open nodes of `among`.
    #[must_use]
    pub fn times(&self, shape: &Shape, among: impl IntoIterator<Item = usize>) -> usize {
        let open = among.into_iter().filter(|n| self.is_open(*n));
        let each = open.filter_map(|n| Some(self.room(n)?.times(shape)));
        each.fold(0, usize::saturating_add)
    }

    /// Places `pieces` of `shape` on nodes of `among` alone, all or none, each where the score is
    /// best. O(nodes + pieces log nodes).
    pub fn place_among(
        &mut self,
        shape: &Shape,
        pieces: usize,
        among: &[usize],
    ) -> Option<Vec<Placement>> {
        if among.is_empty() || self.times(shape, among.iter().copied()) < pieces {
            return None;
        }
        let mut scratch = Room {
            gpus: Vec::new(),
            ..self.room(among[0])?.clone()
        };
        let mut one = |placer: &Self, node: usize| match placer.nodes.get(node) {
            Some(Node {
                room,
                standing,
                open: true,
                ..
            }) => score(
                placer.scoring,
                &placer.mix,
                room,
                shape,
                *standing,
                &mut scratch,
            ),
            _ => (NEVER, 0),
        };
        let mut tree = Tree::new(among.iter().map(|n| one(self, *n)).collect());
        let mut placed = Vec::with_capacity(pieces);
        while placed.len() < pieces {
            let Some((leaf, first)) = tree.best() else {
                for at in placed.iter().rev() {
                    self.give(shape, at);
                }
                return None;
            };
            let node = among[leaf];
            let gpus = chosen(&self.nodes[node].room.gpus, shape, Some(first));
            let at = Placement { node, gpus };
            self.take(shape, &at);
            tree.set(leaf, one(self, node));
            placed.push(at);
        }
        Some(placed)
    }

    /// Places `pieces` of `shape` in one rack, all or none: in the rack that has least room left for
    /// more of them (equals: the first), so that wider gangs keep a place.
    pub fn place_in_one_rack(
        &mut self,
        shape: &Shape,
        pieces: usize,
        racks: &Racks,
    ) -> Option<Vec<Placement>> {
        let room = |nodes: &[usize]| self.times(shape, nodes.iter().copied());
        let wide = racks.iter().map(|nodes| (room(nodes), nodes));
        let fitting = wide.filter(|(times, _)| *times >= pieces);
        let (_, nodes) = fitting.min_by_key(|(times, _)| *times)?;
        self.place_among(shape, pieces, nodes)
    }

    /// Thousandths of a GPU that become usable for typical work when `shape`, whose room was given
    /// back, goes to `to` and not to `from` again; negative when the other way is better.
    #[must_use]
    pub fn unusable_saved(&self, shape: &Shape, from: &Placement, to: &Placement) -> i64 {
        let grows = |at: &Placement| {
            let room = self.room(at.node)?;
            let mut with = room.clone();
            with.take(shape, &at.gpus);
            let bad = |room: &Room| self.mix.unusable(room) + self.mix.stranded(room) * UNIT;
            Some(bad(&with) - bad(room))
        };
        match (grows(from), grows(to)) {
            (Some(back), Some(there)) => (back - there) / UNIT,
            _ => 0,
        }
    }
}
