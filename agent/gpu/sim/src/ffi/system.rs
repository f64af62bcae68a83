//! Library and system calls, and the ways to find a device.
#![expect(
    unsafe_code,
    reason = "exported under NVML's names; C strings are read"
)]

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::path::Path;

use super::session::Session;
use super::types::{Handle, INVALID_ARGUMENT, NOT_FOUND, Ret, SUCCESS, UNKNOWN};
use super::{code, put, put_text, snapshot};
use crate::machine::Machine;
use crate::snapshot::DeviceSnapshot;

const DRIVER_VERSION: &str = "580.95.05";
const NVML_VERSION: &str = "13.580.95.05";
const CUDA_VERSION: c_int = 13_000;

/// Messages by return code, then the one for any other code.
const MESSAGES: &[(Ret, &CStr)] = &[
    (0, c"Success"),
    (1, c"Uninitialized"),
    (2, c"Invalid Argument"),
    (3, c"Not Supported"),
    (4, c"Insufficient Permissions"),
    (6, c"Not Found"),
    (7, c"Insufficient Size"),
    (9, c"Driver Not Loaded"),
    (10, c"Timeout"),
    (15, c"GPU is lost"),
    (16, c"GPU requires reset"),
    (25, c"Argument version mismatch"),
];

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> Ret {
    code(Session::open().map(|()| SUCCESS))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(flags: c_uint) -> Ret {
    if flags > 3 {
        return INVALID_ARGUMENT;
    }
    nvmlInit_v2()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> Ret {
    code(Session::close().map(|()| SUCCESS))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(result: Ret) -> *const c_char {
    let known = MESSAGES.iter().find(|(code, _)| *code == result);
    known
        .map_or(c"Unknown Error", |(_, message)| message)
        .as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> Ret {
    code(Session::current().map(|_| put_text(version, length, DRIVER_VERSION)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) -> Ret {
    put_text(version, length, NVML_VERSION)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetCudaDriverVersion(version: *mut c_int) -> Ret {
    put(version, CUDA_VERSION)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> Ret {
    put(version, CUDA_VERSION)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetProcessName(pid: c_uint, name: *mut c_char, length: c_uint) -> Ret {
    if length == 0 {
        return INVALID_ARGUMENT;
    }
    let Ok(command) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
        return NOT_FOUND;
    };
    let program = String::from_utf8_lossy(command.split(|b| *b == 0).next().unwrap_or_default());
    let room = usize::try_from(length).unwrap_or(0).saturating_sub(1);
    let end = (0..=room.min(program.len()))
        .rev()
        .find(|i| program.is_char_boundary(*i));
    put_text(name, length, &program[..end.unwrap_or(0)])
}

#[unsafe(no_mangle)]
extern "C" fn nvmlUnitGetCount(count: *mut c_uint) -> Ret {
    code(Session::current().map(|_| put(count, 0)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Ret {
    let all = |s: Session| c_uint::try_from(s.device_count).map_err(|_| UNKNOWN);
    code(Session::current().and_then(all).map(|n| put(count, n)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Handle) -> Ret {
    let handle = |s: Session| s.handle_of(usize::try_from(index).unwrap_or(usize::MAX));
    code(
        Session::current()
            .and_then(handle)
            .and_then(|h| hand_out(h, device)),
    )
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut Handle) -> Ret {
    find(uuid, device, |d, wanted| d.uuid == wanted)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleBySerial(serial: *const c_char, device: *mut Handle) -> Ret {
    find(serial, device, |d, wanted| {
        super::device::serial(d) == wanted
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(bus: *const c_char, device: *mut Handle) -> Ret {
    find(bus, device, |d, wanted| {
        let own = super::device::bus_id(d.index);
        // Both spellings name the device: an 8-digit and a 4-digit domain.
        own.eq_ignore_ascii_case(wanted) || own[4..].eq_ignore_ascii_case(wanted)
    })
}

/// Creates the machine's file: the one call that NVML does not have. It lets a program that does
/// not link the simulator make a machine through the library it loads anyway.
///
/// Returns 0, or `NVML_ERROR_INVALID_ARGUMENT`, with the reason in `message`, cut to `length`.
#[unsafe(no_mangle)]
extern "C" fn gpuloomSimCreate(
    path: *const c_char,
    spec: *const c_char,
    seed: u64,
    message: *mut c_char,
    length: c_uint,
) -> Ret {
    let (Ok(path), Ok(spec)) = (c_text(path), c_text(spec)) else {
        return INVALID_ARGUMENT;
    };
    let made = spec
        .parse()
        .and_then(|spec| Machine::create(Path::new(&path), &spec, seed));
    let Err(error) = made else {
        return SUCCESS;
    };
    let cause = std::error::Error::source(&error)
        .map(|s| format!(": {s}"))
        .unwrap_or_default();
    let mut text = format!("{error}{cause}");
    let room = usize::try_from(length).unwrap_or(0).saturating_sub(1);
    while text.len() > room && text.pop().is_some() {}
    put_text(message, length, &text);
    INVALID_ARGUMENT
}

fn find(
    name: *const c_char,
    device: *mut Handle,
    is_it: impl Fn(&DeviceSnapshot, &str) -> bool,
) -> Ret {
    code(Session::current().and_then(|session| {
        let name = c_text(name)?;
        let devices = session.machine.devices().map_err(super::ret)?;
        let found = devices.iter().find(|d| is_it(d, &name)).ok_or(NOT_FOUND)?;
        hand_out(session.handle_of(found.index)?, device)
    }))
}

/// Writes the handle unless the device's faults forbid to attach it.
fn hand_out(handle: Handle, device: *mut Handle) -> Result<Ret, Ret> {
    snapshot(handle, device.is_null())?;
    Ok(put(device, handle))
}

fn c_text(text: *const c_char) -> Result<String, Ret> {
    if text.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, and by NVML's contract a NUL-terminated string.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str()
        .map(str::to_owned)
        .map_err(|_| INVALID_ARGUMENT)
}
