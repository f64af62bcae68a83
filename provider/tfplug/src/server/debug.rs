//! Debug mode: the provider runs first, Terraform attaches to it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::run::{ServeError, runtime, serve_on};
use super::service::Service;
use super::socket::SocketDir;
use crate::log;
use crate::provider::Provider;

/// How Terraform finds a provider that runs already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reattach {
    /// Such as `registry.terraform.io/gpuloom/gpuloom`.
    pub address: String,
    /// Where it listens.
    pub socket: PathBuf,
}

// === impl Reattach ===

impl Reattach {
    /// For a provider of this process.
    pub fn new(address: impl Into<String>, socket: impl AsRef<Path>) -> Self {
        Self {
            address: address.into(),
            socket: socket.as_ref().to_owned(),
        }
    }

    /// The value of `TF_REATTACH_PROVIDERS`.
    #[must_use]
    pub fn to_env(&self) -> String {
        json!({
            &self.address: {
                "Protocol": "grpc",
                "ProtocolVersion": 6,
                "Pid": std::process::id(),
                "Test": true,
                "Addr": { "Network": "unix", "String": self.socket.display().to_string() },
            }
        })
        .to_string()
    }
}

/// Serves a provider until interrupted and prints the environment variable by which Terraform
/// attaches to it; `address` is such as `registry.terraform.io/gpuloom/gpuloom`.
pub fn serve_debug(provider: impl Provider, address: &str) -> ExitCode {
    log::init(provider.name());
    match runtime().and_then(|runtime| runtime.block_on(debug(provider, address))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn debug(provider: impl Provider, address: &str) -> Result<(), ServeError> {
    let dir = SocketDir::create(&std::env::temp_dir())
        .map_err(|e| ServeError::Io("make a directory for the socket", e))?;
    let listener =
        UnixListener::bind(dir.socket()).map_err(|e| ServeError::Io("listen on the socket", e))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|e| ServeError::Io("wait for an interrupt", e))?;
    println!(
        "TF_REATTACH_PROVIDERS='{}'",
        Reattach::new(address, dir.socket()).to_env()
    );
    let shutdown = CancellationToken::new();
    let server = serve_on(Service::new(provider), listener, shutdown.clone());
    tokio::select! {
        served = server => served,
        _ = interrupt.recv() => Ok(()),
    }
}
