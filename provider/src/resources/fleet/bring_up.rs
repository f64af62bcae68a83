//! Bringing a fleet's lead up: launched or adopted, started again, upgraded; waited for, bounded.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use gpuloom_cloud::{
    FailureClass, Instance, InstanceState, LaunchError, Offering, Tags, Token, failpoint,
};
use gpuloom_fleet::{FleetName, InstanceId};
use tfplug::{Diagnostic, Diagnostics, OrDiag, Value};

use super::launch::{Limit, NotLaunched, launch};
use super::note::Note;
use super::request::{revision, setting};
use crate::clouds::shown;
use crate::configure::Settings;
use crate::convert::{LocalSite, Site};
use crate::lead::Unreachable;
use crate::lead_instance::{self, LeadInstance, driver};
use crate::lost;

/// Where a lead of this machine answers unless `listen` says so.
const LISTEN: &str = "127.0.0.1:0";
/// Between two looks at a lead that comes up: a process does at once, an instance installs its agent first.
const LOOK_HERE: Duration = Duration::from_millis(50);
const LOOK_AT_CLOUD: Duration = Duration::from_secs(2);
/// So often in a row a cloud may fail to answer while a lead is waited for.
const MAX_FAILURES: u32 = 10;

/// A creation that gave no lead.
#[derive(Debug)]
pub(super) struct NotCreated {
    pub(super) diagnostics: Diagnostics,
    /// Something of it is left, or may be: a data disk, or an instance that was not seen gone.
    pub(super) left: bool,
}

/// What the state remembers of the lead's last instance.
#[derive(Debug, Clone, Default)]
pub(super) struct Last {
    /// What it was: its data disk lies in that zone.
    pub(super) offering: Option<String>,
    /// The token it was launched with, which gives no second one.
    pub(super) token: Option<String>,
}

impl From<Diagnostics> for NotCreated {
    /// Before anything was launched.
    fn from(diagnostics: Diagnostics) -> Self {
        Self {
            diagnostics,
            left: false,
        }
    }
}

/// Launches the lead of a planned fleet, or adopts what an interrupted creation launched, and waits
/// until it answers. An error leaves nothing behind but what [`NotCreated::left`] says.
pub(super) async fn create(
    settings: &Settings,
    site: &Site,
    name: &str,
    labels: Tags,
    limit: &Limit,
) -> Result<LeadInstance, NotCreated> {
    let fleet = FleetName::new(name).or_diag("Invalid name")?;
    settings.local.root()?;
    if site.cloud().is_none() {
        settings.local.program_path()?;
    }
    if !settings.claim_fleet(name) {
        let detail = "Another gpuloom_fleet of this configuration has the same name. Give one of them another.";
        let twice = Diagnostic::error(format!("Fleet {name} is declared twice"), detail).at("name");
        return Err(Diagnostics::from(twice).into());
    }
    let mut note = note(settings, site, name, labels).await?;
    let on_cloud = site.cloud().is_some();
    let (mut diagnostics, launched) = match launch(settings, &mut note, &fleet, None, limit).await {
        Ok(_) => match answer(settings, site, name, limit).await {
            Ok(found) => return Ok(found),
            Err(diagnostics) => (diagnostics, true),
        },
        // The note keeps its token: the next apply asks with it again, and gets the same instance.
        Err(NotLaunched {
            diagnostics,
            unknown: true,
        }) if on_cloud => {
            return Err(NotCreated {
                diagnostics,
                left: true,
            });
        }
        Err(not) => (not.diagnostics, false),
    };
    let mut left = on_cloud && launched;
    if let Err(more) = take_back(settings, site, name, &note).await {
        diagnostics.extend(more);
        left |= on_cloud;
    }
    Err(NotCreated { diagnostics, left })
}

