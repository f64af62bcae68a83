//! One launch: found by its name, else made by one PUT and followed to its end.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gpuloom_cloud::{
    CloudError, FailureClass, Instance, LaunchError, LaunchRequest, Offering, OfferingFailure, Tags,
};
use gpuloom_fleet::{AzurePlace, PoolPlace};

use crate::arm::{COMPUTE, Call};
use crate::body::{self, Machine};
use crate::cloud::{AzureCloud, LAUNCH_WAIT, MACHINES};
use crate::failure::ArmError;
use crate::names;
use crate::types::VirtualMachine;

/// Between two looks at a machine that another call is making.
const LOOK: Duration = Duration::from_secs(2);

/// What is asked for, once it was checked.
struct Asked<'a> {
    request: &'a LaunchRequest,
    place: &'a AzurePlace,
    offering: &'a Offering,
    name: String,
    until: Instant,
}

impl AzureCloud {
    pub(crate) async fn launch_now(
        &self,
        request: &LaunchRequest,
    ) -> Result<Instance, LaunchError> {
        let asked = self.check_request(request)?;
        let found = self.machine(&asked.name).await;
        let launched = match found {
            Ok(Some(machine)) => self.adopt(&asked, machine).await,
            Ok(None) => self.create(&asked).await,
            // Whatever keeps us from looking, an earlier PUT may have been carried out.
            Err(e) if self.unsure().contains(&asked.name) => {
                Err(LaunchError::new(FailureClass::Transient, e.message))
            }
            Err(e) => Err(unsent(e)),
        };
        match &launched {
            Err(e) if e.class == FailureClass::Transient => self.unsure().insert(asked.name),
            _ => self.unsure().remove(&asked.name),
        };
        launched
    }

