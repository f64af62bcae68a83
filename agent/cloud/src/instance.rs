//! What a cloud shows of a machine it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use gpuloom_fleet::{FleetName, InstanceId, Millis, PoolName};
use serde::{Deserialize, Serialize};

use crate::launch::Token;
use crate::offering::Offering;

/// What the agent on an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Keeps the queue and the policies; one per fleet.
    Lead,
    /// Runs jobs; member of a pool.
    Node,
}

/// Marks on an instance by which it is found again. Kept by the cloud, set once at the launch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags(pub BTreeMap<String, String>);

/// A machine as its cloud lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The cloud's name for it.
    pub id: InstanceId,
    /// The token it was launched with.
    pub token: Token,
    /// What it is.
    pub offering: Offering,
    /// All tags, [`Tags::FLEET`] and its fellows among them.
    pub tags: Tags,
    /// Where it stands.
    pub state: InstanceState,
    /// When it was launched.
    pub launched_at: Millis,
    /// The pool it was launched for; leads have none.
    pub pool: Option<PoolName>,
    /// Lead or node.
    pub role: Role,
    /// Its address inside its network, once it has one.
    pub private_address: Option<String>,
    /// Its address from everywhere, if it has one.
    pub public_address: Option<String>,
}

/// Where an instance stands.
///
/// ```text
/// Launching -> Running <-> Stopped -> Terminating -> (no longer listed)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Exists, its agent does not run yet.
    Launching,
    /// Its agent runs.
    Running,
    /// Exists, but its agent (local) or machine (clouds) is down; [`crate::Cloud::start`] brings it back.
    Stopped,
    /// Being ended; listed until it is verified gone.
    Terminating,
}

// === impl Role ===

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lead => "lead",
            Self::Node => "node",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "lead" => Ok(Self::Lead),
            "node" => Ok(Self::Node),
            _ => Err(format!("{text:?} is not \"lead\" or \"node\"")),
        }
    }
}

// === impl Instance ===

impl Instance {
    /// What it was made of; `None` when its launch did not say.
    #[must_use]
    pub fn revision(&self) -> Option<&str> {
        self.tags.get(Tags::REVISION)
    }
}

// === impl Tags ===

impl Tags {
    /// The fleet's name.
    pub const FLEET: &str = "gpuloom:fleet";
    /// The pool's name; leads have none.
    pub const POOL: &str = "gpuloom:pool";
    /// `lead` or `node`.
    pub const ROLE: &str = "gpuloom:role";
    /// The launch token.
    pub const TOKEN: &str = "gpuloom:token";
    /// The fleet's id: keeps apart two fleets of one name.
    pub const FLEET_ID: &str = "gpuloom:fleet-id";
    /// What the node is made of.
    pub const REVISION: &str = "gpuloom:revision";
    /// The offering that was had.
    pub const OFFERING: &str = "gpuloom:offering";

    /// Everything of one fleet: what a sweep looks for.
    #[must_use]
    pub fn of_fleet(fleet: &FleetName) -> Self {
        Self(BTreeMap::from([(
            Self::FLEET.to_owned(),
            fleet.to_string(),
        )]))
    }

    /// The nodes of one pool.
    #[must_use]
    pub fn of_pool(fleet: &FleetName, pool: &PoolName) -> Self {
        let mut tags = Self::of_fleet(fleet);
        tags.0.insert(Self::POOL.to_owned(), pool.to_string());
        tags.0.insert(Self::ROLE.to_owned(), Role::Node.to_string());
        tags
    }

    /// The lead of a fleet.
    #[must_use]
    pub fn of_lead(fleet: &FleetName) -> Self {
        let mut tags = Self::of_fleet(fleet);
        tags.0.insert(Self::ROLE.to_owned(), Role::Lead.to_string());
        tags
    }

    /// Of one fleet of this name only: that of the id.
    #[must_use]
    pub fn with_fleet_id(mut self, id: &str) -> Self {
        self.0.insert(Self::FLEET_ID.to_owned(), id.to_owned());
        self
    }

    /// One tag's value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All of `wanted` are here with the same values; nothing wanted matches everything.
    #[must_use]
    pub fn contain(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|(k, v)| self.0.get(k) == Some(v))
    }
}
