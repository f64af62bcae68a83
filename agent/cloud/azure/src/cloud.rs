//! The driver: one resource group of one subscription.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use gpuloom_cloud::{
    Cloud, CloudError, FailureClass, Instance, LaunchError, LaunchRequest, Launched, Offered, Tags,
};
use gpuloom_fleet::{AzurePlace, GpuShape, InstanceId, PoolPlace};
use serde_json::json;

use crate::arm::{Arm, COMPUTE, Call};
use crate::list::Ended;
use crate::names;
use crate::scale_set::ScaleSets;
use crate::types::VirtualMachine;

/// The provider of virtual machines, as ids name it.
pub(crate) const MACHINES: &str = "Microsoft.Compute/virtualMachines";
/// How long one launch is followed. A GPU machine is up in 1 to 4 minutes; Azure itself gives up after 20.
pub(crate) const LAUNCH_WAIT: Duration = Duration::from_secs(20 * 60);
/// How long one deletion is followed.
pub(crate) const DELETE_WAIT: Duration = Duration::from_secs(10 * 60);
/// How long a small change (tags, a disk, a scale set) is followed.
pub(crate) const CHANGE_WAIT: Duration = Duration::from_secs(5 * 60);

/// Where instances live and how Azure is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AzureOptions {
    /// The subscription's id.
    pub subscription: String,
    /// The resource group, which exists.
    pub resource_group: String,
    /// E.g. `eastus`.
    pub location: String,
    /// Resource Manager's address when it is not the public one; plain `http` only on this machine's loopback.
    pub endpoint: Option<String>,
}

/// Azure as a [`Cloud`]. Credentials are the environment's (`AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and
/// `AZURE_CLIENT_SECRET`, or a workload identity), the machine's managed identity, or `az login`'s.
#[derive(Debug)]
pub struct AzureCloud {
    pub(crate) arm: Arm,
    pub(crate) location: String,
    pub(crate) sets: ScaleSets,
    pub(crate) ended: Ended,
    pub(crate) unsure: Mutex<BTreeSet<String>>,
}

// === impl AzureCloud ===

impl AzureCloud {
    /// A driver; contacts nobody yet.
    ///
    /// # Errors
    /// [`FailureClass::Invalid`] when the endpoint is none that a token may be sent to.
    pub fn new(options: AzureOptions) -> Result<Self, CloudError> {
        let endpoint = options.endpoint.as_deref();
        let arm = Arm::new(&options.subscription, &options.resource_group, endpoint)?;
        Ok(Self {
            arm,
            location: options.location,
            sets: ScaleSets::default(),
            ended: Ended::default(),
            unsure: Mutex::default(),
        })
    }

    /// The machine of this name with its power state; `None` when there is none.
    pub(crate) async fn machine(&self, name: &str) -> Result<Option<VirtualMachine>, CloudError> {
        let call = Call::get(self.arm.in_group(MACHINES, name), COMPUTE);
        let call = call.query("$expand", "instanceView");
        let found = self.arm.find(&call).await;
        found.map_err(|e| e.cloud(format!("cannot read virtual machine {name}")))
    }

    /// The place, when it is Azure's.
    pub(crate) fn place<'a>(&self, place: &'a PoolPlace) -> Result<&'a AzurePlace, CloudError> {
        match place {
            PoolPlace::Azure(place) => Ok(place),
            _ => Err(CloudError::new(
                FailureClass::Invalid,
                "this place is not on Azure: state an azure block",
            )),
        }
    }

    async fn start_now(&self, id: &InstanceId) -> Result<Instance, CloudError> {
        let none = || CloudError::new(FailureClass::Invalid, format!("there is no instance {id}"));
        let name = Some(id.as_str())
            .filter(|n| names::is_instance(n))
            .ok_or_else(none)?;
        let machine = self.machine(name).await?.ok_or_else(none)?;
        let machine = match machine.power() {
            Some("stopped" | "stopping" | "deallocated" | "deallocating") => {
                let path = format!("{}/start", self.arm.in_group(MACHINES, name));
                let failed = |e: crate::failure::ArmError| e.cloud(format!("cannot start {id}"));
                let answer = self
                    .arm
                    .send(&Call::post(path, COMPUTE))
                    .await
                    .map_err(failed)?;
                let until = Instant::now() + LAUNCH_WAIT;
                self.arm.finish(answer, until).await.map_err(failed)?;
                self.machine(name).await?.ok_or_else(none)?
            }
            _ => machine,
        };
        self.instance(&machine).await?.ok_or_else(none)
    }

    async fn write_tag(&self, id: &InstanceId, key: &str, value: &str) -> Result<(), CloudError> {
        let invalid = |message: String| CloudError::new(FailureClass::Invalid, message);
        if value.chars().count() > names::MAX_TAG_VALUE {
            return Err(invalid(format!(
                "attribute {key} of {id} has {} characters: a tag takes {}",
                value.chars().count(),
                names::MAX_TAG_VALUE
            )));
        }
        let none = || invalid(format!("there is no instance {id} to write {key} to"));
        let name = Some(id.as_str())
            .filter(|n| names::is_instance(n))
            .ok_or_else(none)?;
        let mut tags = self.machine(name).await?.ok_or_else(none)?.tags;
        let tag = names::attribute(key);
        if tags.get(&tag).is_some_and(|have| have == value) {
            return Ok(());
        }
        // A PATCH replaces all tags: those that are there go with it.
        tags.insert(tag, value.to_owned());
        let path = self.arm.in_group(MACHINES, name);
        let failed = |e: crate::failure::ArmError| e.cloud(format!("cannot write {key} to {id}"));
        let call = Call::patch(path, COMPUTE, &json!({ "tags": tags }));
        let answer = self.arm.send(&call).await.map_err(failed)?;
        let until = Instant::now() + CHANGE_WAIT;
        self.arm.finish(answer, until).await.map_err(failed)
    }
}

#[async_trait]
impl Cloud for AzureCloud {
    async fn offerings(
        &self,
        place: &PoolPlace,
        gpu: Option<&GpuShape>,
    ) -> Result<Vec<Offered>, CloudError> {
        self.offered(self.place(place)?, gpu).await
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchError> {
        self.launch_now(request).await.map(Launched::from)
    }

    async fn list(&self, tags: &Tags) -> Result<Vec<Instance>, CloudError> {
        self.list_now(tags).await
    }

    async fn start(&self, id: &InstanceId) -> Result<Instance, LaunchError> {
        let started = self.start_now(id).await;
        started.map_err(|e| LaunchError::new(e.class, e.message))
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), CloudError> {
        // What cannot be a machine's name was never one of ours.
        if !names::is_instance(id.as_str()) {
            return Ok(());
        }
        self.end(id.as_str()).await
    }

    async fn read_attribute(
        &self,
        id: &InstanceId,
        key: &str,
    ) -> Result<Option<String>, CloudError> {
        if !names::is_instance(id.as_str()) {
            return Ok(None);
        }
        let machine = self.machine(id.as_str()).await?;
        Ok(machine.and_then(|m| m.tags.get(&names::attribute(key)).cloned()))
    }

    async fn write_attribute(
        &self,
        id: &InstanceId,
        key: &str,
        value: &str,
    ) -> Result<(), CloudError> {
        self.write_tag(id, key, value).await
    }

    async fn delete_disks(&self, tags: &Tags) -> Result<(), CloudError> {
        self.delete_retained(tags).await?;
        self.delete_empty_sets(tags).await
    }
}
