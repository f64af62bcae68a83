//! Dominant resource fairness over a tree of tenants, without starving those who need different things.

use super::drf::{MAX_TASKS, fits};

/// Most levels below the root.
pub const MAX_DEPTH: usize = 8;

/// A tenant: a leaf when it has tasks of its own and nobody below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The tenant above it, by its place in the list; `None`: directly below the root.
    pub parent: Option<usize>,
    /// In proportion to its siblings', at least 1; 0 counts as 1.
    pub weight: u64,
    /// Units of each resource for one task of a leaf; ignored for those above others.
    pub task: Vec<u64>,
    /// Tasks a leaf has.
    pub tasks: u64,
}

/// A tree of tenants, checked.
#[derive(Debug, Clone)]
pub struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) children: Vec<Vec<usize>>,
    pub(super) roots: Vec<usize>,
}

/// A tree that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Its parent is not in the list.
    #[error("tenant {node} names {parent} as its parent, which is not in the list")]
    Parent {
        /// Which.
        node: usize,
        /// What it names.
        parent: usize,
    },
    /// It is its own ancestor, or too deep.
    #[error("tenant {node} is its own ancestor, or has more than {MAX_DEPTH} tenants above it")]
    Depth {
        /// Which.
        node: usize,
    },
}

struct Filling<'a> {
    tree: &'a Tree,
    capacity: &'a [u64],
    left: Vec<u64>,
    tasks: Vec<u64>,
    blocked: Vec<bool>,
    /// What each node counts as holding: rescaled sums above the leaves.
    held: Vec<Vec<f64>>,
}

// === impl Tree ===

impl Tree {
    /// Checks that `nodes` are a forest below one root, at most [`MAX_DEPTH`] levels deep.
    ///
    /// # Errors
    /// [`NodeError`] names the tenant.
    pub fn new(nodes: Vec<Node>) -> Result<Self, NodeError> {
        let mut children = vec![Vec::new(); nodes.len()];
        let mut roots = Vec::new();
        for (i, node) in nodes.iter().enumerate() {
            let mut above = node.parent;
            for _ in 0..MAX_DEPTH {
                let Some(p) = above else { break };
                let Some(parent) = nodes.get(p) else {
                    return Err(NodeError::Parent { node: i, parent: p });
                };
                above = parent.parent;
            }
            if above.is_some() {
                return Err(NodeError::Depth { node: i });
            }
            match node.parent {
                Some(p) => children[p].push(i),
                None => roots.push(i),
            }
        }
        Ok(Self {
            nodes,
            children,
            roots,
        })
    }

    /// Tasks of each tenant, in the list's order (0 for those above others), one at a time: from the
    /// root down to the child with the least dominant share by weight, equals by place. A tenant that
    /// cannot use what is left is blocked and no longer counts. What a tenant above others holds is the
    /// sum of its children's holdings, each scaled down to the least dominant share among those that
    /// are not blocked: otherwise a child that got much of what its sibling does not need starves that
    /// sibling. Source: Bhattacharya et al., SoCC'13, 4.3.
    #[must_use]
    pub fn fill(&self, capacity: &[u64]) -> Vec<u64> {
        let mut filling = Filling {
            tree: self,
            capacity,
            left: capacity.to_vec(),
            tasks: vec![0; self.nodes.len()],
            blocked: vec![false; self.nodes.len()],
            held: vec![vec![0.0; capacity.len()]; self.nodes.len()],
        };
        let mut given = 0;
        while given < MAX_TASKS
            && let Some(leaf) = filling.next_leaf()
        {
            given += u64::from(filling.give(leaf));
        }
        filling.tasks
    }
}

// === impl Filling ===

impl Filling<'_> {
    /// The leaf whose turn it is; `None` when all are blocked.
    fn next_leaf(&self) -> Option<usize> {
        let mut among = &self.tree.roots;
        loop {
            let open = among.iter().copied().filter(|i| !self.blocked[*i]);
            let turn = open.min_by(|a, b| self.share(*a).total_cmp(&self.share(*b)))?;
            among = &self.tree.children[turn];
            if among.is_empty() {
                return Some(turn);
            }
        }
    }

    /// Gives the leaf one task, or blocks it; `true` when it got one.
    fn give(&mut self, leaf: usize) -> bool {
        let node = &self.tree.nodes[leaf];
        let needs = node.task.iter().any(|t| *t > 0);
        let fits = needs && self.tasks[leaf] < node.tasks && fits(&node.task, &self.left);
        if fits {
            self.tasks[leaf] += 1;
            for (r, t) in node.task.iter().enumerate().take(self.left.len()) {
                self.left[r] -= t;
                #[expect(clippy::cast_precision_loss, reason = "a share, not a count")]
                let units = *t as f64;
                self.held[leaf][r] += units;
            }
        } else {
            // Tasks that need nothing are all given at once.
            if !needs {
                self.tasks[leaf] = node.tasks;
            }
            self.blocked[leaf] = true;
        }
        let mut above = node.parent;
        while let Some(p) = above {
            self.sum_up(p);
            above = self.tree.nodes[p].parent;
        }
        fits
    }

    fn sum_up(&mut self, parent: usize) {
        let children = &self.tree.children[parent];
        let open: Vec<usize> = children
            .iter()
            .copied()
            .filter(|c| !self.blocked[*c])
            .collect();
        self.blocked[parent] = open.is_empty();
        if open.is_empty() {
            return;
        }
        let holding = open.iter().map(|c| self.dominant(*c));
        let least = holding.fold(f64::INFINITY, f64::min);
        let mut sum = vec![0.0; self.capacity.len()];
        for c in open {
            let own = self.dominant(c);
            let scale = if own > 0.0 { least / own } else { 0.0 };
            for (s, h) in sum.iter_mut().zip(&self.held[c]) {
                *s += h * scale;
            }
        }
        self.held[parent] = sum;
    }

    /// The largest part of any resource it counts as holding.
    fn dominant(&self, node: usize) -> f64 {
        let parts = self.held[node].iter().zip(self.capacity);
        let parts = parts.filter(|(_, c)| **c > 0).map(|(h, c)| {
            #[expect(clippy::cast_precision_loss, reason = "a share, not a count")]
            let capacity = *c as f64;
            h / capacity
        });
        parts.fold(0.0, f64::max)
    }

    fn share(&self, node: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a weight")]
        let weight = self.tree.nodes[node].weight.max(1) as f64;
        self.dominant(node) / weight
    }
}
