//! What the lead writes to its store: keys, records and their encoding.

use gpuloom_cloud::{LaunchId, LaunchRecord};
use gpuloom_fleet::{
    Backend, Device, Event, Job, JobId, Kind, Millis, NodeId, ObjectRecord, PoolName, PoolStatus,
    TenantName,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of every record; a later one is refused, never guessed at.
const RECORD_VERSION: u32 = 1;

/// The fleet itself, written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FleetRecord {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Millis,
}

/// A job with what only the lead needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    pub(crate) job: Job,
    /// Who submitted it.
    pub(crate) by: String,
    /// Its submission's id; repeating that gives the same job.
    pub(crate) request_id: String,
    /// Why it reached its final state where its last attempt does not say so.
    pub(crate) note: String,
}

/// An array job: its elements are equal to `template` until they have a record of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArrayRecord {
    pub(crate) number: u64,
    pub(crate) count: u32,
    pub(crate) template: JobRecord,
}

/// A node that joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    pub(crate) id: NodeId,
    pub(crate) pool: PoolName,
    pub(crate) joined_at: Millis,
    /// Why it takes no new jobs; `None` when it does.
    pub(crate) cordon: Option<String>,
    /// Whether it ends when its jobs have.
    pub(crate) draining: bool,
    pub(crate) agent_version: String,
    pub(crate) endpoint: String,
    pub(crate) backend: Backend,
    pub(crate) devices: Vec<Device>,
    pub(crate) capabilities: BTreeMap<String, String>,
    /// What its certificate has to be. Records from before certificates were renewed say nothing.
    #[serde(default)]
    pub(crate) membership: Membership,
}

/// What makes a node's certificate good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    /// Hex of SHA-256 of its public key; `None` until it is renewed for the first time.
    pub(crate) key: Option<String>,
    /// Whether it proved which instance it is; else it had a token.
    pub(crate) by_instance: bool,
    /// When it got its present certificate; `None`: one of those for ten years.
    pub(crate) certified_at: Option<Millis>,
}

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "purpose")]
pub(crate) enum TokenPurpose {
    /// Jobs of one tenant.
    Submit { tenant: TenantName },
    /// One node joins this pool; bound to the first node and key that use it.
    Join {
        pool: PoolName,
        used_by: Option<JoinUse>,
    },
}

/// Who used a join token: only the same node with the same key may use it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinUse {
    pub(crate) node: NodeId,
    /// SHA-256 of the public key in the signing request, hex: requests of one key differ by their signatures.
    pub(crate) request: String,
}

/// A token, known by the SHA-256 of its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    /// Hex of SHA-256.
    pub(crate) hash: String,
    pub(crate) purpose: TokenPurpose,
    pub(crate) expires_at: Millis,
    pub(crate) label: String,
}

/// Events stored together; the key is the first one's number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventBatch {
    pub(crate) events: Vec<Event>,
}

#[derive(Serialize)]
struct Out<'a, T> {
    v: u32,
    r: &'a T,
}

#[derive(Deserialize)]
struct In<T> {
    v: u32,
    r: T,
}

/// A record that does not read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A later gpuloom wrote it.
    #[error(
        "record {key} has version {have}, this gpuloom knows {RECORD_VERSION}: start the newer gpuloom, or restore the backup made before the upgrade"
    )]
    TooNew {
        /// Which.
        key: String,
        /// Its version.
        have: u32,
    },
    /// Not what the key promises.
    #[error(
        "record {key} does not read: {message}; the store was left as it is: restore a backup with `gpuloom store restore`, or report this with the output of `gpuloom store check`"
    )]
    Bad {
        /// Which.
        key: String,
        /// Why.
        message: String,
    },
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

pub(crate) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    let out = Out {
        v: RECORD_VERSION,
        r: record,
    };
    // Maps with text keys, numbers and text: nothing that JSON cannot hold.
    serde_json::to_vec(&out).expect("records encode as JSON")
}

