//! The waiting room and its six ways to form a batch.

use super::order::{Order, Shadow};
use super::{Batch, Cost, Part, Report, Request, Room};
use std::collections::{BTreeMap, BTreeSet};

/// Most requests that wait in one batcher.
pub const MAX_WAITING: usize = 100_000;

/// How batches are formed. Formers that wait do so at most `max_wait_us` microseconds; all but
/// [`Former::TokenBudget`] compute prompts whole and pad them to the longest of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Former {
    /// `size` requests in order of arrival; fewer when the oldest has waited long enough.
    Fixed {
        /// Requests of a full batch.
        size: u32,
        /// See above.
        max_wait_us: u64,
    },
    /// The largest preferred size that can be filled, at once; when the oldest has waited long enough,
    /// whatever there is. As Triton's dynamic batcher.
    DelayWindow {
        /// Preferred sizes.
        preferred: Vec<u32>,
        /// See above.
        max_wait_us: u64,
    },
    /// Requests of like length from the first `window` in order of arrival: the most whose real tokens
    /// are at least `efficiency_permille` of the padded ones.
    Bucketed {
        /// How far to look.
        window: usize,
        /// Requests of a full batch.
        size: u32,
        /// 0 to 1000; 1000 takes equal lengths only.
        efficiency_permille: u32,
        /// See above.
        max_wait_us: u64,
    },
    /// As many tokens as there is room for, nothing padded: continuous batching. Sources: Yu et al.,
    /// "Orca" (OSDI'22); Agrawal et al., "Sarathi-Serve" (OSDI'24).
    TokenBudget {
        /// Whose prompt is next.
        order: Order,
        /// Prompts may be cut; else only one longer than the whole budget is, and the rest of a budget is
        /// filled with whichever whole prompts of the next 64 fill it best.
        chunked: bool,
    },
    /// Earliest deadline first, closed when the least slack is used up by the batch's predicted time, or
    /// when it is full.
    Slack {
        /// Predicts a batch's time.
        cost: Cost,
        /// Requests of a full batch.
        size: u32,
        /// Time kept in reserve, microseconds.
        margin_us: u64,
        /// See above.
        max_wait_us: u64,
    },
    /// Requests whose prompts begin alike, from the first `window`: what they share is computed once.
    PrefixAffinity {
        /// How far to look.
        window: usize,
        /// Requests of a full batch.
        size: u32,
        /// Tokens of one block of the prefix hashes.
        block: u32,
        /// See above.
        max_wait_us: u64,
    },
}

/// What no request may exceed, so that each can be served at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The KV cache, in tokens.
    pub kv_tokens: u64,
}

/// A request that cannot wait here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The same id waits already.
    #[error("request {0} waits already; give each request an id of its own")]
    Twice(u64),
    /// Nothing to compute.
    #[error("request {0} has a prompt of 0 tokens; a prompt has at least 1")]
    Empty(u64),
    /// Larger than the cache.
    #[error(
        "request {id} needs {needed} tokens of KV cache, which has {have}; shorten the prompt or the output"
    )]
    TooLarge {
        /// Whose.
        id: u64,
        /// Prompt and expected output.
        needed: u64,
        /// The whole cache.
        have: u64,
    },
    /// Too many wait.
    #[error("{MAX_WAITING} requests wait; refuse new ones until some are served")]
    Full,
}

/// Requests that wait, and the former that makes batches of them.
#[derive(Debug, Clone)]
pub struct Batcher {
    pub(super) former: Former,
    limits: Limits,
    /// By (arrival, id).
    pub(super) waiting: BTreeMap<Key, Waiting>,
    ids: BTreeSet<u64>,
    /// Whole formers: the one that is cut because it is longer than a batch.
    pub(super) cut: Option<Key>,
    pub(super) shadow: Shadow,
}

pub(super) type Key = (u64, u64);

#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) request: Request,
    /// Tokens handed out.
    pub(super) done: u32,
    /// The on-time order put it behind all others.
    pub(super) put_off: bool,
}

// === impl Waiting ===

impl Waiting {
    pub(super) fn key(&self) -> Key {
        (self.request.arrival_us, self.request.id)
    }

    pub(super) fn left(&self) -> u32 {
        self.request.prompt - self.done
    }

    /// KV tokens that starting it takes; none when it has started.
    pub(super) fn kv(&self) -> u64 {
        if self.done > 0 {
            return 0;
        }
        u64::from(self.request.prompt) + u64::from(self.request.expected_output)
    }
}

