//! Jobs: what people submit, and where each one stands.
//!
//! ```text
//!             grant            node runs it          exit 0
//! Pending ------------> Active -----------> Active ---------> Succeeded
//!    ^                    | attempt ended: preempted, lost, or failed with retries left
//!    +--------------------+------------------------------------> Failed, TimedOut
//!    cancel: Pending -> Cancelled; Active -> (stopping) -> Cancelled
//! ```

use crate::attempt::Attempt;
use crate::device::GpuModel;
use crate::id::{JobId, PoolName, PriorityClassName, TenantName};
use crate::limits::{
    MAX_ARRAY, MAX_COMMAND_BYTES, MAX_DEPENDENCIES, MAX_DURATION_S, MAX_ENV_BYTES,
    MAX_GPUS_PER_NODE, MAX_RETRIES,
};
use crate::pool::check_labels;
use crate::problem::Problems;
use crate::unit::{Bytes, MilliGpu, Millis, Seconds};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// For people; need not be unique. At most 128 bytes.
    pub name: String,
    /// Who submits and is accounted for.
    pub tenant: TenantName,
    /// `None` means `normal`.
    pub priority_class: Option<PriorityClassName>,
    /// Run only in this pool; `None` means any.
    pub pool: Option<PoolName>,
    /// Program and arguments; the program is looked up in PATH.
    pub command: Vec<String>,
    /// Added to the job's environment.
    pub env: BTreeMap<String, String>,
    /// Absolute; `None` means a fresh directory of the attempt.
    pub workdir: Option<String>,
    /// What it needs of GPUs; unstated parts come from limit ranges, then one whole GPU.
    pub request: GpuRequest,
    /// Stopped when it runs longer.
    pub walltime: Option<Seconds>,
    /// How many more attempts after one that failed or was lost; preemption does not count.
    pub retries: u32,
    /// Submit this many jobs, each with its `GPULOOM_ARRAY_INDEX` from 0.
    pub array: Option<u32>,
    /// Wait for these jobs.
    pub depends_on: Vec<Dependency>,
    /// For filters and metrics.
    pub labels: BTreeMap<String, String>,
    /// How long it may take to stop after SIGTERM; `None` means its priority class's grace.
    pub grace: Option<Seconds>,
}

/// What a job needs of GPUs, all on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuRequest {
    /// Whole devices (1000, 2000, ...) or a share of one (1 to 999).
    pub gpus: Option<MilliGpu>,
    /// Memory on each device; `None` means all of a whole device, or the share's part of it.
    pub memory_per_gpu: Option<Bytes>,
    /// Only this model.
    pub model: Option<GpuModel>,
}

/// A job to wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The job; of an array, every element.
    pub job: JobId,
    /// How it must have ended.
    pub condition: DependencyCondition,
}

/// How a job waited for must have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependencyCondition {
    /// It succeeded; otherwise the waiting job is cancelled.
    #[default]
    Succeeded,
    /// It did not succeed; otherwise the waiting job is cancelled.
    Failed,
    /// It ended, however.
    Ended,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum JobState {
    /// Waits for a grant.
    Pending {
        /// Since when.
        since: Millis,
    },
    /// Its last attempt is granted and has not ended.
    Active {
        /// Whether the job ends as cancelled when the attempt has.
        cancelling: bool,
    },
    /// Its last attempt exited with 0.
    Succeeded {
        /// When.
        at: Millis,
    },
    /// Its last attempt ended otherwise and no retry is left.
    Failed {
        /// When.
        at: Millis,
    },
    /// Its walltime was over.
    TimedOut {
        /// When.
        at: Millis,
    },
    /// Somebody cancelled it, or its dependency can no longer be met.
    Cancelled {
        /// When.
        at: Millis,
    },
}

/// A job as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Unique in the fleet.
    pub id: JobId,
    /// What was submitted, with defaults filled in.
    pub spec: JobSpec,
    /// When it was accepted.
    pub submitted_at: Millis,
    /// Where it stands.
    pub state: JobState,
    /// Failures and losses counted against `retries`.
    pub failures: u32,
    /// How often it was preempted.
    pub preemptions: u32,
    /// Oldest first; at most the newest 20 are kept.
    pub attempts: Vec<Attempt>,
    /// Attempts made in all; the last attempt's number.
    pub attempts_made: u32,
}

