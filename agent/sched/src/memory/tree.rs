//! Holes by address: a treap that knows the largest hole of each subtree.
//!
//! The search for the first hole that is large enough takes O(log n) expected steps. Priorities
//! come from the records' numbers, so the shape is the same in every run. Source: Seidel and
//! Aragon, Randomized search trees (1996).

use super::node::{NONE, Node};

/// The root; the links are the holes' own.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    root: u32,
}

fn priority(i: u32) -> u32 {
    let mut x = i.wrapping_mul(0x9E37_79B9) ^ 0x85EB_CA6B;
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

fn largest(nodes: &[Node], i: u32) -> u32 {
    if i == NONE { 0 } else { nodes[i as usize].tag }
}

fn update(nodes: &mut [Node], i: u32) {
    let Node {
        left, right, size, ..
    } = nodes[i as usize];
    nodes[i as usize].tag = size.max(largest(nodes, left)).max(largest(nodes, right));
}

/// The holes below `offset` and the others.
fn split(nodes: &mut [Node], root: u32, offset: u32) -> (u32, u32) {
    if root == NONE {
        return (NONE, NONE);
    }
    let Node { left, right, .. } = nodes[root as usize];
    if nodes[root as usize].offset < offset {
        let (low, high) = split(nodes, right, offset);
        nodes[root as usize].right = low;
        update(nodes, root);
        (root, high)
    } else {
        let (low, high) = split(nodes, left, offset);
        nodes[root as usize].left = high;
        update(nodes, root);
        (low, root)
    }
}

/// One tree of two, all of `low` below all of `high`.
fn merge(nodes: &mut [Node], low: u32, high: u32) -> u32 {
    if low == NONE {
        return high;
    }
    if high == NONE {
        return low;
    }
    if priority(low) >= priority(high) {
        let right = nodes[low as usize].right;
        nodes[low as usize].right = merge(nodes, right, high);
        update(nodes, low);
        low
    } else {
        let left = nodes[high as usize].left;
        nodes[high as usize].left = merge(nodes, low, left);
        update(nodes, high);
        high
    }
}

fn insert(nodes: &mut [Node], root: u32, i: u32) -> u32 {
    if root == NONE || priority(i) > priority(root) {
        let (low, high) = split(nodes, root, nodes[i as usize].offset);
        nodes[i as usize].left = low;
        nodes[i as usize].right = high;
        update(nodes, i);
        return i;
    }
    if nodes[i as usize].offset < nodes[root as usize].offset {
        nodes[root as usize].left = insert(nodes, nodes[root as usize].left, i);
    } else {
        nodes[root as usize].right = insert(nodes, nodes[root as usize].right, i);
    }
    update(nodes, root);
    root
}

fn remove(nodes: &mut [Node], root: u32, i: u32) -> u32 {
    let Node { left, right, .. } = nodes[root as usize];
    if root == i {
        return merge(nodes, left, right);
    }
    if nodes[i as usize].offset < nodes[root as usize].offset {
        nodes[root as usize].left = remove(nodes, left, i);
    } else {
        nodes[root as usize].right = remove(nodes, right, i);
    }
    update(nodes, root);
    root
}

fn first(nodes: &[Node], root: u32, from: u32, size: u32, align: u32) -> Option<u32> {
    if largest(nodes, root) < size {
        return None;
    }
    let node = nodes[root as usize];
    if node.offset >= from {
        let found = first(nodes, node.left, from, size, align);
        if found.is_some() {
            return found;
        }
        if node.room(size, align).is_some() {
            return Some(root);
        }
    }
    first(nodes, node.right, from, size, align)
}

// === impl Tree ===

impl Tree {
    pub(crate) fn new() -> Self {
        Self { root: NONE }
    }

    pub(crate) fn insert(&mut self, nodes: &mut [Node], i: u32) {
        self.root = insert(nodes, self.root, i);
    }

    /// Gives a hole up that is in the tree.
    pub(crate) fn remove(&mut self, nodes: &mut [Node], i: u32) {
        self.root = remove(nodes, self.root, i);
    }

    /// Changes where a hole lies.
    pub(crate) fn resize(&mut self, nodes: &mut [Node], i: u32, offset: u32, size: u32) {
        self.remove(nodes, i);
        nodes[i as usize].offset = offset;
        nodes[i as usize].size = size;
        self.insert(nodes, i);
    }

    /// The lowest hole that starts at `from` or above and has room for `size` at `align`.
    pub(crate) fn first(&self, nodes: &[Node], from: u32, size: u32, align: u32) -> Option<u32> {
        first(nodes, self.root, from, size, align)
    }
}
