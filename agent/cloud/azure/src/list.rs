//! What exists: machines by their tags, and what machines left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gpuloom_cloud::{CloudError, Instance, InstanceState, Offering, Tags, Token};
use gpuloom_fleet::{InstanceId, Millis, PoolName};

use crate::arm::{COMPUTE, Call, DISKS, NETWORK};
use crate::cloud::{AzureCloud, MACHINES};
use crate::disk::DISK_KIND;
use crate::failure::ArmError;
use crate::names;
use crate::types::{Disk, NetworkInterface, PublicAddress, VirtualMachine};

/// The provider of network interfaces, as ids name it.
pub(crate) const NICS: &str = "Microsoft.Network/networkInterfaces";
/// The provider of public addresses, as ids name it.
pub(crate) const PUBLIC_ADDRESSES: &str = "Microsoft.Network/publicIPAddresses";
/// Under which Azure's own id of a machine is told.
const VM_ID: &str = "gpuloom:vm-id";
/// How long a listing may still show what has ended.
const LISTING_LAG: Duration = Duration::from_secs(10 * 60);

/// What was verified to have ended, so that a listing that lags is not believed.
#[derive(Debug, Default)]
pub(crate) struct Ended(Mutex<BTreeMap<String, Instant>>);

/// Addresses by the id of their network interface, in lower case.
#[derive(Debug, Default)]
struct Addresses(BTreeMap<String, (Option<String>, Option<String>)>);

// === impl Ended ===

impl Ended {
    pub(crate) fn note(&self, name: &str) {
        let mut ended = self.lock();
        ended.retain(|_, at| at.elapsed() < LISTING_LAG);
        ended.insert(name.to_owned(), Instant::now());
    }

