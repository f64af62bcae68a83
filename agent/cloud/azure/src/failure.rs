//! What Azure's errors mean to who asked.

use std::fmt;
use std::time::Duration;

use gpuloom_cloud::{CloudError, FailureClass};
use gpuloom_fleet::Seconds;

/// An answer that was no success, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArmError {
    kind: Kind,
    /// ARM's code, e.g. `ZonalAllocationFailed`; empty when nothing was said.
    pub(crate) code: String,
    message: String,
    retry_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// ARM answered with this status.
    Answered(u16),
    /// An operation that was taken on has failed.
    Ended,
    /// Nothing came back: it may have happened.
    Lost,
    /// We have no token.
    Credential,
    /// Something came back that does not read.
    Unreadable,
}

/// Codes and what to do about them. Sources: "Troubleshoot allocation failures" and "Resolve errors for SKU not
/// available / quota" on learn.microsoft.com, Karpenter's Azure provider (`pkg/providers/instance`), 2026-11.
const CODES: &[(&str, FailureClass)] = &[
    ("AllocationFailed", FailureClass::Capacity),
    ("ZonalAllocationFailed", FailureClass::Capacity),
    ("OverconstrainedAllocationRequest", FailureClass::Capacity),
    (
        "OverconstrainedZonalAllocationRequest",
        FailureClass::Capacity,
    ),
    ("SkuNotAvailable", FailureClass::Unsupported),
    (
        "LocationNotAvailableForResourceType",
        FailureClass::Unsupported,
    ),
    (
        "ResourceTypeNotSupportAvailabilityZones",
        FailureClass::Unsupported,
    ),
    ("AvailabilityZoneNotSupported", FailureClass::Unsupported),
    ("InvalidAvailabilityZone", FailureClass::Unsupported),
    ("QuotaExceeded", FailureClass::Quota),
    ("ResourceQuotaExceeded", FailureClass::Quota),
    ("PublicIPCountLimitReached", FailureClass::Quota),
    ("SubnetIsFull", FailureClass::Quota),
    ("TooManyRequests", FailureClass::Throttled),
    ("OperationThrottled", FailureClass::Throttled),
    ("SubscriptionRequestsThrottled", FailureClass::Throttled),
    ("AuthorizationFailed", FailureClass::Auth),
    ("LinkedAuthorizationFailed", FailureClass::Auth),
    ("AuthenticationFailed", FailureClass::Auth),
    ("InvalidAuthenticationToken", FailureClass::Auth),
    ("ExpiredAuthenticationToken", FailureClass::Auth),
    ("InvalidAuthenticationTokenTenant", FailureClass::Auth),
    ("RequestDisallowedByPolicy", FailureClass::Auth),
    ("InvalidParameter", FailureClass::Invalid),
    ("InvalidRequestContent", FailureClass::Invalid),
    ("ResourceGroupNotFound", FailureClass::Invalid),
    ("SubscriptionNotFound", FailureClass::Invalid),
    ("PropertyChangeNotAllowed", FailureClass::Invalid),
    ("ImageNotFound", FailureClass::Invalid),
    ("AnotherOperationInProgress", FailureClass::Transient),
    ("OperationPreempted", FailureClass::Transient),
    ("RetryableError", FailureClass::Transient),
    ("NicReservedForAnotherVm", FailureClass::Transient),
];

// === impl ArmError ===

impl ArmError {
    fn of(kind: Kind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: code.into(),
            message: message.into(),
            retry_after: None,
        }
    }

    pub(crate) fn answered(
        what: &str,
        status: u16,
        code: String,
        message: String,
        retry_after: Option<Duration>,
    ) -> Self {
        let message = format!("{what}: HTTP {status} {message}");
        Self {
            retry_after,
            ..Self::of(Kind::Answered(status), code, message)
        }
    }

    /// An operation's own error.
    pub(crate) fn ended(code: String, message: String) -> Self {
        Self::of(Kind::Ended, code, message)
    }

    /// No answer: it may have happened.
    pub(crate) fn lost(message: String) -> Self {
        Self::of(Kind::Lost, "", message)
    }

    pub(crate) fn unreadable(message: String) -> Self {
        Self::of(Kind::Unreadable, "", message)
    }

    pub(crate) fn from_core(what: &str, error: &azure_core::Error) -> Self {
        use std::error::Error;
        let mut message = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(e) = source {
            let text = e.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            source = e.source();
        }
        match error.kind() {
            azure_core::error::ErrorKind::Credential => Self::of(Kind::Credential, "", message),
            _ => Self::of(Kind::Lost, "", message),
        }
    }

    /// There is no such thing (the group it would be in exists).
    pub(crate) fn is_gone(&self) -> bool {
        self.kind == Kind::Answered(404)
            && !matches!(
                self.code.as_str(),
                "ResourceGroupNotFound" | "SubscriptionNotFound"
            )
    }

    /// A PUT that was only to create found that the resource exists.
    pub(crate) fn is_there_already(&self) -> bool {
        self.kind == Kind::Answered(412)
    }

    /// Failed on the way or inside the service: unknown whether it happened.
    pub(crate) fn is_on_the_way(&self) -> bool {
        match self.kind {
            Kind::Lost => true,
            Kind::Answered(status) => status >= 500 || status == 408,
            _ => false,
        }
    }

    /// An operation's own error, not one of asking for it.
    pub(crate) fn is_ended(&self) -> bool {
        self.kind == Kind::Ended
    }

    pub(crate) fn is_throttled(&self) -> bool {
        self.class() == FailureClass::Throttled
    }

    /// How long the service asked us to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The same, in whole seconds.
    pub(crate) fn retry_after_s(&self) -> Option<Seconds> {
        self.retry_after.map(|d| Seconds(d.as_secs()))
    }

    /// What to do about it.
    pub(crate) fn class(&self) -> FailureClass {
        class_of(self.kind, &self.code, &self.message)
    }

    /// As the error of a call that is no launch.
    pub(crate) fn cloud(self, what: impl fmt::Display) -> CloudError {
        let class = self.class();
        CloudError {
            class,
            message: format!("{what}: {self}"),
            source: None,
        }
    }
}

