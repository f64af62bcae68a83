//! Who holds how much of a device, and what becomes of it when they die.

use crate::error::SimError;
use crate::machine::{Machine, count};
use crate::mapping::monotonic_ns;
use crate::process::Owner;
use crate::snapshot::{ProcessKind, profile_of};
use crate::state::{self, Claim, Device, MAX_CLAIMS};

// === impl Machine ===

impl Machine {
    /// Makes `owner` hold exactly `bytes` on the device with `utilization` (0-100); a first claim,
    /// a growing or a shrinking one. On refusal it keeps what it had.
    ///
    /// # Errors
    /// [`SimError::OutOfMemory`], [`SimError::Lost`], [`SimError::ComputeMode`],
    /// [`SimError::TooManyClaims`], [`SimError::NoProcess`], [`SimError::NoDevice`].
    pub fn claim(
        &self,
        index: usize,
        owner: Owner,
        bytes: u64,
        utilization: u32,
        kind: ProcessKind,
    ) -> Result<(), SimError> {
        if !owner.is_alive() {
            return Err(SimError::NoProcess { pid: owner.pid });
        }
        self.with_device(index, |device| {
            if device.faults & state::LOST != 0 {
                return Err(SimError::Lost { device: index });
            }
            reap(device);
            let others = device.live_claims().any(|c| !c.belongs_to(owner));
            if device.compute_mode == 2 || (device.compute_mode == 3 && others) {
                return Err(SimError::ComputeMode { device: index });
            }
            let own = device.claims.iter().position(|c| c.belongs_to(owner));
            let held = own.map_or(0, |slot| device.claims[slot].bytes);
            let profile = profile_of(device);
            let room = profile.memory_bytes() - profile.reserved_bytes();
            let free = room.saturating_sub(device.used_bytes() - held);
            if bytes > free {
                return Err(SimError::OutOfMemory {
                    device: index,
                    requested: bytes,
                    free,
                });
            }
            let slot = own
                .or_else(|| device.claims.iter().position(|c| c.pid == 0))
                .ok_or(SimError::TooManyClaims {
                    device: index,
                    limit: MAX_CLAIMS,
                })?;
            device.claims[slot].set(owner, bytes, utilization.min(100), kind);
            Ok(())
        })
    }

    /// Makes the live process `pid` hold `bytes` more on the device, past any limit of its own:
    /// what a workload with a leak does. Free memory still bounds it.
    ///
    /// # Errors
    /// As [`Machine::claim`]; [`SimError::NoProcess`] when it holds nothing on the device.
    pub fn grow(&self, index: usize, pid: u32, bytes: u64) -> Result<(), SimError> {
        let snapshot = self.device(index)?;
        let held = snapshot.processes.iter().find(|p| p.pid == pid);
        let (Some(held), Some(owner)) = (held, Owner::of(pid)) else {
            return Err(SimError::NoProcess { pid });
        };
        self.claim(
            index,
            owner,
            held.bytes.saturating_add(bytes),
            held.utilization,
            held.kind,
        )
    }

    /// Returns what `owner` holds on the device; holding nothing is fine.
    ///
    /// # Errors
    /// [`SimError::NoDevice`].
    pub fn release(&self, index: usize, owner: Owner) -> Result<(), SimError> {
        self.with_device(index, |device| {
            for claim in device.claims.iter_mut().filter(|c| c.belongs_to(owner)) {
                *claim = Claim::FREE;
            }
            Ok(())
        })
    }

    /// Returns the memory of dead processes on every device; the number of claims returned.
    ///
    /// # Errors
    /// [`SimError::File`] when the lock fails.
    pub fn reap(&self) -> Result<usize, SimError> {
        let mut state = self.lock()?;
        let count = count(&state);
        Ok(state.devices.iter_mut().take(count).map(reap).sum())
    }
}

// === impl Claim ===

impl Claim {
    pub(crate) const FREE: Self = Self {
        pid: 0,
        kind: 0,
        start_ticks: 0,
        bytes: 0,
        utilization: 0,
        pad: 0,
        dead_at_ns: 0,
    };

    fn belongs_to(&self, owner: Owner) -> bool {
        self.pid == owner.pid && self.start_ticks == owner.start_ticks && self.dead_at_ns == 0
    }

    fn set(&mut self, owner: Owner, bytes: u64, utilization: u32, kind: ProcessKind) {
        self.bytes = bytes;
        self.utilization = utilization;
        self.kind = kind.code();
        self.start_ticks = owner.start_ticks;
        self.dead_at_ns = 0;
        self.pid = owner.pid;
    }
}

/// Returns the memory of dead processes; slowly where a slow reclaim is injected.
pub(crate) fn reap(device: &mut Device) -> usize {
    let now = monotonic_ns();
    let delay_ns = u64::from(device.slow_reclaim_ms) * 1_000_000;
    let mut returned = 0;
    for claim in device.claims.iter_mut().filter(|c| c.pid != 0) {
        let owner = Owner {
            pid: claim.pid,
            start_ticks: claim.start_ticks,
        };
        if claim.dead_at_ns == 0 {
            if owner.is_alive() {
                continue;
            }
            claim.dead_at_ns = now.max(1);
        }
        if now.saturating_sub(claim.dead_at_ns) >= delay_ns {
            *claim = Claim::FREE;
            returned += 1;
        }
    }
    returned
}
