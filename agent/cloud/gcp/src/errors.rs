//! What Google says, as what the caller can do about it.

use google_cloud_compute_v1::errors::OperationError;
use google_cloud_compute_v1::model::Operation;
use google_cloud_gax::error::Error;
use google_cloud_gax::error::rpc::{Code, StatusDetails};
use gpuloom_cloud::{CloudError, FailureClass, LaunchError, Offering, OfferingFailure};
use gpuloom_fleet::Seconds;

/// One thing that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// E.g. `ZONE_RESOURCE_POOL_EXHAUSTED`, `rateLimitExceeded`; empty when there was none.
    pub(crate) code: String,
    /// The sentence.
    pub(crate) message: String,
    /// What it is about, e.g. a zone's path; empty when it does not say.
    pub(crate) location: String,
    /// What can be done.
    pub(crate) class: FailureClass,
}

/// That the fewest asked for could not be had; why stands beside it.
const SUMMARY: &str = "VM_MIN_COUNT_NOT_REACHED";

// === impl Said ===

impl Said {
    /// What an error of a call says.
    pub(crate) fn of_call(error: &Error) -> Self {
        let status = error.http_status_code();
        let (mut code, mut message) = (String::new(), error.to_string());
        let mut class = match (error.status(), status) {
            (_, Some(http)) => of_http(http),
            (Some(status), None) => of_rpc(status.code),
            (None, None) if error.is_authentication() => FailureClass::Auth,
            (None, None) if error.is_binding() || error.is_serialization() => FailureClass::Invalid,
            // Time ran out, a connection broke, an answer did not read.
            (None, None) => FailureClass::Transient,
        };
        if let Some(status) = error.status() {
            message.clone_from(&status.message);
            let reason = status.details.iter().find_map(|d| match d {
                StatusDetails::ErrorInfo(info) => Some(info.reason.clone()),
                _ => None,
            });
            code = reason.unwrap_or_default();
            class = of_code(&code, &message).unwrap_or(class);
        }
        Self {
            code,
            message,
            location: String::new(),
            class,
        }
    }

    fn of_operation(code: &str, message: &str, location: &str) -> Self {
        // The operation is over: nothing of it exists, and the same request would be told the same. What we do not
        // know, the cloud's own errors too, is worth trying elsewhere.
        let class = match of_code(code, message) {
            None | Some(FailureClass::Transient) => FailureClass::Capacity,
            Some(class) => class,
        };
        Self {
            code: code.to_owned(),
            message: message.to_owned(),
            location: location.to_owned(),
            class,
        }
    }

    /// Code and sentence as one.
    pub(crate) fn text(&self) -> String {
        match self.code.as_str() {
            "" => self.message.clone(),
            code if self.message.contains(code) => self.message.clone(),
            code => format!("{code}: {}", self.message),
        }
    }

    /// Whether it is about this offering: it names its zone and type, or names neither's like.
    fn is_about(&self, offering: &Offering, of: &[Offering]) -> bool {
        let text = format!("{} {}", self.location, self.message);
        let named = |word: &str| names(&text, word);
        let zones_named = of.iter().any(|o| named(o.zone()));
        let types_named = of.iter().any(|o| named(o.instance_type()));
        (!zones_named || named(offering.zone()))
            && (!types_named || named(offering.instance_type()))
    }
}

/// Everything that a finished operation says against itself; empty when it did what it was asked.
pub(crate) fn of_operation(done: Operation) -> Vec<Said> {
    // `to_result`, not the SDK's poller: that calls a failed operation a success.
    let errors = |operation: &Operation| -> Vec<Said> {
        let error = operation.error.as_ref();
        let each = error.map(|e| e.errors.as_slice()).unwrap_or_default();
        each.iter()
            .map(|e| {
                let text = |t: &Option<String>| t.clone().unwrap_or_default();
                Said::of_operation(&text(&e.code), &text(&e.message), &text(&e.location))
            })
            .collect()
    };
    let mut said = errors(&done);
    match done.to_result() {
        Ok(_) => return Vec::new(),
        Err(OperationError::InstancesBulkInsert(e)) => {
            let failed = e.metadata.per_location_status.into_iter();
            for (location, _) in
                failed.filter(|(_, s)| s.failed_to_create_vm_count.unwrap_or(0) > 0)
            {
                let known = said
                    .iter()
                    .any(|s| names(&format!("{} {}", s.location, s.message), short(&location)));
                if !known {
                    let text = format!("no instance could be created in {location}");
                    said.push(Said::of_operation("", &text, &location));
                }
            }
        }
        Err(e) if said.is_empty() => {
            let (code, text) = match &e {
                OperationError::Generic(g) => (g.status_code, g.message.clone()),
                _ => (None, None),
            };
            let http = code.and_then(|c| u16::try_from(c).ok()).map(of_http);
            let mut one = Said::of_operation("", &text.unwrap_or_else(|| e.to_string()), "");
            one.class = match http {
                None | Some(FailureClass::Transient) => one.class,
                Some(class) => class,
            };
            said.push(one);
        }
        Err(_) => {}
    }
    said
}