// === impl Batcher ===

impl Batcher {
    /// An empty waiting room.
    #[must_use]
    pub fn new(former: Former, limits: Limits) -> Self {
        Self {
            former,
            limits,
            waiting: BTreeMap::new(),
            ids: BTreeSet::new(),
            cut: None,
            shadow: Shadow::default(),
        }
    }

    /// A request comes.
    ///
    /// # Errors
    /// [`PushError`]; the request is not kept. The sender can mend all but [`PushError::Full`], which asks
    /// for another replica or patience.
    pub fn push(&mut self, request: Request) -> Result<(), PushError> {
        let needed = u64::from(request.prompt) + u64::from(request.expected_output);
        if request.prompt == 0 {
            return Err(PushError::Empty(request.id));
        }
        if needed > self.limits.kv_tokens {
            return Err(PushError::TooLarge {
                id: request.id,
                needed,
                have: self.limits.kv_tokens,
            });
        }
        if self.waiting.len() >= MAX_WAITING {
            return Err(PushError::Full);
        }
        if !self.ids.insert(request.id) {
            return Err(PushError::Twice(request.id));
        }
        if let Former::TokenBudget { order, .. } = &self.former {
            let token_ns = order.token_ns();
            self.shadow
                .arrived(request.arrival_us, request.prompt, token_ns);
        }
        let key = (request.arrival_us, request.id);
        let waiting = Waiting {
            request,
            done: 0,
            put_off: false,
        };
        self.waiting.insert(key, waiting);
        Ok(())
    }

    /// A batch for this room; `None` when nobody waits, when it pays to wait for more (see
    /// [`Self::due_us`]) or when the first in line does not fit the room.
    pub fn form(&mut self, now_us: u64, room: Room) -> Option<Batch> {
        if self.waiting.is_empty() || room.tokens == 0 {
            return None;
        }
        match self.former.clone() {
            Former::TokenBudget { order, chunked } => self.continuous(order, chunked, now_us, room),
            _ => self.whole(now_us, room),
        }
    }

    /// When a batch is formed at the latest if nobody else comes, in microseconds; `None` when nobody
    /// waits. In the past where one can be formed now.
    #[must_use]
    pub fn due_us(&self) -> Option<u64> {
        let (&(oldest, _), _) = self.waiting.first_key_value()?;
        let latest = oldest.saturating_add(self.former.max_wait_us());
        Some(self.closes_us().map_or(latest, |at| at.min(latest)))
    }

    /// How many wait, those included whose prompt is handed out in part.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a request out, e.g. because its client hung up; `false` when it does not wait. What was
    /// handed out of it stays the caller's to end.
    pub fn cancel(&mut self, id: u64) -> bool {
        let key = self.waiting.keys().find(|k| k.1 == id).copied();
        key.is_some_and(|key| {
            self.remove(key);
            true
        })
    }

    /// Hands out `tokens` of a request and writes them into the report, wait and cache included.
    pub(super) fn hand_out(
        &mut self,
        key: Key,
        tokens: u32,
        now_us: u64,
        report: &mut Report,
    ) -> Option<Part> {
        let w = self.waiting.get_mut(&key)?;
        let waited = now_us.saturating_sub(w.request.arrival_us);
        report.longest_wait_us = report.longest_wait_us.max(waited);
        report.kv_tokens += w.kv();
        if w.done == 0 {
            report.started += 1;
            report.total_wait_us += waited;
        }
        let from = w.done;
        let tokens = tokens.min(w.left());
        w.done += tokens;
        let last = w.left() == 0;
        if last {
            self.remove(key);
        }
        Some(Part {
            id: key.1,
            from,
            tokens,
            last,
        })
    }

    fn remove(&mut self, key: Key) {
        self.waiting.remove(&key);
        self.ids.remove(&key.1);
        if self.cut == Some(key) {
            self.cut = None;
        }
    }
}

// === impl Former ===

impl Former {
    /// Longest wait for company, in microseconds; 0 for a former that never waits.
    #[must_use]
    pub fn max_wait_us(&self) -> u64 {
        match self {
            Self::Fixed { max_wait_us, .. }
            | Self::DelayWindow { max_wait_us, .. }
            | Self::Bucketed { max_wait_us, .. }
            | Self::Slack { max_wait_us, .. }
            | Self::PrefixAffinity { max_wait_us, .. } => *max_wait_us,
            Self::TokenBudget { .. } => 0,
        }
    }
}
