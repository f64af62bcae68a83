//! What each metadata service answers, refusals included.

use super::State;
use crate::http::{Request, Response};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// The longest that a call may wait for a change, in seconds.
const MAX_WAIT_S: u64 = 600;

fn nothing() -> Response {
    Response::text(404, "not found")
}

pub(super) fn aws(state: &Arc<State>, request: &Request) -> Response {
    if request.path == "/latest/api/token" {
        let ttl = request.header("x-aws-ec2-metadata-token-ttl-seconds");
        let ttl: Option<u64> = ttl.and_then(|t| t.parse().ok());
        let good = request.method == "PUT" && ttl.is_some_and(|t| (1..=21_600).contains(&t));
        if !good {
            return Response::text(400, "bad request");
        }
        let mut told = state.lock();
        told.sessions_opened += 1;
        let token = format!("session-{}-{}", state.instance.id, told.sessions_opened);
        told.sessions.insert(token.clone());
        return Response::text(200, token);
    }
    let token = request
        .header("x-aws-ec2-metadata-token")
        .unwrap_or_default();
    if !state.lock().sessions.contains(token) {
        return Response::text(401, "unauthorized");
    }
    let own = &state.instance;
    let told = state.lock();
    let found = |value: &Option<serde_json::Value>| {
        value
            .as_ref()
            .map_or_else(nothing, |v| Response::json(200, v))
    };
    match request.path.as_str() {
        "/latest/dynamic/instance-identity/document" => Response::json(
            200,
            &json!({
                "accountId": own.account, "architecture": "x86_64", "availabilityZone": own.zone,
                "instanceId": own.id, "instanceType": own.instance_type, "privateIp": own.private_address,
                "region": own.region, "version": "2017-09-30",
            }),
        ),
        "/latest/meta-data/instance-id" => Response::text(200, own.id.clone()),
        "/latest/meta-data/public-ipv4" if !own.public_address.is_empty() => {
            Response::text(200, own.public_address.clone())
        }
        "/latest/meta-data/iam/security-credentials/" if own.identity => {
            Response::text(200, "gpuloom-node")
        }
        "/latest/meta-data/iam/security-credentials/gpuloom-node" if own.identity => {
            Response::json(200, &state.authority.credentials(own, state.clock.now_ms()))
        }
        "/latest/meta-data/spot/instance-action" => found(&told.announced.spot_action),
        "/latest/meta-data/events/recommendations/rebalance" => found(&told.announced.rebalance),
        "/latest/meta-data/events/maintenance/scheduled" => {
            Response::json(200, &told.announced.scheduled)
        }
        _ => nothing(),
    }
}

pub(super) async fn gcp(state: &Arc<State>, request: &Request) -> Response {
    if request.header("metadata-flavor") != Some("Google") {
        return Response::text(403, "Missing Metadata-Flavor:Google header.");
    }
    let own = &state.instance;
    let Some(path) = request.path.strip_prefix("/computeMetadata/v1/") else {
        return nothing();
    };
    if path == "instance/service-accounts/default/identity" {
        let audience = request.parameter("audience").unwrap_or_default();
        if !own.identity {
            return nothing();
        }
        if audience.is_empty() {
            return Response::text(400, "non-empty audience parameter required");
        }
        let full = request.parameter("format").as_deref() == Some("full");
        return Response::text(
            200,
            state
                .authority
                .identity_token(own, &audience, full, state.clock.now_ms()),
        );
    }
    let etag = wait(state, request).await;
    let told = state.lock();
    let response = match path {
        "instance/" if request.parameter("recursive").as_deref() == Some("true") => Response::json(
            200,
            &json!({
                "id": 4_520_031_799_277_581_759_u64, "name": own.id,
                "zone": format!("projects/1234/zones/{}", own.zone),
                "machineType": format!("projects/1234/machineTypes/{}", own.instance_type),
                "networkInterfaces": [{
                    "ip": own.private_address,
                    "accessConfigs": [{ "externalIp": own.public_address, "type": "ONE_TO_ONE_NAT" }],
                }],
            }),
        ),
        "project/project-id" => Response::text(200, own.account.clone()),
        "instance/preempted" => Response::text(
            200,
            if told.announced.preempted {
                "TRUE"
            } else {
                "FALSE"
            },
        ),
        "instance/maintenance-event" => {
            Response::text(200, told.announced.maintenance_event.unwrap_or("NONE"))
        }
        _ => nothing(),
    };
    response
        .with("metadata-flavor", "Google")
        .with("etag", etag)
}

