//! What can go wrong between Terraform and a provider, by what the caller can do about it.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tfplug::Diagnostic;

use crate::check::Violation;
use crate::diagnostics::describe;

/// Why a call of the host failed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The provider binary could not be started.
    #[error("cannot start {}: build it first, or name another binary", binary.display())]
    Spawn {
        /// The path that was tried.
        binary: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Reading from or waiting for the provider failed.
    #[error("talking to the provider process failed")]
    Io(#[source] std::io::Error),
    /// The first stdout line is not the handshake that Terraform accepts.
    #[error("handshake refused: {0}")]
    Handshake(String),
    /// A certificate or key could not be made or used.
    #[error("certificate: {0}")]
    Certificate(String),
    /// The TLS connection was made, but ALPN `h2` was not agreed: Terraform 1.12 and later refuse this (trap 5).
    #[error(
        "the provider negotiated ALPN {got:?} instead of \"h2\": grpc-go 1.67 and later close the connection"
    )]
    Alpn {
        /// The protocol it chose, if any.
        got: Option<String>,
    },
    /// The TLS handshake failed.
    #[error("the TLS handshake with the provider failed")]
    Tls(#[source] std::io::Error),
    /// The gRPC connection could not be made.
    #[error("cannot open a gRPC connection to the provider")]
    Transport(#[source] tonic::transport::Error),
    /// The provider ended instead of answering.
    #[error("the provider ended with {status} before its handshake; its stderr:\n{stderr}")]
    Exited {
        /// Its exit status.
        status: ExitStatus,
        /// Everything it wrote to stderr.
        stderr: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not come within {after:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// A signal could not be sent.
    #[error("cannot signal process {pid}")]
    Signal {
        /// The provider's process id.
        pid: i32,
        /// The system's reason.
        source: rustix::io::Errno,
    },
    /// The provider answered with a gRPC status: Terraform shows "Plugin error" or "Request cancelled", and a create
    /// that ends so leaves nothing in state (trap 21).
    #[error("{rpc} answered with a gRPC status: {status}")]
    Rpc {
        /// The RPC's name.
        rpc: &'static str,
        /// The status.
        status: Box<tonic::Status>,
    },
    /// The provider answered with at least one error diagnostic.
    #[error("{rpc} failed: {}", diagnostics.iter().map(describe).collect::<Vec<_>>().join("; "))]
    Diagnostics {
        /// The RPC's name.
        rpc: &'static str,
        /// Errors and warnings, in the provider's order.
        diagnostics: Vec<Diagnostic>,
    },
    /// The provider broke rules that Terraform enforces.
    #[error("{call} breaks Terraform's rules: {}", violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Violations {
        /// The call that was checked.
        call: String,
        /// Each broken rule.
        violations: Vec<Violation>,
    },
    /// A value could not be encoded or decoded.
    #[error("{what}: {reason}")]
    Value {
        /// Which value.
        what: String,
        /// Why not.
        reason: String,
    },
    /// The schema has no such type.
    #[error("the provider has no {kind} {name:?}; it has {known:?}")]
    UnknownType {
        /// "resource", "data source", "function" or "ephemeral resource".
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names it has.
        known: Vec<String>,
    },
    /// The real `terraform` is missing or misbehaved.
    #[error("terraform: {0}")]
    Terraform(String),
}
