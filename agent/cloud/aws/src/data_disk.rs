//! The disk that outlives its instance: found by the fleet's tags or made, attached, deleted with the fleet.

use std::time::{Duration, Instant};

use aws_sdk_ec2::types::{ResourceType, TagSpecification, Volume, VolumeState, VolumeType};
use gpuloom_cloud::{FailureClass, LaunchError, LaunchRequest, Offering, Tags};
use gpuloom_fleet::{AwsPlace, InstanceId};
use sha2::{Digest, Sha256};

use crate::client::AwsCloud;
use crate::failure::Failure;
use crate::launch::aws_place;
use crate::listing::{ec2_tags, filter, tag_filters};
use crate::template::invalid;

/// Marks the disk; its value is what it holds.
const DISK: &str = "gpuloom:disk";
const STORE: &str = "store";
/// Where it is attached; what the machine calls it is its own affair.
const DEVICE: &str = "/dev/sdf";
/// Longest wait until an instance runs and its disk is free, and until disks are gone.
const READY: Duration = Duration::from_secs(180);
/// The first and the longest pause between two looks.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The data disk of a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) id: String,
    pub(crate) zone: String,
    state: Option<VolumeState>,
    /// The instance that has it.
    holder: Option<String>,
}

// === impl AwsCloud ===

impl AwsCloud {
    /// The request's disk, if there is one already. Of several the oldest.
    pub(crate) async fn data_disk(&self, request: &LaunchRequest) -> Result<Option<Disk>, Failure> {
        let disks = self.disks(&disk_tags(request)).await?;
        Ok(disks.into_iter().next())
    }

    /// Those of `offerings` that are where the disk is.
    pub(crate) async fn in_zone(
        &self,
        offerings: &[Offering],
        disk: &Disk,
    ) -> Result<Vec<Offering>, Failure> {
        let mut subnets: Vec<_> = offerings.iter().map(|o| o.zone().to_owned()).collect();
        subnets.sort();
        subnets.dedup();
        let zones = self.zones_of(&subnets).await?;
        let there = |o: &&Offering| {
            let mut zones = zones.iter();
            zones.any(|(subnet, zone)| subnet == o.zone() && *zone == disk.zone)
        };
        let fitting: Vec<_> = offerings.iter().filter(there).cloned().collect();
        if fitting.is_empty() {
            let Disk { id, zone, .. } = disk;
            return Err(invalid(format!(
                "the lead's disk {id} is in {zone}, where none of aws.subnets is: add a subnet of {zone}"
            )));
        }
        Ok(fitting)
    }

