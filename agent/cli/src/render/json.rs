//! JSON for programs. Names are snake_case with the unit last; what is unknown is `null`, never
//! zero; times are milliseconds since the Unix epoch. Within a major version nothing is renamed
//! or removed.

use super::objects::phase_word;
use gpuloom_api::ObjectView;
use gpuloom_api::proto::{
    AttemptView, DeviceView, JobSpec, JobView, NodeView, PoolView, Reading, Resources, Top, Usage,
};
use gpuloom_fleet::{DependencyCondition, Object, PoolPlace, Resources as Amounts};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) fn list<T>(items: &[T], one: fn(&T) -> Value) -> Value {
    items.iter().map(one).collect()
}

pub(crate) fn job(j: &JobView) -> Value {
    json!({
        "id": j.id,
        "state": j.state,
        "state_since_ms": j.state_since_ms,
        "submitted_at_ms": j.submitted_at_ms,
        "priority": j.priority,
        "failures": j.failures,
        "preemptions": j.preemptions,
        "why": j.why,
        "position": j.position,
        "memory_used_bytes": j.memory_used_bytes,
        "spec": j.spec.as_ref().map(spec),
        "attempts": list(&j.attempts, attempt),
    })
}

fn spec(s: &JobSpec) -> Value {
    let depends_on: Value = s
        .depends_on
        .iter()
        .map(|d| json!({ "job": d.job, "condition": condition(d.condition) }))
        .collect();
    json!({
        "name": s.name,
        "tenant": s.tenant,
        "priority_class": s.priority_class,
        "pool": s.pool,
        "command": s.command,
        "env": s.env.iter().collect::<BTreeMap<_, _>>(),
        "workdir": s.workdir,
        "gpus_milli": s.gpus_milli,
        "memory_per_gpu_bytes": s.memory_per_gpu_bytes,
        "gpu_model": s.gpu_model,
        "walltime_s": s.walltime_s,
        "retries": s.retries,
        "array": s.array,
        "depends_on": depends_on,
        "labels": s.labels.iter().collect::<BTreeMap<_, _>>(),
        "grace_s": s.grace_s,
    })
}

fn condition(number: i32) -> Value {
    use gpuloom_api::proto::dependency::Condition;
    let condition = match Condition::try_from(number) {
        Ok(Condition::Succeeded) => Some(DependencyCondition::Succeeded),
        Ok(Condition::Failed) => Some(DependencyCondition::Failed),
        Ok(Condition::Ended) => Some(DependencyCondition::Ended),
        Ok(Condition::Unspecified) | Err(_) => None,
    };
    json!(condition)
}

fn attempt(a: &AttemptView) -> Value {
    let grants: Value = a
        .grants
        .iter()
        .map(|g| {
            json!({
                "device": g.device,
                "share_milli": g.share_milli,
                "memory_bytes": g.memory_bytes,
            })
        })
        .collect();
    json!({
        "number": a.number,
        "node": a.node,
        "state": a.state,
        "granted_at_ms": a.granted_at_ms,
        "started_at_ms": a.started_at_ms,
        "ended_at_ms": a.ended_at_ms,
        "exit_code": a.exit_code,
        "signal": a.signal,
        "reason": a.reason,
        "grants": grants,
    })
}

pub(crate) fn node(n: &NodeView) -> Value {
    json!({
        "id": n.id,
        "pool": n.pool,
        "state": n.state,
        "reason": n.reason,
        "endpoint": n.endpoint,
        "backend": n.backend,
        "agent_version": n.agent_version,
        "last_seen_ms": n.last_seen_ms,
        "joined_at_ms": n.joined_at_ms,
        "capabilities": n.capabilities.iter().collect::<BTreeMap<_, _>>(),
        "devices": list(&n.devices, device),
    })
}

pub(crate) fn device(v: &DeviceView) -> Value {
    let d = v.device.as_ref();
    json!({
        "id": d.map(|d| &d.id),
        "node": v.node,
        "index": d.map(|d| d.index),
        "model": d.map(|d| &d.model),
        "product": d.map(|d| &d.product),
        "memory_bytes": d.map(|d| d.memory_bytes),
        "compute_capability": d.and_then(|d| d.compute_capability.as_ref()),
        "pci": d.and_then(|d| d.pci.as_ref()),
        "numa": d.and_then(|d| d.numa),
        "health": v.health,
        "health_reason": v.health_reason,
        "share_held_milli": v.share_held_milli,
        "memory_held_bytes": v.memory_held_bytes,
        "attempts": v.attempts,
        "reading": v.reading.as_ref().map(reading),
    })
}

pub(crate) fn reading(r: &Reading) -> Value {
    let processes: Value = r
        .processes
        .iter()
        .map(|p| json!({ "pid": p.pid, "memory_bytes": p.memory_bytes, "attempt": p.attempt }))
        .collect();
    json!({
        "device": r.device,
        "at_ms": r.at_ms,
        "utilization_milli": r.utilization_milli,
        "memory_used_bytes": r.memory_used_bytes,
        "memory_total_bytes": r.memory_total_bytes,
        "temperature_c": r.temperature_c,
        "power_mw": r.power_mw,
        "power_limit_mw": r.power_limit_mw,
        "sm_clock_mhz": r.sm_clock_mhz,
        "ecc_uncorrected": r.ecc_uncorrected,
        "lost": r.lost,
        "processes": processes,
    })
}

