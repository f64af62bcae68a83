//! The drivers: one for each account, region and endpoint of this process, made when it is first needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use gpuloom_cloud::{Cloud, CloudError, FailureClass};
use gpuloom_cloud_aws::{AwsCloud, AwsOptions};
use gpuloom_cloud_azure::{AzureCloud, AzureOptions};
use gpuloom_cloud_gcp::{GcpCloud, GcpOptions};
use gpuloom_fleet::{Capacity, GpuShape, PoolPlace};
use tfplug::{Diagnostics, OrDiag};
use tokio::sync::Mutex;

/// See the module. Credentials are found by each cloud's own tools: environment, files, instance identity.
#[derive(Debug, Default)]
pub(crate) struct Clouds(Mutex<BTreeMap<String, Driver>>);

/// A driver as itself: what only one cloud can be asked is no part of the trait.
#[derive(Debug, Clone)]
enum Driver {
    Aws(Arc<AwsCloud>),
    Gcp(Arc<GcpCloud>),
    Azure(Arc<AzureCloud>),
    #[cfg(test)]
    Fake(Arc<dyn Cloud>),
}

// === impl Clouds ===

impl Clouds {
    /// The driver of a cloud's place. Making it asks the cloud nothing.
    ///
    /// # Errors
    /// When there are no credentials, or the place is on no cloud.
    pub(crate) async fn of(&self, place: &PoolPlace) -> Result<Arc<dyn Cloud>, Diagnostics> {
        let driver = self.driver(place).await;
        Ok(
            match driver.or_diag(format!("Cannot use {}", shown(place)))? {
                Driver::Aws(cloud) => cloud,
                Driver::Gcp(cloud) => cloud,
                Driver::Azure(cloud) => cloud,
                #[cfg(test)]
                Driver::Fake(cloud) => cloud,
            },
        )
    }

    /// What the cloud knows against `nodes` nodes with `gpu` in this place, as sentences: unknown offerings, quota.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub(crate) async fn check(
        &self,
        place: &PoolPlace,
        gpu: &GpuShape,
        capacity: &Capacity,
        nodes: u32,
    ) -> Result<Vec<String>, String> {
        let spot = capacity.spot_of(nodes);
        let driver = self.driver(place).await.map_err(|e| e.message)?;
        let found = match (driver, place) {
            (Driver::Azure(cloud), PoolPlace::Azure(place)) => {
                let on_demand = spot < nodes;
                cloud
                    .check(place, Some(gpu), nodes, spot > 0, on_demand)
                    .await
            }
            (Driver::Gcp(cloud), place) => cloud.check(place).await.map(|found| {
                let say = |w: gpuloom_cloud_gcp::Warning| format!("{}: {}", w.field, w.message);
                found.into_iter().map(say).collect()
            }),
            (Driver::Aws(cloud), PoolPlace::Aws(own)) => {
                let found = cloud.check(own).await.map_err(|e| e.message)?;
                let say =
                    |w: gpuloom_cloud_aws::PlaceWarning| format!("{}: {}", w.field, w.message);
                let mut said: Vec<String> = found.into_iter().map(say).collect();
                if said.is_empty() {
                    said = nothing_offered(&*cloud, place, gpu)
                        .await
                        .map_err(|e| e.message)?;
                }
                Ok(said)
            }
            #[cfg(test)]
            (Driver::Fake(cloud), place) => nothing_offered(&*cloud, place, gpu).await,
            (Driver::Aws(_) | Driver::Azure(_), _) => Ok(Vec::new()),
        };
        found.map_err(|e| e.message)
    }

    async fn driver(&self, place: &PoolPlace) -> Result<Driver, CloudError> {
        let key = key(place);
        let mut made = self.0.lock().await;
        if let Some(driver) = made.get(&key) {
            return Ok(driver.clone());
        }
        let driver = make(place).await?;
        made.insert(key, driver.clone());
        Ok(driver)
    }

    /// Puts a driver in its place, for tests.
    #[cfg(test)]
    pub(crate) async fn put(&self, place: &PoolPlace, cloud: Arc<dyn Cloud>) {
        self.0.lock().await.insert(key(place), Driver::Fake(cloud));
    }
}

