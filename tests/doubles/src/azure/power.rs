//! Machines that really boot, when the double was asked to.

use super::Arm;
use super::state::Resource;
use crate::boot::{Address, Disk, Machine, MachineSpec, Machines};
use crate::control::{Instances, Seen};
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// How a data disk is seen by its machine: the first of its controller.
const DATA_DEVICE: &str = "/dev/disk/azure/scsi1/lun0";

/// What machines are booted with.
#[derive(Clone)]
pub struct Boots {
    /// Where they run.
    pub machines: Machines,
    /// Where retained disks are kept, a folder for each.
    pub disks: PathBuf,
    /// What each machine has in its environment: where the metadata service answers, first of all.
    pub env: Vec<(String, String)>,
    /// Told of each machine before it boots, and of its end: the metadata service wants to know them.
    pub watcher: Arc<dyn Watcher>,
}

/// Who wants to know of machines that boot.
pub trait Watcher: Send + Sync {
    /// `machine` (with its address) is about to boot; `vm_id` is Azure's unique id of it.
    fn boots(&self, machine: &Seen, vm_id: &str);
    /// The machine has ended.
    fn ended(&self, name: &str);
    /// Announces `notice` on the machine.
    ///
    /// # Errors
    /// When it does not read.
    fn notice(&self, name: &str, notice: &Value) -> Result<(), String>;
}

/// The machines that run, and addresses of those that will.
#[derive(Debug, Default)]
pub(super) struct Booted {
    running: Mutex<BTreeMap<String, Machine>>,
    claimed: Mutex<BTreeMap<String, Address>>,
}

impl fmt::Debug for Boots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Boots")
            .field("machines", &self.machines)
            .field("disks", &self.disks)
            .finish_non_exhaustive()
    }
}

// === impl Booted ===

impl Booted {
    /// An address for a machine that will boot.
    pub(super) fn claim(&self, name: &str) -> std::io::Result<String> {
        let address = Address::claim()?;
        let text = address.ip().to_string();
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.insert(name.to_owned(), address);
        Ok(text)
    }

    fn end(&self, name: &str) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        drop(running.remove(name));
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.remove(name);
    }
}

// === impl Arm ===

impl Arm {
    /// Machines as tests see them.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let state = self.state();
        let machines = state
            .resources
            .values()
            .filter(|r| r.kind == super::path::Kind::Machine);
        machines.map(|r| seen(r, &state.resources)).collect()
    }

    pub(super) fn kill(&self, name: &str) -> Result<(), String> {
        let mut state = self.state();
        let key = state.machine(name).map(|(key, _)| key.clone());
        let key = key.ok_or_else(|| format!("there is no machine {name}"))?;
        state.remove(&key);
        drop(state);
        self.settle();
        Ok(())
    }

    pub(super) fn stop(&self, name: &str) -> Result<(), String> {
        let mut state = self.state();
        let key = state.machine(name).map(|(key, _)| key.clone());
        let machine = key.and_then(|key| state.resources.get_mut(&key));
        let machine = machine.ok_or_else(|| format!("there is no machine {name}"))?;
        machine.power = Some("deallocated");
        drop(state);
        let running = self
            .booted
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match running.get(name) {
            Some(machine) => machine.cut_power().map_err(|e| e.to_string()),
            None => Ok(()),
        }
    }

    /// Brings real machines to where the state has them.
    pub(super) fn settle(&self) {
        let (gone, up) = {
            let mut state = self.state();
            (
                std::mem::take(&mut state.gone),
                std::mem::take(&mut state.up),
            )
        };
        let Some(boots) = &self.options.boots else {
            return;
        };
        for name in gone {
            self.booted.end(&name);
            boots.watcher.ended(&name);
        }
        for name in up {
            if let Err(e) = self.boot(boots, &name) {
                eprintln!("the Azure double could not boot {name}: {e}");
            }
        }
    }

    fn boot(&self, boots: &Boots, name: &str) -> std::io::Result<()> {
        let mut running = self
            .booted
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(machine) = running.get(name) {
            return machine.start();
        }
        let found = {
            let state = self.state();
            state
                .machine(name)
                .map(|(_, r)| (r.clone(), seen(r, &state.resources)))
        };
        let Some((resource, seen)) = found else {
            return Ok(());
        };
        let claimed = {
            let mut claimed = self
                .booted
                .claimed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            claimed.remove(name)
        };
        let address = match claimed {
            Some(address) => address,
            None => Address::claim()?,
        };
        let vm_id = resource.body["properties"]["vmId"]
            .as_str()
            .unwrap_or_default();
        boots.watcher.boots(&seen, vm_id);
        let size = self
            .options
            .sizes
            .iter()
            .find(|s| s.name.eq_ignore_ascii_case(resource.size()));
        let machine = boots.machines.boot(MachineSpec {
            id: name.to_owned(),
            user_data: resource.user_data.clone(),
            gpus: size.and_then(super::Size::layout),
            address,
            env: boots.env.clone(),
            disks: data_disk(&resource.body)
                .map(|disk| Disk {
                    device: DATA_DEVICE.to_owned(),
                    folder: boots.disks.join(disk),
                })
                .into_iter()
                .collect(),
        })?;
        running.insert(name.to_owned(), machine);
        Ok(())
    }
}

#[async_trait]
impl Instances for Arm {
    async fn instances(&self) -> Vec<Seen> {
        self.seen()
    }

    async fn kill(&self, id: &str) -> Result<(), String> {
        Self::kill(self, id)
    }

    async fn notice(&self, id: &str, notice: &Value) -> Result<(), String> {
        match &self.options.boots {
            Some(boots) => boots.watcher.notice(id, notice),
            None => Err("machines do not boot here: nobody hears a notice".to_owned()),
        }
    }
}

fn seen(machine: &Resource, all: &BTreeMap<String, Resource>) -> Seen {
    let offering = machine.offering();
    let mut parts = offering.split('/');
    let zone = parts.next().unwrap_or_default().to_owned();
    let interface = &machine.body["properties"]["networkProfile"]["networkInterfaces"][0]["id"];
    let interface = interface.as_str().map(str::to_ascii_lowercase);
    let interface = interface.and_then(|id| all.get(&id));
    let address = interface.and_then(|i| {
        let ip = &i.body["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"];
        ip.as_str().map(str::to_owned)
    });
    let state = match (machine.state(), machine.power) {
        ("Deleting", _) => "terminating",
        (_, Some("deallocated")) => "stopped",
        (_, Some(_)) => "running",
        _ => "pending",
    };
    let tags = machine.body["tags"].as_object().into_iter().flatten();
    Seen {
        id: machine.name.clone(),
        state: state.to_owned(),
        zone,
        instance_type: machine.size().to_owned(),
        spot: offering.ends_with("/spot"),
        tags: tags
            .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()))
            .collect(),
        private_address: address,
        user_data: machine.user_data.clone(),
    }
}

/// The name of the disk that is attached beside the OS disk.
fn data_disk(machine: &Value) -> Option<&str> {
    let disk = &machine["properties"]["storageProfile"]["dataDisks"][0];
    disk["managedDisk"]["id"].as_str()?.rsplit('/').next()
}
