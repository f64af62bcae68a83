//! A fleet's room, kept with the scores of every shape that was asked for.

use super::mix::Mix;
use super::score::{NEVER, Scoring, chosen, score, standing};
use super::tree::Tree;
use super::{Placement, Room, Shape};
use std::collections::BTreeMap;
use std::fmt;

/// Most nodes.
pub const MAX_NODES: usize = 1_000_000;
/// Most shapes with scores of their own; the one not asked for longest is forgotten first.
pub const MAX_SHAPES: usize = 1_024;

/// Places work and takes it back. The same calls give the same answers.
#[derive(Debug, Clone)]
pub struct Placer {
    pub(super) scoring: Scoring,
    pub(super) mix: Mix,
    pub(super) nodes: Vec<Node>,
    /// Nodes in the order they changed; the first has the number `log_start`.
    log: Vec<u32>,
    log_start: u64,
    shapes: BTreeMap<Shape, Index>,
    asked: u64,
    /// Which nodes were seen in this pass over the log.
    seen: Vec<u64>,
    pass: u64,
    scratch: Room,
    /// The rooms nodes were added with, each once: untouched nodes of one kind are scored once.
    kinds: BTreeMap<Room, u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) room: Room,
    /// Which of `kinds` the room is as long as nothing was taken or given.
    untouched: Option<u32>,
    pub(super) standing: i64,
    /// Whether it takes work.
    pub(super) open: bool,
}

#[derive(Debug, Clone)]
struct Index {
    tree: Tree,
    /// The log up to here is in the tree.
    upto: u64,
    asked: u64,
}

/// Why a shape fits nowhere now: how many open nodes lack what; a node may lack several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Nodes that take work.
    pub nodes: usize,
    /// Of those, nodes whose GPUs are of another model.
    pub other_model: usize,
    /// Of those of the model, nodes with too few processors left.
    pub processors: usize,
    /// Of those of the model, nodes with too little memory left.
    pub memory: usize,
    /// Of those of the model, nodes with too few GPUs that have the share left.
    pub gpus: usize,
    /// Of those of the model, nodes that have the GPUs but not the rest: what would free them.
    pub stranded: usize,
}

// === impl Placer ===

impl Placer {
    /// No nodes yet; `mix` says which room is worth having.
    #[must_use]
    pub fn new(scoring: Scoring, mix: Mix) -> Self {
        Self {
            scoring,
            mix,
            nodes: Vec::new(),
            log: Vec::new(),
            log_start: 0,
            shapes: BTreeMap::new(),
            asked: 0,
            seen: Vec::new(),
            pass: 0,
            scratch: Room {
                cpu_milli: 0,
                memory_mib: 0,
                model: 0,
                gpus: Vec::new(),
            },
            kinds: BTreeMap::new(),
        }
    }

    /// Adds a node; its number is how many there were. `None` above [`MAX_NODES`].
    pub fn add(&mut self, room: Room) -> Option<usize> {
        if self.nodes.len() >= MAX_NODES {
            return None;
        }
        let node = self.nodes.len();
        let next = u32::try_from(self.kinds.len()).ok()?;
        let kind = *self.kinds.entry(room.clone()).or_insert(next);
        self.nodes.push(Node {
            standing: standing(self.scoring, &self.mix, &room),
            untouched: Some(kind),
            room,
            open: true,
        });
        self.seen.push(0);
        // Trees have one leaf a node.
        self.shapes.clear();
        Some(node)
    }

    /// Lets a node take work again, or not; what it holds stays. Unknown nodes are ignored.
    pub fn set_open(&mut self, node: usize, open: bool) {
        if let Some(n) = self.nodes.get_mut(node)
            && n.open != open
        {
            n.open = open;
            self.changed(node);
        }
    }

    /// The room left on a node.
    #[must_use]
    pub fn room(&self, node: usize) -> Option<&Room> {
        self.nodes.get(node).map(|n| &n.room)
    }

