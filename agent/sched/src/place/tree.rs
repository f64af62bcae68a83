//! The node with the least score, kept while scores change: a tournament over nodes.

use super::score::NEVER;

/// A complete binary tree whose leaves are scores; each inner place names its winner.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    leaves: usize,
    scores: Vec<(i64, u8)>,
    /// Heap order, 1 is the root; the winner's leaf.
    winners: Vec<u32>,
}

// === impl Tree ===

impl Tree {
    /// A tree of `scores`, at least one.
    pub(crate) fn new(scores: Vec<(i64, u8)>) -> Self {
        let leaves = scores.len().next_power_of_two().max(1);
        let mut tree = Self {
            leaves,
            scores,
            winners: vec![0; leaves],
        };
        for i in (1..leaves).rev() {
            tree.winners[i] = tree.winner(i);
        }
        tree
    }

    /// The first leaf with the least score; `None` when nothing fits anywhere.
    pub(crate) fn best(&self) -> Option<(usize, u8)> {
        let leaf = if self.leaves == 1 { 0 } else { self.winners[1] };
        let leaf = usize::try_from(leaf).ok()?;
        let (score, gpu) = *self.scores.get(leaf)?;
        (score != NEVER).then_some((leaf, gpu))
    }

    /// Changes a leaf's score; O(log n), and no walk where it cannot matter.
    pub(crate) fn set(&mut self, leaf: usize, score: (i64, u8)) {
        let before = self.scores[leaf].0;
        self.scores[leaf] = score;
        if before == score.0 {
            return;
        }
        let mut at = (leaf + self.leaves) / 2;
        while at > 0 {
            let (was, is) = (self.winners[at], self.winner(at));
            self.winners[at] = is;
            // Somebody else won and wins: nothing above has changed.
            if was == is && usize::try_from(is) != Ok(leaf) {
                return;
            }
            at /= 2;
        }
    }

    fn winner(&self, at: usize) -> u32 {
        let side = |child: usize| {
            if child >= self.leaves {
                u32::try_from(child - self.leaves).unwrap_or(u32::MAX)
            } else {
                self.winners[child]
            }
        };
        let (left, right) = (side(2 * at), side(2 * at + 1));
        let score = |leaf: u32| {
            let leaf = usize::try_from(leaf).unwrap_or(usize::MAX);
            self.scores.get(leaf).map_or(NEVER, |s| s.0)
        };
        if score(right) < score(left) {
            right
        } else {
            left
        }
    }
}
