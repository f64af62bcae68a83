//! Why a metadata service did not tell.

/// A question that was not answered; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The endpoint is not one.
    #[error("{endpoint:?} is not where a metadata service is: use http://host:port")]
    Endpoint {
        /// As stated.
        endpoint: String,
    },
    /// No HTTP client can be made.
    #[error("the metadata service's client cannot be made")]
    Client {
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// Nothing answers; worth trying again.
    #[error(
        "the metadata service did not answer {path}; inside a container it needs a hop limit of 2"
    )]
    Unreachable {
        /// What was asked.
        path: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// It answers with an error.
    #[error("the metadata service answered {path} with {status}{hint}")]
    Status {
        /// What was asked.
        path: String,
        /// The HTTP status.
        status: u16,
        /// What to do, where that is known; begins with its own separator.
        hint: &'static str,
    },
    /// It answers something else than it is known to.
    #[error("the metadata service's answer to {path} does not read: {why}")]
    Unreadable {
        /// What was asked.
        path: String,
        /// What was expected.
        why: String,
    },
    /// The instance has nothing to prove its identity with.
    #[error("the instance cannot prove who it is: {fix}")]
    NoIdentity {
        /// What to give it.
        fix: &'static str,
    },
}

// === impl MetadataError ===

impl MetadataError {
    /// Whether asking again later may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => *status >= 500 || matches!(status, 410 | 429),
            _ => false,
        }
    }
}

pub(crate) fn unreadable(path: &str, why: impl ToString) -> MetadataError {
    MetadataError::Unreadable {
        path: path.to_owned(),
        why: why.to_string(),
    }
}
