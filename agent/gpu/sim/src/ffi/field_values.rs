//! `nvmlDeviceGetFieldValues`: many figures in one call, each with its own return code.
#![expect(
    unsafe_code,
    reason = "exported under NVML's names; the caller's array is walked"
)]

use std::ffi::c_int;
use std::time::{SystemTime, UNIX_EPOCH};

use super::types::{FieldValue, Handle, INVALID_ARGUMENT, NOT_SUPPORTED, Ret, SUCCESS};
use super::{code, get, put, snapshot};
use crate::snapshot::DeviceSnapshot;

const UNSIGNED_INT: u32 = 1;
const UNSIGNED_LONG_LONG: u32 = 3;

/// Fields per call; the driver's table is shorter than this.
const MAX_FIELDS: c_int = 1_024;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetFieldValues(
    device: Handle,
    count: c_int,
    values: *mut FieldValue,
) -> Ret {
    let bad = values.is_null() || !(1..=MAX_FIELDS).contains(&count);
    code(snapshot(device, bad).and_then(|d| {
        for i in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: `i` is below the number of entries that the caller's array has.
            let entry = unsafe { values.add(i) };
            let asked = get(entry)?;
            let (value_type, value, ret) = match answer(&d, asked.field_id) {
                Ok((value_type, value)) => (value_type, value, SUCCESS),
                Err(e) => (UNSIGNED_INT, 0, e),
            };
            let timestamp = timestamp_us();
            put(
                entry,
                FieldValue {
                    timestamp,
                    latency_us: 0,
                    value_type,
                    ret,
                    value,
                    ..asked
                },
            );
        }
        Ok(SUCCESS)
    }))
}

fn answer(d: &DeviceSnapshot, field: u32) -> Result<(u32, u64), Ret> {
    let int = |v: u32| Ok((UNSIGNED_INT, u64::from(v)));
    let long = |v: u64| Ok((UNSIGNED_LONG_LONG, v));
    let remaps = d.profile.remaps_rows;
    match field {
        1 | 2 => int(1),
        3 | 5 => long(d.ecc.0),
        4 | 6 => long(d.ecc.1),
        29..=31 if !remaps => int(0),
        82 => int(d.temperature_c + 6),
        83 => long(d.energy_mj),
        94 => int(d.pcie_replays),
        142 if remaps => int(d.remapped.0),
        143 if remaps => int(d.remapped.1),
        144 if remaps => int(u32::from(d.remap_pending)),
        145 if remaps => int(u32::from(d.remap_failed)),
        185 | 186 => int(d.power_mw),
        187 => int(d.profile.power_mw.0),
        188 => int(d.profile.power_mw.2),
        189 => int(d.profile.power_mw.1),
        190 | 192 => int(d.power_limit_mw),
        230 => int(d.recovery_action),
        0 => Err(INVALID_ARGUMENT),
        _ => Err(NOT_SUPPORTED),
    }
}

fn timestamp_us() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
