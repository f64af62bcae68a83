//! Virtual machines: what their PUT must say, and what it makes.

use super::path::Kind;
use super::resource::{complete, id, key, operation_path, valid_name};
use super::state::{Resource, State, Work, of_quota};
use super::{Arm, LOCATION, SUBNET, wire};
use crate::faults::Effect;
use crate::http::{Request, Response};
use base64::Engine as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What is wrong with a PUT: the answer, and whether no client may ever send it.
struct Refusal {
    response: Response,
    violation: Option<String>,
}

impl Arm {
    pub(super) fn put_machine(&self, request: &Request, name: &str) -> Response {
        let body = request.json().unwrap_or(Value::Null);
        let key = key(Kind::Machine, name);
        let mut state = self.state();
        if let Some(there) = state.resources.get(&key) {
            if request.header("if-none-match") == Some("*") {
                return wire::error(412, "PreconditionFailed", "The virtual machine exists.");
            }
            // Only what we need of an update: nobody may change what a machine is made of.
            if there.body["zones"] != body["zones"] || there.size() != size_of(&body) {
                return wire::error(
                    409,
                    "PropertyChangeNotAllowed",
                    "Size and zone cannot be changed.",
                );
            }
            return Response::json(200, &there.body);
        }
        if let Err(refusal) = self.check_machine(&state, name, &body) {
            if let Some(what) = refusal.violation {
                self.control
                    .violated(format!("PUT {}: {what}", request.path));
            }
            return refusal.response;
        }
        let made = match self.make(&mut state, name, body) {
            Ok(made) => made,
            Err(e) => return wire::error(500, "InternalServerError", &e.to_string()),
        };
        let shown = made.body.clone();
        let error = self.fails(&state, &made);
        state.resources.insert(key.clone(), made);
        let operation = state.begin(&key, Work::Create, self.options.polls, error);
        wire::accepted(
            request,
            201,
            &operation_path(Kind::Machine, operation),
            Some(&shown),
        )
    }

    /// What the accepted creation ends with.
    fn fails(&self, state: &State, made: &Resource) -> Option<(String, String)> {
        let offering = made.offering();
        let zonal = !offering.starts_with("-/");
        let own = |(code, text): (&str, &str)| (code.to_owned(), text.to_owned());
        let told = format!("{offering}/{}", made.name);
        match self.control.faults.hit("virtualMachines.create", &told) {
            Some(Effect::Capacity) => return Some(own(wire::no_capacity(zonal))),
            Some(Effect::Quota) => return Some(own(("OperationNotAllowed", wire::QUOTA))),
            Some(Effect::Status { body, .. }) => return Some(own((&body, "as the test wants it"))),
            _ => {}
        }
        (!state.has_room(&offering)).then(|| own(wire::no_capacity(zonal)))
    }

    fn check_machine(&self, state: &State, name: &str, body: &Value) -> Result<(), Refusal> {
        let properties = &body["properties"];
        let wrong = |code: &str, what: &str| Refusal {
            response: wire::error(400, code, what),
            violation: Some(what.to_owned()),
        };
        let computer = properties["osProfile"]["computerName"]
            .as_str()
            .unwrap_or_default();
        if !valid_name(name, 64) || !valid_name(computer, 64) {
            return Err(wrong(
                "InvalidParameter",
                "the names of machine and computer have 1 to 64 characters",
            ));
        }
        let spot = properties["priority"].as_str() == Some("Spot");
        let of_spot = ["evictionPolicy", "billingProfile"];
        if !spot && of_spot.iter().any(|p| !properties[p].is_null()) {
            return Err(wrong(
                "InvalidParameter",
                "evictionPolicy and billingProfile are Spot's alone",
            ));
        }
        let linux = &properties["osProfile"]["linuxConfiguration"];
        if linux["ssh"]["publicKeys"][0]["keyData"]
            .as_str()
            .is_none_or(str::is_empty)
        {
            return Err(wrong(
                "InvalidParameter",
                "a Linux machine without password needs an SSH key",
            ));
        }
        if decoded(properties).is_none() {
            return Err(wrong("InvalidParameter", "customData is not base64"));
        }
        let network = &properties["networkProfile"];
        if network["networkInterfaceConfigurations"].is_array()
            && network["networkApiVersion"].is_null()
        {
            return Err(wrong(
                "InvalidParameter",
                "networkInterfaceConfigurations need networkApiVersion",
            ));
        }
        if let Some(set) = properties["virtualMachineScaleSet"]["id"].as_str() {
            let Some(set) = state.resources.get(&set.to_ascii_lowercase()) else {
                return Err(refusal(
                    404,
                    "ResourceNotFound",
                    "The scale set was not found.",
                ));
            };
            let zones = set.body["zones"].as_array().cloned().unwrap_or_default();
            let zone = &body["zones"][0];
            if zone.is_null() != zones.is_empty() || (!zone.is_null() && !zones.contains(zone)) {
                return Err(wrong(
                    "InvalidParameter",
                    "the machine's zone is none of its scale set's",
                ));
            }
        }
        self.check_offer(state, body)?;
        check_parts(state, name, body)
    }

