//! Whether gangs can all be in time, decided by trying everything: the yardstick of the admission test.

use super::{Gang, Profile};
use std::collections::BTreeSet;

/// Most gangs that are decided exactly.
pub const MAX_EXACT_GANGS: usize = 8;
/// Most milliseconds from now to the last deadline.
pub const MAX_EXACT_SPAN: u64 = 256;

struct Trial<'a> {
    gangs: &'a [Gang],
    now_ms: u64,
    /// Free units of each millisecond from now on.
    free: Vec<u64>,
    /// States that lead nowhere: the moment, who has not started, what is free from there on.
    dead: BTreeSet<(usize, u8, Vec<u64>)>,
}

/// Whether starts at whole milliseconds exist with which all deadlines are met. Every subset of those
/// that wait is tried at every millisecond. `None` above [`MAX_EXACT_GANGS`] or [`MAX_EXACT_SPAN`].
#[must_use]
pub fn exact(profile: &Profile, gangs: &[Gang], now_ms: u64) -> Option<bool> {
    let last = gangs.iter().map(|g| g.deadline_ms).max().unwrap_or(now_ms);
    let span = last.saturating_sub(now_ms);
    if gangs.len() > MAX_EXACT_GANGS || span > MAX_EXACT_SPAN {
        return None;
    }
    let free = (0..span).map(|t| profile.free_at(now_ms + t)).collect();
    let mut trial = Trial {
        gangs,
        now_ms,
        free,
        dead: BTreeSet::new(),
    };
    let mut all = 0;
    for i in 0..gangs.len() {
        all |= 1 << i;
    }
    Some(trial.go(0, 0, all))
}

// === impl Trial ===

impl Trial<'_> {
    /// Tries to start gangs from number `from` on at moment `t`, then goes on.
    fn go(&mut self, t: usize, from: usize, waiting: u8) -> bool {
        if waiting == 0 {
            return true;
        }
        if t >= self.free.len() || !self.in_time(t, waiting) {
            return false;
        }
        if from == 0 {
            let state = (t, waiting, self.free[t..].to_vec());
            if self.dead.contains(&state) {
                return false;
            }
            let found = self.branch(t, from, waiting);
            if !found {
                self.dead.insert(state);
            }
            return found;
        }
        self.branch(t, from, waiting)
    }

    fn branch(&mut self, t: usize, from: usize, waiting: u8) -> bool {
        for i in from..self.gangs.len() {
            if waiting >> i & 1 == 0 || !self.take(t, i) {
                continue;
            }
            let found = self.go(t, i + 1, waiting & !(1 << i));
            self.give(t, i);
            if found {
                return true;
            }
        }
        self.go(t + 1, 0, waiting)
    }

    fn in_time(&self, t: usize, waiting: u8) -> bool {
        let now = self.now_ms + t as u64;
        (0..self.gangs.len())
            .filter(|i| waiting >> i & 1 == 1)
            .all(|i| now.saturating_add(self.gangs[i].runtime_ms) <= self.gangs[i].deadline_ms)
    }

    fn span(&self, t: usize, i: usize) -> std::ops::Range<usize> {
        t..t.saturating_add(usize::try_from(self.gangs[i].runtime_ms).unwrap_or(usize::MAX))
    }

    fn take(&mut self, t: usize, i: usize) -> bool {
        let (gang, span) = (self.gangs[i], self.span(t, i));
        let now = self.now_ms + t as u64;
        let Some(free) = self.free.get_mut(span) else {
            return false;
        };
        let fits = now >= gang.release_ms && free.iter().all(|f| *f >= gang.gpus);
        if fits {
            free.iter_mut().for_each(|f| *f -= gang.gpus);
        }
        fits
    }

    fn give(&mut self, t: usize, i: usize) {
        let span = self.span(t, i);
        for f in &mut self.free[span] {
            *f += self.gangs[i].gpus;
        }
    }
}
