//! A launch: what is asked for, under which token, and what is remembered of it.

use std::collections::BTreeMap;
use std::fmt;

use gpuloom_fleet::{
    FleetName, GpuShape, InstanceId, Market, Millis, PoolName, PoolPlace, Seconds,
};
use serde::{Deserialize, Deserializer, Serialize};

use crate::cloud::{FailureClass, LaunchError, OfferingFailure};
use crate::instance::{Role, Tags};
use crate::offering::Offering;

/// Makes a launch idempotent: one token, one instance, however often it is sent. 1 to 64 letters, digits,
/// hyphens (what AWS, Google Cloud and Azure all accept).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(String);

/// The number of a launch in its fleet; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaunchId(pub u64);

/// What the instance starts with.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserData {
    /// The agent's configuration (TOML). A driver that assigns them itself replaces `{{instance_id}}` and
    /// `{{data_dir}}` by TOML strings and `{{gpus}}` by a TOML array of strings.
    pub config: String,
    /// Single-use join token; a file of its own, readable by the agent alone. Never shown in logs.
    pub join_token: Option<String>,
    /// Clouds: the whole user data, a shell script of [`crate::boot::Boot`]. Holds no secret: everybody on the
    /// instance can read it.
    #[serde(default)]
    pub script: String,
}

/// A disk that outlives its instance: where a lead keeps its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDisk {
    /// Its size when it is made; one that exists keeps its own.
    pub size_gib: u32,
}

/// One instance, please.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchRequest {
    /// Stored before this is sent.
    pub token: Token,
    /// The fleet it belongs to.
    pub fleet: FleetName,
    /// Keeps apart two fleets of one name: the fleet's id; for a lead the first 16 hex digits of the SHA-256 of its
    /// admin's public key.
    #[serde(default)]
    pub fleet_id: String,
    /// The pool, for a node.
    pub pool: Option<PoolName>,
    /// Lead or node.
    pub role: Role,
    /// What is asked for, best first, 1 to 50; all of one call: see [`Offering::together`].
    pub offerings: Vec<Offering>,
    /// What the place says of image, network, disks and identity.
    pub place: PoolPlace,
    /// GPUs it must have; `None` for a lead without any.
    pub gpu: Option<GpuShape>,
    /// Tags beside the ones every instance has.
    pub labels: Tags,
    /// What it is made of: [`gpuloom_fleet::PoolSpec::revision`]; empty for a lead.
    #[serde(default)]
    pub revision: String,
    /// Leads: the disk that is found by the fleet's tags, or made, and attached; it survives its instance.
    #[serde(default)]
    pub data_disk: Option<DataDisk>,
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
    /// What was asked for, best first; one that was found without a record has what it is.
    #[serde(alias = "offering", deserialize_with = "one_or_many")]
    pub offerings: Vec<Offering>,
    /// The token of this attempt.
    pub token: Token,
    /// What it was to be made of; empty in records of the first release. The same token never asks for another.
    #[serde(default)]
    pub revision: String,
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

/// Which offerings cannot be had, until when and why; and whether the place itself takes no calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outages {
    offerings: BTreeMap<Offering, Outage>,
    place: Option<Outage>,
}

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

// === impl LaunchId, UserData ===

impl fmt::Display for LaunchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for UserData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.join_token.as_ref().map(|_| "(hidden)");
        f.debug_struct("UserData")
            .field("config", &self.config)
            .field("join_token", &token)
            .field("script", &self.script)
            .finish()
    }
}

// === impl LaunchRecord ===

impl LaunchRecord {
    /// The market it was bought on, or asked for.
    #[must_use]
    pub fn market(&self) -> Market {
        let first = self.offerings.first();
        first.map_or(Market::OnDemand, Offering::market)
    }
}

/// Records of the first release name one offering.
fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Offering>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(Offering),
        Many(Vec<Offering>),
    }
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

// === impl LaunchRequest ===

impl LaunchRequest {
    /// The first of what is asked for; `None` when nothing is, which no driver takes.
    #[must_use]
    pub fn offering(&self) -> Option<&Offering> {
        self.offerings.first()
    }

    /// The tags the instance gets: [`Tags::FLEET`] and its fellows, and the labels; a label cannot replace a tag.
    /// Without [`Tags::OFFERING`] where several are asked for: the driver adds the one it had.
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
        let mut optional = |key: &str, value: &str| match value {
            "" => tags.0.remove(key),
            _ => tags.0.insert(key.to_owned(), value.to_owned()),
        };
        optional(Tags::FLEET_ID, &self.fleet_id);
        optional(Tags::REVISION, &self.revision);
        let one = match self.offerings.as_slice() {
            [only] => only.0.as_str(),
            _ => "",
        };
        optional(Tags::OFFERING, one);
        tags
    }
}

// === impl Outage ===

impl Outage {
    fn of(class: FailureClass, message: &str, wait: Option<Seconds>, now: Millis) -> Self {
        Self {
            until: now.plus(wait.unwrap_or_else(|| class.wait())),
            class,
            message: message.to_owned(),
        }
    }
}

// === impl Outages ===

impl Outages {
    /// Notes that `offering` could not be had. How long it is left alone follows the class, unless the cloud said.
    pub fn note(&mut self, offering: &Offering, error: &LaunchError, now: Millis) {
        let outage = Outage::of(error.class, &error.message, error.retry_after, now);
        self.offerings.insert(offering.clone(), outage);
    }

    /// Notes what a whole call that asked for `offerings` was refused with: what was said of single ones, and else
    /// all of them ([`FailureClass::Capacity`], `Quota`, `Unsupported`, `Invalid`) or the place (`Throttled`, `Auth`).
    /// An answer that was lost (`Transient`) says nothing of any.
    pub fn note_refusal(&mut self, offerings: &[Offering], error: &LaunchError, now: Millis) {
        self.note_each(&error.failed, now);
        match error.class {
            FailureClass::Transient => {}
            FailureClass::Throttled | FailureClass::Auth => {
                self.place = Some(Outage::of(
                    error.class,
                    &error.message,
                    error.retry_after,
                    now,
                ));
            }
            _ => {
                for offering in offerings {
                    if error.failed.iter().all(|f| f.offering != *offering) {
                        self.note(offering, error, now);
                    }
                }
            }
        }
    }

    /// Notes what was said of single offerings of a call.
    pub fn note_each(&mut self, failed: &[OfferingFailure], now: Millis) {
        for f in failed {
            let outage = Outage::of(f.class, &f.message, None, now);
            self.offerings.insert(f.offering.clone(), outage);
        }
    }

    /// The outage of `offering` at `now`, if any: its own, or that of the place. One that ends now has ended.
    #[must_use]
    pub fn of(&self, offering: &Offering, now: Millis) -> Option<&Outage> {
        let own = self.offerings.get(offering).filter(|o| o.until > now);
        own.or_else(|| self.of_place(now))
    }

    /// The outage of the place itself at `now`, if any.
    #[must_use]
    pub fn of_place(&self, now: Millis) -> Option<&Outage> {
        self.place.as_ref().filter(|o| o.until > now)
    }

    /// Forgets `offering`'s outage: it was just had.
    pub fn clear(&mut self, offering: &Offering) {
        self.offerings.remove(offering);
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