    /// How many nodes were added.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Where `shape` would go; nothing is taken. `None` when it fits nowhere ([`Self::explain`]).
    pub fn find(&mut self, shape: &Shape) -> Option<Placement> {
        if self.nodes.is_empty() {
            return None;
        }
        let (node, first) = self.index(shape).best()?;
        let gpus = chosen(&self.nodes[node].room.gpus, shape, Some(first));
        Some(Placement { node, gpus })
    }

    /// Finds a place and takes it.
    pub fn place(&mut self, shape: &Shape) -> Option<Placement> {
        let placement = self.find(shape)?;
        self.take(shape, &placement);
        Some(placement)
    }

    /// Places all of `shapes` or none: a gang. Answers in their order.
    pub fn place_all(&mut self, shapes: &[Shape]) -> Option<Vec<Placement>> {
        let mut placed = Vec::with_capacity(shapes.len());
        for shape in shapes {
            match self.place(shape) {
                Some(p) => placed.push(p),
                None => {
                    for (shape, p) in shapes.iter().zip(&placed).rev() {
                        self.give(shape, p);
                    }
                    return None;
                }
            }
        }
        Some(placed)
    }

    /// Takes what [`Self::find`] found, or what ran there before.
    pub fn take(&mut self, shape: &Shape, placement: &Placement) {
        if let Some(n) = self.nodes.get_mut(placement.node) {
            n.room.take(shape, &placement.gpus);
            self.changed(placement.node);
        }
    }

    /// Gives back what was taken.
    pub fn give(&mut self, shape: &Shape, placement: &Placement) {
        if let Some(n) = self.nodes.get_mut(placement.node) {
            n.room.give(shape, &placement.gpus);
            self.changed(placement.node);
        }
    }

    /// What every open node lacks for `shape`. O(nodes).
    #[must_use]
    pub fn explain(&self, shape: &Shape) -> Verdict {
        let mut verdict = Verdict::default();
        for Node { room, .. } in self.nodes.iter().filter(|n| n.open) {
            verdict.nodes += 1;
            if !shape.models.has(room.model) {
                verdict.other_model += 1;
                continue;
            }
            let fitting = room.gpus.iter().filter(|g| **g >= shape.share_milli);
            let gpus = shape.gpus == 0 || fitting.count() >= usize::from(shape.gpus);
            let processors = room.cpu_milli >= shape.cpu_milli;
            let memory = room.memory_mib >= shape.memory_mib;
            verdict.gpus += usize::from(!gpus);
            verdict.processors += usize::from(!processors);
            verdict.memory += usize::from(!memory);
            verdict.stranded += usize::from(gpus && !(processors && memory));
        }
        verdict
    }

    fn changed(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        n.standing = standing(self.scoring, &self.mix, &n.room);
        n.untouched = None;
        self.log.push(u32::try_from(node).unwrap_or(u32::MAX));
        // A shape that lags behind by more is scored anew as a whole.
        if self.log.len() > 4 * self.nodes.len() + 64 {
            let cut = self.log.len() / 2;
            self.log.drain(..cut);
            self.log_start += cut as u64;
        }
    }

