//! A launch: what is asked for, under which token, and what is remembered of it.

use std::collections::BTreeMap;
use std::fmt;

use gpuloom_fleet::{
    FleetName, GpuShape, InstanceId, Millis, PoolName, PoolPlace, PoolSpec, Seconds,
};
use serde::{Deserialize, Serialize};

use crate::cloud::{FailureClass, LaunchError};
use crate::instance::{Role, Tags};

/// Makes a launch idempotent: one token, one instance, however often it is sent. 1 to 64 letters, digits,
/// hyphens (what AWS, Google Cloud and Azure all accept).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(String);

/// The number of a launch in its fleet; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaunchId(pub u64);

/// Something a cloud offers: a place and a machine, e.g. `local/T4x1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Offering(pub String);

/// What the instance starts with.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserData {
    /// The agent's configuration (TOML). A driver that assigns them itself replaces `{{instance_id}}` and
    /// `{{data_dir}}` by TOML strings and `{{gpus}}` by a TOML array of strings.
    pub config: String,
    /// Single-use join token; a file of its own, readable by the agent alone. Never shown in logs.
    pub join_token: Option<String>,
}

/// One instance, please.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchRequest {
    /// Stored before this is sent.
    pub token: Token,
    /// The fleet it belongs to.
    pub fleet: FleetName,
    /// The pool, for a node.
    pub pool: Option<PoolName>,
    /// Lead or node.
    pub role: Role,
    /// What is asked for.
    pub offering: Offering,
    /// GPUs it must have; `None` for a lead without any.
    pub gpu: Option<GpuShape>,
    /// Tags beside the ones every instance has.
    pub labels: Tags,
    /// What its agent starts with.
    pub user_data: UserData,
}

/// A launch as it is stored, before it is sent and after it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchRecord {
    /// The key in the store.
    pub id: LaunchId,
    /// The pool it is for.
    pub pool: PoolName,
    /// 1 for the first try of this launch; each further one has a token of its own.
    pub attempt: u32,
    /// What was asked for.
    pub offering: Offering,
    /// The token of this attempt.
    pub token: Token,
    /// What came of it.
    pub state: LaunchState,
    /// When the state was stored.
    pub at: Millis,
}

/// What came of a launch.
///
/// ```text
/// Sent -> Launched -> (record removed when the instance is gone)
///   \---> Failed -> Sent (attempt + 1)
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum LaunchState {
    /// Stored; whether the cloud heard of it is unknown.
    Sent,
    /// The instance exists, or did.
    Launched {
        /// Its id.
        instance: InstanceId,
    },
    /// The cloud said no; nothing of this attempt exists.
    Failed {
        /// What kind of no.
        class: FailureClass,
        /// What it said.
        message: String,
    },
}

/// An offering that cannot be had for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// Not asked for again before this.
    pub until: Millis,
    /// What kind of no it was.
    pub class: FailureClass,
    /// What the cloud said.
    pub message: String,
}

/// Which offerings cannot be had, until when and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outages(BTreeMap<Offering, Outage>);

// === impl Token ===

impl Token {
    /// Longest token, in bytes (AWS's `ClientToken`).
    pub const MAX_BYTES: usize = 64;

    /// Checks `text`.
    ///
    /// # Errors
    /// A sentence that says what a token is.
    pub fn new(text: impl Into<String>) -> Result<Self, String> {
        let text = text.into();
        let fits = !text.is_empty() && text.len() <= Self::MAX_BYTES;
        if fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            Ok(Self(text))
        } else {
            Err(format!(
                "{text:?} is not a token: 1 to 64 letters, digits and hyphens"
            ))
        }
    }

    /// The token of an attempt, the same whenever it is computed. `salt` (random, of the fleet) keeps apart the
    /// launches of two fleets of the same name; only its letters and digits count, at most 32 of them.
    #[must_use]
    pub fn of(salt: &str, launch: LaunchId, attempt: u32) -> Self {
        let salt: String = salt
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(32)
            .collect();
        Self(format!("{salt}-{:x}-{attempt:x}", launch.0))
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Token {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(text)
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl LaunchId, Offering, UserData ===

impl fmt::Display for LaunchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Offering {
    /// What a pool may be made of, best first; empty when its machines exist already.
    #[must_use]
    pub fn of_pool(spec: &PoolSpec) -> Vec<Self> {
        match spec.place {
            PoolPlace::Local => vec![Self(format!(
                "local/{}x{}",
                spec.gpu.model, spec.gpu.per_node
            ))],
            PoolPlace::Existing => Vec::new(),
        }
    }
}

impl fmt::Display for Offering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.join_token.as_ref().map(|_| "(hidden)");
        f.debug_struct("UserData")
            .field("config", &self.config)
            .field("join_token", &token)
            .finish()
    }
}

// === impl LaunchRequest ===

impl LaunchRequest {
    /// The tags the instance gets: [`Tags::FLEET`] and its fellows, and the labels; a label cannot replace a tag.
    #[must_use]
    pub fn tags(&self) -> Tags {
        let mut tags = self.labels.clone();
        let fixed = [
            (Tags::FLEET, self.fleet.to_string()),
            (Tags::ROLE, self.role.to_string()),
        ];
        tags.0.extend(fixed.map(|(k, v)| (k.to_owned(), v)));
        tags.0
            .insert(Tags::TOKEN.to_owned(), self.token.to_string());
        match &self.pool {
            Some(pool) => tags.0.insert(Tags::POOL.to_owned(), pool.to_string()),
            None => tags.0.remove(Tags::POOL),
        };
        tags
    }
}

// === impl Outages ===

impl Outages {
    /// Notes that `offering` could not be had. How long it is left alone follows the class, unless the cloud said.
    pub fn note(&mut self, offering: &Offering, error: &LaunchError, now: Millis) {
        let wait = error.retry_after.unwrap_or_else(|| error.class.wait());
        let outage = Outage {
            until: now.plus(wait),
            class: error.class,
            message: error.message.clone(),
        };
        self.0.insert(offering.clone(), outage);
    }

    /// The outage of `offering` at `now`, if any; one that ends now has ended.
    #[must_use]
    pub fn of(&self, offering: &Offering, now: Millis) -> Option<&Outage> {
        self.0.get(offering).filter(|o| o.until > now)
    }

    /// Forgets `offering`'s outage: it was just had.
    pub fn clear(&mut self, offering: &Offering) {
        self.0.remove(offering);
    }
}

impl FailureClass {
    /// How long an offering is left alone. Sources: Karpenter's unavailable-offerings caches
    /// (AWS 3 min capacity; Azure 10 min to 1 h quota, 23 h SKU).
    #[must_use]
    pub fn wait(self) -> Seconds {
        Seconds(match self {
            Self::Capacity => 180,
            Self::Quota => 600,
            Self::Unsupported => 24 * 3600,
            Self::Throttled => 10,
            Self::Auth | Self::Invalid => 60,
            Self::Transient => 5,
        })
    }
}