/// Waits, when the caller knows the newest already, until there is something newer or its time is up.
async fn wait(state: &State, request: &Request) -> String {
    let mut changes = state.changes.subscribe();
    if request.parameter("wait_for_change").as_deref() == Some("true") {
        let known = request.parameter("last_etag");
        let limit = request
            .parameter("timeout_sec")
            .and_then(|t| t.parse().ok());
        let limit = Duration::from_secs(limit.unwrap_or(MAX_WAIT_S).min(MAX_WAIT_S));
        let newer = changes.wait_for(|n| known.as_deref() != Some(format!("{n:016x}").as_str()));
        // Too late: the value is told as it is.
        let _ = tokio::time::timeout(limit, newer).await;
    }
    format!("{:016x}", *state.changes.borrow())
}

pub(super) async fn azure(state: &Arc<State>, request: &Request) -> Response {
    if request.header("metadata") != Some("true") || request.header("x-forwarded-for").is_some() {
        return Response::json(
            400,
            &json!({ "error": "Bad request. Required metadata header not specified" }),
        );
    }
    let Some(version) = request.parameter("api-version") else {
        return Response::json(
            400,
            &json!({ "error": "Bad request. api-version was not specified" }),
        );
    };
    let own = &state.instance;
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/metadata/instance") => Response::json(
            200,
            &json!({
                "compute": {
                    "name": own.id, "vmId": own.vm_id, "subscriptionId": own.account, "location": own.region,
                    "zone": own.zone, "vmSize": own.instance_type,
                },
                "network": { "interface": [{ "ipv4": { "ipAddress": [{
                    "privateIpAddress": own.private_address, "publicIpAddress": own.public_address,
                }] } }] },
            }),
        ),
        ("GET", "/metadata/attested/document") => {
            let nonce = request.parameter("nonce").unwrap_or_default();
            if nonce.len() > 10 || nonce.bytes().any(|b| !b.is_ascii_digit()) {
                return Response::json(400, &json!({ "error": "Bad request. Invalid nonce" }));
            }
            let signature = state
                .authority
                .attested_document(own, &nonce, state.clock.now_ms());
            Response::json(200, &json!({ "encoding": "pkcs7", "signature": signature }))
        }
        (method, "/metadata/scheduledevents") if version == "2020-07-01" => {
            events(state, method, request).await
        }
        _ => nothing(),
    }
}

async fn events(state: &Arc<State>, method: &str, request: &Request) -> Response {
    let delay = {
        let mut told = state.lock();
        let first = !std::mem::replace(&mut told.events_looked_at, true);
        if first {
            told.first_events_delay
        } else {
            Duration::ZERO
        }
    };
    tokio::time::sleep(delay).await;
    let mut told = state.lock();
    if method == "POST" {
        let body = request.json().unwrap_or_default();
        let starts = body["StartRequests"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let ids: Vec<String> = starts
            .iter()
            .filter_map(|s| s["EventId"].as_str().map(str::to_owned))
            .collect();
        let known = |id: &String| {
            told.announced
                .events
                .iter()
                .any(|e| e["EventId"] == id.as_str())
        };
        if ids.is_empty() || !ids.iter().all(known) {
            return Response::json(400, &json!({ "error": "Bad request. Unknown event" }));
        }
        told.announced.incarnation += 1;
        for event in &mut told.announced.events {
            if ids.iter().any(|id| event["EventId"] == id.as_str()) {
                event["EventStatus"] = json!("Started");
                event["NotBefore"] = json!("");
            }
        }
        told.acknowledged.extend(ids);
        return Response::empty(200);
    }
    let mut events = told.announced.events.clone();
    for event in &mut events {
        if event["Resources"] == json!([null]) {
            event["Resources"] = json!([state.instance.id]);
        }
    }
    Response::json(
        200,
        &json!({ "DocumentIncarnation": told.announced.incarnation, "Events": events }),
    )
}
