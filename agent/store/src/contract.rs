//! What every store must do, whatever it is made of. Panics at the first broken promise.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};

use crate::{Event, EventKind, LeaseId, Limits, Page, Revision, Store, StoreError, Txn, Watch};

/// How long a promised event may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the whole contract; `make` gives an empty store each time.
///
/// # Panics
/// When the store breaks the contract; the message says where.
pub async fn run<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Store>>,
{
    writes_and_reads(&*make().await).await;
    compares_and_swaps(&*make().await).await;
    refuses_without_a_trace(&*make().await).await;
    pages_through_a_prefix(&*make().await).await;
    watches_from_a_revision(&*make().await).await;
    watches_more_than_a_buffer(&*make().await).await;
    compacts_history_and_keeps_records(&*make().await).await;
    ends_a_lease(&*make().await).await;
    keeps_a_lease_alive(&*make().await).await;
    keeps_to_its_limits(&*make().await).await;
    lets_one_of_many_win(make().await).await;
    keeps_transactions_whole_under_load(make().await).await;
    checks_itself(&*make().await).await;
}

async fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    store
        .txn(Txn::new().put(key, value))
        .await
        .expect("a plain put")
}

async fn all(store: &dyn Store, prefix: &str) -> Page {
    store
        .range(prefix, None, Limits::PAGE_RECORDS)
        .await
        .expect("a listing")
}

async fn next(watch: &mut Watch) -> Result<Event, StoreError> {
    tokio::time::timeout(PATIENCE, watch.next())
        .await
        .expect("an event in time")
        .expect("an open stream")
}

/// Nothing is waiting in the stream at this moment (an event that is would be lost).
async fn quiet(watch: &mut Watch) -> bool {
    futures::future::poll_fn(|cx| {
        let ready = std::pin::Pin::new(&mut *watch).poll_next(cx).is_ready();
        std::task::Poll::Ready(!ready)
    })
    .await
}

async fn writes_and_reads(s: &dyn Store) {
    assert_eq!(
        s.get("/a").await.expect("get"),
        None,
        "an empty store has no key"
    );
    let r1 = put(s, "/a", "1").await;
    let r2 = put(s, "/a", "2").await;
    assert!(r2 > r1, "each change has a later revision");
    let a = s.get("/a").await.expect("get").expect("present");
    assert_eq!(
        (a.value.as_slice(), a.create_revision, a.mod_revision),
        (&b"2"[..], r1, r2)
    );
    let r3 = s
        .txn(Txn::new().delete("/a").put("/b", ""))
        .await
        .expect("delete and put");
    assert_eq!(s.get("/a").await.expect("get"), None);
    let b = s.get("/b").await.expect("get").expect("present");
    assert_eq!(
        (b.value.len(), b.create_revision, b.mod_revision),
        (0, r3, r3),
        "an empty value is a value"
    );
    let same = s
        .txn(Txn::new().delete("/nowhere"))
        .await
        .expect("deleting what is gone succeeds");
    assert_eq!(same, r3, "deleting what is gone changes nothing");
    let r4 = put(s, "/a", "3").await;
    let a = s.get("/a").await.expect("get").expect("present");
    assert_eq!(
        a.create_revision, r4,
        "a key that comes back is created anew"
    );
}

