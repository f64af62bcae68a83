//! The driver's process: operation after operation until the journal has enough of them.

use crate::journal::{Entry, Journal};
use crate::places::Which;
use gpuloom_cloud::{Cloud, FailureClass, LaunchId, LaunchRequest, Offering, Token};
use gpuloom_doubles::faults::Chance;
use gpuloom_fleet::InstanceId;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Operations at a time, as many as a lead carries out.
const AT_ONCE: usize = 8;
/// Instances around which launches and terminations balance.
const LEVEL: usize = 24;
/// Tries of one call before something else must be wrong.
const TRIES: u32 = 200;
/// What a throttled call waits here; a lead waits longer.
const PAUSE: Duration = Duration::from_millis(20);

/// What all workers share.
#[derive(Debug)]
struct Work {
    cloud: Arc<dyn Cloud>,
    request: LaunchRequest,
    ranked: Vec<Offering>,
    operations: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    journal: Journal,
    chance: Chance,
    /// Operations begun by this process.
    begun: u64,
    /// Launches and instances that a worker has in hand.
    held: std::collections::BTreeSet<String>,
}

enum Next {
    Launch(u64, u32, bool),
    End(String),
    Wait,
    Done,
}

/// Drives until the journal holds `operations` of them; 0 ends everything instead.
pub(crate) async fn run(
    which: Which,
    endpoint: &str,
    journal: &Path,
    operations: u64,
    seed: u64,
) -> Result<(), String> {
    let cloud = driver(which, endpoint).await?;
    let journal = Journal::open(journal).map_err(|e| e.to_string())?;
    let ranked = if operations == 0 {
        Vec::new()
    } else {
        offerings(which, &*cloud, endpoint).await?
    };
    let chance = Chance::new(seed ^ journal.done);
    let work = Arc::new(Work {
        cloud,
        request: which.request(endpoint)?,
        ranked,
        operations,
        inner: Mutex::new(Inner {
            journal,
            chance,
            begun: 0,
            held: std::collections::BTreeSet::new(),
        }),
    });
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| tokio::spawn(work.clone().work()))
        .collect();
    for worker in workers {
        worker.await.map_err(|e| e.to_string())??;
    }
    Ok(())
}

