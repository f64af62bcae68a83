//! Inside the probe: a thread that sleeps in the driver until a device reports an error.
#![expect(unsafe_code, reason = "handles are compared, not used")]

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gpuloom_fleet::{DeviceId, Millis};
use gpuloom_watch::XidEvent;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::event::EventData;
use nvml_wrapper::{Device, EventSet, Nvml};

/// Longest sleep in the driver.
const WAIT_MS: u32 = 5_000;
/// Pause after an error, and between attempts to listen to a device that is lost.
const RETRY: Duration = Duration::from_secs(5);

type Devices = Vec<(DeviceId, Device<'static>)>;

/// Who listens to what. Made before the probe says hello, so that nothing after that is missed.
pub(crate) struct Listener {
    nvml: &'static Nvml,
    ids: Vec<DeviceId>,
    set: Option<(EventSet<'static>, Devices)>,
}

// === impl Listener ===

impl Listener {
    pub(crate) fn new(nvml: &'static Nvml, ids: Vec<DeviceId>) -> Self {
        let set = register(nvml, &ids);
        Self { nvml, ids, set }
    }

    /// Hands every Xid to `deliver` until it returns false.
    pub(crate) fn run(mut self, deliver: impl Fn(XidEvent) -> bool) {
        loop {
            match self.set.take() {
                Some((set, devices)) => {
                    let incomplete = devices.len() < self.ids.len();
                    if !deliver_all(&set, &devices, incomplete, &deliver) {
                        return;
                    }
                }
                None => thread::sleep(RETRY),
            }
            self.set = register(self.nvml, &self.ids);
        }
    }
}

/// A set with every device that the driver shows; `None` when it shows none.
fn register(nvml: &'static Nvml, ids: &[DeviceId]) -> Option<(EventSet<'static>, Devices)> {
    let device = |id: &DeviceId| Some((id.clone(), nvml.device_by_uuid(id.as_str()).ok()?));
    let mut devices: Devices = ids.iter().filter_map(device).collect();
    while !devices.is_empty() {
        match register_all(nvml, &devices) {
            Ok(set) => return Some((set, devices)),
            Err(refused) => {
                devices.remove(refused?);
            }
        }
    }
    None
}

/// The set, or which device was refused; `Err(None)` when no set could be made. A refused
/// registration frees the whole set, so the caller begins again without that device.
fn register_all(
    nvml: &'static Nvml,
    devices: &Devices,
) -> Result<EventSet<'static>, Option<usize>> {
    let mut set = nvml.create_event_set().map_err(|_| None)?;
    for (i, (_, device)) in devices.iter().enumerate() {
        let filled = device.register_events(EventTypes::CRITICAL_XID_ERROR, set);
        set = filled.map_err(|_| Some(i))?;
    }
    Ok(set)
}

/// Waits and delivers until the set needs to be made anew (true) or nobody listens (false).
/// `incomplete` sets are made anew after each quiet wait, so that a healed device is heard again.
fn deliver_all(
    set: &EventSet<'static>,
    devices: &Devices,
    incomplete: bool,
    deliver: &impl Fn(XidEvent) -> bool,
) -> bool {
    loop {
        match set.wait(WAIT_MS) {
            Ok(event) => {
                if let Some(xid) = translate(&event, devices)
                    && !deliver(xid)
                {
                    return false;
                }
            }
            Err(NvmlError::Timeout) if !incomplete => {}
            Err(NvmlError::Timeout) => return true,
            // Told at once while a lost device is in the set: make one without it.
            Err(NvmlError::GpuLost) if !incomplete => return true,
            Err(_) => {
                thread::sleep(RETRY);
                return true;
            }
        }
    }
}

/// The event with the device's id. Handles are compared: a lost device no longer tells its UUID.
fn translate(event: &EventData<'_>, devices: &Devices) -> Option<XidEvent> {
    let xid = match event.event_data.as_ref()? {
        XidError::Value(xid) => Some(*xid),
        XidError::Unknown => None,
    };
    // SAFETY: the handle is only compared.
    let handle = |device: &Device<'_>| unsafe { device.handle() };
    let (id, _) = devices
        .iter()
        .find(|(_, d)| handle(d) == handle(&event.device))?;
    Some(XidEvent {
        device: id.clone(),
        at: now(),
        xid,
    })
}

fn now() -> Millis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
