//! One attempt at a job, from its grant to its end.
//!
//! ```text
//! Granted -> Starting -> Running -> Ended
//!    |           |          |         ^
//!    +-----------+----------+-> Stopping (cancel, preemption, walltime, memory, drain)
//! ```

use crate::id::{DeviceId, NodeId};
use crate::unit::{Bytes, MilliGpu, Millis};
use serde::{Deserialize, Serialize};

/// What an attempt holds of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceGrant {
    /// The device.
    pub device: DeviceId,
    /// Its share, 1 to 1000.
    pub share: MilliGpu,
    /// Its hard memory limit on this device.
    pub memory: Bytes,
}

/// One attempt at a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counts up from 1 in each job.
    pub number: u32,
    /// Where it runs.
    pub node: NodeId,
    /// What it holds until it has ended.
    pub grants: Vec<DeviceGrant>,
    /// When it was granted.
    pub granted_at: Millis,
    /// Where it stands.
    pub state: AttemptState,
}

/// Where an attempt stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum AttemptState {
    /// Stored, not yet confirmed by its node.
    Granted,
    /// The node has it and prepares its processes.
    Starting,
    /// Its processes run.
    Running {
        /// Since when.
        since: Millis,
    },
    /// It was told to stop.
    Stopping {
        /// When it began to run, if it did.
        since: Option<Millis>,
        /// Why.
        cause: StopCause,
        /// When it was told.
        at: Millis,
    },
    /// Every process of it is gone and its devices are free.
    Ended(AttemptEnd),
}

/// Why an attempt is made to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum StopCause {
    /// Somebody cancelled the job.
    Cancelled {
        /// Who.
        by: String,
    },
    /// A job of higher priority needs its devices.
    Preempted {
        /// That job.
        by: crate::id::JobId,
    },
    /// A tenant below its guarantee needs its devices.
    Reclaimed {
        /// That tenant's job.
        by: crate::id::JobId,
    },
    /// Its tenant's limit was lowered below its use.
    OverQuota {
        /// The quota.
        quota: crate::id::QuotaName,
    },
    /// Its walltime is over.
    Walltime,
    /// It used more device memory than it holds.
    MemoryExceeded {
        /// The device.
        device: DeviceId,
        /// What it used.
        used: Bytes,
        /// What it holds.
        limit: Bytes,
    },
    /// Its node or pool is going away.
    Drained,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// When it began to run, if it did.
    pub started_at: Option<Millis>,
    /// When it ended.
    pub ended_at: Millis,
    /// How its first process ended, when known.
    pub exit: Option<Exit>,
    /// What ended it.
    pub cause: EndCause,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this exit status, 0 to 255.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// What ended an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum EndCause {
    /// Its process exited by itself.
    Exited,
    /// It was stopped.
    Stopped {
        /// Why.
        why: StopCause,
    },
    /// It could not be started.
    LaunchFailed {
        /// What was tried, and what to do.
        message: String,
    },
    /// Its processes are gone and nobody saw how they ended (reboot, node terminated).
    Lost {
        /// What is known.
        message: String,
    },
}

// === impl Attempt ===

impl Attempt {
    /// True until the attempt has ended: it holds its grants.
    pub fn is_live(&self) -> bool {
        !matches!(self.state, AttemptState::Ended(_))
    }

    /// True once it has been told to stop and has not ended.
    pub fn is_stopping(&self) -> bool {
        matches!(self.state, AttemptState::Stopping { .. })
    }
}

// === impl StopCause ===

impl std::fmt::Display for StopCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cancelled { by } => write!(f, "cancelled by {by}"),
            Self::Preempted { by } => write!(f, "preempted by job {by} of higher priority"),
            Self::Reclaimed { by } => {
                write!(
                    f,
                    "reclaimed for job {by}, whose tenant is below its guarantee"
                )
            }
            Self::OverQuota { quota } => write!(f, "quota {quota} was lowered below its use"),
            Self::Walltime => f.write_str("its walltime was over"),
            Self::MemoryExceeded {
                device,
                used,
                limit,
            } => {
                write!(
                    f,
                    "used {used} of memory on {device}, above its limit of {limit}"
                )
            }
            Self::Drained => f.write_str("its node or pool is going away"),
        }
    }
}
