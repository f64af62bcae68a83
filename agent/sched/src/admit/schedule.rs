//! When each gang would run so that all meet their deadlines: earliest deadline first, then a bounded search.

use super::{Gang, Profile, Start};

/// Most placements tried in the search before the answer is no.
pub const MAX_TRIES: u32 = 20_000;
/// Most gangs that are searched over; more are tried in the fixed orders alone.
pub const MAX_SEARCHED: usize = 64;

struct Search<'a> {
    gangs: &'a [Gang],
    now_ms: u64,
    tries: u32,
}

/// A start for each of `gangs`, in their order, with all deadlines met; `None` when none was found.
///
/// Each order (deadline; latest start; width; area) gives every gang the earliest start that is left;
/// when no order does, up to [`MAX_TRIES`] placements are searched. An answer is a schedule that was
/// built: it is never wrong. `None` may be, as the problem is NP-hard (Garey & Johnson, "Complexity
/// Results for Multiprocessor Scheduling under Resource Constraints", SIAM J. Comput. 1975).
#[must_use]
pub fn schedule(profile: &Profile, gangs: &[Gang], now_ms: u64) -> Option<Vec<Start>> {
    let latest = |g: &Gang| g.deadline_ms.checked_sub(g.runtime_ms);
    let mut order: Vec<usize> = (0..gangs.len()).collect();
    for by in 0..4 {
        order.sort_by_key(|i| {
            let g = &gangs[*i];
            let (deadline, start) = (u128::from(g.deadline_ms), latest(g).map(u128::from));
            let area = u128::from(g.gpus) * u128::from(g.runtime_ms);
            let first = match by {
                0 => deadline,
                1 => start.unwrap_or(0),
                2 => u128::MAX - u128::from(g.gpus),
                _ => u128::MAX - area,
            };
            (first, deadline, g.id)
        });
        if let Some(starts) = in_order(profile, gangs, &order, now_ms) {
            return Some(starts);
        }
    }
    if gangs.len() > MAX_SEARCHED {
        return None;
    }
    order.sort_by_key(|i| (latest(&gangs[*i]), gangs[*i].id));
    let mut search = Search {
        gangs,
        now_ms,
        tries: MAX_TRIES,
    };
    let mut starts = vec![None; gangs.len()];
    let found = search.go(profile, &order, (0, 0), &mut starts);
    found.then(|| starts.into_iter().flatten().collect())
}

fn in_order(profile: &Profile, gangs: &[Gang], order: &[usize], now_ms: u64) -> Option<Vec<Start>> {
    let mut free = profile.clone();
    let mut starts = vec![None; gangs.len()];
    for i in order {
        let start = gangs[*i].earliest(&free, now_ms)?;
        free.take(start.at_ms, start.end_ms, gangs[*i].gpus).ok()?;
        starts[*i] = Some(start);
    }
    Some(starts.into_iter().flatten().collect())
}

// === impl Search ===

impl Search<'_> {
    /// Places the rest in every order in which starts never go back: each schedule in which nothing
    /// can start earlier is built once, and if any schedule is in time one of these is.
    fn go(
        &mut self,
        free: &Profile,
        rest: &[usize],
        last: (u64, usize),
        starts: &mut [Option<Start>],
    ) -> bool {
        if rest.is_empty() {
            return true;
        }
        let mut found = Vec::with_capacity(rest.len());
        for i in rest {
            // What is late now only gets later.
            let Some(start) = self.gangs[*i].earliest(free, self.now_ms) else {
                return false;
            };
            found.push((*i, start));
        }
        for (k, (i, start)) in found.iter().enumerate() {
            let gang = &self.gangs[*i];
            let alike = |(j, _): &(usize, Start)| self.gangs[*j].same_as(gang);
            if (start.at_ms, *i) < last || found[..k].iter().any(alike) {
                continue;
            }
            if self.tries == 0 {
                return false;
            }
            self.tries -= 1;
            let mut less = free.clone();
            if less.take(start.at_ms, start.end_ms, gang.gpus).is_err() {
                continue;
            }
            let others: Vec<usize> = rest.iter().copied().filter(|j| j != i).collect();
            starts[*i] = Some(*start);
            if self.go(&less, &others, (start.at_ms, *i), starts) {
                return true;
            }
        }
        false
    }
}
