//! What one GPU shows at one moment: readings derived from its claims, faults and overrides.

use crate::mapping::monotonic_ns;
use crate::profile::{PROFILES, Profile};
use crate::state::{self, Claim, Device};

/// What kind of context a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProcessKind {
    /// A CUDA context.
    #[default]
    Compute,
    /// A graphics context.
    Graphics,
    /// A client of the MPS server.
    Mps,
}

/// One process on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUse {
    /// Process id.
    pub pid: u32,
    /// Device memory held, in bytes.
    pub bytes: u64,
    /// Its share of the SMs' time, 0-100.
    pub utilization: u32,
    /// Its kind of context.
    pub kind: ProcessKind,
}

/// One GPU at one moment. Memory in bytes, power in mW, clocks in MHz, temperatures in °C.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSnapshot {
    /// Index, from 0.
    pub index: usize,
    /// UUID as NVML writes it, `GPU-...`.
    pub uuid: String,
    /// Its model.
    pub profile: &'static Profile,
    /// Memory held by processes, leaked or not yet reclaimed; without the driver's reserve.
    pub used_bytes: u64,
    /// Memory free for new claims.
    pub free_bytes: u64,
    /// Memory held by no process.
    pub leaked_bytes: u64,
    /// SM utilization, 0-100.
    pub utilization: u32,
    /// Core temperature.
    pub temperature_c: u32,
    /// Power drawn now.
    pub power_mw: u32,
    /// Power limit in force.
    pub power_limit_mw: u32,
    /// Energy since creation, in millijoules.
    pub energy_mj: u64,
    /// SM clock.
    pub sm_clock_mhz: u32,
    /// Live processes.
    pub processes: Vec<ProcessUse>,
    /// Fallen off the bus.
    pub lost: bool,
    /// Calls on it block.
    pub hung: bool,
    pub(crate) faults: u32,
    pub(crate) compute_mode: u32,
    pub(crate) persistence: bool,
    pub(crate) ecc: (u64, u64),
    pub(crate) pcie_replays: u32,
    pub(crate) remapped: (u32, u32),
    pub(crate) remap_pending: bool,
    pub(crate) remap_failed: bool,
    pub(crate) recovery_action: u32,
}

// === impl ProcessKind ===

impl ProcessKind {
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Compute => 0,
            Self::Graphics => 1,
            Self::Mps => 2,
        }
    }

    pub(crate) fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Graphics,
            2 => Self::Mps,
            _ => Self::Compute,
        }
    }
}

// === impl DeviceSnapshot ===

impl DeviceSnapshot {
    /// Reads `device`, bringing its energy counter up to date.
    pub(crate) fn take(index: usize, device: &mut Device) -> Self {
        let now = monotonic_ns();
        settle_energy(device, now);
        let profile = profile_of(device);
        let used = device.used_bytes();
        let room = profile.memory_bytes() - profile.reserved_bytes();
        Self {
            index,
            uuid: device.uuid().to_owned(),
            profile,
            used_bytes: used,
            free_bytes: room.saturating_sub(used),
            leaked_bytes: device.leaked_bytes,
            utilization: utilization(device),
            temperature_c: temperature(device),
            power_mw: power(device),
            power_limit_mw: device.power_limit_mw,
            energy_mj: device.energy_mj,
            sm_clock_mhz: sm_clock(device),
            processes: device.live_claims().map(ProcessUse::from).collect(),
            lost: device.faults & state::LOST != 0,
            hung: device.faults & state::HUNG != 0,
            faults: device.faults,
            compute_mode: device.compute_mode,
            persistence: device.persistence != 0,
            ecc: (device.ecc_corrected, device.ecc_uncorrected),
            pcie_replays: device.pcie_replays,
            remapped: (device.remapped_corrected, device.remapped_uncorrected),
            remap_pending: device.remap_pending != 0,
            remap_failed: device.remap_failed != 0,
            recovery_action: device.recovery_action,
        }
    }
}

impl From<&Claim> for ProcessUse {
    fn from(claim: &Claim) -> Self {
        Self {
            pid: claim.pid,
            bytes: claim.bytes,
            utilization: claim.utilization,
            kind: ProcessKind::from_code(claim.kind),
        }
    }
}

pub(crate) fn profile_of(device: &Device) -> &'static Profile {
    let index = usize::try_from(device.profile).unwrap_or(0);
    PROFILES.get(index).unwrap_or(&PROFILES[0])
}

/// Adds the energy drawn since the last call at the power of that time. Called before every change
/// of load, so the sum is exact for piecewise constant power.
pub(crate) fn settle_energy(device: &mut Device, now_ns: u64) {
    let elapsed_us = now_ns.saturating_sub(device.energy_at_ns) / 1_000;
    if elapsed_us == 0 {
        return;
    }
    let drawn_mj = u128::from(power(device)) * u128::from(elapsed_us) / 1_000_000;
    device.energy_mj = device
        .energy_mj
        .saturating_add(u64::try_from(drawn_mj).unwrap_or(u64::MAX));
    device.energy_at_ns = now_ns;
}

fn utilization(device: &Device) -> u32 {
    match device.utilization_plus1 {
        0 => device
            .live_claims()
            .fold(0, |sum, c| (sum + c.utilization.min(100)).min(100)),
        override_plus1 => (override_plus1 - 1).min(100),
    }
}

/// 34 °C when idle, 68 °C under full load, unless overridden.
fn temperature(device: &Device) -> u32 {
    match device.temperature_plus1 {
        0 => 34 + utilization(device) * 34 / 100,
        override_plus1 => override_plus1 - 1,
    }
}

fn power(device: &Device) -> u32 {
    let idle = profile_of(device).idle_power_mw;
    let span = u64::from(device.power_limit_mw.saturating_sub(idle));
    let load = span * u64::from(utilization(device)) / 100;
    idle + u32::try_from(load).unwrap_or(0)
}

fn sm_clock(device: &Device) -> u32 {
    let highest = profile_of(device).clock_mhz.0;
    let cap = if device.locked_sm_mhz == 0 {
        highest
    } else {
        device.locked_sm_mhz.min(highest)
    };
    if utilization(device) == 0 {
        cap.min(210)
    } else {
        cap
    }
}
