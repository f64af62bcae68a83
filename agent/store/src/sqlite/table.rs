//! The rows: every one carries a checksum, and the head carries the sum of each table, so that neither a
//! changed row nor a missing one goes unnoticed.

use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};

use super::Position;
use crate::types::{Event, EventKind, LeaseId, Record, Revision};

/// The one row that describes the others. Written with every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) revision: Revision,
    /// The oldest revision whose events are all still there.
    pub(super) oldest: Revision,
    pub(super) next_lease: u64,
    pub(super) records_sum: u64,
    pub(super) leases_sum: u64,
    pub(super) events_sum: u64,
}

/// A row as read, with what its checksum says.
#[derive(Debug)]
pub(super) struct Checked<T> {
    pub(super) row: T,
    pub(super) sum: u64,
    pub(super) sound: bool,
}

/// The first 64 bits of SHA-256 over fields with their lengths.
struct Sum(Sha256);

// === impl Sum ===

impl Sum {
    fn of(table: &'static str) -> Self {
        Self(Sha256::new()).bytes(table.as_bytes())
    }

    fn bytes(mut self, field: &[u8]) -> Self {
        self.0.update((field.len() as u64).to_le_bytes());
        self.0.update(field);
        self
    }

    fn number(self, field: u64) -> Self {
        self.bytes(&field.to_le_bytes())
    }

    fn end(self) -> u64 {
        let digest = self.0.finalize();
        digest
            .iter()
            .take(8)
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

pub(super) fn record_sum(r: &Record) -> u64 {
    Sum::of("record")
        .bytes(r.key.as_bytes())
        .bytes(&r.value)
        .number(r.create_revision.0)
        .number(r.mod_revision.0)
        .number(r.lease.map_or(0, |l| l.0))
        .end()
}

pub(super) fn event_sum(position: Position, key: &str, value: Option<&[u8]>) -> u64 {
    let sum = Sum::of("event").number(position.0).bytes(key.as_bytes());
    match value {
        Some(value) => sum.number(1).bytes(value),
        None => sum.number(0),
    }
    .end()
}

pub(super) fn lease_sum(lease: LeaseId, ttl_ms: u64) -> u64 {
    Sum::of("lease").number(lease.0).number(ttl_ms).end()
}

fn head_sum(h: &Head) -> u64 {
    [
        h.revision.0,
        h.oldest.0,
        h.next_lease,
        h.records_sum,
        h.leases_sum,
        h.events_sum,
    ]
    .into_iter()
    .fold(Sum::of("head"), Sum::number)
    .end()
}

// === the head ===

/// The head, without asking whether its own checksum holds (`verify` does).
pub(super) fn read_head(db: &Connection) -> rusqlite::Result<Head> {
    db.query_row(
        "SELECT revision, oldest, next_lease, records_sum, leases_sum, events_sum FROM head",
        [],
        |r| {
            Ok(Head {
                revision: Revision(number(r, 0)?),
                oldest: Revision(number(r, 1)?),
                next_lease: number(r, 2)?,
                records_sum: number(r, 3)?,
                leases_sum: number(r, 4)?,
                events_sum: number(r, 5)?,
            })
        },
    )
}

pub(super) fn head_is_sound(db: &Connection, head: &Head) -> rusqlite::Result<bool> {
    let sum = db.query_row("SELECT sum FROM head", [], |r| number(r, 0))?;
    Ok(sum == head_sum(head))
}

pub(super) fn write_head(db: &Connection, h: &Head) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE head SET revision = ?1, oldest = ?2, next_lease = ?3, records_sum = ?4, leases_sum = ?5, \
         events_sum = ?6, sum = ?7",
    )?
    .execute(params![
        h.revision.0.cast_signed(),
        h.oldest.0.cast_signed(),
        h.next_lease.cast_signed(),
        h.records_sum.cast_signed(),
        h.leases_sum.cast_signed(),
        h.events_sum.cast_signed(),
        head_sum(h).cast_signed(),
    ])?;
    Ok(())
}

// === records ===

const RECORD: &str = "SELECT key, value, create_revision, mod_revision, lease, sum FROM records";

pub(super) fn get(db: &Connection, key: &str) -> rusqlite::Result<Option<Checked<Record>>> {
    db.prepare_cached(&format!("{RECORD} WHERE key = ?1"))?
        .query_row([key], record)
        .optional()
}

/// Only what a condition needs.
pub(super) fn mod_revision(db: &Connection, key: &str) -> rusqlite::Result<Option<Revision>> {
    db.prepare_cached("SELECT mod_revision FROM records WHERE key = ?1")?
        .query_row([key], |r| Ok(Revision(number(r, 0)?)))
        .optional()
}

/// Calls `each` with the records whose key is at least `from`, in byte order, while it returns true.
pub(super) fn scan(
    db: &Connection,
    from: &str,
    mut each: impl FnMut(Checked<Record>) -> bool,
) -> rusqlite::Result<()> {
    let mut query = db.prepare_cached(&format!("{RECORD} WHERE key >= ?1 ORDER BY key"))?;
    let mut rows = query.query([from])?;
    while let Some(row) = rows.next()? {
        if !each(record(row)?) {
            break;
        }
    }
    Ok(())
}

