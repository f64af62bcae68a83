//! Remembers across restarts: revisioned records it does not understand, on an embedded file (later on etcd too).
//!
//! A [`Store`] maps UTF-8 paths (`/jobs/17`) to opaque bytes. Every transaction that changes something
//! gets the next [`Revision`]; it is on disk before it is acknowledged. What changed can be watched from
//! a revision on, and keys can hang on a lease that deletes them when nobody keeps it alive.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod error;
mod sqlite;
mod store;
mod types;

pub use error::StoreError;
pub use sqlite::{Clock, FAILPOINTS, Failpoint, OpenOptions, SqliteStore};
pub use store::{Store, Watch};
pub use types::{
    CheckReport, Compare, Event, EventKind, Expected, LeaseId, Limits, Op, Page, Record, Revision,
    Txn,
};