impl fmt::Display for ArmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.code.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{} ({})", self.message, self.code)
        }
    }
}

fn class_of(kind: Kind, code: &str, message: &str) -> FailureClass {
    if kind == Kind::Credential {
        return FailureClass::Auth;
    }
    let text = message.to_ascii_lowercase();
    match code {
        // One code for "your quota does not allow it" and "not in this state".
        "OperationNotAllowed" if text.contains("quota") => return FailureClass::Quota,
        "OperationNotAllowed" if kind == Kind::Answered(409) => return FailureClass::Transient,
        "OperationNotAllowed" => return FailureClass::Invalid,
        // The size is a parameter like any other; that it is not sold here is not the caller's mistake.
        "InvalidParameter" if text.contains("vm size") || text.contains("vmsize") => {
            return FailureClass::Unsupported;
        }
        _ => {}
    }
    let known = CODES.iter().find(|(c, _)| c.eq_ignore_ascii_case(code));
    if let (Some((_, class)), false) = (known, matches!(kind, Kind::Answered(500..))) {
        return *class;
    }
    match kind {
        Kind::Answered(401 | 403) => FailureClass::Auth,
        Kind::Answered(429) => FailureClass::Throttled,
        Kind::Answered(408 | 409 | 412 | 500..) | Kind::Lost | Kind::Ended | Kind::Unreadable => {
            FailureClass::Transient
        }
        Kind::Answered(_) | Kind::Credential => FailureClass::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, code: &str, message: &str) -> FailureClass {
        ArmError::answered("PUT x", status, code.into(), message.into(), None).class()
    }

    #[test]
    fn each_no_has_the_class_its_caller_can_act_on() {
        use FailureClass::{Auth, Capacity, Invalid, Quota, Throttled, Transient, Unsupported};
        for (status, code, message, class) in [
            (409, "AllocationFailed", "", Capacity),
            (409, "ZonalAllocationFailed", "", Capacity),
            (409, "OverconstrainedAllocationRequest", "", Capacity),
            (409, "OverconstrainedZonalAllocationRequest", "", Capacity),
            (409, "SkuNotAvailable", "", Unsupported),
            (
                409,
                "OperationNotAllowed",
                "exceeding approved Total Regional Cores quota",
                Quota,
            ),
            (
                409,
                "OperationNotAllowed",
                "the VM is being deleted",
                Transient,
            ),
            (400, "OperationNotAllowed", "not in this state", Invalid),
            (409, "QuotaExceeded", "", Quota),
            (429, "", "", Throttled),
            (429, "OperationThrottled", "", Throttled),
            (403, "AuthorizationFailed", "", Auth),
            (401, "", "", Auth),
            (
                400,
                "InvalidParameter",
                "Required parameter 'x' is missing",
                Invalid,
            ),
            (
                400,
                "InvalidParameter",
                "The value Standard_X provided for the VM size is not valid",
                Unsupported,
            ),
            (404, "ResourceGroupNotFound", "", Invalid),
            (500, "", "", Transient),
            (503, "ServerBusy", "", Transient),
            (500, "InvalidParameter", "", Transient),
            (409, "Whatever", "", Transient),
        ] {
            assert_eq!(
                answered(status, code, message),
                class,
                "{status} {code} {message}"
            );
        }
    }

    #[test]
    fn an_operation_that_failed_for_no_reason_we_know_is_sent_again() {
        let ended = |code: &str| ArmError::ended(code.into(), String::new()).class();
        assert_eq!(ended("InternalExecutionError"), FailureClass::Transient);
        assert_eq!(ended("AllocationFailed"), FailureClass::Capacity);
    }

    #[test]
    fn a_missing_group_is_no_missing_resource() {
        let gone = |code: &str| {
            ArmError::answered("GET x", 404, code.into(), String::new(), None).is_gone()
        };
        assert!(gone("ResourceNotFound"));
        assert!(!gone("ResourceGroupNotFound"));
    }
}