    pub(crate) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.lock()
            .get(name)
            .is_some_and(|at| at.elapsed() < LISTING_LAG)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AzureCloud {
    pub(crate) async fn list_now(&self, tags: &Tags) -> Result<Vec<Instance>, CloudError> {
        let failed = |e: ArmError| e.cloud("cannot list the instances");
        let (interfaces, disks, machines) = self.look().await.map_err(failed)?;
        let mut known: BTreeSet<String> = machines.iter().map(|m| m.name.clone()).collect();
        let mut ours = Vec::new();
        for machine in machines {
            let have = names::from_azure(&machine.tags);
            if have.get(Tags::TOKEN).is_none() || !have.contain(tags) {
                continue;
            }
            // A listing that lags shows what has ended; asked by its name it is gone.
            if self.ended.has(&machine.name) && self.machine(&machine.name).await?.is_none() {
                known.remove(&machine.name);
                continue;
            }
            ours.push(machine);
        }
        let powers = self.powers(&ours).await?;
        let addresses = self.addresses(&interfaces).await.map_err(failed)?;
        let mut found: Vec<Instance> = Vec::new();
        for machine in &ours {
            let with_power = powers
                .get(&machine.name.to_ascii_lowercase())
                .unwrap_or(machine);
            let Some(mut instance) = instance_of(machine, state(machine, with_power.power()))
            else {
                continue;
            };
            addresses.put(machine, &mut instance);
            found.push(instance);
        }
        for (name, tags) in left_behind(&interfaces, &disks, tags, &known) {
            // Made before its machine is listed, or left after it: only the machine's own name tells.
            if self.machine(&name).await?.is_none() {
                found.extend(leftover(&name, &tags));
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// All of the group, the machines last: what belongs to one that is not seen then was left by it.
    async fn look(
        &self,
    ) -> Result<(Vec<NetworkInterface>, Vec<Disk>, Vec<VirtualMachine>), ArmError> {
        let all = |kind: &str, version: &str| Call::get(self.arm.in_group(kind, ""), version);
        let interfaces = self.arm.list(all(NICS, NETWORK)).await?;
        let disks = self.arm.list(all(DISK_KIND, DISKS)).await?;
        let machines = self.arm.list(all(MACHINES, COMPUTE)).await?;
        Ok((interfaces, disks, machines))
    }

    /// The machines with their power state, by name in lower case; one call for each scale set.
    async fn powers(
        &self,
        machines: &[VirtualMachine],
    ) -> Result<BTreeMap<String, VirtualMachine>, CloudError> {
        let mut sets = BTreeMap::new();
        let mut seen: Vec<VirtualMachine> = Vec::new();
        for machine in machines {
            match &machine.properties.virtual_machine_scale_set {
                Some(set) => {
                    sets.insert(set.id.to_ascii_lowercase(), set.id.clone());
                }
                None => seen.extend(self.machine(&machine.name).await?),
            }
        }
        for id in sets.values() {
            let failed =
                |e: ArmError| e.cloud(format!("cannot list the machines of {}", names::last(id)));
            seen.extend(self.members(id, true).await.map_err(failed)?);
        }
        let by_name = seen.into_iter().map(|m| (m.name.to_ascii_lowercase(), m));
        Ok(by_name.collect())
    }

    async fn addresses(&self, interfaces: &[NetworkInterface]) -> Result<Addresses, ArmError> {
        let ours = || {
            interfaces
                .iter()
                .filter(|i| i.tags.contains_key(Tags::TOKEN))
        };
        let mut public = BTreeMap::new();
        let any_public = ours().any(|i| {
            let mut all = i.properties.ip_configurations.iter();
            all.any(|c| c.properties.public_address.is_some())
        });
        if any_public {
            let call = Call::get(self.arm.in_group(PUBLIC_ADDRESSES, ""), NETWORK);
            let all: Vec<PublicAddress> = self.arm.list(call).await?;
            public.extend(
                all.into_iter()
                    .map(|a| (a.id.to_ascii_lowercase(), a.properties.ip_address)),
            );
        }
        let mut addresses = Addresses::default();
        for interface in ours() {
            let Some(first) = interface.properties.ip_configurations.first() else {
                continue;
            };
            let of = &first.properties;
            let id = of
                .public_address
                .as_ref()
                .map(|a| a.id.to_ascii_lowercase());
            let reached = id.and_then(|id| public.get(&id).cloned().flatten());
            let both = (of.private_address.clone(), reached);
            addresses.0.insert(interface.id.to_ascii_lowercase(), both);
        }
        Ok(addresses)
    }

    /// One machine as an instance, with its addresses as far as they can be read; `None` when it is not ours.
    pub(crate) async fn instance(
        &self,
        machine: &VirtualMachine,
    ) -> Result<Option<Instance>, CloudError> {
        let Some(mut instance) = instance_of(machine, state(machine, machine.power())) else {
            return Ok(None);
        };
        let Some(interface) = machine
            .properties
            .network_profile
            .network_interfaces
            .first()
        else {
            return Ok(Some(instance));
        };
        let read = async {
            let found: Option<NetworkInterface> =
                self.arm.find(&Call::get(&interface.id, NETWORK)).await?;
            self.addresses(found.as_slice()).await
        };
        match read.await {
            Ok(addresses) => addresses.put(machine, &mut instance),
            // The next listing has them.
            Err(e) => tracing::debug!(instance = %instance.id, error = %e, "addresses not read"),
        }
        Ok(Some(instance))
    }
}

impl Addresses {
    fn put(&self, machine: &VirtualMachine, instance: &mut Instance) {
        let interfaces = &machine.properties.network_profile.network_interfaces;
        let mut known = interfaces
            .iter()
            .filter_map(|i| self.0.get(&i.id.to_ascii_lowercase()));
        if let Some((private, public)) = known.next() {
            instance.private_address.clone_from(private);
            instance.public_address.clone_from(public);
        }
    }
}

/// Instances whose interface or OS disk is there without them: their names and tags.
fn left_behind(
    interfaces: &[NetworkInterface],
    disks: &[Disk],
    wanted: &Tags,
    known: &BTreeSet<String>,
) -> BTreeMap<String, Tags> {
    let mut left = BTreeMap::new();
    for interface in interfaces
        .iter()
        .filter(|i| i.properties.virtual_machine.is_none())
    {
        if let Some(name) = interface.tags.get(names::INSTANCE) {
            left.insert(name.clone(), names::from_azure(&interface.tags));
        }
    }
    for disk in disks.iter().filter(|d| d.managed_by.is_none()) {
        let retained = disk.tags.contains_key(names::DISK);
        if let (Some(name), false) = (disk.name.strip_suffix("-os"), retained) {
            left.insert(name.to_owned(), names::from_azure(&disk.tags));
        }
    }
    left.retain(|name, tags| {
        tags.get(Tags::TOKEN).is_some() && tags.contain(wanted) && !known.contains(name)
    });
    left
}

fn leftover(name: &str, tags: &Tags) -> Option<Instance> {
    let machine = VirtualMachine {
        name: name.to_owned(),
        tags: names::to_azure(tags),
        ..VirtualMachine::default()
    };
    let mut instance = instance_of(&machine, InstanceState::Terminating)?;
    instance.tags.0.remove(names::INSTANCE);
    Some(instance)
}

/// Where a machine stands; without a power state by what is being done to it.
fn state(machine: &VirtualMachine, power: Option<&str>) -> InstanceState {
    if machine.is("Deleting") {
        return InstanceState::Terminating;
    }
    match power {
        Some("stopped" | "stopping" | "deallocated" | "deallocating") => InstanceState::Stopped,
        // A later change that failed does not end a machine that runs.
        Some("running") => InstanceState::Running,
        _ if machine.is("Creating") => InstanceState::Launching,
        _ if machine.is("Failed") => InstanceState::Terminating,
        Some("starting") => InstanceState::Launching,
        _ => InstanceState::Running,
    }
}

/// `None` when its tags are not those of an instance.
fn instance_of(machine: &VirtualMachine, state: InstanceState) -> Option<Instance> {
    let mut tags = names::from_azure(&machine.tags);
    // Azure's word, never a tag's: its proof of identity names this id.
    tags.0.remove(VM_ID);
    if let Some(id) = &machine.properties.vm_id {
        tags.0.insert(VM_ID.to_owned(), id.clone());
    }
    let launched_at = machine.properties.time_created.as_deref().and_then(millis);
    Some(Instance {
        id: InstanceId::new(machine.name.clone()).ok()?,
        token: Token::new(tags.get(Tags::TOKEN)?).ok()?,
        offering: Offering(tags.get(Tags::OFFERING)?.to_owned()),
        state,
        launched_at: launched_at.unwrap_or(Millis(0)),
        pool: tags.get(Tags::POOL).and_then(|p| PoolName::new(p).ok()),
        role: tags.get(Tags::ROLE)?.parse().ok()?,
        tags,
        private_address: None,
        public_address: None,
    })
}

fn millis(time: &str) -> Option<Millis> {
    let at = azure_core::time::parse_rfc3339(time).ok()?;
    let ms = at.unix_timestamp_nanos() / 1_000_000;
    u64::try_from(ms).ok().map(Millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{InstanceView, Status};

    #[test]
    fn a_machine_stands_where_its_power_says_unless_it_is_being_deleted() {
        use InstanceState::{Launching, Running, Stopped, Terminating};
        for (provisioning, power, expected) in [
            ("Creating", None, Launching),
            ("Creating", Some("running"), Running),
            ("Succeeded", None, Running),
            ("Succeeded", Some("deallocated"), Stopped),
            ("Updating", Some("starting"), Launching),
            ("Deleting", Some("running"), Terminating),
            ("Failed", None, Terminating),
            ("Failed", Some("running"), Running),
        ] {
            let mut machine = VirtualMachine::default();
            machine.properties.provisioning_state = provisioning.to_owned();
            let statuses = power.map(|p| Status {
                code: format!("PowerState/{p}"),
                ..Status::default()
            });
            machine.properties.instance_view = Some(InstanceView {
                statuses: statuses.into_iter().collect(),
            });
            assert_eq!(
                state(&machine, machine.power()),
                expected,
                "{provisioning} {power:?}"
            );
        }
    }

    #[test]
    fn times_are_milliseconds() {
        assert_eq!(
            millis("2026-11-22T12:00:00.5000000+00:00"),
            Some(Millis(1_795_348_800_500))
        );
        assert_eq!(millis("yesterday"), None);
    }
}
