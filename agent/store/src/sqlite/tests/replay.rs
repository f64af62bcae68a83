//! Whatever is done, replaying the history gives the state, and so does opening the file again.

use std::collections::BTreeMap;

use futures::StreamExt;
use proptest::prelude::*;

use super::super::{OpenOptions, SqliteStore};
use crate::types::{EventKind, Limits};
use crate::{Revision, Store, StoreError, Txn};

type State = BTreeMap<String, (Vec<u8>, Revision)>;

#[derive(Debug, Clone)]
enum Step {
    /// (key, Some(value) or delete), with or without the condition that the first key is as the model has it.
    Txn {
        changes: BTreeMap<u8, Option<u8>>,
        compare: Option<bool>,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let changes = prop::collection::btree_map(0u8..12, prop::option::of(any::<u8>()), 0..5);
    prop_oneof![
        9 => (changes, prop::option::of(any::<bool>()))
            .prop_map(|(changes, compare)| Step::Txn { changes, compare }),
        1 => Just(Step::Reopen),
    ]
}

fn key(k: u8) -> String {
    format!("/{}/{k}", k % 3)
}

/// Does `step` on both; `right` says whether the condition, if any, is the true one.
async fn act(
    store: &SqliteStore,
    model: &mut State,
    changes: &BTreeMap<u8, Option<u8>>,
    compare: Option<bool>,
) {
    let mut txn = Txn::new();
    for (k, v) in changes {
        txn = match v {
            Some(v) => txn.put(key(*k), vec![*v]),
            None => txn.delete(key(*k)),
        };
    }
    let first = changes.keys().next().map_or_else(|| key(0), |k| key(*k));
    let have = model.get(&first).map(|(_, r)| *r);
    if let Some(right) = compare {
        txn = match (have, right) {
            (None, true) => txn.if_absent(first),
            (Some(r), true) => txn.if_at(first, r),
            (None, false) => txn.if_at(first, Revision(1)),
            (Some(_), false) => txn.if_absent(first),
        };
    }
    match store.txn(txn).await {
        Ok(revision) => {
            assert_ne!(compare, Some(false), "a wrong condition must not hold");
            for (k, v) in changes {
                match v {
                    Some(v) => model.insert(key(*k), (vec![*v], revision)),
                    None => model.remove(&key(*k)),
                };
            }
        }
        Err(StoreError::Conflict { have: said, .. }) => {
            assert_eq!(
                (compare, said),
                (Some(false), have),
                "a true condition must hold"
            );
        }
        Err(e) => panic!("{e}"),
    }
}

async fn listed(store: &SqliteStore) -> State {
    let page = store
        .range("", None, Limits::PAGE_RECORDS)
        .await
        .expect("range");
    page.records
        .into_iter()
        .map(|r| (r.key, (r.value, r.mod_revision)))
        .collect()
}

async fn replayed(store: &SqliteStore) -> State {
    let mut state = State::new();
    let events = store.check().await.expect("check").events;
    let count = usize::try_from(events).expect("few events");
    let mut watch = store
        .watch("", Revision(1))
        .await
        .expect("watch")
        .take(count);
    while let Some(event) = watch.next().await {
        let event = event.expect("event");
        match event.kind {
            EventKind::Put { value } => state.insert(event.key, (value, event.revision)),
            EventKind::Delete => state.remove(&event.key),
        };
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn replaying_the_history_gives_the_state(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let dir = tempfile::tempdir().expect("directory");
            let path = dir.path().join("store.db");
            let open = || SqliteStore::open(&path, OpenOptions::default()).expect("open");
            let mut store = open();
            let mut model = State::new();
            for step in steps {
                match step {
                    Step::Txn { changes, compare } => act(&store, &mut model, &changes, compare).await,
                    Step::Reopen => {
                        drop(store);
                        store = open();
                    }
                }
            }
            assert_eq!(listed(&store).await, model);
            assert_eq!(replayed(&store).await, model);
            let copy = dir.path().join("copy.db");
            store.backup(&copy).await.expect("backup");
            drop(store);
            let copy = SqliteStore::open(&copy, OpenOptions::default()).expect("open the backup");
            assert_eq!(listed(&copy).await, model);
            assert_eq!(replayed(&copy).await, model);
        });
    }
}