/// Writes the record; the head's sum follows.
pub(super) fn put(
    db: &Connection,
    head: &mut Head,
    old: Option<&Checked<Record>>,
    new: &Record,
) -> rusqlite::Result<()> {
    let sum = record_sum(new);
    db.prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![
            new.key,
            new.value,
            new.create_revision.0.cast_signed(),
            new.mod_revision.0.cast_signed(),
            new.lease.map_or(0, |l| l.0).cast_signed(),
            sum.cast_signed(),
        ])?;
    head.records_sum ^= sum ^ old.map_or(0, |o| o.sum);
    Ok(())
}

pub(super) fn delete(
    db: &Connection,
    head: &mut Head,
    old: &Checked<Record>,
) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM records WHERE key = ?1")?
        .execute([&old.row.key])?;
    head.records_sum ^= old.sum;
    Ok(())
}

/// The first `limit` keys that hang on `lease`.
pub(super) fn keys_of_lease(
    db: &Connection,
    lease: LeaseId,
    limit: usize,
) -> rusqlite::Result<Vec<String>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.prepare_cached(
        "SELECT key FROM records WHERE lease = ?1 AND lease <> 0 ORDER BY key LIMIT ?2",
    )?
    .query_map(params![lease.0.cast_signed(), limit], |r| r.get(0))?
    .collect()
}

fn record(r: &Row<'_>) -> rusqlite::Result<Checked<Record>> {
    let lease = number(r, 4)?;
    let row = Record {
        key: r.get(0)?,
        value: r.get(1)?,
        create_revision: Revision(number(r, 2)?),
        mod_revision: Revision(number(r, 3)?),
        lease: (lease != 0).then_some(LeaseId(lease)),
    };
    let sum = number(r, 5)?;
    Ok(Checked {
        sound: record_sum(&row) == sum,
        row,
        sum,
    })
}

// === events ===

pub(super) fn append(
    db: &Connection,
    head: &mut Head,
    at: Position,
    key: &str,
    value: Option<&[u8]>,
) -> rusqlite::Result<()> {
    let sum = event_sum(at, key, value);
    db.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![at.0.cast_signed(), key, value, sum.cast_signed()])?;
    head.events_sum ^= sum;
    Ok(())
}

/// Calls `each` with the events after `after`, in order, while it returns true.
pub(super) fn history(
    db: &Connection,
    after: Position,
    mut each: impl FnMut(Position, Checked<Event>) -> bool,
) -> rusqlite::Result<()> {
    let mut query = db.prepare_cached(
        "SELECT position, key, value, sum FROM events WHERE position > ?1 ORDER BY position",
    )?;
    let mut rows = query.query([after.0.cast_signed()])?;
    while let Some(r) = rows.next()? {
        let at = Position(number(r, 0)?);
        let (key, value): (String, Option<Vec<u8>>) = (r.get(1)?, r.get(2)?);
        let sum = number(r, 3)?;
        let sound = event_sum(at, &key, value.as_deref()) == sum;
        let kind = value.map_or(EventKind::Delete, |value| EventKind::Put { value });
        let row = Event {
            revision: at.revision(),
            key,
            kind,
        };
        if !each(at, Checked { row, sum, sound }) {
            break;
        }
    }
    Ok(())
}

/// Forgets the events before `oldest`.
pub(super) fn forget(db: &Connection, head: &mut Head, oldest: Revision) -> rusqlite::Result<()> {
    let before = Position::of(oldest, 0).0.cast_signed();
    let mut query = db.prepare_cached("DELETE FROM events WHERE position < ?1 RETURNING sum")?;
    let sums = query.query_map([before], |r| number(r, 0))?;
    for sum in sums {
        head.events_sum ^= sum?;
    }
    head.oldest = oldest;
    Ok(())
}

// === leases ===

pub(super) fn leases(db: &Connection) -> rusqlite::Result<Vec<Checked<(LeaseId, u64)>>> {
    db.prepare_cached("SELECT id, ttl_ms, sum FROM leases ORDER BY id")?
        .query_map([], |r| {
            let row = (LeaseId(number(r, 0)?), number(r, 1)?);
            let sum = number(r, 2)?;
            Ok(Checked {
                sound: lease_sum(row.0, row.1) == sum,
                row,
                sum,
            })
        })?
        .collect()
}

pub(super) fn add_lease(
    db: &Connection,
    head: &mut Head,
    lease: LeaseId,
    ttl_ms: u64,
) -> rusqlite::Result<()> {
    let sum = lease_sum(lease, ttl_ms);
    db.prepare_cached("INSERT INTO leases VALUES (?1, ?2, ?3)")?
        .execute(params![
            lease.0.cast_signed(),
            ttl_ms.cast_signed(),
            sum.cast_signed()
        ])?;
    head.leases_sum ^= sum;
    Ok(())
}

pub(super) fn drop_lease(db: &Connection, head: &mut Head, lease: LeaseId) -> rusqlite::Result<()> {
    let sum = db
        .prepare_cached("DELETE FROM leases WHERE id = ?1 RETURNING sum")?
        .query_row([lease.0.cast_signed()], |r| number(r, 0))
        .optional()?;
    head.leases_sum ^= sum.unwrap_or(0);
    Ok(())
}

// === functions ===

/// SQLite's integers are signed; ours use the same 64 bits.
fn number(r: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    r.get::<_, i64>(column).map(i64::cast_unsigned)
}
