//! Who is entitled to how much: weighted max-min, dominant resource fairness, decayed use, and how fair it came out.

mod decay;
mod drf;
mod fairness;
mod hierarchy;
mod maxmin;
mod order;

pub use decay::{DecayedUse, MAX_HALF_LIVES};
pub use drf::{Filled, MAX_TASKS, User, progressive_filling};
pub use fairness::{Fairness, jain};
pub use hierarchy::{MAX_DEPTH, Node, NodeError, Tree};
pub use maxmin::{Claim, water_fill};
pub use order::{MAX_RESOURCES, Order};

#[cfg(test)]
mod tests;
