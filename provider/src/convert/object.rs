//! Tenants, quotas, priority classes, limit ranges and autoscaling policies.

use gpuloom_fleet::{
    AutoscalingPolicySpec, LimitRangeSpec, OnExcess, OnTenantDestroy, PriorityClassSpec, QuotaSpec,
    Resources, Seconds, TenantSpec,
};
use tfplug::Value;

use super::Members;
use super::quantity::{gib_from_bytes, number_from_milli};
use super::reader::Reader;

/// What attributes mean that the configuration leaves out.
#[derive(Debug)]
pub(crate) struct Defaults {
    pub(crate) weight: u32,
    pub(crate) on_tenant_destroy: &'static str,
    pub(crate) on_excess: &'static str,
    pub(crate) cost_multiplier_milli: u32,
    pub(crate) grace: Seconds,
    pub(crate) target_utilization_milli: u32,
    pub(crate) queue_per_node: u32,
    pub(crate) window: Seconds,
    pub(crate) grow_cooldown: Seconds,
    pub(crate) shrink_cooldown: Seconds,
}

/// See [`Defaults`].
pub(crate) const DEFAULTS: Defaults = Defaults {
    weight: 1,
    on_tenant_destroy: "cancel",
    on_excess: "keep",
    cost_multiplier_milli: 1000,
    grace: Seconds(30),
    target_utilization_milli: 700,
    queue_per_node: 1,
    window: Seconds(60),
    grow_cooldown: Seconds(30),
    shrink_cooldown: Seconds(300),
};

const ON_TENANT_DESTROY: [(&str, OnTenantDestroy); 2] = [
    ("cancel", OnTenantDestroy::Cancel),
    ("refuse", OnTenantDestroy::Refuse),
];
const ON_EXCESS: [(&str, OnExcess); 3] = [
    ("keep", OnExcess::Keep),
    ("drain", OnExcess::Drain),
    ("preempt", OnExcess::Preempt),
];

