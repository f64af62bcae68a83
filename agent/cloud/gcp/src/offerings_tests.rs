use super::*;
use google_cloud_compute_v1::model::machine_type::Accelerators;
use gpuloom_fleet::GpuModel;

fn machine(name: &str, vcpus: i32, gpu: Option<(&str, i32)>) -> MachineType {
    let gpu = gpu.map(|(kind, count)| {
        Accelerators::new()
            .set_guest_accelerator_type(kind)
            .set_guest_accelerator_count(count)
    });
    MachineType::new()
        .set_name(name)
        .set_guest_cpus(vcpus)
        .set_memory_mb(vcpus * 4096)
        .set_accelerators(gpu)
}

fn stock() -> Vec<ZoneStock> {
    let zone = |zone: &str, accelerators: &[(&str, u32)]| ZoneStock {
        zone: zone.to_owned(),
        types: vec![
            machine("g2-standard-8", 8, Some(("nvidia-l4", 1))),
            machine("g2-standard-4", 4, Some(("nvidia-l4", 1))),
            machine("g2-standard-24", 24, Some(("nvidia-l4", 2))),
            machine("n1-standard-2", 2, None),
            machine("n1-standard-8", 8, None),
            machine("n1-standard-64", 64, None),
            machine("n1-highcpu-8", 8, None),
            machine("a3-highgpu-1g", 26, Some(("nvidia-h100-80gb", 1))),
            machine("e2-medium", 2, None),
        ],
        accelerators: accelerators
            .iter()
            .map(|(n, c)| ((*n).to_owned(), *c))
            .collect(),
    };
    vec![
        zone(
            "us-central1-a",
            &[("nvidia-tesla-t4", 4), ("nvidia-tesla-t4-vws", 4)],
        ),
        zone("us-central1-b", &[]),
    ]
}

fn names(machine_types: &[&str], gpu: Option<(&str, u32)>) -> Vec<String> {
    let place = GcpPlace {
        region: "us-central1".to_owned(),
        machine_types: machine_types.iter().map(|t| (*t).to_owned()).collect(),
        ..GcpPlace::default()
    };
    let gpu = gpu.map(|(model, per_node)| GpuShape {
        model: GpuModel::new(model).expect("a model"),
        per_node,
    });
    let found = offered(&place, gpu.as_ref(), &stock());
    let text = |o: Offered| {
        o.offering
            .0
            .strip_prefix("gcp/us-central1/us-central1-")
            .map(str::to_owned)
    };
    found.into_iter().filter_map(text).collect()
}

#[test]
fn any_that_fits_has_exactly_these_gpus_smallest_first() {
    let found = names(&[], Some(("L4", 1)));
    assert_eq!(
        found,
        [
            "a/g2-standard-4/on-demand",
            "a/g2-standard-4/spot",
            "b/g2-standard-4/on-demand",
            "b/g2-standard-4/spot",
            "a/g2-standard-8/on-demand",
            "a/g2-standard-8/spot",
            "b/g2-standard-8/on-demand",
            "b/g2-standard-8/spot",
        ]
    );
    assert_eq!(names(&[], Some(("L4", 2))).len(), 4);
    assert!(names(&[], Some(("L4", 3))).is_empty());
}

#[test]
fn stated_types_keep_their_order_and_need_the_gpus_too() {
    let found = names(
        &[
            "g2-standard-8",
            "g2-standard-4",
            "g2-standard-24",
            "e2-medium",
        ],
        Some(("L4", 1)),
    );
    assert_eq!(found[0], "a/g2-standard-8/on-demand");
    assert_eq!(found.len(), 8);
}

#[test]
fn gpus_are_attached_where_the_zone_has_them_to_n1_machines_of_a_fitting_size() {
    let found = names(&[], Some(("T4", 1)));
    assert_eq!(found, ["a/n1-standard-8/on-demand", "a/n1-standard-8/spot"]);
    let stated = names(
        &["n1-standard-2", "n1-highcpu-8", "n1-standard-64"],
        Some(("T4", 1)),
    );
    assert_eq!(
        stated.len(),
        4,
        "64 vCPUs are too many for one T4: {stated:?}"
    );
}

#[test]
fn without_gpus_the_stated_types_alone() {
    assert!(names(&[], None).is_empty());
    assert_eq!(names(&["e2-medium"], None).len(), 4);
}

#[test]
fn a_type_sold_by_reservation_is_spot_alone() {
    assert_eq!(
        names(&[], Some(("H100", 1))),
        ["a/a3-highgpu-1g/spot", "b/a3-highgpu-1g/spot"]
    );
}
