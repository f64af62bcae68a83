//! What devices say now. Each figure that a driver refuses is `None` and does not spoil the rest.

use gpuloom_fleet::{Bytes, Millis};
use gpuloom_watch::{ProcessUse, Reading};
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::{Door, Slot};

/// Figures that change rarely are asked for once in this many readings.
const SLOW_EVERY: u32 = 10;
/// Tries at a process list that grows while it is read.
const LIST_TRIES: usize = 3;
/// `NVML_VALUE_NOT_AVAILABLE` in a figure of 64 bits.
const NOT_AVAILABLE: u64 = u64::MAX;

/// The last answers to questions that are asked rarely.
#[derive(Default)]
pub(super) struct Remembered {
    turn: u32,
    power_limit_mw: Option<u64>,
    memory_clock_mhz: Option<u32>,
    ecc_corrected: Option<u64>,
    ecc_uncorrected: Option<u64>,
}

/// The device has fallen off the bus.
struct Lost;

impl Door {
    /// Reads every device of the share; process lists, the dearest question, only when asked for.
    pub(crate) fn read(&mut self, at: Millis, processes: bool) -> Vec<Reading> {
        let processes = processes && self.driver.lists_processes();
        self.slots
            .iter_mut()
            .map(|slot| slot.read(self.nvml, at, processes))
            .collect()
    }
}

// === impl Slot ===

impl Slot {
    fn read(&mut self, nvml: &'static Nvml, at: Millis, processes: bool) -> Reading {
        if self.device.is_none() {
            self.device = nvml.device_by_uuid(self.id.as_str()).ok();
        }
        let Some(device) = &self.device else {
            return Reading::of_lost(self.id.clone(), at);
        };
        let reading = Reading::unanswered(self.id.clone(), at);
        match ask(device, &mut self.remembered, reading, processes) {
            Ok(reading) => reading,
            Err(Lost) => {
                self.remembered = Remembered::default();
                Reading::of_lost(self.id.clone(), at)
            }
        }
    }
}

fn ask(
    device: &Device<'_>,
    remembered: &mut Remembered,
    mut reading: Reading,
    processes: bool,
) -> Result<Reading, Lost> {
    let memory = said(device.memory_info())?;
    let figure = |bytes: u64| (bytes != NOT_AVAILABLE).then_some(Bytes(bytes));
    reading.memory_used = memory.as_ref().and_then(|m| figure(m.used));
    reading.memory_total = memory.as_ref().and_then(|m| figure(m.total));
    reading.memory_reserved = memory.as_ref().and_then(|m| figure(m.reserved));
    let utilization = said(device.utilization_rates())?;
    reading.utilization_milli = utilization.map(|u| u.gpu.min(100) * 10);
    let temperature = said(device.temperature(TemperatureSensor::Gpu))?;
    reading.temperature_c = temperature.and_then(|c| i32::try_from(c).ok());
    reading.power_mw = said(device.power_usage())?.map(u64::from);
    reading.sm_clock_mhz = said(device.clock_info(Clock::SM))?;
    remembered.refresh(device)?;
    reading.power_limit_mw = remembered.power_limit_mw;
    reading.memory_clock_mhz = remembered.memory_clock_mhz;
    reading.ecc_corrected = remembered.ecc_corrected;
    reading.ecc_uncorrected = remembered.ecc_uncorrected;
    if processes {
        reading.processes = list_processes(device)?;
    }
    Ok(reading)
}

/// Compute and graphics processes; a process with both contexts is listed once, with the larger
/// figure. `None` when the driver does not say.
fn list_processes(device: &Device<'_>) -> Result<Option<Vec<ProcessUse>>, Lost> {
    let Some(compute) = list(|| device.running_compute_processes())? else {
        return Ok(None);
    };
    let graphics = list(|| device.running_graphics_processes())?.unwrap_or_default();
    let mut all: Vec<ProcessUse> = Vec::with_capacity(compute.len() + graphics.len());
    for info in compute.into_iter().chain(graphics) {
        let memory = match info.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(Bytes(bytes)),
            UsedGpuMemory::Unavailable => None,
        };
        match all.iter_mut().find(|p| p.pid == info.pid) {
            Some(known) => known.memory = known.memory.max(memory),
            None => all.push(ProcessUse {
                pid: info.pid,
                memory,
            }),
        }
    }
    Ok(Some(all))
}

fn list<T>(call: impl Fn() -> Result<Vec<T>, NvmlError>) -> Result<Option<Vec<T>>, Lost> {
    for _ in 1..LIST_TRIES {
        match call() {
            Err(NvmlError::InsufficientSize(_)) => {}
            other => return said(other),
        }
    }
    said(call())
}

/// The answer; `None` when the driver does not give one.
fn said<T>(answer: Result<T, NvmlError>) -> Result<Option<T>, Lost> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(NvmlError::GpuLost) => Err(Lost),
        Err(_) => Ok(None),
    }
}

// === impl Remembered ===

impl Remembered {
    /// Asks again when it is time to.
    fn refresh(&mut self, device: &Device<'_>) -> Result<(), Lost> {
        if self.turn == 0 {
            let count = |kind| said(device.total_ecc_errors(kind, EccCounter::Volatile));
            self.ecc_corrected = count(MemoryError::Corrected)?;
            self.ecc_uncorrected = count(MemoryError::Uncorrected)?;
            self.power_limit_mw = said(device.enforced_power_limit())?.map(u64::from);
            self.memory_clock_mhz = said(device.clock_info(Clock::Memory))?;
        }
        self.turn = (self.turn + 1) % SLOW_EVERY;
        Ok(())
    }
}
