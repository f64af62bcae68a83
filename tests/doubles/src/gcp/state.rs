//! Instances, disks and operations, as the API shows them.

use super::host::Machine;
use super::stock::{self, API};
use super::{Options, PROJECT};
use crate::clock::Clock;
use crate::faults::glob;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// A zone and a name in it.
pub(super) type Place = (String, String);

/// Everything there is.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) options: Options,
    pub(super) clock: Clock,
    pub(super) instances: BTreeMap<Place, Held>,
    pub(super) disks: BTreeMap<Place, Value>,
    pub(super) operations: BTreeMap<String, Operation>,
    /// The operation that a request id was answered with.
    pub(super) requests: BTreeMap<String, String>,
    /// At most so many of a pattern of `<zone>/<type>/<market>`: capacity, and quota.
    pub(super) rooms: Vec<(String, usize)>,
    pub(super) quotas: Vec<(String, usize)>,
    pub(super) missing_images: BTreeSet<String>,
    pub(super) ended: Vec<Machine>,
    /// What the host has to be told.
    pub(super) events: Vec<Event>,
    pub(super) last: u64,
}

/// An instance.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) resource: Value,
    pub(super) id: u64,
    pub(super) launched_ms: u64,
    /// Listings that it is still missing from.
    pub(super) hidden_for: u32,
    /// The operation that changes it.
    pub(super) operation: String,
}

/// Something to tell the host.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Launched(Box<Machine>),
    Ended(String),
}

/// An operation.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) value: Value,
    /// So many looks until it is done.
    pub(super) left: u32,
    /// Seen once it is done.
    pub(super) errors: Vec<Value>,
    pub(super) metadata: Option<Value>,
    pub(super) then: Then,
}

/// What an operation has done once it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    Runs(Place),
    Gone(Place),
    DiskGone(Place),
}

// === impl State ===

impl State {
    /// A number that no other resource has.
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        4_000_000_000_000_000_000 + self.last
    }

    /// Begins an operation in a zone or a region (`zones/Z`, `regions/R`).
    pub(super) fn begin(&mut self, location: &str, kind: &str, target: &str, then: Then) -> String {
        let number = self.number();
        let name = format!("operation-{number}");
        let mut value = json!({
            "kind": "compute#operation", "id": number.to_string(), "name": name, "operationType": kind,
            "status": "PENDING", "progress": 0, "user": super::account::EMAIL,
            "insertTime": self.clock.rfc3339(), "startTime": self.clock.rfc3339(),
            "targetLink": format!("{API}/projects/{PROJECT}/{location}/{target}"),
            "selfLink": format!("{API}/projects/{PROJECT}/{location}/operations/{name}"),
        });
        let (kind, _) = location.split_once('/').unwrap_or((location, ""));
        value[kind.trim_end_matches('s')] = json!(format!("{API}/projects/{PROJECT}/{location}"));
        let left = self.options.polls;
        let made = Operation {
            value,
            left,
            errors: Vec::new(),
            metadata: None,
            then,
        };
        self.operations.insert(name.clone(), made);
        if left == 0 {
            self.look(&name);
        }
        name
    }

    /// Lets an operation end with these errors.
    pub(super) fn fails(&mut self, name: &str, errors: Vec<Value>) {
        if let Some(operation) = self.operations.get_mut(name) {
            operation.errors = errors;
            operation.then = Then::Nothing;
            if operation.left == 0 {
                operation.end(&self.clock);
            }
        }
    }

    /// One look at an operation, which brings it nearer to its end.
    pub(super) fn look(&mut self, name: &str) -> Option<Value> {
        let operation = self.operations.get_mut(name)?;
        operation.left = operation.left.saturating_sub(1);
        if operation.left > 0 {
            operation.value["status"] = json!("RUNNING");
            return Some(operation.value.clone());
        }
        operation.end(&self.clock);
        let (value, then) = (operation.value.clone(), operation.then.clone());
        operation.then = Then::Nothing;
        match then {
            Then::Nothing => {}
            Then::Runs(place) => self.set_status(&place, "RUNNING"),
            Then::Gone(place) => self.end(&place),
            Then::DiskGone(place) => {
                self.disks.remove(&place);
            }
        }
        Some(value)
    }

    /// An operation as it was last seen.
    pub(super) fn operation(&self, name: &str) -> Value {
        self.operations
            .get(name)
            .map(|o| o.value.clone())
            .unwrap_or_default()
    }

    pub(super) fn set_status(&mut self, place: &Place, status: &str) {
        if let Some(held) = self.instances.get_mut(place) {
            held.resource["status"] = json!(status);
        }
    }

    /// Ends an instance: disks that go with it go, the others are free.
    pub(super) fn end(&mut self, place: &Place) {
        let Some(held) = self.instances.remove(place) else {
            return;
        };
        let mut machine = held.machine();
        machine.ended = true;
        for disk in held.resource["disks"].as_array().into_iter().flatten() {
            let name = disk["source"]
                .as_str()
                .and_then(|s| s.rsplit('/').next())
                .unwrap_or_default();
            let at = (place.0.clone(), name.to_owned());
            if disk["autoDelete"] == true {
                self.disks.remove(&at);
            } else if let Some(kept) = self.disks.get_mut(&at) {
                if let Some(kept) = kept.as_object_mut() {
                    kept.remove("users");
                }
                kept["lastDetachTimestamp"] = json!(self.clock.rfc3339());
            }
        }
        self.events.push(Event::Ended(machine.name.clone()));
        self.ended.push(machine);
    }

    /// Whether one more of `offering` may live by these limits.
    pub(super) fn fits(&self, limits: &[(String, usize)], offering: &str) -> bool {
        let mut met = limits.iter().filter(|(pattern, _)| glob(pattern, offering));
        met.all(|(pattern, most)| {
            let living = self
                .instances
                .values()
                .map(|held| held.machine().offering());
            living.filter(|o| glob(pattern, o)).count() < *most
        })
    }

    /// The place of a living instance of this name.
    pub(super) fn place(&self, name: &str) -> Option<Place> {
        self.instances.keys().find(|(_, n)| n == name).cloned()
    }
}

