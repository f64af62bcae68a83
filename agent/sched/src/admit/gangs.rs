//! Gangs with deadlines: let in when a schedule exists in which everybody let in before is in time as well.

use super::{Profile, Short, schedule};

/// Most gangs that were let in and have not started.
pub const MAX_GANGS: usize = 10_000;

/// Work that needs all its GPUs at once, is not interrupted, and has to be done in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gang {
    /// Unique.
    pub id: u64,
    /// GPUs it holds while it runs.
    pub gpus: u64,
    /// How long it runs at most, in milliseconds: the 99th percentile of its prediction.
    pub runtime_ms: u64,
    /// Not before this moment.
    pub release_ms: u64,
    /// Done by this moment.
    pub deadline_ms: u64,
}

/// When a gang runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Which.
    pub id: u64,
    /// From this moment.
    pub at_ms: u64,
    /// Until this moment at the latest.
    pub end_ms: u64,
}

/// Why a gang was not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More GPUs than are ever free together.
    #[error(
        "it needs {gpus} GPUs at once, at most {most} are ever free: ask for fewer, or drop a reservation"
    )]
    TooWide {
        /// Asked for.
        gpus: u64,
        /// The most that is free at any moment.
        most: u64,
    },
    /// Too late even before all who were let in earlier.
    #[error(
        "it would end at {end_ms} ms at the earliest, {late_ms} ms after its deadline: allow it more time, or fewer GPUs"
    )]
    TooLate {
        /// When it would end if it were the only one waiting.
        end_ms: u64,
        /// How much too late that is.
        late_ms: u64,
    },
    /// It would fit alone, but not beside the deadlines promised already.
    #[error(
        "beside {promised} deadlines promised already it would end at {end_ms} ms at the earliest: a deadline from then on can be promised"
    )]
    Promised {
        /// Gangs that were let in and wait.
        promised: usize,
        /// When it would end if they keep their places.
        end_ms: u64,
    },
    /// A number that is used already.
    #[error("gang {id} was let in already: choose another id")]
    Known {
        /// Which.
        id: u64,
    },
    /// Too many wait.
    #[error("{MAX_GANGS} gangs with deadlines wait already: try again when some have started")]
    TooMany,
}

/// What was promised: gangs that wait, those that run, and the schedule that proves it.
#[derive(Debug, Clone)]
pub struct Book {
    free: Profile,
    waiting: Vec<Gang>,
    starts: Vec<Start>,
    /// Running: when they end at the latest, and their GPUs.
    running: Vec<(Start, u64)>,
}

// === impl Gang ===

impl Gang {
    /// The earliest start that meets the deadline, `None` where there is none.
    pub(super) fn earliest(&self, free: &Profile, now_ms: u64) -> Option<Start> {
        let start = self.earliest_ever(free, now_ms)?;
        (start.end_ms <= self.deadline_ms).then_some(start)
    }

    fn earliest_ever(&self, free: &Profile, now_ms: u64) -> Option<Start> {
        let from = self.release_ms.max(now_ms);
        let at_ms = free.earliest(self.gpus, self.runtime_ms, from)?;
        Some(Start {
            id: self.id,
            at_ms,
            end_ms: at_ms.checked_add(self.runtime_ms)?,
        })
    }

    /// Whether the two differ in nothing but their number.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        Self { id: 0, ..*self } == Self { id: 0, ..*other }
    }
}

// === impl Book ===

impl Book {
    /// Nobody promised anything; `free` has reservations taken off.
    #[must_use]
    pub fn new(free: Profile) -> Self {
        Self {
            free,
            waiting: Vec::new(),
            starts: Vec::new(),
            running: Vec::new(),
        }
    }

