//! Whose GPUs are taken for work of a higher priority so that least work is lost, and how freed room stays reserved.
//!
//! ```text
//! Ask -> on_node: each node's cheapest victims for 1, 2, .. pieces (exact for few holders)
//!     -> gang:    the cheapest set of nodes, in one rack where the ask says so
//!     -> Plan:    victims, cost, and where each piece will run, simulated before anybody is stopped
//!     -> Nomination: keeps to the plan while victims end, holding what they free
//! ```
//! Never stopped: equal or higher priority, work before its minimum runtime, work that was disrupted
//! as often as it may be. Among the rest the highest priority stopped is the lowest possible; then the
//! cost is least: GPUs x (work since the checkpoint + checkpoint + restart).

mod gang;
mod holders;
mod nomination;
mod on_node;
mod plan;
mod rebalance;

pub use holders::{Held, Holders, MAX_HELD, NotVictims};
pub use nomination::Nomination;
pub use on_node::MAX_TRIED;
pub use plan::{Ask, MAX_PIECES, Plan, Shortfall, Within, plan};
pub use rebalance::{Balance, Gain, Goal, MAX_MOVES, Move, Stay, rebalance};

#[cfg(test)]
mod tests;
