//! Pools: what is declared of them, and the words for where they stand.

use gpuloom_fleet::{
    Capacity, GpuModel, GpuShape, OnDestroy, OnShortfall, PoolPhase, PoolPlace, PoolSpec, Seconds,
};
use tfplug::Value;

use super::Members;
use super::object::word_of;
use super::reader::Reader;

/// What attributes of a pool mean that the configuration leaves out.
#[derive(Debug)]
pub(crate) struct PoolDefaults {
    pub(crate) per_node: u32,
    pub(crate) on_shortfall: &'static str,
    pub(crate) max_wait: Seconds,
    pub(crate) on_destroy: &'static str,
}

/// See [`PoolDefaults`].
pub(crate) const POOL_DEFAULTS: PoolDefaults = PoolDefaults {
    per_node: 1,
    on_shortfall: "fail",
    max_wait: Seconds(600),
    on_destroy: "drain",
};

const ON_SHORTFALL: [(&str, OnShortfall); 2] = [
    ("fail", OnShortfall::Fail),
    ("degrade", OnShortfall::Degrade),
];
const ON_DESTROY: [(&str, OnDestroy); 3] = [
    ("drain", OnDestroy::Drain),
    ("kill", OnDestroy::Kill),
    ("refuse", OnDestroy::Refuse),
];

pub(super) fn read(r: &Reader<'_>) -> Option<PoolSpec> {
    let gpu = r.nested("gpu");
    let autoscaling = r.nested("autoscaling");
    let capacity = r.nested("capacity");
    Some(PoolSpec {
        name: r.id("name")?,
        gpu: GpuShape {
            model: gpu.id::<GpuModel>("model")?,
            per_node: gpu.count("per_node", POOL_DEFAULTS.per_node),
        },
        place: place(r),
        min: autoscaling.count("min", 0),
        max: autoscaling.count("max", 0),
        initial_size: r.opt_count("initial_size"),
        capacity: Capacity {
            on_shortfall: capacity.word("on_shortfall", &ON_SHORTFALL)?,
            max_wait: capacity.duration("max_wait", POOL_DEFAULTS.max_wait),
        },
        on_destroy: r.word("on_destroy", &ON_DESTROY)?,
        labels: r.labels("labels"),
    })
}

/// The schema demands exactly one of the blocks; this only reads which.
fn place(r: &Reader<'_>) -> PoolPlace {
    if r.has("existing") {
        PoolPlace::Existing
    } else {
        PoolPlace::Local
    }
}

pub(super) fn members(spec: &PoolSpec) -> Members {
    let empty = || Value::Object(Default::default());
    let place = |place| {
        if spec.place == place {
            empty()
        } else {
            Value::Null
        }
    };
    let labels = match spec.labels.is_empty() {
        true => Value::Null,
        false => Value::map(spec.labels.iter().map(|(k, v)| (k.clone(), v.as_str()))),
    };
    Members::from([
        ("name", spec.name.as_str().into()),
        (
            "gpu",
            Value::object([
                ("model", Value::from(spec.gpu.model.as_str())),
                ("per_node", spec.gpu.per_node.into()),
            ]),
        ),
        ("local", place(PoolPlace::Local)),
        ("existing", place(PoolPlace::Existing)),
        (
            "autoscaling",
            Value::object([("min", Value::from(spec.min)), ("max", spec.max.into())]),
        ),
        ("initial_size", spec.initial_size.into()),
        ("capacity", capacity(&spec.capacity)),
        ("on_destroy", word_of(&ON_DESTROY, &spec.on_destroy)),
        ("labels", labels),
    ])
}

/// Null when it says what no block says, too.
fn capacity(capacity: &Capacity) -> Value {
    if capacity.on_shortfall == OnShortfall::Fail && capacity.max_wait == POOL_DEFAULTS.max_wait {
        return Value::Null;
    }
    Value::object([
        (
            "on_shortfall",
            word_of(&ON_SHORTFALL, &capacity.on_shortfall),
        ),
        ("max_wait", capacity.max_wait.to_string().into()),
    ])
}

/// The word in `status`.
pub(crate) fn phase_word(phase: PoolPhase) -> &'static str {
    match phase {
        PoolPhase::Provisioning => "provisioning",
        PoolPhase::Ready => "ready",
        PoolPhase::Degraded => "degraded",
        PoolPhase::Draining => "draining",
    }
}
