//! Declared objects and pool status.

use super::{Fields, place, sorted, unsorted};
use crate::proto;
use gpuloom_fleet::{
    AutoscalingPolicySpec, Bytes, Capacity, GpuShape, LimitRangeSpec, MilliGpu, Millis, Object,
    ObjectRecord, OnDestroy, OnExcess, OnShortfall, OnTenantDestroy, PoolPhase, PoolSpec,
    PoolStatus, PriorityClassSpec, Problems, QuotaSpec, Resources, RollingUpdate, Seconds,
    TenantSpec,
};
use proto::pool_spec::{OnDestroy as WireDestroy, OnShortfall as WireShortfall};
use proto::pool_view::Phase;
use proto::quota_spec::OnExcess as WireExcess;
use proto::tenant_spec::OnDestroy as WireTenantDestroy;

// === Resources ===

impl From<&Resources> for proto::Resources {
    fn from(r: &Resources) -> Self {
        Self {
            gpus_milli: r.gpus.map(|g| g.0),
            gpu_memory_bytes: r.gpu_memory.map(|b| b.0),
        }
    }
}

impl From<proto::Resources> for Resources {
    fn from(r: proto::Resources) -> Self {
        Self {
            gpus: r.gpus_milli.map(MilliGpu),
            gpu_memory: r.gpu_memory_bytes.map(Bytes),
        }
    }
}

/// An absent message states nothing.
pub(crate) fn resources(r: Option<proto::Resources>) -> Resources {
    r.map(Resources::from).unwrap_or_default()
}

fn stated(r: &Resources) -> Option<proto::Resources> {
    (!r.is_empty()).then(|| r.into())
}

// === PoolSpec ===

impl From<&PoolSpec> for proto::PoolSpec {
    fn from(s: &PoolSpec) -> Self {
        let mut spec = Self {
            name: s.name.to_string(),
            gpu_model: s.gpu.model.to_string(),
            gpus_per_node: s.gpu.per_node,
            min: s.min,
            max: s.max,
            initial_size: s.initial_size,
            on_shortfall: match s.capacity.on_shortfall {
                OnShortfall::Fail => WireShortfall::Fail,
                OnShortfall::Degrade => WireShortfall::Degrade,
            }
            .into(),
            max_wait_s: s.capacity.max_wait.0,
            on_destroy: match s.on_destroy {
                OnDestroy::Drain => WireDestroy::Drain,
                OnDestroy::Kill => WireDestroy::Kill,
                OnDestroy::Refuse => WireDestroy::Refuse,
            }
            .into(),
            labels: unsorted(&s.labels),
            spot_ratio_milli: s.capacity.spot_ratio_milli,
            on_demand_base: s.capacity.on_demand_base,
            max_unavailable: s.update.max_unavailable,
            ..Self::default()
        };
        place::put(&s.place, &mut spec);
        spec
    }
}

impl TryFrom<proto::PoolSpec> for PoolSpec {
    type Error = Problems;

    fn try_from(mut s: proto::PoolSpec) -> Result<Self, Problems> {
        let mut f = Fields::default();
        let name = f.id("name", &s.name);
        let model = f.id("gpu.model", &s.gpu_model);
        let place = place::take(&mut s, &mut f);
        let on_shortfall = f.choice("capacity.on_shortfall", s.on_shortfall, |o| match o {
            WireShortfall::Unspecified => None,
            WireShortfall::Fail => Some(OnShortfall::Fail),
            WireShortfall::Degrade => Some(OnShortfall::Degrade),
        });
        let on_destroy = f.choice("on_destroy", s.on_destroy, |o| match o {
            WireDestroy::Unspecified => None,
            WireDestroy::Drain => Some(OnDestroy::Drain),
            WireDestroy::Kill => Some(OnDestroy::Kill),
            WireDestroy::Refuse => Some(OnDestroy::Refuse),
        });
        let spec = (|| {
            Some(Self {
                name: name?,
                gpu: GpuShape {
                    model: model?,
                    per_node: s.gpus_per_node,
                },
                place: place?,
                min: s.min,
                max: s.max,
                initial_size: s.initial_size,
                capacity: Capacity {
                    on_shortfall: on_shortfall?,
                    max_wait: Seconds(s.max_wait_s),
                    spot_ratio_milli: s.spot_ratio_milli,
                    on_demand_base: s.on_demand_base,
                },
                on_destroy: on_destroy?,
                labels: sorted(s.labels),
                update: match s.max_unavailable {
                    0 => RollingUpdate::default(),
                    max_unavailable => RollingUpdate { max_unavailable },
                },
            })
        })();
        f.finish(spec)
    }
}

// === TenantSpec ===

impl From<&TenantSpec> for proto::TenantSpec {
    fn from(s: &TenantSpec) -> Self {
        Self {
            name: s.name.to_string(),
            parent: s.parent.as_ref().map(ToString::to_string),
            weight: s.weight,
            on_destroy: match s.on_destroy {
                OnTenantDestroy::Cancel => WireTenantDestroy::Cancel,
                OnTenantDestroy::Refuse => WireTenantDestroy::Refuse,
            }
            .into(),
        }
    }
}

