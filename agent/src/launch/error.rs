use gpuloom_fleet::AttemptId;
use std::io;
use std::path::PathBuf;

/// Why an attempt could not be carried out here.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A file or cgroup could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file of ours does not read.
    #[error("{} does not read; move it away to give its attempt up", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The configured user does not exist.
    #[error(
        "job_user {user:?} is not an account of this machine: name one of /etc/passwd or give a uid"
    )]
    NoSuchUser {
        /// As configured.
        user: String,
    },
    /// This node has known the attempt before.
    #[error("attempt {attempt} was known to this node before and is never started again")]
    SeenBefore {
        /// The attempt.
        attempt: AttemptId,
    },
    /// The shim could not start the job; the message says which step failed and why.
    #[error("{message}")]
    NotStarted {
        /// For the job's owner.
        message: String,
    },
    /// The node holds no such attempt.
    #[error("attempt {attempt} is not known to this node: it was forgotten or never ran here")]
    Unknown {
        /// The attempt.
        attempt: AttemptId,
    },
    /// The jobs holder refused, or could not.
    #[error("the jobs holder: {message}")]
    Refused {
        /// Which kind of refusal.
        why: super::wire::Why,
        /// What and why.
        message: String,
    },
    /// A documented limit is reached.
    #[error("{what}: at most {limit}; try again later")]
    Limit {
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// Says what was tried on which path when it fails.
pub(crate) trait OnPath<T> {
    fn on(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T, LaunchError>;
}

impl<T> OnPath<T> for io::Result<T> {
    fn on(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T, LaunchError> {
        self.map_err(|source| LaunchError::Io {
            what,
            path: path.into(),
            source,
        })
    }
}

impl<T> OnPath<T> for rustix::io::Result<T> {
    fn on(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T, LaunchError> {
        self.map_err(io::Error::from).on(what, path)
    }
}
