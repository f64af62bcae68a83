//! The disk that outlives its lead: made once, attached by each replacement, removed by name when asked.

use std::time::Instant;

use gpuloom_cloud::{CloudError, FailureClass, LaunchError, LaunchRequest, Offering, Role, Tags};

use crate::arm::{Call, DISKS};
use crate::body;
use crate::cloud::{AzureCloud, CHANGE_WAIT};
use crate::failure::ArmError;
use crate::names;
use crate::types::Disk;

/// The provider of disks, as ids name it.
pub(crate) const DISK_KIND: &str = "Microsoft.Compute/disks";

impl AzureCloud {
    /// The id of the disk that the lead keeps its store on, made when there is none; `None` when none was asked for.
    pub(crate) async fn data_disk(
        &self,
        request: &LaunchRequest,
        offering: &Offering,
        machine: &str,
    ) -> Result<Option<String>, LaunchError> {
        let Some(wanted) = request.data_disk else {
            return Ok(None);
        };
        let name = names::data_disk(request);
        let id = self.arm.in_group(DISK_KIND, &name);
        let failed = |e: ArmError| {
            let message = format!("the lead's disk {name}: {e}");
            LaunchError {
                retry_after: e.retry_after_s(),
                ..LaunchError::new(e.class(), message)
            }
        };
        let found: Option<Disk> = self
            .arm
            .find(&Call::get(&id, DISKS))
            .await
            .map_err(failed)?;
        let zone = body::zone(offering);
        if let Some(disk) = found {
            usable(&disk, request, zone, machine)?;
            return Ok(Some(id));
        }
        let mut tags = Tags(request.labels.0.clone());
        tags.0.extend(request.tags().0);
        for of_the_machine in [Tags::TOKEN, Tags::OFFERING, Tags::REVISION] {
            tags.0.remove(of_the_machine);
        }
        tags.0.insert(Tags::ROLE.to_owned(), Role::Lead.to_string());
        tags.0
            .insert(names::DISK.to_owned(), names::DATA.to_owned());
        let body = body::disk(
            &self.location,
            zone,
            wanted.size_gib,
            &names::to_azure(&tags),
        );
        let call = Call::put(&id, DISKS, &body);
        let answer = self.arm.send(&call).await.map_err(failed)?;
        let until = Instant::now() + CHANGE_WAIT;
        self.arm.finish(answer, until).await.map_err(failed)?;
        Ok(Some(id))
    }

    /// Removes the retained disks with all of `tags` that are on no machine.
    pub(crate) async fn delete_retained(&self, tags: &Tags) -> Result<(), CloudError> {
        let call = Call::get(self.arm.in_group(DISK_KIND, ""), DISKS);
        let disks: Vec<Disk> = self
            .arm
            .list(call)
            .await
            .map_err(|e| e.cloud("cannot list the retained disks"))?;
        let mut left = Vec::new();
        let mut class = FailureClass::Transient;
        for disk in disks {
            let have = names::from_azure(&disk.tags);
            let ours = have.get(names::DISK).is_some() && have.contain(tags);
            if !ours || disk.managed_by.is_some() {
                continue;
            }
            if let Err(e) = self.delete_resource(&disk.id, DISKS).await {
                class = e.class();
                left.push(format!("{}: {e}", disk.name));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let message = format!("{} disks are left: {}", left.len(), left.join("; "));
        Err(CloudError::new(class, message))
    }
}

/// A disk that exists can be used by `machine` in `zone`, or the words why not.
fn usable(
    disk: &Disk,
    request: &LaunchRequest,
    zone: Option<&str>,
    machine: &str,
) -> Result<(), LaunchError> {
    let have = names::from_azure(&disk.tags);
    let mut wanted = Tags::of_fleet(&request.fleet);
    wanted
        .0
        .insert(names::DISK.to_owned(), names::DATA.to_owned());
    if !have.contain(&wanted) {
        let message = format!(
            "disk {} exists and is not the fleet's: rename or remove it, or use another resource group",
            disk.name
        );
        return Err(LaunchError::new(FailureClass::Invalid, message));
    }
    if disk.zones.first().map(String::as_str) != zone {
        let at = disk.zones.first().map_or("no zone", String::as_str);
        let message = format!(
            "the lead's disk {} is in {at}, not in {}: an offering there is needed",
            disk.name,
            zone.unwrap_or("no zone")
        );
        return Err(LaunchError::new(FailureClass::Unsupported, message));
    }
    match disk.managed_by.as_deref().map(names::last) {
        Some(other) if !other.eq_ignore_ascii_case(machine) => {
            let message = format!(
                "the lead's disk {} is on {other} still: end that first",
                disk.name
            );
            Err(LaunchError::new(FailureClass::Transient, message))
        }
        _ => Ok(()),
    }
}
