//! Bringing a fleet's lead up: launched or adopted, started again, upgraded; waited for, bounded.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use gpuloom_cloud::{
    Cloud, FailureClass, Instance, InstanceState, LaunchError, Tags, Token, failpoint,
};
use gpuloom_fleet::FleetName;
use sha2::{Digest, Sha256};
use tfplug::{CancellationToken, Diagnostic, Diagnostics, OrDiag, Value};
use tokio::time::{Instant, sleep};

use super::note::{Note, setting};
use crate::configure::Settings;
use crate::lead::Unreachable;
use crate::local::{LocalFleet, lead_id};
use crate::lost;

/// Where a lead answers unless `listen` says so.
const LISTEN: &str = "127.0.0.1:0";
/// Between two looks at a lead that comes up.
const LOOK: Duration = Duration::from_millis(50);

/// Launches the lead of a planned fleet, or adopts what an interrupted creation launched, and waits
/// until it answers. An error leaves nothing behind.
pub(super) async fn create(
    settings: &Settings,
    planned: &Value,
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<LocalFleet, Diagnostics> {
    let name = planned.view().attr("name").str()?.to_owned();
    let fleet = FleetName::new(name.as_str()).or_diag("Invalid name")?;
    let root = settings.local.root()?;
    settings.local.program_path()?;
    if !settings.claim_fleet(&name) {
        let detail = "Another gpuloom_fleet of this configuration has the same name. Give one of them another.";
        return Err(
            Diagnostic::error(format!("Fleet {name} is declared twice"), detail)
                .at("name")
                .into(),
        );
    }
    let (note, path) = note(settings, planned, &name).await?;
    failpoint::hit("provider.fleet.note.before");
    note.store(&path)
        .or_diag(format!("Cannot write {}", path.display()))?;
    failpoint::hit("provider.fleet.note.after");
    let cloud = settings.local.cloud()?;
    failpoint::hit("provider.fleet.launch.before");
    let launched = cloud.launch(&note.request(fleet, &root)?).await;
    failpoint::hit("provider.fleet.launch.after");
    let result = match launched {
        Ok(_) => answer(settings, &name, limit, cancel).await,
        Err(error) => Err(launch_refused(&name, &error)),
    };
    match result {
        Ok(found) => Ok(found),
        Err(mut diagnostics) => {
            if let Err(more) = take_back(settings, &name, &note.token).await {
                diagnostics.extend(more);
            }
            Err(diagnostics)
        }
    }
}

/// The note of this creation: that of an interrupted one if it says the same, else a new one.
async fn note(
    settings: &Settings,
    planned: &Value,
    name: &str,
) -> Result<(Note, PathBuf), Diagnostics> {
    let local = planned.get("local");
    let listen = local.get("listen").as_str().unwrap_or(LISTEN);
    let listen: SocketAddr = listen
        .parse()
        .or_diag(format!("local.listen = {listen:?} is not an address"))?;
    let mut wanted = Note {
        v: 1,
        token: token(settings, name)?,
        listen,
        simulate: local.get("simulate").as_str().map(str::to_owned),
        labels: labels(planned),
        admin_public_key: settings.key()?.public_key().to_string(),
    };
    let path = Note::path(settings, name)?;
    if let Some(old) = Note::load(&path)? {
        let there = settings.local.fleet(name).await?;
        let ending = there
            .as_ref()
            .is_some_and(|f| f.instance.state == InstanceState::Terminating);
        if let Some(there) = there.filter(|_| !ending)
            && old.admin_public_key != wanted.admin_public_key
        {
            return Err(somebody_elses(name, &there));
        }
        if !ending && old.says_the_same(&wanted, listen.port() == 0) {
            return Ok((old, path));
        }
        // Nobody has seen that creation: what it launched makes room for this one, as does one whose taking back was
        // interrupted.
        take_back(settings, name, &old.token).await?;
    } else if let Some(there) = settings.local.fleet(name).await? {
        let detail = format!(
            "Its lead is instance {} in {}. Take it over with: terraform import gpuloom_fleet.<label> {name}",
            there.instance.id,
            there.data_dir.display()
        );
        return Err(
            Diagnostic::error(format!("Fleet {name} exists already"), detail)
                .at("name")
                .into(),
        );
    }
    if wanted.listen.port() == 0 {
        wanted.listen =
            free_port(wanted.listen).or_diag(format!("Cannot listen on {}", wanted.listen))?;
    }
    Ok((wanted, path))
}

/// An interrupted creation of another admin: whether that fleet is used cannot be asked, so it is not ended.
fn somebody_elses(name: &str, there: &LocalFleet) -> Diagnostics {
    let detail = format!(
        "Its lead is instance {} in {}, created with another admin key and not read back since. Use that key, or \
         choose another name.",
        there.instance.id,
        there.data_dir.display()
    );
    Diagnostic::error(format!("Fleet {name} exists already"), detail)
        .at("name")
        .into()
}

/// One for each fleet of this process.
fn token(settings: &Settings, name: &str) -> Result<Token, Diagnostics> {
    let digest = hex::encode(Sha256::digest(name));
    let text = format!("{}-{}", settings.session, &digest[..8]);
    Token::new(text).map_err(|e| Diagnostic::error("Invalid launch token", e).into())
}

fn labels(planned: &Value) -> Tags {
    let members = planned.get("labels").members().into_iter().flatten();
    Tags(
        members
            .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
            .collect(),
    )
}

/// A port that nobody listens on now. It is the fleet's for life: nodes and people know it by it.
fn free_port(any: SocketAddr) -> std::io::Result<SocketAddr> {
    TcpListener::bind(any)?.local_addr()
}

fn launch_refused(name: &str, error: &LaunchError) -> Diagnostics {
    let advice = match error.class {
        FailureClass::Auth => {
            " Run as a user who may write there, or set local { root } in the provider block."
        }
        _ => "",
    };
    let detail = format!("{}.{advice}", error.message.trim_end_matches('.'));
    Diagnostic::error(format!("Cannot launch the lead of fleet {name}"), detail).into()
}

/// Ends what a creation launched, verified, and forgets it. Another's lead of the name is left alone.
async fn take_back(settings: &Settings, name: &str, token: &Token) -> Result<(), Diagnostics> {
    if let Some(fleet) = settings.local.fleet(name).await?
        && fleet.instance.token == *token
    {
        lost::terminate(settings, std::slice::from_ref(&fleet.instance)).await?;
        // It may have launched nodes for objects of an earlier, interrupted apply.
        let nodes = lost::fleet_instances(settings, name).await?;
        lost::terminate(settings, &nodes).await?;
        if let Some(connection) = &fleet.connection {
            settings.forget(&connection.id);
        }
    }
    Note::remove(settings, name)
}

/// Waits until the lead says where it answers, and does.
async fn answer(
    settings: &Settings,
    name: &str,
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<LocalFleet, Diagnostics> {
    let deadline = Instant::now() + limit;
    let mut last = String::from("it has not said yet where it answers");
    loop {
        let fleet = settings.local.fleet(name).await?;
        let Some(fleet) = fleet else {
            let detail = "Its instance disappeared: somebody else terminated it.";
            return Err(Diagnostic::error(format!("Fleet {name} did not come up"), detail).into());
        };
        let log = log_tail(&fleet);
        if fleet.instance.state == InstanceState::Stopped {
            let detail = format!("Its agent ended. The end of its log:\n{log}");
            return Err(Diagnostic::error(format!("Fleet {name} did not come up"), detail).into());
        }
        if let Some(connection) = &fleet.connection {
            settings.forget(&connection.id);
            match settings.reach(connection).await {
                Ok(_) => return Ok(fleet),
                Err(Unreachable::Refused(diagnostics)) => return Err(diagnostics),
                Err(Unreachable::Silent(why)) => last = why,
            }
        }
        if Instant::now() >= deadline {
            let detail = format!("After {limit:?}: {last}. The end of its log:\n{log}");
            return Err(
                Diagnostic::error(format!("Fleet {name} did not come up in time"), detail).into(),
            );
        }
        tokio::select! {
            () = cancel.cancelled() => {
                let detail = "Terraform was asked to stop.";
                return Err(Diagnostic::error(format!("Fleet {name} was not waited for"), detail).into());
            }
            () = sleep(LOOK) => {}
        }
    }
}

/// Starts a lead that does not run, and restarts one that runs another program than ours.
pub(super) async fn start(
    settings: &Settings,
    name: &str,
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<LocalFleet, Diagnostics> {
    let gone = || -> Diagnostics {
        let detail = "Its instance is gone. Plan again: it will be created anew.";
        Diagnostic::error(format!("Fleet {name} does not exist any more"), detail).into()
    };
    let fleet = settings.local.fleet(name).await?.ok_or_else(gone)?;
    let id = lead_id(name).ok_or_else(gone)?;
    let cloud = settings.local.cloud()?;
    let other = settings.local.program()?.sha256 != fleet.program.sha256;
    if fleet.instance.state == InstanceState::Running && other {
        failpoint::hit("provider.fleet.stop.before");
        cloud.stop(&id).await.or_diag(format!(
            "Cannot stop the lead of fleet {name} to upgrade it"
        ))?;
        failpoint::hit("provider.fleet.stop.after");
    }
    failpoint::hit("provider.fleet.start.before");
    let started: Result<Instance, LaunchError> = cloud.start(&id).await;
    failpoint::hit("provider.fleet.start.after");
    started.or_diag(format!("Cannot start the lead of fleet {name}"))?;
    answer(settings, name, limit, cancel).await
}

/// What was configured at the launch, for the state: where the driver's record says so.
pub(super) fn put_configured(state: &mut Value, fleet: &LocalFleet) -> Result<(), Diagnostics> {
    let path = fleet.data_dir.join("agent.toml");
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
    let own = [Tags::FLEET, Tags::POOL, Tags::ROLE, Tags::TOKEN];
    let labels = fleet
        .instance
        .tags
        .0
        .iter()
        .filter(|(k, _)| !own.contains(&k.as_str()));
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

/// The last lines of the lead's log.
fn log_tail(fleet: &LocalFleet) -> String {
    let text = std::fs::read(fleet.data_dir.join("agent.log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().rev().take(10).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::means_the_same;

    #[test]
    fn port_0_means_the_port_that_was_taken() {
        assert!(means_the_same("127.0.0.1:0", Some("127.0.0.1:4000")));
        assert!(!means_the_same("127.0.0.2:0", Some("127.0.0.1:4000")));
        assert!(!means_the_same("127.0.0.1:4001", Some("127.0.0.1:4000")));
    }
}
