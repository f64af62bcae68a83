//! Changes of many commands in as few transactions as they fit.

use super::record::{EventBatch, Piece, encode, event_key};
use super::state::{Change, Part, State};
use gpuloom_fleet::{AttemptState, Event, Millis, NodeId};
use gpuloom_store::{Op, Txn};
use std::collections::{BTreeMap, BTreeSet};

/// Records of one transaction, events not counted; the store takes 128.
const MAX_OPS: usize = 100;
/// Bytes of one transaction's records; the store takes 4 MiB.
const MAX_BYTES: usize = 2 << 20;
/// Bytes of the events stored under one key; the store takes 1 MiB.
const MAX_EVENT_BYTES: usize = 512 << 10;
/// Events stored under one key.
const MAX_EVENTS: usize = 100;

/// Transactions to be written, in order; each part is in exactly one of them.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    txns: Vec<Filling>,
    /// Nodes whose orders may have changed.
    pub(crate) touched: BTreeSet<NodeId>,
}

#[derive(Debug, Default)]
struct Filling {
    ops: BTreeMap<String, Option<Vec<u8>>>,
    bytes: usize,
    events: Vec<Event>,
    event_bytes: usize,
}

// === impl Batch ===

impl Batch {
    /// Takes the change into `state` and into the transactions to come.
    pub(crate) fn absorb(&mut self, state: &mut State, change: Change, now: Millis) {
        for part in change.parts {
            self.absorb_part(state, part, now);
        }
    }

    fn absorb_part(&mut self, state: &mut State, part: Part, now: Millis) {
        let encoded: Vec<(String, Option<Vec<u8>>)> =
            part.pieces.iter().map(|p| (p.key(), p.value())).collect();
        let bytes: usize = encoded
            .iter()
            .map(|(k, v)| k.len() + v.as_ref().map_or(0, Vec::len))
            .sum();
        let events: Vec<Event> = part
            .events
            .into_iter()
            .zip(state.next_event..)
            .map(|(what, seq)| Event { seq, at: now, what })
            .collect();
        let event_bytes = events.iter().map(|e| encode(e).len()).sum();
        let filling = self.room(encoded.len(), bytes, events.len(), event_bytes);
        filling.ops.extend(encoded);
        filling.bytes += bytes;
        filling.event_bytes += event_bytes;
        filling.events.extend(events.iter().cloned());
        for piece in part.pieces {
            self.touch(state, &piece);
            state.absorb(piece);
        }
        for event in events {
            state.absorb_event(event);
        }
    }

    fn touch(&mut self, state: &State, piece: &Piece) {
        match piece {
            Piece::Job(record) => {
                if let Some(attempt) = record.job.attempts.last() {
                    let stays = state
                        .jobs
                        .get(&record.job.id)
                        .is_some_and(|old| old.job.attempts == record.job.attempts);
                    let known = matches!(
                        attempt.state,
                        AttemptState::Starting | AttemptState::Running { .. }
                    );
                    if !stays && !known {
                        self.touched.insert(attempt.node.clone());
                    }
                }
            }
            Piece::NoNode(id) => {
                self.touched.insert(id.clone());
            }
            _ => {}
        }
    }

    fn room(
        &mut self,
        ops: usize,
        bytes: usize,
        events: usize,
        event_bytes: usize,
    ) -> &mut Filling {
        let full = self.txns.last().is_none_or(|f| {
            let used = !f.ops.is_empty() || !f.events.is_empty();
            used && (f.ops.len() + ops > MAX_OPS
                || f.bytes + bytes > MAX_BYTES
                || f.events.len() + events > MAX_EVENTS
                || f.event_bytes + event_bytes > MAX_EVENT_BYTES)
        });
        if full {
            self.txns.push(Filling::default());
        }
        let last = self.txns.len() - 1;
        &mut self.txns[last]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.txns.is_empty()
    }

    /// The transactions, and the number of the first event of each that has any.
    pub(crate) fn into_txns(self) -> Vec<(Txn, Option<u64>)> {
        self.txns.into_iter().map(Filling::into_txn).collect()
    }
}

// === impl Filling ===

impl Filling {
    fn into_txn(self) -> (Txn, Option<u64>) {
        let mut txn = Txn::new();
        for (key, value) in self.ops {
            txn.ops.push(match value {
                Some(value) => Op::Put {
                    key,
                    value,
                    lease: None,
                },
                None => Op::Delete { key },
            });
        }
        let first = self.events.first().map(|e| e.seq);
        if let Some(seq) = first {
            let batch = EventBatch {
                events: self.events,
            };
            txn = txn.put(event_key(seq), encode(&batch));
        }
        (txn, first)
    }
}
