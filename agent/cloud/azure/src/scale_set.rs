//! The scale sets that hold a pool's machines: empty containers, made with the first machine and removed after the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gpuloom_cloud::{CloudError, Tags};
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::arm::{COMPUTE, Call};
use crate::body;
use crate::cloud::{AzureCloud, CHANGE_WAIT, MACHINES};
use crate::failure::ArmError;
use crate::names;
use crate::types::{ScaleSet, VirtualMachine};

const SETS: &str = "Microsoft.Compute/virtualMachineScaleSets";

/// The sets this driver has made or seen, and the machines it put into them.
#[derive(Debug, Default)]
pub(crate) struct ScaleSets {
    known: Mutex<BTreeMap<String, Known>>,
    /// Launches share it; taking a set away has it alone.
    gate: RwLock<()>,
    /// One set is made by one call at a time.
    making: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    zones: Option<Vec<String>>,
    members: BTreeSet<String>,
}

// === impl ScaleSets ===

impl ScaleSets {
    /// As long as the guard lives no set is taken away.
    pub(crate) async fn hold(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// `machine` is about to be in `set`.
    pub(crate) fn joins(&self, set: Option<&str>, machine: &str) {
        if let Some(set) = set {
            let mut known = self.known();
            let members = &mut known.entry(set.to_owned()).or_default().members;
            members.insert(machine.to_owned());
        }
    }

    /// The set is not there any more.
    pub(crate) fn forget(&self, set: Option<&str>) {
        if let Some(set) = set
            && let Some(known) = self.known().get_mut(set)
        {
            known.zones = None;
        }
    }

    /// `machine` is not there: it is in no set.
    pub(crate) fn left(&self, machine: &str) {
        for entry in self.known().values_mut() {
            entry.members.remove(machine);
        }
    }

    /// `machine` has ended. True when no other one is known in `set`.
    fn leaves(&self, set: &str, machine: &str) -> bool {
        let mut known = self.known();
        let Some(entry) = known.get_mut(set) else {
            return true;
        };
        entry.members.remove(machine);
        entry.members.is_empty()
    }

    fn members(&self, set: &str) -> Vec<String> {
        let known = self.known();
        let members = known.get(set).map(|k| k.members.iter().cloned());
        members.into_iter().flatten().collect()
    }

    fn has(&self, set: &str, zones: &[String]) -> bool {
        let known = self.known();
        let have = known.get(set).and_then(|k| k.zones.as_ref());
        have.is_some_and(|have| zones.iter().all(|z| have.contains(z)))
    }

    fn learn(&self, set: &str, zones: Vec<String>) {
        self.known().entry(set.to_owned()).or_default().zones = Some(zones);
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AzureCloud {
    /// The id of the set of this name, made when there is none; `zones` are added to those it has.
    pub(crate) async fn set(
        &self,
        name: &str,
        zones: Vec<String>,
        tags: &BTreeMap<String, String>,
    ) -> Result<String, ArmError> {
        let id = self.arm.in_group(SETS, name);
        let _alone = self.sets.making.lock().await;
        if self.sets.has(name, &zones) {
            return Ok(id);
        }
        let found: Option<ScaleSet> = self.arm.find(&Call::get(&id, COMPUTE)).await?;
        let mut all = found.as_ref().map(|s| s.zones.clone()).unwrap_or_default();
        let missing = zones.iter().any(|z| !all.contains(z));
        if found.is_none() || missing {
            all.extend(zones);
            all.sort();
            all.dedup();
            let call = Call::put(&id, COMPUTE, &body::scale_set(&self.location, &all, tags));
            let answer = self.arm.send(&call).await?;
            self.arm
                .finish(answer, Instant::now() + CHANGE_WAIT)
                .await?;
        }
        self.sets.learn(name, all);
        Ok(id)
    }

    /// Takes the set away when `machine` was its last. What does not work is tried with the next machine's end, and by
    /// [`AzureCloud::delete_empty_sets`]: an empty set costs nothing.
    pub(crate) async fn leave_set(&self, id: &str, machine: &str) {
        let name = names::last(id);
        if !self.sets.leaves(name, machine) {
            return;
        }
        // A launch in progress may be about to use it.
        let Ok(_alone) = self.sets.gate.try_write() else {
            return;
        };
        if let Err(e) = self.delete_if_empty(name).await {
            tracing::debug!(set = name, error = %e, "empty scale set not removed");
        }
    }

    async fn delete_if_empty(&self, name: &str) -> Result<(), ArmError> {
        let id = self.arm.in_group(SETS, name);
        // A listing may not have the newest yet, and still have what has ended: what we put in is asked by its name.
        for machine in self.sets.members(name) {
            let call = Call::get(self.arm.in_group(MACHINES, &machine), COMPUTE);
            if self.arm.find::<VirtualMachine>(&call).await?.is_some() {
                return Ok(());
            }
            self.sets.left(&machine);
        }
        let members = self.members(&id, false).await?;
        if !members.iter().all(|m| self.ended.has(&m.name)) {
            return Ok(());
        }
        self.sets.forget(Some(name));
        let answer = match self.arm.send(&Call::delete(&id, COMPUTE)).await {
            Ok(answer) => answer,
            Err(e) if e.is_gone() => return Ok(()),
            Err(e) => return Err(e),
        };
        self.arm.finish(answer, Instant::now() + CHANGE_WAIT).await
    }

    /// The machines in a set, on request with their power state.
    pub(crate) async fn members(
        &self,
        set_id: &str,
        power: bool,
    ) -> Result<Vec<VirtualMachine>, ArmError> {
        let filter = format!("'virtualMachineScaleSet/id' eq '{set_id}'");
        let mut call = Call::get(self.arm.in_group(MACHINES, ""), COMPUTE).query("$filter", filter);
        if power {
            call = call.query("$expand", "instanceView");
        }
        self.arm.list(call).await
    }

    /// Takes away every empty set that has all of `tags`.
    pub(crate) async fn delete_empty_sets(&self, tags: &Tags) -> Result<(), CloudError> {
        let failed = |e: ArmError| e.cloud("cannot remove the pools' scale sets");
        let call = Call::get(self.arm.in_group(SETS, ""), COMPUTE);
        let sets: Vec<ScaleSet> = self.arm.list(call).await.map_err(failed)?;
        let _alone = self.sets.gate.write().await;
        for set in sets {
            let have = names::from_azure(&set.tags);
            if have.get(Tags::FLEET).is_some() && have.contain(tags) {
                let name = if set.name.is_empty() {
                    names::last(&set.id)
                } else {
                    &set.name
                };
                self.delete_if_empty(name).await.map_err(failed)?;
            }
        }
        Ok(())
    }
}
