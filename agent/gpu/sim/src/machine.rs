//! The simulated machine as workloads, the injector and tests see it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::claims::reap;
use crate::error::SimError;
use crate::mapping::{Locked, Mapping, monotonic_ns};
use crate::profile::{PROFILES, Profile};
use crate::snapshot::{DeviceSnapshot, settle_energy};
use crate::spec::MachineSpec;
use crate::state::{self, Claim, Device, State};

/// An open simulated machine. Cheap to keep; every operation locks the file for microseconds.
#[derive(Debug)]
pub struct Machine {
    path: PathBuf,
    pub(crate) mapping: Mapping,
}

// === impl Machine ===

impl Machine {
    /// Creates the machine, or opens it when the file already holds the same one.
    ///
    /// UUIDs follow from the path, `seed` and index. The file is writable by every user, because
    /// workloads run under users of their own; its folder decides who reaches it.
    ///
    /// # Errors
    /// [`SimError::OtherMachine`] when the file holds another layout or seed,
    /// [`SimError::NotAMachine`] when it holds something else, [`SimError::File`] from the system.
    pub fn create(path: &Path, spec: &MachineSpec, seed: u64) -> Result<Self, SimError> {
        let machine = Self::map(path, true)?;
        {
            let mut state = machine.lock()?;
            match state.magic {
                0 => initialise(&mut state, path, spec, seed),
                state::MAGIC => {
                    let have = format!("{} (seed {})", state::text(&state.spec), state.seed);
                    let want = format!("{spec} (seed {seed})");
                    if have != want {
                        return Err(SimError::OtherMachine {
                            path: path.to_owned(),
                            have,
                            want,
                        });
                    }
                }
                _ => {
                    return Err(SimError::NotAMachine {
                        path: path.to_owned(),
                    });
                }
            }
        }
        machine.after_boot()?;
        Ok(machine)
    }

    /// Opens a machine that exists.
    ///
    /// # Errors
    /// [`SimError::File`] when it cannot be opened, [`SimError::NotAMachine`] when it is none.
    pub fn open(path: &Path) -> Result<Self, SimError> {
        let machine = Self::map(path, false)?;
        if machine.lock()?.magic != state::MAGIC {
            return Err(SimError::NotAMachine {
                path: path.to_owned(),
            });
        }
        machine.after_boot()?;
        Ok(machine)
    }

    fn map(path: &Path, create: bool) -> Result<Self, SimError> {
        let path = path.to_owned();
        match Mapping::open(&path, create) {
            Ok(mapping) => Ok(Self { path, mapping }),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(SimError::NotAMachine { path }),
            Err(source) => Err(SimError::File { path, source }),
        }
    }

    pub(crate) fn lock(&self) -> Result<Locked<'_>, SimError> {
        self.mapping.lock().map_err(|source| SimError::File {
            path: self.path.clone(),
            source,
        })
    }

    /// Forgets the claims, leaks and hangs of an earlier boot: a reboot gives all memory back.
    fn after_boot(&self) -> Result<(), SimError> {
        let boot = boot_id();
        let mut state = self.lock()?;
        if state::text(&state.boot_id) == boot {
            return Ok(());
        }
        state::set_text(&mut state.boot_id, &boot);
        state.hung = 0;
        for device in &mut state.devices {
            device.claims.fill(Claim::FREE);
            device.leaked_bytes = 0;
            device.faults = 0;
            device.energy_at_ns = monotonic_ns();
        }
        Ok(())
    }

    /// The file behind the machine.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many devices the machine has, lost ones included.
    ///
    /// # Errors
    /// [`SimError::File`] when the lock fails.
    pub fn device_count(&self) -> Result<usize, SimError> {
        Ok(count(&*self.lock()?))
    }

    /// Every device now. Memory of dead processes has been returned first.
    ///
    /// # Errors
    /// [`SimError::File`] when the lock fails.
    pub fn devices(&self) -> Result<Vec<DeviceSnapshot>, SimError> {
        let mut state = self.lock()?;
        let count = count(&state);
        let devices = state.devices.iter_mut().take(count).enumerate();
        Ok(devices
            .map(|(index, device)| {
                reap(device);
                DeviceSnapshot::take(index, device)
            })
            .collect())
    }

    /// One device now. Memory of dead processes has been returned first.
    ///
    /// # Errors
    /// [`SimError::NoDevice`].
    pub fn device(&self, index: usize) -> Result<DeviceSnapshot, SimError> {
        self.with_device(index, |device| {
            reap(device);
            Ok(DeviceSnapshot::take(index, device))
        })
    }

    /// Index of the device named by index (`3`) or UUID (`GPU-...`).
    ///
    /// # Errors
    /// [`SimError::NoDevice`].
    pub fn find(&self, name: &str) -> Result<usize, SimError> {
        let state = self.lock()?;
        let count = count(&state);
        let found = match name.parse::<usize>() {
            Ok(index) => Some(index).filter(|i| *i < count),
            Err(_) => state.devices[..count].iter().position(|d| d.uuid() == name),
        };
        found.ok_or_else(|| SimError::NoDevice {
            device: name.to_owned(),
            count,
        })
    }

    pub(crate) fn with_device<T>(
        &self,
        index: usize,
        act: impl FnOnce(&mut Device) -> Result<T, SimError>,
    ) -> Result<T, SimError> {
        let mut state = self.lock()?;
        let count = count(&state);
        if index >= count {
            return Err(SimError::NoDevice {
                device: index.to_string(),
                count,
            });
        }
        let device = &mut state.devices[index];
        settle_energy(device, monotonic_ns());
        act(device)
    }
}

pub(crate) fn count(state: &State) -> usize {
    usize::try_from(state.device_count)
        .unwrap_or(0)
        .min(state::MAX_DEVICES)
}

fn initialise(state: &mut State, path: &Path, spec: &MachineSpec, seed: u64) {
    let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let root = place
        .to_string_lossy()
        .bytes()
        .fold(mix(seed), |h, b| mix(h ^ u64::from(b)));
    state.seed = seed;
    state::set_text(&mut state.spec, &spec.to_string());
    state::set_text(&mut state.boot_id, &boot_id());
    state.device_count = u32::try_from(spec.device_count()).unwrap_or(0);
    for (i, (device, profile)) in state.devices.iter_mut().zip(spec.profiles()).enumerate() {
        let high = mix(root ^ (i as u64 + 1));
        device.profile = profile_index(profile);
        device.power_limit_mw = profile.power_mw.1;
        device.persistence = 1;
        device.energy_at_ns = monotonic_ns();
        state::set_text(&mut device.uuid, &uuid(high, mix(high)));
    }
    state.magic = state::MAGIC;
}

fn profile_index(profile: &Profile) -> u32 {
    let index = PROFILES.iter().position(|p| p == profile).unwrap_or(0);
    u32::try_from(index).unwrap_or(0)
}

/// A version 4 UUID of these 128 bits, as NVML writes it.
fn uuid(high: u64, low: u64) -> String {
    format!(
        "GPU-{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        (low >> 48 & 0x3fff) | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

/// The finaliser of splitmix64: spreads the bits of `x`.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}
