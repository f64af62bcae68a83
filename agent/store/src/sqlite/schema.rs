//! Opening a database: settings, schema versions, and the proof that nothing is missing.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::{OpenOptions, files, table, verify};
use crate::StoreError;
use crate::types::{CheckReport, Revision};

/// The statements that lead from version n to n + 1, n being the place in this list.
/// What is here has been written to somebody's disk: add at the end, never edit.
pub(super) const MIGRATIONS: &[&str] = &[
    // 1: records and leases
    "CREATE TABLE records (
        key TEXT NOT NULL PRIMARY KEY,
        value BLOB NOT NULL,
        create_revision INTEGER NOT NULL,
        mod_revision INTEGER NOT NULL,
        lease INTEGER NOT NULL,            -- 0 = none
        sum INTEGER NOT NULL               -- checksum of the columns before it
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX records_by_lease ON records(lease, key) WHERE lease <> 0;
     CREATE TABLE leases (id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
     CREATE TABLE head (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        revision INTEGER NOT NULL,
        next_lease INTEGER NOT NULL,
        records_sum INTEGER NOT NULL,      -- xor of the sums of all records
        leases_sum INTEGER NOT NULL
     ) STRICT;
     INSERT INTO head VALUES (1, 0, 1, 0, 0);",
    // 2: history for watchers; what happened before this version cannot be watched
    "CREATE TABLE events (
        position INTEGER PRIMARY KEY,      -- revision << 20 | index in the transaction
        key TEXT NOT NULL,
        value BLOB,                        -- NULL = deleted
        sum INTEGER NOT NULL
     ) STRICT;
     ALTER TABLE head ADD COLUMN oldest INTEGER NOT NULL DEFAULT 1;
     ALTER TABLE head ADD COLUMN events_sum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE head ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
     UPDATE head SET oldest = revision + 1;",
];

/// How long a connection waits for another one.
const BUSY: Duration = Duration::from_secs(5);

/// The version this code writes.
pub(super) fn newest() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// A verified database and its head.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) db: Connection,
    pub(super) head: table::Head,
}

/// Opens, verifies, and brings the file to the newest version.
pub(super) fn open(
    path: &Path,
    options: &OpenOptions,
    acked: Option<Revision>,
) -> Result<Opened, StoreError> {
    let corrupt = |detail: String| StoreError::Corrupt {
        path: path.to_owned(),
        detail,
    };
    let existed = path.exists();
    if !existed && acked.is_some_and(|a| a > Revision(0)) {
        return Err(corrupt(format!(
            "the file is missing, but {} revisions were acknowledged in it",
            acked.unwrap_or_default()
        )));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(|e| failed(path, "open", e))?;
    // A refused file is closed without moving its log into it.
    checkpoint_on_close(path, &db, false)?;
    restrict(path)?;
    configure(&db).map_err(|e| failed(path, "configure", e))?;
    let version = version(path, &db)?;
    if version == 0 {
        if let Some(lost) = lost_end(Revision(0), acked) {
            return Err(corrupt(lost));
        }
    } else {
        let report = report(path, &db, version, acked)?;
        refuse_unsound(path, &report.problems)?;
    }
    if version < newest() {
        if version > 0 && options.copy_before_migration {
            copy_aside(&db, path, version)?;
        }
        migrate(path, &db, version)?;
    }
    if !existed {
        files::sync_dir(path)?;
    }
    checkpoint_on_close(path, &db, true)?;
    let head = table::read_head(&db).map_err(|e| failed(path, "read", e))?;
    Ok(Opened { db, head })
}

fn checkpoint_on_close(path: &Path, db: &Connection, yes: bool) -> Result<(), StoreError> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !yes)
        .map(|_| ())
        .map_err(|e| failed(path, "configure", e))
}

pub(super) fn open_in_memory(path: &Path) -> Result<Opened, StoreError> {
    let db = Connection::open_in_memory().map_err(|e| failed(path, "open", e))?;
    migrate(path, &db, 0)?;
    let head = table::read_head(&db).map_err(|e| failed(path, "read", e))?;
    Ok(Opened { db, head })
}

/// Reads all of a file that nobody has open. Older versions are checked as far as they go.
pub(super) fn check_file(path: &Path, acked: Option<Revision>) -> Result<CheckReport, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(|e| failed(path, "open", e))?;
    checkpoint_on_close(path, &db, false)?;
    let version = version(path, &db)?;
    if version == 0 {
        return Err(StoreError::Corrupt {
            path: path.to_owned(),
            detail: "it has no store in it (schema version 0)".to_owned(),
        });
    }
    report(path, &db, version, acked)
}

/// All that can be said about a file of `version` without changing it.
fn report(
    path: &Path,
    db: &Connection,
    version: u32,
    acked: Option<Revision>,
) -> Result<CheckReport, StoreError> {
    let read = |e| failed(path, "read", e);
    let structure = verify::integrity(db).map_err(read)?;
    if !structure.is_empty() {
        // The tables of a broken tree are not worth summing; the structure's problems say enough.
        return Ok(CheckReport {
            problems: structure,
            ..CheckReport::default()
        });
    }
    let mut report = verify::contents(db, version).map_err(read)?;
    report.problems.extend(lost_end(report.revision, acked));
    Ok(report)
}

