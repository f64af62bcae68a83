//! A launch as Compute Engine's API wants it. Pure.

use std::collections::{BTreeMap, HashMap};

use google_cloud_compute_v1::model::{
    AcceleratorConfig, AccessConfig, AttachedDisk, AttachedDiskInitializeParams,
    BulkInsertInstanceResource, BulkInsertInstanceResourcePerInstanceProperties, Instance,
    InstanceFlexibilityPolicy, InstanceFlexibilityPolicyInstanceSelection, InstanceProperties,
    LocationPolicy, LocationPolicyLocation, Metadata, NetworkInterface, Scheduling, ServiceAccount,
    access_config, attached_disk, location_policy, location_policy_location, metadata, scheduling,
};
use gpuloom_cloud::{LaunchRequest, Offering, Role, Tags};
use gpuloom_fleet::{GcpPlace, Market};

use crate::gpus::attached_gpu;
use crate::labels;

/// The data disk's name inside the instance: `/dev/disk/by-id/google-gpuloom-data`.
pub(crate) const DATA_DEVICE: &str = "gpuloom-data";
/// Marks disks that outlive their instance.
pub(crate) const DISK_LABEL: (&str, &str) = ("gpuloom-disk", "data");
/// Machine families whose disks are Hyperdisks alone.
const HYPERDISK_ONLY: &[&str] = &["a3-ultragpu-", "a4-", "a4x-", "g4-", "c4", "n4"];

/// A regional bulk insert of one instance called `name`, in one of the zones and of one of the machine types of
/// the request's offerings, the first preferred; `region` are all its zones.
pub(crate) fn bulk(
    request: &LaunchRequest,
    place: &GcpPlace,
    name: &str,
    region: &[String],
) -> BulkInsertInstanceResource {
    let mut types: Vec<&str> = Vec::new();
    for offering in &request.offerings {
        if !types.contains(&offering.instance_type()) {
            types.push(offering.instance_type());
        }
    }
    let first = types.first().copied().unwrap_or_default();
    let mut properties = InstanceProperties::new()
        .set_disks([boot_disk(place, disk_type(first).to_owned())])
        .set_network_interfaces([network(place)])
        .set_scheduling(scheduling(request))
        .set_metadata(metadata(request))
        .set_labels(labels::of_tags(&request.tags(), &place.labels))
        .set_service_accounts(service_accounts(request, place))
        .set_guest_accelerators(accelerators(request, first, str::to_owned));
    let one = BulkInsertInstanceResourcePerInstanceProperties::new();
    let resource = BulkInsertInstanceResource::new()
        .set_count(1)
        .set_min_count(1)
        .set_per_instance_properties([(name, one)])
        .set_location_policy(locations(&request.offerings, region));
    if types.len() == 1 {
        properties = properties.set_machine_type(first);
        return resource.set_instance_properties(properties);
    }
    let like_first = types.iter().all(|t| disk_type(t) == disk_type(first));
    let selection = |(rank, of): (usize, &&str)| {
        let mut selection = InstanceFlexibilityPolicyInstanceSelection::new()
            .set_machine_types([*of])
            .set_rank(i64::try_from(rank).unwrap_or(i64::MAX));
        if !like_first {
            selection = selection.set_disks([boot_disk(place, disk_type(of).to_owned())]);
        }
        (format!("rank-{rank}"), selection)
    };
    let policy = InstanceFlexibilityPolicy::new()
        .set_instance_selections(types.iter().enumerate().map(selection));
    resource
        .set_instance_properties(properties)
        .set_instance_flexibility_policy(policy)
}

