//! What people and Terraform read of nodes and tenants.

use crate::device::{Backend, Device};
use crate::id::{NodeId, PoolName, TenantName};
use crate::tenant::Resources;
use crate::unit::{Bytes, MilliGpu, Millis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether a node takes jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Joined; has not reported since the lead started, or ever.
    Joining,
    /// Takes jobs.
    Ready,
    /// Takes no new jobs; running ones go on.
    Cordoned,
    /// Takes no new jobs and ends when the running ones have.
    Draining,
    /// Silent; takes no new jobs, its jobs are not given up.
    Suspect,
    /// Its GPU driver does not answer; takes no new jobs.
    DriverUnresponsive,
}

/// A node as the lead sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Unique in the fleet.
    pub id: NodeId,
    /// Its pool.
    pub pool: PoolName,
    /// Whether it takes jobs.
    pub state: NodeState,
    /// Why it is not ready; empty when it is.
    pub reason: String,
    /// Host and port of its own API.
    pub endpoint: String,
    /// Where its readings come from.
    pub backend: Backend,
    /// Its GPUs.
    pub devices: Vec<Device>,
    /// What the host can enforce, e.g. `cgroup_v2`, `cgroup_kill`; and what it cannot, with why.
    pub capabilities: BTreeMap<String, String>,
    /// Version of its agent.
    pub agent_version: String,
    /// When it last reported.
    pub last_seen: Option<Millis>,
    /// When it joined.
    pub joined_at: Millis,
}

/// What a tenant uses and may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantUsage {
    /// The tenant.
    pub tenant: TenantName,
    /// `None`: over the whole fleet.
    pub pool: Option<PoolName>,
    /// GPUs held by it and its children.
    pub gpus: MilliGpu,
    /// GPU memory held by it and its children.
    pub gpu_memory: Bytes,
    /// Its jobs waiting.
    pub pending: u64,
    /// Its jobs with a live attempt.
    pub active: u64,
    /// The quota that applies, if any.
    pub guaranteed: Resources,
    /// See [`crate::QuotaSpec::limit`].
    pub limit: Resources,
    /// See [`crate::QuotaSpec::soft_limit`].
    pub soft_limit: Resources,
}
