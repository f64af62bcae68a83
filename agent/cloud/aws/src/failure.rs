//! What EC2's errors mean: which class each code is, and what is unknown when no code came.

use std::error::Error;
use std::fmt::Write as _;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use gpuloom_cloud::{CloudError, FailureClass, LaunchError};

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) class: FailureClass,
    /// EC2's code; empty when no answer came.
    pub(crate) code: String,
    /// What was tried, and what was said.
    pub(crate) message: String,
}

// === impl Failure ===

impl Failure {
    /// What `error` means. `tried` is a phrase, e.g. `list the instances of us-east-1`.
    pub(crate) fn new<E>(tried: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error.raw_response().map(|raw| raw.status().as_u16());
        let (code, said) = match error.as_service_error() {
            Some(e) => (
                e.code().unwrap_or_default().to_owned(),
                e.message().unwrap_or_default().to_owned(),
            ),
            None => (String::new(), chain(error)),
        };
        let class = match error {
            SdkError::ServiceError(_) => class_of(&code, status),
            SdkError::ConstructionFailure(_) => no_answer(&said, FailureClass::Invalid),
            SdkError::DispatchFailure(_) => no_answer(&said, FailureClass::Transient),
            _ => FailureClass::Transient,
        };
        let mut message = format!("cannot {tried}");
        // Writing to a string does not fail.
        let _ = match code.as_str() {
            "" => write!(message, ": {said}"),
            _ => write!(message, ": {code}: {said}"),
        };
        message.push_str(advice(class));
        Self {
            class,
            code,
            message,
        }
    }

    /// EC2 does not know what was named.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code.contains("NotFound") || self.code.ends_with("Malformed")
    }
}

impl From<Failure> for LaunchError {
    fn from(failure: Failure) -> Self {
        Self::new(failure.class, failure.message)
    }
}

impl From<Failure> for CloudError {
    fn from(failure: Failure) -> Self {
        Self::new(failure.class, failure.message)
    }
}

/// Without an answer: a lack of credentials is known, everything else as `otherwise`.
fn no_answer(said: &str, otherwise: FailureClass) -> FailureClass {
    let said = said.to_ascii_lowercase();
    if said.contains("credential") {
        FailureClass::Auth
    } else {
        otherwise
    }
}

fn advice(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Auth => {
            "; check the credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID or the instance's role) and their policy"
        }
        FailureClass::Quota => "; ask for more in Service Quotas, or name other instance types",
        _ => "",
    }
}

/// The class of EC2's error `code`, from a launch or any other call. Sources: the EC2 API error codes, and the codes
/// Karpenter takes as unfulfillable.
pub(crate) fn class_of(code: &str, status: Option<u16>) -> FailureClass {
    let code = code
        .trim_start_matches("Server.")
        .trim_start_matches("Client.");
    match code {
        "InsufficientInstanceCapacity"
        | "InsufficientCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientReservedInstanceCapacity"
        | "InsufficientFreeAddressesInSubnet"
        | "InsufficientAddressCapacity"
        | "InsufficientVolumeCapacity"
        | "UnfulfillableCapacity"
        | "ReservationCapacityExceeded"
        | "SpotMaxPriceTooLow" => FailureClass::Capacity,
        "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "EC2ThrottledException"
        | "TooManyRequestsException"
        | "SlowDown" => FailureClass::Throttled,
        "Unsupported"
        | "UnsupportedOperation"
        | "UnsupportedInstanceAttribute"
        | "InvalidInstanceType"
        // A fleet's word for a type that a zone does not have.
        | "InvalidFleetConfiguration" => FailureClass::Unsupported,
        "UnauthorizedOperation"
        | "AuthFailure"
        | "AccessDenied"
        | "AccessDeniedException"
        | "Blocked"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "NotAuthorized"
        | "OptInRequired"
        | "PendingVerification"
        | "RequestExpired"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => FailureClass::Auth,
        "InternalError"
        | "InternalFailure"
        | "Internal"
        | "ServiceUnavailable"
        | "Unavailable"
        | "RequestTimeout"
        | "RequestTimeoutException" => FailureClass::Transient,
        _ if code.ends_with("LimitExceeded") => FailureClass::Quota,
        _ if code.starts_with("Max") && code.ends_with("Exceeded") => FailureClass::Quota,
        _ if code.starts_with("AuthFailure.") || code.starts_with("UnauthorizedOperation.") => {
            FailureClass::Auth
        }
        _ => match status {
            // A server that fails may have done it.
            Some(500..) | None => FailureClass::Transient,
            Some(429) => FailureClass::Throttled,
            Some(401 | 403) => FailureClass::Auth,
            Some(_) => FailureClass::Invalid,
        },
    }
}

/// The class of a code in the answer of a fleet request: the answer is complete, nothing of it is unknown, so that
/// what would be worth the same token again is worth another one.
pub(crate) fn class_in_answer(code: &str) -> FailureClass {
    match class_of(code, Some(400)) {
        FailureClass::Transient => FailureClass::Throttled,
        class => class,
    }
}

/// The whole chain of causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            // Writing to a string does not fail.
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailureClass as C;

    #[test]
    fn every_code_has_the_class_of_what_helps() {
        for (code, status, class) in [
            ("InsufficientInstanceCapacity", 500, C::Capacity),
            ("Server.InsufficientInstanceCapacity", 500, C::Capacity),
            ("InsufficientFreeAddressesInSubnet", 400, C::Capacity),
            ("UnfulfillableCapacity", 400, C::Capacity),
            ("MaxSpotInstanceCountExceeded", 400, C::Quota),
            ("VcpuLimitExceeded", 400, C::Quota),
            ("InstanceLimitExceeded", 400, C::Quota),
            ("Unsupported", 400, C::Unsupported),
            ("RequestLimitExceeded", 503, C::Throttled),
            ("UnauthorizedOperation", 403, C::Auth),
            ("MaxFleetCountExceeded", 400, C::Quota),
            ("InvalidFleetConfiguration", 400, C::Unsupported),
            (
                "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
                400,
                C::Auth,
            ),
            ("AuthFailure", 401, C::Auth),
            ("InvalidParameterValue", 400, C::Invalid),
            ("InvalidAMIID.NotFound", 400, C::Invalid),
            ("InternalError", 500, C::Transient),
            ("Unavailable", 503, C::Transient),
            ("SomethingNew", 502, C::Transient),
            ("SomethingNew", 400, C::Invalid),
        ] {
            assert_eq!(class_of(code, Some(status)), class, "{code} {status}");
        }
    }

    #[test]
    fn nothing_in_an_answer_is_unknown() {
        assert_eq!(class_in_answer("InternalError"), C::Throttled);
        assert_eq!(class_in_answer("InsufficientInstanceCapacity"), C::Capacity);
    }
}
