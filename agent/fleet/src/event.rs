//! The audit trail: what happened, in the order it was stored.

use crate::attempt::{DeviceGrant, EndCause, Exit, StopCause};
use crate::id::{AttemptId, JobId, Kind, NodeId, PoolName, TenantName};
use crate::job::JobState;
use crate::unit::Millis;
use serde::{Deserialize, Serialize};

/// Something that happened, stored with the change it tells of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1 in each fleet, without gaps.
    pub seq: u64,
    /// When.
    pub at: Millis,
    /// What.
    pub what: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum EventKind {
    /// An object was declared (generation 1: created).
    Declared {
        kind: Kind,
        name: String,
        generation: u64,
        by: String,
    },
    /// An object was withdrawn.
    Withdrawn {
        kind: Kind,
        name: String,
        by: String,
    },
    /// A job was accepted.
    Submitted {
        job: JobId,
        tenant: TenantName,
        by: String,
    },
    /// An attempt was granted devices.
    Granted {
        attempt: AttemptId,
        tenant: TenantName,
        priority: i32,
        node: NodeId,
        grants: Vec<DeviceGrant>,
    },
    /// An attempt's processes run.
    Started { attempt: AttemptId },
    /// An attempt was told to stop.
    Stopping {
        attempt: AttemptId,
        cause: StopCause,
        priority: i32,
        by_priority: Option<i32>,
    },
    /// An attempt has ended and its devices are free.
    Ended {
        attempt: AttemptId,
        exit: Option<Exit>,
        end: EndCause,
    },
    /// A job reached a final state.
    Finished { job: JobId, state: JobState },
    /// A node joined the fleet.
    NodeJoined { node: NodeId, pool: PoolName },
    /// A node's state changed: `ready`, `suspect`, `cordoned`, `lost`, ...
    NodeChanged {
        node: NodeId,
        state: String,
        reason: String,
    },
    /// A node left: its instance is verified gone.
    NodeLeft { node: NodeId, pool: PoolName },
    /// A pool's wanted size changed.
    PoolResized {
        pool: PoolName,
        from: u32,
        to: u32,
        reason: String,
    },
}
