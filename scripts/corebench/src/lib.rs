//! Measures the scheduling core: figure, goal, peer and ratio side by side; needs neither the agent nor the provider.

pub mod core;
pub mod row;

pub use row::{Bound, Row, median, table};
