//! A cloud in memory whose faults a test sets.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use gpuloom_fleet::{FleetName, GpuShape, InstanceId, Millis, PoolPlace};

use crate::carry_out::LaunchBook;
use crate::cloud::{Cloud, CloudError, FailureClass, LaunchError, Launched};
use crate::instance::{Instance, InstanceState, Role, Tags};
use crate::launch::{LaunchId, LaunchRecord, LaunchRequest, Token};
use crate::offering::{Offered, Offering};

/// What goes wrong in a [`FakeCloud`]; all zero and empty: nothing.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// So many launches happen but their answer is lost (Transient).
    pub lost_answers: u32,
    /// So many launches are lost before they happen (Transient).
    pub lost_requests: u32,
    /// So many launches are refused with this class.
    pub refusals: Vec<FailureClass>,
    /// A new instance is missing from so many listings.
    pub listing_lag: u32,
    /// Instances that fit, per offering; no entry = unlimited.
    pub capacity: BTreeMap<Offering, usize>,
    /// The cloud cannot be listed.
    pub no_listing: bool,
    /// So many terminations fail halfway: the instance stays `Terminating`.
    pub lost_terminations: u32,
    /// Tokens are ignored: every launch makes a new instance (as moto does).
    pub ignores_tokens: bool,
}

/// A cloud in memory.
#[derive(Debug, Default)]
pub struct FakeCloud(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    faults: Faults,
    instances: BTreeMap<InstanceId, Listed>,
    attributes: BTreeMap<(InstanceId, String), String>,
    made: u64,
}

#[derive(Debug)]
struct Listed {
    instance: Instance,
    hidden_for: u32,
}

/// A launch book in memory, with requests of the simplest kind.
#[derive(Debug, Default)]
pub struct MemoryBook(Mutex<BTreeMap<LaunchId, LaunchRecord>>);

// === impl FakeCloud ===

impl FakeCloud {
    /// An empty cloud without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the faults.
    pub fn set(&self, faults: Faults) {
        self.inner().faults = faults;
    }

    /// What really exists, whatever a listing says.
    #[must_use]
    pub fn truth(&self) -> Vec<Instance> {
        self.inner()
            .instances
            .values()
            .map(|l| l.instance.clone())
            .collect()
    }

    /// The instance's machine goes down.
    pub fn stop(&self, id: &InstanceId) {
        if let Some(l) = self.inner().instances.get_mut(id) {
            l.instance.state = InstanceState::Stopped;
        }
    }

