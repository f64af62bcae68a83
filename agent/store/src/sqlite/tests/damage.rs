//! Damaged files are refused or harmless, never silently wrong; and there is a way back.

use std::path::{Path, PathBuf};

use super::super::schema::MIGRATIONS;
use super::super::{OpenOptions, SqliteStore, files, table};
use super::put;
use crate::types::{LeaseId, Limits, Record};
use crate::{Revision, Store, StoreError, Txn};

struct Files {
    dir: tempfile::TempDir,
    path: PathBuf,
}

fn files() -> Files {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("store.db");
    Files { dir, path }
}

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, OpenOptions::default())
}

async fn filled(path: &Path) -> Vec<Record> {
    let store = open(path).expect("open");
    for i in 0..40 {
        put(
            &store,
            &format!("/jobs/{i:02}"),
            &format!("value {i} {}", "x".repeat(i * 7)),
        )
        .await;
    }
    store
        .txn(Txn::new().delete("/jobs/03"))
        .await
        .expect("delete");
    all(&store).await
}

async fn all(store: &SqliteStore) -> Vec<Record> {
    store
        .range("", None, Limits::PAGE_RECORDS)
        .await
        .expect("range")
        .records
}

fn corrupt(result: Result<SqliteStore, StoreError>) -> String {
    match result {
        Err(e @ StoreError::Corrupt { .. }) => e.to_string(),
        other => panic!("not refused as damaged: {other:?}"),
    }
}

#[tokio::test]
async fn a_flipped_byte_is_refused_or_changes_nothing() {
    let f = files();
    let expected = filled(&f.path).await;
    let sound = std::fs::read(&f.path).expect("read");
    let mut refused = 0;
    // A prime step visits every part of every page.
    for at in (0..sound.len()).step_by(97) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x20;
        let path = f.dir.path().join("flipped.db");
        std::fs::write(&path, &bytes).expect("write");
        match open(&path) {
            Err(StoreError::Corrupt { .. } | StoreError::TooNew { .. }) => {
                refused += 1;
                assert_eq!(
                    std::fs::read(&path).expect("read"),
                    bytes,
                    "a refused file is left as it is"
                );
            }
            Err(e) => panic!("byte {at}: {e:?}"),
            Ok(store) => assert_eq!(
                all(&store).await,
                expected,
                "byte {at} silently changed something"
            ),
        }
        for beside in ["", "-wal", "-shm", "-acked"] {
            files::remove_if_there(&files::beside(&path, beside)).expect("remove");
        }
    }
    assert!(refused > sound.len() / 97 / 4, "only {refused} refused");
}

#[tokio::test]
async fn a_row_changed_or_removed_with_another_tool_is_refused_with_a_way_out() {
    for (sql, says) in [
        (
            "UPDATE records SET value = x'00' WHERE key = '/jobs/07'",
            "/jobs/07",
        ),
        (
            "DELETE FROM records WHERE key = '/jobs/07'",
            "records do not add up",
        ),
        (
            "DELETE FROM events WHERE key = '/jobs/07'",
            "events do not add up",
        ),
        ("UPDATE head SET revision = revision + 1", "the head fails"),
    ] {
        let f = files();
        filled(&f.path).await;
        rusqlite::Connection::open(&f.path)
            .expect("open")
            .execute(sql, [])
            .expect(sql);
        let text = corrupt(open(&f.path));
        assert!(text.contains(says), "{sql}: {text}");
        assert!(text.contains("gpuloom store restore"), "{text}");
        let report = SqliteStore::check_file(&f.path).expect("check reads it");
        assert!(!report.problems.is_empty());
    }
}

