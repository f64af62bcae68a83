//! Waiting for an operation to be over.

use std::time::Duration;

use google_cloud_compute_v1::model::{Operation, operation};
use google_cloud_gax::error::Error;
use google_cloud_gax::options::RequestOptionsBuilder;
use tokio::time::Instant;

use crate::client::{Clients, GcpOptions, WAIT};
use crate::errors::{Said, of_operation};

/// How long an operation is waited for in one call of ours; the next call goes on waiting for the same one.
pub(crate) const LONGEST: Duration = Duration::from_secs(300);
/// The pause between two looks, at first and at most. Google's `wait` blocks by itself; this bounds how often one
/// that answers at once is asked.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// So many times in a row a look may fail before the operation's end is unknown.
const FAILED_LOOKS: u32 = 5;

/// Why an operation's end is not known, or not good.
#[derive(Debug)]
pub(crate) enum NotDone {
    /// It is over and says this against itself.
    Failed(Vec<Said>),
    /// Whether it was done cannot be told.
    Unknown(String),
}

/// Waits until the operation is over.
pub(crate) async fn done(
    clients: &Clients,
    options: &GcpOptions,
    started: Operation,
) -> Result<(), NotDone> {
    let deadline = Instant::now() + LONGEST;
    let (mut now, mut pause, mut failed) = (started, PAUSE, 0);
    while now.status != Some(operation::Status::Done) {
        if Instant::now() >= deadline {
            let name = now.name.unwrap_or_default();
            return Err(NotDone::Unknown(format!(
                "the operation {name} was not done within {} s",
                LONGEST.as_secs()
            )));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        now = match wait(clients, options, &now).await {
            Ok(next) => {
                failed = 0;
                next
            }
            Err(e) if is_passing(&e) && failed < FAILED_LOOKS => {
                failed += 1;
                now
            }
            Err(e) => {
                let name = now.name.unwrap_or_default();
                let said = Said::of_call(&e).text();
                return Err(NotDone::Unknown(format!(
                    "cannot wait for the operation {name}: {said}"
                )));
            }
        };
    }
    match of_operation(now) {
        said if said.is_empty() => Ok(()),
        said => Err(NotDone::Failed(said)),
    }
}

async fn wait(
    clients: &Clients,
    options: &GcpOptions,
    now: &Operation,
) -> Result<Operation, Error> {
    let name = now.name.clone().unwrap_or_default();
    let zone = now.zone.as_deref().map(crate::errors::short);
    match zone {
        Some(zone) => {
            let call = clients.zone_operations.wait().set_project(&options.project);
            let call = call.set_zone(zone).set_operation(name);
            call.with_attempt_timeout(WAIT).send().await
        }
        None => {
            let call = clients
                .region_operations
                .wait()
                .set_project(&options.project);
            let call = call.set_region(&options.region).set_operation(name);
            call.with_attempt_timeout(WAIT).send().await
        }
    }
}

/// Asking again may help.
fn is_passing(error: &Error) -> bool {
    use gpuloom_cloud::FailureClass;
    let class = Said::of_call(error).class;
    matches!(class, FailureClass::Transient | FailureClass::Throttled)
}
