//! Formers that compute prompts whole and together: fixed, delay window, bucketed, slack, prefix affinity.

use super::batcher::{Batcher, Former, Key, Waiting};
use super::{Batch, Report, Room};

/// Fills a batch under its room: rectangular, so every sequence takes the longest one's tokens.
#[derive(Debug, Clone, Copy)]
struct Fit {
    room: Room,
    count: u32,
    longest: u32,
    kv: u64,
}

// === impl Fit ===

impl Fit {
    fn new(room: Room) -> Self {
        Self {
            room,
            count: 0,
            longest: 0,
            kv: 0,
        }
    }

    /// Takes it in if there is room.
    fn add(&mut self, tokens: u32, kv: u64) -> bool {
        let longest = self.longest.max(tokens);
        let padded = (u64::from(self.count) + 1) * u64::from(longest);
        let fits = self.count < self.room.sequences
            && padded <= u64::from(self.room.tokens)
            && self.kv + kv <= self.room.kv_tokens;
        if fits {
            self.count += 1;
            self.longest = longest;
            self.kv += kv;
        }
        fits
    }
}

// === impl Batcher ===

impl Batcher {
    pub(super) fn whole(&mut self, now_us: u64, room: Room) -> Option<Batch> {
        if let Some(key) = self.cut {
            return self.cut_one(key, now_us, room);
        }
        let (oldest, _) = self.waiting.first_key_value()?;
        let overdue = now_us >= oldest.0.saturating_add(self.former.max_wait_us());
        if !overdue && self.closes_us().is_none_or(|at| now_us < at) {
            return None;
        }
        let chosen = match self.former {
            Former::Fixed { size, .. } => self.in_order(size, room),
            Former::DelayWindow { .. } => self.in_order(self.preferred(), room),
            Former::Bucketed { .. } => self.alike(overdue, room),
            Former::Slack { size, .. } => {
                self.tightest(size, self.by_deadline(now_us, overdue), room)
            }
            Former::PrefixAffinity { .. } => self.related(overdue, room),
            Former::TokenBudget { .. } => Vec::new(),
        };
        if chosen.is_empty() {
            // Nothing of it fits: the first in line may be longer than any batch.
            let leader = self.leader(now_us, overdue)?;
            let longer = self.waiting.get(&leader)?.left() > room.tokens;
            return if longer {
                self.cut_one(leader, now_us, room)
            } else {
                None
            };
        }
        let lengths: Vec<u64> = chosen
            .iter()
            .filter_map(|(k, shared)| self.computed(*k, *shared))
            .collect();
        let longest = lengths.iter().max().copied().unwrap_or(0);
        let mut report = Report {
            real_tokens: lengths.iter().sum(),
            padded_tokens: longest * lengths.len() as u64,
            shared_tokens: chosen.iter().map(|(_, shared)| u64::from(*shared)).sum(),
            ..Report::default()
        };
        let parts = chosen
            .into_iter()
            .filter_map(|(key, _)| self.hand_out(key, u32::MAX, now_us, &mut report))
            .collect();
        Some(Batch { parts, report })
    }

    /// Who is first by the former's own rule.
    fn leader(&self, now_us: u64, overdue: bool) -> Option<Key> {
        match self.former {
            Former::Slack { .. } => self.by_deadline(now_us, overdue).first().copied(),
            Former::PrefixAffinity { window, .. } => {
                let line: Vec<_> = self.waiting.iter().take(window.max(1)).collect();
                line.get(anchor(&line, overdue)).map(|(k, _)| **k)
            }
            _ => self.waiting.keys().next().copied(),
        }
    }

