//! One task for each live attempt: from its order to its recorded end.

use super::core::Inbox;
use super::door;
use crate::launch::{AttemptRecord, Gone, LaunchError, Launcher, Order, StopRecord, now};
use gpuloom_fleet::{AttemptEnd, AttemptId, DeviceGrant, DeviceId, EndCause, Millis, StopCause};
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

/// How long the driver may take to give back the memory of an attempt whose processes are gone.
/// After that the attempt ends all the same, and its devices are reported as failed.
pub(crate) const MEMORY_BACK: Duration = Duration::from_secs(10);
/// Before a step that the disk or the kernel refused is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What the task tells the core.
#[derive(Debug)]
pub(crate) enum Event {
    /// Its order is on disk: from now on the node answers for it.
    Recorded,
    /// Its processes run.
    Started(Millis),
    /// It is being stopped.
    Stopping(StopRecord),
    /// The driver still holds its memory on these devices.
    Stuck(Vec<DeviceId>),
    /// It has ended, and that is on disk.
    Ended(AttemptEnd),
}

/// An order to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) cause: StopCause,
    pub(crate) grace: Duration,
}

/// What was last read of the GPUs, as far as ended attempts are concerned.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// When the reading was asked for.
    pub(crate) asked: Option<Instant>,
    /// Attempts with processes in the driver's lists.
    pub(crate) listed: BTreeSet<AttemptId>,
    /// Devices with memory in use that no listed process accounts for.
    pub(crate) leaking: BTreeSet<DeviceId>,
}

/// Where the task begins.
#[derive(Debug)]
pub(crate) enum Begin {
    Order(Order),
    /// Adopted: its shim may not have started the job yet.
    Starting(AttemptRecord, Option<StopRecord>),
    Running(AttemptRecord, Millis, Option<StopRecord>),
    Gone(AttemptRecord, Option<Millis>, Gone, Option<StopRecord>),
}

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: AttemptId,
    pub(crate) launcher: Launcher,
    pub(crate) core: mpsc::Sender<Inbox>,
    pub(crate) stops: watch::Receiver<Option<Stop>>,
    pub(crate) held: watch::Receiver<Arc<Held>>,
    pub(crate) door: door::Handle,
    /// Where neither the order nor the job says.
    pub(crate) grace: Duration,
}

type Stopping = Pin<Box<dyn Future<Output = Result<(), LaunchError>> + Send>>;

// === impl Task ===

impl Task {
    pub(crate) async fn run(mut self, begin: Begin) {
        let (record, since, gone, stop) = match begin {
            Begin::Order(order) => {
                let grants = order.grants.clone();
                let record = match self.on_disk(move |l| l.record(order.clone())).await {
                    Ok(record) => record,
                    Err(error) => return self.refuse(grants, chain(&error)).await,
                };
                self.tell(Event::Recorded).await;
                match self.launcher.launch(&record).await {
                    Ok(started) => (record, Some(started.at), None, None),
                    Err(error) => return self.refuse(record.grants, chain(&error)).await,
                }
            }
            Begin::Starting(record, stop) => match self.launcher.wait_started(self.id).await {
                Ok(started) => (record, Some(started.at), None, stop),
                Err(error) => return self.refuse(record.grants, chain(&error)).await,
            },
            Begin::Running(record, since, stop) => (record, Some(since), None, stop),
            Begin::Gone(record, since, gone, stop) => (record, since, Some(gone), stop),
        };
        if let (Some(since), None) = (since, &gone) {
            self.tell(Event::Started(since)).await;
        }
        let (gone, stop) = match gone {
            Some(gone) => (gone, stop),
            None => self.until_gone(&record, since, stop).await,
        };
        let end = AttemptEnd {
            started_at: since,
            ended_at: gone.at,
            exit: gone.exit,
            cause: cause(gone, stop),
        };
        self.end(&record.grants, end).await;
    }

