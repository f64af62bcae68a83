//! The methods that are played, by their names.

use super::contract::BASE;
use super::filter::Filter;
use super::state::{Place, State, Then, fingerprint};
use super::stock::{self, API};
use super::{PROJECT, launch, wire};
use crate::faults::{Effect, Faults};
use crate::http::{Request, Response, decode};
use serde_json::{Value, json};

/// A method with what its path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Method {
    /// `instances.insert`.
    pub(super) action: &'static str,
    pub(super) mutating: bool,
    project: String,
    /// The zone or region; empty for global ones.
    location: String,
    /// The resource's name; empty for lists and inserts.
    name: String,
}

/// The path below the API's base, decoded, in parts; `None` for other paths.
pub(super) fn parts(path: &str) -> Option<Vec<String>> {
    let below = path.strip_prefix(BASE)?;
    Some(below.split('/').map(decode).collect())
}

// === impl Method ===

impl Method {
    /// The method of a request; `None` when it is not played here.
    pub(super) fn of(http: &str, parts: &[String]) -> Option<Self> {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (project, rest) = match parts.as_slice() {
            ["projects", project, rest @ ..] => (*project, rest),
            _ => return None,
        };
        let (action, location, name) = match (http, rest) {
            ("GET", ["zones"]) => ("zones.list", "", ""),
            ("GET", ["zones", zone, "machineTypes"]) => ("machineTypes.list", *zone, ""),
            ("GET", ["zones", zone, "acceleratorTypes"]) => ("acceleratorTypes.list", *zone, ""),
            ("GET", ["zones", zone, "instances"]) => ("instances.list", *zone, ""),
            ("POST", ["zones", zone, "instances"]) => ("instances.insert", *zone, ""),
            ("GET", ["zones", zone, "instances", name]) => ("instances.get", *zone, *name),
            ("DELETE", ["zones", zone, "instances", name]) => ("instances.delete", *zone, *name),
            ("POST", ["zones", zone, "instances", name, "setLabels"]) => {
                ("instances.setLabels", *zone, *name)
            }
            ("POST", ["zones", zone, "instances", name, "start"]) => {
                ("instances.start", *zone, *name)
            }
            ("GET", ["zones", zone, "disks"]) => ("disks.list", *zone, ""),
            ("DELETE", ["zones", zone, "disks", name]) => ("disks.delete", *zone, *name),
            ("GET", ["zones", zone, "operations", name]) => ("zoneOperations.get", *zone, *name),
            ("POST", ["zones", zone, "operations", name, "wait"]) => {
                ("zoneOperations.wait", *zone, *name)
            }
            ("GET", ["regions", region, "operations", name]) => {
                ("regionOperations.get", *region, *name)
            }
            ("POST", ["regions", region, "operations", name, "wait"]) => {
                ("regionOperations.wait", *region, *name)
            }
            ("POST", ["regions", region, "instances", "bulkInsert"]) => {
                ("regionInstances.bulkInsert", *region, "")
            }
            ("GET", ["global", "images", "family", name]) => ("images.getFromFamily", "", *name),
            ("GET", ["global", "images", name]) => ("images.get", "", *name),
            _ => return None,
        };
        let changes = ["insert", "delete", "setLabels", "start", "bulkInsert"];
        Some(Self {
            action,
            mutating: changes.iter().any(|c| action.ends_with(&format!(".{c}"))),
            project: project.to_owned(),
            location: location.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Whether Capacity and Quota come by the operation that the method begins.
    pub(super) fn launches(&self) -> bool {
        matches!(
            self.action,
            "instances.insert" | "regionInstances.bulkInsert"
        )
    }

    /// Carries it out; `forced` is what goes wrong with an insert.
    pub(super) fn carry_out(
        &self,
        state: &mut State,
        faults: &Faults,
        request: &Request,
        forced: Option<&Effect>,
    ) -> Response {
        if !self.action.starts_with("images.") && self.project != PROJECT {
            return wire::error(
                403,
                "forbidden",
                &format!("Permission denied on the project '{}'", self.project),
            );
        }
        let is_zone = !self.location.is_empty() && !self.action.starts_with("region");
        if is_zone && stock::region_of(&self.location).is_none() {
            return wire::invalid(&format!(
                "Invalid value for field 'zone': '{}'. Unknown zone.",
                self.location
            ));
        }
        let id = request.parameter("requestId").filter(|_| self.mutating);
        if let Some(id) = &id {
            if !is_uuid(id) {
                return wire::invalid(&format!("Invalid value for field 'requestId': '{id}'."));
            }
            if let Some(before) = state.requests.get(id) {
                return Response::json(200, &state.operation(&before.clone()));
            }
        }
        let body = request.json().unwrap_or_default();
        let answer = self.answer(state, faults, request, &body, forced);
        if let (Some(id), 200) = (id, answer.status) {
            let begun: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let name = begun["name"].as_str().unwrap_or_default();
            state.requests.insert(id, name.to_owned());
        }
        answer
    }

    fn answer(
        &self,
        state: &mut State,
        faults: &Faults,
        request: &Request,
        body: &Value,
        forced: Option<&Effect>,
    ) -> Response {
        let zone = self.location.as_str();
        match self.action {
            "zones.list" => self.page(state, request, stock::zones(PROJECT)),
            "machineTypes.list" => self.page(state, request, stock::machine_types(zone)),
            "acceleratorTypes.list" => self.page(state, request, stock::accelerator_types(zone)),
            "instances.list" => self.list_instances(state, request),
            "disks.list" => {
                let here = state.disks.iter().filter(|((z, _), _)| z == zone);
                let all = here.map(|(_, disk)| disk.clone()).collect();
                self.page(state, request, all)
            }
            "instances.insert" => launch::insert(state, faults, zone, body, forced),
            "regionInstances.bulkInsert" => launch::bulk(state, faults, zone, body, forced),
            "instances.get" => self.get_instance(state),
            "instances.delete" => self.delete_instance(state),
            "instances.setLabels" => self.set_labels(state, body),
            "instances.start" => self.start_instance(state),
            "disks.delete" => self.delete_disk(state),
            "images.get" | "images.getFromFamily" => self.image(state),
            _ => match state.look(&self.name) {
                Some(operation) => Response::json(200, &operation),
                None => wire::not_found(&self.path("operations")),
            },
        }
    }

    fn place(&self) -> Place {
        (self.location.clone(), self.name.clone())
    }

    fn path(&self, kind: &str) -> String {
        format!(
            "projects/{PROJECT}/zones/{}/{kind}/{}",
            self.location, self.name
        )
    }

    fn list_instances(&self, state: &mut State, request: &Request) -> Response {
        let mut all = Vec::new();
        let mut looked = Vec::new();
        for ((zone, _), held) in &mut state.instances {
            if *zone != self.location {
                continue;
            }
            looked.push(held.operation.clone());
            match held.hidden_for.checked_sub(1) {
                Some(less) => held.hidden_for = less,
                None => all.push(held.resource.clone()),
            }
        }
        let answer = self.page(state, request, all);
        for operation in looked {
            state.look(&operation);
        }
        answer
    }

    fn get_instance(&self, state: &mut State) -> Response {
        let Some(held) = state.instances.get(&self.place()) else {
            return wire::not_found(&self.path("instances"));
        };
        let (resource, operation) = (held.resource.clone(), held.operation.clone());
        state.look(&operation);
        Response::json(200, &resource)
    }

    fn delete_instance(&self, state: &mut State) -> Response {
        let place = self.place();
        let Some(held) = state.instances.get(&place) else {
            return wire::not_found(&self.path("instances"));
        };
        let before = held.operation.clone();
        // What it was being made by ends with it.
        state.fails(&before, Vec::new());
        state.set_status(&place, "STOPPING");
        let operation = self.begin(state, "instances", "delete", Then::Gone(place.clone()));
        if let Some(held) = state.instances.get_mut(&place) {
            held.operation.clone_from(&operation);
        }
        Response::json(200, &state.operation(&operation))
    }

    fn start_instance(&self, state: &mut State) -> Response {
        let place = self.place();
        if !state.instances.contains_key(&place) {
            return wire::not_found(&self.path("instances"));
        }
        let operation = self.begin(state, "instances", "start", Then::Runs(place));
        Response::json(200, &state.operation(&operation))
    }

    fn set_labels(&self, state: &mut State, body: &Value) -> Response {
        let Some(held) = state.instances.get_mut(&self.place()) else {
            return wire::not_found(&self.path("instances"));
        };
        if body["labelFingerprint"] != held.resource["labelFingerprint"] {
            return wire::error(
                412,
                "conditionNotMet",
                "Labels fingerprint either invalid or resource labels have changed",
            );
        }
        held.resource["labels"] = body["labels"].clone();
        held.resource["labelFingerprint"] = json!(fingerprint(&body["labels"]));
        let operation = self.begin(state, "instances", "setLabels", Then::Nothing);
        Response::json(200, &state.operation(&operation))
    }

    fn delete_disk(&self, state: &mut State) -> Response {
        let place = self.place();
        match state.disks.get(&place) {
            None => return wire::not_found(&self.path("disks")),
            Some(disk) if disk["users"].is_array() => {
                let message = format!(
                    "The disk resource '{}' is already being used",
                    self.path("disks")
                );
                return wire::error(400, "resourceInUseByAnotherResource", &message);
            }
            Some(_) => {}
        }
        let operation = self.begin(state, "disks", "delete", Then::DiskGone(place));
        Response::json(200, &state.operation(&operation))
    }

    fn image(&self, state: &State) -> Response {
        let family = if self.action == "images.get" {
            ""
        } else {
            "family/"
        };
        let path = format!(
            "projects/{}/global/images/{family}{}",
            self.project, self.name
        );
        if state.missing_images.contains(&path) {
            return wire::not_found(&path);
        }
        let name = self.name.as_str();
        Response::json(
            200,
            &json!({"kind": "compute#image", "name": name, "status": "READY", "selfLink": format!("{API}/{path}")}),
        )
    }

    fn begin(&self, state: &mut State, kind: &str, what: &str, then: Then) -> String {
        let target = format!("{kind}/{}", self.name);
        state.begin(&format!("zones/{}", self.location), what, &target, then)
    }

    /// A page of a list: `filter`, `maxResults` and `pageToken` as the request has them.
    fn page(&self, state: &State, request: &Request, all: Vec<Value>) -> Response {
        let filter = match Filter::read(&request.parameter("filter").unwrap_or_default()) {
            Ok(filter) => filter,
            Err(why) => return wire::invalid(&format!("Invalid value for field 'filter': {why}")),
        };
        let number = |name: &str| {
            request
                .parameter(name)
                .and_then(|n| n.parse::<usize>().ok())
        };
        let most = number("maxResults")
            .unwrap_or(state.options.page)
            .clamp(1, state.options.page);
        let from = number("pageToken").unwrap_or(0);
        let fit: Vec<Value> = all.into_iter().filter(|r| filter.fits(r)).collect();
        let next = from.saturating_add(most);
        let items: Vec<&Value> = fit.iter().skip(from).take(most).collect();
        let kind = self.action.split('.').next().unwrap_or_default();
        let mut page =
            json!({"kind": format!("compute#{}List", kind.trim_end_matches('s')), "items": items});
        if next < fit.len() {
            page["nextPageToken"] = json!(next.to_string());
        }
        Response::json(200, &page)
    }
}

fn is_uuid(text: &str) -> bool {
    let shape = text.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    let hex = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    shape && hex && text.bytes().any(|b| b != b'0' && b != b'-')
}