/// The note of this creation: that of an interrupted one if it says the same, else a new one.
async fn note(
    settings: &Settings,
    site: &Site,
    name: &str,
    labels: Tags,
) -> Result<Note, Diagnostics> {
    let mut wanted = Note::new(settings, name, site.clone(), labels)?;
    let mut any_port = false;
    if let Site::Local(local) = &mut wanted.site {
        let listen = local.listen.get_or_insert_with(|| LISTEN.to_owned());
        let address: SocketAddr = listen
            .parse()
            .or_diag(format!("local.listen = {listen:?} is not an address"))?;
        any_port = address.port() == 0;
    }
    let there = lead_instance::find(settings, site, name).await?;
    if let Some(old) = Note::load(&Note::path(settings, site, name)?)? {
        let ending = there
            .as_ref()
            .is_some_and(|f| f.instance.state == InstanceState::Terminating);
        if let Some(there) = there.filter(|_| !ending)
            && old.admin_public_key != wanted.admin_public_key
        {
            return Err(somebody_elses(name, &there));
        }
        if !ending && old.says_the_same(&wanted, any_port) {
            return Ok(old);
        }
        // Nobody has seen that creation: what it launched makes room for this one, as does one whose taking back was
        // interrupted.
        take_back(settings, site, name, &old).await?;
    } else if let Some(there) = there {
        return Err(exists_already(site, name, &there));
    }
    if let Site::Local(LocalSite {
        listen: Some(listen),
        ..
    }) = &mut wanted.site
        && any_port
    {
        *listen = free_port(listen)
            .or_diag(format!("Cannot listen on {listen}"))?
            .to_string();
    }
    Ok(wanted)
}

fn exists_already(site: &Site, name: &str, there: &LeadInstance) -> Diagnostics {
    let id = crate::import::fleet_id(site, name);
    let detail = format!(
        "Its lead is instance {} in {}. Take it over with: terraform import gpuloom_fleet.<label> '{id}'",
        there.instance.id,
        there
            .here
            .as_ref()
            .map_or_else(|| shown(site.place()), |_| there.data_dir()),
    );
    Diagnostic::error(format!("Fleet {name} exists already"), detail)
        .at("name")
        .into()
}

/// An interrupted creation of another admin: whether that fleet is used cannot be asked, so it is not ended.
fn somebody_elses(name: &str, there: &LeadInstance) -> Diagnostics {
    let detail = format!(
        "Its lead is instance {} in {}, created with another admin key and not read back since. Use that key, or \
         choose another name.",
        there.instance.id,
        there.data_dir()
    );
    Diagnostic::error(format!("Fleet {name} exists already"), detail)
        .at("name")
        .into()
}

/// A port that nobody listens on now. It is the fleet's for life: nodes and people know it by it.
fn free_port(any: &str) -> std::io::Result<SocketAddr> {
    TcpListener::bind(any)?.local_addr()
}

/// Ends what a creation launched, verified, and forgets it. Another's lead of the name is left alone.
async fn take_back(
    settings: &Settings,
    site: &Site,
    name: &str,
    note: &Note,
) -> Result<(), Diagnostics> {
    if let Some(lead) = lead_instance::find(settings, site, name).await?
        && note.made(&lead.instance.token)
    {
        lost::terminate(settings, site.place(), std::slice::from_ref(&lead.instance)).await?;
        // It may have launched nodes for objects of an earlier, interrupted apply.
        let id = lead.connection.as_ref().map(|c| c.id.as_str());
        lost::terminate_fleet(settings, site.place(), name, id).await?;
        if let Some(id) = id {
            settings.forget(id);
        }
    }
    Note::remove(settings, site, name)
}

/// Waits until the lead says who it is, and answers where it is to be reached.
async fn answer(
    settings: &Settings,
    site: &Site,
    name: &str,
    limit: &Limit,
) -> Result<LeadInstance, Diagnostics> {
    let on_cloud = site.cloud().is_some();
    let look = if on_cloud { LOOK_AT_CLOUD } else { LOOK_HERE };
    let mut last = String::from("it has not said yet where it answers");
    let (mut seen, mut failures) = (false, 0);
    loop {
        let mut log = String::new();
        match lead_instance::find(settings, site, name).await {
            Ok(Some(lead)) => {
                (seen, failures) = (true, 0);
                log = log_tail(&lead);
                if let Some(ended) = ended(name, &lead, &log) {
                    return Err(ended);
                }
                if let Some(connection) = &lead.connection {
                    settings.forget(&connection.id);
                    match settings.reach(connection).await {
                        Ok(_) => return Ok(lead),
                        Err(Unreachable::Refused(diagnostics)) => return Err(diagnostics),
                        Err(Unreachable::Silent(why)) => last = why,
                    }
                }
            }
            // A cloud's listing may lag behind a launch.
            Ok(None) if on_cloud && !seen => "its instance is not listed yet".clone_into(&mut last),
            Ok(None) => {
                let detail = "Its instance disappeared: somebody else terminated it.";
                return Err(
                    Diagnostic::error(format!("Fleet {name} did not come up"), detail).into(),
                );
            }
            Err(diagnostics) => {
                failures += 1;
                if !on_cloud || failures >= MAX_FAILURES {
                    return Err(diagnostics);
                }
            }
        }
        if let Err(over) = limit.pause(look).await {
            return Err(too_late(site, name, &over, &last, &log));
        }
    }
}

