//! Does what a plan says. No choices are left here.

use std::error::Error;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use gpuloom_fleet::{InstanceId, Millis};

use crate::cloud::{Cloud, CloudError, FailureClass, LaunchError, Launched, OfferingFailure};
use crate::failpoint;
use crate::instance::Instance;
use crate::launch::{LaunchId, LaunchRecord, LaunchRequest, LaunchState};
use crate::offering::Offering;
use crate::reconcile::Plan;

/// Most launches, and most terminations, that are under way at a time for one plan.
pub const AT_ONCE: usize = 8;

/// The places at which a test can end the process.
pub const FAILPOINTS: &[&str] = &[
    "cloud.adopt.before",
    "cloud.adopt.after",
    "cloud.store_launch.before",
    "cloud.store_launch.after",
    "cloud.send_launch.after",
    "cloud.store_answer.after",
    "cloud.terminate.before",
    "cloud.terminate.after",
    "cloud.forget.after",
];

/// Where launches are remembered: the lead's store.
#[async_trait]
pub trait LaunchBook: Send + Sync {
    /// Stores the record under its id, durably, in place of what stood there.
    ///
    /// # Errors
    /// Nothing was stored; what depends on it is not done.
    async fn store(&self, record: &LaunchRecord) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Removes the record; removing what is gone succeeds.
    ///
    /// # Errors
    /// It may still be there; the next plan forgets it again.
    async fn forget(&self, launch: LaunchId) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// The request for a stored launch, the same token in it.
    ///
    /// # Errors
    /// The launch is not sent; it stays stored and is tried again.
    async fn request(
        &self,
        record: &LaunchRecord,
    ) -> Result<LaunchRequest, Box<dyn Error + Send + Sync>>;
}

/// What came of one part of a plan.
#[derive(Debug)]
pub enum Outcome {
    /// An instance exists, new or found by its token.
    Launched {
        launch: LaunchId,
        instance: Instance,
        /// What was said of offerings that were tried before: note it with [`crate::Outages::note_each`].
        failed: Vec<OfferingFailure>,
    },
    /// The cloud said no; note it with [`crate::Outages::note_refusal`].
    Refused {
        launch: LaunchId,
        offerings: Vec<Offering>,
        error: LaunchError,
    },
    /// A record was brought up to what exists.
    Adopted { launch: LaunchId },
    /// Verified gone.
    Terminated { instance: InstanceId },
    /// Brought back.
    Started { instance: InstanceId },
    /// Not ended, or not known to be; the next plan has it again.
    NotTerminated {
        instance: InstanceId,
        error: CloudError,
    },
    /// Not brought back.
    NotStarted {
        instance: InstanceId,
        error: LaunchError,
    },
    /// The store refused; nothing that depends on it was done.
    NotStored {
        launch: LaunchId,
        error: Box<dyn Error + Send + Sync>,
    },
}

/// Carries `plan` out; a step that fails does not keep the others from being done. What is found and forgotten is
/// stored first; then instances are ended, started and launched side by side, [`AT_ONCE`] of each at a time.
/// `now` is stored in the records.
pub async fn carry_out(
    plan: &Plan,
    cloud: &dyn Cloud,
    book: &dyn LaunchBook,
    now: Millis,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for adoption in &plan.adoptions {
        let launch = adoption.record.id;
        failpoint::hit("cloud.adopt.before");
        outcomes.push(match book.store(&adoption.record).await {
            Ok(()) => Outcome::Adopted { launch },
            Err(error) => Outcome::NotStored { launch, error },
        });
        failpoint::hit("cloud.adopt.after");
    }
    for launch in plan.forgets.iter().copied() {
        if let Err(error) = book.forget(launch).await {
            outcomes.push(Outcome::NotStored { launch, error });
        }
        failpoint::hit("cloud.forget.after");
    }
    let ends = plan.terminations.iter().map(|t| end(&t.instance, cloud));
    let starts = plan.starts.iter().map(|id| start(id, cloud));
    let launches = plan.launches.iter();
    let launches = launches.map(|l| send(&l.record, cloud, book, now));
    let (ended, started, launched) = futures::join!(
        some_at_once(ends.map(|step| step.boxed()).collect()),
        some_at_once(starts.map(|step| step.boxed()).collect()),
        some_at_once(launches.map(|step| step.boxed()).collect()),
    );
    outcomes.extend(ended);
    outcomes.extend(started);
    outcomes.extend(launched);
    outcomes
}

/// All of `steps`, in the order they end.
async fn some_at_once(steps: Vec<BoxFuture<'_, Outcome>>) -> Vec<Outcome> {
    stream::iter(steps)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

async fn end(instance: &InstanceId, cloud: &dyn Cloud) -> Outcome {
    let instance = instance.clone();
    failpoint::hit("cloud.terminate.before");
    let outcome = match cloud.terminate(&instance).await {
        Ok(()) => Outcome::Terminated { instance },
        Err(error) => Outcome::NotTerminated { instance, error },
    };
    failpoint::hit("cloud.terminate.after");
    outcome
}

async fn start(instance: &InstanceId, cloud: &dyn Cloud) -> Outcome {
    let instance = instance.clone();
    match cloud.start(&instance).await {
        Ok(_) => Outcome::Started { instance },
        Err(error) => Outcome::NotStarted { instance, error },
    }
}

/// Stored, sent, answer stored.
async fn send(
    record: &LaunchRecord,
    cloud: &dyn Cloud,
    book: &dyn LaunchBook,
    now: Millis,
) -> Outcome {
    let launch = record.id;
    failpoint::hit("cloud.store_launch.before");
    if let Err(error) = book.store(record).await {
        return Outcome::NotStored { launch, error };
    }
    failpoint::hit("cloud.store_launch.after");
    let request = match book.request(record).await {
        Ok(request) => request,
        Err(error) => return Outcome::NotStored { launch, error },
    };
    let answer = cloud.launch(&request).await;
    failpoint::hit("cloud.send_launch.after");
    let state = match &answer {
        Ok(launched) => LaunchState::Launched {
            instance: launched.instance.id.clone(),
        },
        // Unknown whether it exists: the record stays as it was sent.
        Err(e) if e.class == FailureClass::Transient => LaunchState::Sent,
        // The call itself was refused, which says nothing of what the same token did before. An answer that names
        // offerings is the token's own, and would be given again.
        Err(e)
            if matches!(e.class, FailureClass::Throttled | FailureClass::Auth)
                && e.failed.is_empty() =>
        {
            LaunchState::Sent
        }
        Err(e) => LaunchState::Failed {
            class: e.class,
            message: e.message.clone(),
        },
    };
    let mut answered = LaunchRecord {
        state,
        at: now,
        ..record.clone()
    };
    if let Ok(launched) = &answer {
        answered.offerings = vec![launched.instance.offering.clone()];
    }
    if let Err(error) = book.store(&answered).await {
        return Outcome::NotStored { launch, error };
    }
    failpoint::hit("cloud.store_answer.after");
    match answer {
        Ok(Launched { instance, failed }) => Outcome::Launched {
            launch,
            instance,
            failed,
        },
        Err(error) => Outcome::Refused {
            launch,
            offerings: record.offerings.clone(),
            error,
        },
    }
}
