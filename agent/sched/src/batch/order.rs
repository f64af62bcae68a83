//! Whose prompt is computed next, where prompts can be interrupted.

use super::batcher::{Key, Waiting};
use std::collections::BinaryHeap;

/// Nothing waits longer than this because of an order, in microseconds, where the order has no bound.
const UNBOUNDED: u64 = u64::MAX;

/// The order of continuous batching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// First come, first served.
    Fcfs,
    /// Earliest deadline first. Overload rule: what can no longer be on time goes behind all that can,
    /// in order of arrival.
    Edf {
        /// Nanoseconds a prompt token takes, overheads included: tells what can be on time.
        token_ns: u64,
    },
    /// Least prompt left first; those that waited `bound_us` go first, in order of arrival.
    Shortest {
        /// Microseconds.
        bound_us: u64,
    },
    /// Least prompt left first among those that can still be on time; then the late, in order of
    /// arrival. The late go first as long as one of them would otherwise wait longer than the bound,
    /// judged by all the late before it. The bound is `bound_us`, or most of what first come, first
    /// served would have made of it, if that is longer: nobody can promise less to everybody. The
    /// largest of those that would break the bound, at most 8 of 1000 requests, are put off behind all
    /// others instead (as Moore, "An n job, one machine sequencing algorithm", 1968, does to miss the
    /// fewest deadlines), so that a 99th percentile keeps the bound; they wait at most ten bounds.
    OnTime {
        /// Microseconds.
        bound_us: u64,
        /// Nanoseconds a prompt token takes, overheads included.
        token_ns: u64,
    },
}

/// A request's rank: class, then key; less goes first.
pub(super) type Rank = (u8, u64);

/// Class of those whom nobody may overtake.
pub(super) const FIRST: u8 = 0;
const ON_TIME: u8 = 1;
const LATE: u8 = 2;
const PUT_OFF: u8 = 3;
/// Of so many thousandths of all requests the wait may exceed the bound.
const SPARE_PERMILLE: u64 = 8;
/// Bounds that one waits that was put off.
const PATIENCE: u64 = 10;

/// What first come, first served would have done with the same arrivals.
#[derive(Debug, Clone, Default)]
pub(super) struct Shadow {
    free_us: u64,
    last_us: u64,
    arrived: u64,
    put_off: u64,
    /// The longest recent wait, falling slowly.
    wait_us: u64,
}

/// Time in which a long wait of the shadow is forgotten, in microseconds: an hour.
const MEMORY_US: u64 = 3_600_000_000;
/// Part of the shadow's wait that the bound is lifted to: the rest is for what arrives meanwhile.
const LIFT_PERCENT: u64 = 88;

// === impl Shadow ===

impl Shadow {
    pub(super) fn arrived(&mut self, arrival_us: u64, tokens: u32, token_ns: u64) {
        self.arrived += 1;
        let past = arrival_us.saturating_sub(self.last_us).min(MEMORY_US);
        let faded = u128::from(self.wait_us) * u128::from(past) / u128::from(MEMORY_US);
        self.wait_us -= u64::try_from(faded).unwrap_or(self.wait_us);
        self.last_us = self.last_us.max(arrival_us);
        self.free_us = self.free_us.max(arrival_us) + work_us(tokens, token_ns);
        self.wait_us = self.wait_us.max(self.free_us - arrival_us);
    }

    /// How many more may be put off.
    pub(super) fn spare(&self) -> u64 {
        (self.arrived * SPARE_PERMILLE / 1000).saturating_sub(self.put_off)
    }

    pub(super) fn put_off(&mut self) {
        self.put_off += 1;
    }
}

// === impl Order ===

impl Order {
    pub(super) fn token_ns(&self) -> u64 {
        match self {
            Self::Edf { token_ns } | Self::OnTime { token_ns, .. } => *token_ns,
            Self::Fcfs | Self::Shortest { .. } => 0,
        }
    }

