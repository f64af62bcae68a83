//! Reads everything and says what does not add up.

use rusqlite::{Connection, params};

use super::{Position, table};
use crate::types::{CheckReport, Revision};

/// Problems named before the rest are only counted.
const NAMED: usize = 20;

/// Collects problems, at most [`NAMED`] of them by name.
#[derive(Debug, Default)]
struct Problems {
    named: Vec<String>,
    more: u64,
}

// === impl Problems ===

impl Problems {
    fn add(&mut self, problem: String) {
        if self.named.len() < NAMED {
            self.named.push(problem);
        } else {
            self.more += 1;
        }
    }

    fn end(mut self) -> Vec<String> {
        if self.more > 0 {
            self.named.push(format!("{} more problems", self.more));
        }
        self.named
    }
}

// === functions ===

/// What SQLite itself finds wrong with pages, trees and indexes; empty = sound.
pub(super) fn integrity(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut query = db.prepare("PRAGMA integrity_check(20)")?;
    let lines: Vec<String> = query
        .query_map([], |r| r.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(lines.into_iter().filter(|l| l != "ok").collect())
}

/// Compares every row with its checksum and every table with the sum of its rows.
pub(super) fn contents(db: &Connection, version: u32) -> rusqlite::Result<CheckReport> {
    let mut problems = Problems::default();
    let (records, records_sum) = sum_records(db, &mut problems)?;
    let (leases, leases_sum) = sum_leases(db, &mut problems)?;
    if version < 2 {
        let (revision, r, l) = db.query_row(
            "SELECT revision, records_sum, leases_sum FROM head",
            params![],
            |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, i64>(2)?,
                ))
            },
        )?;
        compare(&mut problems, "records", r.cast_unsigned(), records_sum);
        compare(&mut problems, "leases", l.cast_unsigned(), leases_sum);
        let revision = Revision(revision.cast_unsigned());
        return Ok(CheckReport {
            revision,
            records,
            events: 0,
            leases,
            problems: problems.end(),
        });
    }
    let head = table::read_head(db)?;
    if !table::head_is_sound(db, &head)? {
        problems.add("the head fails its checksum".to_owned());
    }
    let (events, events_sum) = sum_events(db, &head, &mut problems)?;
    compare(&mut problems, "records", head.records_sum, records_sum);
    compare(&mut problems, "leases", head.leases_sum, leases_sum);
    compare(&mut problems, "events", head.events_sum, events_sum);
    Ok(CheckReport {
        revision: head.revision,
        records,
        events,
        leases,
        problems: problems.end(),
    })
}

fn compare(problems: &mut Problems, table: &str, head: u64, rows: u64) {
    if head != rows {
        problems.add(format!(
            "the {table} do not add up to the head's sum: rows are missing or older"
        ));
    }
}

fn sum_records(db: &Connection, problems: &mut Problems) -> rusqlite::Result<(u64, u64)> {
    let (mut count, mut sum) = (0, 0);
    table::scan(db, "", |r| {
        count += 1;
        sum ^= r.sum;
        if !r.sound {
            problems.add(format!("record {:?} fails its checksum", r.row.key));
        }
        true
    })?;
    Ok((count, sum))
}

fn sum_leases(db: &Connection, problems: &mut Problems) -> rusqlite::Result<(u64, u64)> {
    let (mut count, mut sum) = (0, 0);
    for lease in table::leases(db)? {
        count += 1;
        sum ^= lease.sum;
        if !lease.sound {
            problems.add(format!("lease {} fails its checksum", lease.row.0));
        }
    }
    Ok((count, sum))
}

fn sum_events(
    db: &Connection,
    head: &table::Head,
    problems: &mut Problems,
) -> rusqlite::Result<(u64, u64)> {
    let (mut count, mut sum) = (0, 0);
    table::history(db, Position(0), |at, e| {
        count += 1;
        sum ^= e.sum;
        if !e.sound {
            problems.add(format!(
                "event {} of {:?} fails its checksum",
                at.revision(),
                e.row.key
            ));
        }
        if e.row.revision > head.revision || e.row.revision < head.oldest {
            problems.add(format!(
                "event {} lies outside of the kept history",
                at.revision()
            ));
        }
        true
    })?;
    Ok((count, sum))
}
