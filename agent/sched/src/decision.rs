//! What was decided, and why: nothing is granted, stopped or refused without a reason.

use gpuloom_fleet::{
    AttemptId, Bytes, DeviceGrant, JobId, MilliGpu, Millis, NodeId, PoolName, QuotaName, StopCause,
    TenantName,
};
use std::fmt;

/// What to do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Jobs to start.
    pub grants: Vec<Grant>,
    /// Attempts to stop.
    pub preemptions: Vec<Preemption>,
    /// Jobs that go on waiting, most urgent first.
    pub refusals: Vec<Refusal>,
    /// When to decide again even if nothing changes.
    pub wake_at: Option<Millis>,
}

/// A job and what it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Which job.
    pub job: JobId,
    /// Where.
    pub node: NodeId,
    /// What; all on one node.
    pub grants: Vec<DeviceGrant>,
}

/// An attempt to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preemption {
    /// Which.
    pub victim: AttemptId,
    /// Why: `Preempted`, `Reclaimed` or `OverQuota`.
    pub cause: StopCause,
}

/// A job that goes on waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub job: JobId,
    /// Why.
    pub reason: Reason,
}

/// What a quota counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// GPUs, in thousandths.
    Gpus,
    /// GPU memory, in bytes.
    GpuMemory,
}

/// Why a job waits. Its text says what would unblock it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A quota's limit would be exceeded.
    OverLimit {
        /// Which quota.
        quota: QuotaName,
        /// Whose.
        tenant: TenantName,
        /// Of what.
        resource: Resource,
        /// Held now.
        used: u64,
        /// Asked for.
        asked: u64,
        /// The limit.
        limit: u64,
    },
    /// A quota's soft limit would be exceeded while others wait.
    OverSoftLimit {
        /// Which quota.
        quota: QuotaName,
        /// Of what.
        resource: Resource,
        /// Held now.
        used: u64,
        /// The soft limit.
        limit: u64,
        /// A job of another tenant that waits.
        other: JobId,
    },
    /// A quota with `on_excess = "drain"` is exceeded.
    Draining {
        /// Which quota.
        quota: QuotaName,
    },
    /// Devices are being freed for it.
    WaitsForVictims {
        /// Attempts that were told to stop.
        victims: Vec<AttemptId>,
    },
    /// Nodes that could run it are full.
    NoFreeDevice {
        /// Devices asked for.
        devices: u64,
        /// Share of each.
        share: MilliGpu,
        /// Memory of each, where stated.
        memory: Option<Bytes>,
        /// The most devices that fit it on any one node now.
        best: u64,
        /// A pool that may still grow.
        growable: Option<PoolName>,
    },
    /// No node takes jobs (none exists, or all are cordoned, draining or silent).
    NoNode {
        /// The pool asked for, if any.
        pool: Option<PoolName>,
        /// A pool that may still grow.
        growable: Option<PoolName>,
    },
    /// No node, even empty, could run it.
    NeverFits {
        /// What is asked for and what is largest.
        message: String,
        /// A pool whose future nodes could run it.
        growable: Option<PoolName>,
    },
    /// It waits before its next attempt.
    Backoff {
        /// Until when.
        until: Millis,
    },
    /// Not looked at: too many jobs wait before it.
    QueueTooLong {
        /// How many are looked at in one decision.
        limit: usize,
    },
}

// === impl Reason ===

fn amount(resource: Resource, n: u64) -> String {
    match resource {
        Resource::Gpus if n == 1000 => "1 GPU".to_owned(),
        Resource::Gpus => format!("{} GPUs", MilliGpu(n)),
        Resource::GpuMemory => format!("{} of GPU memory", Bytes(n)),
    }
}

fn growth(f: &mut fmt::Formatter<'_>, growable: Option<&PoolName>) -> fmt::Result {
    match growable {
        Some(pool) => write!(f, "; pool {pool} may still grow"),
        None => Ok(()),
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverLimit {
                quota,
                tenant,
                resource,
                used,
                asked,
                limit,
            } => write!(
                f,
                "quota {quota} limits tenant {tenant} to {}: it holds {} and this job asks for {}; it starts when enough of the tenant's jobs end, or when the limit is raised",
                amount(*resource, *limit),
                amount(*resource, *used),
                amount(*resource, *asked),
            ),
            Self::OverSoftLimit {
                quota,
                resource,
                used,
                limit,
                other,
            } => write!(
                f,
                "quota {quota} softly limits it to {} (held: {}) and job {other} of another tenant waits; it starts when that job has started or the tenant holds less",
                amount(*resource, *limit),
                amount(*resource, *used),
            ),
            Self::Draining { quota } => write!(
                f,
                "quota {quota} is exceeded and its on_excess is drain: the tenant starts nothing until its use is within the limit"
            ),
            Self::WaitsForVictims { victims } => {
                f.write_str("devices are being freed for it: ")?;
                for (i, v) in victims.iter().enumerate() {
                    write!(f, "{}{v}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(if victims.len() == 1 {
                    " is stopping"
                } else {
                    " are stopping"
                })
            }
            Self::NoFreeDevice {
                devices,
                share,
                memory,
                best,
                growable,
            } => {
                write!(
                    f,
                    "no node has {devices} free GPU{} ",
                    if *devices == 1 { "" } else { "s" }
                )?;
                if *share < MilliGpu::ONE {
                    write!(f, "with a share of {share} ")?;
                }
                if let Some(m) = memory {
                    write!(f, "and {m} of memory on each ")?;
                }
                write!(f, "now (most on one node: {best}); it starts when jobs end")?;
                growth(f, growable.as_ref())
            }
            Self::NoNode {
                pool: Some(pool),
                growable,
            } => {
                write!(f, "pool {pool} has no node that takes jobs")?;
                growth(f, growable.as_ref())
            }
            Self::NoNode {
                pool: None,
                growable,
            } => {
                f.write_str("the fleet has no node that takes jobs")?;
                growth(f, growable.as_ref())
            }
            Self::NeverFits { message, growable } => {
                write!(f, "{message}")?;
                growth(f, growable.as_ref())
            }
            Self::Backoff { until } => {
                write!(f, "waits before its next attempt until {} ms", until.0)
            }
            Self::QueueTooLong { limit } => {
                write!(f, "more than {limit} jobs wait before it")
            }
        }
    }
}
