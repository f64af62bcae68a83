//! Commands that do more than talk to a fleet: what clouds sell and hold, and what a trace would come to.

mod offerings;
mod place;
mod simulate;
mod sweep;
mod table;

use gpuloom_cloud::{CloudError, FailureClass};
use std::io;

pub use offerings::{OfferingsArgs, offerings};
pub use place::PlaceArg;
pub use simulate::{SimulateArgs, simulate};
pub use sweep::{Known, SweepArgs, known, sweep};

/// A command that failed; `gpuloom`'s exit codes hold.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// What was typed cannot be used.
    #[error("{0}")]
    Usage(String),
    /// A cloud or the fleet could not be asked, or said no.
    #[error("{what}: {source}")]
    Cloud {
        /// What was tried, on what.
        what: String,
        /// What it said.
        #[source]
        source: CloudError,
    },
    /// The lead gives no answer.
    #[error("{0}")]
    Unreachable(String),
    /// It may still be in use.
    #[error("{0}")]
    Conflict(String),
    /// It did not come to what was asked for.
    #[error("{0}")]
    Failed(String),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

// === impl CommandError ===

impl CommandError {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Cloud { source, .. } => match source.class {
                FailureClass::Auth => 4,
                FailureClass::Invalid | FailureClass::Unsupported => 2,
                FailureClass::Throttled | FailureClass::Transient => 5,
                FailureClass::Capacity | FailureClass::Quota => 1,
            },
            Self::Unreachable(_) => 5,
            Self::Conflict(_) => 6,
            Self::Failed(_) | Self::Output(_) => 1,
        }
    }

    fn cloud(what: impl Into<String>) -> impl FnOnce(CloudError) -> Self {
        let what = what.into();
        move |source| Self::Cloud { what, source }
    }
}
