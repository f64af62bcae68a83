//! Decides who runs where and when: the fleet's state and the time in, a [`Decision`] with reasons out.
//!
//! Architecture invariant: pure. No clock, no I/O, no chance; the same [`Snapshot`] gives the same
//! [`Decision`]. First come, first served within a priority; a job that does not fit does not block
//! those behind it, unless it is waiting for devices that others were told to free for it.

pub mod admit;
pub mod batch;
pub mod choose;
mod decide;
mod decision;
mod distribute;
mod fit;
mod ledger;
pub mod memory;
pub mod place;
pub mod policy;
pub mod predict;
mod preempt;
mod quota;
pub mod reclaim;
mod select;
pub mod share;
mod snapshot;

pub use decide::{MAX_WAITING_PER_DECISION, decide};
pub use decision::{Decision, Grant, Preemption, Reason, Refusal, Resource};
pub use distribute::{Spread, Unplaced, Worker, distribute};
pub use select::{Constraints, Score, Weights, rank};
pub use snapshot::{DeviceView, Held, NodeView, PoolView, Snapshot, Waiting};

#[cfg(test)]
mod tests;