impl TryFrom<proto::TenantSpec> for TenantSpec {
    type Error = Problems;

    fn try_from(s: proto::TenantSpec) -> Result<Self, Problems> {
        let mut f = Fields::default();
        let name = f.id("name", &s.name);
        let parent = f.optional_id("parent", s.parent.as_deref());
        let spec = (|| {
            Some(Self {
                name: name?,
                parent: parent?,
                weight: s.weight,
                on_destroy: match WireTenantDestroy::try_from(s.on_destroy) {
                    Ok(WireTenantDestroy::Refuse) => OnTenantDestroy::Refuse,
                    _ => OnTenantDestroy::Cancel,
                },
            })
        })();
        f.finish(spec)
    }
}

// === QuotaSpec ===

impl From<&QuotaSpec> for proto::QuotaSpec {
    fn from(s: &QuotaSpec) -> Self {
        Self {
            name: s.name.to_string(),
            tenant: s.tenant.to_string(),
            pool: s.pool.as_ref().map(ToString::to_string),
            guaranteed: stated(&s.guaranteed),
            limit: stated(&s.limit),
            soft_limit: stated(&s.soft_limit),
            on_excess: match s.on_excess {
                OnExcess::Keep => WireExcess::Keep,
                OnExcess::Drain => WireExcess::ExcessDrain,
                OnExcess::Preempt => WireExcess::Preempt,
            }
            .into(),
        }
    }
}

impl TryFrom<proto::QuotaSpec> for QuotaSpec {
    type Error = Problems;

    fn try_from(s: proto::QuotaSpec) -> Result<Self, Problems> {
        let mut f = Fields::default();
        let name = f.id("name", &s.name);
        let tenant = f.id("tenant", &s.tenant);
        let pool = f.optional_id("pool", s.pool.as_deref());
        let on_excess = f.choice("on_excess", s.on_excess, |o| match o {
            WireExcess::Unspecified => None,
            WireExcess::Keep => Some(OnExcess::Keep),
            WireExcess::ExcessDrain => Some(OnExcess::Drain),
            WireExcess::Preempt => Some(OnExcess::Preempt),
        });
        let spec = (|| {
            Some(Self {
                name: name?,
                tenant: tenant?,
                pool: pool?,
                guaranteed: resources(s.guaranteed),
                limit: resources(s.limit),
                soft_limit: resources(s.soft_limit),
                on_excess: on_excess?,
            })
        })();
        f.finish(spec)
    }
}

// === PriorityClassSpec ===

impl From<&PriorityClassSpec> for proto::PriorityClassSpec {
    fn from(s: &PriorityClassSpec) -> Self {
        Self {
            name: s.name.to_string(),
            value: s.value,
            preempts: s.preempts,
            cost_multiplier_milli: s.cost_multiplier_milli,
            grace_s: s.grace.0,
        }
    }
}

impl TryFrom<proto::PriorityClassSpec> for PriorityClassSpec {
    type Error = Problems;

    fn try_from(s: proto::PriorityClassSpec) -> Result<Self, Problems> {
        let mut f = Fields::default();
        let spec = f.id("name", &s.name).map(|name| Self {
            name,
            value: s.value,
            preempts: s.preempts,
            cost_multiplier_milli: s.cost_multiplier_milli,
            grace: Seconds(s.grace_s),
        });
        f.finish(spec)
    }
}

// === LimitRangeSpec ===

impl From<&LimitRangeSpec> for proto::LimitRangeSpec {
    fn from(s: &LimitRangeSpec) -> Self {
        Self {
            name: s.name.to_string(),
            tenant: s.tenant.as_ref().map(ToString::to_string),
            pool: s.pool.as_ref().map(ToString::to_string),
            default: stated(&s.default),
            default_walltime_s: s.default_walltime.map(|w| w.0),
            min: stated(&s.min),
            max: stated(&s.max),
            max_walltime_s: s.max_walltime.map(|w| w.0),
        }
    }
}

impl TryFrom<proto::LimitRangeSpec> for LimitRangeSpec {
    type Error = Problems;

    fn try_from(s: proto::LimitRangeSpec) -> Result<Self, Problems> {
        let mut f = Fields::default();
        let name = f.id("name", &s.name);
        let tenant = f.optional_id("tenant", s.tenant.as_deref());
        let pool = f.optional_id("pool", s.pool.as_deref());
        let spec = (|| {
            Some(Self {
                name: name?,
                tenant: tenant?,
                pool: pool?,
                default: resources(s.default),
                default_walltime: s.default_walltime_s.map(Seconds),
                min: resources(s.min),
                max: resources(s.max),
                max_walltime: s.max_walltime_s.map(Seconds),
            })
        })();
        f.finish(spec)
    }
}

// === AutoscalingPolicySpec ===

