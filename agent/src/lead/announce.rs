//! A lead on a cloud leaves on its own instance what others look for there: the CA's pin and the fleet's id.

use super::provision::Clouds;
use crate::config::LeadConfig;
use crate::instance::InstanceConfig;
use gpuloom_cloud::{CloudError, FailureClass};
use gpuloom_cloud_imds::{Dialect, Facts};
use gpuloom_fleet::{AwsPlace, AzurePlace, GcpPlace, InstanceId, PoolPlace};
use std::sync::Arc;
use std::time::Duration;

/// Between two tries, at first and at most.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_secs(60);

/// Writes the attributes, again and again until they stand; nothing to do on a machine that is no instance.
pub(super) async fn announce(
    config: LeadConfig,
    clouds: Arc<Clouds>,
    attributes: [(&'static str, String); 2],
) {
    let Some(instance) = &config.instance else {
        return;
    };
    let mut pause = AGAIN;
    loop {
        match write(&config, instance, &clouds, &attributes).await {
            Ok(()) => {
                tracing::info!("the lead's instance carries its CA's pin and its fleet's id");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "what the lead's instance is to carry is not written yet");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_AT_MOST);
    }
}

async fn write(
    config: &LeadConfig,
    instance: &InstanceConfig,
    clouds: &Clouds,
    attributes: &[(&'static str, String)],
) -> Result<(), CloudError> {
    let facts = instance.facts().await;
    let facts = facts.map_err(|e| CloudError::transient("the metadata service does not say", e))?;
    let cloud = clouds.of(&place(instance, &facts)).await?;
    let id = InstanceId::new(config.instance_id.as_str())
        .map_err(|e| CloudError::new(FailureClass::Invalid, e.to_string()))?;
    for (key, value) in attributes {
        cloud.write_attribute(&id, key, value).await?;
    }
    Ok(())
}

/// The place of the lead's own instance: as much of it as a driver needs.
fn place(instance: &InstanceConfig, facts: &Facts) -> PoolPlace {
    let endpoint = instance.endpoint.clone();
    match instance.dialect {
        Dialect::Aws => PoolPlace::Aws(Box::new(AwsPlace {
            region: facts.region.clone(),
            endpoint,
            ..AwsPlace::default()
        })),
        Dialect::Gcp => PoolPlace::Gcp(Box::new(GcpPlace {
            project: facts.account.clone(),
            region: facts.region.clone(),
            endpoint,
            ..GcpPlace::default()
        })),
        Dialect::Azure => PoolPlace::Azure(Box::new(AzurePlace {
            subscription: facts.account.clone(),
            resource_group: instance.resource_group.clone().unwrap_or_default(),
            location: facts.region.clone(),
            endpoint,
            ..AzurePlace::default()
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leads_own_place_is_that_of_its_metadata_and_its_configuration() {
        let facts = Facts {
            id: "lead".to_owned(),
            vm_id: None,
            account: "account".to_owned(),
            region: "region".to_owned(),
            zone: None,
            instance_type: "t".to_owned(),
            private_address: [10, 0, 0, 1].into(),
            public_address: None,
        };
        for (dialect, account) in [
            (Dialect::Aws, None),
            (Dialect::Gcp, Some("account")),
            (Dialect::Azure, Some("account")),
        ] {
            let instance = InstanceConfig {
                dialect,
                metadata: None,
                endpoint: Some("http://127.0.0.1:1".to_owned()),
                resource_group: Some("group".to_owned()),
            };
            let place = place(&instance, &facts);
            assert_eq!(place.kind(), dialect.as_str());
            assert_eq!(place.region(), Some("region"));
            assert_eq!(place.account(), account);
            assert_eq!(place.endpoint(), Some("http://127.0.0.1:1"));
        }
    }
}