pub(crate) fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, RecordError> {
    let bad = |e: serde_json::Error| RecordError::Bad {
        key: key.to_owned(),
        message: e.to_string(),
    };
    let have = serde_json::from_slice::<VersionOnly>(value).map_err(bad)?.v;
    if have != RECORD_VERSION {
        return Err(RecordError::TooNew {
            key: key.to_owned(),
            have,
        });
    }
    let read: In<T> = serde_json::from_slice(value).map_err(bad)?;
    debug_assert_eq!(read.v, have, "the same bytes were read twice");
    Ok(read.r)
}

/// One record to write or remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Fleet(FleetRecord),
    /// The number of the next job.
    NextJob(u64),
    /// The number of the next launch; never used twice.
    NextLaunch(u64),
    Object(ObjectRecord),
    NoObject(Kind, String),
    Job(JobRecord),
    NoJob(JobId),
    Array(ArrayRecord),
    NoArray(u64),
    Node(NodeRecord),
    NoNode(NodeId),
    Launch(LaunchRecord),
    NoLaunch(LaunchId),
    Token(TokenRecord),
    NoToken(String),
    Pool(PoolName, PoolStatus),
    NoPool(PoolName),
}

pub(crate) fn event_key(seq: u64) -> String {
    format!("/events/{seq:012}")
}

// === impl Piece ===

impl Piece {
    /// The store's key.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Fleet(_) => "/fleet".to_owned(),
            Self::NextJob(_) => "/next_job".to_owned(),
            Self::NextLaunch(_) => "/next_launch".to_owned(),
            Self::Object(r) => format!("/objects/{}/{}", r.object.kind(), r.object.name()),
            Self::NoObject(kind, name) => format!("/objects/{kind}/{name}"),
            Self::Job(r) => format!("/jobs/{}", r.job.id),
            Self::NoJob(id) => format!("/jobs/{id}"),
            Self::Array(r) => format!("/arrays/{}", r.number),
            Self::NoArray(n) => format!("/arrays/{n}"),
            Self::Node(r) => format!("/nodes/{}", r.id),
            Self::NoNode(id) => format!("/nodes/{id}"),
            Self::Launch(r) => format!("/launches/{}", r.id),
            Self::NoLaunch(id) => format!("/launches/{id}"),
            Self::Token(r) => format!("/tokens/{}", r.hash),
            Self::NoToken(hash) => format!("/tokens/{hash}"),
            Self::Pool(name, _) | Self::NoPool(name) => format!("/pools/{name}"),
        }
    }

    /// The store's value; `None` removes the key.
    pub(crate) fn value(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::Fleet(r) => encode(r),
            Self::NextJob(n) | Self::NextLaunch(n) => encode(n),
            Self::Object(r) => encode(r),
            Self::Job(r) => encode(r),
            Self::Array(r) => encode(r),
            Self::Node(r) => encode(r),
            Self::Launch(r) => encode(r),
            Self::Token(r) => encode(r),
            Self::Pool(_, r) => encode(r),
            Self::NoObject(..)
            | Self::NoJob(_)
            | Self::NoArray(_)
            | Self::NoNode(_)
            | Self::NoLaunch(_)
            | Self::NoToken(_)
            | Self::NoPool(_) => return None,
        })
    }

    /// Reads back what [`Piece::key`] and [`Piece::value`] wrote; `None` for keys of others.
    pub(crate) fn read(key: &str, value: &[u8]) -> Result<Option<Self>, RecordError> {
        let Some((table, rest)) = key
            .strip_prefix('/')
            .map(|k| k.split_once('/').unwrap_or((k, "")))
        else {
            return Ok(None);
        };
        Ok(Some(match table {
            "fleet" => Self::Fleet(decode(key, value)?),
            "next_job" => Self::NextJob(decode(key, value)?),
            "next_launch" => Self::NextLaunch(decode(key, value)?),
            "objects" => Self::Object(decode(key, value)?),
            "jobs" => Self::Job(decode(key, value)?),
            "arrays" => Self::Array(decode(key, value)?),
            "nodes" => Self::Node(decode(key, value)?),
            "launches" => Self::Launch(decode(key, value)?),
            "tokens" => Self::Token(decode(key, value)?),
            "pools" => {
                let name = PoolName::new(rest).map_err(|e| RecordError::Bad {
                    key: key.to_owned(),
                    message: e.to_string(),
                })?;
                Self::Pool(name, decode(key, value)?)
            }
            _ => return Ok(None),
        }))
    }
}
