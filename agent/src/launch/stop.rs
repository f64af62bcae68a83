//! Waiting for an attempt's end, and bringing it about: SIGTERM, grace, SIGKILL, nobody left.

use super::error::{LaunchError, OnPath as _};
use super::launcher::Launcher;
use super::process::Identity;
use super::record::{self, AttemptRecord, Exited, ShimRecord, now, read_json};
use gpuloom_fleet::{AttemptId, Exit, Millis};
use rustix::process::PidfdFlags;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep};

/// Shortest and longest wait between two looks at a fence that is being emptied.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// Between two looks at processes whose shim is gone.
const ORPHAN_LOOK: Duration = Duration::from_millis(200);
/// How often the kill is repeated while processes remain (a fork that raced it, a kernel without
/// `cgroup.kill`).
const KILL_AGAIN: Duration = Duration::from_millis(50);
/// How long a shim may take to record the end of a job whose processes are all gone, before it is
/// taken for stuck (a full disk) and killed: the exit status is then lost.
const SHIM_BOUND: Duration = Duration::from_secs(60);

/// How an attempt's processes ended; none is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// How the first process ended, when it ran and somebody saw it.
    pub exit: Option<Exit>,
    /// When.
    pub at: Millis,
    /// Why the job was never started.
    pub launch_failed: Option<String>,
    /// Why nobody knows how it ended.
    pub lost: Option<String>,
}

/// A descriptor that is readable once the process has ended; `None` when it has already.
fn pidfd(of: Identity) -> io::Result<Option<AsyncFd<OwnedFd>>> {
    let Some(pid) = of.as_pid() else {
        return Ok(None);
    };
    let fd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    if !of.is_alive() {
        return Ok(None);
    }
    super::sys::readable(fd).map(Some)
}

/// Waits until the very process `of` has ended.
pub(crate) async fn ended(of: Identity) -> io::Result<()> {
    if let Some(fd) = pidfd(of)? {
        drop(fd.readable().await?);
    }
    Ok(())
}

// === impl Gone ===

impl Gone {
    pub(crate) fn lost(message: impl Into<String>) -> Self {
        Self {
            exit: None,
            at: now(),
            launch_failed: None,
            lost: Some(message.into()),
        }
    }
}

impl From<Exited> for Gone {
    fn from(exited: Exited) -> Self {
        Self {
            exit: exited.exit,
            at: exited.at,
            launch_failed: exited.launch_failed,
            lost: None,
        }
    }
}

// === impl Launcher ===

impl Launcher {
    /// Waits until no process of the attempt is left, and says how it ended. Works the same for
    /// attempts started here and adopted ones. Dropping the future changes nothing.
    pub async fn wait(&self, attempt: AttemptId) -> Result<Gone, LaunchError> {
        let dir = self.dir_of(attempt);
        let recorded = self.record_of(attempt)?;
        if let Some(ShimRecord { shim: Some(shim) }) = read_json(&dir, record::SHIM)? {
            ended(shim).await.on("wait for the shim of", &dir)?;
        }
        if let Some(exited) = read_json::<Exited>(&dir, record::EXIT)? {
            return Ok(exited.into());
        }
        // The shim was killed. Its job may live on: it is waited for, and holds its devices.
        while recorded.plan.fence.is_populated(None) {
            sleep(ORPHAN_LOOK).await;
        }
        self.remove_cgroup(&recorded).await?;
        Ok(Gone::lost(
            "its shim was killed, so nobody saw how its processes ended",
        ))
    }

    /// Stops the attempt: SIGTERM to each of its processes, SIGKILL after `grace` (at once when it
    /// is zero). Returns when no process is left; [`Self::wait`] then says how it ended. Dropping
    /// the future stops nothing that has begun; calling again with a shorter grace is fine.
    pub async fn stop(&self, attempt: AttemptId, grace: Duration) -> Result<(), LaunchError> {
        let AttemptRecord { plan, .. } = self.record_of(attempt)?;
        let shim = || self.live_shim(attempt);
        let started = Instant::now();
        if !grace.is_zero() {
            let (fence, shim) = (plan.fence.clone(), shim().map(|s| s.pid));
            self.by_hands(move |hands| hands.terminate(attempt, &fence, shim))
                .await?;
        }
        let mut look = LOOK.0;
        let mut killed_at: Option<Instant> = None;
        while plan.fence.is_populated(shim().map(|s| s.pid)) {
            let due = killed_at.is_none_or(|at| at.elapsed() >= KILL_AGAIN);
            if started.elapsed() >= grace && due {
                let (fence, shim) = (plan.fence.clone(), shim().map(|s| s.pid));
                self.by_hands(move |hands| hands.kill(attempt, &fence, shim))
                    .await?;
                look = LOOK.0;
                killed_at = Some(Instant::now());
            }
            let left = grace.saturating_sub(started.elapsed());
            sleep(if left.is_zero() { look } else { look.min(left) }).await;
            look = (look * 2).min(LOOK.1);
        }
        self.release_shim(attempt).await
    }

    /// Waits until the shim has recorded the end; kills one that does not get to it.
    async fn release_shim(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        let Some(shim) = self.live_shim(attempt) else {
            return Ok(());
        };
        let dir = self.dir_of(attempt);
        match tokio::time::timeout(SHIM_BOUND, ended(shim)).await {
            Ok(done) => done.on("wait for the shim of", dir),
            Err(_) => {
                tracing::warn!(%attempt, "its shim cannot record its end and is killed");
                self.by_hands(move |hands| hands.kill_shim(attempt, shim))
                    .await?;
                ended(shim).await.on("wait for the shim of", dir)
            }
        }
    }

    /// The attempt's shim, while it lives.
    pub(crate) fn live_shim(&self, attempt: AttemptId) -> Option<Identity> {
        let record = read_json::<ShimRecord>(&self.dir_of(attempt), record::SHIM);
        record.ok()??.shim.filter(|s| s.is_alive())
    }
}
