//! How much is free at each moment to come: capacity less reservations and what runs.

/// Most moments at which the free capacity changes.
pub const MAX_STEPS: usize = 100_000;

/// Free units over time: a step function from 0 ms on, the last step lasts for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// (from, free), ascending, the first at 0.
    steps: Vec<(u64, u64)>,
}

/// Units that are not there for all of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Short {
    /// Too few are free at some moment.
    #[error("{asked} units are asked for, but only {free} are free from {at_ms} ms on")]
    Units {
        /// Asked for.
        asked: u64,
        /// Free then.
        free: u64,
        /// When, in milliseconds.
        at_ms: u64,
    },
    /// Too many changes are planned already.
    #[error(
        "{MAX_STEPS} changes of the free capacity are planned already: plan fewer reservations"
    )]
    Steps,
}

// === impl Profile ===

impl Profile {
    /// `units` free for ever.
    #[must_use]
    pub fn new(units: u64) -> Self {
        Self {
            steps: vec![(0, units)],
        }
    }

    /// Units free at `at_ms`.
    #[must_use]
    pub fn free_at(&self, at_ms: u64) -> u64 {
        self.steps[self.step(at_ms)].1
    }

    /// The least that is free at any moment of `[from_ms, to_ms)`; for an empty span, at its start.
    #[must_use]
    pub fn least_free(&self, from_ms: u64, to_ms: u64) -> u64 {
        let within = self.steps[self.step(from_ms)..].iter();
        let within = within.take_while(|(at, _)| *at <= from_ms || *at < to_ms);
        within.map(|(_, free)| *free).min().unwrap_or(0)
    }

    /// The most that is free at any moment from `from_ms` on.
    #[must_use]
    pub fn most_free(&self, from_ms: u64) -> u64 {
        let later = self.steps[self.step(from_ms)..].iter();
        later.map(|(_, free)| *free).max().unwrap_or(0)
    }

    /// Takes `units` off in `[from_ms, to_ms)`: a reservation, or work that runs.
    ///
    /// # Errors
    /// [`Short`] where they are not free all that time; nothing is taken then.
    pub fn take(&mut self, from_ms: u64, to_ms: u64, units: u64) -> Result<(), Short> {
        if units == 0 || from_ms >= to_ms {
            return Ok(());
        }
        if self.steps.len() + 2 > MAX_STEPS {
            return Err(Short::Steps);
        }
        for (at, free) in &self.steps[self.step(from_ms)..] {
            if *at >= to_ms {
                break;
            }
            if *free < units {
                return Err(Short::Units {
                    asked: units,
                    free: *free,
                    at_ms: (*at).max(from_ms),
                });
            }
        }
        self.change(from_ms, to_ms, |free| free - units);
        Ok(())
    }

    /// Puts `units` back in `[from_ms, to_ms)`, or adds nodes that come then (`to_ms` = `u64::MAX`:
    /// for ever).
    pub fn give(&mut self, from_ms: u64, to_ms: u64, units: u64) {
        if units > 0 && from_ms < to_ms {
            self.change(from_ms, to_ms, |free| free.saturating_add(units));
        }
    }

    /// The earliest moment from `from_ms` on at which `units` are free for `for_ms`; `None`: never.
    /// O(changes).
    #[must_use]
    pub fn earliest(&self, units: u64, for_ms: u64, from_ms: u64) -> Option<u64> {
        let mut start = from_ms;
        let mut i = self.step(from_ms);
        while let Some((at, free)) = self.steps.get(i) {
            if *at > start && at - start >= for_ms {
                break;
            }
            if *free < units {
                start = self.steps.get(i + 1)?.0;
            }
            i += 1;
        }
        Some(start)
    }

    /// Forgets changes before `now_ms`: the past is no longer asked for.
    pub fn forget_before(&mut self, now_ms: u64) {
        let now = self.step(now_ms);
        self.steps.drain(..now);
        if let Some(first) = self.steps.first_mut() {
            first.0 = 0;
        }
    }

    fn step(&self, at_ms: u64) -> usize {
        let after = self.steps.partition_point(|(at, _)| *at <= at_ms);
        after.saturating_sub(1)
    }

    /// The number of the step that begins at `at_ms`, made where there is none.
    fn split(&mut self, at_ms: u64) -> usize {
        let step = self.step(at_ms);
        if self.steps[step].0 == at_ms {
            return step;
        }
        let free = self.steps[step].1;
        self.steps.insert(step + 1, (at_ms, free));
        step + 1
    }

    fn change(&mut self, from_ms: u64, to_ms: u64, to: impl Fn(u64) -> u64) {
        let first = self.split(from_ms);
        let last = if to_ms == u64::MAX {
            self.steps.len()
        } else {
            self.split(to_ms)
        };
        for (_, free) in &mut self.steps[first..last] {
            *free = to(*free);
        }
        // Only the two edges can have become no change at all.
        for edge in [last, first] {
            if edge > 0 && edge < self.steps.len() && self.steps[edge].1 == self.steps[edge - 1].1 {
                self.steps.remove(edge);
            }
        }
    }
}