#[tokio::test]
async fn a_truncated_file_is_refused() {
    let f = files();
    filled(&f.path).await;
    let sound = std::fs::read(&f.path).expect("read");
    for keep in [0, 1, 50, 4096, sound.len() / 2, sound.len() - 1] {
        std::fs::write(&f.path, &sound[..keep]).expect("write");
        corrupt(open(&f.path));
    }
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused() {
    let f = files();
    std::fs::write(
        &f.path,
        "just some text, long enough to be read as a header".repeat(100),
    )
    .expect("write");
    corrupt(open(&f.path));
    std::fs::remove_file(&f.path).expect("remove");
    let other = rusqlite::Connection::open(&f.path).expect("open");
    other
        .execute_batch("CREATE TABLE guests (name TEXT)")
        .expect("create");
    drop(other);
    assert!(corrupt(open(&f.path)).contains("not a store of gpuloom"));
}

#[tokio::test]
async fn a_missing_file_with_acknowledged_revisions_is_refused() {
    let f = files();
    filled(&f.path).await;
    std::fs::remove_file(&f.path).expect("remove");
    assert!(corrupt(open(&f.path)).contains("41 revisions were acknowledged"));
    assert!(!f.path.exists(), "no empty store took its place");
}

/// The files as a kill leaves them: the log was never moved into the database.
async fn with_a_log(f: &Files) -> (PathBuf, Vec<u8>) {
    let store = open(&f.path).expect("open");
    for i in 0..20 {
        put(&store, &format!("/jobs/{i}"), "x").await;
    }
    let left = f.dir.path().join("left.db");
    for beside in ["", "-wal", "-acked"] {
        std::fs::copy(files::beside(&f.path, beside), files::beside(&left, beside)).expect("copy");
    }
    let wal = std::fs::read(files::beside(&left, "-wal")).expect("read");
    (left, wal)
}

#[tokio::test]
async fn a_truncated_log_is_refused_and_a_whole_one_is_read() {
    let f = files();
    let (left, wal) = with_a_log(&f).await;
    let log = files::beside(&left, "-wal");
    assert!(
        wal.len() > 20 * 4096,
        "the test needs a log that holds the transactions"
    );
    for keep in [0, 16, 32, wal.len() / 2, wal.len() - 4096, wal.len() - 1] {
        std::fs::write(&log, &wal[..keep]).expect("write");
        let text = corrupt(open(&left));
        assert!(
            text.contains("was acknowledged") || text.contains("no such table"),
            "{keep}: {text}"
        );
        assert_eq!(
            std::fs::read(&log).expect("read").len(),
            keep,
            "the evidence is left as it is"
        );
        files::remove_if_there(&files::beside(&left, "-shm")).expect("remove");
    }
    let mut flipped = wal.clone();
    let last = flipped.len() - 100;
    flipped[last] ^= 1;
    std::fs::write(&log, &flipped).expect("write");
    corrupt(open(&left));
    files::remove_if_there(&files::beside(&left, "-shm")).expect("remove");
    std::fs::write(&log, &wal).expect("write");
    let store = open(&left).expect("the whole log");
    assert_eq!(all(&store).await.len(), 20);
}

#[tokio::test]
async fn a_backup_restores_what_was_there() {
    let f = files();
    let expected = filled(&f.path).await;
    let backup = f.dir.path().join("backup.db");
    let store = open(&f.path).expect("open");
    let revision = store.backup(&backup).await.expect("backup");
    let again = store.backup(&backup).await;
    assert!(
        matches!(again, Err(StoreError::Io { .. })),
        "a backup never replaces another: {again:?}"
    );
    put(&store, "/after", "lost by the restore").await;
    let busy = SqliteStore::restore(&backup, &f.path);
    assert!(matches!(busy, Err(StoreError::Locked { .. })), "{busy:?}");
    drop(store);
    // Damage it, as one would before a restore.
    let mut bytes = std::fs::read(&f.path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xff);
    std::fs::write(&f.path, &bytes).expect("write");
    corrupt(open(&f.path));
    let kept = SqliteStore::restore(&backup, &f.path)
        .expect("restore")
        .expect("the old file is kept");
    assert_eq!(std::fs::read(kept).expect("read"), bytes);
    let store = open(&f.path).expect("open the restored");
    assert_eq!(all(&store).await, expected);
    assert!(put(&store, "/new", "").await > revision);
}

#[tokio::test]
async fn a_store_in_use_is_backed_up_and_a_damaged_one_leaves_no_copy() {
    let f = files();
    filled(&f.path).await;
    let store = open(&f.path).expect("open");
    let revision = put(&store, "/last", "only in the log").await;
    let expected = all(&store).await;
    let backup = f.dir.path().join("backup.db");
    let copied = SqliteStore::backup_file(&f.path, &backup).expect("a copy");
    assert_eq!(copied, revision);
    let again = SqliteStore::backup_file(&f.path, &backup);
    assert!(matches!(again, Err(StoreError::Io { .. })), "{again:?}");
    assert!(put(&store, "/after", "the store goes on").await > revision);
    drop(store);
    assert_eq!(all(&open(&backup).expect("sound")).await, expected);

    let mut bytes = std::fs::read(&f.path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xff);
    std::fs::write(&f.path, &bytes).expect("write");
    let names = || {
        let entries = std::fs::read_dir(f.dir.path()).expect("a directory");
        entries
            .map(|e| e.expect("an entry").file_name())
            .filter(|n| n.to_string_lossy().starts_with("other"))
            .collect::<Vec<_>>()
    };
    let refused = SqliteStore::backup_file(&f.path, &f.dir.path().join("other.db"));
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(names(), Vec::<std::ffi::OsString>::new());
    let missing = SqliteStore::backup_file(&f.dir.path().join("none.db"), &backup);
    assert!(matches!(missing, Err(StoreError::Io { .. })), "{missing:?}");
}

#[tokio::test]
async fn a_damaged_backup_is_not_restored() {
    let f = files();
    filled(&f.path).await;
    let before = std::fs::read(&f.path).expect("read");
    let backup = f.dir.path().join("backup.db");
    std::fs::write(&backup, &before[..before.len() / 2]).expect("write");
    let refused = SqliteStore::restore(&backup, &f.path);
    assert!(
        matches!(refused, Err(StoreError::Corrupt { .. })),
        "{refused:?}"
    );
    assert_eq!(std::fs::read(&f.path).expect("read"), before);
}

#[tokio::test]
async fn a_file_of_the_version_before_is_brought_up_and_kept_aside() {
    let f = files();
    let old = rusqlite::Connection::open(&f.path).expect("open");
    old.execute_batch(MIGRATIONS[0]).expect("version 1");
    let revision = |n| Revision(n);
    let record = Record {
        key: "/jobs/1".to_owned(),
        value: b"old".to_vec(),
        create_revision: revision(3),
        mod_revision: revision(7),
        lease: Some(LeaseId(2)),
    };
    let (sum, lease) = (
        table::record_sum(&record).cast_signed(),
        table::lease_sum(LeaseId(2), 60_000).cast_signed(),
    );
    old.execute(
        "INSERT INTO records VALUES ('/jobs/1', x'6f6c64', 3, 7, 2, ?1)",
        [sum],
    )
    .expect("insert");
    old.execute("INSERT INTO leases VALUES (2, 60000, ?1)", [lease])
        .expect("insert");
    old.execute(
        "UPDATE head SET revision = 9, next_lease = 3, records_sum = ?1, leases_sum = ?2",
        [sum, lease],
    )
    .expect("update");
    old.pragma_update(None, "user_version", 1).expect("version");
    drop(old);
    assert_eq!(
        SqliteStore::check_file(&f.path).expect("check").records,
        1,
        "check reads it without migrating"
    );
    let store = open(&f.path).expect("migrate");
    assert_eq!(all(&store).await, [record]);
    let past = store.watch("/", Revision(9)).await;
    assert!(
        matches!(
            past,
            Err(StoreError::Compacted {
                oldest: Revision(10),
                ..
            })
        ),
        "{past:?}"
    );
    assert_eq!(put(&store, "/jobs/2", "new").await, Revision(10));
    assert_eq!(
        store.lease_grant(Limits::LEASE_MAX).await.expect("grant"),
        LeaseId(3)
    );
    let kept =
        rusqlite::Connection::open(files::beside(&f.path, ".v1")).expect("open the kept file");
    let version: u32 = kept
        .pragma_query_value(None, "user_version", |r| r.get(0))
        .expect("version");
    assert_eq!(version, 1);
}

#[tokio::test]
async fn a_damaged_file_of_the_version_before_is_refused_before_it_is_migrated() {
    let f = files();
    let old = rusqlite::Connection::open(&f.path).expect("open");
    old.execute_batch(MIGRATIONS[0]).expect("version 1");
    old.execute(
        "INSERT INTO records VALUES ('/jobs/1', x'6f6c64', 3, 7, 0, 1)",
        [],
    )
    .expect("insert");
    old.pragma_update(None, "user_version", 1).expect("version");
    drop(old);
    assert!(corrupt(open(&f.path)).contains("/jobs/1"));
}

#[tokio::test]
async fn a_file_of_a_later_version_is_refused() {
    let f = files();
    filled(&f.path).await;
    let later = rusqlite::Connection::open(&f.path).expect("open");
    later
        .pragma_update(None, "user_version", 99)
        .expect("version");
    drop(later);
    match open(&f.path) {
        Err(StoreError::TooNew {
            have: 99, known, ..
        }) => assert_eq!(known as usize, MIGRATIONS.len()),
        other => panic!("opened a file of the future: {other:?}"),
    }
}
