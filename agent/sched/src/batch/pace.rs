//! How much prompt fits beside decoding: chunks sized so that no stream stutters.

/// Most tokens of a chunk: bounds how long a newcomer waits for the iteration that runs.
pub const MAX_CHUNK: u32 = 4096;
/// Part of the target that a stream is paced to: the rest is for what the cost model misses.
const SAFE_PERMILLE: u64 = 985;

/// What an iteration takes: fixed + tokens of prompt + sequences that decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Microseconds of every iteration.
    pub fixed_us: u64,
    /// Nanoseconds for each prompt token.
    pub token_ns: u64,
    /// Nanoseconds for each sequence that decodes.
    pub sequence_ns: u64,
}

/// How large an iteration's chunk of prompts is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// So many tokens.
    Tokens(u32),
    /// As many as keep an iteration under so many microseconds.
    Iteration {
        /// Microseconds.
        limit_us: u64,
    },
    /// As many as keep every stream's mean time per token under its target: a stream that is ahead
    /// lends what it saved. Streams whose first token was late are held to the second target.
    Paced {
        /// Mean time per output token, microseconds.
        target_us: u64,
        /// The same for streams that missed their first token's deadline.
        late_us: u64,
    },
}

/// A sequence that decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoding {
    /// When its first token was out, in microseconds.
    pub first_us: u64,
    /// Tokens since the first.
    pub tokens: u32,
    /// Its first token missed its deadline.
    pub late: bool,
}

// === impl Cost ===

impl Cost {
    /// An iteration's time in microseconds, rounded up.
    #[must_use]
    pub fn time_us(&self, tokens: u64, sequences: u64) -> u64 {
        self.fixed_us + (tokens * self.token_ns + sequences * self.sequence_ns).div_ceil(1000)
    }

    /// Most prompt tokens of an iteration within `limit_us`; 0 when decoding alone takes as long.
    #[must_use]
    pub fn tokens_within(&self, limit_us: u64, sequences: u64) -> u32 {
        let taken = self.fixed_us * 1000 + sequences * self.sequence_ns;
        let left = (limit_us * 1000).saturating_sub(taken);
        u32::try_from(left / self.token_ns.max(1)).unwrap_or(u32::MAX)
    }
}

// === impl Chunk ===

impl Chunk {
    /// Prompt tokens of the next iteration; at most [`MAX_CHUNK`] unless the chunk states its tokens.
    #[must_use]
    pub fn tokens(&self, cost: &Cost, now_us: u64, decoding: &[Decoding]) -> u32 {
        let sequences = decoding.len() as u64;
        match *self {
            Self::Tokens(n) => n,
            Self::Iteration { limit_us } => cost.tokens_within(limit_us, sequences).min(MAX_CHUNK),
            Self::Paced { target_us, late_us } => {
                let left = |d: &Decoding| {
                    let target = if d.late { late_us } else { target_us };
                    let due =
                        d.first_us + (u64::from(d.tokens) + 1) * target * SAFE_PERMILLE / 1000;
                    due.saturating_sub(now_us)
                };
                let limit = decoding.iter().map(left).min();
                let fits = limit.map_or(MAX_CHUNK, |us| cost.tokens_within(us, sequences));
                fits.min(MAX_CHUNK)
            }
        }
    }
}
