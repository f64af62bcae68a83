//! Exit codes, and the errors that lead to them. Scripts rely on both: they do not change.

use gpuloom_api::{CallError, RefusalCode};
use std::process::ExitCode;

/// For `--help`: every exit code.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
    0  done
    1  the job or the command failed
    2  wrong usage or invalid input
    3  not found
    4  denied: wrong key, token or tenant
    5  the fleet cannot be reached, or gave no answer
    6  conflict: it exists, was changed meanwhile or is in use
  130  interrupted
  `run` exits with the job's own code; 128 + n when signal n ended it";

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The fleet was not reached or answered no.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What was typed cannot be used.
    #[error("{0}")]
    Usage(String),
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It did not come to what was asked for.
    #[error("{0}")]
    Failed(String),
    /// Output or a file failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        source: std::io::Error,
    },
}

// === impl Exit ===

impl Exit {
    pub(crate) const OK: Self = Self(0);
    pub(crate) const FAILED: Self = Self(1);
    pub(crate) const USAGE: Self = Self(2);
    pub(crate) const NOT_FOUND: Self = Self(3);
    pub(crate) const DENIED: Self = Self(4);
    pub(crate) const UNREACHABLE: Self = Self(5);
    pub(crate) const CONFLICT: Self = Self(6);
    pub(crate) const INTERRUPTED: Self = Self(130);
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

// === impl CliError ===

impl CliError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Somebody closed the pipe this program writes to: no error worth a word.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::USAGE,
            Self::NotFound(_) => Exit::NOT_FOUND,
            Self::Failed(_) | Self::Io { .. } => Exit::FAILED,
            Self::Call(call) => call_exit(call),
        }
    }

    /// One word for JSON output.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Usage(_) => "invalid",
            Self::NotFound(_) => "not_found",
            Self::Failed(_) | Self::Io { .. } => "failed",
            Self::Call(CallError::Refused(r)) => r.code.as_str(),
            Self::Call(CallError::Unreachable { .. }) => "unreachable",
            Self::Call(CallError::WrongCa { .. }) => "wrong_ca",
            Self::Call(CallError::NoAnswer { .. }) => "no_answer",
            Self::Call(CallError::Unreadable { .. }) => "unreadable",
            Self::Call(CallError::Credential { .. }) => "credential",
        }
    }
}

fn call_exit(call: &CallError) -> Exit {
    match call {
        CallError::Unreachable { .. } | CallError::NoAnswer { .. } => Exit::UNREACHABLE,
        CallError::WrongCa { .. } => Exit::DENIED,
        CallError::Unreadable { .. } => Exit::FAILED,
        CallError::Credential { .. } => Exit::USAGE,
        CallError::Refused(refusal) => match refusal.code {
            RefusalCode::Invalid | RefusalCode::Limit => Exit::USAGE,
            RefusalCode::NotFound => Exit::NOT_FOUND,
            RefusalCode::Denied => Exit::DENIED,
            RefusalCode::Unavailable | RefusalCode::NotLead => Exit::UNREACHABLE,
            RefusalCode::AlreadyExists
            | RefusalCode::DeclaredTwice
            | RefusalCode::StaleGeneration
            | RefusalCode::InUse => Exit::CONFLICT,
            RefusalCode::Version | RefusalCode::Corrupt | RefusalCode::Internal => Exit::FAILED,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_api::Refusal;

    #[test]
    fn every_way_a_call_can_fail_has_its_exit_code() {
        let refused = |code| CallError::Refused(Refusal::new(code, "m", "f"));
        let why = || "w".to_owned();
        for (error, code) in [
            (refused(RefusalCode::Invalid), 2),
            (refused(RefusalCode::Limit), 2),
            (refused(RefusalCode::NotFound), 3),
            (refused(RefusalCode::Denied), 4),
            (refused(RefusalCode::Unavailable), 5),
            (refused(RefusalCode::NotLead), 5),
            (refused(RefusalCode::AlreadyExists), 6),
            (refused(RefusalCode::DeclaredTwice), 6),
            (refused(RefusalCode::StaleGeneration), 6),
            (refused(RefusalCode::InUse), 6),
            (refused(RefusalCode::Version), 1),
            (refused(RefusalCode::Corrupt), 1),
            (refused(RefusalCode::Internal), 1),
            (CallError::Unreachable { tried: why() }, 5),
            (CallError::NoAnswer { why: why() }, 5),
            (CallError::Unreadable { why: why() }, 1),
            (CallError::Credential { why: why() }, 2),
            (
                CallError::WrongCa {
                    endpoint: why(),
                    why: why(),
                },
                4,
            ),
        ] {
            let text = format!("{error:?}");
            assert_eq!(CliError::Call(error).exit(), Exit(code), "{text}");
        }
        assert_eq!(CliError::Usage(why()).exit(), Exit(2));
        assert_eq!(CliError::NotFound(why()).exit(), Exit(3));
        assert_eq!(CliError::Failed(why()).exit(), Exit(1));
    }
}