    /// The shape's tree, brought up to date.
    fn index(&mut self, shape: &Shape) -> &Tree {
        self.asked += 1;
        self.pass += 1;
        let end = self.log_start + self.log.len() as u64;
        if !self.shapes.contains_key(shape) && self.shapes.len() >= MAX_SHAPES {
            let oldest = self.shapes.iter().min_by_key(|(_, i)| i.asked);
            if let Some(oldest) = oldest.map(|(s, _)| *s) {
                self.shapes.remove(&oldest);
            }
        }
        let Self {
            scoring,
            mix,
            nodes,
            log,
            scratch,
            ..
        } = self;
        let mut one = |node: &Node| {
            if node.open {
                score(*scoring, mix, &node.room, shape, node.standing, scratch)
            } else {
                (NEVER, 0)
            }
        };
        let kinds = self.kinds.len();
        let fresh = |one: &mut dyn FnMut(&Node) -> (i64, u8)| {
            let mut known = vec![None; kinds];
            let scores = nodes.iter().map(|node| match node.untouched {
                Some(kind) => *known[kind as usize].get_or_insert_with(|| one(node)),
                None => one(node),
            });
            Index {
                tree: Tree::new(scores.collect()),
                upto: end,
                asked: 0,
            }
        };
        let index = self.shapes.entry(*shape).or_insert_with(|| fresh(&mut one));
        index.asked = self.asked;
        if index.upto < self.log_start {
            *index = fresh(&mut one);
        } else {
            let from = usize::try_from(index.upto - self.log_start).unwrap_or(usize::MAX);
            let log = log.get(from..).unwrap_or_default();
            index.bring(log, nodes, (&mut self.seen, self.pass), &mut one);
        }
        &index.tree
    }

    /// Work for idle moments: brings the shape that lags most up to date by at most so many changes;
    /// how many were looked at, 0 when nothing lags. Answers stay the same, those that follow are
    /// sooner. A shape that was forgotten by the log is left to the next that asks for it.
    pub fn settle(&mut self, most: usize) -> usize {
        let end = self.log_start + self.log.len() as u64;
        let lagging = self.shapes.iter_mut();
        let lagging = lagging.filter(|(_, i)| i.upto < end && i.upto >= self.log_start);
        let Some((shape, index)) = lagging.min_by_key(|(_, i)| i.upto) else {
            return 0;
        };
        self.pass += 1;
        let from = usize::try_from(index.upto - self.log_start).unwrap_or(usize::MAX);
        let log = self.log.get(from..).unwrap_or_default();
        let log = &log[..log.len().min(most)];
        let Self {
            scoring,
            mix,
            nodes,
            scratch,
            ..
        } = self;
        let mut one = |node: &Node| {
            if node.open {
                score(*scoring, mix, &node.room, shape, node.standing, scratch)
            } else {
                (NEVER, 0)
            }
        };
        index.bring(log, nodes, (&mut self.seen, self.pass), &mut one);
        log.len()
    }
}

// === impl Index ===

impl Index {
    /// Scores the nodes of the part of the log that follows anew, each once.
    fn bring(
        &mut self,
        log: &[u32],
        nodes: &[Node],
        (seen, pass): (&mut [u64], u64),
        one: &mut dyn FnMut(&Node) -> (i64, u8),
    ) {
        for node in log {
            let node = usize::try_from(*node).unwrap_or(usize::MAX);
            if seen[node] != pass {
                seen[node] = pass;
                self.tree.set(node, one(&nodes[node]));
            }
        }
        self.upto += log.len() as u64;
    }
}

// === impl Verdict ===

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no node takes work");
        }
        write!(f, "0 of {} nodes can take it now:", self.nodes)?;
        let parts = [
            (self.other_model, "have another GPU model"),
            (self.gpus, "have too few GPUs with the share left"),
            (self.processors, "have too few processors left"),
            (self.memory, "have too little memory left"),
        ];
        for (n, what) in parts.into_iter().filter(|(n, _)| *n > 0) {
            write!(f, " {n} {what};")?;
        }
        match (self.stranded, self.other_model == self.nodes) {
            (_, true) => f.write_str(" it starts when a pool of its model is declared"),
            (0, _) => f.write_str(" it starts when work that holds GPUs ends"),
            (n, _) => write!(
                f,
                " {n} have the GPUs but not the rest: it starts when it asks for less, or work beside them ends"
            ),
        }
    }
}

#[cfg(test)]
impl Placer {
    /// Every shape is scored anew when it is asked for next.
    pub(super) fn shapes_forgotten(&mut self) {
        self.shapes.clear();
    }
}
