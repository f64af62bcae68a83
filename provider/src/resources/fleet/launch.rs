//! Launching a lead: offering after offering, each try stored before it is sent, within the time there is.

use std::time::Duration;

use gpuloom_cloud::{
    Cloud, FailureClass, Instance, LaunchError, Offered, Offering, OfferingFailure, failpoint,
};
use gpuloom_fleet::{FleetName, Market};
use tfplug::{CancellationToken, Diagnostic, Diagnostics};
use tokio::time::Instant;

use super::note::Note;
use super::request::request;
use crate::clouds::shown;
use crate::configure::Settings;
use crate::convert::Site;
use crate::lead_instance::driver;
use crate::say;

/// Before a call that may work is repeated, unless the cloud says how long.
const AGAIN: Duration = Duration::from_secs(2);

/// How long something may take, and who may end it sooner.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    deadline: Instant,
    whole: Duration,
    cancel: CancellationToken,
}

/// A launch that gave no lead.
#[derive(Debug)]
pub(super) struct NotLaunched {
    pub(super) diagnostics: Diagnostics,
    /// The cloud may have heard of it: whether an instance exists is not known.
    pub(super) unknown: bool,
}

// === impl Limit ===

impl Limit {
    pub(super) fn new(whole: Duration, cancel: &CancellationToken) -> Self {
        // A limit beyond what the clock holds is a year: nobody waits that long.
        let year = Duration::from_secs(gpuloom_fleet::MAX_DURATION_S);
        let whole = whole.min(year);
        Self {
            deadline: Instant::now() + whole,
            whole,
            cancel: cancel.clone(),
        }
    }

    /// Waits, less when the time is over.
    ///
    /// # Errors
    /// Why there is nothing more to wait for.
    pub(super) async fn pause(&self, pause: Duration) -> Result<(), String> {
        if Instant::now() >= self.deadline {
            return Err(format!("After {:?}", self.whole));
        }
        let until = (Instant::now() + pause).min(self.deadline);
        tokio::select! {
            () = self.cancel.cancelled() => Err("Terraform was asked to stop".to_owned()),
            () = tokio::time::sleep_until(until) => Ok(()),
        }
    }
}

impl From<Diagnostics> for NotLaunched {
    /// Before anything was sent.
    fn from(diagnostics: Diagnostics) -> Self {
        Self {
            diagnostics,
            unknown: false,
        }
    }
}

// === functions ===

/// Launches the note's lead. On a cloud offering after offering, only those of `zone` when its data disk lies there.
pub(super) async fn launch(
    settings: &Settings,
    note: &mut Note,
    fleet: &FleetName,
    zone: Option<&str>,
    limit: &Limit,
) -> Result<Instance, NotLaunched> {
    let path = Note::path(settings, &note.site, fleet.as_str())?;
    let cloud = driver(settings, note.site.place()).await?;
    let offerings = match &note.site {
        Site::Local(_) => vec![Offering("local/lead".to_owned())],
        Site::Cloud(_) => offerings(&*cloud, note, fleet, zone, limit).await?,
    };
    let mut left = offerings.as_slice();
    let mut failed: Vec<OfferingFailure> = Vec::new();
    loop {
        let (together, later) = left.split_at(Offering::together(left));
        if together.is_empty() {
            return Err(nothing_had(fleet, &failed).into());
        }
        note.store(&path)?;
        let request = request(settings, note, fleet, together.to_vec())?;
        failpoint::hit("provider.fleet.launch.before");
        let launched = repeat(&*cloud, &request, limit).await;
        failpoint::hit("provider.fleet.launch.after");
        match launched {
            Ok(instance) => return Ok(instance),
            Err(error) if is_of_offering(error.class) && note.site.cloud().is_some() => {
                failed.extend(failures(error, together));
                left = later;
                note.attempt += 1;
            }
            Err(error) => {
                let unknown = matches!(error.class, FailureClass::Transient);
                let diagnostics = refused(fleet, &error, &failed);
                return Err(NotLaunched {
                    diagnostics,
                    unknown,
                });
            }
        }
    }
}