/// The word of a meaning; every meaning has one.
pub(super) fn word_of<T: PartialEq>(words: &[(&'static str, T)], meaning: &T) -> Value {
    let found = words.iter().find(|(_, m)| m == meaning);
    found.map_or(Value::Null, |(word, _)| Value::from(*word))
}

pub(super) fn tenant(r: &Reader<'_>) -> Option<TenantSpec> {
    Some(TenantSpec {
        name: r.id("name")?,
        parent: r.opt_id("parent"),
        weight: r.count("weight", DEFAULTS.weight),
        on_destroy: r.word("on_destroy", &ON_TENANT_DESTROY)?,
    })
}

pub(super) fn tenant_members(spec: &TenantSpec) -> Members {
    Members::from([
        ("name", spec.name.as_str().into()),
        (
            "parent",
            spec.parent.as_ref().map(ToString::to_string).into(),
        ),
        ("weight", spec.weight.into()),
        ("on_destroy", word_of(&ON_TENANT_DESTROY, &spec.on_destroy)),
    ])
}

pub(super) fn quota(r: &Reader<'_>) -> Option<QuotaSpec> {
    Some(QuotaSpec {
        name: r.id("name")?,
        tenant: r.id("tenant")?,
        pool: r.opt_id("pool"),
        guaranteed: r.resources("guaranteed"),
        limit: r.resources("limit"),
        soft_limit: r.resources("soft_limit"),
        on_excess: r.word("on_excess", &ON_EXCESS)?,
    })
}

pub(super) fn quota_members(spec: &QuotaSpec) -> Members {
    Members::from([
        ("name", spec.name.as_str().into()),
        ("tenant", spec.tenant.as_str().into()),
        ("pool", spec.pool.as_ref().map(ToString::to_string).into()),
        ("guaranteed", resources(&spec.guaranteed)),
        ("limit", resources(&spec.limit)),
        ("soft_limit", resources(&spec.soft_limit)),
        ("on_excess", word_of(&ON_EXCESS, &spec.on_excess)),
    ])
}

pub(super) fn priority_class(r: &Reader<'_>) -> Option<PriorityClassSpec> {
    Some(PriorityClassSpec {
        name: r.id("name")?,
        value: r.int("value", 0),
        preempts: r.flag("preempts", false),
        cost_multiplier_milli: r.milli("cost_multiplier", DEFAULTS.cost_multiplier_milli),
        grace: r.duration("grace", DEFAULTS.grace),
    })
}

pub(super) fn priority_class_members(spec: &PriorityClassSpec) -> Members {
    Members::from([
        ("name", spec.name.as_str().into()),
        ("value", spec.value.into()),
        ("preempts", spec.preempts.into()),
        (
            "cost_multiplier",
            number_from_milli(spec.cost_multiplier_milli.into()),
        ),
        ("grace", spec.grace.to_string().into()),
    ])
}

pub(super) fn limit_range(r: &Reader<'_>) -> Option<LimitRangeSpec> {
    Some(LimitRangeSpec {
        name: r.id("name")?,
        tenant: r.opt_id("tenant"),
        pool: r.opt_id("pool"),
        default: r.resources("default"),
        default_walltime: r.nested("default").opt_duration("walltime"),
        min: r.resources("min"),
        max: r.resources("max"),
        max_walltime: r.nested("max").opt_duration("walltime"),
    })
}

pub(super) fn limit_range_members(spec: &LimitRangeSpec) -> Members {
    Members::from([
        ("name", spec.name.as_str().into()),
        (
            "tenant",
            spec.tenant.as_ref().map(ToString::to_string).into(),
        ),
        ("pool", spec.pool.as_ref().map(ToString::to_string).into()),
        (
            "default",
            with_walltime(&spec.default, spec.default_walltime),
        ),
        ("min", resources(&spec.min)),
        ("max", with_walltime(&spec.max, spec.max_walltime)),
    ])
}

pub(super) fn autoscaling_policy(r: &Reader<'_>) -> Option<AutoscalingPolicySpec> {
    Some(AutoscalingPolicySpec {
        name: r.id("name")?,
        pool: r.id("pool")?,
        target_utilization_milli: r.milli("target_utilization", DEFAULTS.target_utilization_milli),
        queue_per_node: r.count("queue_per_node", DEFAULTS.queue_per_node),
        window: r.duration("window", DEFAULTS.window),
        grow_cooldown: r.duration("grow_cooldown", DEFAULTS.grow_cooldown),
        shrink_cooldown: r.duration("shrink_cooldown", DEFAULTS.shrink_cooldown),
    })
}

pub(super) fn autoscaling_policy_members(spec: &AutoscalingPolicySpec) -> Members {
    Members::from([
        ("name", spec.name.as_str().into()),
        ("pool", spec.pool.as_str().into()),
        (
            "target_utilization",
            number_from_milli(spec.target_utilization_milli.into()),
        ),
        ("queue_per_node", spec.queue_per_node.into()),
        ("window", spec.window.to_string().into()),
        ("grow_cooldown", spec.grow_cooldown.to_string().into()),
        ("shrink_cooldown", spec.shrink_cooldown.to_string().into()),
    ])
}

/// Null when nothing is stated: an object of nulls and no object mean the same.
fn resources(amounts: &Resources) -> Value {
    if amounts.is_empty() {
        return Value::Null;
    }
    amounts_object(amounts)
}

fn amounts_object(amounts: &Resources) -> Value {
    Value::object([
        (
            "gpus",
            amounts.gpus.map_or(Value::Null, |g| number_from_milli(g.0)),
        ),
        (
            "gpu_memory_gib",
            amounts.gpu_memory.map_or(Value::Null, gib_from_bytes),
        ),
    ])
}

fn with_walltime(amounts: &Resources, walltime: Option<Seconds>) -> Value {
    if amounts.is_empty() && walltime.is_none() {
        return Value::Null;
    }
    let walltime = Value::from(walltime.map(|w| w.to_string()));
    amounts_object(amounts).with("walltime", walltime)
}
