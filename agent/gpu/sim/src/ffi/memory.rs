//! Memory and the processes that hold it.
#![expect(unsafe_code, reason = "exported under NVML's names")]

use std::ffi::{c_uint, c_ulonglong};

use super::types::ProcessUtilizationSample;
use super::types::{Bar1Memory, Handle, INVALID_ARGUMENT, Memory, MemoryV2, NO_INSTANCE};
use super::types::{NOT_AVAILABLE, NOT_FOUND, NOT_SUPPORTED, ProcessInfo, Ret};
use super::{check_version, code, getters, put, put_list, snapshot};
use crate::mapping::monotonic_ns;
use crate::snapshot::{DeviceSnapshot, ProcessKind};
use crate::state::{MEMORY_NA, MEMORY_UNSUPPORTED};

getters! {
    // The first version counts the driver's reserve as used, the second does not.
    nvmlDeviceGetMemoryInfo(Memory) = |d| figures(d).map(|f| Memory {
        total: f.total,
        free: f.free,
        used: f.used.saturating_add(f.reserved),
    });
    nvmlDeviceGetBAR1MemoryInfo(Bar1Memory) = |d| {
        let total = d.profile.memory_bytes().next_power_of_two();
        Ok(Bar1Memory { total, free: total - (1 << 20), used: 1 << 20 })
    };
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Handle, out: *mut MemoryV2) -> Ret {
    code(snapshot(device, out.is_null()).and_then(|d| {
        check_version(out, 2)?;
        let version = super::get(out.cast::<c_uint>())?;
        figures(&d).map(|f| put(out, MemoryV2 { version, ..f }))
    }))
}

/// Exports process lists: one function per kind and struct version (both lay out the same).
macro_rules! process_lists {
    ($($name:ident = $kind:expr;)*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $name(device: Handle, count: *mut c_uint, infos: *mut ProcessInfo) -> Ret {
            processes(device, count, infos, $kind)
        }
    )* };
}

process_lists! {
    nvmlDeviceGetComputeRunningProcesses_v3 = ProcessKind::Compute;
    nvmlDeviceGetComputeRunningProcesses_v2 = ProcessKind::Compute;
    nvmlDeviceGetGraphicsRunningProcesses_v3 = ProcessKind::Graphics;
    nvmlDeviceGetGraphicsRunningProcesses_v2 = ProcessKind::Graphics;
    nvmlDeviceGetMPSComputeRunningProcesses_v3 = ProcessKind::Mps;
    nvmlDeviceGetMPSComputeRunningProcesses_v2 = ProcessKind::Mps;
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetProcessUtilization(
    device: Handle,
    samples: *mut ProcessUtilizationSample,
    count: *mut c_uint,
    last_seen_us: c_ulonglong,
) -> Ret {
    let now = monotonic_ns() / 1_000;
    code(snapshot(device, count.is_null()).and_then(|d| {
        let busy = d.processes.iter().filter(|_| last_seen_us < now);
        let busy: Vec<_> = busy
            .map(|p| ProcessUtilizationSample {
                pid: p.pid,
                timestamp: now,
                sm: p.utilization,
                memory: p.utilization / 2,
                encoder: 0,
                decoder: 0,
            })
            .collect();
        if busy.is_empty() {
            Err(NOT_FOUND)
        } else {
            Ok(put_list(count, samples, busy))
        }
    }))
}

fn processes(device: Handle, count: *mut c_uint, out: *mut ProcessInfo, kind: ProcessKind) -> Ret {
    if count.is_null() {
        return INVALID_ARGUMENT;
    }
    code(snapshot(device, false).map(|d| {
        let unknown = d.faults & (MEMORY_NA | MEMORY_UNSUPPORTED) != 0;
        let infos = d
            .processes
            .iter()
            .filter(|p| p.kind == kind)
            .map(|p| ProcessInfo {
                pid: p.pid,
                used_gpu_memory: if unknown { NOT_AVAILABLE } else { p.bytes },
                gpu_instance_id: NO_INSTANCE,
                compute_instance_id: NO_INSTANCE,
            });
        put_list(count, out, infos.collect())
    }))
}

/// total = reserved + used + free; the version word is the caller's.
fn figures(d: &DeviceSnapshot) -> Result<MemoryV2, Ret> {
    if d.faults & MEMORY_UNSUPPORTED != 0 {
        return Err(NOT_SUPPORTED);
    }
    let unknown = d.faults & MEMORY_NA != 0;
    let show = |bytes: u64| if unknown { NOT_AVAILABLE } else { bytes };
    let (total, reserved) = (d.profile.memory_bytes(), d.profile.reserved_bytes());
    Ok(MemoryV2 {
        version: 0,
        total: show(total),
        reserved: show(reserved),
        free: show(d.free_bytes),
        used: show(total - reserved - d.free_bytes),
    })
}
