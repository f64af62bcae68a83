//! Making instances: one in a zone, or in bulk wherever a region has room.

use super::state::{Event, Held, Place, State, Then, fingerprint};
use super::stock::{self, API};
use super::{PROJECT, wire};
use crate::faults::{Effect, Faults};
use crate::http::Response;
use serde_json::{Value, json};

/// What goes wrong with an insert as a whole.
pub(super) type Forced<'a> = Option<&'a Effect>;

/// `instances.insert`.
pub(super) fn insert(
    state: &mut State,
    faults: &Faults,
    zone: &str,
    body: &Value,
    forced: Forced<'_>,
) -> Response {
    let name = text(&body["name"]);
    let machine_type = last(&body["machineType"]);
    let place = (zone.to_owned(), name.clone());
    if let Err(refused) = fits(state, zone, body) {
        return refused;
    }
    if state.instances.contains_key(&place) {
        let path = format!("projects/{PROJECT}/zones/{zone}/instances/{name}");
        return wire::error(
            409,
            "alreadyExists",
            &format!("The resource '{path}' already exists"),
        );
    }
    let location = format!("zones/{zone}");
    let target = format!("instances/{name}");
    let verdict = room(
        state,
        faults,
        "instances.insert.offering",
        zone,
        &machine_type,
        body,
        forced,
    );
    let verdict = verdict.or_else(|| disk_in_use(state, zone, body));
    let operation = match verdict {
        Some(error) => {
            if state.options.strand_disks {
                strand(state, zone, body);
            }
            let operation = state.begin(&location, "insert", &target, Then::Nothing);
            state.fails(&operation, vec![error]);
            operation
        }
        None => {
            let then = Then::Runs(place);
            let operation = state.begin(&location, "insert", &target, then);
            create(state, zone, &name, &machine_type, body, &operation);
            operation
        }
    };
    Response::json(200, &state.operation(&operation))
}

