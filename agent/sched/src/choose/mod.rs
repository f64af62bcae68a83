//! Which order serves best here and now: contextual Thompson sampling over arms whose rewards come late.
//!
//! With bandit feedback (only the chosen arm's reward is seen) it takes tens of decisions to tell eight
//! arms apart; five cannot even try each. Where every window can be replayed under all arms
//! ([`Thompson::observe_all`]), one or two decisions are enough while rewards are not noisier than the
//! arms differ. docs/guides/benchmarks.md has both.

mod matrix;
mod thompson;

pub use thompson::{MAX_ARMS, MAX_CONTEXT, Safety, Settings, Thompson, Ticket};

#[cfg(test)]
mod tests;
