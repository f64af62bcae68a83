//! Ends an instance and what was made with it, and verifies it.

use std::time::{Duration, Instant};

use gpuloom_cloud::{CloudError, FailureClass, Tags};

use crate::arm::{COMPUTE, Call, DISKS, NETWORK};
use crate::cloud::{AzureCloud, DELETE_WAIT, MACHINES};
use crate::disk::DISK_KIND;
use crate::failure::ArmError;
use crate::list::{NICS, PUBLIC_ADDRESSES};
use crate::names;
use crate::types::{Disk, NetworkInterface, PublicAddress, VirtualMachine};

/// Between two looks whether a machine is gone.
const LOOK: Duration = Duration::from_secs(2);

impl AzureCloud {
    /// Ends the machine `name`, its network interface, address and OS disk; what is gone is fine.
    pub(crate) async fn end(&self, name: &str) -> Result<(), CloudError> {
        let machine = self.machine(name).await?;
        if let Some(machine) = &machine {
            if !machine.tags.contains_key(Tags::TOKEN) {
                let message =
                    format!("virtual machine {name} was not launched by gpuloom: it is left alone");
                return Err(CloudError::new(FailureClass::Invalid, message));
            }
            let failed = |e: ArmError| e.cloud(format!("cannot end virtual machine {name}"));
            let id = self.arm.in_group(MACHINES, name);
            self.delete_resource(&id, COMPUTE).await.map_err(failed)?;
            self.ended.note(name);
        }
        let failed = |e: ArmError| {
            e.cloud(format!(
                "{name} has ended, but not all that was made with it"
            ))
        };
        self.clean(name, machine.as_ref()).await.map_err(failed)?;
        let set = machine.and_then(|m| m.properties.virtual_machine_scale_set);
        match set {
            Some(set) => self.leave_set(&set.id, name).await,
            None => self.sets.left(name),
        }
        Ok(())
    }

    /// What a machine's end should have taken with it, and did not.
    async fn clean(&self, name: &str, machine: Option<&VirtualMachine>) -> Result<(), ArmError> {
        let mut interfaces: Vec<String> = match machine {
            Some(m) => {
                let all = &m.properties.network_profile.network_interfaces;
                all.iter().map(|i| i.id.clone()).collect()
            }
            None => Vec::new(),
        };
        if interfaces.is_empty() {
            let all: Vec<NetworkInterface> = self
                .arm
                .list(Call::get(self.arm.in_group(NICS, ""), NETWORK))
                .await?;
            let ours =
                |i: &&NetworkInterface| i.tags.get(names::INSTANCE).is_some_and(|n| n == name);
            interfaces = all.iter().filter(ours).map(|i| i.id.clone()).collect();
        }
        for id in interfaces {
            let left: Option<NetworkInterface> = self.arm.find(&Call::get(&id, NETWORK)).await?;
            // One that was brought by somebody else stays.
            if left.is_some_and(|i| i.tags.contains_key(Tags::TOKEN)) {
                self.delete_resource(&id, NETWORK).await?;
            }
        }
        let address = self
            .arm
            .in_group(PUBLIC_ADDRESSES, &names::public_address(name));
        let left: Option<PublicAddress> = self.arm.find(&Call::get(&address, NETWORK)).await?;
        if left.is_some() {
            self.delete_resource(&address, NETWORK).await?;
        }
        let os_disk = machine.and_then(|m| m.properties.storage_profile.os_disk.name.clone());
        let os_disk = os_disk.unwrap_or_else(|| names::os_disk(name));
        let os_disk = self.arm.in_group(DISK_KIND, &os_disk);
        let left: Option<Disk> = self.arm.find(&Call::get(&os_disk, DISKS)).await?;
        if left.is_some() {
            self.delete_resource(&os_disk, DISKS).await?;
        }
        Ok(())
    }

    /// Deletes one resource and waits until it is seen to be gone.
    pub(crate) async fn delete_resource(&self, id: &str, version: &str) -> Result<(), ArmError> {
        let until = Instant::now() + DELETE_WAIT;
        match self.arm.send(&Call::delete(id, version)).await {
            Ok(answer) => self.arm.finish(answer, until).await?,
            Err(e) if e.is_gone() => return Ok(()),
            Err(e) => return Err(e),
        }
        loop {
            let left: Option<serde_json::Value> = self.arm.find(&Call::get(id, version)).await?;
            if left.is_none() {
                return Ok(());
            }
            if Instant::now() >= until {
                let message = format!("{id} is still there {DELETE_WAIT:?} after its deletion");
                return Err(ArmError::lost(message));
            }
            tokio::time::sleep(self.arm.pause(LOOK)).await;
        }
    }
}