    /// The longest wait the order promises where everybody's can be kept, in microseconds.
    pub(super) fn bound_us(&self, shadow: &Shadow) -> u64 {
        match self {
            Self::Fcfs => 0,
            Self::Edf { .. } => UNBOUNDED,
            Self::Shortest { bound_us } => *bound_us,
            Self::OnTime { bound_us, .. } => (*bound_us).max(shadow.wait_us / 100 * LIFT_PERCENT),
        }
    }

    /// Whether the late have to go first now, and who of them is put off, of those that wait in order
    /// of arrival. `spare`: how many more may be put off.
    pub(super) fn press<'a>(
        &self,
        now_us: u64,
        bound_us: u64,
        spare: u64,
        waiting: impl Iterator<Item = &'a Waiting>,
    ) -> (bool, Vec<Key>) {
        let mut put_off = Vec::new();
        let Self::OnTime { token_ns, .. } = *self else {
            return (false, put_off);
        };
        let late = waiting.filter(|w| !w.put_off && !self.can(w, now_us, bound_us));
        let mut ends = now_us;
        let mut before = BinaryHeap::new();
        for w in late {
            let work = work_us(w.left(), token_ns);
            ends = ends.saturating_add(work);
            before.push((work, w.key()));
            if ends < w.request.arrival_us.saturating_add(bound_us) {
                continue;
            }
            if put_off.len() as u64 >= spare {
                return (true, put_off);
            }
            if let Some((work, largest)) = before.pop() {
                ends -= work;
                put_off.push(largest);
            }
        }
        (false, put_off)
    }

    /// Its first token can still come in time.
    fn can(&self, w: &Waiting, now_us: u64, bound_us: u64) -> bool {
        let limit = w.request.arrival_us.saturating_add(bound_us);
        let ends = now_us.saturating_add(work_us(w.left(), self.token_ns()));
        w.request
            .deadline_us
            .is_some_and(|due| ends <= due.min(limit))
    }

    /// Ranks of those that wait, who are given in order of arrival; `pressed`: see [`Self::press`].
    pub(super) fn ranks<'a>(
        &self,
        now_us: u64,
        bound_us: u64,
        pressed: bool,
        waiting: impl Iterator<Item = &'a Waiting> + Clone,
    ) -> Vec<Rank> {
        let token_ns = self.token_ns();
        let on_time =
            |w: &Waiting, due: u64| now_us.saturating_add(work_us(w.left(), token_ns)) <= due;
        match *self {
            Self::Fcfs => waiting.map(|w| (FIRST, w.request.arrival_us)).collect(),
            Self::Edf { .. } => waiting
                .map(|w| match w.request.deadline_us {
                    Some(due) if !on_time(w, due) => (LATE, w.request.arrival_us),
                    due => (ON_TIME, due.unwrap_or(u64::MAX)),
                })
                .collect(),
            Self::Shortest { .. } => waiting
                .map(|w| {
                    let waited = now_us.saturating_sub(w.request.arrival_us);
                    if waited >= bound_us {
                        (FIRST, w.request.arrival_us)
                    } else {
                        (ON_TIME, u64::from(w.left()))
                    }
                })
                .collect(),
            Self::OnTime { .. } => {
                let late = if pressed { FIRST } else { LATE };
                let patience = bound_us.saturating_mul(PATIENCE);
                waiting
                    .map(|w| {
                        let arrival = w.request.arrival_us;
                        if now_us.saturating_sub(arrival) >= patience {
                            (FIRST, arrival)
                        } else if self.can(w, now_us, bound_us) {
                            (ON_TIME, u64::from(w.left()))
                        } else if w.put_off {
                            (PUT_OFF, u64::from(w.left()))
                        } else {
                            (late, arrival)
                        }
                    })
                    .collect()
            }
        }
    }
}

/// Time for so many tokens, in microseconds.
pub(super) fn work_us(tokens: u32, token_ns: u64) -> u64 {
    u64::from(tokens) * token_ns / 1000
}
