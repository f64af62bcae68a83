//! Answers as Resource Manager gives them.

use crate::faults::Effect;
use crate::http::{Request, Response};
use serde_json::{Value, json};

/// An error.
pub(super) fn error(status: u16, code: &str, message: &str) -> Response {
    Response::json(
        status,
        &json!({ "error": { "code": code, "message": message } }),
    )
}

/// There is no such resource.
pub(super) fn missing(what: &str) -> Response {
    error(
        404,
        "ResourceNotFound",
        &format!("The Resource '{what}' was not found."),
    )
}

/// What a fault is on this wire.
pub(super) fn refuse(effect: &Effect, zonal: bool) -> Response {
    match effect {
        Effect::Capacity => {
            let (code, message) = no_capacity(zonal);
            error(409, code, message)
        }
        Effect::Quota => error(409, "OperationNotAllowed", QUOTA),
        Effect::Throttle => error(429, "OperationThrottled", "Too many requests: try later.")
            .with("Retry-After", "1"),
        _ => error(
            500,
            "InternalServerError",
            "Encountered internal server error.",
        ),
    }
}

pub(super) const QUOTA: &str = "Operation could not be completed as it results in exceeding approved Total Regional \
                                Cores quota.";

/// The code and text of a place that has none left.
pub(super) fn no_capacity(zonal: bool) -> (&'static str, &'static str) {
    if zonal {
        let text = "Allocation failed. We do not have sufficient capacity for the requested VM size in this zone.";
        ("ZonalAllocationFailed", text)
    } else {
        let text = "Allocation failed. We do not have sufficient capacity for the requested VM size in this region.";
        ("AllocationFailed", text)
    }
}

/// One page of a listing, with a link to the next.
pub(super) fn page(request: &Request, rows: Vec<Value>, size: usize) -> Response {
    let skip: usize = request
        .parameter("$skiptoken")
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    let mut body = json!({});
    if skip + size < rows.len() {
        let mut query: Vec<String> = request
            .query
            .split('&')
            .filter(|p| !p.starts_with("%24skiptoken=") && !p.starts_with("$skiptoken="))
            .map(str::to_owned)
            .collect();
        query.push(format!("$skiptoken={}", skip + size));
        body["nextLink"] = json!(format!(
            "http://{}{}?{}",
            request.to,
            request.path,
            query.join("&")
        ));
    }
    let rows: Vec<Value> = rows.into_iter().skip(skip).take(size).collect();
    body["value"] = json!(rows);
    Response::json(200, &body)
}

/// An operation was begun: where to ask for it.
pub(super) fn accepted(
    request: &Request,
    status: u16,
    operation: &str,
    body: Option<&Value>,
) -> Response {
    let response = match body {
        Some(body) => Response::json(status, body),
        None => Response::empty(status),
    };
    response
        .with(
            "Azure-AsyncOperation",
            format!("http://{}{operation}", request.to),
        )
        .with("Retry-After", "0")
}
