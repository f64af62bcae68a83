//! Replays traces on the scheduling core: a trace's rows and a seed in, figures out.
//!
//! Architecture invariant: pure, like the core it drives; the same rows and seed give the same
//! figures. Traces are read from text the caller hands in, in the layouts they were published in.

mod chance;
pub mod llm;
pub mod openb;
pub mod philly;
mod table;

pub use chance::Chance;
pub use table::{MAX_ROWS, TraceError};
