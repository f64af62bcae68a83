use std::path::PathBuf;
use std::time::Duration;

use crate::types::{LeaseId, Revision};

/// Why a store did not do what it was asked. Variants follow what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was done: somebody else was faster. Read again and decide again.
    #[error("{key} is not as expected: {}", found(*have))]
    Conflict {
        key: String,
        /// The revision the key was last written at; `None` when there is no such key.
        have: Option<Revision>,
    },
    /// The history asked for is gone: list again, then watch from the listing's revision + 1.
    #[error(
        "history before revision {oldest} is compacted, asked for {asked}: list again and watch from there"
    )]
    Compacted { asked: Revision, oldest: Revision },
    /// Nothing was done: the request is larger than a store takes.
    #[error("{what}: {got}, at most {limit}")]
    Limit {
        what: &'static str,
        got: usize,
        limit: usize,
    },
    /// Nothing was done: not a key.
    #[error("bad key {key:?}: {why}")]
    BadKey { key: String, why: &'static str },
    /// Nothing was done: not a lease's life.
    #[error("lease of {ttl:?}: between {min:?} and {max:?}")]
    BadTtl {
        ttl: Duration,
        min: Duration,
        max: Duration,
    },
    /// The lease ended or never was: grant a new one.
    #[error("lease {0} does not exist or has ended: grant a new one")]
    LeaseNotFound(LeaseId),
    /// The file is damaged. It was left as it is.
    #[error(
        "store {path} is damaged: {detail}; nothing was changed. Restore a backup with \
         `gpuloom store restore BACKUP --to {path}`, or keep the file for inspection and start an empty store elsewhere",
        path = path.display()
    )]
    Corrupt { path: PathBuf, detail: String },
    /// Another process has the file.
    #[error(
        "store {path} is in use by {}; stop it first, or give this one another data directory",
        holder(*pid),
        path = path.display()
    )]
    Locked { path: PathBuf, pid: Option<u32> },
    /// A later gpuloom wrote the file.
    #[error(
        "store {path} has schema version {have}, this gpuloom knows up to {known}; start the newer gpuloom, \
         or restore the backup made before the upgrade",
        path = path.display()
    )]
    TooNew {
        path: PathBuf,
        have: u32,
        known: u32,
    },
    /// The file system refused; the path says where.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// SQLite refused (disk full, I/O error). Whether a transaction happened is unknown: read again.
    #[error("cannot {action} in the store; whether it happened is unknown until read again")]
    Database {
        action: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    /// The store was shut down or its thread died.
    #[error("the store is closed: the agent is shutting down, or its store thread has ended")]
    Closed,
}

fn found(have: Option<Revision>) -> String {
    have.map_or_else(
        || "it does not exist".to_owned(),
        |r| format!("it was last written at revision {r}"),
    )
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |p| format!("process {p}"))
}