/// A lead that comes up no more.
fn ended(name: &str, lead: &LeadInstance, log: &str) -> Option<Diagnostics> {
    let detail = match (lead.instance.state, &lead.here) {
        (InstanceState::Stopped, Some(_)) => {
            format!("Its agent ended. The end of its log:\n{log}")
        }
        (InstanceState::Stopped, None) => format!("Its instance {} went down.", lead.instance.id),
        (InstanceState::Terminating, None) => {
            format!("Its instance {} is being ended.", lead.instance.id)
        }
        _ => return None,
    };
    Some(Diagnostic::error(format!("Fleet {name} did not come up"), detail).into())
}

fn too_late(site: &Site, name: &str, over: &str, last: &str, log: &str) -> Diagnostics {
    let advice = match site.cloud() {
        None => format!("The end of its log:\n{log}"),
        Some(_) => format!(
            "Look at the instance's console output (cloud-init runs its user data), and whether port {} of the address \
             that `reachability` names can be reached from here.",
            lead_instance::LEAD_PORT
        ),
    };
    let detail = format!("{over}: {}. {advice}", last.trim_end_matches('.'));
    Diagnostic::error(format!("Fleet {name} did not come up in time"), detail).into()
}

/// Brings the lead of a fleet that exists to what is planned: started when it is down, restarted when its agent is
/// another on this machine, launched anew with its data disk when its instance is gone or is made of something else.
pub(super) async fn start(
    settings: &Settings,
    site: &Site,
    name: &str,
    labels: Tags,
    last: &Last,
    limit: &Limit,
) -> Result<LeadInstance, Diagnostics> {
    let found = lead_instance::find(settings, site, name).await?;
    match site.cloud() {
        None => start_here(settings, name, found).await?,
        Some(cloud) => {
            let wanted = revision(&cloud.place);
            let fits = |l: &LeadInstance| l.instance.revision() == Some(wanted.as_str());
            match found {
                Some(lead) if lead.instance.state == InstanceState::Running && fits(&lead) => {}
                Some(lead) if lead.instance.state == InstanceState::Launching && fits(&lead) => {}
                Some(lead) if lead.instance.state == InstanceState::Stopped && fits(&lead) => {
                    match start_instance(settings, site, &lead.instance.id).await {
                        Ok(_) => {}
                        Err(error) if error.class == FailureClass::Transient => {
                            return Err(not_started(name, &error));
                        }
                        // A stopped machine may find no room where it stood: another takes its disk.
                        Err(_) => anew(settings, site, name, labels, last, limit).await?,
                    }
                }
                _ => anew(settings, site, name, labels, last, limit).await?,
            }
        }
    }
    answer(settings, site, name, limit).await
}

async fn start_here(
    settings: &Settings,
    name: &str,
    found: Option<LeadInstance>,
) -> Result<(), Diagnostics> {
    let Some((lead, here)) = found.and_then(|l| l.here.clone().map(|h| (l, h))) else {
        let detail = "Its instance is gone. Plan again: it will be created anew.";
        let gone = Diagnostic::error(format!("Fleet {name} does not exist any more"), detail);
        return Err(gone.into());
    };
    let id = &lead.instance.id;
    let other = settings.local.program()?.sha256 != here.program.sha256;
    if lead.instance.state == InstanceState::Running && other {
        failpoint::hit("provider.fleet.stop.before");
        settings.local.cloud()?.stop(id).await.or_diag(format!(
            "Cannot stop the lead of fleet {name} to upgrade it"
        ))?;
        failpoint::hit("provider.fleet.stop.after");
    }
    let site = Site::Local(LocalSite::default());
    start_instance(settings, &site, id)
        .await
        .map(drop)
        .map_err(|error| not_started(name, &error))
}

async fn start_instance(
    settings: &Settings,
    site: &Site,
    id: &InstanceId,
) -> Result<Instance, LaunchError> {
    let cloud = driver(settings, site.place()).await.map_err(|d| {
        let why = d.iter().map(|d| d.summary.clone()).collect::<Vec<_>>();
        LaunchError::new(FailureClass::Invalid, why.join("; "))
    })?;
    failpoint::hit("provider.fleet.start.before");
    let started = cloud.start(id).await;
    failpoint::hit("provider.fleet.start.after");
    started
}

fn not_started(name: &str, error: &LaunchError) -> Diagnostics {
    let tried = format!("Cannot start the lead of fleet {name}");
    Diagnostic::error(tried, crate::say::sentences(&[&error.message])).into()
}

