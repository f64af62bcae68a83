//! The drivers of the places that pools name: one per account, region and endpoint, made when first needed.

use gpuloom_cloud::{Cloud, CloudError, FailureClass};
use gpuloom_cloud_aws::{AwsCloud, AwsOptions};
use gpuloom_cloud_azure::{AzureCloud, AzureOptions};
use gpuloom_cloud_gcp::{GcpCloud, GcpOptions};
use gpuloom_fleet::PoolPlace;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Most drivers held at a time; those of places nobody names any more make room.
const MAX_DRIVERS: usize = 64;

/// Every driver of this lead.
#[derive(Debug)]
pub(crate) struct Clouds {
    local: Arc<dyn Cloud>,
    made: Mutex<BTreeMap<Key, Arc<dyn Cloud>>>,
}

/// What two places share when one driver serves both.
type Key = [String; 5];

// === impl Clouds ===

impl Clouds {
    /// Only that of this machine, so far.
    pub(crate) fn new(local: Arc<dyn Cloud>) -> Self {
        Self {
            local,
            made: Mutex::default(),
        }
    }

    /// The driver of `place`.
    ///
    /// # Errors
    /// Its credentials or its endpoint are missing; and existing machines have none.
    pub(crate) async fn of(&self, place: &PoolPlace) -> Result<Arc<dyn Cloud>, CloudError> {
        if *place == PoolPlace::Local {
            return Ok(self.local.clone());
        }
        let key = key(place);
        let mut made = self.made.lock().await;
        if let Some(cloud) = made.get(&key) {
            return Ok(cloud.clone());
        }
        let cloud = open(place).await?;
        if made.len() >= MAX_DRIVERS {
            made.clear();
        }
        made.insert(key, cloud.clone());
        Ok(cloud)
    }

    /// Puts `cloud` in the place of the driver of `place`.
    #[cfg(test)]
    pub(crate) async fn put(&self, place: &PoolPlace, cloud: Arc<dyn Cloud>) {
        self.made.lock().await.insert(key(place), cloud);
    }
}

fn key(place: &PoolPlace) -> Key {
    let [kind, account, group, region] = place.home();
    let endpoint = place.endpoint().unwrap_or_default();
    [kind, account, group, region, endpoint].map(str::to_owned)
}

/// A driver with the credentials this machine has.
pub(crate) async fn open(place: &PoolPlace) -> Result<Arc<dyn Cloud>, CloudError> {
    Ok(match place {
        PoolPlace::Local | PoolPlace::Existing => {
            let message = format!("a pool of place {} has no driver", place.kind());
            return Err(CloudError::new(FailureClass::Invalid, message));
        }
        PoolPlace::Aws(p) => {
            let options = AwsOptions {
                region: p.region.clone(),
                endpoint: p.endpoint.clone(),
            };
            Arc::new(AwsCloud::new(options).await?)
        }
        PoolPlace::Gcp(p) => {
            let options = GcpOptions {
                project: p.project.clone(),
                region: p.region.clone(),
                endpoint: p.endpoint.clone(),
            };
            Arc::new(GcpCloud::new(options).await?)
        }
        PoolPlace::Azure(p) => {
            let options = AzureOptions {
                subscription: p.subscription.clone(),
                resource_group: p.resource_group.clone(),
                location: p.location.clone(),
                endpoint: p.endpoint.clone(),
            };
            Arc::new(AzureCloud::new(options)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_cloud::FakeCloud;
    use gpuloom_fleet::AwsPlace;

    fn aws(region: &str, endpoint: Option<&str>) -> PoolPlace {
        PoolPlace::Aws(Box::new(AwsPlace {
            region: region.to_owned(),
            endpoint: endpoint.map(str::to_owned),
            ..AwsPlace::default()
        }))
    }

    #[tokio::test]
    async fn places_of_one_account_and_region_share_a_driver() {
        let clouds = Clouds::new(Arc::new(FakeCloud::new()));
        let one: Arc<dyn Cloud> = Arc::new(FakeCloud::new());
        clouds.put(&aws("us-east-1", None), one.clone()).await;
        let mut other_types = aws("us-east-1", None);
        if let PoolPlace::Aws(p) = &mut other_types {
            p.instance_types = vec!["g4dn.xlarge".to_owned()];
        }
        let same = clouds.of(&other_types).await.expect("there");
        assert!(Arc::ptr_eq(&same, &one));
        for other in [aws("us-east-2", None), aws("us-east-1", Some("http://x"))] {
            let two: Arc<dyn Cloud> = Arc::new(FakeCloud::new());
            clouds.put(&other, two.clone()).await;
            let found = clouds.of(&other).await.expect("there");
            assert!(Arc::ptr_eq(&found, &two));
        }
        let none = clouds.of(&PoolPlace::Existing).await.expect_err("none");
        assert_eq!(none.class, FailureClass::Invalid);
    }
}