/// An instance called `name` of exactly this offering, with `data` as its second disk.
pub(crate) fn single(
    request: &LaunchRequest,
    place: &GcpPlace,
    name: &str,
    offering: &Offering,
    data: AttachedDisk,
) -> Instance {
    let zone = offering.zone();
    let machine_type = offering.instance_type();
    let disk = format!("zones/{zone}/diskTypes/{}", disk_type(machine_type));
    let in_zone = |accelerator: &str| {
        format!(
            "projects/{}/zones/{zone}/acceleratorTypes/{accelerator}",
            place.project
        )
    };
    Instance::new()
        .set_name(name)
        .set_machine_type(format!("zones/{zone}/machineTypes/{machine_type}"))
        .set_disks([boot_disk(place, disk), data])
        .set_network_interfaces([network(place)])
        .set_scheduling(scheduling(request))
        .set_metadata(metadata(request))
        .set_labels(labels::of_tags(&request.tags(), &place.labels))
        .set_service_accounts(service_accounts(request, place))
        .set_guest_accelerators(accelerators(request, machine_type, in_zone))
}

/// The fleet's data disk, which exists.
pub(crate) fn kept_disk(place: &GcpPlace, zone: &str, disk: &str) -> AttachedDisk {
    data_disk().set_source(format!(
        "projects/{}/zones/{zone}/disks/{disk}",
        place.project
    ))
}

/// The fleet's data disk, made with its first instance.
pub(crate) fn new_disk(
    request: &LaunchRequest,
    offering: &Offering,
    size_gib: u32,
) -> AttachedDisk {
    let kind = format!(
        "zones/{}/diskTypes/{}",
        offering.zone(),
        disk_type(offering.instance_type())
    );
    let made = AttachedDiskInitializeParams::new()
        .set_disk_name(labels::disk_name(request))
        .set_disk_size_gb(i64::from(size_gib))
        .set_disk_type(kind)
        .set_labels(disk_labels(request));
    data_disk().set_initialize_params(made)
}

/// What a fleet's data disk is found by.
pub(crate) fn disk_tags(request: &LaunchRequest) -> Tags {
    let all = request.tags().0;
    let of_fleet = [Tags::FLEET, Tags::FLEET_ID];
    Tags(
        all.into_iter()
            .filter(|(k, _)| of_fleet.contains(&k.as_str()))
            .collect(),
    )
}

fn disk_labels(request: &LaunchRequest) -> HashMap<String, String> {
    let mut tags = disk_tags(request);
    tags.0
        .insert(Tags::ROLE.to_owned(), request.role.to_string());
    let own = BTreeMap::from([(DISK_LABEL.0.to_owned(), DISK_LABEL.1.to_owned())]);
    labels::of_tags(&tags, &own)
}

fn data_disk() -> AttachedDisk {
    AttachedDisk::new()
        .set_auto_delete(false)
        .set_boot(false)
        .set_device_name(DATA_DEVICE)
        .set_mode(attached_disk::Mode::ReadWrite)
        .set_type(attached_disk::Type::Persistent)
}

fn boot_disk(place: &GcpPlace, disk_type: String) -> AttachedDisk {
    let params = AttachedDiskInitializeParams::new()
        .set_source_image(&place.image)
        .set_disk_size_gb(i64::from(place.boot_disk_gib))
        .set_disk_type(disk_type);
    AttachedDisk::new()
        .set_auto_delete(true)
        .set_boot(true)
        .set_initialize_params(params)
}

fn disk_type(machine_type: &str) -> &'static str {
    match HYPERDISK_ONLY.iter().any(|p| machine_type.starts_with(p)) {
        true => "hyperdisk-balanced",
        false => "pd-balanced",
    }
}

fn network(place: &GcpPlace) -> NetworkInterface {
    let path = |text: &String, kind: &str| match text.contains('/') {
        true => text.clone(),
        false => format!("projects/{}/{kind}/{text}", place.project),
    };
    let mut nic = NetworkInterface::new();
    if let Some(subnetwork) = &place.subnetwork {
        let kind = format!("regions/{}/subnetworks", place.region);
        nic = nic.set_subnetwork(path(subnetwork, &kind));
    }
    match (&place.network, &place.subnetwork) {
        (Some(network), _) => nic = nic.set_network(path(network, "global/networks")),
        (None, None) => nic = nic.set_network("global/networks/default"),
        (None, Some(_)) => {}
    }
    if place.public_address {
        let nat = AccessConfig::new()
            .set_name("External NAT")
            .set_type(access_config::Type::OneToOneNat);
        nic = nic.set_access_configs([nat]);
    }
    nic
}