async fn compares_and_swaps(s: &dyn Store) {
    let r1 = s
        .txn(Txn::new().if_absent("/k").put("/k", "1"))
        .await
        .expect("absent");
    match s.txn(Txn::new().if_absent("/k").put("/k", "2")).await {
        Err(StoreError::Conflict { key, have }) => {
            assert_eq!((key.as_str(), have), ("/k", Some(r1)))
        }
        other => panic!("a key that exists is not absent: {other:?}"),
    }
    let r2 = s
        .txn(Txn::new().if_at("/k", r1).put("/k", "2"))
        .await
        .expect("swap at its revision");
    match s
        .txn(Txn::new().if_at("/k", r1).put("/k", "3").put("/other", "x"))
        .await
    {
        Err(StoreError::Conflict { have, .. }) => assert_eq!(have, Some(r2)),
        other => panic!("a stale swap conflicts: {other:?}"),
    }
    assert_eq!(
        s.get("/other").await.expect("get"),
        None,
        "a conflict changes nothing at all"
    );
    match s.txn(Txn::new().if_at("/gone", r1).put("/k", "3")).await {
        Err(StoreError::Conflict { have, .. }) => assert_eq!(have, None),
        other => panic!("an absent key has no revision: {other:?}"),
    }
    let r = s
        .txn(Txn::new().if_at("/k", r2))
        .await
        .expect("a condition alone");
    assert_eq!(r, r2, "a condition alone changes nothing");
}

async fn refuses_without_a_trace(s: &dyn Store) {
    let before = all(s, "").await;
    for key in ["", "a", "/a\n", "/a\0"] {
        let refused = s.txn(Txn::new().put("/ok", "x").put(key, "x")).await;
        assert!(
            matches!(refused, Err(StoreError::BadKey { .. })),
            "{key:?}: {refused:?}"
        );
    }
    let twice = s.txn(Txn::new().put("/a", "1").delete("/a")).await;
    assert!(matches!(twice, Err(StoreError::BadKey { .. })), "{twice:?}");
    let lease = s
        .txn(
            Txn::new()
                .put("/ok", "x")
                .put_leased("/a", "x", LeaseId(u64::MAX >> 2)),
        )
        .await;
    assert!(
        matches!(lease, Err(StoreError::LeaseNotFound(_))),
        "{lease:?}"
    );
    assert_eq!(all(s, "").await, before);
}

async fn pages_through_a_prefix(s: &dyn Store) {
    for key in ["/b", "/j/2", "/j/1", "/j/10", "/jj", "/j/ü", "/j"] {
        put(s, key, key).await;
    }
    let mut keys = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = s.range("/j/", after.as_deref(), 2).await.expect("page");
        assert!(page.records.len() <= 2);
        after = page.records.last().map(|r| r.key.clone());
        keys.extend(page.records.into_iter().map(|r| r.key));
        if !page.more {
            break;
        }
    }
    assert_eq!(
        keys,
        ["/j/1", "/j/10", "/j/2", "/j/ü"],
        "byte order, only the prefix"
    );
    assert_eq!(
        all(s, "").await.records.len(),
        7,
        "the empty prefix is everything"
    );
    let none = s.range("/j/", None, 0).await.expect("revision only");
    assert!(none.records.is_empty() && none.more);
    let foreign = s
        .range("/j/", Some("/a"), 9)
        .await
        .expect("a start before the prefix");
    assert_eq!(foreign.records.len(), 4);
}

async fn watches_from_a_revision(s: &dyn Store) {
    let r1 = put(s, "/w/a", "1").await;
    put(s, "/x", "unseen").await;
    let r3 = s
        .txn(Txn::new().put("/w/b", "1").delete("/w/a").put("/x", ""))
        .await
        .expect("txn");
    let mut from_start = s.watch("/w/", r1).await.expect("watch");
    let mut later = s.watch("/w/", r3.next()).await.expect("watch");
    let put_event = |revision, key: &str, value: &str| Event {
        revision,
        key: key.to_owned(),
        kind: EventKind::Put {
            value: value.as_bytes().to_vec(),
        },
    };
    let gone = |revision, key: &str| Event {
        revision,
        key: key.to_owned(),
        kind: EventKind::Delete,
    };
    assert_eq!(
        next(&mut from_start).await.expect("history"),
        put_event(r1, "/w/a", "1")
    );
    assert_eq!(
        next(&mut from_start).await.expect("history"),
        put_event(r3, "/w/b", "1")
    );
    assert_eq!(
        next(&mut from_start).await.expect("history"),
        gone(r3, "/w/a")
    );
    assert!(quiet(&mut later).await, "nothing has happened after r3");
    let r4 = put(s, "/w/b", "2").await;
    assert_eq!(
        next(&mut later).await.expect("live"),
        put_event(r4, "/w/b", "2")
    );
    assert_eq!(
        next(&mut from_start).await.expect("live"),
        put_event(r4, "/w/b", "2")
    );
    let conflict = s.txn(Txn::new().if_absent("/w/b").put("/w/c", "")).await;
    assert!(conflict.is_err());
    let r5 = s.txn(Txn::new().delete("/w/b")).await.expect("delete");
    assert_eq!(
        next(&mut later).await.expect("live"),
        gone(r5, "/w/b"),
        "a conflict is no event"
    );
}

