use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures::Stream;

use crate::StoreError;
use crate::types::{CheckReport, Event, LeaseId, Page, Record, Revision, Txn};

/// A revisioned key-value store; the contract is what SQLite and etcd both can hold
/// (`contract::run` tests it).
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Does all of `txn` or nothing; durable before it returns. Returns the revision the changes got, or the
    /// present revision when nothing changed (no ops, or only deletions of absent keys).
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: a condition does not hold, the first such key is named.
    /// [`StoreError::LeaseNotFound`], [`StoreError::Limit`], [`StoreError::BadKey`]: nothing was done.
    /// [`StoreError::Database`]: unknown whether it happened.
    async fn txn(&self, txn: Txn) -> Result<Revision, StoreError>;

    /// The key as every acknowledged transaction left it; `None` when absent.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the record fails its checksum.
    async fn get(&self, key: &str) -> Result<Option<Record>, StoreError>;

    /// Keys that start with `prefix`, in byte order, after `start_after` if given; at most `limit` and at most
    /// [`crate::Limits::PAGE_RECORDS`] and about [`crate::Limits::PAGE_BYTES`]. `limit` 0 returns only the revision.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn range(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError>;

    /// Every event of keys that start with `prefix` at `from` or later, in order, without gaps, including
    /// those that happened before the call. The stream ends after its first error.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] at the call or in the stream (a watcher slower than the kept history).
    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError>;

    /// A new lease that ends `ttl` after its last keepalive. A restart of the store starts each `ttl` anew.
    ///
    /// # Errors
    /// [`StoreError::BadTtl`], [`StoreError::Limit`].
    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Starts the lease's `ttl` anew.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`] when it ended: its keys are gone.
    async fn lease_keepalive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends the lease and deletes its keys now. Revoking what is gone succeeds.
    ///
    /// # Errors
    /// Only those of the medium.
    async fn lease_revoke(&self, lease: LeaseId) -> Result<Revision, StoreError>;

    /// Forgets history except for the last `keep` revisions; present records stay. Returns the oldest
    /// revision that can still be watched.
    ///
    /// # Errors
    /// Only those of the medium.
    async fn compact(&self, keep: u64) -> Result<Revision, StoreError>;

    /// Writes a consistent copy to a new file at `path`, complete and durable before it appears there.
    ///
    /// # Errors
    /// [`StoreError::Io`] when `path` exists already or cannot be written.
    async fn backup(&self, path: &Path) -> Result<Revision, StoreError>;

    /// Reads everything and compares it with its checksums.
    ///
    /// # Errors
    /// Only when it cannot read at all; what it finds wrong stands in the report.
    async fn check(&self) -> Result<CheckReport, StoreError>;
}

/// The stream of [`Store::watch`].
pub struct Watch(Pin<Box<dyn Stream<Item = Result<Event, StoreError>> + Send>>);

// === impl Watch ===

impl Watch {
    /// Wraps a store's own stream.
    pub fn new(stream: impl Stream<Item = Result<Event, StoreError>> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }
}

impl Stream for Watch {
    type Item = Result<Event, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
