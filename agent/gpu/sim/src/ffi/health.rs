//! ECC, retired pages and remapped rows.
#![expect(unsafe_code, reason = "exported under NVML's names")]

use std::ffi::{c_uint, c_ulonglong};

use super::types::RowRemapperHistogram;
use super::types::{EccErrorCounts, Handle, INVALID_ARGUMENT, NOT_SUPPORTED, Ret};
use super::{code, getters, put, put_list, read, snapshot};
use crate::snapshot::DeviceSnapshot;

getters! {
    nvmlDeviceGetRetiredPagesPendingStatus(c_uint) =
        |d| if d.profile.remaps_rows { Err(NOT_SUPPORTED) } else { Ok(0) };
    nvmlDeviceGetRowRemapperHistogram(RowRemapperHistogram) = |d| {
        if !d.profile.remaps_rows {
            return Err(NOT_SUPPORTED);
        }
        let touched = c_uint::from(d.remapped.1 > 0);
        Ok(RowRemapperHistogram { max: 640 - touched, high: touched, partial: 0, low: 0, none: 0 })
    };
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEccMode(
    device: Handle,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> Ret {
    code(
        snapshot(device, current.is_null() || pending.is_null()).map(|_| {
            put(current, 1);
            put(pending, 1)
        }),
    )
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: Handle,
    error: c_uint,
    counter: c_uint,
    out: *mut c_ulonglong,
) -> Ret {
    read(device, out, |d| ecc(d, error, counter))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetDetailedEccErrors(
    device: Handle,
    error: c_uint,
    counter: c_uint,
    out: *mut EccErrorCounts,
) -> Ret {
    read(device, out, |d| {
        let device_memory = ecc(d, error, counter)?;
        Ok(EccErrorCounts {
            l1_cache: 0,
            l2_cache: 0,
            device_memory,
            register_file: 0,
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryErrorCounter(
    device: Handle,
    error: c_uint,
    counter: c_uint,
    location: c_uint,
    out: *mut c_ulonglong,
) -> Ret {
    read(device, out, |d| match location {
        2 => ecc(d, error, counter),
        0 | 1 | 3..=7 => ecc(d, error, counter).map(|_| 0),
        _ => Err(INVALID_ARGUMENT),
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRetiredPages(
    device: Handle,
    cause: c_uint,
    count: *mut c_uint,
    addresses: *mut c_ulonglong,
) -> Ret {
    code(snapshot(device, count.is_null()).and_then(|d| {
        retirement(&d, cause)?;
        Ok(put_list(count, addresses, Vec::new()))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRetiredPages_v2(
    device: Handle,
    cause: c_uint,
    count: *mut c_uint,
    addresses: *mut c_ulonglong,
    _timestamps: *mut c_ulonglong,
) -> Ret {
    nvmlDeviceGetRetiredPages(device, cause, count, addresses)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRemappedRows(
    device: Handle,
    corrected: *mut c_uint,
    uncorrected: *mut c_uint,
    pending: *mut c_uint,
    failed: *mut c_uint,
) -> Ret {
    let nulls = [corrected, uncorrected, pending, failed]
        .iter()
        .any(|p| p.is_null());
    code(snapshot(device, nulls).and_then(|d| {
        if !d.profile.remaps_rows {
            return Err(NOT_SUPPORTED);
        }
        put(corrected, d.remapped.0);
        put(uncorrected, d.remapped.1);
        put(pending, c_uint::from(d.remap_pending));
        Ok(put(failed, c_uint::from(d.remap_failed)))
    }))
}

/// Volatile and aggregate counters are one: the simulated machine never reboots.
fn ecc(device: &DeviceSnapshot, error: c_uint, counter: c_uint) -> Result<u64, Ret> {
    match (error, counter) {
        (0, 0 | 1) => Ok(device.ecc.0),
        (1, 0 | 1) => Ok(device.ecc.1),
        _ => Err(INVALID_ARGUMENT),
    }
}

fn retirement(device: &DeviceSnapshot, cause: c_uint) -> Result<(), Ret> {
    match (device.profile.remaps_rows, cause) {
        (true, _) => Err(NOT_SUPPORTED),
        (false, 0 | 1) => Ok(()),
        (false, _) => Err(INVALID_ARGUMENT),
    }
}