async fn watches_more_than_a_buffer(s: &dyn Store) {
    let start = put(s, "/n/start", "").await.next();
    let mut watch = s.watch("/n/", start).await.expect("watch");
    let txns = Limits::WATCH_EVENTS * 3 / 8;
    for i in 0..txns {
        let txn = (0..8).fold(Txn::new(), |t, j| t.put(format!("/n/{i:04}-{j}"), ""));
        s.txn(txn).await.expect("txn");
    }
    for i in 0..txns {
        for j in 0..8 {
            let event = next(&mut watch)
                .await
                .expect("no event is lost on a slow watcher");
            assert_eq!(event.key, format!("/n/{i:04}-{j}"));
        }
    }
    assert!(quiet(&mut watch).await, "no event comes twice");
}

async fn compacts_history_and_keeps_records(s: &dyn Store) {
    let mut revisions = Vec::new();
    for i in 0..10 {
        revisions.push(put(s, "/c", &i.to_string()).await);
    }
    let mut slow = s.watch("/c", revisions[0]).await.expect("watch");
    next(&mut slow).await.expect("the first");
    let oldest = s.compact(3).await.expect("compact");
    assert!(oldest <= revisions[7], "three revisions are kept");
    match s.watch("/c", revisions[0]).await {
        Err(StoreError::Compacted { oldest: o, .. }) => assert_eq!(o, oldest),
        other => panic!("compacted history cannot be watched: {other:?}"),
    }
    let mut kept = s
        .watch("/c", oldest)
        .await
        .expect("what is kept can be watched");
    assert_eq!(next(&mut kept).await.expect("kept").revision, oldest);
    let c = s.get("/c").await.expect("get").expect("present");
    assert_eq!(c.value, b"9");
    assert_eq!(
        c.create_revision, revisions[0],
        "compaction forgets events, not records"
    );
    assert_eq!(
        s.compact(100).await.expect("compact"),
        oldest,
        "what is gone stays gone"
    );
    s.compact(0).await.expect("compact all");
    let head = s.range("", None, 0).await.expect("range").revision;
    let mut live = s
        .watch("/c", head.next())
        .await
        .expect("the future can always be watched");
    let r = put(s, "/c", "10").await;
    assert_eq!(next(&mut live).await.expect("live").revision, r);
}

