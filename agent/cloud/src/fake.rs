//! A cloud in memory whose faults a test sets.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use gpuloom_fleet::{FleetName, GpuShape, InstanceId, Millis, PoolPlace};

use crate::carry_out::LaunchBook;
use crate::cloud::{Cloud, CloudError, FailureClass, LaunchError, Launched, OfferingFailure};
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
    /// What there is to have; empty: one offering of this machine.
    pub offered: Vec<Offered>,
    /// Faults by chance, on top of the others.
    pub chaos: Option<Chaos>,
}

/// Faults that come by chance, the same for the same seed: calls that are lost before or after they happen, throttling,
/// missing capacity, listings that lag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chaos {
    /// Of the generator.
    pub seed: u64,
    /// Thousandths of the calls that go wrong.
    pub rate_milli: u64,
    /// A new instance is missing from up to so many listings.
    pub most_lag: u64,
}

/// How often a [`FakeCloud`] was called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Launches, lost and refused ones too.
    pub launches: u64,
    /// Terminations.
    pub terminations: u64,
    /// Starts.
    pub starts: u64,
    /// Instances that were made.
    pub made: u64,
    /// Instances that were ended.
    pub ended: u64,
    /// Most instances that existed at a time.
    pub most: usize,
}

/// What chance does to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chance {
    Fine,
    LostBefore,
    LostAfter,
    Throttled,
    NoCapacity,
}

