//! Finding things by name, in each zone: a lookup by name is never behind, as a listing may be.

use futures::future::join_all;
use google_cloud_compute_v1::model::{Instance, zone};
use google_cloud_gax::paginator::ItemPaginator;
use gpuloom_cloud::CloudError;

use crate::cloud::GcpCloud;
use crate::errors::{call_error, is_not_found, short};

impl GcpCloud {
    /// The region's zones, those that are down included, by name; asked once.
    pub(crate) async fn zones(&self) -> Result<&[String], CloudError> {
        let zones = self.zones.get_or_try_init(|| async {
            let all = self.list_zones().await?;
            Ok::<_, CloudError>(all.into_iter().map(|(name, _)| name).collect())
        });
        zones.await.map(Vec::as_slice)
    }

    /// The region's zones and whether each is up.
    pub(crate) async fn list_zones(&self) -> Result<Vec<(String, bool)>, CloudError> {
        let what = || format!("cannot list the zones of {}", self.options.region);
        let mut found = Vec::new();
        let call = self.clients.zones.list().set_project(&self.options.project);
        let mut items = call.by_item();
        while let Some(zone) = items.next().await {
            let zone = zone.map_err(|e| call_error(&what(), e))?;
            let region = zone.region.as_deref().map(short);
            if let (Some(name), true) = (zone.name, region == Some(&self.options.region)) {
                found.push((name, zone.status == Some(zone::Status::Up)));
            }
        }
        found.sort();
        Ok(found)
    }

    /// The instance of this name in any of `zones`.
    pub(crate) async fn find(
        &self,
        name: &str,
        zones: &[String],
    ) -> Result<Option<Instance>, CloudError> {
        let looks = zones.iter().map(|zone| async move {
            let call = self
                .clients
                .instances
                .get()
                .set_project(&self.options.project);
            match call.set_zone(zone).set_instance(name).send().await {
                Ok(found) => Ok(Some(found)),
                Err(e) if is_not_found(&e) => Ok(None),
                Err(e) => Err(call_error(&format!("cannot look for {name} in {zone}"), e)),
            }
        });
        let mut unknown = None;
        for look in join_all(looks).await {
            match look {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(e) => unknown = Some(e),
            }
        }
        match unknown {
            Some(e) => Err(e),
            None => Ok(None),
        }
    }

    /// The instance of this name anywhere in the region.
    pub(crate) async fn find_anywhere(&self, name: &str) -> Result<Option<Instance>, CloudError> {
        let zones = self.zones().await?;
        self.find(name, zones).await
    }

    /// The zone of an instance that was found.
    pub(crate) fn zone_of(found: &Instance) -> String {
        short(found.zone.as_deref().unwrap_or_default()).to_owned()
    }
}