/// The settings the promise "durable before it is acknowledged" rests on.
fn configure(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "cell_size_check", "ON")?;
    db.pragma_update(None, "trusted_schema", "OFF")?;
    db.pragma_update(None, "wal_autocheckpoint", 1000)?;
    db.busy_timeout(BUSY)
}

/// The file's schema version; 0 for an empty file.
fn version(path: &Path, db: &Connection) -> Result<u32, StoreError> {
    let have: u32 = db
        .pragma_query_value(None, "user_version", |r| r.get(0))
        .map_err(|e| failed(path, "read", e))?;
    if have > newest() {
        return Err(StoreError::TooNew {
            path: path.to_owned(),
            have,
            known: newest(),
        });
    }
    let tables: u32 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))
        .map_err(|e| failed(path, "read", e))?;
    if have == 0 && tables > 0 {
        return Err(StoreError::Corrupt {
            path: path.to_owned(),
            detail: "it holds tables but no schema version: not a store of gpuloom".to_owned(),
        });
    }
    Ok(have)
}

/// All steps in one transaction: a crash leaves the old version.
fn migrate(path: &Path, db: &Connection, from: u32) -> Result<(), StoreError> {
    let run = || -> rusqlite::Result<()> {
        db.execute_batch("BEGIN IMMEDIATE")?;
        for (version, step) in (1u32..).zip(MIGRATIONS) {
            if version > from {
                db.execute_batch(step)?;
                db.pragma_update(None, "user_version", version)?;
            }
        }
        // Rewritten because its columns, and with them its checksum, may have changed.
        table::write_head(db, &table::read_head(db)?)?;
        db.execute_batch("COMMIT")
    };
    run().map_err(|e| {
        // The transaction ends with the connection in any case; the first error is the one that matters.
        let _ = db.execute_batch("ROLLBACK");
        failed(path, "migrate", e)
    })
}

fn copy_aside(db: &Connection, path: &Path, version: u32) -> Result<(), StoreError> {
    let copy = files::beside(path, &format!(".v{version}"));
    if copy.exists() {
        return Ok(());
    }
    vacuum_into(db, &copy)
}

/// A compact, consistent copy at a path where nothing is yet.
pub(super) fn vacuum_into(db: &Connection, path: &Path) -> Result<(), StoreError> {
    copied(db, path, |_| Ok(()))
}

/// A copy of a file that an agent may have open: WAL gives a second reader one moment of it, and
/// this one writes nothing, not even at its end.
pub(super) fn copy_checked(
    path: &Path,
    to: &Path,
    acked: Option<Revision>,
) -> Result<Revision, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(|e| failed(path, "open", e))?;
    checkpoint_on_close(path, &db, false)?;
    db.busy_timeout(BUSY)
        .map_err(|e| failed(path, "configure", e))?;
    version(path, &db)?;
    copied(&db, to, |copy| {
        let report = check_file(copy, acked)?;
        refuse_unsound(path, &report.problems)?;
        Ok(report.revision)
    })
}

fn copied<T>(
    db: &Connection,
    path: &Path,
    sound: impl FnOnce(&Path) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        files::must_exist(dir)?;
    }
    let temporary = files::beside(path, ".part");
    files::remove_if_there(&temporary)?;
    let name = temporary.to_string_lossy();
    let made = db
        .execute("VACUUM INTO ?1", params![name])
        .map_err(|e| failed(path, "back up to", e))
        .and_then(|_| restrict(&temporary))
        .and_then(|()| sound(&temporary))
        .and_then(|found| files::publish(&temporary, path).map(|()| found));
    if made.is_err() {
        files::remove_if_there(&temporary)?;
    }
    made
}

/// The file is the owner's alone: it may hold hashes of tokens.
fn restrict(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(|source| {
        StoreError::Io {
            action: "set the permissions of",
            path: path.to_owned(),
            source,
        }
    })
}

fn refuse_unsound(path: &Path, problems: &[String]) -> Result<(), StoreError> {
    match problems {
        [] => Ok(()),
        [one] => Err(StoreError::Corrupt {
            path: path.to_owned(),
            detail: one.clone(),
        }),
        [first, rest @ ..] => Err(StoreError::Corrupt {
            path: path.to_owned(),
            detail: format!("{first} (and {} more)", rest.len()),
        }),
    }
}

/// A file older than what was acknowledged from it has lost the end of its log.
fn lost_end(have: Revision, acked: Option<Revision>) -> Option<String> {
    let acked = acked?;
    (acked > have).then(|| {
        format!(
            "it ends at revision {have}, but revision {acked} was acknowledged: the end of its log \
             (-wal) is lost, or an older copy was put in its place by hand"
        )
    })
}

/// What SQLite's error means for the caller.
pub(super) fn failed(path: &Path, action: &'static str, source: rusqlite::Error) -> StoreError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt {
            path: path.to_owned(),
            detail: source.to_string(),
        },
        _ => StoreError::Database { action, source },
    }
}
