//! Machines with their metadata services: what a cloud's double hands a launched instance to.

use super::{Address, Attendant, Disk, Machine, MachineSpec, Machines};
use crate::imds;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where an instance's metadata service answers, on the instance's own address.
pub const METADATA_PORT: u16 = 47_444;

/// The machines of one double with their metadata services; clones are the same ones.
#[derive(Debug, Clone)]
pub struct Yard {
    machines: Machines,
    attendant: Attendant,
    env: Arc<Vec<(String, String)>>,
    running: Arc<Mutex<BTreeMap<String, Machine>>>,
}

/// An instance to boot.
#[derive(Debug)]
pub struct Booting {
    /// What its metadata service says of it; its private address is `address`'s.
    pub instance: imds::Instance,
    /// Its address.
    pub address: Address,
    /// Its user data, decoded.
    pub user_data: String,
    /// Its GPUs as a layout of the simulator; `None` for an instance without.
    pub gpus: Option<String>,
    /// Disks that outlive it.
    pub disks: Vec<Disk>,
}

// === impl Yard ===

impl Yard {
    /// No machine yet. `env` is in the environment of every machine, beside where its metadata service answers.
    #[must_use]
    pub fn new(machines: Machines, attendant: Attendant, env: Vec<(String, String)>) -> Self {
        Self {
            machines,
            attendant,
            env: Arc::new(env),
            running: Arc::default(),
        }
    }

    /// Boots an instance: its metadata service answers first.
    ///
    /// # Errors
    /// When one of the two does not start.
    pub fn boot(&self, booting: Booting) -> io::Result<()> {
        let Booting {
            mut instance,
            address,
            user_data,
            gpus,
            disks,
        } = booting;
        instance.private_address = address.ip().to_string();
        let id = instance.id.clone();
        self.attendant.attend(instance)?;
        let machine = self.machines.boot(MachineSpec {
            id: id.clone(),
            user_data,
            gpus,
            address,
            env: self.env.to_vec(),
            disks,
        })?;
        self.running().insert(id, machine);
        Ok(())
    }

    /// Ends an instance as a power cut does; one that never booted is fine.
    pub fn end(&self, id: &str) {
        let ended = self.running().remove(id);
        // Its power is cut outside of the lock: that takes a while.
        drop(ended);
        self.attendant.leave(id);
    }

    /// Stops an instance and keeps it.
    ///
    /// # Errors
    /// When its processes do not end.
    pub fn stop(&self, id: &str) -> io::Result<()> {
        self.running().get(id).map_or(Ok(()), Machine::cut_power)
    }

    /// Starts an instance that was stopped.
    ///
    /// # Errors
    /// When its agent's unit does not start.
    pub fn start(&self, id: &str) -> io::Result<()> {
        self.running().get(id).map_or(Ok(()), Machine::start)
    }

    /// Shows an instance one more disk.
    ///
    /// # Errors
    /// When it cannot.
    pub fn attach(&self, id: &str, disk: &Disk) -> io::Result<()> {
        let running = self.running();
        running
            .get(id)
            .map_or(Ok(()), |machine| machine.attach(disk))
    }

    /// See [`Attendant::notice`].
    ///
    /// # Errors
    /// See there.
    pub fn notice(&self, id: &str, notice: &Value) -> Result<(), String> {
        self.attendant.notice(id, notice)
    }

    /// The ids of those that run.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.running().keys().cloned().collect()
    }

    /// The folder of an instance's file system.
    #[must_use]
    pub fn root(&self, id: &str) -> Option<PathBuf> {
        let running = self.running();
        running.get(id).map(|machine| machine.dir().join("root"))
    }

    /// The ends of all machines' logs.
    #[must_use]
    pub fn logs(&self) -> String {
        self.running().values().map(Machine::logs).collect()
    }

    /// The folder of all machines.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.machines.dir()
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Machine>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The GPUs of an EC2 instance type as a layout of the simulator; `None` for types without, and for those nobody
/// here launches.
#[must_use]
pub fn layout(instance_type: &str) -> Option<&'static str> {
    let types = [
        ("g4dn.xlarge", "1xT4"),
        ("g4dn.2xlarge", "1xT4"),
        ("g4dn.12xlarge", "4xT4"),
        ("g5.xlarge", "1xA10G"),
        ("g6.xlarge", "1xL4"),
        ("p3.2xlarge", "1xV100-16G"),
        ("p4d.24xlarge", "8xA100-40G"),
        ("p4de.24xlarge", "8xA100-80G"),
        ("p5.48xlarge", "8xH100"),
    ];
    let found = types.iter().find(|(name, _)| *name == instance_type);
    found.map(|(_, layout)| *layout)
}
