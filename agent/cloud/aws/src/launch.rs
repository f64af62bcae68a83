//! A launch: found by its token, else sent once, and its disk attached.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gpuloom_cloud::{
    FailureClass, Instance, InstanceState, LaunchError, LaunchRequest, Launched, Offering, Tags,
};
use gpuloom_fleet::{AwsPlace, InstanceId, Millis, PoolPlace};

use crate::client::AwsCloud;
use crate::create_fleet::{failures, launched, refused};
use crate::failure::Failure;
use crate::listing::{Listed, tag_filters};
use crate::template::invalid;

/// Most offerings of one call.
const MAX_OFFERINGS: usize = 50;
/// Most tags of an instance (EC2's limit).
const MAX_TAGS: usize = 50;
/// Most bytes of a tag's key that instance metadata may show, and of its value.
const MAX_TAG_KEY: usize = 127;
const MAX_TAG_VALUE: usize = 256;
/// How often a launch is tried whose template somebody else deletes each time.
const TEMPLATE_TRIES: u32 = 3;
/// How often and in which distance an instance is looked for that another request under its token may have made.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_secs(1);

// === impl AwsCloud ===

impl AwsCloud {
    /// See [`gpuloom_cloud::Cloud::launch`].
    pub(crate) async fn launch_one(
        &self,
        request: &LaunchRequest,
    ) -> Result<Launched, LaunchError> {
        let mut launched = self.try_launch(request).await;
        if let Err(e) = &mut launched
            && matches!(e.class, FailureClass::Throttled | FailureClass::Auth)
            && e.failed.is_empty()
            && self.is_unsure(&request.token)
        {
            // This call did nothing; whether the one before it did is as unknown as it was.
            e.class = FailureClass::Transient;
        }
        let unsure = matches!(&launched, Err(e) if e.class == FailureClass::Transient);
        self.note_unsure(&request.token, unsure);
        launched
    }

    async fn try_launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchError> {
        let place = aws_place(&request.place)?;
        let tags = self.checked(request, place)?;
        if let Some(found) = self.of_token(request).await? {
            return self.with_disk(request, found).await;
        }
        let disk = match request.data_disk {
            Some(_) => self.data_disk(request).await?,
            None => None,
        };
        let offerings = match &disk {
            Some(disk) => self.in_zone(&request.offerings, disk).await?,
            None => request.offerings.clone(),
        };
        let sent = self.send(request, place, &offerings, &tags).await;
        if let Err(refused) = &sent
            && !matches!(
                refused.class,
                FailureClass::Transient | FailureClass::Throttled
            )
        {
            // Nothing of this exists, and it is not sent again soon: neither should its template exist, when nothing
            // else of the fleet does.
            self.tidy_after(&tags).await;
        }
        let (id, offering, failed) = match sent? {
            Sent::Launched(id, offering, failed) => (id, offering, failed),
            Sent::Found(found) => return self.with_disk(request, *found).await,
        };
        let id = InstanceId::new(&id).map_err(|e| {
            LaunchError::new(FailureClass::Transient, format!("EC2 launched {id:?}: {e}"))
        })?;
        let instance = instance(request, id, offering, tags);
        if request.data_disk.is_some() {
            let attached = self.attach_data_disk(request, &instance.id).await;
            attached.map_err(unfinished)?;
        }
        Ok(Launched { instance, failed })
    }

