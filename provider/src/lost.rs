//! What is known of a fleet whose lead does not answer: what its cloud lists by tag, nothing else.

use gpuloom_cloud::{Cloud, Instance, InstanceState, Role, Tags, failpoint};
use tfplug::{Diagnostic, Diagnostics, OrDiag};

use crate::configure::Settings;
use crate::convert::Connection;
use crate::lead::Unreachable;
use crate::say;

/// How a fleet ended that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FleetEnd {
    /// Its lead's instance does not exist any more, verified.
    Gone,
    /// Its lead's instance exists and its process does not run: the store is there.
    Stopped {
        /// Where.
        data_dir: String,
    },
}

/// Whether the fleet has ended.
///
/// # Errors
/// When that cannot be said: its lead runs, or is somewhere we cannot look.
pub(crate) async fn end_of(
    settings: &Settings,
    connection: &Connection,
    unreachable: Unreachable,
) -> Result<FleetEnd, Diagnostics> {
    let why = match unreachable {
        Unreachable::Silent(why) => why,
        Unreachable::Refused(diagnostics) => return Err(diagnostics),
    };
    let found = settings.local.fleet_of(connection).await?;
    let Some(fleet) = found else {
        if connection.endpoints.iter().all(|e| is_loopback(e)) {
            return Ok(FleetEnd::Gone);
        }
        let advice = "whether the fleet has ended cannot be seen from here: it is not on this machine. If it has, \
                      remove the resource with `terraform state rm`";
        let detail = say::sentences(&[&why, advice]);
        return Err(Diagnostic::error("The fleet's lead does not answer", detail).into());
    };
    let data_dir = fleet.data_dir.display().to_string();
    match fleet.instance.state {
        InstanceState::Stopped => Ok(FleetEnd::Stopped { data_dir }),
        state => {
            let advice = format!(
                "its instance {} is {state:?}; its log is {data_dir}/agent.log",
                fleet.instance.id
            );
            let detail = say::sentences(&[&why, &advice]);
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

/// The nodes of a pool that this machine lists by their tags.
async fn instances(
    settings: &Settings,
    connection: &Connection,
    fleet_name: Option<&str>,
    pool: &str,
) -> Result<Vec<Instance>, Diagnostics> {
    let found = settings.local.fleet_of(connection).await?;
    let name = fleet_name
        .map(str::to_owned)
        .or_else(|| found.map(|f| f.name));
    let Some(name) = name else {
        // Never seen alive by this provider and without a lead here: it has no nodes here.
        return Ok(Vec::new());
    };
    let tags = [
        (Tags::FLEET, name.as_str()),
        (Tags::POOL, pool),
        (Tags::ROLE, "node"),
    ];
    debug_assert_eq!(Role::Node.to_string(), "node", "the tag's word");
    let tags = Tags(
        tags.into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
    );
    let cloud = settings.local.cloud()?;
    cloud.list(&tags).await.or_diag(format!(
        "Cannot list the nodes of pool {pool} on this machine"
    ))
}

/// The ids of a pool's nodes, for people.
pub(crate) async fn pool_nodes(
    settings: &Settings,
    connection: &Connection,
    fleet_name: Option<&str>,
    pool: &str,
) -> Result<Vec<String>, Diagnostics> {
    let nodes = instances(settings, connection, fleet_name, pool).await?;
    Ok(nodes.iter().map(|n| n.id.to_string()).collect())
}

/// Terminates a pool's nodes and verifies that none is left; returns how many there were.
pub(crate) async fn terminate_pool(
    settings: &Settings,
    connection: &Connection,
    fleet_name: Option<&str>,
    pool: &str,
) -> Result<usize, Diagnostics> {
    let nodes = instances(settings, connection, fleet_name, pool).await?;
    terminate(settings, &nodes).await?;
    let left = instances(settings, connection, fleet_name, pool).await?;
    if left.is_empty() {
        return Ok(nodes.len());
    }
    let ids: Vec<_> = left.iter().map(|i| i.id.to_string()).collect();
    let detail = format!("{} are still listed. Destroy again.", ids.join(", "));
    Err(Diagnostic::error(format!("Pool {pool} is not gone"), detail).into())
}

/// Every instance of a fleet on this machine.
pub(crate) async fn fleet_instances(
    settings: &Settings,
    fleet_name: &str,
) -> Result<Vec<Instance>, Diagnostics> {
    let tags = Tags([(Tags::FLEET.to_owned(), fleet_name.to_owned())].into());
    let listed = settings.local.cloud()?.list(&tags).await;
    listed.or_diag(format!("Cannot list the instances of fleet {fleet_name}"))
}

/// Terminates instances of this machine, each verified.
pub(crate) async fn terminate(
    settings: &Settings,
    instances: &[Instance],
) -> Result<(), Diagnostics> {
    let cloud = settings.local.cloud()?;
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

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_this_machine_is_this_machine() {
        for here in ["127.0.0.1:1", "[::1]:7443", "localhost:7443", "127.9.9.9:2"] {
            assert!(is_loopback(here), "{here}");
        }
        for there in ["10.0.0.1:1", "lead.example.com:7443", "[2001:db8::1]:1"] {
            assert!(!is_loopback(there), "{there}");
        }
    }
}
