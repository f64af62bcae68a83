//! Inference requests on one server: which former and order meet which service levels?
//!
//! The model is fixed so that figures can be compared: an iteration takes [`COST`], the KV cache holds
//! [`KV_TOKENS`], a request meets its service level when its first token comes within
//! [`FIRST_TOKEN_US`] + [`FIRST_TOKEN_PER_TOKEN_US`] a prompt token and the mean time of each further
//! token is at most [`TOKEN_US`].

mod pack;
mod server;
mod trace;

pub use pack::{Packing, pack};
pub use server::{Iteration, Outcome, iterations, run};
pub use trace::{BLOCK, Row, read};

use gpuloom_sched::batch::{Chunk, Cost, Former, Order};

/// What an iteration takes.
pub const COST: Cost = Cost {
    fixed_us: 28_000,
    token_ns: 60_000,
    sequence_ns: 50_000,
};
/// The KV cache, in tokens.
pub const KV_TOKENS: u64 = 300_000;
/// Most requests that decode at once.
pub const MAX_SEQUENCES: u32 = 1024;
/// The first token's time, apart from the prompt, in microseconds.
pub const FIRST_TOKEN_US: u64 = 1_000_000;
/// The same for each token of the prompt, in microseconds.
pub const FIRST_TOKEN_PER_TOKEN_US: u64 = 500;
/// Mean time for each further token, in microseconds.
pub const TOKEN_US: u64 = 100_000;
/// The same for requests whose first token was late: they lost their service level and yield half.
pub const LATE_TOKEN_US: u64 = 150_000;
/// An iteration's limit where chunks are sized by it alone, in microseconds.
pub const ITERATION_US: u64 = 97_000;
/// What a prompt token takes when iterations run at their limit, in nanoseconds.
pub const TOKEN_NS: u64 = 84_400;
/// Late requests wait at most so long, where that can be kept, in microseconds.
pub const BOUND_US: u64 = 30_000_000;

/// How the server is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// Arrivals come so many times as fast as in the trace; above 0.
    pub load: f64,
    /// Forms the batches. Fixed and delay-window batches run to their end before the next one; others
    /// join those that decode.
    pub former: Former,
    /// Sizes an iteration's prompts.
    pub chunk: Chunk,
}

/// Names of the formers, for [`Setup::named`].
pub const FORMERS: [&str; 6] = [
    "fixed",
    "delay-window",
    "bucketed",
    "token-budget",
    "slack",
    "prefix-affinity",
];
/// Names of the orders, for [`Setup::named`]; they are the token budget's.
pub const ORDERS: [&str; 4] = ["fcfs", "edf", "sjf", "on-time"];

/// A setup that does not exist.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No such former.
    #[error("former {0:?} is not known; there are {list}", list = FORMERS.join(", "))]
    Former(String),
    /// No such order.
    #[error("policy {0:?} is not known for requests; there are {list}", list = ORDERS.join(", "))]
    Order(String),
    /// Arrivals would not come.
    #[error("load {0} is not above 0 and at most 1000")]
    Load(f64),
}

// === impl Setup ===

impl Setup {
    /// What arrivals find by default: token budget, on-time order, paced chunks.
    ///
    /// # Errors
    /// [`SetupError::Load`].
    pub fn new(load: f64) -> Result<Self, SetupError> {
        Self::named("token-budget", "on-time", load)
    }

    /// By the names of [`FORMERS`] and [`ORDERS`]. `fcfs` and `sjf` size chunks by the iteration's time
    /// alone, as the published reference does.
    ///
    /// # Errors
    /// [`SetupError`] lists what there is.
    pub fn named(former: &str, order: &str, load: f64) -> Result<Self, SetupError> {
        if !(load > 0.0 && load <= 1000.0) {
            return Err(SetupError::Load(load));
        }
        let token_ns = TOKEN_NS;
        let limited = Chunk::Iteration {
            limit_us: ITERATION_US,
        };
        let paced = Chunk::Paced {
            target_us: TOKEN_US,
            late_us: LATE_TOKEN_US,
        };
        let (order, chunk) = match order {
            "fcfs" => (Order::Fcfs, limited),
            "edf" => (Order::Edf { token_ns }, paced),
            "sjf" => (Order::Shortest { bound_us: u64::MAX }, limited),
            "on-time" => {
                let bound_us = BOUND_US;
                (Order::OnTime { bound_us, token_ns }, paced)
            }
            other => return Err(SetupError::Order(other.to_owned())),
        };
        let budget = Former::TokenBudget {
            order,
            chunked: true,
        };
        let (former, chunk) = match former {
            "token-budget" => (budget, chunk),
            other => (whole(other)?, Chunk::Tokens(whole_tokens(other))),
        };
        Ok(Self {
            load,
            former,
            chunk,
        })
    }
}

/// Batches that run to their end are as large as the cache allows.
fn whole_tokens(former: &str) -> u32 {
    if matches!(former, "fixed" | "delay-window") {
        262_144
    } else {
        8_192
    }
}

fn whole(name: &str) -> Result<Former, SetupError> {
    let (size, window, max_wait_us) = (32, 256, 100_000);
    Ok(match name {
        "fixed" => Former::Fixed { size, max_wait_us },
        "delay-window" => Former::DelayWindow {
            preferred: vec![8, 16, 32],
            max_wait_us,
        },
        "bucketed" => Former::Bucketed {
            window,
            size,
            efficiency_permille: 950,
            max_wait_us,
        },
        "slack" => Former::Slack {
            cost: COST,
            size,
            margin_us: 100_000,
            max_wait_us,
        },
        "prefix-affinity" => Former::PrefixAffinity {
            window,
            size,
            block: BLOCK,
            max_wait_us,
        },
        other => return Err(SetupError::Former(other.to_owned())),
    })
}

#[cfg(test)]
mod tests;
