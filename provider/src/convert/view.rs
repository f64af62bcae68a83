//! Nodes, devices and jobs as data sources show them.

use gpuloom_api::proto;
use gpuloom_fleet::Bytes;
use tfplug::Value;

use super::quantity::{about_gib, gib_from_bytes, number_from_milli};

/// Text that says something, or null.
fn said(text: &str) -> Value {
    if text.is_empty() {
        Value::Null
    } else {
        text.into()
    }
}

/// A node.
pub(crate) fn node_value(node: &proto::NodeView) -> Value {
    let gpus = u32::try_from(node.devices.len()).unwrap_or(u32::MAX);
    let capabilities = node
        .capabilities
        .iter()
        .map(|(k, v)| (k.clone(), v.as_str()));
    Value::object([
        ("id", Value::from(node.id.as_str())),
        ("pool", node.pool.as_str().into()),
        ("state", node.state.as_str().into()),
        ("reason", said(&node.reason)),
        ("endpoint", said(&node.endpoint)),
        ("backend", node.backend.as_str().into()),
        ("agent_version", node.agent_version.as_str().into()),
        ("gpus", gpus.into()),
        ("capabilities", Value::map(capabilities)),
    ])
}

/// A device of a node. What was not read is null.
pub(crate) fn device_value(node: &proto::NodeView, view: &proto::DeviceView) -> Value {
    let device = view.device.clone().unwrap_or_default();
    let reading = view.reading.clone().unwrap_or_default();
    let whole = |milli: Option<u32>| milli.map_or(Value::Null, |m| number_from_milli(m.into()));
    let watts = |mw: Option<u64>| mw.map_or(Value::Null, number_from_milli);
    Value::object([
        ("id", Value::from(device.id.as_str())),
        ("node", node.id.as_str().into()),
        ("pool", node.pool.as_str().into()),
        ("index", device.index.into()),
        ("model", device.model.as_str().into()),
        ("product", said(&device.product)),
        ("memory_gib", gib_from_bytes(Bytes(device.memory_bytes))),
        ("compute_capability", device.compute_capability.into()),
        ("health", view.health.as_str().into()),
        ("health_reason", said(&view.health_reason)),
        ("gpus_held", number_from_milli(view.share_held_milli)),
        (
            "memory_held_gib",
            gib_from_bytes(Bytes(view.memory_held_bytes)),
        ),
        (
            "attempts",
            Value::list(view.attempts.iter().map(String::as_str)),
        ),
        ("utilization", whole(reading.utilization_milli)),
        (
            "memory_used_gib",
            reading.memory_used_bytes.map_or(Value::Null, about_gib),
        ),
        ("temperature_c", reading.temperature_c.into()),
        ("power_w", watts(reading.power_mw)),
        ("power_limit_w", watts(reading.power_limit_mw)),
    ])
}

/// A job that waits or runs.
pub(crate) fn job_value(job: &proto::JobView) -> Value {
    let spec = job.spec.clone().unwrap_or_default();
    let gpus = spec.gpus_milli.map_or(Value::Null, number_from_milli);
    Value::object([
        ("id", Value::from(job.id.as_str())),
        ("name", said(&spec.name)),
        ("tenant", spec.tenant.as_str().into()),
        ("pool", spec.pool.into()),
        ("priority_class", spec.priority_class.into()),
        ("priority", job.priority.into()),
        ("state", job.state.as_str().into()),
        ("gpus", gpus),
        ("position", job.position.into()),
        ("why", Value::list(job.why.iter().map(String::as_str))),
    ])
}