/// The same request until the cloud says yes or no, or the time is over.
async fn repeat(
    cloud: &dyn Cloud,
    request: &gpuloom_cloud::LaunchRequest,
    limit: &Limit,
) -> Result<Instance, LaunchError> {
    loop {
        let error = match cloud.launch(request).await {
            Ok(launched) => return Ok(launched.instance),
            Err(error) => error,
        };
        let local = request.data_disk.is_none();
        let again = matches!(
            error.class,
            FailureClass::Transient | FailureClass::Throttled
        );
        if local || !again {
            return Err(error);
        }
        let pause = error
            .retry_after
            .map_or(AGAIN, |s| Duration::from_secs(s.0));
        if let Err(over) = limit.pause(pause).await {
            let message = format!("{over}: {}", error.message);
            return Err(LaunchError { message, ..error });
        }
    }
}

/// What the place has for a lead, best first: on-demand only, because a lead that is taken back takes the fleet's
/// control with it.
async fn offerings(
    cloud: &dyn Cloud,
    note: &Note,
    fleet: &FleetName,
    zone: Option<&str>,
    limit: &Limit,
) -> Result<Vec<Offering>, Diagnostics> {
    let place = note.site.place();
    let tried = || format!("Cannot launch the lead of fleet {fleet}");
    let offered = loop {
        let error = match cloud.offerings(place, None).await {
            Ok(offered) => break offered,
            Err(error) => error,
        };
        if matches!(error.class, FailureClass::Auth | FailureClass::Invalid) {
            return Err(Diagnostic::error(tried(), say::sentences(&[&error.message])).into());
        }
        if let Err(over) = limit.pause(AGAIN).await {
            let why = format!("{over}: {}", error.message);
            return Err(Diagnostic::error(tried(), say::sentences(&[&why])).into());
        }
    };
    let offered = Offered::ranked(place, offered);
    let ranked: Vec<_> = offered
        .into_iter()
        .map(|o| o.offering)
        .filter(|o| o.market() == Market::OnDemand)
        .collect();
    let there: Vec<_> = ranked
        .iter()
        .filter(|o| zone.is_none_or(|z| o.zone() == z))
        .cloned()
        .collect();
    let chosen = if there.is_empty() { ranked } else { there };
    if chosen.is_empty() {
        let detail = format!(
            "None of {} is offered in {}. State types that are.",
            place.instance_types().join(", "),
            shown(place)
        );
        return Err(Diagnostic::error(tried(), detail).into());
    }
    Ok(chosen)
}

fn is_of_offering(class: FailureClass) -> bool {
    matches!(
        class,
        FailureClass::Capacity | FailureClass::Quota | FailureClass::Unsupported
    )
}

/// What was said of each offering; of all of them where the call failed as a whole.
fn failures(error: LaunchError, together: &[Offering]) -> Vec<OfferingFailure> {
    if !error.failed.is_empty() {
        return error.failed;
    }
    let (class, message) = (error.class, error.message);
    let of = |offering: &Offering| OfferingFailure {
        offering: offering.clone(),
        class,
        message: message.clone(),
    };
    together.iter().map(of).collect()
}

fn listed(failed: &[OfferingFailure]) -> String {
    let lines = failed
        .iter()
        .map(|f| format!("\n  {}: {}: {}", f.offering, f.class, f.message));
    lines.collect()
}

fn nothing_had(fleet: &FleetName, failed: &[OfferingFailure]) -> Diagnostics {
    let detail = format!(
        "Nothing exists of it. State more instance types or zones, ask for quota, or apply again later. What was tried:{}",
        listed(failed)
    );
    Diagnostic::error(
        format!("No instance for the lead of fleet {fleet} can be had"),
        detail,
    )
    .into()
}

fn refused(fleet: &FleetName, error: &LaunchError, failed: &[OfferingFailure]) -> Diagnostics {
    let advice = match error.class {
        FailureClass::Auth if error.failed.is_empty() && failed.is_empty() => {
            "use credentials that may do that (on this machine: run as a user who may write there, or set \
             local { root } in the provider block)"
        }
        FailureClass::Transient => {
            "whether an instance was launched is not known; applying again takes it up"
        }
        _ => "",
    };
    let mut detail = say::sentences(&[&error.message, advice]);
    if !failed.is_empty() {
        detail.push_str(&format!(" Before that:{}", listed(failed)));
    }
    Diagnostic::error(format!("Cannot launch the lead of fleet {fleet}"), detail).into()
}
