//! Streams of answers.

use crate::connect::CallError;
use tonic::Streaming;

/// Answers that arrive as things change.
#[derive(Debug)]
pub struct Updates<T>(Streaming<T>);

// === impl Updates ===

impl<T> Updates<T> {
    pub(crate) fn new(stream: Streaming<T>) -> Self {
        Self(stream)
    }

    /// The next answer; `None` once the fleet has said all.
    pub async fn next(&mut self) -> Result<Option<T>, CallError> {
        self.0.message().await.map_err(|status| (&status).into())
    }
}
