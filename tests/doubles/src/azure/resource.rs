//! What all kinds of resources have in common: read, listed, changed and removed; and scale sets, disks, interfaces.

use super::path::Kind;
use super::state::{Ghost, Resource, State, Work};
use super::{Arm, GROUP, SUBSCRIPTION, wire};
use crate::http::{Request, Response};
use serde_json::{Value, json};

impl Arm {
    pub(super) fn get(&self, request: &Request, kind: Kind, name: &str) -> Response {
        let key = key(kind, name);
        let mut state = self.state();
        state.look_at(&key);
        let view = request.parameter("$expand").as_deref() == Some("instanceView");
        match state.resources.get(&key) {
            Some(resource) if view => Response::json(200, &resource.with_view()),
            Some(resource) => Response::json(200, &resource.body),
            None => wire::missing(&id(kind, name)),
        }
    }

    pub(super) fn list(&self, request: &Request, kind: Kind) -> Response {
        let mut state = self.state();
        let first = request.parameter("$skiptoken").is_none();
        if first {
            state.look_at_all();
        }
        let filter = request.parameter("$filter").unwrap_or_default();
        let view = request.parameter("$expand").as_deref() == Some("instanceView");
        if view && filter.is_empty() {
            let text = "$expand needs a $filter by scale set";
            self.control.violated(text);
            return wire::error(400, "InvalidParameter", text);
        }
        let mut rows = Vec::new();
        for resource in state.resources.values_mut().filter(|r| r.kind == kind) {
            if resource.hidden_for > 0 {
                resource.hidden_for -= u32::from(first);
                continue;
            }
            if in_set(&resource.body, &filter) {
                rows.push(if view {
                    resource.with_view()
                } else {
                    resource.body.clone()
                });
            }
        }
        if kind == Kind::Machine {
            let ghosts = state.ghosts.iter().filter(|g| in_set(&g.body, &filter));
            rows.extend(ghosts.map(|g| g.body.clone()));
            if first {
                fade(&mut state.ghosts);
            }
        }
        wire::page(request, rows, self.options.page)
    }

    pub(super) fn put_resource(&self, request: &Request, kind: Kind, name: &str) -> Response {
        let mut body = request.json().unwrap_or(Value::Null);
        if !valid_name(name, 80) {
            return wire::error(400, "InvalidResourceName", name);
        }
        let key = key(kind, name);
        let mut state = self.state();
        let exists = state.resources.contains_key(&key);
        if exists && request.header("if-none-match") == Some("*") {
            return wire::error(412, "PreconditionFailed", "The resource exists.");
        }
        complete(&mut body, kind, name);
        if kind == Kind::ScaleSet
            && let Some(wrong) = self.wrong_set(&state, &key, &body)
        {
            return wrong;
        }
        if let Some(old) = state.resources.get(&key)
            && kind == Kind::Disk
        {
            body["managedBy"] = old.body["managedBy"].clone();
            if body["managedBy"].is_null() {
                body.as_object_mut().map(|o| o.remove("managedBy"));
            }
        }
        body["properties"]["provisioningState"] = json!("Creating");
        state
            .resources
            .insert(key.clone(), Resource::new(kind, name, body.clone()));
        let operation = state.begin(&key, Work::Create, self.options.polls, None);
        let status = if exists { 200 } else { 201 };
        wire::accepted(
            request,
            status,
            &operation_path(kind, operation),
            Some(&body),
        )
    }

    /// Zones of a scale set can be added, never taken away; what it may not be made of.
    fn wrong_set(&self, state: &State, key: &str, body: &Value) -> Option<Response> {
        let properties = &body["properties"];
        let empty = properties["virtualMachineProfile"].is_null() && body["sku"].is_null();
        if properties["orchestrationMode"].as_str() == Some("Flexible")
            && empty
            && properties["platformFaultDomainCount"].as_i64().is_none()
        {
            let text = "platformFaultDomainCount is required with orchestrationMode Flexible";
            self.control.violated(text);
            return Some(wire::error(400, "InvalidParameter", text));
        }
        let old = state.resources.get(key)?;
        let kept = |zone: &Value| body["zones"].as_array().is_some_and(|z| z.contains(zone));
        let had = old.body["zones"].as_array().into_iter().flatten();
        if had.into_iter().all(kept) {
            return None;
        }
        Some(wire::error(
            409,
            "PropertyChangeNotAllowed",
            "Zones cannot be removed.",
        ))
    }

