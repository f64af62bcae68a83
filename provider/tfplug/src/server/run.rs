//! Serving: from the first line on stdout to the last cleanup.

use std::future::Future;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::connection::incoming;
use super::handshake::{self, Environment};
use super::plugin::Plugin;
use super::service::Service;
use super::socket::SocketDir;
use super::tls::{self, TlsError};
use crate::log;
use crate::proto::go_plugin::grpc_broker_server::GrpcBrokerServer;
use crate::proto::go_plugin::grpc_controller_server::GrpcControllerServer;
use crate::proto::go_plugin::grpc_stdio_server::GrpcStdioServer;
use crate::proto::health::health_server::HealthServer;
use crate::proto::tfplugin6::provider_server::ProviderServer;
use crate::provider::Provider;

/// The largest message taken, in bytes: Terraform sends up to 2 GiB, a state of that size is a mistake.
pub const MAX_REQUEST_BYTES: usize = 256 * 1024 * 1024;

/// Time for the answer to Shutdown to leave; Terraform kills after 2 s.
const FLUSH: Duration = Duration::from_millis(20);
/// Time that handlers have to wind up after Shutdown, before Terraform kills.
const WIND_UP: Duration = Duration::from_millis(1500);
/// How long a lost connection may take to come back before Terraform counts as dead.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);
/// Time that handlers have to wind up when Terraform is dead.
const ORPHAN_WIND_UP: Duration = Duration::from_secs(30);

/// Why a provider cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No runtime, no socket, no signal handler.
    #[error("cannot {0}")]
    Io(&'static str, #[source] io::Error),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The transport failed.
    #[error("the gRPC server failed")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves a provider to the Terraform that started this process; to be returned from `main`.
///
/// Nothing may have been written to stdout before, and nothing may be written there later: logs go
/// to stderr through [`tracing`]. Started by hand it prints what it is and fails with 1.
pub fn serve(provider: impl Provider) -> ExitCode {
    let environment = Environment::of_process();
    if let Err(error) = environment.check() {
        eprintln!("{} {}: {error}", provider.name(), provider.version());
        return ExitCode::FAILURE;
    }
    log::init(provider.name());
    let served = runtime().and_then(|runtime| {
        let served = runtime.block_on(plugin(provider, &environment));
        // Whatever still runs had its time.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes = std::error::Error::source(&error)
                .map(|e| format!(": {e}"))
                .unwrap_or_default();
            eprintln!("{error}{causes}");
            ExitCode::FAILURE
        }
    }
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, ServeError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .enable_all()
        .thread_name("tfplug")
        .build()
        .map_err(|e| ServeError::Io("start threads", e))
}

async fn plugin(provider: impl Provider, environment: &Environment) -> Result<(), ServeError> {
    // The terminal interrupts the whole process group; Terraform decides what that means.
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(|e| ServeError::Io("ignore interrupts", e))?;
    tokio::spawn(async move { while interrupts.recv().await.is_some() {} });
    let (tls, certificate) = match &environment.client_cert {
        Some(pem) => {
            let (config, der) = tls::server(pem)?;
            (Some(Arc::new(config)), Some(der))
        }
        None => (None, None),
    };
    let base = &environment.socket_base;
    let dir = SocketDir::create(base)
        .map_err(|e| ServeError::Io("make a directory for the socket", e))?;
    let listener =
        UnixListener::bind(dir.socket()).map_err(|e| ServeError::Io("listen on the socket", e))?;
    announce(&handshake::line(&dir.socket(), certificate.as_ref()))
        .map_err(|e| ServeError::Io("write the handshake to stdout", e))?;
    let stale = base.clone();
    tokio::task::spawn_blocking(move || SocketDir::remove_stale(&stale));

    let service = Service::new(provider);
    let shutdown = CancellationToken::new();
    let (open, opened) = watch::channel(0);
    let server = server(service.clone(), listener, tls, open, shutdown.clone());
    tokio::select! {
        served = server => served?,
        () = ended(&service, &shutdown) => {}
        () = orphaned(&service, opened) => tracing::warn!("Terraform is gone; the provider ends"),
    }
    Ok(())
}

fn announce(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()
}

/// Resolves when Shutdown was asked for, answered, and handlers are done or out of time.
async fn ended(service: &Service, shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    service.stop();
    let idle = tokio::time::timeout(WIND_UP, service.idle());
    let _ = tokio::join!(tokio::time::sleep(FLUSH), idle);
}

/// Resolves when the last connection has been lost for good: a Terraform that was killed asks for
/// no shutdown. Handlers are cancelled and have time to wind up.
async fn orphaned(service: &Service, mut open: watch::Receiver<usize>) {
    loop {
        if open.wait_for(|n| *n > 0).await.is_err() || open.wait_for(|n| *n == 0).await.is_err() {
            return std::future::pending().await;
        }
        if tokio::time::timeout(ORPHAN_GRACE, open.wait_for(|n| *n > 0))
            .await
            .is_err()
        {
            service.stop();
            let _ = tokio::time::timeout(ORPHAN_WIND_UP, service.idle()).await;
            return;
        }
    }
}

/// Serves a provider without TLS on a socket of one's own until the token is cancelled: for tests
/// and debuggers, which reach it through `TF_REATTACH_PROVIDERS`.
///
/// # Errors
/// When the transport fails.
pub async fn serve_on(
    service: Service,
    listener: UnixListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    server(service, listener, None, watch::channel(0).0, shutdown).await
}

fn server(
    service: Service,
    listener: UnixListener,
    tls: Option<Arc<ServerConfig>>,
    open: watch::Sender<usize>,
    shutdown: CancellationToken,
) -> impl Future<Output = Result<(), ServeError>> {
    let plugin = Plugin {
        shutdown: shutdown.clone(),
    };
    let provider = ProviderServer::new(service)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(usize::MAX);
    let router = Server::builder()
        .add_service(provider)
        .add_service(GrpcBrokerServer::new(plugin.clone()))
        .add_service(GrpcStdioServer::new(plugin.clone()))
        .add_service(GrpcControllerServer::new(plugin.clone()))
        .add_service(HealthServer::new(plugin));
    async move {
        let connections = incoming(listener, tls, open);
        let end = shutdown.cancelled_owned();
        Ok(router
            .serve_with_incoming_shutdown(connections, end)
            .await?)
    }
}
