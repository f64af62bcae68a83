use crate::launch::LaunchError;
use gpuloom_api::CallError;
use gpuloom_api::tls::TlsError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a node cannot run; a person must act on each.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A value of the configuration cannot be used.
    #[error("node.{key} = {value:?}: {fix}")]
    Config {
        /// The key.
        key: &'static str,
        /// What it holds.
        value: String,
        /// What is accepted.
        fix: String,
    },
    /// A file of the node cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The node has neither an identity nor a token to get one.
    #[error(
        "the node has no identity, and {} holds no join token; make one with `gpuloom token create --join --pool POOL` and put it there",
        path.display()
    )]
    NoToken {
        /// Where the token is looked for.
        path: PathBuf,
    },
    /// The cloud's word for which instance this is cannot be had.
    #[error("the node cannot prove which instance it is")]
    Proof(#[from] gpuloom_cloud_imds::MetadataError),
    /// The lead does not take the token or the proof.
    #[error("the fleet did not let the node in")]
    NotJoined {
        /// The lead's answer.
        source: CallError,
    },
    /// The node's key or certificate does not read.
    #[error("the node's identity in {} cannot be used; remove it and give the node a new join token", path.display())]
    Identity {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        source: TlsError,
    },
    /// The address for logs cannot be listened on.
    #[error("cannot listen on {address}; choose another node address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The server for logs broke.
    #[error("the node's log server broke")]
    Serve(#[from] gpuloom_api::ServeError),
    /// The job side.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The core ended without being told to.
    #[error("the node's core ended unexpectedly")]
    CoreEnded,
}
