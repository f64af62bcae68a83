//! How much of what is computed is prompt and not padding: a backlog packed by budget and by length.

use super::llm::trace;
use super::read;
use crate::row::Row;
use anyhow::Result;
use gpuloom_replay::llm::{self, Packing};
use gpuloom_sched::batch::{Former, Order, Room};

const TRACES: [(&str, &str); 3] = [
    ("code", "AzureLLMInferenceTrace_code.csv"),
    ("conv", "AzureLLMInferenceTrace_conv.csv"),
    ("mooncake", "conversation_trace.jsonl"),
];
/// Tokens of a batch.
const BUDGET: u32 = 8_192;
/// Requests that wait while a budget is filled.
const LOOKAHEAD: usize = 64;
/// Requests that are sorted into batches of like length.
const WINDOW: usize = 1024;
/// Sequences of a padded batch.
const SIZE: u32 = 8;
const NEVER_US: u64 = 1 << 40;

pub(super) fn run(_quick: bool) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, file) in TRACES {
        let requests = llm::read(&read(&trace(file)?)?)?;
        let of = |what: &str| format!("token-efficiency {name} {what}");
        let budget = |chunked| Former::TokenBudget {
            order: Order::Fcfs,
            chunked,
        };
        let pack = |former: &Former, tokens: u32, window: usize| -> Packing {
            let room = Room {
                sequences: u32::MAX,
                tokens,
                kv_tokens: u64::MAX,
            };
            llm::pack(&requests, former, room, window)
        };
        let whole = pack(&budget(false), BUDGET, LOOKAHEAD);
        let cut = pack(&budget(true), BUDGET, LOOKAHEAD);
        let bucketed = Former::Bucketed {
            window: WINDOW,
            size: SIZE,
            efficiency_permille: 950,
            max_wait_us: NEVER_US,
        };
        let bucketed = pack(&bucketed, u32::MAX, WINDOW);
        let fixed = Former::Fixed {
            size: SIZE,
            max_wait_us: NEVER_US,
        };
        let fixed = pack(&fixed, u32::MAX, WINDOW);
        let inputs = format!("{} prompts, budget {BUDGET}", requests.len());
        rows.push(Row::at_least(of("budget, whole prompts"), whole.fill, "", 0.98).with(&inputs));
        rows.push(Row::at_least(of("budget, chunks"), cut.fill, "", 0.98).with(&inputs));
        rows.push(
            Row::at_least(of("bucketed"), bucketed.efficiency, "", 0.95).with(format!(
                "window {WINDOW}, up to {SIZE}; mean {:.2} a batch",
                bucketed.mean_size
            )),
        );
        rows.push(
            Row::report(of("fixed"), fixed.efficiency, "")
                .with(format!("{SIZE} a batch, in order of arrival")),
        );
    }
    Ok(rows)
}
