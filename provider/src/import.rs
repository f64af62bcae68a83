//! Import ids: `<fleet name>/<object name>` on this machine, `<endpoint>|<ca_pin>|<object name>` anywhere.

use gpuloom_fleet::Kind;
use tfplug::{Diagnostic, Diagnostics, ImportCtx, Value};

use crate::configure::Settings;
use crate::convert::Connection;
use crate::lead::{Lead, Unreachable};

/// The stub of a declared object that is imported: its fleet and its name.
pub(crate) async fn object(ctx: &mut ImportCtx) -> Result<Value, Diagnostics> {
    let settings = ctx.data::<Settings>()?;
    let (connection, name) = match &ctx.identity {
        Some(identity) => by_identity(&settings, identity).await?,
        None => by_id(&settings, &ctx.id).await?,
    };
    Ok(ctx
        .empty
        .clone()
        .with("fleet", connection.value())
        .with("name", name))
}

async fn by_identity(
    settings: &Settings,
    identity: &Value,
) -> Result<(Connection, String), Diagnostics> {
    let identity = identity.view();
    let id = identity.attr("fleet_id").str()?;
    let name = identity.attr("name").str()?.to_owned();
    let fleets = settings.local.fleets().await?;
    let found = fleets
        .into_iter()
        .filter_map(|f| f.connection)
        .find(|c| c.id == id);
    let detail = format!(
        "No fleet on this machine has the id {id:?}. Import by `<endpoint>|<ca_pin>|{name}` instead."
    );
    let missing = || Diagnostic::error("Cannot find the fleet", detail);
    Ok((found.ok_or_else(missing)?, name))
}

async fn by_id(settings: &Settings, id: &str) -> Result<(Connection, String), Diagnostics> {
    match parse(id) {
        Some(ObjectId::Local { fleet, name }) => {
            let found = settings.local.fleet(fleet).await?;
            let connection = found.and_then(|f| f.connection).ok_or_else(|| {
                let detail = format!(
                    "There is no fleet {fleet:?} in {}. Import by `<endpoint>|<ca_pin>|{name}` if it is elsewhere.",
                    settings.local.shown_root()
                );
                Diagnostic::error("Cannot find the fleet", detail)
            })?;
            Ok((connection, name.to_owned()))
        }
        Some(ObjectId::Anywhere {
            endpoint,
            ca_pin,
            name,
        }) => {
            let endpoints = [endpoint.to_owned()];
            let lead = Lead::connect_anyhow(&endpoints, ca_pin, settings.key()?).await;
            let lead = lead.map_err(|unreachable| match unreachable {
                Unreachable::Refused(diagnostics) => diagnostics,
                Unreachable::Silent(why) => {
                    Diagnostic::error("The fleet's lead does not answer", why).into()
                }
            })?;
            let connection = Connection {
                id: lead.hello().fleet_id.clone(),
                endpoints: endpoints.into(),
                ca_pin: ca_pin.to_owned(),
            };
            Ok((connection, name.to_owned()))
        }
        None => {
            let detail = format!(
                "{id:?} is neither `<fleet name>/<object name>`, for a fleet on this machine, nor \
                 `<endpoint>|<ca_pin>|<object name>`."
            );
            Err(Diagnostic::error("Malformed import id", detail).into())
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum ObjectId<'a> {
    Local {
        fleet: &'a str,
        name: &'a str,
    },
    Anywhere {
        endpoint: &'a str,
        ca_pin: &'a str,
        name: &'a str,
    },
}

fn parse(id: &str) -> Option<ObjectId<'_>> {
    let parts: Vec<&str> = id.split('|').collect();
    match parts.as_slice() {
        [endpoint, ca_pin, name] if [endpoint, ca_pin, name].iter().all(|p| !p.is_empty()) => {
            Some(ObjectId::Anywhere {
                endpoint,
                ca_pin,
                name,
            })
        }
        [local] => {
            let (fleet, name) = local.split_once('/')?;
            let good = !fleet.is_empty() && !name.is_empty() && !name.contains('/');
            good.then_some(ObjectId::Local { fleet, name })
        }
        _ => None,
    }
}

/// The command that imports the object of a planned value; its address is not known here.
pub(crate) fn hint(kind: Kind, planned: &Value) -> Option<String> {
    let connection = Connection::read(&planned.view().attr("fleet")).ok()?;
    let name = planned.get("name").as_str()?;
    let endpoint = connection.endpoints.first()?;
    let pin = &connection.ca_pin;
    Some(format!(
        "terraform import gpuloom_{kind}.<label> '{endpoint}|{pin}|{name}'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn import_ids_read_or_are_refused() {
        let local = Some(ObjectId::Local {
            fleet: "ml",
            name: "t4",
        });
        assert_eq!(parse("ml/t4"), local);
        let anywhere = Some(ObjectId::Anywhere {
            endpoint: "h:1",
            ca_pin: "sha256:00",
            name: "t4",
        });
        assert_eq!(parse("h:1|sha256:00|t4"), anywhere);
        for bad in [
            "", "t4", "/t4", "ml/", "ml/a/b", "h:1|t4", "h:1||t4", "|p|n", "a|b|c|d",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
