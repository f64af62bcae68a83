//! The trait every place implements.

use std::fmt;
use std::time::Instant;

use async_trait::async_trait;
use gpuloom_fleet::{GpuShape, InstanceId, PoolPlace, Seconds};
use serde::{Deserialize, Serialize};

use crate::instance::{Instance, Tags};
use crate::launch::LaunchRequest;
use crate::offering::{Offered, Offering};
use crate::sweep;

/// A place instances come from. `contract::run` is what each must hold.
#[async_trait]
pub trait Cloud: fmt::Debug + Send + Sync {
    /// Everything of `place` that has exactly these GPUs (model and number), each instance type in each zone and
    /// market: in the place's stated order of types, then of zones; types that were not stated in the cloud's own
    /// order. Without `gpu`: the stated types, with or without any. Not ranked by price. Empty when nothing fits.
    ///
    /// # Errors
    /// [`CloudError`]: nothing is known; this is not an empty list.
    async fn offerings(
        &self,
        place: &PoolPlace,
        gpu: Option<&GpuShape>,
    ) -> Result<Vec<Offered>, CloudError>;

    /// Launches one instance of the first of the request's offerings that can be had, or returns the one that this
    /// token launched before. Returns when the cloud has taken it on; its agent may not run yet.
    ///
    /// # Errors
    /// [`LaunchError`]: except for [`FailureClass::Transient`] (unknown: send the same token again), nothing of
    /// this request exists.
    async fn launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchError>;

    /// Every instance that has all of `tags`, those being terminated included, ordered by id. May lag behind
    /// launches; never behind terminations that were verified.
    ///
    /// # Errors
    /// [`CloudError`]: nothing is known; this is not an empty list.
    async fn list(&self, tags: &Tags) -> Result<Vec<Instance>, CloudError>;

    /// Brings an instance that is [`crate::InstanceState::Stopped`] back: same id, same data. One that runs is
    /// left as it is.
    ///
    /// # Errors
    /// [`FailureClass::Invalid`] when there is no such instance.
    async fn start(&self, id: &InstanceId) -> Result<Instance, LaunchError>;

    /// Ends the instance and everything on it; returns when that is verified. Ending what is gone succeeds.
    ///
    /// # Errors
    /// [`CloudError`]: it may still exist, call again.
    async fn terminate(&self, id: &InstanceId) -> Result<(), CloudError>;

    /// What the instance's agent left for its driver under `key` (e.g. `ca-pin`); `None` when nothing yet, or
    /// when there is no such instance.
    ///
    /// # Errors
    /// [`CloudError`] when that cannot be known.
    async fn read_attribute(
        &self,
        id: &InstanceId,
        key: &str,
    ) -> Result<Option<String>, CloudError>;

    /// Leaves `value` under `key` on an instance, in place of what stood there: what the lead does on its own (a tag;
    /// on Google Cloud a label or guest attribute).
    ///
    /// # Errors
    /// [`FailureClass::Invalid`] when there is no such instance.
    async fn write_attribute(
        &self,
        id: &InstanceId,
        key: &str,
        value: &str,
    ) -> Result<(), CloudError>;

    /// Removes the retained disks that have all of `tags` and belong to no instance any more; returns when that is
    /// verified. None being there succeeds.
    ///
    /// # Errors
    /// [`CloudError`]: some may be left, named; call again.
    async fn delete_disks(&self, tags: &Tags) -> Result<(), CloudError> {
        let _ = tags;
        Ok(())
    }

    /// Ends every instance that has all of `tags` and verifies it by listing, again and again until none is left or
    /// `deadline` has passed. Never starts one.
    ///
    /// # Errors
    /// [`CloudError`] of class [`FailureClass::Transient`] that names each instance that is left.
    async fn terminate_all(&self, tags: &Tags, deadline: Instant) -> Result<(), CloudError> {
        sweep::terminate_all(self, tags, deadline).await
    }
}

/// What kind of no a cloud gave: what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// None left of this offering: try another, or later.
    Capacity,
    /// The account may not have more: a person asks for more, or another offering.
    Quota,
    /// This place does not have this offering at all.
    Unsupported,
    /// Too many calls: later.
    Throttled,
    /// The credentials do not allow it: a person.
    Auth,
    /// The request is wrong: a person.
    Invalid,
    /// Unknown whether it happened: send the same again.
    Transient,
}

/// A launch that did not give an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LaunchError {
    /// What to do about it.
    pub class: FailureClass,
    /// What was tried, what was said, and what would help.
    pub message: String,
    /// When the place itself knows how long to wait.
    pub retry_after: Option<Seconds>,
    /// What was said of each offering by itself; empty when the call failed as a whole.
    pub failed: Vec<OfferingFailure>,
}

/// What a cloud said of one offering of a launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferingFailure {
    /// Which.
    pub offering: Offering,
    /// What to do about it.
    pub class: FailureClass,
    /// What was said.
    pub message: String,
}

/// A launch that gave an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launched {
    /// It; its offering is the one that was had.
    pub instance: Instance,
    /// What was said of offerings that were tried before it.
    pub failed: Vec<OfferingFailure>,
}

/// A cloud that could not be asked, or did not do it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CloudError {
    /// What to do about it.
    pub class: FailureClass,
    /// What was tried, on what.
    pub message: String,
    /// What it met.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

// === impl FailureClass ===

impl fmt::Display for FailureClass {
    /// The word it is stored and shown by, e.g. `capacity`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Capacity => "capacity",
            Self::Quota => "quota",
            Self::Unsupported => "unsupported",
            Self::Throttled => "throttled",
            Self::Auth => "auth",
            Self::Invalid => "invalid",
            Self::Transient => "transient",
        })
    }
}

// === impl Launched ===

impl From<Instance> for Launched {
    /// Had at the first try.
    fn from(instance: Instance) -> Self {
        Self {
            instance,
            failed: Vec::new(),
        }
    }
}

// === impl LaunchError ===

impl LaunchError {
    /// An error of `class` that waits as long as its class does.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            retry_after: None,
            failed: Vec::new(),
        }
    }
}

// === impl CloudError ===

impl CloudError {
    /// An error of `class` without a cause of its own.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            source: None,
        }
    }

    /// Something on the way failed: try again.
    pub fn transient(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            class: FailureClass::Transient,
            message: message.into(),
            source: Some(source.into()),
        }
    }
}
