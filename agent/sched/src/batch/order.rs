//! Whose prompt is computed next, where prompts can be interrupted.

use super::batcher::Waiting;

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
    /// judged by all the work before it. The bound is `bound_us`, or what first come, first served would
    /// have made of it, if that is longer: nobody can promise less than that to everybody.
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

/// What first come, first served would have done with the same arrivals.
#[derive(Debug, Clone, Default)]
pub(super) struct Shadow {
    free_us: u64,
    last_us: u64,
    /// The longest recent wait, falling slowly.
    wait_us: u64,
}

/// Time in which a long wait of the shadow is forgotten, in microseconds: an hour.
const MEMORY_US: u64 = 3_600_000_000;
/// Part of the shadow's wait that the bound is lifted to: the rest is for what arrives meanwhile.
const LIFT_PERCENT: u64 = 90;

// === impl Shadow ===

impl Shadow {
    pub(super) fn arrived(&mut self, arrival_us: u64, tokens: u32, token_ns: u64) {
        let past = arrival_us.saturating_sub(self.last_us).min(MEMORY_US);
        let faded = u128::from(self.wait_us) * u128::from(past) / u128::from(MEMORY_US);
        self.wait_us -= u64::try_from(faded).unwrap_or(self.wait_us);
        self.last_us = self.last_us.max(arrival_us);
        self.free_us = self.free_us.max(arrival_us) + work_us(tokens, token_ns);
        self.wait_us = self.wait_us.max(self.free_us - arrival_us);
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

    /// Ranks of those that wait, who are given in order of arrival.
    pub(super) fn ranks<'a>(
        &self,
        now_us: u64,
        bound_us: u64,
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
                let limit = |w: &Waiting| w.request.arrival_us.saturating_add(bound_us);
                let can = |w: &Waiting| {
                    let due = w.request.deadline_us.map(|d| d.min(limit(w)));
                    due.is_some_and(|d| on_time(w, d))
                };
                let mut ends = now_us;
                let pressed = waiting.clone().filter(|w| !can(w)).any(|w| {
                    ends = ends.saturating_add(work_us(w.left(), token_ns));
                    ends >= limit(w)
                });
                let late = if pressed { FIRST } else { LATE };
                waiting
                    .map(|w| {
                        if can(w) {
                            (ON_TIME, u64::from(w.left()))
                        } else {
                            (late, w.request.arrival_us)
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
