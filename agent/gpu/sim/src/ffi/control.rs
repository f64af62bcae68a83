//! Calls that change a device: for root only, as the driver has it.
#![expect(unsafe_code, reason = "exported under NVML's names")]

use std::ffi::c_uint;

use super::session::Session;
use super::types::{Handle, INVALID_ARGUMENT, NO_PERMISSION, NOT_SUPPORTED, Ret, SUCCESS};
use super::{code, ret, snapshot};
use crate::mapping::effective_uid;
use crate::snapshot::{DeviceSnapshot, profile_of};
use crate::state::Device;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceSetPersistenceMode(device: Handle, mode: c_uint) -> Ret {
    change(device, |d| match mode {
        0 | 1 => {
            d.persistence = mode;
            SUCCESS
        }
        _ => INVALID_ARGUMENT,
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceSetComputeMode(device: Handle, mode: c_uint) -> Ret {
    change(device, |d| match mode {
        0 | 2 | 3 => {
            d.compute_mode = mode;
            SUCCESS
        }
        1 => NOT_SUPPORTED,
        _ => INVALID_ARGUMENT,
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceSetPowerManagementLimit(device: Handle, limit_mw: c_uint) -> Ret {
    change(device, |d| {
        let (lowest, _, highest) = profile_of(d).power_mw;
        if !(lowest..=highest).contains(&limit_mw) {
            return INVALID_ARGUMENT;
        }
        d.power_limit_mw = limit_mw;
        SUCCESS
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceSetGpuLockedClocks(device: Handle, lowest: c_uint, highest: c_uint) -> Ret {
    change(device, |d| {
        if lowest > highest || highest == 0 {
            return INVALID_ARGUMENT;
        }
        d.locked_sm_mhz = highest;
        SUCCESS
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceResetGpuLockedClocks(device: Handle) -> Ret {
    change(device, |d| {
        d.locked_sm_mhz = 0;
        SUCCESS
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceSetEccMode(device: Handle, mode: c_uint) -> Ret {
    // ECC is on; switching it needs a reset that the simulator does not play.
    change(device, |_| match mode {
        1 => SUCCESS,
        0 => NOT_SUPPORTED,
        _ => INVALID_ARGUMENT,
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceClearEccErrorCounts(device: Handle, counter: c_uint) -> Ret {
    change(device, |d| {
        if counter > 1 {
            return INVALID_ARGUMENT;
        }
        d.ecc_corrected = 0;
        d.ecc_uncorrected = 0;
        SUCCESS
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceSetMigMode(device: Handle, mode: c_uint, status: *mut Ret) -> Ret {
    if status.is_null() || mode > 1 {
        return INVALID_ARGUMENT;
    }
    change(device, |_| if mode == 0 { SUCCESS } else { NOT_SUPPORTED })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: Handle,
    _index: c_uint,
    out: *mut Handle,
) -> Ret {
    let answer = |_: DeviceSnapshot| super::types::NOT_FOUND;
    code(snapshot(device, out.is_null()).map(answer))
}

/// GPM needs hardware counters; the simulator has none.
#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleAlloc(_sample: *mut Handle) -> Ret {
    NOT_SUPPORTED
}

/// Must exist: the bindings' destructor calls it unconditionally.
#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleFree(sample: Handle) -> Ret {
    if sample.is_null() {
        INVALID_ARGUMENT
    } else {
        SUCCESS
    }
}

fn change(device: Handle, act: impl FnOnce(&mut Device) -> Ret) -> Ret {
    code(snapshot(device, false).and_then(|d| {
        if effective_uid() != 0 {
            return Err(NO_PERMISSION);
        }
        let session = Session::current()?;
        session
            .machine
            .with_device(d.index, |device| Ok(act(device)))
            .map_err(ret)
    }))
}