/// What was said of each of `offerings`, at most once each.
pub(crate) fn by_offering(said: &[Said], offerings: &[Offering]) -> Vec<OfferingFailure> {
    let specific: Vec<&Said> = said.iter().filter(|s| s.code != SUMMARY).collect();
    let specific = if specific.is_empty() {
        said.iter().collect()
    } else {
        specific
    };
    let failure = |offering: &Offering| {
        let about = specific.iter().find(|s| s.is_about(offering, offerings))?;
        Some(OfferingFailure {
            offering: offering.clone(),
            class: about.class,
            message: about.text(),
        })
    };
    offerings.iter().filter_map(failure).collect()
}

/// The error of a launch of `offerings` to which this was said.
pub(crate) fn launch_error(what: &str, said: &[Said], offerings: &[Offering]) -> LaunchError {
    let first = said.iter().find(|s| s.code != SUMMARY).or(said.first());
    let class = first.map_or(FailureClass::Transient, |s| s.class);
    let texts: Vec<String> = said.iter().map(Said::text).collect();
    let mut error = LaunchError::new(class, format!("{what}: {}", texts.join("; ")));
    let each = matches!(
        class,
        FailureClass::Capacity | FailureClass::Quota | FailureClass::Unsupported
    );
    if each {
        error.failed = by_offering(said, offerings);
    }
    if class == FailureClass::Throttled {
        error.retry_after = Some(Seconds(10));
    }
    error
}

/// The error of a call that did not launch.
pub(crate) fn call_error(what: &str, error: Error) -> CloudError {
    let said = Said::of_call(&error);
    CloudError {
        class: said.class,
        message: format!("{what}: {}", said.text()),
        source: Some(error.into()),
    }
}

/// True when what was asked for is not there.
pub(crate) fn is_not_found(error: &Error) -> bool {
    error.http_status_code() == Some(404)
        || error.status().is_some_and(|s| s.code == Code::NotFound)
}

// === classes ===

/// The class of a code Google uses in operations (upper case) or calls (`reason`, camel case); `None` when unknown.
/// Sources: Compute Engine's documentation, "Troubleshooting VM creation", "Resource availability errors"; the
/// codes that Cluster Autoscaler and Karpenter for Google Cloud look for.
pub(crate) fn of_code(code: &str, message: &str) -> Option<FailureClass> {
    let upper: String = code
        .chars()
        .filter(|c| *c != '_')
        .collect::<String>()
        .to_uppercase();
    let has = |word: &str| upper.contains(word);
    let missing = ["not found", "does not exist", "not available"];
    let about_type = [
        "machineType",
        "acceleratorType",
        "machine type",
        "accelerator type",
    ];
    let no_such_type = about_type.iter().any(|w| message.contains(w))
        && missing.iter().any(|w| message.contains(w));
    Some(match () {
        // Before the quotas: these are about calls, not about resources.
        () if has("RATELIMIT") || has("RATEEXCEEDED") || has("CONCURRENTOPERATIONS") => {
            FailureClass::Throttled
        }
        () if has("RESOURCEPOOLEXHAUSTED") || has("STOCKOUT") || has("MINCOUNTNOTREACHED") => {
            FailureClass::Capacity
        }
        () if has("INSUFFICIENTRESOURCES") || has("RESOURCEINUSE") => FailureClass::Capacity,
        () if has("QUOTA") || has("LIMITEXCEEDED") => FailureClass::Quota,
        () if has("UNSUPPORTED") || has("NOTAVAILABLE") || has("INCOMPATIBLE") => {
            FailureClass::Unsupported
        }
        () if no_such_type && (has("NOTFOUND") || has("INVALID")) => FailureClass::Unsupported,
        () if has("PERMISSION") || has("FORBIDDEN") || has("NOTCONFIGURED") => FailureClass::Auth,
        () if has("AUTHERROR") || has("AUTHENTICAT") || has("REQUIREDLOGIN") => FailureClass::Auth,
        // An organization's policy forbids it.
        () if has("CONDITIONNOTMET") || has("POLICYVIOLATION") => FailureClass::Auth,
        () if has("INTERNAL") || has("BACKEND") || has("UNAVAILABLE") || has("NOTREADY") => {
            FailureClass::Transient
        }
        () if has("INVALID") || has("BADREQUEST") || has("REQUIRED") || has("NOTFOUND") => {
            FailureClass::Invalid
        }
        () => return None,
    })
}

fn of_http(status: u16) -> FailureClass {
    match status {
        401 | 403 => FailureClass::Auth,
        408 | 409 | 412 => FailureClass::Transient,
        429 => FailureClass::Throttled,
        400..=499 => FailureClass::Invalid,
        _ => FailureClass::Transient,
    }
}

fn of_rpc(code: Code) -> FailureClass {
    match code {
        Code::PermissionDenied | Code::Unauthenticated => FailureClass::Auth,
        Code::ResourceExhausted => FailureClass::Throttled,
        Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition | Code::OutOfRange => {
            FailureClass::Invalid
        }
        _ => FailureClass::Transient,
    }
}

/// `text` holds `word` by itself: not as a part of a longer name.
fn names(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !word.is_empty() && !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// The last part of a path.
pub(crate) fn short(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
#[path = "errors_tests.rs"]
mod tests;