async fn driver(which: Which, endpoint: &str) -> Result<Arc<dyn Cloud>, String> {
    let mut last = String::new();
    for _ in 0..TRIES {
        match which.driver(endpoint).await {
            Ok(cloud) => return Ok(cloud),
            Err(e) => last = e.to_string(),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(last)
}

/// Everything of the place in one call's reach.
async fn offerings(
    which: Which,
    cloud: &dyn Cloud,
    endpoint: &str,
) -> Result<Vec<Offering>, String> {
    let (place, gpu) = (which.place(endpoint), which.gpu()?);
    let mut last = String::new();
    for _ in 0..TRIES {
        match cloud.offerings(&place, Some(&gpu)).await {
            Ok(found) => {
                let ranked: Vec<_> = found.into_iter().map(|o| o.offering).collect();
                if ranked.is_empty() {
                    return Err(format!("{} offers nothing here", which.name()));
                }
                let together = Offering::together(&ranked).max(1);
                return Ok(ranked.into_iter().take(together).collect());
            }
            Err(e) => last = e.to_string(),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(last)
}

// === impl Work ===

impl Work {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, entry: Entry) -> Result<(), String> {
        self.inner().journal.note(entry).map_err(|e| e.to_string())
    }

    fn release(&self, key: &str) {
        self.inner().held.remove(key);
    }

    async fn work(self: Arc<Self>) -> Result<(), String> {
        loop {
            let next = self.inner().next(self.operations);
            match next {
                Next::Done => return Ok(()),
                Next::Wait => tokio::time::sleep(PAUSE).await,
                Next::Launch(launch, attempt, again) => {
                    self.launch(launch, attempt, again).await?;
                    self.release(&launch.to_string());
                }
                Next::End(instance) => {
                    self.end(&instance).await?;
                    self.release(&instance);
                }
            }
        }
    }

    /// One launch to its instance: the same token while the outcome is unknown, another after a refusal.
    async fn launch(&self, launch: u64, mut attempt: u32, refused: bool) -> Result<(), String> {
        if refused {
            attempt += 1;
        }
        for _ in 0..TRIES {
            self.note(Entry::Sent { launch, attempt })?;
            let mut request = self.request.clone();
            request.token = Token::of("faults", LaunchId(launch), attempt);
            request.offerings.clone_from(&self.ranked);
            match self.cloud.launch(&request).await {
                Ok(launched) => {
                    let instance = launched.instance.id.as_str().to_owned();
                    return self.note(Entry::Launched { launch, instance });
                }
                Err(e) => match e.class {
                    FailureClass::Transient => tokio::time::sleep(PAUSE).await,
                    // A throttled call says nothing of what an earlier one with this token did; an answer that
                    // names offerings is the token's own.
                    FailureClass::Throttled if e.failed.is_empty() => {
                        tokio::time::sleep(PAUSE).await;
                    }
                    FailureClass::Auth | FailureClass::Invalid => {
                        return Err(format!("launch {launch}: {e}"));
                    }
                    _ => {
                        self.note(Entry::Refused { launch, attempt })?;
                        attempt += 1;
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
        Err(format!("launch {launch} has no end after {TRIES} tries"))
    }

    async fn end(&self, instance: &str) -> Result<(), String> {
        self.note(Entry::Ending {
            instance: instance.to_owned(),
        })?;
        let id = InstanceId::new(instance).map_err(|e| e.to_string())?;
        let mut last = String::new();
        for _ in 0..TRIES {
            match self.cloud.terminate(&id).await {
                Ok(()) => {
                    let instance = instance.to_owned();
                    return self.note(Entry::Ended { instance });
                }
                Err(e) if matches!(e.class, FailureClass::Auth | FailureClass::Invalid) => {
                    return Err(format!("terminate {instance}: {e}"));
                }
                Err(e) => last = e.to_string(),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(format!(
            "{instance} is not ended after {TRIES} tries: {last}"
        ))
    }
}

// === impl Inner ===

impl Inner {
    /// What was cut off goes first; then launches and terminations by chance, around a level.
    fn next(&mut self, operations: u64) -> Next {
        let Self {
            journal,
            chance,
            begun,
            held,
        } = self;
        let mut open = journal.open.iter();
        if let Some((launch, (attempt, refused))) =
            open.find(|(l, _)| !held.contains(&l.to_string()))
        {
            held.insert(launch.to_string());
            return Next::Launch(*launch, *attempt, *refused);
        }
        let mut ending = journal.ending.iter();
        if let Some(id) = ending.find(|id| !held.contains(*id)).cloned() {
            held.insert(id.clone());
            return Next::End(id);
        }
        let free: Vec<_> = journal
            .live
            .iter()
            .filter(|id| !held.contains(*id))
            .collect();
        if operations == 0 {
            return match free.first() {
                Some(id) => {
                    let id = (*id).clone();
                    held.insert(id.clone());
                    Next::End(id)
                }
                None if held.is_empty() => Next::Done,
                None => Next::Wait,
            };
        }
        if journal.done + u64::try_from(held.len()).unwrap_or(u64::MAX) >= operations {
            return if held.is_empty() {
                Next::Done
            } else {
                Next::Wait
            };
        }
        *begun += 1;
        let share = f64::from(u32::try_from(free.len()).unwrap_or(u32::MAX)) / (2 * LEVEL) as f64;
        if chance.falls(share) && !free.is_empty() {
            let at = usize::try_from(chance.bits() >> 1).unwrap_or_default() % free.len();
            let id = free[at].clone();
            held.insert(id.clone());
            return Next::End(id);
        }
        let launch = journal.next;
        journal.next += 1;
        held.insert(launch.to_string());
        Next::Launch(launch, 1, false)
    }
}
