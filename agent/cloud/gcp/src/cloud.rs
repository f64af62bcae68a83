//! The driver itself.

use async_trait::async_trait;
use futures::future::join_all;
use google_cloud_gax::paginator::ItemPaginator;
use gpuloom_cloud::{
    Cloud, CloudError, FailureClass, Instance, LaunchError, LaunchRequest, Launched, Offered, Tags,
};
use gpuloom_fleet::{GpuShape, InstanceId, PoolPlace};
use tokio::sync::OnceCell;

use crate::client::{Clients, GcpOptions, Once};
use crate::disks::not_done;
use crate::errors::{call_error, is_not_found};
use crate::operation::done;
use crate::{instance, labels};

/// Compute Engine in one project and region.
#[derive(Debug)]
pub struct GcpCloud {
    pub(crate) options: GcpOptions,
    pub(crate) clients: Clients,
    pub(crate) zones: OnceCell<Vec<String>>,
}

// === impl GcpCloud ===

impl GcpCloud {
    /// The driver, with the credentials of this process. A plain `http://` endpoint on loopback is asked without any
    /// unless `GOOGLE_APPLICATION_CREDENTIALS` names some. Sends nothing yet.
    ///
    /// # Errors
    /// [`FailureClass::Auth`] when there are no credentials, [`FailureClass::Invalid`] when the endpoint does not
    /// read.
    pub async fn new(options: GcpOptions) -> Result<Self, CloudError> {
        let clients = Clients::new(&options).await?;
        Ok(Self {
            options,
            clients,
            zones: OnceCell::new(),
        })
    }

    async fn list_zone(&self, zone: &str, tags: &Tags) -> Result<Vec<Instance>, CloudError> {
        let call = self
            .clients
            .instances
            .list()
            .set_project(&self.options.project);
        let mut items = call
            .set_zone(zone)
            .set_filter(labels::filter(tags))
            .by_item();
        let mut found = Vec::new();
        while let Some(item) = items.next().await {
            let item =
                item.map_err(|e| call_error(&format!("cannot list the instances of {zone}"), e))?;
            match instance::read(&item, &self.options.region) {
                // Labels are not exact, tags are.
                Ok(instance) if instance.tags.contain(tags) => found.push(instance),
                Ok(_) => {}
                Err(why) => {
                    tracing::warn!(%why, "an instance with gpuloom's labels is not gpuloom's")
                }
            }
        }
        Ok(found)
    }

    async fn delete(&self, id: &InstanceId) -> Result<(), CloudError> {
        let what = format!("cannot end {id}");
        let Some(found) = self.find_anywhere(id.as_str()).await? else {
            return Ok(());
        };
        let call = self
            .clients
            .instances
            .delete()
            .set_project(&self.options.project);
        let call = call
            .set_zone(Self::zone_of(&found))
            .set_instance(id.as_str());
        match call.once().send().await {
            Ok(started) => {
                let done = done(&self.clients, &self.options, started).await;
                done.map_err(|e| not_done(&what, e))?;
            }
            Err(e) if is_not_found(&e) => {}
            Err(e) => return Err(call_error(&what, e)),
        }
        match self.find_anywhere(id.as_str()).await? {
            None => Ok(()),
            Some(_) => Err(CloudError::new(
                FailureClass::Transient,
                format!("{id} was deleted and is there still: end it again"),
            )),
        }
    }

    async fn bring_back(&self, id: &InstanceId) -> Result<Instance, CloudError> {
        let missing = || {
            let why = format!("there is no instance {id} in {}", self.options.region);
            CloudError::new(FailureClass::Invalid, why)
        };
        let read = |found| {
            instance::read(found, &self.options.region)
                .map_err(|why| CloudError::new(FailureClass::Invalid, why))
        };
        let found = self.find_anywhere(id.as_str()).await?.ok_or_else(missing)?;
        let now = read(&found)?;
        if now.state != gpuloom_cloud::InstanceState::Stopped {
            return Ok(now);
        }
        let what = format!("cannot start {id}");
        let call = self
            .clients
            .instances
            .start()
            .set_project(&self.options.project);
        let call = call
            .set_zone(Self::zone_of(&found))
            .set_instance(id.as_str());
        let started = call.once().send().await.map_err(|e| call_error(&what, e))?;
        let done = done(&self.clients, &self.options, started).await;
        done.map_err(|e| not_done(&what, e))?;
        let found = self.find_anywhere(id.as_str()).await?.ok_or_else(missing)?;
        read(&found)
    }
}

#[async_trait]
impl Cloud for GcpCloud {
    async fn offerings(
        &self,
        place: &PoolPlace,
        gpu: Option<&GpuShape>,
    ) -> Result<Vec<Offered>, CloudError> {
        self.offered(place, gpu).await
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchError> {
        self.launch_one(request).await
    }

    async fn list(&self, tags: &Tags) -> Result<Vec<Instance>, CloudError> {
        let zones = self.zones().await?;
        let mut found = Vec::new();
        for listed in join_all(zones.iter().map(|zone| self.list_zone(zone, tags))).await {
            found.extend(listed?);
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    async fn start(&self, id: &InstanceId) -> Result<Instance, LaunchError> {
        let brought = self.bring_back(id).await;
        brought.map_err(|e| LaunchError::new(e.class, e.message))
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), CloudError> {
        self.delete(id).await
    }

    async fn read_attribute(
        &self,
        id: &InstanceId,
        key: &str,
    ) -> Result<Option<String>, CloudError> {
        self.attribute(id, key).await
    }

    async fn write_attribute(
        &self,
        id: &InstanceId,
        key: &str,
        value: &str,
    ) -> Result<(), CloudError> {
        self.set_attribute(id, key, value).await
    }

    async fn delete_disks(&self, tags: &Tags) -> Result<(), CloudError> {
        self.delete_data_disks(tags).await
    }
}
