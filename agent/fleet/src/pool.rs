//! A pool: like nodes of one place, whose number follows its load within declared bounds.

use crate::device::GpuModel;
use crate::id::PoolName;
use crate::limits::{MAX_DURATION_S, MAX_GPUS_PER_NODE, MAX_LABELS, MAX_POOL_NODES};
use crate::place::PoolPlace;
use crate::problem::Problems;
use crate::unit::{Millis, Seconds};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What is declared of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSpec {
    /// Unique in the fleet.
    pub name: PoolName,
    /// The GPUs of each node.
    pub gpu: GpuShape,
    /// Where nodes come from.
    pub place: PoolPlace,
    /// Fewest nodes; the lead keeps restoring them.
    pub min: u32,
    /// Most nodes.
    pub max: u32,
    /// Nodes wanted when the pool is created; `None` means `min`.
    pub initial_size: Option<u32>,
    /// What to do when fewer nodes can be had.
    pub capacity: Capacity,
    /// What happens to running jobs when the pool is withdrawn.
    pub on_destroy: OnDestroy,
    /// Seen on nodes, metrics and instance tags.
    pub labels: BTreeMap<String, String>,
    /// How nodes of an older revision are replaced.
    #[serde(default)]
    pub update: RollingUpdate,
}

/// The GPUs of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuShape {
    /// Model, e.g. `T4`, `A100-80G`, `H100`.
    pub model: GpuModel,
    /// GPUs on each node, 1 to 64.
    pub per_node: u32,
}

/// What to do when fewer nodes than wanted can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// See [`OnShortfall`].
    pub on_shortfall: OnShortfall,
    /// How long creation waits for the first size, 1 s to 1 year.
    pub max_wait: Seconds,
    /// Of the nodes above `on_demand_base`, how many thousandths are bought as spot, 0 to 1000; rounded down.
    #[serde(default)]
    pub spot_ratio_milli: u32,
    /// So many nodes are on-demand before spot begins.
    #[serde(default)]
    pub on_demand_base: u32,
}

/// How nodes are replaced when what they are made of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollingUpdate {
    /// Most nodes that are away at a time, 1 to 1000.
    pub max_unavailable: u32,
}

/// Whether a pool with too few nodes is an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnShortfall {
    /// Creation fails and leaves nothing.
    #[default]
    Fail,
    /// Creation succeeds with a warning; the lead keeps trying.
    Degrade,
}

/// What happens to running jobs when a pool is withdrawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDestroy {
    /// Nothing new starts; nodes end when their jobs have.
    #[default]
    Drain,
    /// Jobs are stopped with their grace and wait for another pool.
    Kill,
    /// Withdrawal is refused while jobs run.
    Refuse,
}

/// Where a pool stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolPhase {
    /// Nodes are being launched for the first time.
    #[default]
    Provisioning,
    /// Every wanted node is ready.
    Ready,
    /// Fewer nodes than wanted; the lead keeps trying.
    Degraded,
    /// Withdrawn; nodes are ending.
    Draining,
}

/// What a pool has, as the lead sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Nodes wanted now, between the pool's min and max.
    pub wanted: u32,
    /// Instances that exist.
    pub provisioned: u32,
    /// Nodes that are joined and take jobs.
    pub ready: u32,
    /// Where the pool stands.
    pub phase: PoolPhase,
    /// Why there are fewer nodes than wanted, and what would help; empty when there are enough.
    pub shortfall: String,
    /// When `wanted` last changed.
    pub changed_at: Millis,
    /// Why `wanted` last changed.
    pub change_reason: String,
}

// === impl Capacity, RollingUpdate ===

impl Default for RollingUpdate {
    /// One node at a time.
    fn default() -> Self {
        Self { max_unavailable: 1 }
    }
}

impl Capacity {
    /// Of `wanted` nodes, how many are bought as spot.
    pub fn spot_of(&self, wanted: u32) -> u32 {
        let above = u64::from(wanted.saturating_sub(self.on_demand_base));
        let spot = above * u64::from(self.spot_ratio_milli.min(1000)) / 1000;
        u32::try_from(spot).unwrap_or(u32::MAX)
    }
}

// === impl PoolSpec ===

impl PoolSpec {
    /// Nodes wanted when the pool is created.
    pub fn first_size(&self) -> u32 {
        self.initial_size
            .unwrap_or(self.min)
            .clamp(self.min, self.max)
    }

    /// What its nodes are made of, as 12 hex digits: a node that carries another one is replaced. Follows the place
    /// (without its endpoint), the GPUs and the labels; not names, sizes and waits.
    pub fn revision(&self) -> String {
        let made_of = (self.place.without_endpoint(), &self.gpu, &self.labels);
        // These types always serialize: text keys, no floats.
        let text = serde_json::to_vec(&made_of).unwrap_or_default();
        let digest = Sha256::digest(&text);
        digest[..6].iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Checks the spec by itself.
    pub fn check(&self) -> Result<(), Problems> {
        let mut p = Problems::default();
        p.range("gpu.per_node", self.gpu.per_node, 1, MAX_GPUS_PER_NODE);
        p.range("autoscaling.max", self.max, 1, MAX_POOL_NODES);
        if self.min > self.max {
            let message = format!("is above autoscaling.max ({})", self.max);
            p.add(
                "autoscaling.min",
                self.min,
                message,
                "lower min or raise max",
            );
        }
        if let Some(size) = self.initial_size
            && !(self.min..=self.max).contains(&size)
        {
            let message = format!("is outside autoscaling ({} to {})", self.min, self.max);
            p.add(
                "initial_size",
                size,
                message,
                "choose a size within the bounds",
            );
        }
        p.range(
            "capacity.max_wait",
            self.capacity.max_wait.0,
            1,
            MAX_DURATION_S,
        );
        let ratio = self.capacity.spot_ratio_milli;
        p.range("capacity.spot_ratio", ratio, 0, 1000);
        let base = self.capacity.on_demand_base;
        p.range("capacity.on_demand_base", base, 0, MAX_POOL_NODES);
        if !self.place.is_cloud() && ratio > 0 {
            let message = format!("is for clouds; this pool's place is {}", self.place.kind());
            p.add(
                "capacity.spot_ratio",
                ratio,
                message,
                "leave it out, or give the pool an aws, gcp or azure block",
            );
        }
        let away = self.update.max_unavailable;
        p.range("update.max_unavailable", away, 1, MAX_POOL_NODES);
        self.place.check(&mut p);
        check_labels(&self.labels, &mut p);
        p.into_result()
    }
}

/// Labels: at most 64, keys as names with dots, slashes and underscores, values up to 128 bytes.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>, p: &mut Problems) {
    check_labels_at("labels", labels, p);
}

/// The same for labels of another name.
pub(crate) fn check_labels_at(field: &str, labels: &BTreeMap<String, String>, p: &mut Problems) {
    p.range(field, labels.len(), 0, MAX_LABELS);
    for (key, value) in labels {
        let good_key = !key.is_empty()
            && key.len() <= 63
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
        if !good_key {
            let fix = "use 1 to 63 letters, digits, '-', '_', '.' and '/'";
            p.add(format!("{field}[{key:?}]"), key, "is not a label key", fix);
        }
        if value.len() > 128 || value.chars().any(char::is_control) {
            let fix = "use at most 128 bytes without control characters";
            p.add(
                format!("{field}[{key:?}]"),
                value,
                "is not a label value",
                fix,
            );
        }
    }
}