    /// Machines of which it is unknown whether they exist.
    fn unsure(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_request<'a>(&self, request: &'a LaunchRequest) -> Result<Asked<'a>, LaunchError> {
        let invalid = |message: String| LaunchError::new(FailureClass::Invalid, message);
        let PoolPlace::Azure(place) = &request.place else {
            return Err(invalid("the launch names no place on Azure".to_owned()));
        };
        let Some(offering) = request.offering() else {
            return Err(invalid("the launch names no offering".to_owned()));
        };
        if offering.kind() != "azure" || !offering.region().eq_ignore_ascii_case(&self.location) {
            let message = format!("{offering} is not of Azure's location {}", self.location);
            return Err(invalid(message));
        }
        Ok(Asked {
            request,
            place,
            offering,
            name: names::instance(request),
            until: Instant::now() + LAUNCH_WAIT,
        })
    }

    async fn create(&self, asked: &Asked<'_>) -> Result<Instance, LaunchError> {
        let tags = body::tags(asked.request, asked.place, asked.offering)?;
        let data_disk = self
            .data_disk(asked.request, asked.offering, &asked.name)
            .await?;
        let zone = body::zone(asked.offering);
        let set = names::scale_set(asked.request, zone.is_some());
        // Nobody takes the set away as long as this is held.
        let held = self.sets.hold().await;
        let scale_set = match &set {
            Some(set) => Some(self.ensure_set(set, asked, zone).await?),
            None => None,
        };
        let body = body::machine(&Machine {
            name: &asked.name,
            place: asked.place,
            offering: asked.offering,
            tags,
            scale_set,
            data_disk,
            script: &asked.request.user_data.script,
        })?;
        self.sets.joins(set.as_deref(), &asked.name);
        let call = Call::put(self.arm.in_group(MACHINES, &asked.name), COMPUTE, &body).only_new();
        let sent = self.arm.send(&call).await;
        drop(held);
        let answer = match sent {
            Ok(answer) => answer,
            Err(e) if e.is_there_already() => return self.adopt_now(asked).await,
            Err(e) if e.is_gone() => {
                // The set that we knew of is gone: made again by the next try.
                self.sets.forget(set.as_deref());
                return Err(unknown(asked, &e));
            }
            Err(e) => return Err(self.refused(asked, &e).await),
        };
        match self.arm.finish(answer, asked.until).await {
            Ok(()) => self.adopt_now(asked).await,
            Err(e) if e.is_ended() => Err(self.failed(asked, &e).await),
            Err(e) => Err(unknown(asked, &e)),
        }
    }

    async fn ensure_set(
        &self,
        set: &str,
        asked: &Asked<'_>,
        zone: Option<&str>,
    ) -> Result<String, LaunchError> {
        let mut tags = Tags(asked.place.tags.clone());
        tags.0.extend(asked.request.labels.0.clone());
        tags.0.extend(asked.request.tags().0);
        for of_one_machine in [Tags::TOKEN, Tags::OFFERING, Tags::REVISION] {
            tags.0.remove(of_one_machine);
        }
        let zones = match zone {
            Some(zone) if asked.place.zones.iter().any(|z| z == zone) => asked.place.zones.clone(),
            Some(zone) => vec![zone.to_owned()],
            None => Vec::new(),
        };
        let made = self.set(set, zones, &names::to_azure(&tags)).await;
        made.map_err(|e| said(asked, e.class(), e.to_string(), &e))
    }

    /// The machine that exists by now, whoever made it.
    async fn adopt_now(&self, asked: &Asked<'_>) -> Result<Instance, LaunchError> {
        match self.machine(&asked.name).await.map_err(unseen)? {
            Some(machine) => self.adopt(asked, machine).await,
            None => Err(LaunchError::new(
                FailureClass::Transient,
                format!("{} was made and is gone again", asked.name),
            )),
        }
    }

    /// A machine of our name: ours if it has our token. Waits while it is being made.
    async fn adopt(
        &self,
        asked: &Asked<'_>,
        mut machine: VirtualMachine,
    ) -> Result<Instance, LaunchError> {
        let transient = |message: String| LaunchError::new(FailureClass::Transient, message);
        loop {
            if machine.tags.get(Tags::TOKEN).map(String::as_str)
                != Some(asked.request.token.as_str())
            {
                let message = format!(
                    "virtual machine {} exists already and was launched by another request: end it, or use another \
                     resource group",
                    asked.name
                );
                return Err(LaunchError::new(FailureClass::Invalid, message));
            }
            if machine.is("Deleting") {
                let message = format!(
                    "{} is being ended: launch again when it is gone",
                    asked.name
                );
                return Err(transient(message));
            }
            if machine.is("Failed") && machine.power() != Some("running") {
                let (code, message) = machine.failure().unwrap_or_default();
                let why = ArmError::ended(code.to_owned(), message.to_owned());
                return Err(self.failed(asked, &why).await);
            }
            if !machine.is("Creating") {
                self.ended.forget(&asked.name);
                let instance = self.instance(&machine).await.map_err(unseen)?;
                let message = format!("{} lost its tags", asked.name);
                return instance.ok_or_else(|| LaunchError::new(FailureClass::Invalid, message));
            }
            if Instant::now() > asked.until {
                return Err(transient(format!(
                    "{} was not up in {LAUNCH_WAIT:?}",
                    asked.name
                )));
            }
            tokio::time::sleep(self.arm.pause(LOOK)).await;
            machine = match self.machine(&asked.name).await.map_err(unseen)? {
                Some(machine) => machine,
                None => return Err(transient(format!("{} is gone again", asked.name))),
            };
        }
    }

    /// A PUT that was refused at once. What is certain leaves nothing; what is not is unknown.
    async fn refused(&self, asked: &Asked<'_>, error: &ArmError) -> LaunchError {
        match error.class() {
            FailureClass::Transient => unknown(asked, error),
            FailureClass::Throttled | FailureClass::Auth | FailureClass::Invalid => {
                self.sets.left(&asked.name);
                said(asked, error.class(), error.to_string(), error)
            }
            FailureClass::Capacity | FailureClass::Quota | FailureClass::Unsupported => {
                self.failed(asked, error).await
            }
        }
    }

    /// An operation that ended badly leaves a machine that costs: it goes before its failure is told.
    async fn failed(&self, asked: &Asked<'_>, error: &ArmError) -> LaunchError {
        match self.end(&asked.name).await {
            Ok(()) => said(asked, error.class(), error.to_string(), error),
            Err(left) => {
                let message = format!("{error}; what it left could not be removed yet: {left}");
                said(asked, FailureClass::Transient, message, error)
            }
        }
    }
}

/// Whether it happened is unknown: the same token again.
fn unknown(asked: &Asked<'_>, error: &ArmError) -> LaunchError {
    said(asked, FailureClass::Transient, error.to_string(), error)
}

fn said(asked: &Asked<'_>, class: FailureClass, message: String, error: &ArmError) -> LaunchError {
    let message = format!("{}: {message}", asked.offering);
    let of_the_offering = matches!(
        class,
        FailureClass::Capacity | FailureClass::Quota | FailureClass::Unsupported
    );
    let failure = || OfferingFailure {
        offering: asked.offering.clone(),
        class,
        message: message.clone(),
    };
    LaunchError {
        failed: of_the_offering.then(failure).into_iter().collect(),
        retry_after: error.retry_after_s(),
        class,
        message,
    }
}

/// A look before the launch that failed: nothing was sent.
fn unsent(error: CloudError) -> LaunchError {
    LaunchError::new(error.class, error.message)
}

/// A look after it that failed: whatever kept us from seeing, it may exist.
fn unseen(error: CloudError) -> LaunchError {
    LaunchError::new(FailureClass::Transient, error.message)
}
