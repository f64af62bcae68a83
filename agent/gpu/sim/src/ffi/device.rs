//! What a device is: names, numbers, clocks, power and load.
#![expect(unsafe_code, reason = "exported under NVML's names")]

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};

use super::types::{Handle, INVALID_ARGUMENT, NOT_SUPPORTED, PciInfo, Ret, TemperatureV1};
use super::types::{SUCCESS, Utilization};
use super::{check_version, code, getters, put, put_text, read, snapshot};
use crate::snapshot::DeviceSnapshot;

const CLOCK_REASON_IDLE: u64 = 1;
const CLOCK_REASON_POWER_CAP: u64 = 4;
const CLOCK_REASON_THERMAL: u64 = 0x20;
const CLOCK_REASONS: u64 = 0x1ff;

getters! {
    nvmlDeviceGetBrand(c_uint) = |_| Ok(14);
    nvmlDeviceGetIndex(c_uint) = |d| number(d.index);
    nvmlDeviceGetMinorNumber(c_uint) = |d| number(d.index);
    nvmlDeviceGetBoardId(c_uint) = |d| number(bus(d.index) << 8);
    nvmlDeviceGetMultiGpuBoard(c_uint) = |_| Ok(0);
    nvmlDeviceGetArchitecture(c_uint) = |d| Ok(d.profile.architecture);
    nvmlDeviceGetBusType(c_uint) = |_| Ok(2);
    nvmlDeviceGetNumGpuCores(c_uint) = |d| Ok(d.profile.cores);
    nvmlDeviceGetMemoryBusWidth(c_uint) = |d| Ok(d.profile.bus_width);
    nvmlDeviceGetIrqNum(c_uint) = |d| number(d.index + 64);
    nvmlDeviceGetPciInfo_v3(PciInfo) = |d| Ok(pci_info(d));
    nvmlDeviceGetMaxPcieLinkGeneration(c_uint) = |d| Ok(d.profile.pcie_generation);
    nvmlDeviceGetCurrPcieLinkGeneration(c_uint) = |d| Ok(d.profile.pcie_generation);
    nvmlDeviceGetMaxPcieLinkWidth(c_uint) = |_| Ok(16);
    nvmlDeviceGetCurrPcieLinkWidth(c_uint) = |_| Ok(16);
    nvmlDeviceGetPcieLinkMaxSpeed(c_uint) = |d| Ok(pcie_mbps(d));
    nvmlDeviceGetPcieSpeed(c_uint) = |d| Ok(pcie_mbps(d));
    nvmlDeviceGetPcieReplayCounter(c_uint) = |d| Ok(d.pcie_replays);
    nvmlDeviceGetPerformanceState(c_uint) = |d| Ok(if d.utilization == 0 { 8 } else { 0 });
    nvmlDeviceGetPowerManagementMode(c_uint) = |_| Ok(1);
    nvmlDeviceGetPowerManagementLimit(c_uint) = |d| Ok(d.power_limit_mw);
    nvmlDeviceGetPowerManagementDefaultLimit(c_uint) = |d| Ok(d.profile.power_mw.1);
    nvmlDeviceGetEnforcedPowerLimit(c_uint) = |d| Ok(d.power_limit_mw);
    nvmlDeviceGetPowerUsage(c_uint) = |d| Ok(d.power_mw);
    nvmlDeviceGetTotalEnergyConsumption(c_ulonglong) = |d| Ok(d.energy_mj);
    nvmlDeviceGetPersistenceMode(c_uint) = |d| Ok(u32::from(d.persistence));
    nvmlDeviceGetComputeMode(c_uint) = |d| Ok(d.compute_mode);
    nvmlDeviceGetDisplayMode(c_uint) = |_| Ok(0);
    nvmlDeviceGetDisplayActive(c_uint) = |_| Ok(0);
    nvmlDeviceGetNumFans(c_uint) = |_| Ok(0);
    nvmlDeviceGetCurrentClocksEventReasons(c_ulonglong) = |d| Ok(clock_reasons(d));
    nvmlDeviceGetCurrentClocksThrottleReasons(c_ulonglong) = |d| Ok(clock_reasons(d));
    nvmlDeviceGetSupportedClocksEventReasons(c_ulonglong) = |_| Ok(CLOCK_REASONS);
    nvmlDeviceGetSupportedClocksThrottleReasons(c_ulonglong) = |_| Ok(CLOCK_REASONS);
    nvmlDeviceGetUtilizationRates(Utilization) =
        |d| Ok(Utilization { gpu: d.utilization, memory: d.utilization / 2 });
    nvmlDeviceIsMigDeviceHandle(c_uint) = |_| Ok(0);
    nvmlDeviceGetMaxMigDeviceCount(c_uint) = |d| Ok(if d.profile.mig_capable { 7 } else { 0 });
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetName(device: Handle, name: *mut c_char, length: c_uint) -> Ret {
    text(device, name, length, |d| d.profile.nvml_name.to_owned())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUUID(device: Handle, uuid: *mut c_char, length: c_uint) -> Ret {
    text(device, uuid, length, |d| d.uuid.clone())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSerial(device: Handle, out: *mut c_char, length: c_uint) -> Ret {
    text(device, out, length, serial)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetBoardPartNumber(d: Handle, out: *mut c_char, length: c_uint) -> Ret {
    text(d, out, length, |d| {
        format!("900-{:04X}-SIM", d.profile.pci_device_id >> 16)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetVbiosVersion(device: Handle, out: *mut c_char, length: c_uint) -> Ret {
    text(device, out, length, |_| "00.00.00.00.01".to_owned())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: Handle,
    major: *mut c_int,
    minor: *mut c_int,
) -> Ret {
    code(
        snapshot(device, major.is_null() || minor.is_null()).map(|d| {
            put(major, d.profile.compute_capability.0);
            put(minor, d.profile.compute_capability.1)
        }),
    )
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerManagementLimitConstraints(
    device: Handle,
    lowest: *mut c_uint,
    highest: *mut c_uint,
) -> Ret {
    code(
        snapshot(device, lowest.is_null() || highest.is_null()).map(|d| {
            put(lowest, d.profile.power_mw.0);
            put(highest, d.profile.power_mw.2)
        }),
    )
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperature(device: Handle, sensor: c_uint, out: *mut c_uint) -> Ret {
    read(device, out, |d| {
        if sensor == 0 {
            Ok(d.temperature_c)
        } else {
            Err(INVALID_ARGUMENT)
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperatureV(device: Handle, out: *mut TemperatureV1) -> Ret {
    code(snapshot(device, out.is_null()).and_then(|d| {
        check_version(out, 1)?;
        let mut answer = super::get(out)?;
        if answer.sensor != 0 {
            return Err(INVALID_ARGUMENT);
        }
        answer.temperature = c_int::try_from(d.temperature_c).unwrap_or(c_int::MAX);
        Ok(put(out, answer))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperatureThreshold(
    device: Handle,
    threshold: c_uint,
    out: *mut c_uint,
) -> Ret {
    read(device, out, |d| match threshold {
        0 => Ok(d.profile.thresholds_c.1),
        1 => Ok(d.profile.thresholds_c.0),
        2 => Ok(95),
        3 => Ok(d.profile.thresholds_c.0 - 4),
        4..=7 => Err(NOT_SUPPORTED),
        _ => Err(INVALID_ARGUMENT),
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetClockInfo(device: Handle, kind: c_uint, out: *mut c_uint) -> Ret {
    read(device, out, |d| {
        clock(kind, d.sm_clock_mhz, d.profile.clock_mhz.1)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxClockInfo(device: Handle, kind: c_uint, out: *mut c_uint) -> Ret {
    read(device, out, |d| {
        clock(kind, d.profile.clock_mhz.0, d.profile.clock_mhz.1)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetClock(d: Handle, kind: c_uint, id: c_uint, out: *mut c_uint) -> Ret {
    match id {
        0 => nvmlDeviceGetClockInfo(d, kind, out),
        1..=3 => nvmlDeviceGetMaxClockInfo(d, kind, out),
        _ => INVALID_ARGUMENT,
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEncoderUtilization(
    device: Handle,
    percent: *mut c_uint,
    period_us: *mut c_uint,
) -> Ret {
    codec(device, percent, period_us)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetDecoderUtilization(
    device: Handle,
    percent: *mut c_uint,
    period_us: *mut c_uint,
) -> Ret {
    codec(device, percent, period_us)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPcieThroughput(device: Handle, way: c_uint, out: *mut c_uint) -> Ret {
    read(device, out, |d| {
        if way > 1 {
            Err(INVALID_ARGUMENT)
        } else {
            Ok(d.utilization * 1_000)
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigMode(
    device: Handle,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> Ret {
    code(
        snapshot(device, current.is_null() || pending.is_null()).and_then(|d| {
            if !d.profile.mig_capable {
                return Err(NOT_SUPPORTED);
            }
            put(current, 0);
            Ok(put(pending, 0))
        }),
    )
}

/// The board's serial number, 13 digits.
pub(crate) fn serial(device: &DeviceSnapshot) -> String {
    let digits = device
        .uuid
        .bytes()
        .fold(0_u64, |n, b| n.wrapping_mul(31).wrapping_add(b.into()));
    format!("1{:012}", digits % 1_000_000_000_000)
}

/// PCI address with an 8-digit domain, as NVML writes it.
pub(crate) fn bus_id(index: usize) -> String {
    format!("00000000:{:02X}:00.0", bus(index))
}

/// Bus numbers 0x07, 0x08 and so on: as many as [`crate::MAX_DEVICES`] fit below 0xff.
fn bus(index: usize) -> usize {
    index + 7
}

fn pci_info(device: &DeviceSnapshot) -> PciInfo {
    let long = bus_id(device.index);
    let mut info = PciInfo {
        bus_id_legacy: [0; 16],
        domain: 0,
        bus: c_uint::try_from(bus(device.index)).unwrap_or(0),
        device: 0,
        pci_device_id: device.profile.pci_device_id,
        pci_subsystem_id: device.profile.pci_subsystem_id,
        bus_id: [0; 32],
    };
    fill(&mut info.bus_id, &long);
    fill(&mut info.bus_id_legacy, &long[4..]);
    info
}

fn fill(buffer: &mut [c_char], text: &str) {
    let last = buffer.len() - 1;
    for (slot, byte) in buffer[..last].iter_mut().zip(text.bytes()) {
        *slot = c_char::from_ne_bytes([byte]);
    }
}

fn text(
    device: Handle,
    out: *mut c_char,
    length: c_uint,
    value: impl FnOnce(&DeviceSnapshot) -> String,
) -> Ret {
    code(snapshot(device, out.is_null()).map(|d| put_text(out, length, &value(&d))))
}

fn number(value: usize) -> Result<c_uint, Ret> {
    c_uint::try_from(value).map_err(|_| INVALID_ARGUMENT)
}

fn pcie_mbps(device: &DeviceSnapshot) -> c_uint {
    match device.profile.pcie_generation {
        3 => 8_000,
        4 => 16_000,
        _ => 32_000,
    }
}

fn clock(kind: c_uint, sm: u32, memory: u32) -> Result<c_uint, Ret> {
    match kind {
        0 | 1 => Ok(sm),
        2 => Ok(memory),
        3 => Ok(sm - sm / 10),
        _ => Err(INVALID_ARGUMENT),
    }
}

fn clock_reasons(device: &DeviceSnapshot) -> u64 {
    let idle = if device.utilization == 0 {
        CLOCK_REASON_IDLE
    } else {
        0
    };
    let capped = device.power_limit_mw < device.profile.power_mw.1 && device.utilization > 0;
    let hot = device.temperature_c >= device.profile.thresholds_c.0;
    idle | if capped { CLOCK_REASON_POWER_CAP } else { 0 }
        | if hot { CLOCK_REASON_THERMAL } else { 0 }
}

fn codec(device: Handle, percent: *mut c_uint, period_us: *mut c_uint) -> Ret {
    code(
        snapshot(device, percent.is_null() || period_us.is_null()).map(|_| {
            put(percent, 0);
            put(period_us, 167_000);
            SUCCESS
        }),
    )
}
