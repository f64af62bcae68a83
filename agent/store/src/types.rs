use std::fmt;
use std::time::Duration;

use crate::StoreError;

/// The count of transactions that changed something, up to and including this one. The empty store is at 0
/// (etcd: at 1); only the order of revisions means something, never the distance between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// The name of a lease, unique for the life of the store; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// The limits every store keeps; each is tested at the limit and one above.
#[derive(Debug)]
pub struct Limits;

/// What a key must look like for a transaction to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// There is no such key.
    Absent,
    /// The key was last written at exactly this revision.
    ModRevision(Revision),
}

/// One condition of a [`Txn`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub key: String,
    pub expected: Expected,
}

/// One change of a [`Txn`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes the key; `lease: None` also takes it off the lease it hung on before.
    Put {
        key: String,
        value: Vec<u8>,
        lease: Option<LeaseId>,
    },
    /// Removes the key; removing an absent key changes nothing and is no event.
    Delete { key: String },
}

/// Conditions and changes that happen together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub ops: Vec<Op>,
}

/// A key as it stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: String,
    pub value: Vec<u8>,
    /// When the key came into being (again, after a deletion).
    pub create_revision: Revision,
    /// When the key was last written: what [`Expected::ModRevision`] compares with.
    pub mod_revision: Revision,
    pub lease: Option<LeaseId>,
}

/// A stretch of keys in byte order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub records: Vec<Record>,
    /// The store's revision when this page was read. To follow a listing, watch from the **first** page's
    /// revision + 1: events that a later page already shows repeat themselves harmlessly.
    pub revision: Revision,
    /// There are more keys: ask again with `start_after` = the last key of this page.
    pub more: bool,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Shared by all changes of one transaction.
    pub revision: Revision,
    pub key: String,
    pub kind: EventKind,
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    Put {
        value: Vec<u8>,
    },
    /// Deleted by a transaction, or because its lease ended.
    Delete,
}

/// What [`crate::Store::check`] counted and found; all zero when the file's structure is broken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    pub revision: Revision,
    pub records: u64,
    pub events: u64,
    pub leases: u64,
    /// One sentence each; empty = sound.
    pub problems: Vec<String>,
}

// === impl Revision ===

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl LeaseId ===

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Limits ===

impl Limits {
    /// Bytes of one value (etcd's request limit is 1.5 MiB).
    pub const VALUE_BYTES: usize = 1 << 20;
    /// Bytes of one key.
    pub const KEY_BYTES: usize = 512;
    /// Changes in one transaction, and conditions in one transaction (etcd's `--max-txn-ops`).
    pub const TXN_OPS: usize = 128;
    /// Bytes of all keys and values of one transaction.
    pub const TXN_BYTES: usize = 4 << 20;
    /// Records of one page; a larger `limit` is cut to this and the page says `more`.
    pub const PAGE_RECORDS: usize = 1000;
    /// Bytes of one page's values after which it ends early and says `more`.
    pub const PAGE_BYTES: usize = 4 << 20;
    /// Shortest life of a lease (etcd counts in whole seconds).
    pub const LEASE_MIN: Duration = Duration::from_secs(1);
    /// Longest life of a lease.
    pub const LEASE_MAX: Duration = Duration::from_secs(24 * 3600);
    /// Leases alive at a time.
    pub const LEASES: usize = 10_000;
    /// Requests waiting inside the store; the next caller waits outside.
    pub const QUEUE: usize = 1024;
    /// Events fetched for a watcher at a time; a slow watcher holds no more than this in memory.
    pub const WATCH_EVENTS: usize = 256;
}

// === impl Txn ===

impl Txn {
    /// A transaction without conditions or changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Happen only if `key` does not exist.
    #[must_use]
    pub fn if_absent(mut self, key: impl Into<String>) -> Self {
        self.compare.push(Compare {
            key: key.into(),
            expected: Expected::Absent,
        });
        self
    }

    /// Happen only if `key` was last written at `revision`.
    #[must_use]
    pub fn if_at(mut self, key: impl Into<String>, revision: Revision) -> Self {
        self.compare.push(Compare {
            key: key.into(),
            expected: Expected::ModRevision(revision),
        });
        self
    }

    /// Write `key`, on no lease.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.ops.push(Op::Put {
            key: key.into(),
            value: value.into(),
            lease: None,
        });
        self
    }

    /// Write `key` and hang it on `lease`.
    #[must_use]
    pub fn put_leased(
        mut self,
        key: impl Into<String>,
        value: impl Into<Vec<u8>>,
        lease: LeaseId,
    ) -> Self {
        self.ops.push(Op::Put {
            key: key.into(),
            value: value.into(),
            lease: Some(lease),
        });
        self
    }

    /// Remove `key` if it exists.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.ops.push(Op::Delete { key: key.into() });
        self
    }

    /// The limits and the shape of keys, before any store is asked.
    ///
    /// # Errors
    /// [`StoreError::Limit`], [`StoreError::BadKey`]: the caller's mistake, nothing was done.
    pub fn validate(&self) -> Result<(), StoreError> {
        within(
            "changes in one transaction",
            self.ops.len(),
            Limits::TXN_OPS,
        )?;
        within(
            "conditions in one transaction",
            self.compare.len(),
            Limits::TXN_OPS,
        )?;
        for c in &self.compare {
            valid_key(&c.key)?;
        }
        let mut bytes = 0usize;
        let mut seen = std::collections::BTreeSet::new();
        for op in &self.ops {
            let (key, size) = match op {
                Op::Put { key, value, .. } => (key, value.len()),
                Op::Delete { key } => (key, 0),
            };
            valid_key(key)?;
            within("bytes of a value", size, Limits::VALUE_BYTES)?;
            bytes = bytes.saturating_add(size).saturating_add(key.len());
            if !seen.insert(key.as_str()) {
                return Err(StoreError::BadKey {
                    key: key.clone(),
                    why: "it is changed twice in one transaction; change it once",
                });
            }
        }
        within("bytes of one transaction", bytes, Limits::TXN_BYTES)
    }
}

/// `got` is at most `limit`.
pub(crate) fn within(what: &'static str, got: usize, limit: usize) -> Result<(), StoreError> {
    if got > limit {
        Err(StoreError::Limit { what, got, limit })
    } else {
        Ok(())
    }
}

/// A path of at most [`Limits::KEY_BYTES`] without control characters.
pub(crate) fn valid_key(key: &str) -> Result<(), StoreError> {
    within("bytes of a key", key.len(), Limits::KEY_BYTES)?;
    let why = if !key.starts_with('/') {
        "a key starts with /"
    } else if key.chars().any(char::is_control) {
        "a key has no control characters"
    } else {
        return Ok(());
    };
    Err(StoreError::BadKey {
        key: key.to_owned(),
        why,
    })
}

/// A lease lives between [`Limits::LEASE_MIN`] and [`Limits::LEASE_MAX`].
pub(crate) fn valid_ttl(ttl: Duration) -> Result<(), StoreError> {
    if ttl < Limits::LEASE_MIN || ttl > Limits::LEASE_MAX {
        return Err(StoreError::BadTtl {
            ttl,
            min: Limits::LEASE_MIN,
            max: Limits::LEASE_MAX,
        });
    }
    Ok(())
}