async fn ends_a_lease(s: &dyn Store) {
    let lease = s.lease_grant(Limits::LEASE_MIN * 2).await.expect("grant");
    let other = s.lease_grant(Limits::LEASE_MAX).await.expect("grant");
    assert_ne!(lease, other);
    let r = s
        .txn(
            Txn::new()
                .put_leased("/l/a", "", lease)
                .put_leased("/l/b", "", lease)
                .put("/l/c", ""),
        )
        .await
        .expect("leased put");
    assert_eq!(
        s.get("/l/a").await.expect("get").expect("present").lease,
        Some(lease)
    );
    let mut watch = s.watch("/l/", r.next()).await.expect("watch");
    s.txn(Txn::new().put("/l/b", "kept"))
        .await
        .expect("a put without a lease takes the key off it");
    assert!(matches!(
        next(&mut watch).await.expect("put").kind,
        EventKind::Put { .. }
    ));
    let ended = next(&mut watch).await.expect("the lease ends by itself");
    assert_eq!(
        (ended.key.as_str(), &ended.kind),
        ("/l/a", &EventKind::Delete)
    );
    assert_eq!(all(s, "/l/").await.records.len(), 2);
    let late = s.lease_keepalive(lease).await;
    assert!(
        matches!(late, Err(StoreError::LeaseNotFound(l)) if l == lease),
        "{late:?}"
    );
    s.lease_revoke(lease)
        .await
        .expect("revoking what is gone succeeds");
    s.txn(Txn::new().put_leased("/l/d", "", other))
        .await
        .expect("leased put");
    s.lease_revoke(other).await.expect("revoke");
    assert_eq!(
        s.get("/l/d").await.expect("get"),
        None,
        "revoked: gone at once"
    );
}

async fn keeps_a_lease_alive(s: &dyn Store) {
    let kept = s.lease_grant(Limits::LEASE_MIN * 3).await.expect("grant");
    let left = s.lease_grant(Limits::LEASE_MIN * 4).await.expect("grant");
    let r = s
        .txn(
            Txn::new()
                .put_leased("/kept", "", kept)
                .put_leased("/left", "", left),
        )
        .await
        .expect("leased puts");
    let mut watch = s.watch("/", r.next()).await.expect("watch");
    // The shorter lease is kept alive until the longer one, left alone, has ended.
    let event = loop {
        s.lease_keepalive(kept).await.expect("still alive");
        if let Ok(Some(event)) = tokio::time::timeout(Limits::LEASE_MIN / 4, watch.next()).await {
            break event.expect("event");
        }
    };
    assert_eq!(
        (event.key.as_str(), event.kind),
        ("/left", EventKind::Delete)
    );
    assert!(s.get("/kept").await.expect("get").is_some());
}

async fn keeps_to_its_limits(s: &dyn Store) {
    let key = |n: usize| format!("/{}", "k".repeat(n - 1));
    let is_limit = |r: Result<Revision, StoreError>| matches!(r, Err(StoreError::Limit { .. }));
    s.txn(Txn::new().put(key(Limits::KEY_BYTES), ""))
        .await
        .expect("the longest key");
    assert!(is_limit(
        s.txn(Txn::new().put(key(Limits::KEY_BYTES + 1), "")).await
    ));
    s.txn(Txn::new().put("/v", vec![7; Limits::VALUE_BYTES]))
        .await
        .expect("the largest value");
    assert!(is_limit(
        s.txn(Txn::new().put("/v", vec![8; Limits::VALUE_BYTES + 1]))
            .await
    ));
    assert_eq!(
        s.get("/v").await.expect("get").expect("present").value,
        vec![7; Limits::VALUE_BYTES]
    );
    let many = |n: usize| (0..n).fold(Txn::new(), |t, i| t.put(format!("/m/{i:03}"), ""));
    s.txn(many(Limits::TXN_OPS))
        .await
        .expect("the most changes");
    assert!(is_limit(s.txn(many(Limits::TXN_OPS + 1)).await));
    let asks = |n: usize| (0..n).fold(Txn::new(), |t, i| t.if_absent(format!("/q/{i:03}")));
    s.txn(asks(Limits::TXN_OPS))
        .await
        .expect("the most conditions");
    assert!(is_limit(s.txn(asks(Limits::TXN_OPS + 1)).await));
    let big = (0..5).fold(Txn::new(), |t, i| {
        t.put(format!("/b/{i}"), vec![0; Limits::VALUE_BYTES])
    });
    assert!(
        is_limit(s.txn(big).await),
        "a transaction's bytes are limited too"
    );
    let page = s
        .range("", None, usize::MAX)
        .await
        .expect("an oversized limit is cut");
    assert!(page.records.len() <= Limits::PAGE_RECORDS);
    for ttl in [
        Limits::LEASE_MIN - Duration::from_millis(1),
        Limits::LEASE_MAX + Duration::from_secs(1),
    ] {
        let refused = s.lease_grant(ttl).await;
        assert!(
            matches!(refused, Err(StoreError::BadTtl { .. })),
            "{ttl:?}: {refused:?}"
        );
    }
}