    /// What the instance's agent would leave for its driver.
    pub fn set_attribute(&self, id: &InstanceId, key: &str, value: &str) {
        self.inner()
            .attributes
            .insert((id.clone(), key.to_owned()), value.to_owned());
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn launch(&mut self, request: &LaunchRequest) -> Result<Instance, LaunchError> {
        let lost = || LaunchError::new(FailureClass::Transient, "connection reset");
        if take(&mut self.faults.lost_requests) {
            return Err(lost());
        }
        let known = self
            .instances
            .values()
            .find(|l| l.instance.token == request.token);
        if let (Some(l), false) = (known, self.faults.ignores_tokens) {
            return Ok(l.instance.clone());
        }
        if !self.faults.refusals.is_empty() {
            let class = self.faults.refusals.remove(0);
            return Err(LaunchError::new(class, format!("refused: {class:?}")));
        }
        let wanted = request.offering().cloned();
        let offering = wanted
            .ok_or_else(|| LaunchError::new(FailureClass::Invalid, "a launch without offerings"))?;
        let same = self
            .instances
            .values()
            .filter(|l| l.instance.offering == offering)
            .count();
        if self
            .faults
            .capacity
            .get(&offering)
            .is_some_and(|c| same >= *c)
        {
            let message = format!("no {offering} left");
            return Err(LaunchError::new(FailureClass::Capacity, message));
        }
        self.made += 1;
        let instance = Instance {
            id: InstanceId::new(format!("i-{:04}", self.made))
                .map_err(|e| LaunchError::new(FailureClass::Invalid, e.to_string()))?,
            token: request.token.clone(),
            offering,
            tags: request.tags(),
            state: InstanceState::Running,
            launched_at: Millis(self.made),
            pool: request.pool.clone(),
            role: request.role,
            private_address: None,
            public_address: None,
        };
        let listed = Listed {
            instance: instance.clone(),
            hidden_for: self.faults.listing_lag,
        };
        self.instances.insert(instance.id.clone(), listed);
        if take(&mut self.faults.lost_answers) {
            Err(lost())
        } else {
            Ok(instance)
        }
    }
}

#[async_trait]
impl Cloud for FakeCloud {
    async fn offerings(
        &self,
        _place: &PoolPlace,
        gpu: Option<&GpuShape>,
    ) -> Result<Vec<Offered>, CloudError> {
        Ok(gpu.map(Offered::local).into_iter().collect())
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchError> {
        self.inner().launch(request).map(Launched::from)
    }

    async fn list(&self, tags: &Tags) -> Result<Vec<Instance>, CloudError> {
        let mut inner = self.inner();
        if inner.faults.no_listing {
            return Err(CloudError::new(
                FailureClass::Transient,
                "cannot list: connection reset",
            ));
        }
        let mut seen = Vec::new();
        for l in inner
            .instances
            .values_mut()
            .filter(|l| l.instance.tags.contain(tags))
        {
            if !take(&mut l.hidden_for) {
                seen.push(l.instance.clone());
            }
        }
        Ok(seen)
    }

    async fn start(&self, id: &InstanceId) -> Result<Instance, LaunchError> {
        match self.inner().instances.get_mut(id) {
            Some(l) => {
                l.instance.state = InstanceState::Running;
                Ok(l.instance.clone())
            }
            None => Err(LaunchError::new(
                FailureClass::Invalid,
                format!("no instance {id} to start"),
            )),
        }
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), CloudError> {
        let mut inner = self.inner();
        if take(&mut inner.faults.lost_terminations) {
            if let Some(l) = inner.instances.get_mut(id) {
                l.instance.state = InstanceState::Terminating;
            }
            return Err(CloudError::new(
                FailureClass::Transient,
                format!("end of {id} not seen"),
            ));
        }
        inner.instances.remove(id);
        inner.attributes.retain(|(i, _), _| i != id);
        Ok(())
    }

    async fn read_attribute(
        &self,
        id: &InstanceId,
        key: &str,
    ) -> Result<Option<String>, CloudError> {
        Ok(self
            .inner()
            .attributes
            .get(&(id.clone(), key.to_owned()))
            .cloned())
    }

    async fn write_attribute(
        &self,
        id: &InstanceId,
        key: &str,
        value: &str,
    ) -> Result<(), CloudError> {
        if !self.inner().instances.contains_key(id) {
            let message = format!("no instance {id} to write {key} to");
            return Err(CloudError::new(FailureClass::Invalid, message));
        }
        self.set_attribute(id, key, value);
        Ok(())
    }
}

// === impl MemoryBook ===

impl MemoryBook {
    /// Every record, by id.
    #[must_use]
    pub fn records(&self) -> Vec<LaunchRecord> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// The request of a launch for the fleet `f`.
    #[must_use]
    pub fn request_for(token: &Token, record: &LaunchRecord, fleet: FleetName) -> LaunchRequest {
        LaunchRequest {
            token: token.clone(),
            fleet,
            pool: Some(record.pool.clone()),
            role: Role::Node,
            fleet_id: String::new(),
            offerings: record.offerings.clone(),
            place: PoolPlace::Local,
            gpu: None,
            labels: Tags::default(),
            revision: String::new(),
            data_disk: None,
            user_data: crate::UserData::default(),
        }
    }
}

#[async_trait]
impl LaunchBook for MemoryBook {
    async fn store(&self, record: &LaunchRecord) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.insert(record.id, record.clone());
        Ok(())
    }

    async fn forget(&self, launch: LaunchId) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&launch);
        Ok(())
    }

    async fn request(
        &self,
        record: &LaunchRecord,
    ) -> Result<LaunchRequest, Box<dyn Error + Send + Sync>> {
        Ok(Self::request_for(
            &record.token,
            record,
            FleetName::new("f")?,
        ))
    }
}

/// One less, if there is one.
fn take(count: &mut u32) -> bool {
    let some = *count > 0;
    *count = count.saturating_sub(1);
    some
}