    /// Waits for the end of its processes, and brings it about when it is told to or time is up.
    async fn until_gone(
        &mut self,
        record: &AttemptRecord,
        since: Option<Millis>,
        mut stop: Option<StopRecord>,
    ) -> (Gone, Option<StopRecord>) {
        let grace = record
            .spec
            .grace
            .map_or(self.grace, |g| Duration::from_secs(g.0));
        let walltime = deadline(record, since);
        let waiter = self.launcher.clone();
        let id = self.id;
        let waiting = async {
            loop {
                match waiter.wait(id).await {
                    Ok(gone) => return gone,
                    Err(error) => {
                        tracing::error!(attempt = %id, error = chain(&error), "cannot be watched");
                        sleep(AGAIN).await;
                    }
                }
            }
        };
        tokio::pin!(waiting);
        let mut stopping: Option<Stopping> = None;
        if let Some(earlier) = &stop {
            self.tell(Event::Stopping(earlier.clone())).await;
            stopping = Some(self.stopping(grace));
        }
        // An order that came while it was being started counts at once.
        self.stops.mark_changed();
        loop {
            let ordered = tokio::select! {
                gone = &mut waiting => return (gone, stop),
                Some(stopped) = as_option(stopping.as_mut()) => {
                    stopping = None;
                    if let Err(error) = stopped {
                        tracing::error!(attempt = %id, error = chain(&error), "cannot be stopped");
                        sleep(AGAIN).await;
                        stopping = Some(self.stopping(Duration::ZERO));
                    }
                    continue;
                }
                Ok(()) = self.stops.changed() => self.stops.borrow_and_update().clone(),
                () = at(walltime), if stop.is_none() => Some(Stop {
                    cause: StopCause::Walltime,
                    grace,
                }),
            };
            if let Some(Stop { cause, grace }) = ordered {
                // Signals go out while the cause goes to disk: a crash between costs the words.
                let mut begun = self.stopping(grace);
                let first = poll_fn(|cx| Poll::Ready(begun.as_mut().poll(cx)));
                let recording = self.on_disk(move |l| l.record_stop(id, cause.clone()));
                let (first, record) = tokio::join!(first, recording);
                stopping = Some(match first {
                    Poll::Ready(done) => Box::pin(std::future::ready(done)),
                    Poll::Pending => begun,
                });
                match record {
                    Ok(record) => {
                        self.tell(Event::Stopping(record.clone())).await;
                        stop = Some(record);
                    }
                    Err(error) => {
                        tracing::error!(attempt = %id, error = chain(&error), "stop not recorded");
                    }
                }
            }
        }
    }

    fn stopping(&self, grace: Duration) -> Stopping {
        let (launcher, id) = (self.launcher.clone(), self.id);
        Box::pin(async move { launcher.stop(id, grace).await })
    }

    async fn refuse(mut self, grants: Vec<DeviceGrant>, message: String) {
        let end = AttemptEnd {
            started_at: None,
            ended_at: now(),
            exit: None,
            cause: EndCause::LaunchFailed { message },
        };
        self.end(&grants, end).await;
    }

    /// Waits until the devices are free too, puts the end on disk and tells it.
    async fn end(&mut self, grants: &[DeviceGrant], end: AttemptEnd) {
        if end.started_at.is_some() && !grants.is_empty() {
            let devices: Vec<_> = grants.iter().map(|g| g.device.clone()).collect();
            let back = self.memory_back(&devices);
            if timeout(MEMORY_BACK, back).await.is_err() {
                self.tell(Event::Stuck(devices)).await;
            }
        }
        let recorded = end.clone();
        let id = self.id;
        let record = self.on_disk(move |l| l.record_end(id, &recorded)).await;
        if let Err(error) = record {
            // It is told all the same; after a restart it is found again from what is on disk.
            tracing::error!(attempt = %id, error = chain(&error), "its end was not recorded");
        }
        self.tell(Event::Ended(end)).await;
    }

    /// Waits for a reading asked for after now that shows nothing of the attempt any more.
    async fn memory_back(&mut self, devices: &[DeviceId]) {
        let since = Instant::now();
        loop {
            {
                let held = self.held.borrow_and_update();
                let newer = held.asked.is_some_and(|asked| asked >= since);
                let leaks = devices.iter().any(|d| held.leaking.contains(d));
                if newer && !leaks && !held.listed.contains(&self.id) {
                    return;
                }
            }
            self.door.read_now();
            if self.held.changed().await.is_err() {
                return;
            }
        }
    }

    async fn tell(&self, event: Event) {
        if self
            .core
            .send(Inbox::Attempt(self.id, event))
            .await
            .is_err()
        {
            tracing::debug!(attempt = %self.id, "the core has ended");
        }
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Launcher) -> Result<T, LaunchError> + Send + 'static,
    ) -> Result<T, LaunchError> {
        let launcher = self.launcher.clone();
        let done = tokio::task::spawn_blocking(move || step(&launcher)).await;
        done.unwrap_or_else(|e| {
            let message = format!("the step was broken off: {e}");
            Err(LaunchError::NotStarted { message })
        })
    }
}

/// When its walltime is over, if it has one and began.
fn deadline(record: &AttemptRecord, since: Option<Millis>) -> Option<Instant> {
    let (limit, since) = record.spec.walltime.zip(since)?;
    let left = since.plus(limit).since_ms(now());
    Some(Instant::now() + Duration::from_millis(left))
}

async fn as_option<F: Future + Unpin>(future: Option<F>) -> Option<F::Output> {
    Some(future?.await)
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        text = format!("{text}: {cause}");
        at = cause.source();
    }
    text
}

fn cause(gone: Gone, stop: Option<StopRecord>) -> EndCause {
    match (gone.launch_failed, stop, gone.lost) {
        (Some(message), ..) => EndCause::LaunchFailed { message },
        (None, Some(stop), _) => EndCause::Stopped { why: stop.cause },
        (None, None, Some(message)) => EndCause::Lost { message },
        (None, None, None) => EndCause::Exited,
    }
}
