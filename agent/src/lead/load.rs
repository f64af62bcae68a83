//! The state as the store left it.

use super::record::{EventBatch, Piece, RecordError, decode, event_key};
use super::state::{EVENTS_IN_MEMORY, Keep, State};
use gpuloom_store::{Record, Store, StoreError};
use std::collections::VecDeque;

/// Records read at a time.
const PAGE: usize = 500;

/// Why a state cannot be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One of its records.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Reads everything back. Nothing is changed in the store.
pub(crate) async fn load(store: &dyn Store, keep: Keep) -> Result<State, LoadError> {
    let mut state = State::new(keep);
    // Arrays come before jobs: what an element became stands over what it began as.
    for table in [
        "/fleet",
        "/next_job",
        "/next_launch",
        "/objects/",
        "/pools/",
        "/nodes/",
        "/launches/",
        "/tokens/",
        "/arrays/",
        "/jobs/",
    ] {
        let mut after: Option<String> = None;
        loop {
            let page = store.range(table, after.as_deref(), PAGE).await?;
            after = page.records.last().map(|r| r.key.clone());
            for record in page.records {
                if let Some(piece) = Piece::read(&record.key, &record.value)? {
                    state.absorb(piece);
                }
            }
            if !page.more {
                break;
            }
        }
    }
    load_events(store, &mut state).await?;
    Ok(state)
}

async fn load_events(store: &dyn Store, state: &mut State) -> Result<(), LoadError> {
    let mut newest: VecDeque<(u64, Record)> = VecDeque::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.range("/events/", after.as_deref(), PAGE).await?;
        after = page.records.last().map(|r| r.key.clone());
        for record in page.records {
            let Some(first) = first_of(&record.key) else {
                continue;
            };
            state.event_batches.push_back(first);
            newest.push_back((first, record));
            // Numbers follow each other: without the oldest batch there are still enough.
            let enough = |(second, _): &(u64, Record)| second + EVENTS_IN_MEMORY as u64 <= first;
            while newest.get(1).is_some_and(enough) {
                newest.pop_front();
            }
        }
        if !page.more {
            break;
        }
    }
    for (_, record) in newest {
        let batch: EventBatch = decode(&record.key, &record.value)?;
        for event in batch.events {
            state.absorb_event(event);
        }
    }
    Ok(())
}

fn first_of(key: &str) -> Option<u64> {
    key.strip_prefix("/events/")?.parse().ok()
}

/// Events after `after`, oldest first, at most `limit`, from the store: for those memory has dropped.
pub(crate) async fn events_after(
    store: &dyn Store,
    batches: &[u64],
    after: u64,
    limit: usize,
) -> Result<Vec<gpuloom_fleet::Event>, LoadError> {
    let mut found = Vec::new();
    let from = batches
        .partition_point(|first| *first <= after + 1)
        .saturating_sub(1);
    for first in &batches[from.min(batches.len())..] {
        let key = event_key(*first);
        let Some(record) = store.get(&key).await? else {
            continue;
        };
        let batch: EventBatch = decode(&key, &record.value)?;
        for event in batch.events {
            if event.seq > after && found.len() < limit {
                found.push(event);
            }
        }
        if found.len() >= limit {
            break;
        }
    }
    Ok(found)
}
