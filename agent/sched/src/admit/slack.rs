//! One server, earliest deadline first: the least slack over all deadlines, kept while work comes and goes.

use std::collections::BTreeMap;

/// Most entries that wait at once.
pub const MAX_ENTRIES: usize = 1_000_000;

const NONE: usize = usize::MAX;

/// What waits for one server, ordered by deadline; a treap that knows for each part of it the work
/// and the least slack.
///
/// Work is preemptible and may start at once, so it is feasible exactly when, for every deadline,
/// the work due by then fits between now and it. Source: Stankovic, Spuri, Ramamritham, Buttazzo,
/// "Deadline Scheduling for Real-Time Systems" (1998), 3.2.
#[derive(Debug, Clone)]
pub struct SlackTree {
    entries: Vec<Entry>,
    free: Vec<usize>,
    root: usize,
    deadlines: BTreeMap<u64, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: (u64, u64),
    work: u64,
    /// Heap order of the treap: a mix of the id, so that the same entries give the same tree.
    heap: u64,
    left: usize,
    right: usize,
    /// Work of the part below.
    sum: u128,
    /// The least of deadline less work due by then, within the part below.
    least: i128,
}

/// Why work was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Late {
    /// Somebody would miss a deadline.
    #[error(
        "with it, work due by then would end {by_ms} ms after a deadline: allow {by_ms} ms more, or ask for as much less"
    )]
    By {
        /// How late, in milliseconds.
        by_ms: u64,
    },
    /// The id is in use.
    #[error("{id} waits already: choose another id")]
    Known {
        /// Which.
        id: u64,
    },
    /// Too much waits.
    #[error("{MAX_ENTRIES} entries wait already: try again when some are done")]
    TooMany,
}

// === impl SlackTree ===

impl Default for SlackTree {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            root: NONE,
            deadlines: BTreeMap::new(),
        }
    }
}

impl SlackTree {
    /// Lets `work_ms` in when all deadlines hold with it, in O(log n).
    ///
    /// # Errors
    /// [`Late`]: nothing changes then.
    pub fn ask(
        &mut self,
        id: u64,
        deadline_ms: u64,
        work_ms: u64,
        now_ms: u64,
    ) -> Result<(), Late> {
        if self.deadlines.contains_key(&id) {
            return Err(Late::Known { id });
        }
        if self.deadlines.len() >= MAX_ENTRIES {
            return Err(Late::TooMany);
        }
        self.insert((deadline_ms, id), work_ms);
        let slack = self.slack(now_ms).unwrap_or(0);
        if slack >= 0 {
            return Ok(());
        }
        self.remove(id);
        Err(Late::By {
            by_ms: u64::try_from(-slack).unwrap_or(u64::MAX),
        })
    }

    /// Takes an entry out; what it had left to do. `None` when it does not wait.
    pub fn remove(&mut self, id: u64) -> Option<u64> {
        let key = (self.deadlines.remove(&id)?, id);
        let (before, rest) = self.split(self.root, key);
        let next = key
            .1
            .checked_add(1)
            .map_or((key.0.saturating_add(1), 0), |n| (key.0, n));
        let (own, after) = self.split(rest, next);
        let root = self.merge(before, after);
        self.root = root;
        if own == NONE {
            return None;
        }
        self.free.push(own);
        Some(self.entries[own].work)
    }

    /// The server worked for `ms`, earliest deadline first; those that are done are taken out and
    /// named.
    pub fn ran(&mut self, mut ms: u64) -> Vec<u64> {
        let mut done = Vec::new();
        while let Some(first) = self.first() {
            let Entry { key, work, .. } = self.entries[first];
            if work > ms {
                if ms > 0 {
                    self.remove(key.1);
                    self.insert(key, work - ms);
                }
                break;
            }
            ms -= work;
            self.remove(key.1);
            done.push(key.1);
        }
        done
    }

    /// Milliseconds by which the tightest deadline would be met if work started now; negative: it is
    /// missed. `None` when nothing waits.
    #[must_use]
    pub fn slack(&self, now_ms: u64) -> Option<i128> {
        (self.root != NONE).then(|| self.entries[self.root].least - i128::from(now_ms))
    }

    /// Entries that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.deadlines.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deadlines.is_empty()
    }

    fn first(&self) -> Option<usize> {
        let mut at = self.root;
        while at != NONE && self.entries[at].left != NONE {
            at = self.entries[at].left;
        }
        (at != NONE).then_some(at)
    }

    fn insert(&mut self, key: (u64, u64), work: u64) {
        let entry = Entry {
            key,
            work,
            heap: mixed(key.1),
            left: NONE,
            right: NONE,
            sum: 0,
            least: 0,
        };
        let at = if let Some(at) = self.free.pop() {
            self.entries[at] = entry;
            at
        } else {
            self.entries.push(entry);
            self.entries.len() - 1
        };
        self.update(at);
        self.deadlines.insert(key.1, key.0);
        let (before, after) = self.split(self.root, key);
        let before = self.merge(before, at);
        self.root = self.merge(before, after);
    }

    fn update(&mut self, at: usize) {
        let Entry {
            key,
            work,
            left,
            right,
            ..
        } = self.entries[at];
        let part = |i: usize| {
            self.entries
                .get(i)
                .map_or((0, i128::MAX), |e| (e.sum, e.least))
        };
        let ((before, least_before), (after, least_after)) = (part(left), part(right));
        let upto = before + u128::from(work);
        let due = i128::try_from(upto).unwrap_or(i128::MAX);
        let own = i128::from(key.0) - due;
        let later = if right == NONE {
            i128::MAX
        } else {
            least_after - due
        };
        let entry = &mut self.entries[at];
        entry.sum = upto + after;
        entry.least = least_before.min(own).min(later);
    }

    /// Those below `key`, and the others.
    fn split(&mut self, at: usize, key: (u64, u64)) -> (usize, usize) {
        if at == NONE {
            return (NONE, NONE);
        }
        if self.entries[at].key < key {
            let (before, after) = self.split(self.entries[at].right, key);
            self.entries[at].right = before;
            self.update(at);
            (at, after)
        } else {
            let (before, after) = self.split(self.entries[at].left, key);
            self.entries[at].left = after;
            self.update(at);
            (before, at)
        }
    }

    fn merge(&mut self, a: usize, b: usize) -> usize {
        if a == NONE || b == NONE {
            return if a == NONE { b } else { a };
        }
        if self.entries[a].heap > self.entries[b].heap {
            let right = self.merge(self.entries[a].right, b);
            self.entries[a].right = right;
            self.update(a);
            a
        } else {
            let left = self.merge(a, self.entries[b].left);
            self.entries[b].left = left;
            self.update(b);
            b
        }
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
fn mixed(id: u64) -> u64 {
    let mut z = id.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