/// Ends what is left of the lead's instance and launches another, where its data disk is.
async fn anew(
    settings: &Settings,
    site: &Site,
    name: &str,
    labels: Tags,
    last: &Last,
    limit: &Limit,
) -> Result<(), Diagnostics> {
    let fleet = FleetName::new(name).or_diag("Invalid name")?;
    let path = Note::path(settings, site, name)?;
    let wanted = Note::new(settings, name, site.clone(), labels)?;
    let before = Note::load(&path)?.filter(|old| old.says_the_same(&wanted, false));
    let mut note = before.unwrap_or(wanted);
    let used = |note: &Note, token: &str| Token::new(token).is_ok_and(|t| note.made(&t));
    let mut spent = last.token.as_deref().is_some_and(|t| used(&note, t));
    // The disk is attached to one instance at a time.
    if let Some(lead) = lead_instance::find(settings, site, name).await? {
        if let Some(connection) = &lead.connection {
            settings.forget(&connection.id);
        }
        spent |= note.made(&lead.instance.token);
        lost::terminate(settings, site.place(), std::slice::from_ref(&lead.instance)).await?;
    }
    if spent {
        note.attempt += 1;
    }
    let offering = last.offering.clone().map(Offering);
    let zone = offering.as_ref().map(Offering::zone).filter(|z| *z != "-");
    launch(settings, &mut note, &fleet, zone, limit)
        .await
        .map(drop)
        .map_err(|not| not.diagnostics)
}

/// Labels of the configuration, as tags.
pub(super) fn labels(planned: &Value) -> Tags {
    let members = planned.get("labels").members().into_iter().flatten();
    Tags(
        members
            .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
            .collect(),
    )
}

/// What was configured at the launch, for the state: where the driver's record says so. A cloud's does not.
pub(super) fn put_configured(state: &mut Value, lead: &LeadInstance) -> Result<(), Diagnostics> {
    let Some(here) = &lead.here else {
        return Ok(());
    };
    let path = here.data_dir.join("agent.toml");
    let text = std::fs::read_to_string(&path).or_diag(format!("Cannot read {}", path.display()))?;
    let (listen, simulate) = (setting(&text, "listen"), setting(&text, "simulate"));
    let mut local = state.get("local").clone();
    if local.is_null() {
        local = Value::object([("listen", Value::Null), ("simulate", Value::Null)]);
    }
    if !local
        .get("listen")
        .as_str()
        .is_some_and(|l| means_the_same(l, listen.as_deref()))
    {
        local.set("listen", listen);
    }
    local.set("simulate", simulate);
    state.set("local", local);
    let labels = lead.instance.tags.0.iter().filter(|(k, _)| !own(k));
    let labels: Vec<_> = labels
        .map(|(k, v)| (k.clone(), Value::from(v.as_str())))
        .collect();
    // No labels and an empty map mean the same: what is written stays.
    if !labels.is_empty() || state.get("labels").members().is_some_and(|m| !m.is_empty()) {
        state.set(
            "labels",
            if labels.is_empty() {
                Value::Null
            } else {
                Value::map(labels)
            },
        );
    }
    Ok(())
}

/// Whether a tag is gpuloom's own.
fn own(key: &str) -> bool {
    key.starts_with("gpuloom:")
}

/// Port 0 in the configuration is whatever port was taken.
fn means_the_same(written: &str, running: Option<&str>) -> bool {
    let address = |s: &str| s.parse::<SocketAddr>().ok();
    match (address(written), running.and_then(address)) {
        (Some(written), Some(running)) => {
            written == running || written.port() == 0 && written.ip() == running.ip()
        }
        _ => false,
    }
}

/// The last lines of the lead's log, on this machine.
fn log_tail(lead: &LeadInstance) -> String {
    let Some(here) = &lead.here else {
        return String::new();
    };
    let text = std::fs::read(here.data_dir.join("agent.log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().rev().take(10).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{means_the_same, own};

    #[test]
    fn port_0_means_the_port_that_was_taken() {
        assert!(means_the_same("127.0.0.1:0", Some("127.0.0.1:4000")));
        assert!(!means_the_same("127.0.0.2:0", Some("127.0.0.1:4000")));
        assert!(!means_the_same("127.0.0.1:4001", Some("127.0.0.1:4000")));
    }

    #[test]
    fn gpulooms_own_tags_are_no_labels() {
        assert!(own(gpuloom_cloud::Tags::FLEET) && own(gpuloom_cloud::Tags::REVISION));
        assert!(!own("team"));
    }
}