impl From<&AutoscalingPolicySpec> for proto::AutoscalingPolicySpec {
    fn from(s: &AutoscalingPolicySpec) -> Self {
        Self {
            name: s.name.to_string(),
            pool: s.pool.to_string(),
            target_utilization_milli: s.target_utilization_milli,
            queue_per_node: s.queue_per_node,
            window_s: s.window.0,
            grow_cooldown_s: s.grow_cooldown.0,
            shrink_cooldown_s: s.shrink_cooldown.0,
        }
    }
}

impl TryFrom<proto::AutoscalingPolicySpec> for AutoscalingPolicySpec {
    type Error = Problems;

    fn try_from(s: proto::AutoscalingPolicySpec) -> Result<Self, Problems> {
        let mut f = Fields::default();
        let name = f.id("name", &s.name);
        let pool = f.id("pool", &s.pool);
        let spec = (|| {
            Some(Self {
                name: name?,
                pool: pool?,
                target_utilization_milli: s.target_utilization_milli,
                queue_per_node: s.queue_per_node,
                window: Seconds(s.window_s),
                grow_cooldown: Seconds(s.grow_cooldown_s),
                shrink_cooldown: Seconds(s.shrink_cooldown_s),
            })
        })();
        f.finish(spec)
    }
}

// === Object ===

impl From<&Object> for proto::Object {
    fn from(object: &Object) -> Self {
        use proto::object::Spec;
        Self {
            spec: Some(match object {
                Object::Pool(s) => Spec::Pool(s.into()),
                Object::Tenant(s) => Spec::Tenant(s.into()),
                Object::Quota(s) => Spec::Quota(s.into()),
                Object::PriorityClass(s) => Spec::PriorityClass(s.into()),
                Object::LimitRange(s) => Spec::LimitRange(s.into()),
                Object::AutoscalingPolicy(s) => Spec::AutoscalingPolicy(s.into()),
            }),
        }
    }
}

impl TryFrom<proto::Object> for Object {
    type Error = Problems;

    fn try_from(object: proto::Object) -> Result<Self, Problems> {
        use proto::object::Spec;
        match object.spec {
            Some(Spec::Pool(s)) => s.try_into().map(Self::Pool),
            Some(Spec::Tenant(s)) => s.try_into().map(Self::Tenant),
            Some(Spec::Quota(s)) => s.try_into().map(Self::Quota),
            Some(Spec::PriorityClass(s)) => s.try_into().map(Self::PriorityClass),
            Some(Spec::LimitRange(s)) => s.try_into().map(Self::LimitRange),
            Some(Spec::AutoscalingPolicy(s)) => s.try_into().map(Self::AutoscalingPolicy),
            None => {
                let mut p = Problems::default();
                p.add(
                    "object",
                    "",
                    "is missing or of a kind this agent does not know",
                    "state one of the kinds, or upgrade the fleet's agents",
                );
                Err(p)
            }
        }
    }
}

impl From<&ObjectRecord> for proto::ObjectRecord {
    /// Without a pool's view and not built in: the lead adds both.
    fn from(r: &ObjectRecord) -> Self {
        Self {
            object: Some((&r.object).into()),
            generation: r.generation,
            owner: r.owner.clone(),
            withdrawing: r.withdrawing,
            declared_at_ms: r.declared_at.0,
            pool: None,
            builtin: false,
        }
    }
}

// === PoolStatus ===

/// The view of a pool that exists, from its status, the ids of its nodes and how many jobs run.
pub fn pool_view(status: &PoolStatus, nodes: Vec<String>, running_jobs: u64) -> proto::PoolView {
    proto::PoolView {
        wanted: status.wanted,
        provisioned: status.provisioned,
        ready: status.ready,
        phase: match status.phase {
            PoolPhase::Provisioning => Phase::Provisioning,
            PoolPhase::Ready => Phase::Ready,
            PoolPhase::Degraded => Phase::Degraded,
            PoolPhase::Draining => Phase::Draining,
        }
        .into(),
        shortfall: status.shortfall.clone(),
        changed_at_ms: status.changed_at.0,
        change_reason: status.change_reason.clone(),
        gone: false,
        nodes,
        running_jobs,
    }
}

/// The status in a view. A view without a phase this side knows is a problem of `phase`.
pub fn pool_status(view: &proto::PoolView) -> Result<PoolStatus, Problems> {
    let mut f = Fields::default();
    let phase = f.choice("phase", view.phase, |p| match p {
        Phase::Unspecified => None,
        Phase::Provisioning => Some(PoolPhase::Provisioning),
        Phase::Ready => Some(PoolPhase::Ready),
        Phase::Degraded => Some(PoolPhase::Degraded),
        Phase::Draining => Some(PoolPhase::Draining),
    });
    let status = phase.map(|phase| PoolStatus {
        wanted: view.wanted,
        provisioned: view.provisioned,
        ready: view.ready,
        phase,
        shortfall: view.shortfall.clone(),
        changed_at: Millis(view.changed_at_ms),
        change_reason: view.change_reason.clone(),
    });
    f.finish(status)
}
