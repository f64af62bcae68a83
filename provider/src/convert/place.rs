//! Clouds: the `aws`, `gcp` and `azure` blocks, the same in a pool and in a fleet.

use std::collections::BTreeMap;

use gpuloom_fleet::{AgentSource, AwsPlace, AzurePlace, GcpPlace, PoolPlace};
use tfplug::Value;

use super::reader::Reader;

/// The blocks of the three clouds, by name.
pub(crate) const CLOUDS: [&str; 3] = ["aws", "gcp", "azure"];
/// The disk that an instance starts from, in GiB, unless the block says so.
pub(crate) const DISK_GIB: u32 = 100;

/// The place that one of the clouds' blocks of `r` declares; `None` when there is none.
pub(super) fn read(r: &Reader<'_>) -> Option<PoolPlace> {
    if r.has("aws") {
        return Some(PoolPlace::Aws(Box::new(aws(&r.nested("aws")))));
    }
    if r.has("gcp") {
        return Some(PoolPlace::Gcp(Box::new(gcp(&r.nested("gcp")))));
    }
    if r.has("azure") {
        return Some(PoolPlace::Azure(Box::new(azure(&r.nested("azure")))));
    }
    None
}

fn aws(r: &Reader<'_>) -> AwsPlace {
    AwsPlace {
        region: r.text("region"),
        subnets: r.texts("subnets"),
        instance_types: r.texts("instance_types"),
        image: r.text("image"),
        instance_profile: r.opt_text("instance_profile"),
        security_groups: r.texts("security_groups"),
        public_address: r.flag("public_address", false),
        root_disk_gib: r.count("root_disk_gib", DISK_GIB),
        tags: r.labels("tags"),
        endpoint: r.opt_text("endpoint"),
        agent: agent(r),
    }
}

fn gcp(r: &Reader<'_>) -> GcpPlace {
    GcpPlace {
        project: r.text("project"),
        region: r.text("region"),
        zones: r.texts("zones"),
        machine_types: r.texts("machine_types"),
        image: r.text("image"),
        network: r.opt_text("network"),
        subnetwork: r.opt_text("subnetwork"),
        service_account: r.opt_text("service_account"),
        public_address: r.flag("public_address", false),
        boot_disk_gib: r.count("boot_disk_gib", DISK_GIB),
        labels: r.labels("labels"),
        endpoint: r.opt_text("endpoint"),
        agent: agent(r),
    }
}

fn azure(r: &Reader<'_>) -> AzurePlace {
    AzurePlace {
        subscription: r.text("subscription"),
        resource_group: r.text("resource_group"),
        location: r.text("location"),
        zones: r.texts("zones"),
        vm_sizes: r.texts("vm_sizes"),
        image: r.text("image"),
        subnet_id: r.text("subnet_id"),
        identity: r.opt_text("identity"),
        ssh_public_key: r.text("ssh_public_key"),
        public_address: r.flag("public_address", false),
        os_disk_gib: r.count("os_disk_gib", DISK_GIB),
        tags: r.labels("tags"),
        endpoint: r.opt_text("endpoint"),
        agent: agent(r),
    }
}

fn agent(r: &Reader<'_>) -> AgentSource {
    if !r.has("agent") {
        return AgentSource::Image;
    }
    let agent = r.nested("agent");
    AgentSource::Package {
        url: agent.text("url"),
        sha256: agent.text("sha256"),
    }
}

/// The block of a place, in its canonical form; `None` for this machine and existing ones.
pub(crate) fn block(place: &PoolPlace) -> Option<Value> {
    Some(match place {
        PoolPlace::Local | PoolPlace::Existing => return None,
        PoolPlace::Aws(p) => Value::object([
            ("region", Value::from(p.region.as_str())),
            ("subnets", list(&p.subnets)),
            ("instance_types", list(&p.instance_types)),
            ("image", p.image.as_str().into()),
            ("instance_profile", p.instance_profile.clone().into()),
            ("security_groups", list(&p.security_groups)),
            ("public_address", p.public_address.into()),
            ("root_disk_gib", p.root_disk_gib.into()),
            ("tags", map(&p.tags)),
            ("endpoint", p.endpoint.clone().into()),
            ("agent", source(&p.agent)),
        ]),
        PoolPlace::Gcp(p) => Value::object([
            ("project", Value::from(p.project.as_str())),
            ("region", p.region.as_str().into()),
            ("zones", list(&p.zones)),
            ("machine_types", list(&p.machine_types)),
            ("image", p.image.as_str().into()),
            ("network", p.network.clone().into()),
            ("subnetwork", p.subnetwork.clone().into()),
            ("service_account", p.service_account.clone().into()),
            ("public_address", p.public_address.into()),
            ("boot_disk_gib", p.boot_disk_gib.into()),
            ("labels", map(&p.labels)),
            ("endpoint", p.endpoint.clone().into()),
            ("agent", source(&p.agent)),
        ]),
        PoolPlace::Azure(p) => Value::object([
            ("subscription", Value::from(p.subscription.as_str())),
            ("resource_group", p.resource_group.as_str().into()),
            ("location", p.location.as_str().into()),
            ("zones", list(&p.zones)),
            ("vm_sizes", list(&p.vm_sizes)),
            ("image", p.image.as_str().into()),
            ("subnet_id", p.subnet_id.as_str().into()),
            ("identity", p.identity.clone().into()),
            ("ssh_public_key", p.ssh_public_key.as_str().into()),
            ("public_address", p.public_address.into()),
            ("os_disk_gib", p.os_disk_gib.into()),
            ("tags", map(&p.tags)),
            ("endpoint", p.endpoint.clone().into()),
            ("agent", source(&p.agent)),
        ]),
    })
}

/// Null for none: an empty list and no list mean the same.
fn list(texts: &[String]) -> Value {
    if texts.is_empty() {
        return Value::Null;
    }
    Value::list(texts.iter().map(String::as_str))
}

fn map(texts: &BTreeMap<String, String>) -> Value {
    if texts.is_empty() {
        return Value::Null;
    }
    Value::map(texts.iter().map(|(k, v)| (k.clone(), v.as_str())))
}

fn source(agent: &AgentSource) -> Value {
    match agent {
        AgentSource::Image => Value::Null,
        AgentSource::Package { url, sha256 } => Value::object([
            ("url", Value::from(url.as_str())),
            ("sha256", sha256.as_str().into()),
        ]),
    }
}
