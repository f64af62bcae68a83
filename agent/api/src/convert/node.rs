//! Devices, nodes and usage.

use super::object::resources;
use super::{Fields, sorted, unsorted};
use crate::proto;
use gpuloom_fleet::{
    Backend, Bytes, Device, DeviceHealth, MilliGpu, NodeState, NodeStatus, Problems, TenantUsage,
};

// === Device ===

impl From<&Device> for proto::Device {
    fn from(d: &Device) -> Self {
        Self {
            id: d.id.to_string(),
            index: d.index,
            model: d.model.to_string(),
            product: d.product.clone(),
            memory_bytes: d.memory.0,
            compute_capability: d.compute_capability.clone(),
            pci: d.pci.clone(),
            numa: d.numa,
        }
    }
}

impl TryFrom<proto::Device> for Device {
    type Error = Problems;

    fn try_from(d: proto::Device) -> Result<Self, Problems> {
        let mut f = Fields::default();
        let id = f.id("id", &d.id);
        let model = f.id("model", &d.model);
        let device = (|| {
            Some(Self {
                id: id?,
                index: d.index,
                model: model?,
                product: d.product,
                memory: Bytes(d.memory_bytes),
                compute_capability: d.compute_capability,
                pci: d.pci,
                numa: d.numa,
            })
        })();
        f.finish(device)
    }
}

// === words ===

/// The word for a node's state on the wire.
pub const fn node_state_word(state: NodeState) -> &'static str {
    match state {
        NodeState::Joining => "joining",
        NodeState::Ready => "ready",
        NodeState::Cordoned => "cordoned",
        NodeState::Draining => "draining",
        NodeState::Suspect => "suspect",
        NodeState::DriverUnresponsive => "driver_unresponsive",
    }
}

/// The word for a device's health on the wire.
pub const fn device_health_word(health: DeviceHealth) -> &'static str {
    match health {
        DeviceHealth::Healthy => "healthy",
        DeviceHealth::Degraded => "degraded",
        DeviceHealth::Failed => "failed",
    }
}

const fn backend_word(backend: Backend) -> &'static str {
    match backend {
        Backend::Nvml => "nvml",
        Backend::Simulated => "simulated",
    }
}

// === NodeStatus ===

/// The view of a node. Its devices start as healthy, holding nothing and without a reading: the
/// lead fills in what it knows of each, in the order of `status.devices`.
pub fn node_view(status: &NodeStatus) -> proto::NodeView {
    let device = |d: &Device| proto::DeviceView {
        device: Some(d.into()),
        node: status.id.to_string(),
        health: device_health_word(DeviceHealth::Healthy).to_owned(),
        health_reason: String::new(),
        share_held_milli: 0,
        memory_held_bytes: 0,
        attempts: Vec::new(),
        reading: None,
    };
    proto::NodeView {
        id: status.id.to_string(),
        pool: status.pool.to_string(),
        state: node_state_word(status.state).to_owned(),
        reason: status.reason.clone(),
        endpoint: status.endpoint.clone(),
        backend: backend_word(status.backend).to_owned(),
        devices: status.devices.iter().map(device).collect(),
        capabilities: unsorted(&status.capabilities),
        agent_version: status.agent_version.clone(),
        last_seen_ms: status.last_seen.map(|m| m.0),
        joined_at_ms: status.joined_at.0,
    }
}

impl TryFrom<proto::NodeView> for NodeStatus {
    type Error = Problems;

    fn try_from(v: proto::NodeView) -> Result<Self, Problems> {
        let mut f = Fields::default();
        let id = f.id("id", &v.id);
        let pool = f.id("pool", &v.pool);
        let state = word(
            &mut f,
            "state",
            &v.state,
            node_state_word,
            &[
                NodeState::Joining,
                NodeState::Ready,
                NodeState::Cordoned,
                NodeState::Draining,
                NodeState::Suspect,
                NodeState::DriverUnresponsive,
            ],
        );
        let backends = [Backend::Nvml, Backend::Simulated];
        let backend = word(&mut f, "backend", &v.backend, backend_word, &backends);
        let mut devices = Vec::with_capacity(v.devices.len());
        for (i, view) in v.devices.into_iter().enumerate() {
            match view.device.unwrap_or_default().try_into() {
                Ok(device) => devices.push(device),
                Err(Problems(problems)) => f.0.0.extend(problems.into_iter().map(|mut p| {
                    p.field = format!("devices[{i}].{}", p.field);
                    p
                })),
            }
        }
        let status = (|| {
            Some(Self {
                id: id?,
                pool: pool?,
                state: state?,
                reason: v.reason,
                endpoint: v.endpoint,
                backend: backend?,
                devices,
                capabilities: sorted(v.capabilities),
                agent_version: v.agent_version,
                last_seen: v.last_seen_ms.map(gpuloom_fleet::Millis),
                joined_at: gpuloom_fleet::Millis(v.joined_at_ms),
            })
        })();
        f.finish(status)
    }
}

fn word<T: Copy>(
    f: &mut Fields,
    field: &str,
    text: &str,
    name: impl Fn(T) -> &'static str,
    all: &[T],
) -> Option<T> {
    let found = all.iter().copied().find(|t| name(*t) == text);
    if found.is_none() {
        let fix = "upgrade this program to the fleet's version";
        f.0.add(field, text, "is not known to this program", fix);
    }
    found
}

// === TenantUsage ===

impl From<&TenantUsage> for proto::Usage {
    fn from(u: &TenantUsage) -> Self {
        Self {
            tenant: u.tenant.to_string(),
            pool: u.pool.as_ref().map(ToString::to_string),
            gpus_milli: u.gpus.0,
            gpu_memory_bytes: u.gpu_memory.0,
            pending: u.pending,
            active: u.active,
            guaranteed: Some((&u.guaranteed).into()),
            limit: Some((&u.limit).into()),
            soft_limit: Some((&u.soft_limit).into()),
        }
    }
}

/// The usage in a message.
pub fn usage(u: proto::Usage) -> Result<TenantUsage, Problems> {
    let mut f = Fields::default();
    let tenant = f.id("tenant", &u.tenant);
    let pool = f.optional_id("pool", u.pool.as_deref());
    let read = (|| {
        Some(TenantUsage {
            tenant: tenant?,
            pool: pool?,
            gpus: MilliGpu(u.gpus_milli),
            gpu_memory: Bytes(u.gpu_memory_bytes),
            pending: u.pending,
            active: u.active,
            guaranteed: resources(u.guaranteed),
            limit: resources(u.limit),
            soft_limit: resources(u.soft_limit),
        })
    })();
    f.finish(read)
}
