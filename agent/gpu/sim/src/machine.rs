//! The simulated machine as workloads, the injector and tests see it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::SimError;
use crate::mapping::{Locked, Mapping, monotonic_ns};
use crate::process::Owner;
use crate::profile::{PROFILES, Profile};
use crate::snapshot::{DeviceSnapshot, ProcessKind, profile_of, settle_energy};
use crate::spec::MachineSpec;
use crate::state::{self, Claim, Device, Event, MAX_CLAIMS, MAX_EVENTS, State};

/// `nvmlEventTypeXidCriticalError`.
pub(crate) const EVENT_XID: u64 = 8;

/// A hanging call looks this often whether it may go on, besides being woken.
const HANG_LOOK: Duration = Duration::from_secs(1);

/// An open simulated machine. Cheap to keep; every operation locks the file for microseconds.
#[derive(Debug)]
pub struct Machine {
    path: PathBuf,
    mapping: Mapping,
}

/// How a device answers questions about memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryAnswer {
    /// True figures.
    Known,
    /// `NVML_VALUE_NOT_AVAILABLE` (all bits set) in each field.
    NotAvailable,
    /// `NVML_ERROR_NOT_SUPPORTED`.
    NotSupported,
}

/// A fault of one device; the true figures return with [`Machine::heal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Fallen off the bus: `NVML_ERROR_GPU_IS_LOST`, and Xid 79 is posted.
    Lost,
    /// Every call on the device blocks until healed.
    Hang,
    /// Every call on the device answers `NVML_ERROR_NO_PERMISSION`.
    NoPermission,
    /// Every reading answers `NVML_ERROR_RESET_REQUIRED`.
    ResetRequired,
    /// How memory questions are answered.
    Memory(MemoryAnswer),
    /// Memory that no process holds, in bytes (added to what leaked before).
    Leak(u64),
    /// Memory of dead processes returns only after this many milliseconds.
    SlowReclaim(u32),
    /// SM utilization, 0-100, whatever the processes do; `None` follows them.
    Utilization(Option<u32>),
    /// Temperature in °C; `None` follows the load.
    Temperature(Option<u32>),
    /// Adds corrected and uncorrected ECC errors.
    Ecc {
        /// Corrected errors to add.
        corrected: u64,
        /// Uncorrected errors to add.
        uncorrected: u64,
    },
    /// An uncorrectable row remap that waits for a reset.
    RowRemapPending,
    /// A row remap that failed.
    RowRemapFailed,
    /// `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`: 0 none, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset.
    RecoveryAction(u32),
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

    /// Makes `owner` hold exactly `bytes` on the device with `utilization` (0-100); a first claim,
    /// a growing or a shrinking one. On refusal it keeps what it had.
    ///
    /// # Errors
    /// [`SimError::OutOfMemory`], [`SimError::Lost`], [`SimError::ComputeMode`],
    /// [`SimError::TooManyClaims`], [`SimError::NoProcess`], [`SimError::NoDevice`].
    pub fn claim(
        &self,
        index: usize,
        owner: Owner,
        bytes: u64,
        utilization: u32,
        kind: ProcessKind,
    ) -> Result<(), SimError> {
        if !owner.is_alive() {
            return Err(SimError::NoProcess { pid: owner.pid });
        }
        self.with_device(index, |device| {
            if device.faults & state::LOST != 0 {
                return Err(SimError::Lost { device: index });
            }
            reap(device);
            let others = device.live_claims().any(|c| !c.belongs_to(owner));
            if device.compute_mode == 2 || (device.compute_mode == 3 && others) {
                return Err(SimError::ComputeMode { device: index });
            }
            let own = device.claims.iter().position(|c| c.belongs_to(owner));
            let held = own.map_or(0, |slot| device.claims[slot].bytes);
            let profile = profile_of(device);
            let room = profile.memory_bytes() - profile.reserved_bytes();
            let free = room.saturating_sub(device.used_bytes() - held);
            if bytes > free {
                return Err(SimError::OutOfMemory {
                    device: index,
                    requested: bytes,
                    free,
                });
            }
            let slot = own
                .or_else(|| device.claims.iter().position(|c| c.pid == 0))
                .ok_or(SimError::TooManyClaims {
                    device: index,
                    limit: MAX_CLAIMS,
                })?;
            device.claims[slot].set(owner, bytes, utilization.min(100), kind);
            Ok(())
        })
    }

    /// Makes the live process `pid` hold `bytes` more on the device, past any limit of its own:
    /// what a workload with a leak does. Free memory still bounds it.
    ///
    /// # Errors
    /// As [`Machine::claim`]; [`SimError::NoProcess`] when it holds nothing on the device.
    pub fn grow(&self, index: usize, pid: u32, bytes: u64) -> Result<(), SimError> {
        let snapshot = self.device(index)?;
        let held = snapshot.processes.iter().find(|p| p.pid == pid);
        let (Some(held), Some(owner)) = (held, Owner::of(pid)) else {
            return Err(SimError::NoProcess { pid });
        };
        self.claim(
            index,
            owner,
            held.bytes.saturating_add(bytes),
            held.utilization,
            held.kind,
        )
    }

    /// Returns what `owner` holds on the device; holding nothing is fine.
    ///
    /// # Errors
    /// [`SimError::NoDevice`].
    pub fn release(&self, index: usize, owner: Owner) -> Result<(), SimError> {
        self.with_device(index, |device| {
            for claim in device.claims.iter_mut().filter(|c| c.belongs_to(owner)) {
                *claim = Claim::FREE;
            }
            Ok(())
        })
    }

    /// Returns the memory of dead processes on every device; the number of claims returned.
    ///
    /// # Errors
    /// [`SimError::File`] when the lock fails.
    pub fn reap(&self) -> Result<usize, SimError> {
        let mut state = self.lock()?;
        let count = count(&state);
        Ok(state.devices.iter_mut().take(count).map(reap).sum())
    }

    /// Injects a fault.
    ///
    /// # Errors
    /// [`SimError::NoDevice`].
    pub fn inject(&self, index: usize, fault: Fault) -> Result<(), SimError> {
        if fault == Fault::Lost {
            // Together, so that nobody sees the loss without its event.
            self.with_device(index, |_| Ok(()))?;
            let mut state = self.lock()?;
            state.devices[index].faults |= state::LOST;
            post(&mut state, index, EVENT_XID, 79);
        }
        self.with_device(index, |device| {
            match fault {
                Fault::Lost => {}
                Fault::Hang => device.faults |= state::HUNG,
                Fault::NoPermission => device.faults |= state::NO_PERMISSION,
                Fault::ResetRequired => device.faults |= state::RESET_REQUIRED,
                Fault::Memory(answer) => {
                    device.faults &= !(state::MEMORY_NA | state::MEMORY_UNSUPPORTED);
                    device.faults |= match answer {
                        MemoryAnswer::Known => 0,
                        MemoryAnswer::NotAvailable => state::MEMORY_NA,
                        MemoryAnswer::NotSupported => state::MEMORY_UNSUPPORTED,
                    };
                }
                Fault::Leak(bytes) => {
                    device.leaked_bytes = device.leaked_bytes.saturating_add(bytes);
                }
                Fault::SlowReclaim(ms) => device.slow_reclaim_ms = ms,
                Fault::Utilization(value) => {
                    device.utilization_plus1 = value.map_or(0, |v| v.min(100) + 1);
                }
                Fault::Temperature(value) => {
                    device.temperature_plus1 = value.map_or(0, |v| v.min(1_000) + 1);
                }
                Fault::Ecc {
                    corrected,
                    uncorrected,
                } => {
                    device.ecc_corrected = device.ecc_corrected.saturating_add(corrected);
                    device.ecc_uncorrected = device.ecc_uncorrected.saturating_add(uncorrected);
                }
                Fault::RowRemapPending => {
                    device.remapped_uncorrected += 1;
                    device.remap_pending = 1;
                }
                Fault::RowRemapFailed => device.remap_failed = 1,
                Fault::RecoveryAction(action) => device.recovery_action = action,
            }
            Ok(())
        })?;
        self.mapping.wake_all();
        Ok(())
    }

    /// Makes every NVML call on the machine block until [`Machine::heal_all`].
    ///
    /// # Errors
    /// [`SimError::File`] when the lock fails.
    pub fn hang_all(&self) -> Result<(), SimError> {
        self.lock()?.hung = 1;
        Ok(())
    }

    /// Ends every fault, override and leak of the device, as a reset does; processes keep theirs.
    ///
    /// # Errors
    /// [`SimError::NoDevice`].
    pub fn heal(&self, index: usize) -> Result<(), SimError> {
        self.with_device(index, |device| {
            heal(device);
            Ok(())
        })?;
        self.mapping.wake_all();
        Ok(())
    }

    /// [`Machine::heal`] for every device, and the end of [`Machine::hang_all`].
    ///
    /// # Errors
    /// [`SimError::File`] when the lock fails.
    pub fn heal_all(&self) -> Result<(), SimError> {
        {
            let mut state = self.lock()?;
            state.hung = 0;
            state.devices.iter_mut().for_each(heal);
        }
        self.mapping.wake_all();
        Ok(())
    }

    /// Posts an Xid event to every listener registered for the device.
    ///
    /// # Errors
    /// [`SimError::NoDevice`].
    pub fn post_xid(&self, index: usize, xid: u64) -> Result<(), SimError> {
        self.post(index, EVENT_XID, xid)
    }

    /// Posts an event of any NVML type bit (`nvmlEventType*`).
    ///
    /// # Errors
    /// [`SimError::NoDevice`].
    pub fn post(&self, index: usize, kind: u64, value: u64) -> Result<(), SimError> {
        self.with_device(index, |_| Ok(()))?;
        post(&mut *self.lock()?, index, kind, value);
        self.mapping.wake_all();
        Ok(())
    }

    /// Number of events ever posted: where a new listener starts.
    pub(crate) fn events_posted(&self) -> Result<u64, SimError> {
        Ok(self.lock()?.events_posted)
    }

    /// The first event at or after `from` that `wants(device, kind)`, with the position after it.
    /// An Xid carries the machine's latest Xid, as NVML's documentation says of bursts.
    pub(crate) fn next_event(
        &self,
        from: u64,
        wants: impl Fn(usize, u64) -> bool,
    ) -> Result<(u64, Option<Event>), SimError> {
        let state = self.lock()?;
        let oldest = state.events_posted.saturating_sub(MAX_EVENTS as u64);
        for position in from.max(oldest)..state.events_posted {
            let mut event = state.events[ring_slot(position)];
            if wants(
                usize::try_from(event.device).unwrap_or(usize::MAX),
                event.kind,
            ) {
                if event.kind == EVENT_XID {
                    event.value = state.last_xid;
                }
                return Ok((position + 1, Some(event)));
            }
        }
        Ok((state.events_posted, None))
    }

    pub(crate) fn wake_word(&self) -> u32 {
        self.mapping.wake_word()
    }

    pub(crate) fn wait(&self, seen: u32, timeout: Duration) {
        self.mapping.wait(seen, timeout);
    }

    /// Blocks while the whole machine hangs.
    pub(crate) fn wait_while_hung(&self) -> Result<(), SimError> {
        loop {
            let seen = self.wake_word();
            if self.lock()?.hung == 0 {
                return Ok(());
            }
            self.wait(seen, HANG_LOOK);
        }
    }

    /// As [`Machine::device`], but blocks while the machine or the device hangs.
    pub(crate) fn answering_device(&self, index: usize) -> Result<DeviceSnapshot, SimError> {
        loop {
            let seen = self.wake_word();
            {
                let mut state = self.lock()?;
                let count = count(&state);
                if index >= count {
                    return Err(SimError::NoDevice {
                        device: index.to_string(),
                        count,
                    });
                }
                let hung = state.hung != 0;
                let device = &mut state.devices[index];
                if !hung && device.faults & state::HUNG == 0 {
                    settle_energy(device, monotonic_ns());
                    reap(device);
                    return Ok(DeviceSnapshot::take(index, device));
                }
            }
            self.wait(seen, HANG_LOOK);
        }
    }
}