// === impl JobState ===

impl JobState {
    /// True when nothing more will happen to the job.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending { .. } | Self::Active { .. })
    }

    /// One word for tables and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Active { .. } => "active",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::TimedOut { .. } => "timed_out",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

// === impl GpuRequest ===

impl GpuRequest {
    /// GPUs asked for, one whole device when unstated.
    pub fn gpus_or_one(&self) -> MilliGpu {
        self.gpus.unwrap_or(MilliGpu::ONE)
    }

    /// Devices the request spans: 1 for a share.
    pub fn devices(&self) -> u64 {
        self.gpus_or_one().0.div_ceil(1000)
    }

    /// Memory reserved on one device of `total` memory.
    pub fn memory_on(&self, total: Bytes) -> Bytes {
        let share = self.gpus_or_one().min(MilliGpu::ONE);
        self.memory_per_gpu.unwrap_or_else(|| total.share(share))
    }
}

// === impl JobSpec ===

impl JobSpec {
    /// Checks the spec by itself; tenants, classes and pools are checked where they are known.
    pub fn check(&self) -> Result<(), Problems> {
        let mut p = Problems::default();
        if self.name.len() > 128 || self.name.chars().any(char::is_control) {
            p.add(
                "name",
                &self.name,
                "is not a job name",
                "use at most 128 bytes without control characters",
            );
        }
        self.check_command(&mut p);
        self.check_request(&mut p);
        if let Some(dir) = &self.workdir
            && (!dir.starts_with('/') || dir.contains('\0'))
        {
            p.add("workdir", dir, "is not an absolute path", "start it with /");
        }
        p.range("retries", self.retries, 0, MAX_RETRIES);
        if let Some(n) = self.array {
            p.range("array", n, 1, MAX_ARRAY);
        }
        if let Some(s) = self.walltime {
            p.range("walltime", s.0, 1, MAX_DURATION_S);
        }
        if let Some(s) = self.grace {
            p.range("grace", s.0, 0, MAX_DURATION_S);
        }
        p.range("depends_on", self.depends_on.len(), 0, MAX_DEPENDENCIES);
        check_labels(&self.labels, &mut p);
        p.into_result()
    }

    fn check_command(&self, p: &mut Problems) {
        if self.command.first().is_none_or(String::is_empty) {
            p.add(
                "command",
                "",
                "is empty",
                "give the program to run and its arguments",
            );
        }
        let bytes: usize = self.command.iter().map(String::len).sum();
        p.range("command", bytes, 0, MAX_COMMAND_BYTES);
        if self.command.iter().any(|a| a.contains('\0')) {
            p.add("command", "", "holds a NUL byte", "remove it");
        }
        let bytes: usize = self.env.iter().map(|(k, v)| k.len() + v.len()).sum();
        p.range("env", bytes, 0, MAX_ENV_BYTES);
        for (key, value) in &self.env {
            if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
                p.add(
                    format!("env[{key:?}]"),
                    value,
                    "is not an environment variable",
                    "use NAME=value without NUL bytes",
                );
            }
            if key.starts_with("GPULOOM_") || key == "CUDA_VISIBLE_DEVICES" {
                p.add(
                    format!("env[{key:?}]"),
                    value,
                    "is set by the agent",
                    "leave it out",
                );
            }
        }
    }

    fn check_request(&self, p: &mut Problems) {
        if let Some(gpus) = self.request.gpus {
            let most = MilliGpu::whole(u64::from(MAX_GPUS_PER_NODE));
            p.range("gpus", gpus, MilliGpu(1), most);
            if gpus > MilliGpu::ONE && !gpus.is_whole() {
                p.add(
                    "gpus",
                    gpus,
                    "is neither a share of one GPU nor a whole number",
                    "use 0.001 to 1, or 2, 3, ...",
                );
            }
        }
        if self.request.memory_per_gpu == Some(Bytes(0)) {
            p.add(
                "gpu_memory",
                0,
                "is zero",
                "leave it out to get the share's part of the memory",
            );
        }
    }
}
