//! The trait, by the parts of this crate.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_ec2::types::Tag;
use gpuloom_cloud::{
    Cloud, CloudError, FailureClass, Instance, InstanceState, LaunchError, LaunchRequest, Launched,
    Offered, Tags, terminate_all,
};
use gpuloom_fleet::{GpuShape, InstanceId, PoolPlace};

use crate::client::{AwsCloud, once};
use crate::failure::Failure;
use crate::launch::aws_place;
use crate::listing::Listed;

/// Longest wait until a listing says that an instance ends.
const ENDING: Duration = Duration::from_secs(60);
/// The first and the longest pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// Longest value of a tag, in characters (EC2's limit).
const MAX_VALUE: usize = 256;

#[async_trait]
impl Cloud for AwsCloud {
    async fn offerings(
        &self,
        place: &PoolPlace,
        gpu: Option<&GpuShape>,
    ) -> Result<Vec<Offered>, CloudError> {
        Ok(self.offered(aws_place(place)?, gpu).await?)
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchError> {
        self.launch_one(request).await
    }

    async fn list(&self, tags: &Tags) -> Result<Vec<Instance>, CloudError> {
        let living = self.living(tags).await?;
        Ok(living.into_iter().map(|listed| listed.instance).collect())
    }

    async fn start(&self, id: &InstanceId) -> Result<Instance, LaunchError> {
        let Some(found) = self.described(id).await?.filter(|found| !found.ended) else {
            let message = format!("there is no instance {id} to start in {}", self.region);
            return Err(LaunchError::new(FailureClass::Invalid, message));
        };
        if found.instance.state != InstanceState::Stopped {
            return Ok(found.instance);
        }
        let call = self.ec2.start_instances().instance_ids(id.as_str());
        let started = call.customize().config_override(once()).send().await;
        started.map_err(|e| Failure::new(&format!("start instance {id}"), &e))?;
        Ok(Instance {
            state: InstanceState::Launching,
            ..found.instance
        })
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), CloudError> {
        let call = self.ec2.terminate_instances().instance_ids(id.as_str());
        if let Err(e) = call.send().await {
            let failure = Failure::new(&format!("end instance {id}"), &e);
            return if failure.is_not_found() {
                Ok(())
            } else {
                Err(failure.into())
            };
        }
        let ended = self.seen_ending(id).await?;
        if let Some(ended) = ended {
            self.tidy_after(&ended.instance.tags).await;
        }
        Ok(())
    }

    async fn read_attribute(
        &self,
        id: &InstanceId,
        key: &str,
    ) -> Result<Option<String>, CloudError> {
        let found = self.described(id).await?.filter(|found| !found.ended);
        let tags = found.map(|found| found.instance.tags);
        Ok(tags.and_then(|tags| tags.get(&attribute(key)).map(str::to_owned)))
    }

    async fn write_attribute(
        &self,
        id: &InstanceId,
        key: &str,
        value: &str,
    ) -> Result<(), CloudError> {
        let length = value.chars().count();
        if length > MAX_VALUE {
            let message = format!(
                "attribute {key} of {id} has {length} characters and a tag takes {MAX_VALUE}: shorten it"
            );
            return Err(CloudError::new(FailureClass::Invalid, message));
        }
        if !id.as_str().starts_with("i-") {
            let message =
                format!("there is no instance {id} to write {key} on: EC2's begin with i-");
            return Err(CloudError::new(FailureClass::Invalid, message));
        }
        let tag = Tag::builder().key(attribute(key)).value(value).build();
        let call = self.ec2.create_tags().resources(id.as_str()).tags(tag);
        let done = call.send().await;
        done.map_err(|e| Failure::new(&format!("write {key} on instance {id}"), &e))?;
        Ok(())
    }

    async fn delete_disks(&self, tags: &Tags) -> Result<(), CloudError> {
        self.delete_free_disks(tags).await?;
        Ok(())
    }

    /// Launch templates of these tags go, too.
    async fn terminate_all(&self, tags: &Tags, deadline: Instant) -> Result<(), CloudError> {
        terminate_all(self, tags, deadline).await?;
        self.delete_templates(tags).await?;
        Ok(())
    }
}

// === impl AwsCloud ===

impl AwsCloud {
    /// Waits until a listing says that the instance ends, or knows it no more.
    async fn seen_ending(&self, id: &InstanceId) -> Result<Option<Listed>, CloudError> {
        let deadline = Instant::now() + ENDING;
        let mut pause = PAUSE;
        loop {
            match self.described(id).await? {
                None => return Ok(None),
                Some(found) if found.ended => return Ok(Some(found)),
                Some(_) => {}
            }
            if Instant::now() >= deadline {
                let message = format!(
                    "instance {id} was told to end and is still listed after {} s: look at it in the console of {}",
                    ENDING.as_secs(),
                    self.region
                );
                return Err(CloudError::new(FailureClass::Transient, message));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// With the last instance of a fleet its launch templates go: a sweep has nothing to find. What fails here is
    /// left to [`Cloud::terminate_all`].
    pub(crate) async fn tidy_after(&self, tags: &Tags) {
        let mut fleet = tags.clone();
        let kept = [Tags::FLEET, Tags::FLEET_ID];
        fleet.0.retain(|key, _| kept.contains(&key.as_str()));
        if fleet.0.is_empty() {
            return;
        }
        let done = match self.living(&fleet).await {
            Ok(left) if left.is_empty() => self.delete_templates(&fleet).await,
            Ok(_) => Ok(()),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = done {
            tracing::warn!(
                region = self.region,
                why = failure.message,
                "launch templates may be left"
            );
        }
    }
}

/// The tag that holds an attribute.
fn attribute(key: &str) -> String {
    // Not `gpuloom:fleet-id`, by which instances are found.
    format!("gpuloom:attribute:{key}")
}
