//! A writer is killed (SIGKILL) again and again: every acknowledged transaction is there afterwards, whole.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::{FAILPOINTS, OpenOptions, SqliteStore};
use crate::{Store, Txn};

const CHILD: &str = "sqlite::tests::crash::a_writer_acknowledges_what_it_wrote";
const WRITERS: u64 = 4;
/// Transactions of each writer when nobody kills it.
const FEW: u64 = 10;

/// As a test of its own: a few transactions. As a child of the tests below: without end, on the file in
/// `STORE_CRASH_PATH`, killed by itself at the failpoint in `STORE_CRASH_AT` (`name@count`) or by its parent.
#[test]
fn a_writer_acknowledges_what_it_wrote() {
    let dir = tempfile::tempdir().expect("directory");
    let child = std::env::var("STORE_CRASH_PATH").ok();
    let path = child
        .clone()
        .map_or_else(|| dir.path().join("store.db"), Into::into);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let options = OpenOptions {
            failpoint: failpoint(),
            history: 50,
            ..OpenOptions::default()
        };
        let store = SqliteStore::open(&path, options).expect("open");
        let writers = (0..WRITERS).map(|w| {
            let (store, last) = (store.clone(), if child.is_some() { u64::MAX } else { FEW });
            tokio::spawn(async move { write(&store, w, last).await })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("writer");
        }
    });
    let counts = counts(&path);
    assert!(counts.values().all(|n| *n == FEW), "{counts:?}");
}

/// Each transaction moves two counters of the writer on by one, together, and is then acknowledged on stdout.
async fn write(store: &SqliteStore, w: u64, last: u64) {
    let (a, b) = (format!("/{w}/a"), format!("/{w}/b"));
    let have = store
        .get(&a)
        .await
        .expect("get")
        .map_or(0, |r| number(&r.value));
    let mut n = have;
    while n < last {
        n += 1;
        let txn = Txn::new().put(&a, n.to_string()).put(&b, n.to_string());
        store.txn(txn).await.expect("commit");
        println!("ACK {w} {n}");
    }
}

fn failpoint() -> Option<super::super::Failpoint> {
    let spec = std::env::var("STORE_CRASH_AT").ok()?;
    let (name, count) = spec.split_once('@').expect("name@count");
    let (name, count): (String, u64) = (name.to_owned(), count.parse().expect("count"));
    let passed = AtomicU64::new(0);
    Some(Arc::new(move |at| {
        if at == name && passed.fetch_add(1, Ordering::SeqCst) + 1 == count {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::KILL).expect("kill");
        }
    }))
}

fn number(value: &[u8]) -> u64 {
    String::from_utf8_lossy(value).parse().expect("a number")
}

/// What the file holds, after it was opened and verified.
fn counts(path: &Path) -> BTreeMap<u64, u64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let store = SqliteStore::open(path, OpenOptions::default())
            .expect("a killed writer leaves a sound file");
        let mut counts = BTreeMap::new();
        for w in 0..WRITERS {
            let mut pair = Vec::new();
            for half in ["a", "b"] {
                let record = store.get(&format!("/{w}/{half}")).await.expect("get");
                pair.push(record.map_or(0, |r| number(&r.value)));
            }
            assert_eq!(pair[0], pair[1], "half a transaction");
            counts.insert(w, pair[0]);
        }
        counts
    })
}

fn spawn(path: &Path, at: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", CHILD, "--nocapture", "--test-threads=1"]);
    command
        .env("STORE_CRASH_PATH", path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    match at {
        Some(at) => command.env("STORE_CRASH_AT", at),
        None => command.env_remove("STORE_CRASH_AT"),
    };
    command.spawn().expect("spawn")
}

/// Reads acknowledgements; after `kill_after` of them kills the child, and reads on to the end.
fn acknowledged(mut child: Child, kill_after: Option<u64>, acked: &mut BTreeMap<u64, u64>) -> u64 {
    let out = BufReader::new(child.stdout.take().expect("stdout"));
    let mut seen = 0;
    for line in out.lines() {
        let line = line.expect("line");
        let Some(at) = line.find("ACK ") else {
            continue;
        };
        let mut words = line[at + 4..].split(' ');
        let (Some(w), Some(n)) = (words.next(), words.next()) else {
            continue;
        };
        // The kill can cut the last line short: what was not read whole was not acknowledged.
        let (Ok(w), Ok(n)) = (w.parse(), n.parse::<u64>()) else {
            continue;
        };
        acked
            .entry(w)
            .and_modify(|have| *have = n.max(*have))
            .or_insert(n);
        seen += 1;
        if Some(seen) == kill_after {
            child.kill().expect("kill");
        }
    }
    let status = child.wait().expect("wait");
    assert!(!status.success(), "it was killed");
    seen
}

#[test]
fn twenty_kills_lose_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("store.db");
    let mut acked = BTreeMap::new();
    for round in 0..20u64 {
        let seen = acknowledged(spawn(&path, None), Some(1 + round * 13 % 90), &mut acked);
        assert!(seen > 0);
        let counts = counts(&path);
        for (w, n) in &acked {
            assert!(
                counts[w] >= *n,
                "round {round}: writer {w} was told {n}, the file has {}",
                counts[w]
            );
        }
    }
}

#[test]
fn a_kill_at_every_failpoint_loses_nothing_that_was_acknowledged() {
    for name in FAILPOINTS {
        for count in [1, 2, 7] {
            let dir = tempfile::tempdir().expect("directory");
            let path = dir.path().join("store.db");
            let mut acked = BTreeMap::new();
            acknowledged(
                spawn(&path, Some(&format!("{name}@{count}"))),
                None,
                &mut acked,
            );
            let counts = counts(&path);
            for (w, n) in &acked {
                assert!(
                    counts[w] >= *n,
                    "{name}@{count}: writer {w} was told {n}, the file has {}",
                    counts[w]
                );
            }
            let written: u64 = counts.values().sum();
            match *name {
                "store.commit.before" => assert!(written >= count - 1),
                _ => assert!(written >= count, "{name}@{count}: committed but not there"),
            }
        }
    }
}
