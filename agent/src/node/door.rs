//! Asks the GPU probe at the pace the node is told, and sooner when somebody waits for it.

use super::config::{MAX_POLL_MS, MIN_POLL_MS, NodeConfig};
use super::core::Inbox;
use super::session::Backoff;
use crate::launch::now;
use gpuloom_gpu::{Discovery, GpuError, Probe, ProbeOptions};
use gpuloom_watch::Reading;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Readings asked for out of turn are at least this far apart.
const SPACING: Duration = Duration::from_millis(20);

/// What the door saw.
#[derive(Debug)]
pub(crate) enum Seen {
    /// The devices, at the start and after each trouble.
    Devices(Box<Discovery>),
    /// One reading of each, with processes.
    Readings {
        asked: Instant,
        readings: Vec<Reading>,
    },
    /// Why the driver does not answer.
    Trouble(String),
}

/// The task that owns the probe.
#[derive(Debug)]
pub(crate) struct Door {
    handle: Handle,
    closing: CancellationToken,
    task: JoinHandle<()>,
}

/// Sets the pace.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    poll: Arc<watch::Sender<Duration>>,
    sooner: Arc<Notify>,
}

// === impl Handle ===

impl Handle {
    /// Milliseconds between readings from now on; 0 leaves it.
    pub(crate) fn set_poll(&self, poll_ms: u64) {
        if poll_ms > 0 {
            let poll = Duration::from_millis(poll_ms.clamp(MIN_POLL_MS, MAX_POLL_MS));
            self.poll
                .send_if_modified(|now| std::mem::replace(now, poll) != poll);
        }
    }

    /// Asks for a reading now.
    pub(crate) fn read_now(&self) {
        self.sooner.notify_one();
    }
}

// === impl Door ===

impl Door {
    pub(crate) fn open(config: &NodeConfig, core: mpsc::Sender<Inbox>) -> Self {
        let handle = Handle {
            poll: Arc::new(watch::Sender::new(config.poll())),
            sooner: Arc::new(Notify::new()),
        };
        let closing = CancellationToken::new();
        let task = tokio::spawn(run(config.probe(), handle.clone(), core, closing.clone()));
        Self {
            handle,
            closing,
            task,
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Ends the probe, gently.
    pub(crate) async fn close(self) {
        self.closing.cancel();
        if self.task.await.is_err() {
            tracing::warn!("the GPU door ended abnormally");
        }
    }
}

async fn run(
    options: ProbeOptions,
    handle: Handle,
    core: mpsc::Sender<Inbox>,
    closing: CancellationToken,
) {
    let mut backoff = Backoff::default();
    loop {
        let started = tokio::select! {
            started = Probe::start(options.clone()) => started,
            () = closing.cancelled() => return,
        };
        match started {
            Ok((probe, mut xids)) => {
                backoff = Backoff::default();
                tokio::select! {
                    () = keep_reading(&probe, &handle, &core) => {}
                    () = async {
                        while let Some(xid) = xids.recv().await {
                            if core.send(Inbox::Xid(xid)).await.is_err() {
                                break;
                            }
                        }
                        std::future::pending::<()>().await;
                    } => {}
                    () = closing.cancelled() => {}
                }
                probe.stop().await;
            }
            Err(error) => {
                tracing::error!(%error, "the GPU driver cannot be opened");
                tell(&core, Seen::Trouble(error.to_string())).await;
            }
        }
        tokio::select! {
            () = backoff.wait() => {}
            () = closing.cancelled() => return,
        }
        if core.is_closed() {
            return;
        }
    }
}

async fn tell(core: &mpsc::Sender<Inbox>, seen: Seen) {
    // The core ends before the door only when the agent ends.
    if core.send(Inbox::Seen(seen)).await.is_err() {
        tracing::debug!("nobody looks at readings any more");
    }
}

/// Ends when the core has.
async fn keep_reading(probe: &Probe, handle: &Handle, core: &mpsc::Sender<Inbox>) {
    let mut poll = handle.poll.subscribe();
    let mut known = false;
    while !core.is_closed() {
        let asked = Instant::now();
        let seen = look(probe, &mut known, asked).await;
        let seen = seen.unwrap_or_else(|error| {
            known = false;
            Seen::Trouble(error.to_string())
        });
        let again = matches!(seen, Seen::Devices(_));
        tell(core, seen).await;
        if again {
            continue;
        }
        let pace = *poll.borrow_and_update();
        tokio::select! {
            () = sleep_until(asked + pace) => {}
            () = handle.sooner.notified() => sleep(SPACING.saturating_sub(asked.elapsed())).await,
            _ = poll.changed() => {}
        }
    }
}

async fn look(probe: &Probe, known: &mut bool, asked: Instant) -> Result<Seen, GpuError> {
    if *known {
        let readings = probe.read_with(now(), true).await?;
        return Ok(Seen::Readings { asked, readings });
    }
    let discovery = probe.discover().await?;
    *known = true;
    Ok(Seen::Devices(Box::new(discovery)))
}