/// `regionInstances.bulkInsert`, of one instance by its name.
pub(super) fn bulk(
    state: &mut State,
    faults: &Faults,
    region: &str,
    body: &Value,
    forced: Forced<'_>,
) -> Response {
    let Some(zones) = stock::zones_of(region) else {
        return wire::not_found(&format!("projects/{PROJECT}/regions/{region}"));
    };
    let properties = &body["instanceProperties"];
    let names: Vec<&String> = body["perInstanceProperties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, _)| k)
        .collect();
    let count = body["count"].as_str().unwrap_or_default();
    let ([name], "1") = (names.as_slice(), count) else {
        return wire::invalid(
            "Invalid value for field 'resource.count': this double makes one instance, by its name",
        );
    };
    let allowed = |zone: &&&str| {
        let preference =
            &body["locationPolicy"]["locations"][format!("zones/{zone}")]["preference"];
        preference != "DENY" && !stock::DOWN.contains(*zone)
    };
    let zones: Vec<&str> = zones.iter().filter(allowed).copied().collect();
    let types = types(body);
    if types.is_empty() || zones.is_empty() {
        return wire::invalid(
            "Invalid value for field 'resource': no machine type or no zone is allowed",
        );
    }
    let candidates = match candidates(state, &types, &zones, properties) {
        Ok(candidates) => candidates,
        Err(refused) => return refused,
    };
    if let Some((zone, _)) = state.place(name) {
        let path = format!("projects/{PROJECT}/zones/{zone}/instances/{name}");
        return wire::error(
            409,
            "alreadyExists",
            &format!("The resource '{path}' already exists"),
        );
    }
    let mut errors: Vec<Value> = Vec::new();
    let mut tried = json!({});
    let location = format!("regions/{region}");
    let status = |created: i32| json!({"targetVmCount": 1, "createdVmCount": created, "failedToCreateVmCount": 1 - created, "status": "DONE"});
    for (zone, machine_type) in candidates {
        let action = "regionInstances.bulkInsert.offering";
        if let Some(error) = room(
            state,
            faults,
            action,
            zone,
            machine_type,
            properties,
            forced,
        ) {
            errors.push(error);
            tried[format!("zones/{zone}")] = status(0);
            continue;
        }
        let then = Then::Runs((zone.to_owned(), (*name).clone()));
        let operation = state.begin(&location, "bulkInsert", "instances", then);
        create(state, zone, name, machine_type, properties, &operation);
        tried[format!("zones/{zone}")] = status(1);
        return told(state, &operation, tried);
    }
    let few = "Requested minimum count of 1 VMs could not be created.";
    errors.insert(0, wire::operation_error("VM_MIN_COUNT_NOT_REACHED", few));
    let operation = state.begin(&location, "bulkInsert", "instances", Then::Nothing);
    state.fails(&operation, errors);
    told(state, &operation, tried)
}

/// Zones and types, best first. Combinations that a zone does not sell are left out; at least one has to be left.
fn candidates<'a>(
    state: &State,
    types: &'a [String],
    zones: &[&'a str],
    properties: &Value,
) -> Result<Vec<(&'a str, &'a str)>, Response> {
    let mut refused = None;
    let mut fit = Vec::new();
    for machine_type in types {
        let mut of_type = properties.clone();
        of_type["machineType"] = json!(machine_type);
        for zone in zones {
            match fits(state, zone, &of_type) {
                Ok(()) => fit.push((*zone, machine_type.as_str())),
                Err(why) => refused = Some(why),
            }
        }
    }
    match (fit.is_empty(), refused) {
        (true, Some(refused)) => Err(refused),
        _ => Ok(fit),
    }
}

fn told(state: &mut State, operation: &str, tried: Value) -> Response {
    if let Some(of) = state.operations.get_mut(operation) {
        let metadata = json!({ "perLocationStatus": tried });
        if of.left == 0 {
            of.value["instancesBulkInsertOperationMetadata"] = metadata.clone();
        }
        of.metadata = Some(metadata);
    }
    Response::json(200, &state.operation(operation))
}

/// The machine types asked for, best first.
fn types(body: &Value) -> Vec<String> {
    let selections = body["instanceFlexibilityPolicy"]["instanceSelections"].as_object();
    let Some(selections) = selections else {
        let one = last(&body["instanceProperties"]["machineType"]);
        return if one.is_empty() {
            Vec::new()
        } else {
            vec![one]
        };
    };
    let rank = |s: &&Value| {
        s["rank"]
            .as_str()
            .and_then(|r| r.parse::<i64>().ok())
            .unwrap_or(0)
    };
    let mut selections: Vec<&Value> = selections.values().collect();
    selections.sort_by_key(rank);
    let types = selections
        .iter()
        .flat_map(|s| s["machineTypes"].as_array().into_iter().flatten());
    types.map(last).collect()
}

/// Whether the zone sells it and the image exists; else what Google says.
fn fits(state: &State, zone: &str, properties: &Value) -> Result<(), Response> {
    let machine_type = last(&properties["machineType"]);
    if !stock::has_type(&machine_type) {
        let path = format!("projects/{PROJECT}/zones/{zone}/machineTypes/{machine_type}");
        let message = format!(
            "Invalid value for field 'resource.machineType': '{path}'. The referenced machine type does not exist."
        );
        return Err(wire::invalid(&message));
    }
    for given in properties["guestAccelerators"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let name = last(&given["acceleratorType"]);
        if !stock::has_accelerator(zone, &name) {
            return Err(wire::not_found(&format!(
                "projects/{PROJECT}/zones/{zone}/acceleratorTypes/{name}"
            )));
        }
        let moves = properties["scheduling"]["onHostMaintenance"] == "MIGRATE";
        if moves || !machine_type.starts_with("n1-") {
            return Err(wire::invalid(
                "Instances with guest accelerators are N1 and do not support live migration.",
            ));
        }
    }
    for disk in properties["disks"].as_array().into_iter().flatten() {
        let image = text(&disk["initializeParams"]["sourceImage"]);
        if state.missing_images.contains(&image) {
            return Err(wire::not_found(&image));
        }
        if let Some(source) = disk["source"].as_str() {
            let at = (zone.to_owned(), last(&disk["source"]));
            if !state.disks.contains_key(&at) {
                return Err(wire::not_found(source));
            }
        }
    }
    Ok(())
}

/// The error of an operation that finds no room for one more; `None`: there is.
fn room(
    state: &State,
    faults: &Faults,
    action: &str,
    zone: &str,
    machine_type: &str,
    properties: &Value,
    forced: Forced<'_>,
) -> Option<Value> {
    let spot = properties["scheduling"]["provisioningModel"] == "SPOT";
    let market = if spot { "spot" } else { "on-demand" };
    let offering = format!("{zone}/{machine_type}/{market}");
    let effect = forced.cloned().or_else(|| faults.hit(action, &offering));
    let over = !state.fits(&state.quotas, &offering);
    match effect {
        Some(Effect::Quota) => Some(wire::over_quota(zone, machine_type)),
        Some(_) => Some(wire::exhausted(PROJECT, zone, machine_type)),
        None if over => Some(wire::over_quota(zone, machine_type)),
        None if !state.fits(&state.rooms, &offering) => {
            Some(wire::exhausted(PROJECT, zone, machine_type))
        }
        None => None,
    }
}

fn disk_in_use(state: &State, zone: &str, body: &Value) -> Option<Value> {
    let mut disks = body["disks"].as_array().into_iter().flatten();
    let used = disks.find_map(|disk| {
        let at: Place = (zone.to_owned(), last(&disk["source"]));
        let user = state.disks.get(&at)?["users"].get(0)?.as_str()?.to_owned();
        Some((at.1, user))
    });
    let (disk, user) = used?;
    let message =
        format!("The disk resource 'zones/{zone}/disks/{disk}' is already being used by '{user}'");
    Some(wire::operation_error(
        "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE",
        &message,
    ))
}

/// Leaves the new disks that would outlive the instance, never attached.
fn strand(state: &mut State, zone: &str, body: &Value) {
    for disk in body["disks"].as_array().into_iter().flatten() {
        if disk["autoDelete"] == false && disk["initializeParams"].is_object() {
            new_disk(state, zone, &disk["initializeParams"], "stranded");
        }
    }
}

/// Makes the instance and its disks.
fn create(
    state: &mut State,
    zone: &str,
    name: &str,
    machine_type: &str,
    properties: &Value,
    operation: &str,
) {
    let id = state.number();
    let zone_path = format!("{API}/projects/{PROJECT}/zones/{zone}");
    let own = format!("{zone_path}/instances/{name}");
    let labels = properties["labels"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let labels = Value::Object(labels);
    let mut metadata = properties["metadata"].clone();
    if metadata.is_object() {
        metadata["kind"] = json!("compute#metadata");
        metadata["fingerprint"] = json!(fingerprint(&metadata["items"]));
    } else {
        metadata = json!({"kind": "compute#metadata"});
    }
    let mut nics = properties["networkInterfaces"].clone();
    let number = id % 60_000;
    if let Some(nic) = nics.get_mut(0) {
        nic["name"] = json!("nic0");
        if state.options.host.is_none() {
            nic["networkIP"] = json!(format!("10.128.{}.{}", number / 250, number % 250 + 2));
        }
        let given = nic.get_mut("accessConfigs").and_then(Value::as_array_mut);
        for access in given.into_iter().flatten() {
            access["natIP"] = json!(format!("203.0.{}.{}", number / 250, number % 250 + 2));
        }
    }
    let mut resource = json!({
        "kind": "compute#instance", "id": id.to_string(), "name": name, "zone": zone_path, "selfLink": own,
        "machineType": format!("{zone_path}/machineTypes/{machine_type}"), "status": "PROVISIONING",
        "creationTimestamp": state.clock.rfc3339(), "labelFingerprint": fingerprint(&labels), "labels": labels,
        "metadata": metadata, "networkInterfaces": nics,
        "disks": disks(state, zone, name, &own, properties),
    });
    for key in ["scheduling", "serviceAccounts", "guestAccelerators"] {
        if !properties[key].is_null() {
            resource[key] = properties[key].clone();
        }
    }
    let held = Held {
        id,
        launched_ms: state.clock.now_ms(),
        hidden_for: state.options.list_lag,
        operation: operation.to_owned(),
        resource,
    };
    state.events.push(Event::Launched(Box::new(held.machine())));
    let place = (zone.to_owned(), name.to_owned());
    state.instances.insert(place.clone(), held);
    if state.options.polls == 0 {
        state.set_status(&place, "RUNNING");
    }
}

fn disks(state: &mut State, zone: &str, name: &str, user: &str, properties: &Value) -> Vec<Value> {
    let mut attached = Vec::new();
    for (n, disk) in properties["disks"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let disk_name = match disk["source"].as_str() {
            Some(_) => last(&disk["source"]),
            None => {
                let fallback = if n == 0 {
                    name.to_owned()
                } else {
                    format!("{name}-{n}")
                };
                new_disk(state, zone, &disk["initializeParams"], &fallback)
            }
        };
        let now = state.clock.rfc3339();
        if let Some(of) = state.disks.get_mut(&(zone.to_owned(), disk_name.clone())) {
            of["users"] = json!([user]);
            of["lastAttachTimestamp"] = json!(now);
        }
        let device = disk["deviceName"]
            .as_str()
            .map_or_else(|| format!("persistent-disk-{n}"), str::to_owned);
        attached.push(json!({
            "kind": "compute#attachedDisk", "type": "PERSISTENT", "mode": "READ_WRITE", "index": n,
            "boot": disk["boot"] == true, "autoDelete": disk["autoDelete"] == true, "deviceName": device,
            "source": format!("{API}/projects/{PROJECT}/zones/{zone}/disks/{disk_name}"),
        }));
    }
    attached
}

fn new_disk(state: &mut State, zone: &str, params: &Value, fallback: &str) -> String {
    let name = params["diskName"].as_str().unwrap_or(fallback).to_owned();
    let place = (zone.to_owned(), name.clone());
    if state.disks.contains_key(&place) {
        return name;
    }
    let id = state.number();
    let zone_path = format!("{API}/projects/{PROJECT}/zones/{zone}");
    let disk = json!({
        "kind": "compute#disk", "id": id.to_string(), "name": name, "zone": zone_path, "status": "READY",
        "sizeGb": params["diskSizeGb"].as_str().unwrap_or("10"), "creationTimestamp": state.clock.rfc3339(),
        "labels": params["labels"].as_object().cloned().unwrap_or_default(),
        "type": format!("{zone_path}/diskTypes/{}", last(&params["diskType"])),
        "selfLink": format!("{zone_path}/disks/{name}"),
    });
    state.disks.insert(place, disk);
    name
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The last part of a path.
fn last(value: &Value) -> String {
    text(value)
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned()
}
