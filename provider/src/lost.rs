//! What is known of a fleet whose lead does not answer: what its place lists by tag, nothing else. Nothing here
//! starts an instance.

use std::time::{Duration, Instant};

use gpuloom_cloud::{Instance, InstanceState, Role, Tags, failpoint};
use gpuloom_fleet::PoolPlace;
use tfplug::{Diagnostic, Diagnostics, OrDiag};

use crate::clouds::shown;
use crate::configure::Settings;
use crate::convert::{Connection, Site};
use crate::lead::Unreachable;
use crate::lead_instance::{self, LeadAt, LeadInstance, driver, lead_tags};
use crate::say;

/// How long ending one instance may take: what a cloud needs to shut a machine down.
const ONE: Duration = Duration::from_secs(300);
/// What a bounded wait is given beyond its own bound, for the call in flight when it is over.
const CALL: Duration = Duration::from_secs(60);

/// How a fleet ended that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FleetEnd {
    /// Its lead's instance does not exist any more, verified, and its store with it.
    Gone,
    /// Its lead does not run: the store is there.
    Stopped {
        /// Where.
        store: String,
    },
}

/// Whether the fleet has ended. `known` says where its lead was last.
///
/// # Errors
/// When that cannot be said: its lead runs, or is somewhere we cannot look.
pub(crate) async fn end_of(
    settings: &Settings,
    connection: &Connection,
    known: Option<&LeadAt>,
    unreachable: Unreachable,
) -> Result<FleetEnd, Diagnostics> {
    let why = match unreachable {
        Unreachable::Silent(why) => why,
        Unreachable::Refused(diagnostics) => return Err(diagnostics),
    };
    if let Some(at) = known.filter(|at| at.site.cloud().is_some()) {
        let found = lead_instance::find(settings, &at.site, &at.name).await?;
        return match found {
            Some(lead) if lead.is_another_than(Some(&connection.id)) => Ok(FleetEnd::Gone),
            Some(lead) => standing(&lead, &why),
            None => Ok(FleetEnd::Stopped {
                store: format!("on its data disk in {}", shown(at.site.place())),
            }),
        };
    }
    match lead_instance::here_of(settings, connection).await? {
        Some(lead) => standing(&lead, &why),
        None if connection.endpoints.iter().all(|e| is_loopback(e)) => Ok(FleetEnd::Gone),
        None => {
            let advice = "whether the fleet has ended cannot be seen from here: it is not on this machine, and no \
                          gpuloom_fleet of this configuration says where it is. If it has, remove the resource with \
                          `terraform state rm`";
            let detail = say::sentences(&[&why, advice]);
            Err(Diagnostic::error("The fleet's lead does not answer", detail).into())
        }
    }
}

fn standing(lead: &LeadInstance, why: &str) -> Result<FleetEnd, Diagnostics> {
    let data_dir = lead.data_dir();
    match lead.instance.state {
        InstanceState::Stopped => Ok(FleetEnd::Stopped {
            store: format!("in {data_dir}"),
        }),
        state => {
            let advice = format!(
                "its instance {} is {state:?}; its log is {data_dir}/agent.log",
                lead.instance.id
            );
            let detail = say::sentences(&[why, &advice]);
            Err(Diagnostic::error("The fleet's lead does not answer", detail).into())
        }
    }
}

/// True for addresses of this machine itself.
fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// A pool whose nodes are looked for by their tags.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LostPool<'a> {
    pub(crate) connection: &'a Connection,
    /// As its lead told when it was last heard.
    pub(crate) fleet: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) place: &'a PoolPlace,
}

// === impl LostPool ===

impl LostPool<'_> {
    /// By what its nodes are found; `None` when nobody knows its fleet's name: then it has no nodes.
    async fn tags(&self, settings: &Settings) -> Result<Option<Tags>, Diagnostics> {
        let fleet = match (self.fleet, self.place.is_cloud()) {
            (Some(fleet), _) => Some(fleet.to_owned()),
            (None, true) => settings.seen(&self.connection.id).map(|at| at.name),
            (None, false) => lead_instance::here_of(settings, self.connection)
                .await?
                .map(|l| l.name),
        };
        Ok(fleet.map(|fleet| {
            let role = Role::Node.to_string();
            let tags = [
                (Tags::FLEET, fleet.as_str()),
                (Tags::POOL, self.name),
                (Tags::ROLE, role.as_str()),
            ];
            let tags = Tags(
                tags.into_iter()
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .collect(),
            );
            match self.place.is_cloud() {
                true => tags.with_fleet_id(&self.connection.id),
                false => tags,
            }
        }))
    }

    /// Its nodes as its place lists them.
    async fn nodes(&self, settings: &Settings) -> Result<Vec<Instance>, Diagnostics> {
        let Some(tags) = self.tags(settings).await? else {
            return Ok(Vec::new());
        };
        let cloud = driver(settings, self.place).await?;
        cloud.list(&tags).await.or_diag(format!(
            "Cannot list the nodes of pool {} on {}",
            self.name,
            shown(self.place)
        ))
    }

    /// The ids of its nodes, for people.
    pub(crate) async fn ids(&self, settings: &Settings) -> Result<Vec<String>, Diagnostics> {
        let nodes = self.nodes(settings).await?;
        Ok(nodes.iter().map(|n| n.id.to_string()).collect())
    }

    /// Terminates its nodes, found by their tags, and verifies by listing that none is left; how many there were.
    pub(crate) async fn terminate(
        &self,
        settings: &Settings,
        limit: Duration,
    ) -> Result<usize, Diagnostics> {
        let nodes = self.nodes(settings).await?;
        if let (false, Some(tags)) = (nodes.is_empty(), self.tags(settings).await?) {
            let tried = format!("Pool {} is not gone", self.name);
            terminate_all(settings, self.place, &tags, limit, &tried).await?;
        }
        Ok(nodes.len())
    }
}

