//! What exists: resources by their id, operations in progress, and how much room there is.

use super::path::Kind;
use super::{Options, Size};
use crate::faults::glob;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A resource as it is shown, and what is known beside.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) body: Value,
    /// Listings that do not show it yet.
    pub(super) hidden_for: u32,
    /// Machines: the decoded user data.
    pub(super) user_data: String,
    /// Machines: `running`, `deallocated`; `None` when they never ran.
    pub(super) power: Option<&'static str>,
    /// Machines: why they failed.
    pub(super) failure: Option<(String, String)>,
}

/// Something that takes its time.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    /// The resource's key.
    pub(super) key: String,
    pub(super) work: Work,
    /// Looks until it ends.
    pub(super) polls: u32,
    /// The error it ends with.
    pub(super) error: Option<(String, String)>,
    pub(super) ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Create,
    Delete,
    Start,
}

/// A removed machine that listings show a little longer.
#[derive(Debug, Clone)]
pub(super) struct Ghost {
    pub(super) body: Value,
    pub(super) listings: u32,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) resources: BTreeMap<String, Resource>,
    pub(super) operations: BTreeMap<u64, Operation>,
    pub(super) ghosts: Vec<Ghost>,
    /// Room by pattern of `<zone>/<size>/<market>`.
    pub(super) rooms: Vec<(String, usize)>,
    /// Listings that do not show a new machine, and go on showing a removed one.
    pub(super) lag: u32,
    /// Quotas in vCPUs by their name.
    pub(super) quotas: BTreeMap<String, u32>,
    /// Machines that ended since they were last asked for.
    pub(super) gone: Vec<String>,
    /// Machines that came up since they were last asked for.
    pub(super) up: Vec<String>,
    pub(super) leaves_behind: bool,
    last: u64,
}

// === impl Resource ===

impl Resource {
    pub(super) fn new(kind: Kind, name: &str, body: Value) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            body,
            hidden_for: 0,
            user_data: String::new(),
            power: None,
            failure: None,
        }
    }

    pub(super) fn state(&self) -> &str {
        self.body["properties"]["provisioningState"]
            .as_str()
            .unwrap_or_default()
    }

    pub(super) fn set_state(&mut self, state: &str) {
        self.body["properties"]["provisioningState"] = json!(state);
    }

    /// `<zone>/<size>/<market>` of a machine; zone `-` when it has none.
    pub(super) fn offering(&self) -> String {
        let zone = self.body["zones"][0].as_str().unwrap_or("-");
        let size = self.size();
        let spot = self.body["properties"]["priority"].as_str() == Some("Spot");
        let market = if spot { "spot" } else { "on-demand" };
        format!("{zone}/{size}/{market}")
    }

    pub(super) fn size(&self) -> &str {
        let size = &self.body["properties"]["hardwareProfile"]["vmSize"];
        size.as_str().unwrap_or_default()
    }

    /// The machine with its instance view, as `$expand=instanceView` shows it.
    pub(super) fn with_view(&self) -> Value {
        let mut body = self.body.clone();
        let mut statuses = Vec::new();
        let state = self.state().to_ascii_lowercase();
        match &self.failure {
            Some((code, message)) => statuses.push(json!({
                "code": format!("ProvisioningState/failed/{code}"), "level": "Error", "message": message,
            })),
            None => statuses.push(json!({ "code": format!("ProvisioningState/{state}"), "level": "Info" })),
        }
        if let Some(power) = self.power {
            statuses.push(json!({ "code": format!("PowerState/{power}"), "level": "Info" }));
        }
        body["properties"]["instanceView"] = json!({ "statuses": statuses });
        body
    }
}

// === impl State ===

impl State {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            lag: options.lag,
            quotas: options.quotas.clone(),
            ..Self::default()
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Begins an operation on a resource; its number.
    pub(super) fn begin(
        &mut self,
        key: &str,
        work: Work,
        polls: u32,
        error: Option<(String, String)>,
    ) -> u64 {
        let id = self.number();
        let operation = Operation {
            key: key.to_owned(),
            work,
            polls,
            error,
            ended: false,
        };
        self.operations.insert(id, operation);
        id
    }

    /// The operation in progress on a resource.
    pub(super) fn busy(&self, key: &str) -> Option<u64> {
        let mut running = self
            .operations
            .iter()
            .filter(|(_, o)| o.key == key && !o.ended);
        running.next().map(|(id, _)| *id)
    }

    /// Somebody looks: what is in progress on `key` gets nearer to its end.
    pub(super) fn look_at(&mut self, key: &str) {
        if let Some(id) = self.busy(key) {
            self.look(id);
        }
    }

