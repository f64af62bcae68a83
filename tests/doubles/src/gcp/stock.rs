//! What the double sells: zones, machine types and accelerators, as Google names them.

use serde_json::{Value, json};

/// Where everything is, as answers name it.
pub(super) const API: &str = "https://www.googleapis.com/compute/v1";

/// Zones by region; the last of us-central1 is down.
pub(super) const ZONES: &[(&str, &[&str])] = &[
    (
        "us-central1",
        &[
            "us-central1-a",
            "us-central1-b",
            "us-central1-c",
            "us-central1-f",
        ],
    ),
    (
        "europe-west4",
        &["europe-west4-a", "europe-west4-b", "europe-west4-c"],
    ),
];
pub(super) const DOWN: &[&str] = &["us-central1-f"];

/// Name, vCPUs, memory in MiB, built-in accelerator and how many.
type TypeRow = (&'static str, u32, u32, Option<BuiltIn>);
/// An accelerator and how many.
type BuiltIn = (&'static str, u32);

/// Machine types of every zone.
pub(super) const TYPES: &[TypeRow] = &[
    ("e2-standard-2", 2, 8_192, None),
    ("e2-standard-4", 4, 16_384, None),
    ("n1-standard-2", 2, 7_680, None),
    ("n1-standard-4", 4, 15_360, None),
    ("n1-standard-8", 8, 30_720, None),
    ("n1-standard-16", 16, 61_440, None),
    ("n1-highmem-8", 8, 53_248, None),
    ("g2-standard-4", 4, 16_384, Some(("nvidia-l4", 1))),
    ("g2-standard-8", 8, 32_768, Some(("nvidia-l4", 1))),
    ("g2-standard-24", 24, 98_304, Some(("nvidia-l4", 2))),
    ("a2-highgpu-1g", 12, 87_040, Some(("nvidia-tesla-a100", 1))),
    ("a2-ultragpu-1g", 12, 174_080, Some(("nvidia-a100-80gb", 1))),
    ("a3-highgpu-1g", 26, 239_616, Some(("nvidia-h100-80gb", 1))),
    (
        "a3-highgpu-8g",
        208,
        1_916_928,
        Some(("nvidia-h100-80gb", 8)),
    ),
];

/// Accelerators that N1 machines can be given, how many at most, and the zones that have them.
pub(super) const ACCELERATORS: &[(&str, u32, &[&str])] = &[
    (
        "nvidia-tesla-t4",
        4,
        &["us-central1-a", "us-central1-b", "europe-west4-b"],
    ),
    ("nvidia-tesla-t4-vws", 4, &["us-central1-a"]),
    ("nvidia-tesla-v100", 8, &["us-central1-a", "us-central1-c"]),
];

/// Simulated GPUs by Google's name.
const MODELS: &[(&str, &str)] = &[
    ("nvidia-tesla-t4", "T4"),
    ("nvidia-tesla-v100", "V100-16G"),
    ("nvidia-l4", "L4"),
    ("nvidia-tesla-a100", "A100-40G"),
    ("nvidia-a100-80gb", "A100-80G"),
    ("nvidia-h100-80gb", "H100"),
];

/// A zone's region; `None` when there is no such zone.
pub(super) fn region_of(zone: &str) -> Option<&'static str> {
    let found = ZONES.iter().find(|(_, zones)| zones.contains(&zone));
    found.map(|(region, _)| *region)
}

/// The zones of a region.
pub(super) fn zones_of(region: &str) -> Option<&'static [&'static str]> {
    ZONES
        .iter()
        .find(|(name, _)| *name == region)
        .map(|(_, zones)| *zones)
}

/// Whether the type is known.
pub(super) fn has_type(name: &str) -> bool {
    TYPES.iter().any(|(known, ..)| *known == name)
}

/// Whether the zone has the accelerator.
pub(super) fn has_accelerator(zone: &str, name: &str) -> bool {
    let found = ACCELERATORS.iter().find(|(known, ..)| *known == name);
    found.is_some_and(|(_, _, zones)| zones.contains(&zone))
}

/// The machine's GPUs as a layout of the simulator (`1xT4`): its own, or those it was given.
pub(super) fn layout(machine_type: &str, given: &Value) -> Option<String> {
    let own = TYPES.iter().find(|(name, ..)| *name == machine_type)?.3;
    let given = given.get(0).and_then(|g| {
        let name = g["acceleratorType"].as_str()?.rsplit('/').next()?;
        Some((name, u32::try_from(g["acceleratorCount"].as_u64()?).ok()?))
    });
    let (name, count) = own.or(given)?;
    let (_, model) = MODELS.iter().find(|(known, _)| *known == name)?;
    Some(format!("{count}x{model}"))
}

/// `zones.list`.
pub(super) fn zones(project: &str) -> Vec<Value> {
    let zone = |region: &str, name: &str| {
        let status = if DOWN.contains(&name) { "DOWN" } else { "UP" };
        json!({
            "kind": "compute#zone", "name": name, "status": status,
            "region": format!("{API}/projects/{project}/regions/{region}"),
        })
    };
    let all = ZONES
        .iter()
        .flat_map(|(region, zones)| zones.iter().map(|z| zone(region, z)));
    all.collect()
}

/// `machineTypes.list`.
pub(super) fn machine_types(zone: &str) -> Vec<Value> {
    let one = |(name, vcpus, mib, gpu): &TypeRow| {
        let mut of = json!({
            "kind": "compute#machineType", "name": name, "zone": zone, "guestCpus": vcpus, "memoryMb": mib,
        });
        if let Some((kind, count)) = gpu {
            of["accelerators"] =
                json!([{"guestAcceleratorType": kind, "guestAcceleratorCount": count}]);
        }
        of
    };
    TYPES.iter().map(one).collect()
}

/// `acceleratorTypes.list`.
pub(super) fn accelerator_types(zone: &str) -> Vec<Value> {
    let here = ACCELERATORS
        .iter()
        .filter(|(_, _, zones)| zones.contains(&zone));
    let one = |(name, most, _): &(&str, u32, &[&str])| json!({"kind": "compute#acceleratorType", "name": name, "zone": zone, "maximumCardsPerInstance": most});
    here.map(one).collect()
}