pub(crate) fn usage(u: &Usage) -> Value {
    json!({
        "tenant": u.tenant,
        "pool": u.pool,
        "gpus_milli": u.gpus_milli,
        "gpu_memory_bytes": u.gpu_memory_bytes,
        "pending": u.pending,
        "active": u.active,
        "guaranteed": resources(u.guaranteed.as_ref()),
        "limit": resources(u.limit.as_ref()),
        "soft_limit": resources(u.soft_limit.as_ref()),
    })
}

fn resources(r: Option<&Resources>) -> Value {
    json!({
        "gpus_milli": r.and_then(|r| r.gpus_milli),
        "gpu_memory_bytes": r.and_then(|r| r.gpu_memory_bytes),
    })
}

pub(crate) fn top(t: &Top) -> Value {
    json!({
        "fleet": t.fleet,
        "at_ms": t.at_ms,
        "jobs_pending": t.jobs_pending,
        "jobs_active": t.jobs_active,
        "gpus_total": t.gpus_total,
        "gpus_held_milli": t.gpus_held_milli,
        "utilization_mean_milli": t.utilization_mean_milli,
        "memory_total_bytes": t.memory_total_bytes,
        "memory_held_bytes": t.memory_held_bytes,
        "memory_used_bytes": t.memory_used_bytes,
        "temperature_max_c": t.temperature_max_c,
        "power_total_mw": t.power_total_mw,
        "nodes": list(&t.nodes, node),
        "usage": list(&t.usage, usage),
    })
}

pub(crate) fn pool_view(p: &PoolView) -> Value {
    json!({
        "wanted": p.wanted,
        "provisioned": p.provisioned,
        "ready": p.ready,
        "phase": phase_word(p),
        "shortfall": p.shortfall,
        "changed_at_ms": p.changed_at_ms,
        "change_reason": p.change_reason,
        "nodes": p.nodes,
        "running_jobs": p.running_jobs,
        "gone": p.gone,
    })
}

pub(crate) fn object(v: &ObjectView) -> Value {
    json!({
        "kind": v.object.kind().as_str(),
        "name": v.object.name(),
        "generation": v.generation,
        "owner": v.owner,
        "withdrawing": v.withdrawing,
        "builtin": v.builtin,
        "declared_at_ms": v.declared_at.0,
        "spec": object_spec(&v.object),
        "status": v.pool.as_ref().map(pool_view),
    })
}

fn amounts(r: &Amounts) -> Value {
    json!({
        "gpus_milli": r.gpus.map(|g| g.0),
        "gpu_memory_bytes": r.gpu_memory.map(|b| b.0),
    })
}

/// Adds what is stated of a cloud, under the names of its HCL block.
fn with_cloud(place: &PoolPlace, mut spec: Value) -> Value {
    let stated = match place {
        PoolPlace::Local | PoolPlace::Existing => return spec,
        PoolPlace::Aws(p) => json!(p),
        PoolPlace::Gcp(p) => json!(p),
        PoolPlace::Azure(p) => json!(p),
    };
    spec[place.kind()] = stated;
    spec
}

fn object_spec(object: &Object) -> Value {
    match object {
        Object::Pool(s) => with_cloud(
            &s.place,
            json!({
                "gpu_model": s.gpu.model,
                "gpus_per_node": s.gpu.per_node,
                "place": s.place.kind(),
                "min": s.min,
                "max": s.max,
                "initial_size": s.initial_size,
                "on_shortfall": s.capacity.on_shortfall,
                "max_wait_s": s.capacity.max_wait.0,
                "on_destroy": s.on_destroy,
                "labels": s.labels,
                "spot_ratio_milli": s.capacity.spot_ratio_milli,
                "on_demand_base": s.capacity.on_demand_base,
                "max_unavailable": s.update.max_unavailable,
            }),
        ),
        Object::Tenant(s) => json!({ "parent": s.parent, "weight": s.weight }),
        Object::Quota(s) => json!({
            "tenant": s.tenant,
            "pool": s.pool,
            "guaranteed": amounts(&s.guaranteed),
            "limit": amounts(&s.limit),
            "soft_limit": amounts(&s.soft_limit),
            "on_excess": s.on_excess,
        }),
        Object::PriorityClass(s) => json!({
            "value": s.value,
            "preempts": s.preempts,
            "cost_multiplier_milli": s.cost_multiplier_milli,
            "grace_s": s.grace.0,
        }),
        Object::LimitRange(s) => json!({
            "tenant": s.tenant,
            "pool": s.pool,
            "default": amounts(&s.default),
            "default_walltime_s": s.default_walltime.map(|w| w.0),
            "min": amounts(&s.min),
            "max": amounts(&s.max),
            "max_walltime_s": s.max_walltime.map(|w| w.0),
        }),
        Object::AutoscalingPolicy(s) => json!({
            "pool": s.pool,
            "target_utilization_milli": s.target_utilization_milli,
            "queue_per_node": s.queue_per_node,
            "window_s": s.window.0,
            "grow_cooldown_s": s.grow_cooldown.0,
            "shrink_cooldown_s": s.shrink_cooldown.0,
        }),
    }
}