// === impl Claim ===

impl Claim {
    pub(crate) const FREE: Self = Self {
        pid: 0,
        kind: 0,
        start_ticks: 0,
        bytes: 0,
        utilization: 0,
        pad: 0,
        dead_at_ns: 0,
    };

    fn belongs_to(&self, owner: Owner) -> bool {
        self.pid == owner.pid && self.start_ticks == owner.start_ticks && self.dead_at_ns == 0
    }

    fn set(&mut self, owner: Owner, bytes: u64, utilization: u32, kind: ProcessKind) {
        self.bytes = bytes;
        self.utilization = utilization;
        self.kind = kind.code();
        self.start_ticks = owner.start_ticks;
        self.dead_at_ns = 0;
        self.pid = owner.pid;
    }
}

fn post(state: &mut State, index: usize, kind: u64, value: u64) {
    if kind == EVENT_XID {
        state.last_xid = value;
    }
    let device = u32::try_from(index).unwrap_or(u32::MAX);
    state.events[ring_slot(state.events_posted)] = Event {
        device,
        pad: 0,
        kind,
        value,
    };
    state.events_posted += 1;
}

fn count(state: &State) -> usize {
    usize::try_from(state.device_count)
        .unwrap_or(0)
        .min(state::MAX_DEVICES)
}

