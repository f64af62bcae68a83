//! Event sets: who waits for what, and the wait itself.
#![expect(unsafe_code, reason = "exported under NVML's names")]

use std::ffi::{c_uint, c_ulonglong};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::session::Session;
use super::types::{EventData, GPU_IS_LOST, Handle, INVALID_ARGUMENT, NO_INSTANCE};
use super::types::{NOT_SUPPORTED, Ret, SUCCESS, TIMEOUT};
use super::{code, getters, put, ret, snapshot};
use crate::state::MAX_DEVICES;

/// `nvmlEventTypeAll` of a current driver, with bits that older bindings do not know.
const SUPPORTED: u64 = 65_439;
/// Sets per process.
const MAX_SETS: usize = 1_024;

/// `nvmlEventSet_t`: an address that is never read.
type SetHandle = *const u8;

struct EventSet {
    inner: Mutex<Registered>,
}

struct Registered {
    masks: [u64; MAX_DEVICES],
    /// Position in the machine's events; `None` until the first device is registered.
    next: Option<u64>,
}

static SETS: Mutex<Vec<Option<Arc<EventSet>>>> = Mutex::new(Vec::new());
static SET_HANDLES: [u8; MAX_SETS] = [0; MAX_SETS];

getters! {
    nvmlDeviceGetSupportedEventTypes(c_ulonglong) = |_| Ok(SUPPORTED);
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetCreate(out: *mut SetHandle) -> Ret {
    code(Session::current().and_then(|_| {
        if out.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        let inner = Mutex::new(Registered {
            masks: [0; MAX_DEVICES],
            next: None,
        });
        let set = Some(Arc::new(EventSet { inner }));
        let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
        let index = match sets.iter().position(Option::is_none) {
            Some(free) => {
                sets[free] = set;
                free
            }
            None if sets.len() < MAX_SETS => {
                sets.push(set);
                sets.len() - 1
            }
            None => return Err(super::types::UNKNOWN),
        };
        Ok(put(out, &raw const SET_HANDLES[index]))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: SetHandle) -> Ret {
    let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
    match slot(set)
        .and_then(|i| sets.get_mut(i))
        .and_then(Option::take)
    {
        Some(_) => SUCCESS,
        None => INVALID_ARGUMENT,
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(device: Handle, kinds: c_ulonglong, set: SetHandle) -> Ret {
    code(snapshot(device, kinds == 0).and_then(|d| {
        let set = find(set)?;
        if kinds & !SUPPORTED != 0 {
            return Err(NOT_SUPPORTED);
        }
        let posted = Session::current()?.machine.events_posted().map_err(ret)?;
        let mut registered = set.inner.lock().unwrap_or_else(PoisonError::into_inner);
        registered.masks[d.index] |= kinds;
        registered.next.get_or_insert(posted);
        Ok(SUCCESS)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetWait_v2(set: SetHandle, data: *mut EventData, timeout_ms: c_uint) -> Ret {
    let timeout = Duration::from_millis(timeout_ms.into());
    code(find(set).and_then(|set| wait(&set, data, Instant::now() + timeout)))
}

fn wait(set: &EventSet, data: *mut EventData, deadline: Instant) -> Result<Ret, Ret> {
    if data.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    loop {
        let session = Session::current()?;
        let seen = session.machine.wake_word();
        let lost = {
            let mut registered = set.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let Registered { masks, next } = &mut *registered;
            let from = next.unwrap_or(u64::MAX);
            let wants = |device: usize, kind| masks.get(device).is_some_and(|m| m & kind != 0);
            let (after, event) = session.machine.next_event(from, wants).map_err(ret)?;
            if next.is_some() {
                *next = Some(after);
            }
            if let Some(event) = event {
                let index = usize::try_from(event.device).unwrap_or(usize::MAX);
                let answer = EventData {
                    device: session.handle_of(index)?,
                    event_type: event.kind,
                    event_data: event.value,
                    gpu_instance_id: NO_INSTANCE,
                    compute_instance_id: NO_INSTANCE,
                };
                return Ok(put(data, answer));
            }
            let devices = session.machine.devices().map_err(ret)?;
            devices.iter().any(|d| d.lost && masks[d.index] != 0)
        };
        if lost {
            return Err(GPU_IS_LOST);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(TIMEOUT);
        }
        session.machine.wait(seen, left);
    }
}

fn slot(set: SetHandle) -> Option<usize> {
    let offset = set.addr().wrapping_sub(SET_HANDLES.as_ptr().addr());
    (offset < MAX_SETS).then_some(offset)
}

fn find(set: SetHandle) -> Result<Arc<EventSet>, Ret> {
    let sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
    slot(set)
        .and_then(|i| sets.get(i).cloned().flatten())
        .ok_or(INVALID_ARGUMENT)
}