    /// Sends the request; a template that somebody deleted meanwhile is made again.
    async fn send(
        &self,
        request: &LaunchRequest,
        place: &AwsPlace,
        offerings: &[Offering],
        tags: &Tags,
    ) -> Result<Sent, LaunchError> {
        let mut template = self.template(request, place).await?;
        let mut answer = self.create_fleet(request, &template, offerings, tags).await;
        for _ in 1..TEMPLATE_TRIES {
            match &answer {
                Err(failure) if is_template_gone(failure) => {}
                _ => break,
            }
            self.forget_template(&template);
            template = self.template(request, place).await?;
            answer = self.create_fleet(request, &template, offerings, tags).await;
        }
        match answer {
            Ok(answer) => {
                let failed = failures(&answer, offerings);
                match launched(&answer, offerings) {
                    Some((id, offering)) => Ok(Sent::Launched(id, offering, failed)),
                    None => Err(refused(failed, &self.region)),
                }
            }
            Err(failure) if failure.code == "IdempotentParameterMismatch" => {
                let found = self.made_otherwise(request, failure).await?;
                Ok(Sent::Found(Box::new(found)))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// The token was sent before, for something else (a configuration that changed since): what it made then is what
    /// it stands for. Made nothing: another token is needed.
    async fn made_otherwise(
        &self,
        request: &LaunchRequest,
        failure: Failure,
    ) -> Result<Listed, LaunchError> {
        for _ in 0..LOOKS {
            if let Some(found) = self.of_token(request).await? {
                return Ok(found);
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(failure.into())
    }

    /// The instance that this request's token launched; one that has ended only when there is no other.
    async fn of_token(&self, request: &LaunchRequest) -> Result<Option<Listed>, Failure> {
        let mut tags = Tags::of_fleet(&request.fleet);
        let token = request.token.to_string();
        tags.0.insert(Tags::TOKEN.to_owned(), token);
        let mut found = self.listed(tag_filters(&tags)).await?;
        found.sort_by_key(|listed| listed.ended);
        Ok(found.into_iter().next())
    }

    async fn with_disk(
        &self,
        request: &LaunchRequest,
        found: Listed,
    ) -> Result<Launched, LaunchError> {
        if request.data_disk.is_some() && !found.ended {
            let attached = self.attach_data_disk(request, &found.instance.id).await;
            attached.map_err(unfinished)?;
        }
        Ok(found.instance.into())
    }

    /// The request's tags with the place's, once everything EC2 would refuse late is refused here.
    fn checked(&self, request: &LaunchRequest, place: &AwsPlace) -> Result<Tags, Failure> {
        let together = Offering::together(&request.offerings);
        let asked = request.offerings.len();
        if asked == 0 || asked > MAX_OFFERINGS || together != asked {
            return Err(invalid(format!(
                "{asked} offerings cannot go in one call: 1 to {MAX_OFFERINGS} of one region and one market can"
            )));
        }
        let stray = request.offerings.iter();
        let mut stray = stray.filter(|o| o.kind() != "aws" || o.region() != self.region);
        if let Some(other) = stray.next() {
            let region = &self.region;
            return Err(invalid(format!(
                "{other} is not an offering of aws/{region}"
            )));
        }
        let mut tags = Tags(place.tags.clone());
        tags.0.extend(request.tags().0);
        if tags.0.len() > MAX_TAGS {
            let (have, fix) = (tags.0.len(), "take some of aws.tags or labels away");
            return Err(invalid(format!(
                "{have} tags are more than EC2's {MAX_TAGS}: {fix}"
            )));
        }
        for (key, value) in &tags.0 {
            if !shows(key) || value.chars().count() > MAX_TAG_VALUE {
                return Err(invalid(format!(
                    "the tag {key:?} = {value:?} cannot stand on an instance: use at most {MAX_TAG_KEY} letters, \
                     digits and + - = . , _ : @ for the key, at most {MAX_TAG_VALUE} characters for the value"
                )));
            }
        }
        Ok(tags)
    }
}

/// What came of sending.
enum Sent {
    Launched(String, Offering, Vec<gpuloom_cloud::OfferingFailure>),
    Found(Box<Listed>),
}

// === functions ===

/// The place, when it is one of ours.
pub(crate) fn aws_place(place: &PoolPlace) -> Result<&AwsPlace, Failure> {
    match place {
        PoolPlace::Aws(place) => Ok(place),
        other => Err(invalid(format!(
            "a place of kind {} is not on AWS: this is a driver for EC2",
            other.kind()
        ))),
    }
}

/// The instance exists, whatever its disk met: the same token comes back to it.
fn unfinished(error: LaunchError) -> LaunchError {
    LaunchError {
        class: FailureClass::Transient,
        ..error
    }
}

/// The launch was refused because its template is not there.
fn is_template_gone(failure: &Failure) -> bool {
    failure.code.starts_with("InvalidLaunchTemplate") && failure.is_not_found()
}

/// Whether instance metadata may show a tag of this key; one that it may not show fails the launch.
fn shows(key: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-=.,_:@".contains(&b);
    (1..=MAX_TAG_KEY).contains(&key.len())
        && key.bytes().all(plain)
        && ![".", "..", "_index"].contains(&key)
        && !key.starts_with("aws:")
}

/// The instance as it is right after its launch: addresses are known once it is listed.
fn instance(request: &LaunchRequest, id: InstanceId, offering: Offering, tags: Tags) -> Instance {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.unwrap_or_default().as_millis();
    Instance {
        id,
        token: request.token.clone(),
        offering,
        tags,
        state: InstanceState::Launching,
        launched_at: Millis(u64::try_from(now).unwrap_or(u64::MAX)),
        pool: request.pool.clone(),
        role: request.role,
        private_address: None,
        public_address: None,
    }
}
