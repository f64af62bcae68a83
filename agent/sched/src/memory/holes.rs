//! The holes a plan may fill: a tournament by address whose winner is the largest hole.

use super::terms::Region;

/// Holes as a plan would leave them; changes can be taken back.
#[derive(Debug)]
pub(crate) struct Holes {
    offsets: Vec<u64>,
    /// Heap order, 1 is the root; the leaves are the holes' bytes.
    tree: Vec<u64>,
    leaves: usize,
    /// What was changed since the last mark: hole, offset, bytes.
    changed: Vec<(usize, u64, u64)>,
}

// === impl Holes ===

impl Holes {
    /// The holes that end at `top` or below.
    pub(crate) fn new(regions: &[Region], top: u64) -> Self {
        let holes: Vec<_> = regions
            .iter()
            .filter(|r| r.held.is_none() && r.offset + r.bytes <= top)
            .collect();
        let leaves = holes.len().next_power_of_two().max(1);
        let mut tree = vec![0; leaves * 2];
        for (i, hole) in holes.iter().enumerate() {
            tree[leaves + i] = hole.bytes;
        }
        for i in (1..leaves).rev() {
            tree[i] = tree[2 * i].max(tree[2 * i + 1]);
        }
        Self {
            offsets: holes.iter().map(|h| h.offset).collect(),
            tree,
            leaves,
            changed: Vec::new(),
        }
    }

    /// The lowest hole of at least `bytes`; its number. O(log holes).
    pub(crate) fn first(&self, bytes: u64) -> Option<usize> {
        if self.tree[1] < bytes {
            return None;
        }
        let mut at = 1;
        while at < self.leaves {
            at *= 2;
            if self.tree[at] < bytes {
                at += 1;
            }
        }
        Some(at - self.leaves)
    }

    /// Where a hole starts.
    pub(crate) fn offset(&self, hole: usize) -> u64 {
        self.offsets[hole]
    }

    /// Fills a hole up to `end`.
    pub(crate) fn fill(&mut self, hole: usize, end: u64) {
        let bytes = self.tree[self.leaves + hole];
        let rest = (self.offsets[hole] + bytes).saturating_sub(end);
        self.set(hole, end, rest);
    }

    /// Keeps everything out of `start..end`.
    pub(crate) fn bar(&mut self, start: u64, end: u64) {
        let mut i = self.offsets.partition_point(|o| *o < start);
        if i > 0 {
            let (offset, bytes) = (self.offsets[i - 1], self.tree[self.leaves + i - 1]);
            if offset + bytes > start {
                self.set(i - 1, offset, start - offset);
            }
        }
        while i < self.offsets.len() && self.offsets[i] < end {
            let (offset, bytes) = (self.offsets[i], self.tree[self.leaves + i]);
            let rest = (offset + bytes).saturating_sub(end);
            self.set(i, if rest > 0 { end } else { offset }, rest);
            i += 1;
        }
    }

    /// Takes back what was done since the last call of this or of `keep`.
    pub(crate) fn undo(&mut self) {
        while let Some((hole, offset, bytes)) = self.changed.pop() {
            self.write(hole, offset, bytes);
        }
    }

    /// Makes what was done stay.
    pub(crate) fn keep(&mut self) {
        self.changed.clear();
    }

    fn set(&mut self, hole: usize, offset: u64, bytes: u64) {
        let old = (hole, self.offsets[hole], self.tree[self.leaves + hole]);
        self.changed.push(old);
        self.write(hole, offset, bytes);
    }

    fn write(&mut self, hole: usize, offset: u64, bytes: u64) {
        self.offsets[hole] = offset;
        let mut at = self.leaves + hole;
        self.tree[at] = bytes;
        while at > 1 {
            at /= 2;
            self.tree[at] = self.tree[2 * at].max(self.tree[2 * at + 1]);
        }
    }
}