async fn lets_one_of_many_win(s: Arc<dyn Store>) {
    for round in 0..5 {
        let key = format!("/race/{round}");
        let racers = (0..16).map(|i| {
            let (s, key) = (Arc::clone(&s), key.clone());
            tokio::spawn(async move { s.txn(Txn::new().if_absent(&key).put(&key, vec![i])).await })
        });
        let mut wins = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            match racer.await.expect("no panic") {
                Ok(r) => wins.push(r),
                Err(StoreError::Conflict { have, .. }) => assert!(have.is_some()),
                Err(e) => panic!("{e}"),
            }
        }
        let at = s
            .get(&key)
            .await
            .expect("get")
            .expect("present")
            .mod_revision;
        assert_eq!(wins, [at], "exactly one wins");
    }
}

/// Transfers between accounts: the sum stays, and replaying the events gives the same state.
async fn keeps_transactions_whole_under_load(s: Arc<dyn Store>) {
    const ACCOUNTS: u64 = 4;
    let mut first = Txn::new();
    for i in 0..ACCOUNTS {
        first = first.put(format!("/acc/{i}"), "100");
    }
    let start = s.txn(first).await.expect("open the accounts");
    let movers = (0..8u64).map(|m| {
        let s = Arc::clone(&s);
        tokio::spawn(async move {
            for i in 0..20 {
                transfer(&*s, (m + i) % ACCOUNTS, (m + i * 3 + 1) % ACCOUNTS).await;
            }
        })
    });
    for mover in movers.collect::<Vec<_>>() {
        mover.await.expect("no panic");
    }
    let state = all(&*s, "/acc/").await;
    let amount = |v: &[u8]| String::from_utf8_lossy(v).parse::<i64>().expect("a number");
    assert_eq!(
        state.records.iter().map(|r| amount(&r.value)).sum::<i64>(),
        400
    );
    let mut watch = s.watch("/acc/", start).await.expect("watch");
    let listed: std::collections::BTreeMap<_, _> = state
        .records
        .into_iter()
        .map(|r| (r.key, (r.value, r.mod_revision)))
        .collect();
    let mut replayed = std::collections::BTreeMap::new();
    while replayed != listed {
        let event = next(&mut watch).await.expect("event");
        if let EventKind::Put { value } = event.kind {
            replayed.insert(event.key, (value, event.revision));
        }
    }
    assert!(quiet(&mut watch).await, "no event beyond the state");
}

async fn transfer(s: &dyn Store, from: u64, to: u64) {
    if from == to {
        return;
    }
    loop {
        let (from, to) = (format!("/acc/{from}"), format!("/acc/{to}"));
        let a = s.get(&from).await.expect("get").expect("account");
        let b = s.get(&to).await.expect("get").expect("account");
        let amount = |v: &[u8]| String::from_utf8_lossy(v).parse::<i64>().expect("a number");
        let txn = Txn::new()
            .if_at(&from, a.mod_revision)
            .if_at(&to, b.mod_revision)
            .put(&from, (amount(&a.value) - 1).to_string())
            .put(&to, (amount(&b.value) + 1).to_string());
        match s.txn(txn).await {
            Ok(_) => return,
            Err(StoreError::Conflict { .. }) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

async fn checks_itself(s: &dyn Store) {
    put(s, "/a", "1").await;
    let r = put(s, "/b", "1").await;
    let report = s.check().await.expect("check");
    assert!(report.problems.is_empty(), "{report:?}");
    assert_eq!((report.records, report.revision), (2, r));
}
