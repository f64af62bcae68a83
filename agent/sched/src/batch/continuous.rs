//! Token-budget batching: every iteration takes as many prompt tokens as there is room for.

use super::batcher::{Batcher, Key};
use super::order::{FIRST, Order, Rank};
use super::{Batch, Report, Room};

/// How many of the next requests are looked through to fill a budget with whole prompts.
const LOOKAHEAD: usize = 64;

// === impl Batcher ===

impl Batcher {
    pub(super) fn continuous(
        &mut self,
        order: Order,
        chunked: bool,
        now_us: u64,
        room: Room,
    ) -> Option<Batch> {
        let bound_us = order.bound_us(&self.shadow);
        let spare = self.shadow.spare();
        let (pressed, put_off) = order.press(now_us, bound_us, spare, self.waiting.values());
        for key in put_off {
            if let Some(w) = self.waiting.get_mut(&key) {
                w.put_off = true;
                self.shadow.put_off();
            }
        }
        let ranks = order.ranks(now_us, bound_us, pressed, self.waiting.values());
        let mut line: Vec<(Rank, Key)> = ranks
            .into_iter()
            .zip(self.waiting.keys().copied())
            .collect();
        line.sort_unstable();
        let chosen = if chunked {
            self.cut_to_fit(&line, room)
        } else {
            self.fill_whole(&line, room)
        };
        if chosen.is_empty() {
            return None;
        }
        let mut report = Report::default();
        let parts: Vec<_> = chosen
            .into_iter()
            .filter_map(|(key, tokens)| self.hand_out(key, tokens, now_us, &mut report))
            .collect();
        report.real_tokens = parts.iter().map(|p| u64::from(p.tokens)).sum();
        report.padded_tokens = report.real_tokens;
        Some(Batch { parts, report })
    }

    /// Chunks in the line's order until the room is full. Those that started have their place and cache.
    fn cut_to_fit(&self, line: &[(Rank, Key)], mut room: Room) -> Vec<(Key, u32)> {
        let mut chosen = Vec::new();
        let mut barred = false;
        for ((class, _), key) in line {
            if room.tokens == 0 {
                break;
            }
            let Some(w) = self.waiting.get(key) else {
                continue;
            };
            if w.done == 0 {
                let fits = room.sequences > 0 && w.kv() <= room.kv_tokens;
                if !fits || barred {
                    // The room that comes free next is for those whom nobody may overtake.
                    barred |= *class == FIRST;
                    continue;
                }
                room.sequences -= 1;
                room.kv_tokens -= w.kv();
            }
            let take = w.left().min(room.tokens);
            room.tokens -= take;
            chosen.push((*key, take));
        }
        chosen
    }

    /// The first whole, then the largest of the next ones that still fit.
    fn fill_whole(&self, line: &[(Rank, Key)], mut room: Room) -> Vec<(Key, u32)> {
        let mut chosen = Vec::new();
        let budget = room.tokens;
        let mut add = |key: &Key, cut: bool| {
            let w = self.waiting.get(key)?;
            let left = w.left();
            let place = w.done > 0 || (room.sequences > 0 && w.kv() <= room.kv_tokens);
            if !place || (left > room.tokens && !cut) || room.tokens == 0 {
                return None;
            }
            if w.done == 0 {
                room.sequences -= 1;
                room.kv_tokens -= w.kv();
            }
            let take = left.min(room.tokens);
            room.tokens -= take;
            chosen.push((*key, take));
            Some(())
        };
        // One that was cut goes on before all others: it holds its cache.
        let cut = line
            .iter()
            .find(|(_, k)| self.waiting.get(k).is_some_and(|w| w.done > 0));
        let (_, head) = cut.or(line.first()).copied().unwrap_or_default();
        let too_long = self.waiting.get(&head).is_some_and(|w| w.left() > budget);
        if add(&head, too_long).is_none() {
            return chosen;
        }
        let mut next: Vec<(u32, Key)> = line
            .iter()
            .filter(|(_, k)| *k != head)
            .take(LOOKAHEAD)
            .filter_map(|(_, k)| self.waiting.get(k).map(|w| (w.left(), *k)))
            .collect();
        next.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, key) in next {
            add(&key, false);
        }
        chosen
    }
}
