//! Which requests go to the device together: six batch formers over one waiting room.
//!
//! ```text
//! push -> waiting -> form(now, room) -> Batch { parts, report }     a part is a prompt or a chunk of one
//! ```
//! Whatever the former: no request is lost or handed out twice, no batch exceeds its room, and one that
//! waited longer than the former's bound is in the next batch that has room for it, before younger ones.
//! Requests may come from many threads of a gateway; the former itself is a value without a clock.

mod batcher;
mod continuous;
mod order;
mod pace;
mod window;

pub use batcher::{Batcher, Former, Limits, MAX_WAITING, PushError};
pub use order::Order;
pub use pace::{Chunk, Cost, Decoding, MAX_CHUNK};

/// An inference request that waits for its prompt to be computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Unique among those that wait.
    pub id: u64,
    /// When it came, in microseconds.
    pub arrival_us: u64,
    /// Prompt in tokens, at least 1.
    pub prompt: u32,
    /// Tokens it is expected to generate: reserved in the KV cache with the prompt.
    pub expected_output: u32,
    /// When its first token is due, in microseconds; `None`: some time within the former's bound.
    pub deadline_us: Option<u64>,
    /// Hashes of its prompt's blocks from the first on; equal beginnings share computation and cache.
    pub prefix: Vec<u64>,
}

/// What a batch may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Requests that may be started.
    pub sequences: u32,
    /// Prompt tokens that may be computed, padding included.
    pub tokens: u32,
    /// Free tokens of the KV cache. A request takes its whole reservation when its first part is handed out.
    pub kv_tokens: u64,
}

/// What to compute together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// In the order they were chosen.
    pub parts: Vec<Part>,
    /// How good the batch is.
    pub report: Report,
}

/// A prompt, or a chunk of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Whose.
    pub id: u64,
    /// First token of the chunk, from 0.
    pub from: u32,
    /// Tokens of the chunk, at least 1.
    pub tokens: u32,
    /// The prompt is complete with it.
    pub last: bool,
}

/// What a batch costs and how long its requests waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Tokens to compute that belong to a prompt; what requests share is counted once.
    pub real_tokens: u64,
    /// The same with what pads shorter prompts to the longest; equal where nothing is padded.
    pub padded_tokens: u64,
    /// Tokens that need no computation because another of the batch has the same beginning.
    pub shared_tokens: u64,
    /// Longest time a request of the batch waited, from its arrival, in microseconds.
    pub longest_wait_us: u64,
    /// Sum of the waits of those that start, in microseconds.
    pub total_wait_us: u64,
    /// Requests that start with this batch.
    pub started: u32,
    /// KV cache tokens reserved for those that start.
    pub kv_tokens: u64,
}

// === impl Report ===

impl Report {
    /// Real by padded tokens, 0 to 1; an empty batch gives 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "tokens of one batch")]
    pub fn efficiency(&self) -> f64 {
        if self.padded_tokens == 0 {
            return 1.0;
        }
        self.real_tokens as f64 / self.padded_tokens as f64
    }
}

#[cfg(test)]
mod tests;
