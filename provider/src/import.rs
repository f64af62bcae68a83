//! Import ids. Of a fleet: `<name>` on this machine, `<place>/<name>` on a cloud, with `@<endpoint>` for a private one.
//! Of an object: `<fleet name>/<object name>` on this machine, `<endpoint>|<ca_pin>|<object name>` anywhere.

use gpuloom_fleet::{AwsPlace, AzurePlace, GcpPlace, Kind, PoolPlace};
use tfplug::{Diagnostic, Diagnostics, ImportCtx, Value};

use crate::configure::Settings;
use crate::convert::{Connection, Site};
use crate::lead::{Lead, Unreachable};
use crate::lead_instance;

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
    let found = match settings.seen(id) {
        Some(at) => lead_instance::find(settings, &at.site, &at.name).await?,
        None => None,
    };
    let mut fleets: Vec<_> = found.into_iter().collect();
    if fleets.is_empty() {
        fleets = lead_instance::here(settings).await?;
    }
    let found = fleets
        .into_iter()
        .filter_map(|f| f.connection)
        .find(|c| c.id == id);
    let detail = format!(
        "No fleet on this machine and no gpuloom_fleet of this configuration has the id {id:?}. Import by `<endpoint>|<ca_pin>|{name}` instead."
    );
    let missing = || Diagnostic::error("Cannot find the fleet", detail);
    Ok((found.ok_or_else(missing)?, name))
}

async fn by_id(settings: &Settings, id: &str) -> Result<(Connection, String), Diagnostics> {
    match parse(id) {
        Some(ObjectId::Local { fleet, name }) => {
            let site = Site::Local(Default::default());
            let found = lead_instance::find(settings, &site, fleet).await?;
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

/// Where a lead runs, as an identity and an import id say it; `None` for this machine.
pub(crate) fn place_id(site: &Site) -> Option<String> {
    match site.place() {
        PoolPlace::Local | PoolPlace::Existing => None,
        PoolPlace::Aws(p) => Some(format!("aws/{}", p.region)),
        PoolPlace::Gcp(p) => Some(format!("gcp/{}/{}", p.project, p.region)),
        PoolPlace::Azure(p) => Some(format!(
            "azure/{}/{}/{}",
            p.subscription, p.resource_group, p.location
        )),
    }
}

/// The import id of a fleet.
pub(crate) fn fleet_id(site: &Site, name: &str) -> String {
    let Some(place) = place_id(site) else {
        return name.to_owned();
    };
    match site.place().endpoint() {
        Some(endpoint) => format!("{place}/{name}@{endpoint}"),
        None => format!("{place}/{name}"),
    }
}

/// A fleet's name and place from its identity.
pub(crate) fn fleet_by_identity(identity: &Value) -> Result<(String, PoolPlace), Diagnostics> {
    let identity = identity.view();
    let name = identity.attr("name").str()?.to_owned();
    let place = identity.attr("place").opt_str()?.unwrap_or_default();
    let endpoint = identity.attr("endpoint").opt_str()?;
    let read = parse_place(place, endpoint).ok_or_else(|| malformed(place))?;
    Ok((name, read))
}

/// A fleet's name and place from its import id.
pub(crate) fn fleet_by_id(id: &str) -> Result<(String, PoolPlace), Diagnostics> {
    let (id, endpoint) = match id.split_once('@') {
        Some((id, endpoint)) => (id, Some(endpoint)),
        None => (id, None),
    };
    let (place, name) = id.rsplit_once('/').unwrap_or(("", id));
    let place = parse_place(place, endpoint).ok_or_else(|| malformed(id))?;
    Ok((name.to_owned(), place))
}

fn malformed(id: &str) -> Diagnostic {
    let detail = format!(
        "{id:?} is not `<name>`, for a fleet on this machine, nor one of `aws/<region>/<name>`, \
         `gcp/<project>/<region>/<name>` and `azure/<subscription>/<resource group>/<location>/<name>`, each with \
         `@<endpoint>` behind it where the cloud is reached by a private one."
    );
    Diagnostic::error("Malformed import id", detail)
}

fn parse_place(place: &str, endpoint: Option<&str>) -> Option<PoolPlace> {
    let endpoint = endpoint.map(str::to_owned);
    let parts: Vec<&str> = place.split('/').collect();
    if place.is_empty() {
        return endpoint.is_none().then_some(PoolPlace::Local);
    }
    if parts.iter().any(|p| p.is_empty()) {
        return None;
    }
    let own = str::to_owned;
    match parts.as_slice() {
        ["aws", region] => Some(PoolPlace::Aws(Box::new(AwsPlace {
            region: own(region),
            endpoint,
            ..AwsPlace::default()
        }))),
        ["gcp", project, region] => Some(PoolPlace::Gcp(Box::new(GcpPlace {
            project: own(project),
            region: own(region),
            endpoint,
            ..GcpPlace::default()
        }))),
        ["azure", subscription, group, location] => Some(PoolPlace::Azure(Box::new(AzurePlace {
            subscription: own(subscription),
            resource_group: own(group),
            location: own(location),
            endpoint,
            ..AzurePlace::default()
        }))),
        _ => None,
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
    fn a_fleets_import_id_says_where_its_lead_runs() {
        for id in [
            "ml",
            "aws/us-east-1/ml",
            "aws/us-east-1/ml@http://127.0.0.1:5000/x",
            "gcp/my-project/us-central1/ml",
            "azure/s/g/eastus/ml",
        ] {
            let (name, place) = fleet_by_id(id).expect("reads");
            assert_eq!(name, "ml");
            assert_eq!(fleet_id(&Site::of_place(place), &name), id);
        }
        for bad in ["aws/ml", "aws//ml", "gcp/p/ml", "oci/r/ml", "ml@http://x"] {
            assert!(fleet_by_id(bad).is_err(), "{bad}");
        }
    }

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
