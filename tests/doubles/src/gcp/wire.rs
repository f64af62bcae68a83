//! Google's way to say no.

use crate::faults::Effect;
use crate::http::Response;
use serde_json::{Value, json};

/// An error of a call.
pub(super) fn error(status: u16, reason: &str, message: &str) -> Response {
    let domain = if status == 403 && reason.ends_with("Exceeded") {
        "usageLimits"
    } else {
        "global"
    };
    let body = json!({"error": {
        "code": status,
        "message": message,
        "errors": [{"message": message, "domain": domain, "reason": reason}],
    }});
    Response::json(status, &body)
}

/// What is not there.
pub(super) fn not_found(path: &str) -> Response {
    error(
        404,
        "notFound",
        &format!("The resource '{path}' was not found"),
    )
}

/// A request that does not fit.
pub(super) fn invalid(message: &str) -> Response {
    error(400, "invalid", message)
}

/// An error of an operation.
pub(super) fn operation_error(code: &str, message: &str) -> Value {
    json!({"code": code, "message": message})
}

/// No room in a zone.
pub(super) fn exhausted(project: &str, zone: &str, machine_type: &str) -> Value {
    let message = format!(
        "The zone 'projects/{project}/zones/{zone}' does not have enough resources available to fulfill the \
         request. Try a different zone, or try again later. (machine type: {machine_type})"
    );
    operation_error("ZONE_RESOURCE_POOL_EXHAUSTED", &message)
}

/// No more of the account's quota.
pub(super) fn over_quota(zone: &str, machine_type: &str) -> Value {
    let message = format!(
        "Quota 'GPUS_ALL_REGIONS' exceeded. Limit: 0.0 globally. ({machine_type} in {zone})"
    );
    operation_error("QUOTA_EXCEEDED", &message)
}

/// What an effect of a fault rule is as the answer of a call. Capacity and quota of inserts come by their operation.
pub(super) fn refuse(effect: &Effect) -> Response {
    match effect {
        Effect::Capacity => error(
            503,
            "resourceExhausted",
            "The zone does not have enough resources available",
        ),
        Effect::Quota => error(
            403,
            "quotaExceeded",
            "Quota 'GPUS_ALL_REGIONS' exceeded. Limit: 0.0 globally.",
        ),
        Effect::Throttle => error(403, "rateLimitExceeded", "Rate Limit Exceeded"),
        _ => error(
            503,
            "backendError",
            "Internal error. Please try again or contact Google Support.",
        ),
    }
}