    /// Somebody looks at everything.
    pub(super) fn look_at_all(&mut self) {
        let running: Vec<u64> = self
            .operations
            .iter()
            .filter(|(_, o)| !o.ended)
            .map(|(id, _)| *id)
            .collect();
        for id in running {
            self.look(id);
        }
    }

    /// Somebody looks at an operation.
    pub(super) fn look(&mut self, id: u64) {
        let Some(operation) = self.operations.get_mut(&id).filter(|o| !o.ended) else {
            return;
        };
        if operation.polls > 0 {
            operation.polls -= 1;
            return;
        }
        operation.ended = true;
        let done = operation.clone();
        match (done.work, done.error) {
            (Work::Create, None) => self.created(&done.key),
            (Work::Create, Some(error)) => {
                if let Some(resource) = self.resources.get_mut(&done.key) {
                    resource.set_state("Failed");
                    resource.failure = Some(error);
                }
            }
            (Work::Delete, None) => self.remove(&done.key),
            (Work::Start, None) => {
                if let Some(resource) = self.resources.get_mut(&done.key) {
                    resource.set_state("Succeeded");
                    resource.power = Some("running");
                    let name = resource.name.clone();
                    self.up.push(name);
                }
            }
            (Work::Delete | Work::Start, Some(_)) => {
                if let Some(resource) = self.resources.get_mut(&done.key) {
                    resource.set_state("Succeeded");
                }
            }
        }
    }

    fn created(&mut self, key: &str) {
        let Some(resource) = self.resources.get_mut(key) else {
            return;
        };
        resource.set_state("Succeeded");
        if resource.kind == Kind::Machine {
            resource.power = Some("running");
            let name = resource.name.clone();
            self.up.push(name);
        }
    }

    /// Takes a resource away, with what goes with it.
    pub(super) fn remove(&mut self, key: &str) {
        let Some(resource) = self.resources.remove(key) else {
            return;
        };
        for operation in self.operations.values_mut().filter(|o| o.key == key) {
            operation.ended = true;
        }
        if resource.kind != Kind::Machine {
            return;
        }
        self.gone.push(resource.name.clone());
        if self.lag > 0 {
            self.ghosts.push(Ghost {
                body: resource.body.clone(),
                listings: self.lag,
            });
        }
        let id = resource.body["id"]
            .as_str()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let leaves = std::mem::take(&mut self.leaves_behind);
        self.resources.retain(|_, other| {
            let on_it = match other.kind {
                Kind::Disk => other.body["managedBy"].as_str(),
                Kind::Interface => other.body["properties"]["virtualMachine"]["id"].as_str(),
                Kind::Address => other.body["properties"]["machine"].as_str(),
                _ => None,
            };
            if on_it.map(str::to_ascii_lowercase).as_deref() != Some(id.as_str()) {
                return true;
            }
            let retained = other.kind == Kind::Disk && other.body["properties"]["osType"].is_null();
            let stays = retained || leaves;
            if let Some(fields) = other.body.as_object_mut().filter(|_| stays) {
                fields.remove("managedBy");
                if let Some(properties) =
                    fields.get_mut("properties").and_then(Value::as_object_mut)
                {
                    properties.remove("virtualMachine");
                    properties.remove("machine");
                }
            }
            stays
        });
    }

    /// One more machine like this fits.
    pub(super) fn has_room(&self, offering: &str) -> bool {
        self.rooms
            .iter()
            .filter(|(pattern, _)| glob(pattern, offering))
            .all(|(pattern, room)| {
                let living = |r: &&Resource| {
                    r.kind == Kind::Machine && r.failure.is_none() && glob(pattern, &r.offering())
                };
                self.resources.values().filter(living).count() < *room
            })
    }

    /// vCPUs in use of a quota: `cores`, `lowPriorityCores` or a family's name.
    pub(super) fn used(&self, quota: &str, sizes: &[Size]) -> u32 {
        let counted = |r: &&Resource| r.kind == Kind::Machine && r.failure.is_none();
        let uses = self.resources.values().filter(counted).filter_map(|r| {
            let size = sizes
                .iter()
                .find(|s| s.name.eq_ignore_ascii_case(r.size()))?;
            let spot = r.offering().ends_with("/spot");
            of_quota(quota, size, spot).then_some(size.vcpus)
        });
        uses.sum()
    }

    /// The machine of this name.
    pub(super) fn machine(&self, name: &str) -> Option<(&String, &Resource)> {
        let mut machines = self
            .resources
            .iter()
            .filter(|(_, r)| r.kind == Kind::Machine);
        machines.find(|(_, r)| r.name == name)
    }
}

/// A machine of `size` counts against `quota`.
pub(super) fn of_quota(quota: &str, size: &Size, spot: bool) -> bool {
    match quota {
        "lowPriorityCores" => spot,
        "cores" => !spot,
        family => !spot && size.family == family,
    }
}
