//! A priority queue whose cost hardly grows with its length: a small sorted front and unsorted runs behind it.

/// Most entries of the front and of a run before it is split.
const RUN: usize = 1024;

/// Entries in ascending order of `K`; equal keys come out in any order, so keys should be unique.
#[derive(Debug, Clone)]
pub(crate) struct Ladder<K> {
    /// Descending: the least is last.
    front: Vec<K>,
    /// What came in below the front's largest since it was sorted: a heap with the least on top.
    recent: std::collections::BinaryHeap<std::cmp::Reverse<K>>,
    /// Runs above the front, ascending by bound; all of a run lie at or above its bound.
    runs: Vec<Run<K>>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Run<K> {
    bound: K,
    entries: Vec<K>,
}

// === impl Ladder ===

impl<K: Ord + Copy> Default for Ladder<K> {
    fn default() -> Self {
        Self {
            front: Vec::new(),
            recent: std::collections::BinaryHeap::new(),
            runs: Vec::new(),
            len: 0,
        }
    }
}

impl<K: Ord + Copy> Ladder<K> {
    pub(crate) fn push(&mut self, key: K) {
        self.len += 1;
        let at = self.runs.partition_point(|r| r.bound <= key);
        let Some(run) = at.checked_sub(1).and_then(|i| self.runs.get_mut(i)) else {
            self.recent.push(std::cmp::Reverse(key));
            if self.recent.len() > 2 * RUN {
                self.spill();
            }
            return;
        };
        run.entries.push(key);
        if run.entries.len() > 2 * RUN {
            self.split(at - 1);
        }
    }

    /// The least, taken out.
    pub(crate) fn pop(&mut self) -> Option<K> {
        if self.front.is_empty() && self.recent.is_empty() {
            if self.runs.is_empty() {
                return None;
            }
            // Runs ascend: the first follows the front.
            self.front = self.runs.remove(0).entries;
            self.front.sort_unstable_by(|a, b| b.cmp(a));
        }
        self.len -= 1;
        let recent_first = match (self.front.last(), self.recent.peek()) {
            (Some(f), Some(r)) => r.0 < *f,
            (None, _) => true,
            (_, None) => false,
        };
        if recent_first {
            self.recent.pop().map(|r| r.0)
        } else {
            self.front.pop()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Moves the upper half of front and recent into a run of its own.
    fn spill(&mut self) {
        let mut all: Vec<K> = std::mem::take(&mut self.front);
        all.extend(self.recent.drain().map(|r| r.0));
        all.sort_unstable_by(|a, b| b.cmp(a));
        let keep = all.len() / 2;
        let upper: Vec<K> = all.drain(..all.len() - keep).collect();
        self.front = all;
        if let Some(bound) = upper.last().copied() {
            let run = Run {
                bound,
                entries: upper,
            };
            self.runs.insert(0, run);
            if self.runs[0].entries.len() > 2 * RUN {
                self.split(0);
            }
        }
    }

    fn split(&mut self, at: usize) {
        let run = &mut self.runs[at];
        let middle = run.entries.len() / 2;
        run.entries.select_nth_unstable(middle);
        let upper = run.entries.split_off(middle);
        let Some(bound) = upper.first().copied() else {
            return;
        };
        let entries = upper;
        self.runs.insert(at + 1, Run { bound, entries });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        // Long enough to split runs: few of them.
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn entries_come_out_as_sorted_ones_would(
            keys in prop::collection::vec((0u32..5000, any::<bool>()), 0..9000),
        ) {
            let mut ladder = Ladder::default();
            let mut sorted = std::collections::BTreeSet::new();
            for (i, (key, pop)) in (0u32..).zip(keys) {
                ladder.push((key, i));
                sorted.insert((key, i));
                if pop {
                    prop_assert_eq!(ladder.pop(), sorted.pop_first());
                }
                prop_assert_eq!(ladder.len(), sorted.len());
            }
            while let Some(first) = sorted.pop_first() {
                prop_assert_eq!(ladder.pop(), Some(first));
            }
            prop_assert_eq!(ladder.pop(), None);
        }
    }
}