    pub(super) fn patch(&self, request: &Request, kind: Kind, name: &str) -> Response {
        let body = request.json().unwrap_or(Value::Null);
        let mut state = self.state();
        let Some(resource) = state.resources.get_mut(&key(kind, name)) else {
            return wire::missing(&id(kind, name));
        };
        if let Some(tags) = body.get("tags") {
            // All of them: Compute does not merge.
            resource.body["tags"] = tags.clone();
        }
        Response::json(200, &resource.body)
    }

    pub(super) fn delete(&self, request: &Request, kind: Kind, name: &str) -> Response {
        let key = key(kind, name);
        let mut state = self.state();
        let members = state.resources.values().any(|r| {
            let set = r.body["properties"]["virtualMachineScaleSet"]["id"].as_str();
            set.is_some_and(|s| s.to_ascii_lowercase() == key)
        });
        let Some(resource) = state.resources.get_mut(&key) else {
            return Response::empty(204);
        };
        let in_use = match kind {
            Kind::Disk => !resource.body["managedBy"].is_null(),
            Kind::Interface => !resource.body["properties"]["virtualMachine"].is_null(),
            Kind::ScaleSet => members,
            _ => false,
        };
        if in_use {
            let text = format!("{} is in use.", id(kind, name));
            return wire::error(409, "OperationNotAllowed", &text);
        }
        if resource.state() == "Deleting" {
            let running = state.busy(&key).unwrap_or_default();
            return wire::accepted(request, 202, &operation_path(kind, running), None);
        }
        resource.set_state("Deleting");
        // What was still being made is not any more.
        for operation in state.operations.values_mut().filter(|o| o.key == key) {
            operation.ended = true;
        }
        let operation = state.begin(&key, Work::Delete, self.options.polls, None);
        wire::accepted(request, 202, &operation_path(kind, operation), None)
    }
}

/// The id as Azure writes it.
pub(super) fn id(kind: Kind, name: &str) -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/{}/{name}",
        kind.provider()
    )
}

/// The id as it is looked up: ids have no case.
pub(super) fn key(kind: Kind, name: &str) -> String {
    id(kind, name).to_ascii_lowercase()
}

pub(super) fn operation_path(kind: Kind, operation: u64) -> String {
    let namespace = kind.provider().split('/').next().unwrap_or_default();
    format!(
        "/subscriptions/{SUBSCRIPTION}/providers/{namespace}/locations/eastus/operations/{operation}"
    )
}

/// Adds what the service says of a resource.
pub(super) fn complete(body: &mut Value, kind: Kind, name: &str) {
    body["id"] = json!(id(kind, name));
    body["name"] = json!(name);
    body["type"] = json!(kind.provider());
    if !body["properties"].is_object() {
        body["properties"] = json!({});
    }
}

pub(super) fn valid_name(name: &str, longest: usize) -> bool {
    (1..=longest).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// `'virtualMachineScaleSet/id' eq '<id>'`, or no filter.
fn in_set(machine: &Value, filter: &str) -> bool {
    let Some(set) = filter.strip_prefix("'virtualMachineScaleSet/id' eq '") else {
        return filter.is_empty();
    };
    let of = machine["properties"]["virtualMachineScaleSet"]["id"].as_str();
    of.is_some_and(|of| of.eq_ignore_ascii_case(set.trim_end_matches('\'')))
}

fn fade(ghosts: &mut Vec<Ghost>) {
    for ghost in ghosts.iter_mut() {
        ghost.listings = ghost.listings.saturating_sub(1);
    }
    ghosts.retain(|g| g.listings > 0);
}
