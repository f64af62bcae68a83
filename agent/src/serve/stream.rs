//! Streams of what changes: first at once, then whenever it is different.

use crate::lead::core::Core;
use crate::lead::state::State;
use gpuloom_api::Refusal;
use gpuloom_fleet::Millis;
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Messages waiting for a slow reader; the next state is then read later.
const AHEAD: usize = 8;

/// What a streaming call answers with.
pub(crate) type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A stream fed by `feed`, which ends when its reader goes away.
pub(crate) fn fed<T, F>(feed: impl FnOnce(mpsc::Sender<Result<T, Status>>) -> F) -> Replies<T>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (tx, rx) = mpsc::channel(AHEAD);
    tokio::spawn(feed(tx));
    Box::pin(ReceiverStream::new(rx))
}

/// What `see` sees, now and whenever it is different; ends after one that is `last`.
pub(crate) fn watched<T, S>(core: Core, see: S, last: fn(&T) -> bool) -> Replies<T>
where
    T: Clone + PartialEq + Send + 'static,
    S: Fn(&State, Millis) -> Result<T, Refusal> + Clone + Send + 'static,
{
    fed(move |tx| async move {
        let mut changes = core.changes();
        let mut sent: Option<T> = None;
        loop {
            changes.mark_unchanged();
            let see = see.clone();
            let seen = match core.read(see).await {
                Ok(Ok(seen)) => seen,
                Ok(Err(refusal)) | Err(refusal) => {
                    // A reader that went away needs no reason.
                    let _ = tx.send(Err(refusal.into())).await;
                    return;
                }
            };
            let ends = last(&seen);
            if sent.as_ref() != Some(&seen) {
                sent = Some(seen.clone());
                if tx.send(Ok(seen)).await.is_err() {
                    return;
                }
            }
            if ends {
                return;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tx.closed() => return,
            }
        }
    })
}
