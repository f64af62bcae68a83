//! Token-budget batching: every iteration takes as many prompt tokens as there is room for.

use super::batcher::{Batcher, Key, Waiting};
use super::order::{FIRST, Order, Rank};
use super::{Batch, Report, Room};

/// Sums of prompts are exact up to so many tokens.
const EXACT: u32 = 16_384;
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

    /// The first whole, then those of the next ones that fill the rest best.
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
        let next: Vec<(u32, Key)> = line
            .iter()
            .filter(|(_, k)| *k != head)
            .take(LOOKAHEAD)
            .filter_map(|(_, k)| self.waiting.get(k).map(|w| (w.left(), *k)))
            .collect();
        let lengths: Vec<u32> = next.iter().map(|(left, _)| *left).collect();
        let taken = self.waiting.get(&head).map_or(0, Waiting::left);
        // Who is not of the best sum may still take what a missing place or cache leaves.
        let (best, rest): (Vec<_>, Vec<_>) = {
            let picks = fullest(&lengths, budget.saturating_sub(taken));
            (0..next.len()).partition(|i| picks.contains(i))
        };
        for i in best.into_iter().chain(rest) {
            add(&next[i].1, false);
        }
        // What is left goes to one that has to be cut anyway; if the head is, there is nothing left.
        if let Some((_, key)) = next.iter().find(|(left, _)| *left > budget) {
            add(key, true);
        }
        chosen
    }
}

/// Which of `lengths` add up to the most that is not above `room`: exact up to [`EXACT`] tokens, beyond
/// that to one part in as many (lengths rounded up). Earlier ones are preferred.
fn fullest(lengths: &[u32], room: u32) -> Vec<usize> {
    let unit = room.div_ceil(EXACT).max(1);
    let width = (room / unit) as usize;
    // reach[s]: the item that first made the sum s possible, plus 1; 0: impossible.
    let mut reach = vec![0usize; width + 1];
    let mut top = 0;
    for (i, length) in lengths.iter().enumerate() {
        let step = length.div_ceil(unit) as usize;
        if step == 0 || step > width {
            continue;
        }
        for sum in (0..=top.min(width - step)).rev() {
            if (sum == 0 || (1..=i).contains(&reach[sum])) && reach[sum + step] == 0 {
                reach[sum + step] = i + 1;
                top = top.max(sum + step);
            }
        }
        if top == width {
            break;
        }
    }
    let mut picks = Vec::new();
    let mut sum = top;
    while sum > 0 {
        let i = reach[sum] - 1;
        picks.push(i);
        sum -= lengths[i].div_ceil(unit) as usize;
    }
    picks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_sum_is_exact_and_takes_each_once() {
        for (lengths, room, sum) in [
            (vec![6, 5, 5], 10, 10),
            (vec![3, 3, 3], 10, 9),
            (vec![4], 8, 4),
            (vec![11], 10, 0),
            (vec![], 10, 0),
            (vec![7, 2, 6, 1], 0, 0),
            (vec![9, 7, 5, 3], 16, 16),
        ] {
            let mut picks = fullest(&lengths, room);
            assert_eq!(
                picks.iter().map(|i| lengths[*i]).sum::<u32>(),
                sum,
                "{lengths:?}"
            );
            picks.sort_unstable();
            picks.dedup();
            assert_eq!(picks.iter().map(|i| lengths[*i]).sum::<u32>(), sum);
        }
        // Rounded, but never above the room.
        let picks = fullest(&[60_000, 50_001, 49_000], 100_000);
        assert!(picks.len() == 2);
    }
}