fn scheduling(request: &LaunchRequest) -> Scheduling {
    let spot = market(request) == Market::Spot;
    // An instance with GPUs cannot move to another host.
    let ends = spot || request.gpu.is_some();
    let maintenance = match ends {
        true => scheduling::OnHostMaintenance::Terminate,
        false => scheduling::OnHostMaintenance::Migrate,
    };
    let made = Scheduling::new()
        .set_on_host_maintenance(maintenance)
        .set_automatic_restart(!spot);
    match spot {
        true => made
            .set_provisioning_model(scheduling::ProvisioningModel::Spot)
            .set_instance_termination_action(scheduling::InstanceTerminationAction::Delete),
        false => made.set_provisioning_model(scheduling::ProvisioningModel::Standard),
    }
}

/// The market of the request, which is that of each of its offerings.
pub(crate) fn market(request: &LaunchRequest) -> Market {
    request.offering().map(Offering::market).unwrap_or_default()
}

fn metadata(request: &LaunchRequest) -> Metadata {
    let item = |key: &str, value: String| metadata::Items::new().set_key(key).set_value(value);
    // A map of texts always serializes.
    let tags = serde_json::to_string(&request.tags().0).unwrap_or_default();
    Metadata::new().set_items([
        item("startup-script", request.user_data.script.clone()),
        item("enable-guest-attributes", "TRUE".to_owned()),
        item(labels::TAGS_ITEM, tags),
    ])
}

/// A node proves who it is by a token of its service account, so one without an account of its own gets the
/// project's default one, in a scope that allows no call but asking for its own address.
fn service_accounts(request: &LaunchRequest, place: &GcpPlace) -> Vec<ServiceAccount> {
    let account = |email: &str, scope: &str| {
        let scope = format!("https://www.googleapis.com/auth/{scope}");
        vec![ServiceAccount::new().set_email(email).set_scopes([scope])]
    };
    match (&place.service_account, request.role) {
        (Some(email), _) => account(email, "cloud-platform"),
        (None, Role::Node) => account("default", "userinfo.email"),
        (None, Role::Lead) => Vec::new(),
    }
}

/// The GPUs that are attached to an N1 machine; empty for machines that have theirs built in.
fn accelerators(
    request: &LaunchRequest,
    machine_type: &str,
    path: impl Fn(&str) -> String,
) -> Vec<AcceleratorConfig> {
    let Some(gpu) = request
        .gpu
        .as_ref()
        .filter(|_| machine_type.starts_with("n1-"))
    else {
        return Vec::new();
    };
    let Some(sold) = attached_gpu(&gpu.model) else {
        return Vec::new();
    };
    let count = i32::try_from(gpu.per_node).unwrap_or(i32::MAX);
    let one = AcceleratorConfig::new()
        .set_accelerator_type(path(sold.accelerator))
        .set_accelerator_count(count);
    vec![one]
}

/// The offerings' zones and no others: a zone that is not named is allowed.
fn locations(offerings: &[Offering], region: &[String]) -> LocationPolicy {
    use location_policy_location::Preference;
    let any = offerings.iter().any(|o| o.zone() == "-");
    let wanted = |zone: &str| any || offerings.iter().any(|o| o.zone() == zone);
    let location = |zone: &String| {
        let preference = match wanted(zone) {
            true => Preference::Allow,
            false => Preference::Deny,
        };
        let location = LocationPolicyLocation::new().set_preference(preference);
        (format!("zones/{zone}"), location)
    };
    LocationPolicy::new()
        .set_target_shape(location_policy::TargetShape::Any)
        .set_locations(region.iter().map(location))
}