/// A cloud in memory.
#[derive(Debug, Default)]
pub struct FakeCloud(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    faults: Faults,
    instances: BTreeMap<InstanceId, Listed>,
    attributes: BTreeMap<(InstanceId, String), String>,
    calls: Calls,
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

    /// The instance's machine is taken away behind everybody's back.
    pub fn kill(&self, id: &InstanceId) {
        self.inner().instances.remove(id);
    }

    /// How often it was called so far.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.inner().calls
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn launch(&mut self, request: &LaunchRequest) -> Result<Launched, LaunchError> {
        self.calls.launches += 1;
        let lost = || LaunchError::new(FailureClass::Transient, "connection reset");
        let chance = self.chance();
        if take(&mut self.faults.lost_requests) || chance == Chance::LostBefore {
            return Err(lost());
        }
        let known = self
            .instances
            .values()
            .find(|l| l.instance.token == request.token);
        if let (Some(l), false) = (known, self.faults.ignores_tokens) {
            let instance = l.instance.clone();
            return match chance {
                Chance::Fine => Ok(instance.into()),
                _ => Err(lost()),
            };
        }
        if chance == Chance::Throttled {
            return Err(throttled());
        }
        if !self.faults.refusals.is_empty() {
            let class = self.faults.refusals.remove(0);
            return Err(LaunchError::new(class, format!("refused: {class:?}")));
        }
        let failed = |o: &Offering| OfferingFailure {
            offering: o.clone(),
            class: FailureClass::Capacity,
            message: format!("no {o} left"),
        };
        let full = request.offerings.iter().take_while(|o| {
            let same = self
                .instances
                .values()
                .filter(|l| l.instance.offering == **o);
            let capacity = self.faults.capacity.get(*o);
            chance == Chance::NoCapacity || capacity.is_some_and(|c| same.count() >= *c)
        });
        let full: Vec<_> = full.map(failed).collect();
        let Some(offering) = request.offerings.get(full.len()) else {
            let said: Vec<_> = full.iter().map(|f| f.message.clone()).collect();
            return Err(LaunchError {
                failed: full,
                ..LaunchError::new(FailureClass::Capacity, said.join("; "))
            });
        };
        let instance = self.make(request, offering.clone())?;
        if take(&mut self.faults.lost_answers) || chance == Chance::LostAfter {
            return Err(lost());
        }
        Ok(Launched {
            instance,
            failed: full,
        })
    }

    fn make(
        &mut self,
        request: &LaunchRequest,
        offering: Offering,
    ) -> Result<Instance, LaunchError> {
        self.calls.made += 1;
        let number = self.calls.made;
        let instance = Instance {
            id: InstanceId::new(format!("i-{number:04}"))
                .map_err(|e| LaunchError::new(FailureClass::Invalid, e.to_string()))?,
            token: request.token.clone(),
            offering,
            tags: request.tags(),
            state: InstanceState::Running,
            launched_at: Millis(number),
            pool: request.pool.clone(),
            role: request.role,
            private_address: Some(format!("10.0.0.{}", number % 250)),
            public_address: None,
        };
        let lag = match &self.faults.chaos {
            Some(c) => u32::try_from(c.most_lag).unwrap_or(u32::MAX),
            None => 0,
        };
        let hidden_for = match lag {
            0 => self.faults.listing_lag,
            most => u32::try_from(self.random() % (u64::from(most) + 1)).unwrap_or(0),
        };
        let listed = Listed {
            instance: instance.clone(),
            hidden_for,
        };
        self.instances.insert(instance.id.clone(), listed);
        self.calls.most = self.calls.most.max(self.instances.len());
        Ok(instance)
    }

    /// The next number of the generator (xorshift64*).
    fn random(&mut self) -> u64 {
        let Some(chaos) = &mut self.faults.chaos else {
            return 0;
        };
        let mut x = chaos.seed | 1;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        chaos.seed = x;
        x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn chance(&mut self) -> Chance {
        let Some(rate) = self.faults.chaos.as_ref().map(|c| c.rate_milli) else {
            return Chance::Fine;
        };
        if self.random() % 1000 >= rate {
            return Chance::Fine;
        }
        match self.random() % 4 {
            0 => Chance::LostBefore,
            1 => Chance::LostAfter,
            2 => Chance::Throttled,
            _ => Chance::NoCapacity,
        }
    }

    fn terminate(&mut self, id: &InstanceId) -> Result<(), CloudError> {
        self.calls.terminations += 1;
        let unseen = || CloudError::new(FailureClass::Transient, format!("end of {id} not seen"));
        let chance = self.chance();
        match chance {
            Chance::LostBefore => return Err(unseen()),
            Chance::Throttled => {
                return Err(CloudError::new(
                    FailureClass::Throttled,
                    "rate exceeded".to_owned(),
                ));
            }
            _ => {}
        }
        if take(&mut self.faults.lost_terminations) {
            if let Some(l) = self.instances.get_mut(id) {
                l.instance.state = InstanceState::Terminating;
            }
            return Err(unseen());
        }
        let ended = self.instances.remove(id).is_some();
        self.calls.ended += u64::from(ended);
        self.attributes.retain(|(i, _), _| i != id);
        match chance {
            Chance::LostAfter => Err(unseen()),
            _ => Ok(()),
        }
    }
}

fn throttled() -> LaunchError {
    LaunchError::new(FailureClass::Throttled, "rate exceeded")
}

#[async_trait]
impl Cloud for FakeCloud {
    async fn offerings(
        &self,
        _place: &PoolPlace,
        gpu: Option<&GpuShape>,
    ) -> Result<Vec<Offered>, CloudError> {
        let inner = self.inner();
        if inner.faults.no_listing {
            let message = "cannot ask what there is: connection reset";
            return Err(CloudError::new(FailureClass::Transient, message));
        }
        if !inner.faults.offered.is_empty() {
            return Ok(inner.faults.offered.clone());
        }
        Ok(gpu.map(Offered::local).into_iter().collect())
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchError> {
        self.inner().launch(request)
    }

    async fn list(&self, tags: &Tags) -> Result<Vec<Instance>, CloudError> {
        let mut inner = self.inner();
        if inner.faults.no_listing || inner.chance() == Chance::Throttled {
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
        let mut inner = self.inner();
        inner.calls.starts += 1;
        match inner.instances.get_mut(id) {
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
        self.inner().terminate(id)
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
            revision: record.revision.clone(),
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
