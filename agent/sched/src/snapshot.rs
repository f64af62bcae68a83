//! What a decision is made from.

use crate::select::Weights;
use gpuloom_fleet::{
    AttemptId, Bytes, DeviceGrant, DeviceId, GpuModel, GpuRequest, JobId, Millis, NodeId, PoolName,
    QuotaSpec, TenantName,
};
use std::collections::BTreeMap;

/// Everything [`crate::decide`] looks at.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Every node, whether it takes jobs or not.
    pub nodes: Vec<NodeView>,
    /// Every live attempt.
    pub held: Vec<Held>,
    /// Every job that could start now; the order does not matter.
    pub waiting: Vec<Waiting>,
    /// Every quota.
    pub quotas: Vec<QuotaSpec>,
    /// Each tenant's parent, where it has one.
    pub parents: BTreeMap<TenantName, TenantName>,
    /// Every pool, for reasons only: a pool that can grow explains a wait.
    pub pools: BTreeMap<PoolName, PoolView>,
    /// How devices that would do equally well are ranked.
    pub weights: Weights,
}

/// A node and its devices.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// Unique.
    pub id: NodeId,
    /// Its pool.
    pub pool: PoolName,
    /// Whether it takes new jobs.
    pub schedulable: bool,
    /// Its devices, in the machine's order.
    pub devices: Vec<DeviceView>,
}

/// A device, with its last reading where there is one.
#[derive(Debug, Clone)]
pub struct DeviceView {
    /// Unique.
    pub id: DeviceId,
    /// Short model name.
    pub model: GpuModel,
    /// Memory that jobs may hold.
    pub memory: Bytes,
    /// Whether it takes new jobs.
    pub healthy: bool,
    /// Memory used on it by processes that are no job of ours; it cannot be granted.
    pub foreign_memory: Bytes,
    /// Busy time in thousandths; `None` when not answered.
    pub utilization_milli: Option<u32>,
    /// Degrees Celsius; `None` when not answered.
    pub temperature_c: Option<i32>,
}

/// A live attempt and what it holds.
#[derive(Debug, Clone)]
pub struct Held {
    /// Which.
    pub attempt: AttemptId,
    /// Whose.
    pub tenant: TenantName,
    /// Its priority now.
    pub priority: i32,
    /// Where.
    pub node: NodeId,
    /// What.
    pub grants: Vec<DeviceGrant>,
    /// Since when; the youngest are preempted first.
    pub granted_at: Millis,
    /// Whether it was told to stop: what it holds will be free.
    pub stopping: bool,
    /// The job it was told to stop for, if one is to have its devices.
    pub freed_for: Option<JobId>,
}

/// A job that could start.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Which.
    pub job: JobId,
    /// Whose.
    pub tenant: TenantName,
    /// Larger first.
    pub priority: i32,
    /// Whether it may preempt jobs of lower priority.
    pub preempts: bool,
    /// Earlier first, within a priority.
    pub submitted_at: Millis,
    /// Only in this pool.
    pub pool: Option<PoolName>,
    /// What it needs.
    pub request: GpuRequest,
    /// Not before this moment (the wait before a retry).
    pub not_before: Option<Millis>,
}

/// What a pool could become.
#[derive(Debug, Clone)]
pub struct PoolView {
    /// Model of each GPU.
    pub model: GpuModel,
    /// GPUs on each node.
    pub per_node: u32,
    /// Nodes wanted now.
    pub wanted: u32,
    /// Most nodes.
    pub max: u32,
    /// Whether it is going away.
    pub withdrawing: bool,
}