// === impl Operation ===

impl Operation {
    fn end(&mut self, clock: &Clock) {
        self.value["status"] = json!("DONE");
        self.value["progress"] = json!(100);
        self.value["endTime"] = json!(clock.rfc3339());
        if let Some(metadata) = &self.metadata {
            self.value["instancesBulkInsertOperationMetadata"] = metadata.clone();
        }
        if !self.errors.is_empty() {
            self.value["error"] = json!({ "errors": self.errors });
            let quota = self.errors.iter().any(|e| e["code"] == "QUOTA_EXCEEDED");
            let (code, text) = if quota {
                (403, "FORBIDDEN")
            } else {
                (503, "SERVICE UNAVAILABLE")
            };
            self.value["httpErrorStatusCode"] = json!(code);
            self.value["httpErrorMessage"] = json!(text);
        }
    }
}

// === impl Held ===

impl Held {
    /// The instance as a machine.
    pub(super) fn machine(&self) -> Machine {
        let of = &self.resource;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let last = |value: &Value| {
            text(value)
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let machine_type = last(&of["machineType"]);
        let items = of["metadata"]["items"].as_array().into_iter().flatten();
        let kept = of["disks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|d| d["autoDelete"] == false);
        let nic = &of["networkInterfaces"][0];
        let labels = of["labels"].as_object().into_iter().flatten();
        Machine {
            id: self.id,
            name: text(&of["name"]),
            zone: last(&of["zone"]),
            gpus: stock::layout(&machine_type, &of["guestAccelerators"]),
            machine_type,
            spot: of["scheduling"]["provisioningModel"] == "SPOT",
            status: text(&of["status"]),
            labels: labels.map(|(k, v)| (k.clone(), text(v))).collect(),
            metadata: items
                .map(|i| (text(&i["key"]), text(&i["value"])))
                .collect(),
            service_account: of["serviceAccounts"][0]["email"]
                .as_str()
                .map(str::to_owned),
            disks: kept
                .map(|d| (text(&d["deviceName"]), last(&d["source"])))
                .collect(),
            private_address: nic["networkIP"].as_str().map(str::to_owned),
            public_address: nic["accessConfigs"][0]["natIP"].as_str().map(str::to_owned),
            launched_ms: self.launched_ms,
            ended: false,
        }
    }
}

// === functions ===

/// The fingerprint of a value, as Google's: a change needs the last one.
pub(super) fn fingerprint(value: &Value) -> String {
    URL_SAFE.encode(&Sha256::digest(value.to_string())[..8])
}
