//! The store in one SQLite file, owned by one thread.
//!
//! ```text
//! callers --Request--> queue (bounded) --> thread: end due leases, group transactions, commit (fsync), note the
//!                                          acknowledged revision, answer, announce the revision to watchers
//! ```
//! Beside `store.db` stand `store.db-lock` (who has it), `store.db-acked` (the newest acknowledged revision: a
//! write-ahead log that lost its end is noticed), and SQLite's own `-wal` and `-shm`.

mod files;
mod schema;
mod table;
#[cfg(test)]
mod tests;
mod verify;
mod worker;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::StoreError;
use crate::store::{Store, Watch};
use crate::types::{
    CheckReport, Event, LeaseId, Limits, Page, Record, Revision, Txn, valid_key, valid_ttl,
};

/// Monotonic time since any fixed moment.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;
/// Called with a name of [`FAILPOINTS`] when the store passes there, on the store's thread.
pub type Failpoint = Arc<dyn Fn(&'static str) + Send + Sync>;

/// The places at which a test can end the process.
pub const FAILPOINTS: &[&str] = &[
    "store.commit.before",
    "store.commit.after",
    "store.acked.after",
];

/// How to open a store.
#[derive(Clone)]
pub struct OpenOptions {
    /// Revisions of history kept for watchers without anyone calling `compact`.
    pub history: u64,
    /// Copy the file aside (`<path>.v<old version>`) before a schema migration.
    pub copy_before_migration: bool,
    pub clock: Clock,
    pub failpoint: Option<Failpoint>,
}

/// An embedded store; cloning shares it. Dropping the last clone (a [`Watch`] holds one too) waits for what is
/// queued, closes the file and frees it for the next owner.
#[derive(Clone)]
pub struct SqliteStore {
    thread: Arc<Thread>,
    room: Arc<Semaphore>,
    head: watch::Receiver<Revision>,
    path: PathBuf,
}

/// The store's thread; ends when this is dropped.
struct Thread {
    queue: Option<mpsc::Sender<Queued>>,
    handle: Option<JoinHandle<()>>,
}

/// Where the answer of a request goes.
type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A request and its place in the bounded queue.
#[derive(Debug)]
struct Queued {
    request: Request,
    _room: OwnedSemaphorePermit,
}

/// What the thread can be asked.
#[derive(Debug)]
enum Request {
    Txn(Txn, Reply<Revision>),
    Get(String, Reply<Option<Record>>),
    Range {
        prefix: String,
        start_after: Option<String>,
        limit: usize,
        reply: Reply<Page>,
    },
    Events {
        prefix: String,
        after: Position,
        reply: Reply<Events>,
    },
    Grant(Duration, Reply<LeaseId>),
    Keepalive(LeaseId, Reply<()>),
    Revoke(LeaseId, Reply<Revision>),
    Expire(Reply<Revision>),
    Compact(u64, Reply<Revision>),
    Backup(PathBuf, Reply<Revision>),
    Check(Reply<CheckReport>),
}

/// A watcher's place in history: everything up to here was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position(u64);

/// A stretch of history.
#[derive(Debug)]
struct Events {
    events: Vec<Event>,
    /// Everything up to here was looked at.
    upto: Position,
    /// Nothing newer was there.
    caught_up: bool,
}

// === impl OpenOptions ===

impl Default for OpenOptions {
    fn default() -> Self {
        let start = Instant::now();
        Self {
            history: 10_000,
            copy_before_migration: true,
            clock: Arc::new(move || start.elapsed()),
            failpoint: None,
        }
    }
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenOptions")
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

// === impl Position ===

impl Position {
    /// Bits of the index of an event inside its revision.
    const INDEX_BITS: u32 = 20;

    /// The event `index` of `revision`.
    fn of(revision: Revision, index: u64) -> Self {
        Self((revision.0 << Self::INDEX_BITS) | index)
    }

    /// Just before the first event of `revision`.
    fn before(revision: Revision) -> Self {
        Self((revision.0 << Self::INDEX_BITS).saturating_sub(1))
    }

    /// The revision of the event here.
    fn revision(self) -> Revision {
        Revision(self.0 >> Self::INDEX_BITS)
    }
}

// === impl SqliteStore ===

impl SqliteStore {
    /// Opens or creates the store at `path`, verifies every record, and takes the file for this process.
    /// Blocks for the time of one read of the file.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Corrupt`], [`StoreError::TooNew`]: the file is left as it is.
    pub fn open(path: impl Into<PathBuf>, options: OpenOptions) -> Result<Self, StoreError> {
        let path = path.into();
        let lock = files::Lock::take(&path)?;
        let acked = files::Acked::open(&path)?;
        let db = schema::open(&path, &options, acked.revision())?;
        Self::start(path, db, options, Some((lock, acked)))
    }

    /// A store that ends with its last clone: for tests of others.
    ///
    /// # Errors
    /// [`StoreError::Database`] when SQLite has no memory.
    pub fn in_memory(options: OpenOptions) -> Result<Self, StoreError> {
        let path = PathBuf::from(":memory:");
        let db = schema::open_in_memory(&path)?;
        Self::start(path, db, options, None)
    }

    /// Checks the store at `path` without changing it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while an agent has it, [`StoreError::Io`] when it does not exist,
    /// [`StoreError::Corrupt`] when it is not a readable database at all.
    pub fn check_file(path: &Path) -> Result<CheckReport, StoreError> {
        let _lock = files::Lock::take(path)?;
        let acked = files::Acked::open(path)?;
        files::must_exist(path)?;
        schema::check_file(path, acked.revision())
    }

    /// Writes a consistent copy of the store at `path` to the new file `to`, compares the copy with its checksums,
    /// and returns its revision. The store may be in use: the agent goes on meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Io`] when `path` is missing or something is at `to`, [`StoreError::Corrupt`] when the copy is
    /// not sound (there is none then), [`StoreError::TooNew`].
    pub fn backup_file(path: &Path, to: &Path) -> Result<Revision, StoreError> {
        files::must_exist(path)?;
        // Read before the copy is made: what was acknowledged by then must be in it.
        let acked = files::Acked::open(path)?;
        schema::copy_checked(path, to, acked.revision())
    }

    /// Puts a copy of `backup` in the place of the store at `path`; what was there is kept as
    /// `<path>.replaced-<n>` and its new name returned. Leases of the backup start anew.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while an agent has `path`; [`StoreError::Corrupt`] when the backup itself is damaged.
    pub fn restore(backup: &Path, path: &Path) -> Result<Option<PathBuf>, StoreError> {
        files::must_exist(backup)?;
        let report = schema::check_file(backup, None)?;
        if let Some(problem) = report.problems.into_iter().next() {
            return Err(StoreError::Corrupt {
                path: backup.to_owned(),
                detail: problem,
            });
        }
        let _lock = files::Lock::take(path)?;
        files::replace(backup, path)
    }

    /// Ends the leases whose time is over now, without waiting for the thread's own timer.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Closed`].
    pub async fn expire_leases(&self) -> Result<Revision, StoreError> {
        self.ask(Request::Expire).await
    }

    /// Where the file is; `:memory:` without one.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn start(
        path: PathBuf,
        db: schema::Opened,
        options: OpenOptions,
        files: Option<(files::Lock, files::Acked)>,
    ) -> Result<Self, StoreError> {
        let (queue, requests) = mpsc::channel();
        let (announce, head) = watch::channel(db.head.revision);
        let worker = worker::Worker::new(path.clone(), db, options, files, announce);
        let handle = std::thread::Builder::new()
            .name("gpuloom-store".to_owned())
            .spawn(move || worker.run(&requests))
            .map_err(|source| StoreError::Io {
                action: "start the store's thread for",
                path: path.clone(),
                source,
            })?;
        let thread = Arc::new(Thread {
            queue: Some(queue),
            handle: Some(handle),
        });
        Ok(Self {
            thread,
            room: Arc::new(Semaphore::new(Limits::QUEUE)),
            head,
            path,
        })
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let room = Arc::clone(&self.room)
            .acquire_owned()
            .await
            .map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let queue = self.thread.queue.as_ref().ok_or(StoreError::Closed)?;
        queue
            .send(Queued {
                request: request(reply),
                _room: room,
            })
            .map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    async fn events(&self, prefix: &str, after: Position) -> Result<Events, StoreError> {
        let prefix = prefix.to_owned();
        self.ask(|reply| Request::Events {
            prefix,
            after,
            reply,
        })
        .await
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(handle) = self.handle.take()
            && handle.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn txn(&self, txn: Txn) -> Result<Revision, StoreError> {
        txn.validate()?;
        self.ask(|reply| Request::Txn(txn, reply)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Record>, StoreError> {
        valid_key(key)?;
        let key = key.to_owned();
        self.ask(|reply| Request::Get(key, reply)).await
    }

    async fn range(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let (prefix, start_after) = (prefix.to_owned(), start_after.map(str::to_owned));
        self.ask(|reply| Request::Range {
            prefix,
            start_after,
            limit,
            reply,
        })
        .await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        let start = Position::before(from);
        // Asked for at once so that compacted history is an error of the call.
        let first = self.events(prefix, start).await?;
        Ok(Watch::new(follow(self.clone(), prefix.to_owned(), first)))
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        valid_ttl(ttl)?;
        self.ask(|reply| Request::Grant(ttl, reply)).await
    }

    async fn lease_keepalive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask(|reply| Request::Keepalive(lease, reply)).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<Revision, StoreError> {
        self.ask(|reply| Request::Revoke(lease, reply)).await
    }

    async fn compact(&self, keep: u64) -> Result<Revision, StoreError> {
        self.ask(|reply| Request::Compact(keep, reply)).await
    }

    async fn backup(&self, path: &Path) -> Result<Revision, StoreError> {
        let path = path.to_owned();
        self.ask(|reply| Request::Backup(path, reply)).await
    }

    async fn check(&self) -> Result<CheckReport, StoreError> {
        self.ask(Request::Check).await
    }
}

/// A watcher pulls: it holds at most one batch, and history is its buffer.
struct Follower {
    store: SqliteStore,
    prefix: String,
    ready: std::vec::IntoIter<Event>,
    upto: Position,
    caught_up: bool,
    ended: bool,
}

fn follow(
    store: SqliteStore,
    prefix: String,
    first: Events,
) -> impl futures::Stream<Item = Result<Event, StoreError>> + Send {
    let follower = Follower {
        store,
        prefix,
        ready: first.events.into_iter(),
        upto: first.upto,
        caught_up: first.caught_up,
        ended: false,
    };
    futures::stream::unfold(follower, |mut f| async move {
        let item = f.next().await?;
        f.ended = item.is_err();
        Some((item, f))
    })
}

// === impl Follower ===

impl Follower {
    async fn next(&mut self) -> Option<Result<Event, StoreError>> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(event) = self.ready.next() {
                return Some(Ok(event));
            }
            if self.caught_up {
                let seen = self.upto;
                let news = self
                    .store
                    .head
                    .wait_for(|head| *head > seen.revision())
                    .await;
                if news.is_err() {
                    return Some(Err(StoreError::Closed));
                }
            }
            match self.store.events(&self.prefix, self.upto).await {
                Ok(more) => {
                    self.ready = more.events.into_iter();
                    self.upto = more.upto;
                    self.caught_up = more.caught_up;
                }
                Err(e) => return Some(Err(e)),
            }
        }
    }
}