    /// Attaches the request's disk to its instance, once that runs and the disk is free; makes one in the instance's
    /// zone when there is none. Attached already is fine.
    pub(crate) async fn attach_data_disk(
        &self,
        request: &LaunchRequest,
        id: &InstanceId,
    ) -> Result<(), LaunchError> {
        let deadline = Instant::now() + READY;
        let mut pause = PAUSE;
        loop {
            let why = match self.try_attach(request, id).await? {
                Attached::Yes => return Ok(()),
                Attached::NotYet(why) => why,
            };
            if Instant::now() >= deadline {
                // The instance exists: the same token comes back to this point.
                return Err(LaunchError::new(FailureClass::Transient, why));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn try_attach(
        &self,
        request: &LaunchRequest,
        id: &InstanceId,
    ) -> Result<Attached, Failure> {
        let Some(instance) = self.described(id).await?.filter(|i| i.running) else {
            return Ok(Attached::NotYet(format!("instance {id} does not run yet")));
        };
        let disk = match self.data_disk(request).await? {
            Some(disk) => disk,
            None => self.make_disk(request, &instance.zone).await?,
        };
        if disk.holder.as_deref() == Some(id.as_str()) {
            return Ok(Attached::Yes);
        }
        if disk.state != Some(VolumeState::Available) {
            let Disk {
                id: disk, holder, ..
            } = &disk;
            let holder = holder.as_deref().unwrap_or("nobody");
            return Ok(Attached::NotYet(format!(
                "disk {disk} is not free: {holder} has it; it is attached to {id} when that instance is gone"
            )));
        }
        let call = self.ec2.attach_volume().volume_id(&disk.id);
        let call = call.instance_id(id.as_str()).device(DEVICE);
        match call.send().await {
            Ok(_) => Ok(Attached::Yes),
            Err(e) => {
                let failure = Failure::new(&format!("attach disk {} to {id}", disk.id), &e);
                // Not running yet after all, or taken meanwhile: looked at again.
                match failure.code.as_str() {
                    "IncorrectState" | "IncorrectInstanceState" | "VolumeInUse" => {
                        Ok(Attached::NotYet(failure.message))
                    }
                    _ => Err(failure),
                }
            }
        }
    }

    async fn make_disk(&self, request: &LaunchRequest, zone: &str) -> Result<Disk, Failure> {
        let place: &AwsPlace = aws_place(&request.place)?;
        let size = request.data_disk.map_or(0, |disk| disk.size_gib);
        let mut tags = Tags(place.tags.clone());
        tags.0.extend(disk_tags(request).0);
        let tags = TagSpecification::builder()
            .resource_type(ResourceType::Volume)
            .set_tags(Some(ec2_tags(&tags)))
            .build();
        // The launch's token makes it once, however often this comes here.
        let token = hex::encode(&Sha256::digest(format!("disk {}", request.token))[..16]);
        let call = self
            .ec2
            .create_volume()
            .availability_zone(zone)
            .size(i32::try_from(size).unwrap_or(i32::MAX))
            .volume_type(VolumeType::Gp3)
            .encrypted(true)
            .client_token(token)
            .tag_specifications(tags);
        let made = call.send().await;
        let made = made.map_err(|e| Failure::new(&format!("make a disk in {zone}"), &e))?;
        Ok(Disk {
            id: made.volume_id().unwrap_or_default().to_owned(),
            zone: zone.to_owned(),
            // Free in a moment: the next look says so.
            state: made.state().cloned(),
            holder: None,
        })
    }

    /// See [`gpuloom_cloud::Cloud::delete_disks`].
    pub(crate) async fn delete_free_disks(&self, tags: &Tags) -> Result<(), Failure> {
        let deadline = Instant::now() + READY;
        let mut pause = PAUSE;
        let wanted = with_mark(tags);
        loop {
            let mut left = Vec::new();
            for disk in self.disks(&wanted).await? {
                if self.is_held(&disk).await? {
                    continue;
                }
                if disk.state == Some(VolumeState::Available) {
                    self.delete_disk(&disk.id).await?;
                }
                left.push(disk.id);
            }
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Failure {
                    class: FailureClass::Transient,
                    code: String::new(),
                    message: format!("disks are left in {}: {}", self.region, left.join(", ")),
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether an instance that lives has it.
    async fn is_held(&self, disk: &Disk) -> Result<bool, Failure> {
        let Some(holder) = &disk.holder else {
            return Ok(false);
        };
        let ids = vec![holder.clone()];
        let states = ["pending", "running", "stopping", "stopped"].map(str::to_owned);
        let filters = vec![
            filter("instance-id", ids),
            filter("instance-state-name", states.to_vec()),
        ];
        let call = self.ec2.describe_instances().set_filters(Some(filters));
        let found = call.send().await;
        let found = found.map_err(|e| Failure::new(&format!("look at instance {holder}"), &e))?;
        Ok(!found.reservations().is_empty())
    }

    async fn delete_disk(&self, id: &str) -> Result<(), Failure> {
        match self.ec2.delete_volume().volume_id(id).send().await {
            Ok(_) => Ok(()),
            Err(e) => {
                let failure = Failure::new(&format!("delete disk {id}"), &e);
                if failure.is_not_found() || failure.code == "VolumeInUse" {
                    Ok(())
                } else {
                    Err(failure)
                }
            }
        }
    }

    /// The disks of these tags that exist, oldest first.
    async fn disks(&self, tags: &Tags) -> Result<Vec<Disk>, Failure> {
        let call = self.ec2.describe_volumes();
        let call = call.set_filters(Some(tag_filters(tags)));
        let mut pages = call.into_paginator().items().send();
        let mut found = Vec::new();
        while let Some(volume) = pages.next().await {
            let tried = format!("list the disks of {}", self.region);
            found.push(volume.map_err(|e| Failure::new(&tried, &e))?);
        }
        found.retain(|v| {
            !matches!(
                v.state(),
                Some(VolumeState::Deleting | VolumeState::Deleted)
            )
        });
        found.sort_by_key(|v| (v.create_time().map(|at| at.secs()), v.volume_id.clone()));
        Ok(found.iter().map(disk).collect())
    }
}

/// What came of an attempt to attach.
enum Attached {
    Yes,
    NotYet(String),
}

// === functions ===

fn disk(volume: &Volume) -> Disk {
    let holder = volume.attachments().first();
    Disk {
        id: volume.volume_id().unwrap_or_default().to_owned(),
        zone: volume.availability_zone().unwrap_or_default().to_owned(),
        state: volume.state().cloned(),
        holder: holder.and_then(|a| a.instance_id()).map(str::to_owned),
    }
}

/// What a fleet's disk is found by: the fleet and its id, not the launch.
fn disk_tags(request: &LaunchRequest) -> Tags {
    let mut tags = request.tags();
    let kept = [Tags::FLEET, Tags::FLEET_ID, Tags::ROLE];
    tags.0.retain(|key, _| kept.contains(&key.as_str()));
    with_mark(&tags)
}

fn with_mark(tags: &Tags) -> Tags {
    let mut tags = tags.clone();
    tags.0.insert(DISK.to_owned(), STORE.to_owned());
    tags
}
