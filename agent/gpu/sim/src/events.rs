//! Events and waiting: posting, finding the next one, and blocking while a driver hangs.

use std::time::Duration;

use crate::claims::reap;
use crate::error::SimError;
use crate::machine::{Machine, count};
use crate::mapping::monotonic_ns;
use crate::snapshot::{DeviceSnapshot, settle_energy};
use crate::state::{self, Event, MAX_EVENTS, State};

/// `nvmlEventTypeXidCriticalError`.
pub(crate) const EVENT_XID: u64 = 8;

/// A hanging call looks this often whether it may go on, besides being woken.
const HANG_LOOK: Duration = Duration::from_secs(1);

// === impl Machine ===

impl Machine {
    /// Posts an Xid event to every listener registered for the device.
    ///
    /// # Errors
    /// [`SimError::NoDevice`].
    pub fn post_xid(&self, index: usize, xid: u64) -> Result<(), SimError> {
        self.post(index, EVENT_XID, xid)
    }

    /// Posts an event of any NVML type bit (`nvmlEventType*`).
    ///
    /// # Errors
    /// [`SimError::NoDevice`].
    pub fn post(&self, index: usize, kind: u64, value: u64) -> Result<(), SimError> {
        self.with_device(index, |_| Ok(()))?;
        post(&mut *self.lock()?, index, kind, value);
        self.mapping.wake_all();
        Ok(())
    }

    /// Number of events ever posted: where a new listener starts.
    pub(crate) fn events_posted(&self) -> Result<u64, SimError> {
        Ok(self.lock()?.events_posted)
    }

    /// The first event at or after `from` that `wants(device, kind)`, with the position after it.
    /// An Xid carries the machine's latest Xid, as NVML's documentation says of bursts.
    pub(crate) fn next_event(
        &self,
        from: u64,
        wants: impl Fn(usize, u64) -> bool,
    ) -> Result<(u64, Option<Event>), SimError> {
        let state = self.lock()?;
        let oldest = state.events_posted.saturating_sub(MAX_EVENTS as u64);
        for position in from.max(oldest)..state.events_posted {
            let mut event = state.events[ring_slot(position)];
            if wants(
                usize::try_from(event.device).unwrap_or(usize::MAX),
                event.kind,
            ) {
                if event.kind == EVENT_XID {
                    event.value = state.last_xid;
                }
                return Ok((position + 1, Some(event)));
            }
        }
        Ok((state.events_posted, None))
    }

    pub(crate) fn wake_word(&self) -> u32 {
        self.mapping.wake_word()
    }

    pub(crate) fn wait(&self, seen: u32, timeout: Duration) {
        self.mapping.wait(seen, timeout);
    }

    /// Blocks while the whole machine hangs.
    pub(crate) fn wait_while_hung(&self) -> Result<(), SimError> {
        loop {
            let seen = self.wake_word();
            if self.lock()?.hung == 0 {
                return Ok(());
            }
            self.wait(seen, HANG_LOOK);
        }
    }

    /// As [`Machine::device`], but blocks while the machine or the device hangs.
    pub(crate) fn answering_device(&self, index: usize) -> Result<DeviceSnapshot, SimError> {
        loop {
            let seen = self.wake_word();
            {
                let mut state = self.lock()?;
                let count = count(&state);
                if index >= count {
                    return Err(SimError::NoDevice {
                        device: index.to_string(),
                        count,
                    });
                }
                let hung = state.hung != 0;
                let device = &mut state.devices[index];
                if !hung && device.faults & state::HUNG == 0 {
                    settle_energy(device, monotonic_ns());
                    reap(device);
                    return Ok(DeviceSnapshot::take(index, device));
                }
            }
            self.wait(seen, HANG_LOOK);
        }
    }
}

pub(crate) fn post(state: &mut State, index: usize, kind: u64, value: u64) {
    if kind == EVENT_XID {
        state.last_xid = value;
    }
    let device = u32::try_from(index).unwrap_or(u32::MAX);
    state.events[ring_slot(state.events_posted)] = Event {
        device,
        pad: 0,
        kind,
        value,
    };
    state.events_posted += 1;
}

fn ring_slot(position: u64) -> usize {
    usize::try_from(position % MAX_EVENTS as u64).unwrap_or(0)
}