// === functions ===

async fn make(place: &PoolPlace) -> Result<Driver, CloudError> {
    Ok(match place {
        PoolPlace::Local | PoolPlace::Existing => {
            let message = format!("a place of kind {:?} is on no cloud", place.kind());
            return Err(CloudError::new(FailureClass::Invalid, message));
        }
        PoolPlace::Aws(p) => {
            let options = AwsOptions {
                region: p.region.clone(),
                endpoint: p.endpoint.clone(),
            };
            Driver::Aws(Arc::new(AwsCloud::new(options).await?))
        }
        PoolPlace::Gcp(p) => {
            let options = GcpOptions {
                project: p.project.clone(),
                region: p.region.clone(),
                endpoint: p.endpoint.clone(),
            };
            Driver::Gcp(Arc::new(GcpCloud::new(options).await?))
        }
        PoolPlace::Azure(p) => {
            let options = AzureOptions {
                subscription: p.subscription.clone(),
                resource_group: p.resource_group.clone(),
                location: p.location.clone(),
                endpoint: p.endpoint.clone(),
            };
            Driver::Azure(Arc::new(AzureCloud::new(options)?))
        }
    })
}

/// A warning when the cloud offers nothing of what the place wants, or not all the types it states.
async fn nothing_offered(
    cloud: &dyn Cloud,
    place: &PoolPlace,
    gpu: &GpuShape,
) -> Result<Vec<String>, CloudError> {
    let offered = cloud.offerings(place, Some(gpu)).await?;
    let stated = place.instance_types();
    if offered.is_empty() {
        return Ok(vec![format!(
            "{} offers nothing with {} x {} there.",
            shown(place),
            gpu.per_node,
            gpu.model
        )]);
    }
    let missing = stated
        .iter()
        .filter(|t| !offered.iter().any(|o| o.offering.instance_type() == *t));
    Ok(missing
        .map(|t| {
            format!(
                "{t} is not offered in any of the stated zones of {}.",
                shown(place)
            )
        })
        .collect())
}

/// What a driver is made for: places of one key share it.
fn key(place: &PoolPlace) -> String {
    let group = match place {
        PoolPlace::Azure(p) => p.resource_group.as_str(),
        _ => "",
    };
    [
        place.kind(),
        place.account().unwrap_or_default(),
        group,
        place.region().unwrap_or_default(),
        place.endpoint().unwrap_or_default(),
    ]
    .join("|")
}

/// The place for people: `aws us-east-1`.
pub(crate) fn shown(place: &PoolPlace) -> String {
    let account = match place {
        PoolPlace::Azure(p) => Some(format!("{}/{}", p.subscription, p.resource_group)),
        place => place.account().map(str::to_owned),
    };
    match (place, place.region()) {
        (PoolPlace::Local | PoolPlace::Existing, _) | (_, None) => "this machine".to_owned(),
        (_, Some(region)) => match account {
            Some(account) => format!("{} {account} {region}", place.kind()),
            None => format!("{} {region}", place.kind()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_fleet::{AwsPlace, AzurePlace};

    #[test]
    fn places_of_one_account_and_region_share_a_driver_and_others_do_not() {
        let aws = |region: &str, image: &str, endpoint: Option<&str>| {
            PoolPlace::Aws(Box::new(AwsPlace {
                region: region.to_owned(),
                image: image.to_owned(),
                endpoint: endpoint.map(str::to_owned),
                ..AwsPlace::default()
            }))
        };
        assert_eq!(key(&aws("a", "ami-1", None)), key(&aws("a", "ami-2", None)));
        assert_ne!(key(&aws("a", "ami-1", None)), key(&aws("b", "ami-1", None)));
        assert_ne!(
            key(&aws("a", "ami-1", None)),
            key(&aws("a", "ami-1", Some("http://127.0.0.1:1")))
        );
        let azure = PoolPlace::Azure(Box::new(AzurePlace {
            subscription: "s".to_owned(),
            resource_group: "g".to_owned(),
            location: "eastus".to_owned(),
            ..AzurePlace::default()
        }));
        assert_eq!(shown(&azure), "azure s/g eastus");
        assert_eq!(shown(&PoolPlace::Local), "this machine");
    }
}
