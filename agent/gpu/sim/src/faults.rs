//! Breaking the machine on purpose, and mending it.

use crate::error::SimError;
use crate::events::{EVENT_XID, post};
use crate::machine::Machine;
use crate::state::{self, Device};

/// How a device answers questions about memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryAnswer {
    /// True figures.
    Known,
    /// `NVML_VALUE_NOT_AVAILABLE` (all bits set) in each field.
    NotAvailable,
    /// `NVML_ERROR_NOT_SUPPORTED`.
    NotSupported,
}

/// A fault of one device; the true figures return with [`Machine::heal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Fallen off the bus: `NVML_ERROR_GPU_IS_LOST`, and Xid 79 is posted.
    Lost,
    /// Every call on the device blocks until healed.
    Hang,
    /// Every call on the device answers `NVML_ERROR_NO_PERMISSION`.
    NoPermission,
    /// Every reading answers `NVML_ERROR_RESET_REQUIRED`.
    ResetRequired,
    /// How memory questions are answered.
    Memory(MemoryAnswer),
    /// Memory that no process holds, in bytes (added to what leaked before).
    Leak(u64),
    /// Memory of dead processes returns only after this many milliseconds.
    SlowReclaim(u32),
    /// SM utilization, 0-100, whatever the processes do; `None` follows them.
    Utilization(Option<u32>),
    /// Temperature in °C; `None` follows the load.
    Temperature(Option<u32>),
    /// Adds corrected and uncorrected ECC errors.
    Ecc {
        /// Corrected errors to add.
        corrected: u64,
        /// Uncorrected errors to add.
        uncorrected: u64,
    },
    /// An uncorrectable row remap that waits for a reset.
    RowRemapPending,
    /// A row remap that failed.
    RowRemapFailed,
    /// `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`: 0 none, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset.
    RecoveryAction(u32),
}

// === impl Machine ===

impl Machine {
    /// Injects a fault.
    ///
    /// # Errors
    /// [`SimError::NoDevice`].
    pub fn inject(&self, index: usize, fault: Fault) -> Result<(), SimError> {
        if fault == Fault::Lost {
            // Together, so that nobody sees the loss without its event.
            self.with_device(index, |_| Ok(()))?;
            let mut state = self.lock()?;
            state.devices[index].faults |= state::LOST;
            post(&mut state, index, EVENT_XID, 79);
        }
        self.with_device(index, |device| {
            match fault {
                Fault::Lost => {}
                Fault::Hang => device.faults |= state::HUNG,
                Fault::NoPermission => device.faults |= state::NO_PERMISSION,
                Fault::ResetRequired => device.faults |= state::RESET_REQUIRED,
                Fault::Memory(answer) => {
                    device.faults &= !(state::MEMORY_NA | state::MEMORY_UNSUPPORTED);
                    device.faults |= match answer {
                        MemoryAnswer::Known => 0,
                        MemoryAnswer::NotAvailable => state::MEMORY_NA,
                        MemoryAnswer::NotSupported => state::MEMORY_UNSUPPORTED,
                    };
                }
                Fault::Leak(bytes) => {
                    device.leaked_bytes = device.leaked_bytes.saturating_add(bytes);
                }
                Fault::SlowReclaim(ms) => device.slow_reclaim_ms = ms,
                Fault::Utilization(value) => {
                    device.utilization_plus1 = value.map_or(0, |v| v.min(100) + 1);
                }
                Fault::Temperature(value) => {
                    device.temperature_plus1 = value.map_or(0, |v| v.min(1_000) + 1);
                }
                Fault::Ecc {
                    corrected,
                    uncorrected,
                } => {
                    device.ecc_corrected = device.ecc_corrected.saturating_add(corrected);
                    device.ecc_uncorrected = device.ecc_uncorrected.saturating_add(uncorrected);
                }
                Fault::RowRemapPending => {
                    device.remapped_uncorrected += 1;
                    device.remap_pending = 1;
                }
                Fault::RowRemapFailed => device.remap_failed = 1,
                Fault::RecoveryAction(action) => device.recovery_action = action,
            }
            Ok(())
        })?;
        self.mapping.wake_all();
        Ok(())
    }

    /// Makes every NVML call on the machine block until [`Machine::heal_all`].
    ///
    /// # Errors
    /// [`SimError::File`] when the lock fails.
    pub fn hang_all(&self) -> Result<(), SimError> {
        self.lock()?.hung = 1;
        Ok(())
    }

    /// Ends every fault, override and leak of the device, as a reset does; processes keep theirs.
    ///
    /// # Errors
    /// [`SimError::NoDevice`].
    pub fn heal(&self, index: usize) -> Result<(), SimError> {
        self.with_device(index, |device| {
            heal(device);
            Ok(())
        })?;
        self.mapping.wake_all();
        Ok(())
    }

    /// [`Machine::heal`] for every device, and the end of [`Machine::hang_all`].
    ///
    /// # Errors
    /// [`SimError::File`] when the lock fails.
    pub fn heal_all(&self) -> Result<(), SimError> {
        {
            let mut state = self.lock()?;
            state.hung = 0;
            state.devices.iter_mut().for_each(heal);
        }
        self.mapping.wake_all();
        Ok(())
    }
}

fn heal(device: &mut Device) {
    device.faults = 0;
    device.leaked_bytes = 0;
    device.slow_reclaim_ms = 0;
    device.utilization_plus1 = 0;
    device.temperature_plus1 = 0;
    device.ecc_corrected = 0;
    device.ecc_uncorrected = 0;
    device.remap_pending = 0;
    device.remap_failed = 0;
    device.recovery_action = 0;
}
