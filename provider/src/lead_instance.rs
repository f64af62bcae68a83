//! A fleet's lead as its place lists it, on this machine and on every cloud alike.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::Arc;

use gpuloom_cloud::{Cloud, Instance, InstanceState, Role, Tags};
use gpuloom_fleet::PoolPlace;
use serde::{Deserialize, Serialize};
use tfplug::{Diagnostics, OrDiag};

use crate::clouds::shown;
use crate::configure::Settings;
use crate::convert::{CloudSite, Connection, Reachability, Site};
use crate::local::Program;

/// Where a lead on a cloud answers.
pub(crate) const LEAD_PORT: u16 = 7443;

/// A lead's instance, and what its agent left there for whoever looks.
#[derive(Debug, Clone)]
pub(crate) struct LeadInstance {
    pub(crate) name: String,
    pub(crate) instance: Instance,
    /// `None` until its lead has said who it is and has an address.
    pub(crate) connection: Option<Connection>,
    /// `None` until its lead has said where it serves metrics.
    pub(crate) metrics_endpoint: Option<String>,
    /// What only this machine knows of it.
    pub(crate) here: Option<Here>,
}

/// A lead on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Here {
    pub(crate) data_dir: PathBuf,
    /// What it was last started with.
    pub(crate) program: Program,
}

/// Where to look for a fleet's lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeadAt {
    /// The fleet's name.
    pub(crate) name: String,
    pub(crate) site: Site,
}

// === impl LeadInstance ===

impl LeadInstance {
    /// Where it keeps its store and its log, on its own machine.
    pub(crate) fn data_dir(&self) -> String {
        self.here.as_ref().map_or_else(
            || "/var/lib/gpuloom".to_owned(),
            |here| here.data_dir.display().to_string(),
        )
    }

    /// Whether another fleet has its name than the one of this id.
    pub(crate) fn is_another_than(&self, id: Option<&str>) -> bool {
        let present = self.connection.as_ref().map(|c| c.id.as_str());
        id.zip(present)
            .is_some_and(|(known, present)| known != present)
    }
}

// === functions ===

/// The driver of a place, this machine's included.
pub(crate) async fn driver(
    settings: &Settings,
    place: &PoolPlace,
) -> Result<Arc<dyn Cloud>, Diagnostics> {
    match place {
        PoolPlace::Local | PoolPlace::Existing => Ok(Arc::new(settings.local.cloud()?.clone())),
        cloud => settings.clouds.of(cloud).await,
    }
}

/// By what the lead of a fleet is found. On a cloud another account's admin may use the same name: the key tells
/// them apart.
pub(crate) fn lead_tags(
    settings: &Settings,
    place: &PoolPlace,
    name: Option<&str>,
) -> Result<Tags, Diagnostics> {
    let mut tags = Tags([(Tags::ROLE.to_owned(), Role::Lead.to_string())].into());
    if let Some(name) = name {
        tags.0.insert(Tags::FLEET.to_owned(), name.to_owned());
    }
    if place.is_cloud() {
        tags = tags.with_fleet_id(&settings.lead_tag()?);
    }
    Ok(tags)
}

/// The lead of the fleet of this name, if there is one. While an interrupted replacement left two, the one that
/// runs, else the newer one.
pub(crate) async fn find(
    settings: &Settings,
    site: &Site,
    name: &str,
) -> Result<Option<LeadInstance>, Diagnostics> {
    let mut found = list(settings, site, Some(name)).await?;
    found.sort_by_key(|i| {
        let standing = match i.state {
            InstanceState::Running => 0,
            InstanceState::Launching => 1,
            InstanceState::Stopped => 2,
            InstanceState::Terminating => 3,
        };
        (standing, Reverse(i.launched_at))
    });
    for instance in found {
        // One that ended since it was listed is no lead any more.
        if let Some(lead) = look_at(settings, site, instance).await? {
            return Ok(Some(lead));
        }
    }
    Ok(None)
}

/// Every lead of this machine.
pub(crate) async fn here(settings: &Settings) -> Result<Vec<LeadInstance>, Diagnostics> {
    let site = Site::of_place(PoolPlace::Local);
    let mut leads = Vec::new();
    for instance in list(settings, &site, None).await? {
        leads.extend(look_at(settings, &site, instance).await?);
    }
    Ok(leads)
}

/// The lead of this machine with this connection's id, wherever it answers now.
pub(crate) async fn here_of(
    settings: &Settings,
    connection: &Connection,
) -> Result<Option<LeadInstance>, Diagnostics> {
    let same = |l: &LeadInstance| l.connection.as_ref().is_some_and(|c| c.id == connection.id);
    Ok(here(settings).await?.into_iter().find(same))
}

/// Its instances as the place lists them.
async fn list(
    settings: &Settings,
    site: &Site,
    name: Option<&str>,
) -> Result<Vec<Instance>, Diagnostics> {
    let place = site.place();
    let cloud = driver(settings, place).await?;
    let listed = cloud.list(&lead_tags(settings, place, name)?).await;
    listed.or_diag(match place {
        PoolPlace::Local | PoolPlace::Existing => {
            format!("Cannot list the fleets in {}", settings.local.shown_root())
        }
        cloud => format!("Cannot list the fleets on {}", shown(cloud)),
    })
}

async fn look_at(
    settings: &Settings,
    site: &Site,
    instance: Instance,
) -> Result<Option<LeadInstance>, Diagnostics> {
    let here = match site {
        Site::Local(_) => match settings.local.here(&instance.id)? {
            None => return Ok(None),
            here => here,
        },
        Site::Cloud(_) => None,
    };
    let cloud = driver(settings, site.place()).await?;
    let attribute = async |key: &str| {
        cloud
            .read_attribute(&instance.id, key)
            .await
            .or_diag(format!("Cannot read what {} says of itself", instance.id))
    };
    let (endpoint, metrics_endpoint) = match site.cloud() {
        None => (
            attribute("endpoint").await?,
            attribute("metrics-endpoint").await?,
        ),
        Some(site) => (endpoint(site, &instance), None),
    };
    let said = match endpoint {
        Some(endpoint) => attribute("fleet-id")
            .await?
            .zip(attribute("ca-pin").await?)
            .map(|(id, ca_pin)| Connection {
                id,
                endpoints: vec![endpoint],
                ca_pin,
            }),
        None => None,
    };
    let name = instance.tags.get(Tags::FLEET).unwrap_or_default();
    Ok(Some(LeadInstance {
        name: name.to_owned(),
        connection: said,
        metrics_endpoint,
        here,
        instance,
    }))
}

/// Where a lead on a cloud answers; `None` until it has that address.
pub(crate) fn endpoint(site: &CloudSite, instance: &Instance) -> Option<String> {
    let host = match &site.reachability {
        Reachability::Private => instance.private_address.as_deref()?,
        Reachability::Public => instance.public_address.as_deref()?,
        Reachability::Dns(name) => name,
    };
    Some(match host.contains(':') {
        true => format!("[{host}]:{LEAD_PORT}"),
        false => format!("{host}:{LEAD_PORT}"),
    })
}
