//! The thread that owns the connection: groups transactions into one commit, ends leases, answers reads.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;

use super::table::Head;
use super::{Events, OpenOptions, Position, Queued, Reply, Request, files, schema, table, verify};
use crate::StoreError;
use crate::types::{CheckReport, Expected, LeaseId, Limits, Op, Page, Record, Revision, Txn};

/// Transactions committed together at most: bounds how long the first of them waits.
const GROUP: usize = 256;
/// How long the thread sleeps at most before it looks at the leases again.
const NAP: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Worker {
    path: PathBuf,
    db: Connection,
    head: Head,
    leases: BTreeMap<LeaseId, Lease>,
    /// No lease ends before this: spares a look at all of them at every request.
    earliest: Duration,
    options: OpenOptions,
    acked: Option<files::Acked>,
    announce: watch::Sender<Revision>,
    /// Dropped last: the file is free only when the connection is closed.
    _lock: Option<files::Lock>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    ttl: Duration,
    ends: Duration,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(
        path: PathBuf,
        opened: schema::Opened,
        options: OpenOptions,
        files: Option<(files::Lock, files::Acked)>,
        announce: watch::Sender<Revision>,
    ) -> Self {
        let (lock, acked) = files.unzip();
        let (db, head) = (opened.db, opened.head);
        let (leases, earliest) = (BTreeMap::new(), Duration::MAX);
        Self {
            path,
            db,
            head,
            leases,
            earliest,
            options,
            acked,
            announce,
            _lock: lock,
        }
    }

    /// Serves until every handle is gone.
    pub(super) fn run(mut self, requests: &Receiver<Queued>) {
        if let Err(e) = self.begin() {
            tracing::error!(
                error = &e as &dyn std::error::Error,
                "the store cannot start"
            );
            return;
        }
        let mut left_over = None;
        loop {
            let next = match left_over.take() {
                Some(q) => q,
                None => match requests.recv_timeout(self.nap()) {
                    Ok(q) => q,
                    Err(RecvTimeoutError::Timeout) => {
                        self.end_due_leases();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                },
            };
            self.end_due_leases();
            left_over = self.serve(next, requests);
        }
    }

    /// Leases start anew; the acknowledged revision is at least what the file holds.
    fn begin(&mut self) -> Result<(), StoreError> {
        let now = (self.options.clock)();
        let leases = table::leases(&self.db).map_err(|e| self.failed("read the leases", e))?;
        for lease in leases {
            let (id, ttl_ms) = lease.row;
            let ttl = Duration::from_millis(ttl_ms);
            self.hold(
                id,
                Lease {
                    ttl,
                    ends: now.saturating_add(ttl),
                },
            );
        }
        self.note()
    }

    /// Does `first`; when it is a transaction, together with those that wait behind it. Returns a request that
    /// was taken from the queue and is not a transaction.
    fn serve(&mut self, first: Queued, requests: &Receiver<Queued>) -> Option<Queued> {
        let Queued {
            request: Request::Txn(txn, reply),
            _room: room,
        } = first
        else {
            self.answer(first.request);
            return None;
        };
        let mut rooms = vec![room];
        let mut group = vec![(txn, reply)];
        let mut left_over = None;
        while group.len() < GROUP {
            match requests.try_recv() {
                Ok(Queued {
                    request: Request::Txn(txn, reply),
                    _room: room,
                }) => {
                    rooms.push(room);
                    group.push((txn, reply));
                }
                Ok(other) => {
                    left_over = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        self.commit_group(group);
        left_over
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Txn(txn, reply) => self.commit_group(vec![(txn, reply)]),
            Request::Get(key, reply) => send(reply, self.get(&key)),
            Request::Range {
                prefix,
                start_after,
                limit,
                reply,
            } => {
                send(reply, self.range(&prefix, start_after.as_deref(), limit));
            }
            Request::Events {
                prefix,
                after,
                reply,
            } => send(reply, self.events(&prefix, after)),
            Request::Grant(ttl, reply) => send(reply, self.grant(ttl)),
            Request::Keepalive(lease, reply) => send(reply, self.keepalive(lease)),
            Request::Revoke(lease, reply) => send(reply, self.revoke(&[lease])),
            Request::Expire(reply) => {
                let due = self.due();
                send(reply, self.revoke(&due));
            }
            Request::Compact(keep, reply) => send(reply, self.compact(keep)),
            Request::Backup(path, reply) => {
                let done = schema::vacuum_into(&self.db, &path).map(|()| self.head.revision);
                send(reply, done);
            }
            Request::Check(reply) => send(reply, self.check()),
        }
    }

    // --- transactions ---

    /// All of the group in one commit; when the medium refuses that, each by itself, so that one transaction
    /// that cannot be written does not take the others with it.
    fn commit_group(&mut self, group: Vec<(Txn, Reply<Revision>)>) {
        let together = self.commit(|w| {
            group
                .iter()
                .map(|(txn, _)| w.apply(txn))
                .collect::<Result<Vec<_>, _>>()
        });
        match together {
            Ok(results) => {
                for ((_, reply), result) in group.into_iter().zip(results) {
                    send(reply, result);
                }
            }
            Err(e) if group.len() == 1 => {
                let failed = self.failed("commit", e);
                if let Some((_, reply)) = group.into_iter().next() {
                    send(reply, Err(failed));
                }
            }
            Err(e) => {
                tracing::warn!(error = %e, count = group.len(), "commit of a group failed, trying one by one");
                for one in group {
                    self.commit_group(vec![one]);
                }
            }
        }
    }

    /// Runs `change` between BEGIN and COMMIT with history kept in bounds, and announces the new revision.
    /// On an error neither the file nor the head has changed.
    fn commit<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let before = self.head;
        let result = self.commit_inner(before, change);
        if result.is_err() {
            self.head = before;
            if !self.db.is_autocommit() {
                // After some errors SQLite has rolled back by itself; otherwise the connection's next BEGIN says so.
                let _ = self.db.execute_batch("ROLLBACK");
            }
        }
        result
    }

    fn commit_inner<T>(
        &mut self,
        before: Head,
        change: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        let value = change(self)?;
        if self.head == before {
            self.db.execute_batch("ROLLBACK")?;
            return Ok(value);
        }
        // In steps, so that the cost is spread and not paid at every commit.
        let kept = self.head.revision.0.saturating_sub(self.head.oldest.0);
        if kept
            > self
                .options
                .history
                .saturating_add(self.options.history / 8)
        {
            let oldest = self.head.revision.0.saturating_sub(self.options.history) + 1;
            table::forget(&self.db, &mut self.head, Revision(oldest))?;
        }
        table::write_head(&self.db, &self.head)?;
        self.hit("store.commit.before");
        self.db.execute_batch("COMMIT")?;
        self.hit("store.commit.after");
        if let Err(e) = self.note() {
            tracing::warn!(
                error = &e as &dyn std::error::Error,
                "acknowledged revision not noted"
            );
        }
        self.hit("store.acked.after");
        self.announce.send_replace(self.head.revision);
        Ok(value)
    }

    /// One transaction inside the open commit. The outer error is the medium's, the inner the caller's; with an
    /// inner error nothing was written.
    fn apply(&mut self, txn: &Txn) -> rusqlite::Result<Result<Revision, StoreError>> {
        for c in &txn.compare {
            let have = table::mod_revision(&self.db, &c.key)?;
            let expected = match c.expected {
                Expected::Absent => None,
                Expected::ModRevision(r) => Some(r),
            };
            if have != expected {
                return Ok(Err(StoreError::Conflict {
                    key: c.key.clone(),
                    have,
                }));
            }
        }
        for op in &txn.ops {
            if let Op::Put {
                lease: Some(lease), ..
            } = op
                && !self.leases.contains_key(lease)
            {
                return Ok(Err(StoreError::LeaseNotFound(*lease)));
            }
        }
        let revision = self.head.revision.next();
        let mut index = 0;
        for op in &txn.ops {
            let (key, new) = match op {
                Op::Put { key, value, lease } => (key, Some((value, *lease))),
                Op::Delete { key } => (key, None),
            };
            if self.change(Position::of(revision, index), key, new)? {
                index += 1;
            }
        }
        if index > 0 {
            self.head.revision = revision;
        }
        Ok(Ok(self.head.revision))
    }

    /// Writes (`Some`) or deletes (`None`) a key; false when there was nothing to delete.
    fn change(
        &mut self,
        at: Position,
        key: &str,
        new: Option<(&Vec<u8>, Option<LeaseId>)>,
    ) -> rusqlite::Result<bool> {
        let old = table::get(&self.db, key)?;
        match (new, &old) {
            (None, None) => return Ok(false),
            (None, Some(old)) => {
                table::delete(&self.db, &mut self.head, old)?;
                table::append(&self.db, &mut self.head, at, key, None)?;
            }
            (Some((value, lease)), old) => {
                let created = old
                    .as_ref()
                    .map_or(at.revision(), |o| o.row.create_revision);
                let record = Record {
                    key: key.to_owned(),
                    value: value.clone(),
                    create_revision: created,
                    mod_revision: at.revision(),
                    lease,
                };
                table::put(&self.db, &mut self.head, old.as_ref(), &record)?;
                table::append(&self.db, &mut self.head, at, key, Some(value))?;
            }
        }
        Ok(true)
    }

    // --- reads ---

    fn get(&self, key: &str) -> Result<Option<Record>, StoreError> {
        let found = table::get(&self.db, key).map_err(|e| self.failed("read", e))?;
        match found {
            Some(r) if !r.sound => Err(self.unsound(key)),
            found => Ok(found.map(|r| r.row)),
        }
    }

    fn range(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let limit = limit.min(Limits::PAGE_RECORDS);
        let from = start_after.filter(|s| *s > prefix).unwrap_or(prefix);
        let mut page = Page {
            records: Vec::new(),
            revision: self.head.revision,
            more: false,
        };
        let mut bytes = 0;
        let mut unsound = None;
        table::scan(&self.db, from, |r| {
            if start_after.is_some_and(|s| r.row.key.as_str() <= s) {
                return true;
            }
            if !r.row.key.starts_with(prefix) {
                return false;
            }
            if page.records.len() >= limit || bytes >= Limits::PAGE_BYTES {
                page.more = true;
                return false;
            }
            bytes += r.row.value.len();
            if !r.sound {
                unsound = Some(r.row.key);
                return false;
            }
            page.records.push(r.row);
            true
        })
        .map_err(|e| self.failed("read", e))?;
        unsound.map_or(Ok(page), |key| Err(self.unsound(&key)))
    }

    fn events(&self, prefix: &str, after: Position) -> Result<Events, StoreError> {
        let asked = Position(after.0.saturating_add(1))
            .revision()
            .max(Revision(1));
        if asked < self.head.oldest {
            return Err(StoreError::Compacted {
                asked,
                oldest: self.head.oldest,
            });
        }
        let end = Position::before(self.head.revision.next());
        let mut found = Events {
            events: Vec::new(),
            upto: after.max(end),
            caught_up: true,
        };
        let (mut bytes, mut unsound) = (0, None);
        table::history(&self.db, after, |at, e| {
            if !e.row.key.starts_with(prefix) {
                return true;
            }
            if !e.sound {
                unsound = Some(e.row.key);
                return false;
            }
            if let crate::types::EventKind::Put { value } = &e.row.kind {
                bytes += value.len();
            }
            found.events.push(e.row);
            let full = found.events.len() >= Limits::WATCH_EVENTS || bytes >= Limits::PAGE_BYTES;
            if full {
                found.upto = at;
                found.caught_up = false;
            }
            !full
        })
        .map_err(|e| self.failed("read the history", e))?;
        unsound.map_or(Ok(found), |key| Err(self.unsound(&key)))
    }

    fn check(&self) -> Result<CheckReport, StoreError> {
        let structure = verify::integrity(&self.db).map_err(|e| self.failed("check", e))?;
        if !structure.is_empty() {
            return Ok(CheckReport {
                problems: structure,
                ..CheckReport::default()
            });
        }
        verify::contents(&self.db, schema::newest()).map_err(|e| self.failed("check", e))
    }

    // --- leases ---

    fn grant(&mut self, ttl: Duration) -> Result<LeaseId, StoreError> {
        crate::types::within("leases", self.leases.len() + 1, Limits::LEASES)?;
        let lease = LeaseId(self.head.next_lease);
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.commit(|w| {
            w.head.next_lease += 1;
            table::add_lease(&w.db, &mut w.head, lease, ttl_ms)
        })
        .map_err(|e| self.failed("grant a lease", e))?;
        let ends = (self.options.clock)().saturating_add(ttl);
        self.hold(lease, Lease { ttl, ends });
        Ok(lease)
    }

    fn hold(&mut self, id: LeaseId, lease: Lease) {
        self.earliest = self.earliest.min(lease.ends);
        self.leases.insert(id, lease);
    }

    fn keepalive(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        let now = (self.options.clock)();
        match self.leases.get_mut(&lease) {
            Some(l) => {
                l.ends = now.saturating_add(l.ttl);
                Ok(())
            }
            None => Err(StoreError::LeaseNotFound(lease)),
        }
    }

    fn due(&mut self) -> Vec<LeaseId> {
        let now = (self.options.clock)();
        if now < self.earliest {
            return Vec::new();
        }
        let due: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, l)| l.ends <= now)
            .map(|(id, _)| *id)
            .collect();
        // Keepalives may have moved every end; with something due the bound stays until that is gone.
        if due.is_empty() {
            self.earliest = self
                .leases
                .values()
                .map(|l| l.ends)
                .min()
                .unwrap_or(Duration::MAX);
        }
        due
    }

    fn nap(&self) -> Duration {
        self.earliest
            .saturating_sub((self.options.clock)())
            .min(NAP)
    }

    fn end_due_leases(&mut self) {
        let due = self.due();
        if due.is_empty() {
            return;
        }
        if let Err(e) = self.revoke(&due) {
            // They stay due and are tried again at the next request or nap.
            tracing::error!(
                error = &e as &dyn std::error::Error,
                "leases cannot be ended"
            );
        }
    }

    /// Ends the leases and deletes their keys in one commit, at most [`Limits::TXN_OPS`] keys to a revision.
    fn revoke(&mut self, ended: &[LeaseId]) -> Result<Revision, StoreError> {
        self.commit(|w| {
            for lease in ended
                .iter()
                .filter(|l| w.leases.contains_key(l))
                .collect::<Vec<_>>()
            {
                loop {
                    let keys = table::keys_of_lease(&w.db, *lease, Limits::TXN_OPS)?;
                    if keys.is_empty() {
                        break;
                    }
                    let revision = w.head.revision.next();
                    for (index, key) in (0..).zip(&keys) {
                        w.change(Position::of(revision, index), key, None)?;
                    }
                    w.head.revision = revision;
                }
                table::drop_lease(&w.db, &mut w.head, *lease)?;
            }
            Ok(())
        })
        .map_err(|e| self.failed("end a lease", e))?;
        for lease in ended {
            self.leases.remove(lease);
        }
        Ok(self.head.revision)
    }

    // --- upkeep ---

    fn compact(&mut self, keep: u64) -> Result<Revision, StoreError> {
        let oldest = Revision(self.head.revision.0.saturating_sub(keep).saturating_add(1));
        if oldest > self.head.oldest {
            self.commit(|w| table::forget(&w.db, &mut w.head, oldest))
                .map_err(|e| self.failed("compact", e))?;
        }
        Ok(self.head.oldest)
    }

    fn note(&mut self) -> Result<(), StoreError> {
        let revision = self.head.revision;
        self.acked
            .as_mut()
            .map_or(Ok(()), |acked| acked.note(revision))
    }

    fn hit(&self, name: &'static str) {
        if let Some(failpoint) = &self.options.failpoint {
            failpoint(name);
        }
    }

    fn failed(&self, action: &'static str, source: rusqlite::Error) -> StoreError {
        schema::failed(&self.path, action, source)
    }

    fn unsound(&self, key: &str) -> StoreError {
        StoreError::Corrupt {
            path: self.path.clone(),
            detail: format!("record {key:?} fails its checksum"),
        }
    }
}

/// A caller that went away does not want the answer.
fn send<T>(reply: Reply<T>, result: Result<T, StoreError>) {
    let _ = reply.send(result);
}