    /// Location, size, zone and quota.
    fn check_offer(&self, state: &State, body: &Value) -> Result<(), Refusal> {
        let size = size_of(body);
        if body["location"].as_str() != Some(LOCATION) {
            return Err(refusal(
                400,
                "LocationNotAvailableForResourceType",
                "No such location.",
            ));
        }
        let Some(size) = self
            .options
            .sizes
            .iter()
            .find(|s| s.name.eq_ignore_ascii_case(size))
        else {
            let text = format!("The value {size} provided for the VM size is not valid.");
            return Err(refusal(400, "InvalidParameter", &text));
        };
        let zone = body["zones"][0].as_str();
        let spot = body["properties"]["priority"].as_str() == Some("Spot");
        let sold = zone.is_none_or(|z| size.zones.iter().any(|s| s == z));
        if !sold || (spot && !size.spot) {
            let text = format!(
                "The requested size {} is currently not available in this zone.",
                size.name
            );
            return Err(refusal(409, "SkuNotAvailable", &text));
        }
        for (quota, limit) in &state.quotas {
            let used = state.used(quota, &self.options.sizes);
            if of_quota(quota, size, spot) && used + size.vcpus > *limit {
                let text = format!(
                    "Operation could not be completed as it results in exceeding approved {quota} Cores quota. \
                     Current Limit: {limit}, Current Usage: {used}, Additional Required: {}.",
                    size.vcpus
                );
                return Err(refusal(409, "OperationNotAllowed", &text));
            }
        }
        Ok(())
    }

    /// The machine with its interface, address and OS disk.
    fn make(&self, state: &mut State, name: &str, mut body: Value) -> std::io::Result<Resource> {
        let machine_id = id(Kind::Machine, name);
        let user_data = decoded(&body["properties"]).unwrap_or_default();
        let tags = body["tags"].clone();
        let number = state.number();
        let private = match &self.options.boots {
            Some(_) => self.booted.claim(name)?,
            None => format!("10.0.{}.{}", (number / 250) % 250, number % 250 + 4),
        };
        let configuration =
            body["properties"]["networkProfile"]["networkInterfaceConfigurations"][0].clone();
        if configuration.is_object() {
            let interface = make_interface(state, &configuration, &machine_id, &private);
            body["properties"]["networkProfile"] = json!({
                "networkInterfaces": [{ "id": interface, "properties": { "primary": true, "deleteOption": "Delete" } }],
            });
        }
        let os_disk = &mut body["properties"]["storageProfile"]["osDisk"];
        let disk = os_disk["name"]
            .as_str()
            .map_or_else(|| format!("{name}_OsDisk_1"), str::to_owned);
        os_disk["name"] = json!(disk);
        os_disk["managedDisk"]["id"] = json!(id(Kind::Disk, &disk));
        let mut made = json!({ "location": LOCATION, "tags": tags, "managedBy": machine_id, "zones": body["zones"] });
        complete(&mut made, Kind::Disk, &disk);
        made["properties"] = json!({ "provisioningState": "Succeeded", "osType": "Linux" });
        drop_null(&mut made, "zones");
        let disk = Resource::new(Kind::Disk, &disk, made);
        state.resources.insert(key(Kind::Disk, &disk.name), disk);
        for disk in body["properties"]["storageProfile"]["dataDisks"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let id = disk["managedDisk"]["id"]
                .as_str()
                .unwrap_or_default()
                .to_ascii_lowercase();
            if let Some(disk) = state.resources.get_mut(&id) {
                disk.body["managedBy"] = json!(machine_id);
            }
        }
        complete(&mut body, Kind::Machine, name);
        let digest = hex::encode(Sha256::digest(format!("{name}/{number}")));
        let properties = &mut body["properties"];
        properties["vmId"] = json!(format!(
            "{}-{}-{}-{}-{}",
            &digest[..8],
            &digest[8..12],
            &digest[12..16],
            &digest[16..20],
            &digest[20..32]
        ));
        properties["timeCreated"] = json!(self.control.clock.rfc3339());
        properties["provisioningState"] = json!("Creating");
        // Nobody gets it back.
        if let Some(profile) = properties["osProfile"].as_object_mut() {
            profile.remove("customData");
        }
        let mut machine = Resource::new(Kind::Machine, name, body);
        machine.user_data = user_data;
        machine.hidden_for = state.lag;
        Ok(machine)
    }