    /// When what waits is worth a batch by the former's own rule; `None`: only when the wait is over.
    pub(super) fn closes_us(&self) -> Option<u64> {
        let waiting = self.waiting.len();
        let (&(oldest, _), _) = self.waiting.first_key_value()?;
        let at_size = |size: u32| (waiting >= size as usize).then_some(oldest);
        match &self.former {
            Former::TokenBudget { .. } => Some(oldest),
            Former::Fixed { size, .. }
            | Former::Bucketed { size, .. }
            | Former::PrefixAffinity { size, .. } => at_size(*size),
            Former::DelayWindow { preferred, .. } => at_size(preferred.iter().min().copied()?),
            Former::Slack {
                cost,
                size,
                margin_us,
                ..
            } => at_size(*size).or_else(|| {
                let longest = self.waiting.values().map(Waiting::left).max()?;
                let predicted = cost.time_us(u64::from(longest) * waiting as u64, 0);
                let least = self
                    .waiting
                    .values()
                    .filter_map(|w| w.request.deadline_us)
                    .min()?;
                Some(least.saturating_sub(predicted + margin_us))
            }),
        }
    }

    /// A prompt longer than any batch: alone, a batch's worth at a time.
    fn cut_one(&mut self, key: Key, now_us: u64, room: Room) -> Option<Batch> {
        let w = self.waiting.get(&key)?;
        if w.done == 0 && (room.sequences == 0 || w.kv() > room.kv_tokens) {
            return None;
        }
        self.cut = Some(key);
        let mut report = Report::default();
        let part = self.hand_out(key, room.tokens, now_us, &mut report)?;
        report.real_tokens = u64::from(part.tokens);
        report.padded_tokens = report.real_tokens;
        Some(Batch {
            parts: vec![part],
            report,
        })
    }

    /// Tokens to compute of one that shares so many.
    fn computed(&self, key: Key, shared: u32) -> Option<u64> {
        self.waiting.get(&key).map(|w| u64::from(w.left() - shared))
    }

    /// The largest preferred size that is filled; all when none is.
    fn preferred(&self) -> u32 {
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let Former::DelayWindow { preferred, .. } = &self.former else {
            return waiting;
        };
        preferred
            .iter()
            .filter(|p| **p <= waiting)
            .max()
            .copied()
            .unwrap_or(waiting)
    }

    fn in_order(&self, size: u32, room: Room) -> Vec<(Key, u32)> {
        let mut fit = Fit::new(room);
        self.waiting
            .iter()
            .take(size as usize)
            .take_while(|(_, w)| fit.add(w.left(), w.kv()))
            .map(|(k, _)| (*k, 0))
            .collect()
    }

    /// Earliest deadline first; those whose deadline has passed, or who have none, in order of arrival
    /// behind; before all the oldest when it is overdue.
    fn by_deadline(&self, now_us: u64, overdue: bool) -> Vec<Key> {
        let due = |w: &Waiting| {
            w.request
                .deadline_us
                .filter(|d| *d >= now_us)
                .unwrap_or(u64::MAX)
        };
        let mut line: Vec<(u64, Key)> = self.waiting.iter().map(|(k, w)| (due(w), *k)).collect();
        line.sort_unstable();
        if overdue && let Some(oldest) = self.waiting.keys().next() {
            line.sort_by_key(|(_, k)| k != oldest);
        }
        line.into_iter().map(|(_, k)| k).collect()
    }

    fn tightest(&self, size: u32, line: Vec<Key>, room: Room) -> Vec<(Key, u32)> {
        let mut fit = Fit::new(room);
        line.into_iter()
            .take(size as usize)
            .take_while(|k| {
                self.waiting
                    .get(k)
                    .is_some_and(|w| fit.add(w.left(), w.kv()))
            })
            .map(|k| (k, 0))
            .collect()
    }

