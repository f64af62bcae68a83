//! Names and ids, each a type: a tenant is never mistaken for a pool.

use crate::limits::MAX_NAME_BYTES;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An id that does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not {expected}")]
pub struct ParseIdError {
    /// What was given.
    pub input: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

const NAME_RULE: &str =
    "a name: 1 to 63 lower-case letters, digits and hyphens, first a letter, last not a hyphen";

fn is_name(s: &str) -> bool {
    let bytes = s.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= MAX_NAME_BYTES
        && bytes[0].is_ascii_lowercase()
        && bytes[bytes.len() - 1] != b'-'
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn is_opaque(s: &str) -> bool {
    !s.is_empty()
        && s.len() <= 128
        && s.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:ident, $rule:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text`; the error says what is accepted.
            pub fn new(text: impl Into<String>) -> Result<Self, ParseIdError> {
                let input = text.into();
                if $check(&input) {
                    Ok(Self(input))
                } else {
                    Err(ParseIdError { input, expected: $rule })
                }
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(s: &str) -> Result<Self, ParseIdError> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;
            fn try_from(s: String) -> Result<Self, ParseIdError> {
                Self::new(s)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(/// The name of a fleet.
    FleetName, is_name, NAME_RULE);
text_id!(/// The name of a pool.
    PoolName, is_name, NAME_RULE);
text_id!(/// The name of a tenant.
    TenantName, is_name, NAME_RULE);
text_id!(/// The name of a quota.
    QuotaName, is_name, NAME_RULE);
text_id!(/// The name of a priority class.
    PriorityClassName, is_name, NAME_RULE);
text_id!(/// The name of a limit range.
    LimitRangeName, is_name, NAME_RULE);
text_id!(/// The name of an autoscaling policy.
    PolicyName, is_name, NAME_RULE);
const OPAQUE_RULE: &str = "an id: 1 to 128 letters, digits, hyphens, underscores, dots or colons";
text_id!(/// The id of a node: that of the instance its agent runs on.
    NodeId, is_opaque, OPAQUE_RULE);
text_id!(/// The id of an instance in its cloud.
    InstanceId, is_opaque, OPAQUE_RULE);
text_id!(/// The UUID of a device as the driver gives it, e.g. `GPU-5f2c...`.
    DeviceId, is_opaque, OPAQUE_RULE);

/// A job: its number, and its index when it is one element of an array. Written `17` or `17.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId {
    /// Counts up from 1 in each fleet.
    pub number: u64,
    /// The element's index, from 0, in an array job.
    pub index: Option<u32>,
}

/// One attempt at a job. Written `17.3#2`; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttemptId {
    /// The job tried.
    pub job: JobId,
    /// Counts up from 1 in each job.
    pub number: u32,
}

/// What kind of object is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A set of like nodes.
    Pool,
    /// Who submits and is accounted for.
    Tenant,
    /// What a tenant is guaranteed and limited to.
    Quota,
    /// How urgent jobs are.
    PriorityClass,
    /// Defaults and bounds of single jobs.
    LimitRange,
    /// How a pool's size follows its load.
    AutoscalingPolicy,
}

// === impl JobId ===

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(i) => write!(f, "{}.{i}", self.number),
            None => write!(f, "{}", self.number),
        }
    }
}

fn plain<T: FromStr>(s: &str) -> Option<T> {
    s.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| s.parse().ok())
        .flatten()
}

impl FromStr for JobId {
    type Err = ParseIdError;

    fn from_str(s: &str) -> Result<Self, ParseIdError> {
        let bad = || ParseIdError {
            input: s.to_owned(),
            expected: "a job id such as \"17\" or \"17.3\"",
        };
        let (number, index) = match s.split_once('.') {
            Some((n, i)) => (n, Some(plain(i).ok_or_else(bad)?)),
            None => (s, None),
        };
        let number = plain(number).filter(|n| *n > 0).ok_or_else(bad)?;
        Ok(Self { number, index })
    }
}

impl TryFrom<String> for JobId {
    type Error = ParseIdError;
    fn try_from(s: String) -> Result<Self, ParseIdError> {
        s.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> String {
        id.to_string()
    }
}

// === impl AttemptId ===

impl AttemptId {
    /// The attempt's name in paths and cgroups: `17.3-2`.
    pub fn path_name(&self) -> String {
        format!("{}-{}", self.job, self.number)
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.job, self.number)
    }
}

impl FromStr for AttemptId {
    type Err = ParseIdError;

    fn from_str(s: &str) -> Result<Self, ParseIdError> {
        let bad = || ParseIdError {
            input: s.to_owned(),
            expected: "an attempt id such as \"17#1\" or \"17.3#2\"",
        };
        let (job, number) = s.split_once('#').ok_or_else(bad)?;
        let number = plain(number).filter(|n| *n > 0).ok_or_else(bad)?;
        Ok(Self {
            job: job.parse().map_err(|_| bad())?,
            number,
        })
    }
}

impl TryFrom<String> for AttemptId {
    type Error = ParseIdError;
    fn try_from(s: String) -> Result<Self, ParseIdError> {
        s.parse()
    }
}

impl From<AttemptId> for String {
    fn from(id: AttemptId) -> String {
        id.to_string()
    }
}

// === impl Kind ===

impl Kind {
    /// Every kind, in the order objects may refer to earlier ones.
    pub const ALL: [Self; 6] = [
        Self::PriorityClass,
        Self::Tenant,
        Self::Pool,
        Self::Quota,
        Self::LimitRange,
        Self::AutoscalingPolicy,
    ];

    /// The kind's name in HCL (without `gpuloom_`), store keys and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Tenant => "tenant",
            Self::Quota => "quota",
            Self::PriorityClass => "priority_class",
            Self::LimitRange => "limit_range",
            Self::AutoscalingPolicy => "autoscaling_policy",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = ParseIdError;

    fn from_str(s: &str) -> Result<Self, ParseIdError> {
        Self::ALL
            .into_iter()
            .find(|k| k.as_str() == s)
            .ok_or_else(|| ParseIdError {
                input: s.to_owned(),
                expected: "a kind: pool, tenant, quota, priority_class, limit_range or autoscaling_policy",
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_every_place_it_appears_in_allows() {
        let longest = "a".repeat(MAX_NAME_BYTES);
        for good in ["a", "t4", "team-a", longest.as_str()] {
            assert!(TenantName::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(MAX_NAME_BYTES + 1);
        for bad in ["", "4t", "-a", "a-", "A", "a_b", "a/b", "ä", long.as_str()] {
            assert!(TenantName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn job_and_attempt_ids_read_back() {
        for text in ["1", "17.3", "9.0"] {
            assert_eq!(
                text.parse::<JobId>().map(|j| j.to_string()),
                Ok(text.into())
            );
        }
        for text in ["1#1", "17.3#2"] {
            let read = text.parse::<AttemptId>().map(|a| a.to_string());
            assert_eq!(read, Ok(text.into()));
        }
        for text in ["0", "1.", "+1", "1#0", "#1", "a", "1.2.3"] {
            assert!(text.parse::<JobId>().is_err(), "{text}");
            assert!(text.parse::<AttemptId>().is_err(), "{text}");
        }
    }

    #[test]
    fn kinds_read_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
    }
}