// === functions ===

/// Ends a whole fleet at its lead's place, verified by listing: the lead first, so that nothing is launched again,
/// then whatever else carries its tags, then its data disk unless it is kept.
///
/// # Errors
/// Each instance that is left, by its id.
pub(crate) async fn end_fleet(
    settings: &Settings,
    site: &Site,
    name: &str,
    id: Option<&str>,
    limit: Duration,
) -> Result<(), Diagnostics> {
    let place = site.place();
    let started = Instant::now();
    let left = || limit.saturating_sub(started.elapsed());
    let tried = format!("Fleet {name} is not gone");
    let lead = lead_tags(settings, place, Some(name))?;
    terminate_all(settings, place, &lead, left(), &tried).await?;
    if let Some(nodes) = fleet_tags(place, name, id) {
        terminate_all(settings, place, &nodes, left(), &tried).await?;
    }
    if let Some(cloud) = site.cloud()
        && !cloud.keep_disk
    {
        // A disk has no role.
        let mut disk = lead;
        disk.0.remove(Tags::ROLE);
        let deleted = driver(settings, place).await?.delete_disks(&disk).await;
        deleted.or_diag(format!("The data disk of fleet {name} is not gone"))?;
    }
    Ok(())
}

/// Ends everything that carries a fleet's tags at its lead's place, but no disk.
pub(crate) async fn terminate_fleet(
    settings: &Settings,
    place: &PoolPlace,
    name: &str,
    id: Option<&str>,
) -> Result<(), Diagnostics> {
    let Some(tags) = fleet_tags(place, name, id) else {
        return Ok(());
    };
    let tried = format!("Fleet {name} is not gone");
    terminate_all(settings, place, &tags, ONE, &tried).await
}

/// By what a fleet's nodes are found; on a cloud only with its id: others may have its name there.
fn fleet_tags(place: &PoolPlace, name: &str, id: Option<&str>) -> Option<Tags> {
    let tags = Tags([(Tags::FLEET.to_owned(), name.to_owned())].into());
    match (place.is_cloud(), id) {
        (false, _) => Some(tags),
        (true, Some(id)) => Some(tags.with_fleet_id(id)),
        (true, None) => None,
    }
}

/// Terminates instances, each verified.
pub(crate) async fn terminate(
    settings: &Settings,
    place: &PoolPlace,
    instances: &[Instance],
) -> Result<(), Diagnostics> {
    let cloud = driver(settings, place).await?;
    for instance in instances {
        failpoint::hit("provider.terminate.before");
        cloud
            .terminate(&instance.id)
            .await
            .or_diag(format!("Cannot terminate {}", instance.id))?;
        failpoint::hit("provider.terminate.after");
    }
    Ok(())
}

async fn terminate_all(
    settings: &Settings,
    place: &PoolPlace,
    tags: &Tags,
    limit: Duration,
    tried: &str,
) -> Result<(), Diagnostics> {
    let cloud = driver(settings, place).await?;
    // A limit beyond what the clock holds is a year: nobody waits that long.
    let limit = limit.min(Duration::from_secs(gpuloom_fleet::MAX_DURATION_S));
    failpoint::hit("provider.terminate.before");
    let ended = cloud.terminate_all(tags, Instant::now() + limit);
    let ended = tokio::time::timeout(limit + CALL, ended).await;
    failpoint::hit("provider.terminate.after");
    let why = match ended {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.message,
        Err(_elapsed) => format!("{} did not answer within {limit:?}", shown(place)),
    };
    let detail = say::sentences(&[&why, "destroy again"]);
    Err(Diagnostic::error(tried, detail).into())
}

#[cfg(test)]
mod tests {
    use super::{fleet_tags, is_loopback};
    use gpuloom_fleet::PoolPlace;

    #[test]
    fn only_this_machine_is_this_machine() {
        for here in ["127.0.0.1:1", "[::1]:7443", "localhost:7443", "127.9.9.9:2"] {
            assert!(is_loopback(here), "{here}");
        }
        for there in ["10.0.0.1:1", "lead.example.com:7443", "[2001:db8::1]:1"] {
            assert!(!is_loopback(there), "{there}");
        }
    }

    #[test]
    fn on_a_cloud_nothing_is_ended_by_a_name_alone() {
        let aws = PoolPlace::Aws(Box::default());
        assert_eq!(fleet_tags(&aws, "ml", None), None);
        let tags = fleet_tags(&aws, "ml", Some("f-1")).expect("tags");
        assert_eq!(tags.get(gpuloom_cloud::Tags::FLEET_ID), Some("f-1"));
        assert!(fleet_tags(&PoolPlace::Local, "ml", None).is_some());
    }
}
