//! How densely a former packs a backlog: no arrivals, no clock, only lengths.

use super::Row;
use gpuloom_sched::batch::{Batcher, Former, Limits, Request, Room};
use serde::Serialize;

/// What came of packing a trace's prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Packing {
    /// Batches.
    pub batches: usize,
    /// Requests of a batch, mean.
    pub mean_size: f64,
    /// Real by padded tokens, 0 to 1.
    pub efficiency: f64,
    /// Real tokens by the room of the batches, 0 to 1; the drain of the last window is not counted.
    pub fill: f64,
}

/// Packs the prompts in their order, with `window` of them waiting at any time while there are as many.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "tokens of a trace")]
pub fn pack(rows: &[Row], former: &Former, room: Room, window: usize) -> Packing {
    let limits = Limits {
        kv_tokens: u64::MAX,
    };
    let mut batcher = Batcher::new(former.clone(), limits);
    let mut next = rows.iter().zip(0u64..);
    let (mut batches, mut size, mut real, mut padded, mut filled, mut rooms) =
        (0usize, 0usize, 0u64, 0u64, 0u64, 0u64);
    // Arrivals are only an order here: nothing is ever overdue until the trace is at its end.
    let mut now = rows.len() as u64;
    loop {
        let full = batcher.len() >= window;
        let Some((row, id)) = (if full { None } else { next.next() }) else {
            let Some(batch) = batcher.form(now, room) else {
                let Some(due) = batcher.due_us() else {
                    break;
                };
                now = due.max(now + 1);
                continue;
            };
            batches += 1;
            size += batch.parts.len();
            real += batch.report.real_tokens;
            padded += batch.report.padded_tokens;
            if full {
                filled += batch.report.real_tokens;
                rooms += u64::from(room.tokens);
            }
            continue;
        };
        let request = Request {
            id,
            arrival_us: id,
            prompt: row.prompt,
            expected_output: 0,
            deadline_us: None,
            prefix: row.prefix.clone(),
        };
        // No prompt is empty, none has another's number and there is no limit: it is taken.
        if batcher.push(request).is_err() {
            break;
        }
    }
    let part = |of: u64, all: u64| {
        if all == 0 {
            1.0
        } else {
            of as f64 / all as f64
        }
    };
    Packing {
        batches,
        mean_size: if batches == 0 {
            0.0
        } else {
            size as f64 / batches as f64
        },
        efficiency: part(real, padded),
        fill: part(filled, rooms),
    }
}
