//! How long work will take: learned online from what it looked like and how long it took, with intervals that hold.
//!
//! ```text
//! expect(features) -> Expected { mean, low, high }      before
//! observe(features, took) -> Drift?                     after; learns, recalibrates, notices a change
//! ```

mod conformal;
mod drift;
mod predictor;
mod rls;

pub use conformal::Conformal;
pub use drift::Cusum;
pub use predictor::{Expected, Observed, Predictor, PredictorSettings};
pub use rls::{MAX_FEATURES, Rls};

#[cfg(test)]
mod tests;
