//! Where a pool's nodes come from.

use super::{Fields, sorted, unsorted};
use crate::proto;
use gpuloom_fleet::{AgentSource, AwsPlace, AzurePlace, GcpPlace, PoolPlace};
use proto::pool_spec::Place;

/// The place's number and, for a cloud, its message.
pub(super) fn put(place: &PoolPlace, to: &mut proto::PoolSpec) {
    let which = match place {
        PoolPlace::Local => Place::Local,
        PoolPlace::Existing => Place::Existing,
        PoolPlace::Aws(p) => {
            to.aws = Some((&**p).into());
            Place::Aws
        }
        PoolPlace::Gcp(p) => {
            to.gcp = Some((&**p).into());
            Place::Gcp
        }
        PoolPlace::Azure(p) => {
            to.azure = Some((&**p).into());
            Place::Azure
        }
    };
    to.place = which.into();
}

/// Takes the place out of `from`; one whose message is missing is a problem of it.
pub(super) fn take(from: &mut proto::PoolSpec, f: &mut Fields) -> Option<PoolPlace> {
    let which = f.choice("place", from.place, |p: Place| {
        (p != Place::Unspecified).then_some(p)
    })?;
    let found = match which {
        Place::Unspecified => None,
        Place::Local => Some(PoolPlace::Local),
        Place::Existing => Some(PoolPlace::Existing),
        Place::Aws => from.aws.take().map(|p| PoolPlace::Aws(Box::new(p.into()))),
        Place::Gcp => from.gcp.take().map(|p| PoolPlace::Gcp(Box::new(p.into()))),
        Place::Azure => {
            let azure = from.azure.take();
            azure.map(|p| PoolPlace::Azure(Box::new(p.into())))
        }
    };
    if found.is_none() {
        let field = which.as_str_name().to_ascii_lowercase();
        f.0.add(
            field,
            "",
            "is missing",
            "state it, as the place is its cloud",
        );
    }
    found
}

// === AgentSource ===

fn package(source: &AgentSource) -> Option<proto::AgentPackage> {
    match source {
        AgentSource::Image => None,
        AgentSource::Package { url, sha256 } => Some(proto::AgentPackage {
            url: url.clone(),
            sha256: sha256.clone(),
        }),
    }
}

fn source(package: Option<proto::AgentPackage>) -> AgentSource {
    match package {
        None => AgentSource::Image,
        Some(p) => AgentSource::Package {
            url: p.url,
            sha256: p.sha256,
        },
    }
}

// === AwsPlace ===

impl From<&AwsPlace> for proto::AwsPlace {
    fn from(p: &AwsPlace) -> Self {
        Self {
            region: p.region.clone(),
            subnets: p.subnets.clone(),
            instance_types: p.instance_types.clone(),
            image: p.image.clone(),
            instance_profile: p.instance_profile.clone(),
            security_groups: p.security_groups.clone(),
            public_address: p.public_address,
            root_disk_gib: p.root_disk_gib,
            tags: unsorted(&p.tags),
            endpoint: p.endpoint.clone(),
            agent: package(&p.agent),
        }
    }
}

impl From<proto::AwsPlace> for AwsPlace {
    fn from(p: proto::AwsPlace) -> Self {
        Self {
            region: p.region,
            subnets: p.subnets,
            instance_types: p.instance_types,
            image: p.image,
            instance_profile: p.instance_profile,
            security_groups: p.security_groups,
            public_address: p.public_address,
            root_disk_gib: p.root_disk_gib,
            tags: sorted(p.tags),
            endpoint: p.endpoint,
            agent: source(p.agent),
        }
    }
}

// === GcpPlace ===

impl From<&GcpPlace> for proto::GcpPlace {
    fn from(p: &GcpPlace) -> Self {
        Self {
            project: p.project.clone(),
            region: p.region.clone(),
            zones: p.zones.clone(),
            machine_types: p.machine_types.clone(),
            image: p.image.clone(),
            network: p.network.clone(),
            subnetwork: p.subnetwork.clone(),
            service_account: p.service_account.clone(),
            public_address: p.public_address,
            boot_disk_gib: p.boot_disk_gib,
            labels: unsorted(&p.labels),
            endpoint: p.endpoint.clone(),
            agent: package(&p.agent),
        }
    }
}

impl From<proto::GcpPlace> for GcpPlace {
    fn from(p: proto::GcpPlace) -> Self {
        Self {
            project: p.project,
            region: p.region,
            zones: p.zones,
            machine_types: p.machine_types,
            image: p.image,
            network: p.network,
            subnetwork: p.subnetwork,
            service_account: p.service_account,
            public_address: p.public_address,
            boot_disk_gib: p.boot_disk_gib,
            labels: sorted(p.labels),
            endpoint: p.endpoint,
            agent: source(p.agent),
        }
    }
}

// === AzurePlace ===

impl From<&AzurePlace> for proto::AzurePlace {
    fn from(p: &AzurePlace) -> Self {
        Self {
            subscription: p.subscription.clone(),
            resource_group: p.resource_group.clone(),
            location: p.location.clone(),
            zones: p.zones.clone(),
            vm_sizes: p.vm_sizes.clone(),
            image: p.image.clone(),
            subnet_id: p.subnet_id.clone(),
            identity: p.identity.clone(),
            ssh_public_key: p.ssh_public_key.clone(),
            public_address: p.public_address,
            os_disk_gib: p.os_disk_gib,
            tags: unsorted(&p.tags),
            endpoint: p.endpoint.clone(),
            agent: package(&p.agent),
        }
    }
}

impl From<proto::AzurePlace> for AzurePlace {
    fn from(p: proto::AzurePlace) -> Self {
        Self {
            subscription: p.subscription,
            resource_group: p.resource_group,
            location: p.location,
            zones: p.zones,
            vm_sizes: p.vm_sizes,
            image: p.image,
            subnet_id: p.subnet_id,
            identity: p.identity,
            ssh_public_key: p.ssh_public_key,
            public_address: p.public_address,
            os_disk_gib: p.os_disk_gib,
            tags: sorted(p.tags),
            endpoint: p.endpoint,
            agent: source(p.agent),
        }
    }
}
