//! Who carries out what takes privileges: this process itself, or the holder it asks.

use super::cgroup::Hierarchy;
use super::error::{LaunchError, OnPath as _};
use super::fence::Fence;
use super::process::{self, Identity};
use super::wire::{self, ANSWER_WITHIN, Answer, MESSAGE_WITHIN, Op, Request, Why};
use gpuloom_fleet::{AttemptId, NodeId};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a holder that is being started again is waited for.
const HOLDER_WITHIN: Duration = Duration::from_secs(15);
/// Between two tries to reach it.
const HOLDER_AGAIN: Duration = Duration::from_millis(50);

/// Either works the same on the same files: an agent may change from one to the other.
#[derive(Debug, Clone)]
pub(crate) enum Hands {
    /// This process, which has the privileges it needs or does without.
    Here(Hierarchy),
    /// `gpuloom jobs-holder`.
    Holder(Holder, Hierarchy),
}

/// Where the holder is, and for whom it is asked.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    socket: PathBuf,
    node: NodeId,
    attempts: PathBuf,
}

// === impl Holder ===

impl Holder {
    pub(crate) fn new(socket: PathBuf, node: NodeId, attempts: PathBuf) -> Self {
        Self {
            socket,
            node,
            attempts,
        }
    }

    /// Waits for a holder that is being restarted: nothing was asked of it yet.
    fn connect(&self, patience: Duration) -> io::Result<UnixStream> {
        let since = Instant::now();
        loop {
            match UnixStream::connect(&self.socket) {
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    ) && since.elapsed() < patience =>
                {
                    std::thread::sleep(HOLDER_AGAIN);
                }
                connected => return connected,
            }
        }
    }

    fn answer(&self, op: Op) -> io::Result<Answer> {
        // Tidying up is left to the next start when there is no holder.
        let tidies = matches!(op, Op::Release | Op::RemoveUnused { .. });
        let patience = if tidies {
            Duration::ZERO
        } else {
            HOLDER_WITHIN
        };
        let mut stream = self.connect(patience)?;
        stream.set_write_timeout(Some(MESSAGE_WITHIN))?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let request = Request {
            node: self.node.clone(),
            attempts: self.attempts.clone(),
            op,
        };
        wire::send(&mut stream, &request)?;
        wire::receive(&mut stream)
    }

    fn ask(&self, op: Op) -> Result<Answer, LaunchError> {
        match self.answer(op).on("ask the jobs holder at", &self.socket)? {
            Answer::Refused { why, message } => Err(LaunchError::Refused { why, message }),
            answer => Ok(answer),
        }
    }

    fn do_(&self, op: Op) -> Result<(), LaunchError> {
        self.ask(op).map(drop)
    }

    /// The node's cgroups, made when they are missing.
    pub(crate) fn open(&self) -> Result<Hierarchy, LaunchError> {
        match self.ask(Op::Open)? {
            Answer::Opened(hierarchy) => Ok(hierarchy),
            other => Err(unexpected(&other)),
        }
    }

    /// Spawns the shim of a recorded attempt.
    pub(crate) fn start(&self, attempt: AttemptId) -> Result<Identity, LaunchError> {
        let failpoints = std::env::var("GPULOOM_FAILPOINTS").ok();
        let failpoints = failpoints.filter(|_| cfg!(debug_assertions));
        match self.ask(Op::Start {
            attempt,
            failpoints,
        })? {
            Answer::Started(shim) => Ok(shim),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(answer: &Answer) -> LaunchError {
    LaunchError::Refused {
        why: Why::Malformed,
        message: format!("the jobs holder gave another answer than was asked for: {answer:?}"),
    }
}

// === impl Hands ===

impl Hands {
    pub(crate) fn hierarchy(&self) -> &Hierarchy {
        match self {
            Self::Here(hierarchy) | Self::Holder(_, hierarchy) => hierarchy,
        }
    }

    pub(crate) fn holder(&self) -> Option<&Holder> {
        match self {
            Self::Here(_) => None,
            Self::Holder(holder, _) => Some(holder),
        }
    }

    /// SIGTERM to each of the attempt's processes.
    pub(crate) fn terminate(
        &self,
        attempt: AttemptId,
        fence: &Fence,
        shim: Option<i32>,
    ) -> Result<(), LaunchError> {
        match self {
            Self::Here(_) => fence.signal(Signal::TERM, shim),
            Self::Holder(holder, ours) => {
                is_held(ours, attempt, fence)?;
                holder.do_(Op::Terminate { attempt })?;
            }
        }
        Ok(())
    }

    /// SIGKILL to all of the attempt's processes.
    pub(crate) fn kill(
        &self,
        attempt: AttemptId,
        fence: &Fence,
        shim: Option<i32>,
    ) -> Result<(), LaunchError> {
        match self {
            Self::Here(_) => fence.kill(shim),
            Self::Holder(holder, ours) => {
                is_held(ours, attempt, fence)?;
                holder.do_(Op::Kill { attempt })?;
            }
        }
        Ok(())
    }

    pub(crate) fn kill_shim(&self, attempt: AttemptId, shim: Identity) -> Result<(), LaunchError> {
        match self {
            Self::Here(_) => {
                if let Some(pid) = shim.as_pid().filter(|_| shim.is_alive()) {
                    process::kill(pid);
                }
                Ok(())
            }
            Self::Holder(holder, _) => holder.do_(Op::KillShim { attempt }),
        }
    }

    /// Removes the attempt's empty cgroup; one that is gone is fine.
    pub(crate) fn remove_cgroup(
        &self,
        attempt: AttemptId,
        fence: &Fence,
    ) -> Result<(), LaunchError> {
        match (self, fence) {
            (Self::Here(_), Fence::Cgroup { leaf }) => fence.remove().on("remove the cgroup", leaf),
            (Self::Holder(_, _), Fence::Cgroup { leaf }) if !leaf.exists() => Ok(()),
            (Self::Holder(holder, _), Fence::Cgroup { .. }) => {
                holder.do_(Op::RemoveCgroup { attempt })
            }
            (_, Fence::Marker { .. }) => Ok(()),
        }
    }

    /// Removes an attempt's directory, which need not be there.
    pub(crate) fn remove_dir(&self, attempt: AttemptId, dir: &Path) -> Result<(), LaunchError> {
        if let Self::Holder(holder, _) = self
            && dir.join("work").exists()
        {
            holder.do_(Op::Remove { attempt })?;
        }
        match std::fs::remove_dir_all(dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).on("remove", dir),
            _ => Ok(()),
        }
    }

    pub(crate) fn remove_unused(&self, keep: BTreeSet<String>) {
        match self {
            Self::Here(hierarchy) => hierarchy.remove_unused(&keep),
            Self::Holder(holder, _) => lazily(holder.do_(Op::RemoveUnused { keep })),
        }
    }

    pub(crate) fn release(&self) {
        match self {
            Self::Here(hierarchy) => hierarchy.release(),
            Self::Holder(holder, _) => lazily(holder.do_(Op::Release)),
        }
    }
}

/// Refuses an attempt that an agent without a holder had started: the holder knows its own cgroups.
fn is_held(ours: &Hierarchy, attempt: AttemptId, fence: &Fence) -> Result<(), LaunchError> {
    match fence {
        Fence::Cgroup { leaf } if ours.leaf(attempt).as_ref() == Some(leaf) => Ok(()),
        _ => Err(LaunchError::Refused {
            why: Why::OutsideRoot,
            message: format!(
                "attempt {attempt} was started before node.jobs_socket was set: unset it until that job has ended"
            ),
        }),
    }
}

/// What stays is looked at again at the next start.
fn lazily(done: Result<(), LaunchError>) {
    if let Err(error) = done {
        tracing::debug!(%error, "cgroups stay");
    }
}
