//! The shared file's layout: plain integers only, so that no bit pattern in it is invalid.

use std::sync::atomic::AtomicU32;

/// Devices per machine. A file of 128 takes 2.2 MB, sparse.
pub const MAX_DEVICES: usize = 128;
/// Processes per device.
pub const MAX_CLAIMS: usize = 256;
/// Events kept; a listener further behind misses the oldest.
pub const MAX_EVENTS: usize = 256;

pub(crate) const SPEC_LEN: usize = 256;
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"gpuloom\x01");

/// Device fault bits.
pub(crate) const LOST: u32 = 1;
pub(crate) const HUNG: u32 = 1 << 1;
pub(crate) const NO_PERMISSION: u32 = 1 << 2;
pub(crate) const MEMORY_NA: u32 = 1 << 3;
pub(crate) const MEMORY_UNSUPPORTED: u32 = 1 << 4;
pub(crate) const RESET_REQUIRED: u32 = 1 << 5;

/// The whole mapping. `wake` is read without the lock; the rest only under it.
#[repr(C)]
pub(crate) struct Shared {
    pub(crate) wake: AtomicU32,
    pub(crate) pad: [u32; 15],
    pub(crate) state: std::cell::UnsafeCell<State>,
}

#[repr(C)]
pub(crate) struct State {
    /// Written last at creation: a file without it is created anew.
    pub(crate) magic: u64,
    pub(crate) seed: u64,
    pub(crate) boot_id: [u8; 40],
    pub(crate) spec: [u8; SPEC_LEN],
    pub(crate) device_count: u32,
    /// Not 0: every NVML call blocks.
    pub(crate) hung: u32,
    /// Events ever posted; event `n` lies in slot `n % MAX_EVENTS`.
    pub(crate) events_posted: u64,
    pub(crate) last_xid: u64,
    pub(crate) events: [Event; MAX_EVENTS],
    pub(crate) devices: [Device; MAX_DEVICES],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub(crate) device: u32,
    pub(crate) pad: u32,
    pub(crate) kind: u64,
    pub(crate) value: u64,
}

/// One GPU. Values one above what they mean (`..._plus1`) use 0 for "not overridden".
#[repr(C)]
pub(crate) struct Device {
    pub(crate) profile: u32,
    pub(crate) faults: u32,
    pub(crate) uuid: [u8; 48],
    pub(crate) utilization_plus1: u32,
    pub(crate) temperature_plus1: u32,
    pub(crate) power_limit_mw: u32,
    pub(crate) compute_mode: u32,
    pub(crate) persistence: u32,
    pub(crate) slow_reclaim_ms: u32,
    pub(crate) locked_sm_mhz: u32,
    pub(crate) pad: u32,
    pub(crate) leaked_bytes: u64,
    pub(crate) ecc_corrected: u64,
    pub(crate) ecc_uncorrected: u64,
    pub(crate) energy_mj: u64,
    pub(crate) energy_at_ns: u64,
    pub(crate) pcie_replays: u32,
    pub(crate) remapped_corrected: u32,
    pub(crate) remapped_uncorrected: u32,
    pub(crate) remap_pending: u32,
    pub(crate) remap_failed: u32,
    pub(crate) recovery_action: u32,
    pub(crate) claims: [Claim; MAX_CLAIMS],
}

/// Memory of one process; `pid` 0 marks a free slot and is written last.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) pid: u32,
    pub(crate) kind: u32,
    pub(crate) start_ticks: u64,
    pub(crate) bytes: u64,
    pub(crate) utilization: u32,
    pub(crate) pad: u32,
    /// Monotonic time at which the owner was found dead and a slow reclaim began; 0 while it lives.
    pub(crate) dead_at_ns: u64,
}

// === impl Device ===

impl Device {
    pub(crate) fn uuid(&self) -> &str {
        text(&self.uuid)
    }

    pub(crate) fn live_claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims
            .iter()
            .filter(|c| c.pid != 0 && c.dead_at_ns == 0)
    }

    /// Bytes out of use for new claims: held, leaked or not yet reclaimed.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.claims
            .iter()
            .filter(|c| c.pid != 0)
            .fold(self.leaked_bytes, |sum, c| sum.saturating_add(c.bytes))
    }
}

/// The text in a zero-padded buffer; empty when it is not UTF-8.
pub(crate) fn text(buffer: &[u8]) -> &str {
    let end = buffer.iter().position(|b| *b == 0).unwrap_or(buffer.len());
    std::str::from_utf8(&buffer[..end]).unwrap_or("")
}

/// Copies `value` into a zero-padded buffer, cut to fit.
pub(crate) fn set_text(buffer: &mut [u8], value: &str) {
    buffer.fill(0);
    for (slot, byte) in buffer.iter_mut().zip(value.bytes()) {
        *slot = byte;
    }
}