    /// The longest run of like lengths in the window; it contains the oldest when that is overdue.
    fn alike(&self, overdue: bool, room: Room) -> Vec<(Key, u32)> {
        let Former::Bucketed {
            window,
            size,
            efficiency_permille,
            ..
        } = self.former
        else {
            return Vec::new();
        };
        let mut sorted: Vec<(u32, Key, u64)> = self
            .waiting
            .iter()
            .take(window.max(1))
            .map(|(k, w)| (w.left(), *k, w.kv()))
            .collect();
        sorted.sort_unstable();
        let oldest = self.waiting.keys().next();
        let head = sorted.iter().position(|(_, k, _)| Some(k) == oldest);
        let most = size.min(room.sequences) as usize;
        let (mut from, mut real, mut kv) = (0, 0u64, 0u64);
        let mut best: Option<(usize, usize, u64)> = None;
        for (to, (tokens, _, takes)) in sorted.iter().enumerate() {
            real += u64::from(*tokens);
            kv += takes;
            let bad = |from: usize, real: u64, kv: u64| {
                let count = to + 1 - from;
                let padded = count as u64 * u64::from(*tokens);
                count > most
                    || padded > u64::from(room.tokens)
                    || kv > room.kv_tokens
                    || real * 1000 < padded * u64::from(efficiency_permille)
            };
            while from <= to && bad(from, real, kv) {
                real -= u64::from(sorted[from].0);
                kv -= sorted[from].2;
                from += 1;
            }
            if from > to {
                continue;
            }
            let has_head = head.is_some_and(|h| (from..=to).contains(&h));
            let longer = best.is_none_or(|(f, t, r)| (to - from, real) > (t - f, r));
            if longer && (has_head || !overdue) {
                best = Some((from, to, real));
            }
        }
        let Some((from, to, _)) = best else {
            return Vec::new();
        };
        sorted[from..=to].iter().map(|(_, k, _)| (*k, 0)).collect()
    }

    /// The oldest, or whoever has most relatives, with those that begin like it. Tokens shared beside.
    fn related(&self, overdue: bool, room: Room) -> Vec<(Key, u32)> {
        let Former::PrefixAffinity {
            window,
            size,
            block,
            ..
        } = self.former
        else {
            return Vec::new();
        };
        let line: Vec<(&Key, &Waiting)> = self.waiting.iter().take(window.max(1)).collect();
        let anchor = anchor(&line, overdue);
        let own = &line[anchor].1.request.prefix;
        let mut ranked: Vec<(usize, Key)> = line
            .iter()
            .map(|(k, w)| (common(own, &w.request.prefix), **k))
            .collect();
        // The anchor first, then who shares most, then the oldest.
        let first = *line[anchor].0;
        ranked.sort_by(|a, b| {
            (b.1 == first)
                .cmp(&(a.1 == first))
                .then(b.0.cmp(&a.0))
                .then(a.1.cmp(&b.1))
        });
        let mut fit = Fit::new(room);
        let mut chosen: Vec<(Key, u32)> = Vec::new();
        for (blocks, key) in ranked.into_iter().take(size as usize) {
            let Some(w) = self.waiting.get(&key) else {
                continue;
            };
            // A token at least is computed: the last one's output is the first token.
            let shares = u32::try_from(blocks)
                .unwrap_or(u32::MAX)
                .saturating_mul(block);
            let shared = if chosen.is_empty() {
                0
            } else {
                shares.min(w.left() - 1)
            };
            if !fit.add(w.left() - shared, w.kv()) {
                break;
            }
            chosen.push((key, shared));
        }
        chosen
    }
}

/// The oldest when it is overdue, else the request whose first block most others have; the oldest of equals.
fn anchor(line: &[(&Key, &Waiting)], overdue: bool) -> usize {
    if overdue {
        return 0;
    }
    let first = |w: &Waiting| w.request.prefix.first().copied();
    let mut counts = std::collections::BTreeMap::new();
    for block in line.iter().filter_map(|(_, w)| first(w)) {
        *counts.entry(block).or_insert(0u32) += 1;
    }
    let relatives = |w: &Waiting| first(w).and_then(|b| counts.get(&b).copied()).unwrap_or(0);
    let best = (0..line.len()).max_by_key(|i| (relatives(line[*i].1), std::cmp::Reverse(*i)));
    best.unwrap_or(0)
}

fn common(a: &[u64], b: &[u64]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}
