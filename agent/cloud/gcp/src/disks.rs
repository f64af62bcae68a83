//! The disk that outlives its lead.

use google_cloud_compute_v1::model::Disk;
use google_cloud_gax::paginator::ItemPaginator;
use gpuloom_cloud::{CloudError, FailureClass, Tags};

use crate::client::Once;
use crate::cloud::GcpCloud;
use crate::errors::{call_error, is_not_found};
use crate::operation::{NotDone, done};
use crate::{labels, request};

/// A retained disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DataDisk {
    /// Its name.
    pub(crate) name: String,
    /// Its zone.
    pub(crate) zone: String,
    /// When an instance had it last (RFC 3339); `None`: never.
    pub(crate) last_attached: Option<String>,
    /// Whether an instance has it.
    pub(crate) in_use: bool,
}

impl GcpCloud {
    /// The retained disks that have all of `tags`, by name.
    pub(crate) async fn data_disks(&self, tags: &Tags) -> Result<Vec<DataDisk>, CloudError> {
        let (key, value) = request::DISK_LABEL;
        let filter = format!("{} AND labels.{key} = \"{value}\"", labels::filter(tags));
        let mut found = Vec::new();
        for zone in self.zones().await? {
            let call = self.clients.disks.list().set_project(&self.options.project);
            let mut items = call.set_zone(zone).set_filter(&filter).by_item();
            while let Some(disk) = items.next().await {
                let disk =
                    disk.map_err(|e| call_error(&format!("cannot list the disks of {zone}"), e))?;
                found.extend(read(disk, zone));
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// See [`gpuloom_cloud::Cloud::delete_disks`].
    pub(crate) async fn delete_data_disks(&self, tags: &Tags) -> Result<(), CloudError> {
        let mut problems = Vec::new();
        for disk in self.data_disks(tags).await? {
            if disk.in_use {
                continue;
            }
            if let Err(why) = self.delete_disk(&disk).await {
                problems.push(format!("{} in {}: {}", disk.name, disk.zone, why.message));
            }
        }
        let left = self.data_disks(tags).await?;
        let left: Vec<String> = left
            .into_iter()
            .filter(|d| !d.in_use)
            .map(|d| d.name)
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        Err(CloudError::new(
            FailureClass::Transient,
            format!(
                "disks are left: {}; {}",
                left.join(", "),
                problems.join("; ")
            ),
        ))
    }

    async fn delete_disk(&self, disk: &DataDisk) -> Result<(), CloudError> {
        let call = self
            .clients
            .disks
            .delete()
            .set_project(&self.options.project);
        let sent = call
            .set_zone(&disk.zone)
            .set_disk(&disk.name)
            .once()
            .send()
            .await;
        let started = match sent {
            Ok(started) => started,
            Err(e) if is_not_found(&e) => return Ok(()),
            Err(e) => return Err(call_error("cannot delete it", e)),
        };
        done(&self.clients, &self.options, started)
            .await
            .map_err(|e| not_done("deleting it", e))
    }
}

fn read(disk: Disk, zone: &str) -> Option<DataDisk> {
    Some(DataDisk {
        name: disk.name?,
        zone: zone.to_owned(),
        in_use: !disk.users.is_empty(),
        last_attached: disk.last_attach_timestamp.filter(|t| !t.is_empty()),
    })
}

/// An operation of ours that did not do what it was asked.
pub(crate) fn not_done(what: &str, e: NotDone) -> CloudError {
    match e {
        NotDone::Unknown(why) => CloudError::new(FailureClass::Transient, format!("{what}: {why}")),
        NotDone::Failed(said) => {
            let texts: Vec<String> = said.iter().map(crate::errors::Said::text).collect();
            let class = said.first().map_or(FailureClass::Transient, |s| s.class);
            CloudError::new(class, format!("{what} failed: {}", texts.join("; ")))
        }
    }
}