    pub(super) fn start_machine(&self, request: &Request, name: &str) -> Response {
        let key = key(Kind::Machine, name);
        let mut state = self.state();
        if !state.resources.contains_key(&key) {
            return wire::missing(&id(Kind::Machine, name));
        }
        let operation = state.begin(&key, Work::Start, self.options.polls, None);
        wire::accepted(
            request,
            202,
            &operation_path(Kind::Machine, operation),
            None,
        )
    }
}

/// Disks and subnet that the machine names.
fn check_parts(state: &State, name: &str, body: &Value) -> Result<(), Refusal> {
    let properties = &body["properties"];
    let configuration = &properties["networkProfile"]["networkInterfaceConfigurations"][0];
    let address = &configuration["properties"]["ipConfigurations"][0]["properties"];
    let subnet = address["subnet"]["id"].as_str().unwrap_or_default();
    if !subnet.eq_ignore_ascii_case(SUBNET) {
        let text = format!("Resource {subnet} referenced by resource {name} was not found.");
        return Err(refusal(400, "InvalidResourceReference", &text));
    }
    let os_disk = properties["storageProfile"]["osDisk"]["name"]
        .as_str()
        .unwrap_or_default();
    if state.resources.contains_key(&key(Kind::Disk, os_disk)) {
        return Err(refusal(
            409,
            "Conflict",
            &format!("Disk {os_disk} already exists."),
        ));
    }
    for disk in properties["storageProfile"]["dataDisks"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let id = disk["managedDisk"]["id"].as_str().unwrap_or_default();
        let Some(disk) = state.resources.get(&id.to_ascii_lowercase()) else {
            return Err(refusal(
                404,
                "NotFound",
                &format!("Disk {id} is not found."),
            ));
        };
        if !disk.body["managedBy"].is_null() {
            let text = format!(
                "Disk {id} is already attached to {}.",
                disk.body["managedBy"]
            );
            return Err(refusal(409, "ConflictingUserInput", &text));
        }
        if disk.body["zones"][0] != body["zones"][0] {
            return Err(refusal(
                400,
                "BadRequest",
                "Disk and machine are in different zones.",
            ));
        }
    }
    Ok(())
}

/// The interface of a configuration, with its public address; its id.
fn make_interface(
    state: &mut State,
    configuration: &Value,
    machine: &str,
    private: &str,
) -> String {
    let name = configuration["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let asked = &configuration["properties"]["ipConfigurations"][0];
    let mut address = json!({
        "privateIPAddress": private,
        "privateIPAllocationMethod": "Dynamic",
        "subnet": asked["properties"]["subnet"],
        "primary": true,
    });
    let public = &asked["properties"]["publicIPAddressConfiguration"];
    if let Some(name) = public["name"].as_str() {
        address["publicIPAddress"] = json!({ "id": id(Kind::Address, name) });
        let mut made = json!({ "location": LOCATION });
        complete(&mut made, Kind::Address, name);
        made["properties"] = json!({
            "provisioningState": "Succeeded",
            "ipAddress": private.replacen("10.0", "203.0", 1),
            "machine": machine,
        });
        let made = Resource::new(Kind::Address, name, made);
        state.resources.insert(key(Kind::Address, name), made);
    }
    let mut made = json!({ "location": LOCATION, "tags": configuration["tags"] });
    complete(&mut made, Kind::Interface, &name);
    made["properties"] = json!({
        "provisioningState": "Succeeded",
        "virtualMachine": { "id": machine },
        "ipConfigurations": [{ "name": asked["name"], "properties": address }],
    });
    drop_null(&mut made, "tags");
    let made = Resource::new(Kind::Interface, &name, made);
    state.resources.insert(key(Kind::Interface, &name), made);
    id(Kind::Interface, &name)
}

fn refusal(status: u16, code: &str, text: &str) -> Refusal {
    Refusal {
        response: wire::error(status, code, text),
        violation: None,
    }
}

fn size_of(body: &Value) -> &str {
    body["properties"]["hardwareProfile"]["vmSize"]
        .as_str()
        .unwrap_or_default()
}

/// The user data of a machine, `None` when it is not base64; empty without any.
fn decoded(properties: &Value) -> Option<String> {
    let text = properties["osProfile"]["customData"]
        .as_str()
        .unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// `object[key]` that is null stands for none.
fn drop_null(object: &mut Value, key: &str) {
    if let Some(fields) = object.as_object_mut()
        && fields.get(key).is_some_and(Value::is_null)
    {
        fields.remove(key);
    }
}
