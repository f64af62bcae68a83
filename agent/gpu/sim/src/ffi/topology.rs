//! Where devices sit: eight to a server, four to a socket.
#![expect(unsafe_code, reason = "exported under NVML's names")]

use std::ffi::{c_int, c_uint};

use super::session::Session;
use super::types::{Handle, INVALID_ARGUMENT, Ret};
use super::{code, getters, put, put_list, snapshot};

const INTERNAL: c_uint = 0;
const NODE: c_uint = 40;
const SYSTEM: c_uint = 50;

getters! {
    nvmlDeviceGetNumaNodeId(c_uint) = |d| Ok(socket(d.index));
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTopologyCommonAncestor(
    one: Handle,
    other: Handle,
    level: *mut c_uint,
) -> Ret {
    code(pair(one, other, level.is_null()).map(|(a, b)| put(level, ancestor(a, b))))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTopologyNearestGpus(
    device: Handle,
    level: c_uint,
    count: *mut c_uint,
    out: *mut Handle,
) -> Ret {
    code(snapshot(device, count.is_null()).and_then(|d| {
        if ![0, 10, 20, 30, 40, 50].contains(&level) {
            return Err(INVALID_ARGUMENT);
        }
        let session = Session::current()?;
        let near = (0..session.device_count).filter(|i| *i != d.index);
        let near = near.filter(|i| ancestor(d.index, *i) <= level);
        let handles: Result<Vec<_>, Ret> = near.map(|i| session.handle_of(i)).collect();
        Ok(put_list(count, out, handles?))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetP2PStatus(
    one: Handle,
    other: Handle,
    capability: c_uint,
    status: *mut c_uint,
) -> Ret {
    if capability > 4 {
        return INVALID_ARGUMENT;
    }
    code(pair(one, other, status.is_null()).map(|_| put(status, 0)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceOnSameBoard(one: Handle, other: Handle, same: *mut c_int) -> Ret {
    code(pair(one, other, same.is_null()).map(|(a, b)| put(same, c_int::from(a == b))))
}

fn pair(one: Handle, other: Handle, bad_arguments: bool) -> Result<(usize, usize), Ret> {
    Ok((
        snapshot(one, bad_arguments)?.index,
        snapshot(other, false)?.index,
    ))
}

fn socket(index: usize) -> c_uint {
    c_uint::from(index % 8 >= 4)
}

fn ancestor(a: usize, b: usize) -> c_uint {
    match (a == b, a / 4 == b / 4) {
        (true, _) => INTERNAL,
        (false, true) => NODE,
        (false, false) => SYSTEM,
    }
}