fn ring_slot(position: u64) -> usize {
    usize::try_from(position % MAX_EVENTS as u64).unwrap_or(0)
}

/// Returns the memory of dead processes; slowly where a slow reclaim is injected.
fn reap(device: &mut Device) -> usize {
    let now = monotonic_ns();
    let delay_ns = u64::from(device.slow_reclaim_ms) * 1_000_000;
    let mut returned = 0;
    for claim in device.claims.iter_mut().filter(|c| c.pid != 0) {
        let owner = Owner {
            pid: claim.pid,
            start_ticks: claim.start_ticks,
        };
        if claim.dead_at_ns == 0 {
            if owner.is_alive() {
                continue;
            }
            claim.dead_at_ns = now.max(1);
        }
        if now.saturating_sub(claim.dead_at_ns) >= delay_ns {
            *claim = Claim::FREE;
            returned += 1;
        }
    }
    returned
}

fn heal(device: &mut Device) {
    device.faults = 0;
    device.leaked_bytes = 0;
    device.slow_reclaim_ms = 0;
    device.utilization_plus1 = 0;
    device.temperature_plus1 = 0;
    device.ecc_corrected = 0;
    device.ecc_uncorrected = 0;
    device.remap_pending = 0;
    device.remap_failed = 0;
    device.recovery_action = 0;
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
