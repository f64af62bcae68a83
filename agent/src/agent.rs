//! `gpuloom agent`: one role, from its configuration to its end.

use crate::config::{AgentConfig, ConfigError, NodeConfig};
use crate::files::{FileError, make_dir, write_whole};
use crate::lead::{self, LeadError};
use crate::lock::{DataDirLock, LockError};
use crate::metrics::Figures;
use crate::node::{self, NodeError};
use crate::notify::{notify, watchdog};
use crate::serve::{Health, serve_http};
use gpuloom_api::proto::NodeReport;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long an agent may take to end after SIGTERM.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Threads of the runtime.
const WORKERS: usize = 2;

/// Why an agent does not run; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its data directory.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another agent has the data directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The lead's part.
    #[error(transparent)]
    Lead(#[from] LeadError),
    /// The node's part.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The metadata service of its cloud.
    #[error("what this instance is cannot be read from its metadata service")]
    Metadata(#[from] gpuloom_cloud_imds::MetadataError),
    /// The system.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Reads the configuration and, unless it is only to be checked, runs the agent to its end.
pub fn agent(config: &Path, check: bool) -> Result<(), AgentError> {
    let unresolved = AgentConfig::read(config)?;
    if check {
        return Ok(());
    }
    let system = |what| move |source| AgentError::System { what, source };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    let facts = match unresolved.asks() {
        Some(instance) => Some(runtime.block_on(instance.facts())?),
        None => None,
    };
    let config = unresolved.resolve(facts.as_ref())?;
    make_dir(&config.data_dir)?;
    let lock = DataDirLock::take(&config.data_dir)?;
    let ended = runtime.block_on(run(config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(lock);
    ended
}

async fn run(config: AgentConfig) -> Result<(), AgentError> {
    let system = |what| move |source| AgentError::System { what, source };
    let mut term = signal(SignalKind::terminate()).map_err(system("listen for SIGTERM"))?;
    let mut int = signal(SignalKind::interrupt()).map_err(system("listen for SIGINT"))?;
    let stop = CancellationToken::new();
    let work = work(config, stop.clone());
    tokio::pin!(work);
    tokio::select! {
        ended = &mut work => return ended,
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("stopping");
    notify("STOPPING=1");
    stop.cancel();
    match tokio::time::timeout(STOP_WITHIN, work).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::warn!("not everything ended within {STOP_WITHIN:?}");
            Ok(())
        }
    }
}

async fn work(config: AgentConfig, stop: CancellationToken) -> Result<(), AgentError> {
    let metrics_listen = config.metrics_listen;
    if let Some(lead) = config.lead {
        lead::run(lead, metrics_listen, stop, ready).await?;
    } else if let Some(node) = config.node {
        run_node(node, metrics_listen, stop).await?;
    }
    Ok(())
}

fn ready() {
    notify("READY=1");
    if let Some(every) = watchdog() {
        tokio::spawn(async move {
            loop {
                notify("WATCHDOG=1");
                tokio::time::sleep(every).await;
            }
        });
    }
}

async fn run_node(
    config: NodeConfig,
    metrics_listen: SocketAddr,
    stop: CancellationToken,
) -> Result<(), AgentError> {
    let (observed, seen) = watch::channel(None);
    let health = node_health(&config, seen);
    let served = serve_http(metrics_listen, health, stop.clone()).await;
    let (address, _task) = served.map_err(|source| AgentError::System {
        what: "serve health and metrics",
        source,
    })?;
    let attribute = config.data_dir.join("attributes/metrics-endpoint");
    write_whole(&attribute, address.to_string().as_bytes(), 0o644)?;
    // Joining may take as long as the lead is away: the agent is up meanwhile.
    ready();
    node::run_observed(config, stop, observed).await?;
    Ok(())
}

/// Well once the node reports, and while its driver answers.
fn node_health(config: &NodeConfig, seen: watch::Receiver<Option<Arc<NodeReport>>>) -> Health {
    let (id, pool) = (config.instance_id.to_string(), config.pool.to_string());
    Arc::new(move || {
        let (seen, id, pool) = (seen.clone(), id.clone(), pool.clone());
        Box::pin(async move {
            let report = seen.borrow().clone();
            let report = report.ok_or("the node has not joined its fleet yet")?;
            let mut figures = Figures::new("node", &report.backend);
            figures.own(&id, &pool, &report);
            Ok(figures)
        })
    })
}
