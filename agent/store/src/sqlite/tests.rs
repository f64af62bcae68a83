mod crash;
mod damage;
mod replay;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;

use super::{OpenOptions, SqliteStore};
use crate::types::{EventKind, Limits};
use crate::{Revision, Store, StoreError, Txn};

fn memory() -> SqliteStore {
    SqliteStore::in_memory(OpenOptions::default()).expect("memory")
}

async fn put(store: &SqliteStore, key: &str, value: &str) -> Revision {
    store.txn(Txn::new().put(key, value)).await.expect("put")
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    crate::contract::run(|| async { Arc::new(memory()) as Arc<dyn Store> }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("directory");
    let next = AtomicU64::new(0);
    crate::contract::run(|| async {
        let path = dir
            .path()
            .join(format!("{}.db", next.fetch_add(1, Ordering::Relaxed)));
        Arc::new(SqliteStore::open(path, OpenOptions::default()).expect("open")) as Arc<dyn Store>
    })
    .await;
}

#[tokio::test]
async fn a_second_owner_is_told_who_the_first_is() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("store.db");
    let first = SqliteStore::open(&path, OpenOptions::default()).expect("open");
    match SqliteStore::open(&path, OpenOptions::default()) {
        Err(StoreError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("two owners: {other:?}"),
    }
    drop(first);
    SqliteStore::open(&path, OpenOptions::default())
        .expect("free again as soon as the first is dropped");
}

#[tokio::test]
async fn history_is_kept_within_its_bound_without_anyone_asking() {
    let options = OpenOptions {
        history: 16,
        ..OpenOptions::default()
    };
    let store = SqliteStore::in_memory(options).expect("memory");
    for i in 0..100 {
        put(&store, "/k", &i.to_string()).await;
    }
    let report = store.check().await.expect("check");
    assert!((16..=19).contains(&report.events), "{report:?}");
    let old = store.watch("/", Revision(1)).await;
    assert!(matches!(old, Err(StoreError::Compacted { .. })), "{old:?}");
}

#[tokio::test]
async fn a_watcher_that_falls_behind_the_kept_history_is_told() {
    let options = OpenOptions {
        history: 8,
        ..OpenOptions::default()
    };
    let store = SqliteStore::in_memory(options).expect("memory");
    put(&store, "/k", "first").await;
    let mut watch = store.watch("/", Revision(1)).await.expect("watch");
    assert!(watch.next().await.expect("event").is_ok());
    for i in 0..50 {
        put(&store, "/k", &i.to_string()).await;
    }
    let told = watch.next().await.expect("told");
    assert!(
        matches!(told, Err(StoreError::Compacted { .. })),
        "{told:?}"
    );
    assert!(
        watch.next().await.is_none(),
        "the stream ends after its error"
    );
}

/// A clock that a test moves.
#[derive(Debug, Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn options(&self) -> OpenOptions {
        let ms = Arc::clone(&self.0);
        OpenOptions {
            clock: Arc::new(move || Duration::from_millis(ms.load(Ordering::SeqCst))),
            ..OpenOptions::default()
        }
    }

    fn move_to(&self, ms: u64) {
        self.0.store(ms, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_lease_ends_exactly_at_its_ttl_and_takes_all_its_keys() {
    let hand = Hand::default();
    let store = SqliteStore::in_memory(hand.options()).expect("memory");
    let lease = store
        .lease_grant(Duration::from_secs(10))
        .await
        .expect("grant");
    for chunk in 0..3 {
        let txn = (0..Limits::TXN_OPS).fold(Txn::new(), |t, i| {
            t.put_leased(format!("/l/{chunk}/{i:03}"), "", lease)
        });
        store.txn(txn).await.expect("leased puts");
    }
    hand.move_to(9_999);
    let before = store.expire_leases().await.expect("expire");
    assert_eq!(before, Revision(3), "one millisecond early nothing ends");
    hand.move_to(10_000);
    let after = store.expire_leases().await.expect("expire");
    assert_eq!(
        after,
        Revision(6),
        "at most {} keys to a revision",
        Limits::TXN_OPS
    );
    assert!(
        store
            .range("/l/", None, 1)
            .await
            .expect("range")
            .records
            .is_empty()
    );
    let gone = store
        .watch("/l/", Revision(4))
        .await
        .expect("watch")
        .take(3 * Limits::TXN_OPS);
    let kinds: Vec<_> = gone.map(|e| e.expect("event").kind).collect().await;
    assert!(kinds.iter().all(|k| *k == EventKind::Delete));
}

#[tokio::test]
async fn a_transaction_after_the_end_of_a_lease_finds_it_ended() {
    let hand = Hand::default();
    let store = SqliteStore::in_memory(hand.options()).expect("memory");
    let lease = store
        .lease_grant(Duration::from_secs(5))
        .await
        .expect("grant");
    store
        .txn(Txn::new().put_leased("/owner", "a", lease))
        .await
        .expect("put");
    hand.move_to(5_000);
    store
        .txn(Txn::new().if_absent("/owner").put("/owner", "b"))
        .await
        .expect("free at once");
    let late = store.txn(Txn::new().put_leased("/owner", "a", lease)).await;
    assert!(
        matches!(late, Err(StoreError::LeaseNotFound(_))),
        "{late:?}"
    );
}

#[tokio::test]
async fn a_restart_starts_every_lease_anew() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("store.db");
    let hand = Hand::default();
    let store = SqliteStore::open(&path, hand.options()).expect("open");
    let lease = store
        .lease_grant(Duration::from_secs(10))
        .await
        .expect("grant");
    store
        .txn(Txn::new().put_leased("/k", "", lease))
        .await
        .expect("put");
    drop(store);
    hand.move_to(1_000_000);
    let store = SqliteStore::open(&path, hand.options()).expect("open");
    store
        .lease_keepalive(lease)
        .await
        .expect("alive: its owner could not reach us meanwhile");
    hand.move_to(1_010_000);
    assert_eq!(store.get("/k").await.expect("get"), None);
    let next = store
        .lease_grant(Duration::from_secs(10))
        .await
        .expect("grant");
    assert!(next > lease, "a lease's name is never used again");
}

#[tokio::test]
async fn the_limit_of_leases_holds() {
    let store = memory();
    for _ in 0..Limits::LEASES {
        store.lease_grant(Limits::LEASE_MAX).await.expect("grant");
    }
    let refused = store.lease_grant(Limits::LEASE_MAX).await;
    assert!(
        matches!(refused, Err(StoreError::Limit { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn more_callers_than_the_queue_holds_are_all_served() {
    let store = memory();
    let callers = (0..Limits::QUEUE * 2).map(|i| {
        let store = store.clone();
        tokio::spawn(async move { store.txn(Txn::new().put(format!("/q/{i}"), "")).await })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("no panic").expect("served");
    }
    let report = store.check().await.expect("check");
    assert_eq!(report.records, 2 * Limits::QUEUE as u64);
}

#[tokio::test]
async fn one_transaction_in_a_group_that_conflicts_leaves_the_others_alone() {
    // The thread waits in the first commit until all others are queued: they form one group.
    let (entered, wait_entered) = std::sync::mpsc::channel::<()>();
    let (release, wait_release) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(Some((entered, wait_release)));
    let commits = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&commits);
    let failpoint = move |name: &'static str| {
        if name != "store.commit.before" {
            return;
        }
        counted.fetch_add(1, Ordering::SeqCst);
        if let Some((entered, wait)) = gate.lock().expect("gate").take() {
            entered.send(()).expect("the test waits");
            wait.recv().expect("the test releases");
        }
    };
    let options = OpenOptions {
        failpoint: Some(Arc::new(failpoint)),
        ..OpenOptions::default()
    };
    let store = SqliteStore::in_memory(options).expect("memory");
    let first = tokio::spawn({
        let store = store.clone();
        async move { store.txn(Txn::new().put("/first", "")).await }
    });
    tokio::task::spawn_blocking(move || wait_entered.recv())
        .await
        .expect("join")
        .expect("entered");
    let mut group = Vec::new();
    for i in 0..10 {
        // Every other one wants what the one before it has just taken.
        let key = format!("/g/{}", i / 2);
        let txn = Txn::new()
            .if_absent(&key)
            .put(&key, vec![i])
            .put(format!("/by/{i}"), "");
        let mut asked = Box::pin({
            let store = store.clone();
            async move { store.txn(txn).await }
        });
        assert!(futures::poll!(&mut asked).is_pending());
        group.push(asked);
    }
    release.send(()).expect("the thread waits");
    first.await.expect("join").expect("first");
    for (i, asked) in group.into_iter().enumerate() {
        let done = asked.await;
        if i % 2 == 0 {
            done.expect("the first of two");
        } else {
            assert!(matches!(done, Err(StoreError::Conflict { .. })), "{done:?}");
        }
    }
    assert_eq!(
        commits.load(Ordering::SeqCst),
        2,
        "ten transactions in one commit"
    );
    let by = store.range("/by/", None, 100).await.expect("range");
    let by: Vec<_> = by.records.iter().map(|r| r.key.as_str()).collect();
    assert_eq!(by, ["/by/0", "/by/2", "/by/4", "/by/6", "/by/8"]);
}
