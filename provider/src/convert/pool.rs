//! Pools: what is declared of them, and the words for where they stand.

use gpuloom_fleet::{
    Capacity, GpuModel, GpuShape, OnDestroy, OnShortfall, PoolPhase, PoolPlace, PoolSpec,
    RollingUpdate, Seconds,
};
use tfplug::Value;

use super::object::word_of;
use super::quantity::number_from_milli;
use super::reader::Reader;
use super::{Members, place};

/// What attributes of a pool mean that the configuration leaves out.
#[derive(Debug)]
pub(crate) struct PoolDefaults {
    pub(crate) per_node: u32,
    pub(crate) on_shortfall: &'static str,
    pub(crate) max_wait: Seconds,
    pub(crate) on_destroy: &'static str,
    pub(crate) spot_ratio_milli: u32,
    pub(crate) on_demand_base: u32,
    pub(crate) max_unavailable: u32,
}

/// See [`PoolDefaults`].
pub(crate) const POOL_DEFAULTS: PoolDefaults = PoolDefaults {
    per_node: 1,
    on_shortfall: "fail",
    max_wait: Seconds(600),
    on_destroy: "drain",
    spot_ratio_milli: 0,
    on_demand_base: 0,
    max_unavailable: 1,
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
    let update = r.nested("update");
    Some(PoolSpec {
        name: r.id("name")?,
        gpu: GpuShape {
            model: gpu.id::<GpuModel>("model")?,
            per_node: gpu.count("per_node", POOL_DEFAULTS.per_node),
        },
        place: place_of(r),
        min: autoscaling.count("min", 0),
        max: autoscaling.count("max", 0),
        initial_size: r.opt_count("initial_size"),
        capacity: Capacity {
            on_shortfall: capacity.word("on_shortfall", &ON_SHORTFALL)?,
            max_wait: capacity.duration("max_wait", POOL_DEFAULTS.max_wait),
            spot_ratio_milli: capacity.milli("spot_ratio", POOL_DEFAULTS.spot_ratio_milli),
            on_demand_base: capacity.count("on_demand_base", POOL_DEFAULTS.on_demand_base),
        },
        update: RollingUpdate {
            max_unavailable: update.count("max_unavailable", POOL_DEFAULTS.max_unavailable),
        },
        on_destroy: r.word("on_destroy", &ON_DESTROY)?,
        labels: r.labels("labels"),
    })
}

/// The place of a stored pool, as far as it is written.
pub(crate) fn stored_place(value: &Value) -> PoolPlace {
    let problems = std::cell::RefCell::new(Vec::new());
    let lowest = super::reader::StandIn::Lowest;
    place_of(&Reader::new(value, lowest, false, &problems))
}

/// The schema demands exactly one of the blocks; this only reads which.
fn place_of(r: &Reader<'_>) -> PoolPlace {
    if let Some(cloud) = place::read(r) {
        cloud
    } else if r.has("existing") {
        PoolPlace::Existing
    } else {
        PoolPlace::Local
    }
}

pub(super) fn members(spec: &PoolSpec) -> Members {
    let place = |kind: &str| {
        if spec.place.kind() != kind {
            return Value::Null;
        }
        place::block(&spec.place).unwrap_or_else(|| Value::Object(Default::default()))
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
        ("local", place("local")),
        ("existing", place("existing")),
        ("aws", place("aws")),
        ("gcp", place("gcp")),
        ("azure", place("azure")),
        (
            "autoscaling",
            Value::object([("min", Value::from(spec.min)), ("max", spec.max.into())]),
        ),
        ("initial_size", spec.initial_size.into()),
        ("capacity", capacity(&spec.capacity)),
        ("update", update(spec.update)),
        ("on_destroy", word_of(&ON_DESTROY, &spec.on_destroy)),
        ("labels", labels),
    ])
}

/// Null when it says what no block says, too.
fn capacity(capacity: &Capacity) -> Value {
    let of_no_block = Capacity {
        on_shortfall: OnShortfall::Fail,
        max_wait: POOL_DEFAULTS.max_wait,
        spot_ratio_milli: POOL_DEFAULTS.spot_ratio_milli,
        on_demand_base: POOL_DEFAULTS.on_demand_base,
    };
    if *capacity == of_no_block {
        return Value::Null;
    }
    let ratio = number_from_milli(capacity.spot_ratio_milli.into());
    Value::object([
        (
            "on_shortfall",
            word_of(&ON_SHORTFALL, &capacity.on_shortfall),
        ),
        ("max_wait", capacity.max_wait.to_string().into()),
        ("spot_ratio", ratio),
        ("on_demand_base", capacity.on_demand_base.into()),
    ])
}

/// Null when it says what no block says, too.
fn update(update: RollingUpdate) -> Value {
    if update.max_unavailable == POOL_DEFAULTS.max_unavailable {
        return Value::Null;
    }
    Value::object([("max_unavailable", update.max_unavailable)])
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