    /// Lets `gang` in when all promises can be kept with it; answers when it will run. Where its
    /// place is free in the present schedule the others stay where they are.
    ///
    /// # Errors
    /// [`Refused`] says why not and which deadline could be promised; nothing changes then.
    pub fn ask(&mut self, gang: Gang, now_ms: u64) -> Result<Start, Refused> {
        let known = |id: u64| id == gang.id;
        let runs = self.running.iter().any(|(s, _)| known(s.id));
        if runs || self.waiting.iter().any(|g| known(g.id)) {
            return Err(Refused::Known { id: gang.id });
        }
        if self.waiting.len() >= MAX_GANGS {
            return Err(Refused::TooMany);
        }
        self.free.forget_before(now_ms);
        let most = self.free.most_free(gang.release_ms.max(now_ms));
        let Some(alone) = gang.earliest_ever(&self.free, now_ms) else {
            let gpus = gang.gpus;
            return Err(Refused::TooWide { gpus, most });
        };
        if alone.end_ms > gang.deadline_ms {
            return Err(Refused::TooLate {
                end_ms: alone.end_ms,
                late_ms: alone.end_ms - gang.deadline_ms,
            });
        }
        let beside = self.beside();
        let last = beside.as_ref().and_then(|b| gang.earliest(b, now_ms));
        if let Some(start) = last {
            self.waiting.push(gang);
            self.starts.push(start);
            return Ok(start);
        }
        self.waiting.push(gang);
        if let Some(starts) = schedule(&self.free, &self.waiting, now_ms)
            && let Some(own) = starts.last().copied()
        {
            self.starts = starts;
            return Ok(own);
        }
        self.waiting.pop();
        let end = beside.and_then(|b| gang.earliest_ever(&b, now_ms));
        Err(Refused::Promised {
            promised: self.waiting.len(),
            end_ms: end.map_or(u64::MAX, |s| s.end_ms),
        })
    }

    /// When each gang that waits is to start, in the order they were let in. Start them no later.
    #[must_use]
    pub fn starts(&self) -> &[Start] {
        &self.starts
    }

    /// The gang started now: its GPUs are taken for its runtime. `false` when it does not wait here,
    /// or its GPUs are not free now; starting before its planned moment may take what others were
    /// promised, and then gives `false` too.
    pub fn started(&mut self, id: u64, now_ms: u64) -> bool {
        let Some(i) = self.waiting.iter().position(|g| g.id == id) else {
            return false;
        };
        let gang = self.waiting[i];
        let start = Start {
            id,
            at_ms: now_ms,
            end_ms: now_ms.saturating_add(gang.runtime_ms),
        };
        let mut free = self.free.clone();
        if free.take(now_ms, start.end_ms, gang.gpus).is_err() {
            return false;
        }
        let mut waiting = self.waiting.clone();
        waiting.remove(i);
        let mut starts = self.starts.clone();
        let planned = starts.remove(i);
        if now_ms != planned.at_ms {
            let Some(moved) = schedule(&free, &waiting, now_ms) else {
                return false;
            };
            starts = moved;
        }
        (self.free, self.waiting, self.starts) = (free, waiting, starts);
        self.running.push((start, gang.gpus));
        true
    }

    /// A running gang ended, or one that waits was withdrawn: the rest of its time is free again.
    pub fn ended(&mut self, id: u64, now_ms: u64) {
        if let Some(i) = self.running.iter().position(|(s, _)| s.id == id) {
            let (start, gpus) = self.running.swap_remove(i);
            let from = now_ms.max(start.at_ms);
            self.free.give(from, start.end_ms, gpus);
        } else if let Some(i) = self.waiting.iter().position(|g| g.id == id) {
            self.waiting.remove(i);
            self.starts.remove(i);
        }
    }

    /// Sets capacity aside in `[from_ms, to_ms)`.
    ///
    /// # Errors
    /// [`Short`] where it is not free, or was promised to gangs that wait.
    pub fn reserve(
        &mut self,
        from_ms: u64,
        to_ms: u64,
        gpus: u64,
        now_ms: u64,
    ) -> Result<(), Short> {
        let mut free = self.free.clone();
        free.take(from_ms, to_ms, gpus)?;
        match schedule(&free, &self.waiting, now_ms) {
            Some(starts) => (self.free, self.starts) = (free, starts),
            None => {
                let beside = self.beside();
                return Err(Short::Units {
                    asked: gpus,
                    free: beside.map_or(0, |b| b.least_free(from_ms, to_ms)),
                    at_ms: from_ms,
                });
            }
        }
        Ok(())
    }

    /// What is free beside everything promised.
    fn beside(&self) -> Option<Profile> {
        let mut free = self.free.clone();
        for (gang, start) in self.waiting.iter().zip(&self.starts) {
            free.take(start.at_ms, start.end_ms, gang.gpus).ok()?;
        }
        Some(free)
    }
}
