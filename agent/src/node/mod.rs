//! The node's part of an agent: joins its fleet, says what it has, and carries out what it is told.
//!
//! ```text
//! lead <--reports-- session <--NodeReport-- core <--readings-- door <--> gpu-probe
//!      ---orders-->         ----orders----> core ---stop----> attempt (one task each) <-> launch
//! ```
//! Reports and orders are level-triggered: each states everything, so a lost one is made good by
//! the next. The core alone holds the node's state; it starts no attempt that this node has ever
//! known, and gives no device away twice, whatever it is told.

mod attempt;
mod config;
mod core;
mod door;
mod error;
mod gpus;
mod identity;
mod ledger;
mod logs;
mod notice;
mod report;
mod session;
mod watch;

pub use config::{MAX_POLL_MS, MIN_POLL_MS, NodeConfig};
pub use error::NodeError;

use self::core::{Core, Inbox};
use crate::launch::Launcher;
use gpuloom_api::proto::NodeReport;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch as channel};
use tokio_util::sync::CancellationToken;

/// Messages waiting for the core.
const INBOX: usize = 256;

/// Runs the node until `shutdown`; its jobs go on, and the next agent adopts them. Errors are
/// those a person must act on: a lead that does not answer is waited for.
pub async fn run(
    config: impl Into<NodeConfig>,
    shutdown: CancellationToken,
) -> Result<(), NodeError> {
    let (observed, _) = channel::channel(None);
    run_observed(config, shutdown, observed).await
}

/// As [`run`], and puts every report into `observed`, for metrics.
pub async fn run_observed(
    config: impl Into<NodeConfig>,
    shutdown: CancellationToken,
    observed: channel::Sender<Option<Arc<NodeReport>>>,
) -> Result<(), NodeError> {
    let config = config.into();
    config.check()?;
    open_to_jobs(&config)?;
    let launcher = Launcher::open(config.launch()?)?;
    note_cgroup(&config, &launcher)?;
    let adopted = launcher.adopt()?;
    let identity = tokio::select! {
        identity = identity::load_or_join(&config) => identity?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let listener = TcpListener::bind(config.listen);
    let listener = listener.await.map_err(|source| NodeError::Listen {
        address: config.listen,
        source,
    })?;
    let endpoint = logs::endpoint(&listener, &config)?;
    let (inbox, messages) = mpsc::channel::<Inbox>(INBOX);
    let door = door::Door::open(&config, inbox.clone());
    let mut core = Core::new(
        &config,
        launcher.clone(),
        endpoint,
        inbox.clone(),
        door.handle(),
    );
    core.adopt(adopted);
    let identity = channel::Sender::new(identity);
    let serving = logs::serve(listener, identity.subscribe(), launcher.clone(), &shutdown);
    let session = session::run(&config, identity.subscribe(), core.reports(), inbox.clone());
    let renewing = identity::renew(&config, &identity);
    let watching = notice::watch(&config, core.reports(), inbox);
    let observing = observe(core.reports(), observed);
    let ended = tokio::select! {
        ended = core.run(messages) => ended,
        served = serving => served,
        ended = session => ended,
        () = observing => Ok(()),
        () = renewing => Ok(()),
        () = watching => Ok(()),
        () = shutdown.cancelled() => Ok(()),
    };
    door.close().await;
    launcher.release();
    ended
}

async fn observe(
    mut reports: channel::Receiver<Arc<NodeReport>>,
    observed: channel::Sender<Option<Arc<NodeReport>>>,
) {
    loop {
        let report = reports.borrow_and_update().clone();
        observed.send_replace(Some(report));
        if reports.changed().await.is_err() {
            // The core has ended, and its own result says why.
            return std::future::pending().await;
        }
    }
}

/// Lets the job user pass through the data directory to its own; secrets in it are 0600 each.
fn open_to_jobs(config: &NodeConfig) -> Result<(), NodeError> {
    let dir = &config.data_dir;
    let io = |source| NodeError::File {
        what: "open to the job user",
        path: dir.clone(),
        source,
    };
    let mode = std::fs::metadata(dir).map_err(io)?.permissions().mode();
    if mode & 0o011 == 0o011 {
        return Ok(());
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode | 0o011)).map_err(io)
}

/// Leaves word, for whoever removes the instance, of where its jobs are.
fn note_cgroup(config: &NodeConfig, launcher: &Launcher) -> Result<(), NodeError> {
    let dir = config.data_dir.join("attributes");
    let path = dir.join("cgroup");
    let write = || match launcher.cgroup() {
        Some(cgroup) => {
            std::fs::create_dir_all(&dir)?;
            let temporary = dir.join(".cgroup");
            std::fs::write(&temporary, cgroup.as_os_str().as_encoded_bytes())?;
            std::fs::rename(&temporary, &path)
        }
        None => Ok(()),
    };
    write().map_err(|source| NodeError::File {
        what: "write",
        path: path.clone(),
        source,
    })
}
