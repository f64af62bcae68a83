//! NVML's C ABI. Each exported function checks its session, handle, pointers and version words the
//! way the driver's library documents, then answers from the shared machine.
#![expect(unsafe_code, reason = "C callers hand over raw pointers")]

mod control;
mod device;
mod events;
mod field_values;
mod health;
mod memory;
mod session;
mod system;
#[cfg(test)]
mod tests;
mod topology;
mod types;

use std::ffi::{c_char, c_uint};

use self::session::Session;
use self::types::{GPU_IS_LOST, INSUFFICIENT_SIZE, INVALID_ARGUMENT, NO_PERMISSION};
pub(crate) use self::types::{Handle, Ret};
use self::types::{RESET_REQUIRED, SUCCESS, UNKNOWN, VERSION_MISMATCH};
use crate::error::SimError;
use crate::snapshot::DeviceSnapshot;
use crate::state;

/// Exports getters of one output: `name(type) = |snapshot| Ok(value) or Err(code)`.
macro_rules! getters {
    ($($name:ident($out:ty) = $value:expr;)*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $name(device: $crate::ffi::Handle, out: *mut $out) -> $crate::ffi::Ret {
            $crate::ffi::read(device, out, $value)
        }
    )* };
}
pub(crate) use getters;

/// What a device answers: blocks while it hangs, then its faults, then `value`, written to `out`.
pub(crate) fn read<T>(
    device: Handle,
    out: *mut T,
    value: impl FnOnce(&DeviceSnapshot) -> Result<T, Ret>,
) -> Ret {
    code(
        snapshot(device, out.is_null())
            .and_then(|s| value(&s))
            .map(|v| put(out, v)),
    )
}

/// The device behind `handle`, after hangs and faults have had their say.
pub(crate) fn snapshot(handle: Handle, bad_arguments: bool) -> Result<DeviceSnapshot, Ret> {
    let session = Session::attached()?;
    let index = session.index_of(handle)?;
    if bad_arguments {
        return Err(INVALID_ARGUMENT);
    }
    let snapshot = session.machine.answering_device(index).map_err(ret)?;
    match snapshot.faults {
        f if f & state::LOST != 0 => Err(GPU_IS_LOST),
        f if f & state::NO_PERMISSION != 0 => Err(NO_PERMISSION),
        f if f & state::RESET_REQUIRED != 0 => Err(RESET_REQUIRED),
        _ => Ok(snapshot),
    }
}

/// Writes through a pointer of the caller's; a null or misaligned one is an invalid argument.
pub(crate) fn put<T>(out: *mut T, value: T) -> Ret {
    if out.is_null() || !out.is_aligned() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: not null, aligned, and by NVML's contract valid for a write of `T`.
    unsafe { out.write(value) };
    SUCCESS
}

/// Reads through a pointer of the caller's.
pub(crate) fn get<T: Copy>(from: *const T) -> Result<T, Ret> {
    if from.is_null() || !from.is_aligned() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, aligned, and by NVML's contract points to a valid `T`.
    Ok(unsafe { from.read() })
}

/// Checks the version word that opens a versioned struct: its size with the version in the top byte.
pub(crate) fn check_version<T>(out: *const T, version: u32) -> Result<(), Ret> {
    let want = u32::try_from(size_of::<T>()).unwrap_or(0) | version << 24;
    if get(out.cast::<c_uint>())? == want {
        Ok(())
    } else {
        Err(VERSION_MISMATCH)
    }
}

/// Writes `text` and its NUL into a buffer of `length` bytes.
pub(crate) fn put_text(out: *mut c_char, length: c_uint, text: &str) -> Ret {
    if out.is_null() {
        return INVALID_ARGUMENT;
    }
    if usize::try_from(length).unwrap_or(0) <= text.len() {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: the caller's buffer holds `length` bytes, more than the text; the source is not in it.
    unsafe {
        out.cast::<u8>()
            .copy_from_nonoverlapping(text.as_ptr(), text.len());
        out.add(text.len()).write(0);
    }
    SUCCESS
}

/// Writes a list the way NVML does: `count` holds the room and receives the number of items. Too
/// little room, or no array, gives `INSUFFICIENT_SIZE` and the number needed.
pub(crate) fn put_list<T>(count: *mut c_uint, array: *mut T, items: Vec<T>) -> Ret {
    let room = match get(count) {
        Ok(room) => usize::try_from(room).unwrap_or(0),
        Err(e) => return e,
    };
    let needed = items.len();
    put(count, c_uint::try_from(needed).unwrap_or(c_uint::MAX));
    if needed == 0 {
        return SUCCESS;
    }
    if array.is_null() || room < needed {
        return INSUFFICIENT_SIZE;
    }
    if !array.is_aligned() {
        return INVALID_ARGUMENT;
    }
    for (i, item) in items.into_iter().enumerate() {
        // SAFETY: the caller's array has room for `room >= needed` items.
        unsafe { array.add(i).write(item) };
    }
    SUCCESS
}

/// One return code of a computation that ends in one.
pub(crate) fn code(result: Result<Ret, Ret>) -> Ret {
    result.unwrap_or_else(|e| e)
}

/// NVML's code for a machine's refusal.
pub(crate) fn ret(error: SimError) -> Ret {
    match error {
        SimError::NoDevice { .. } => INVALID_ARGUMENT,
        SimError::Lost { .. } => GPU_IS_LOST,
        _ => UNKNOWN,
    }
}
