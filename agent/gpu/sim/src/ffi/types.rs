//! NVML's return codes and structs, laid out as in `nvml.h`; a test compares them with the
//! published bindings.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};

/// `nvmlReturn_t`.
pub(crate) type Ret = c_uint;
/// `nvmlDevice_t`: the address of an entry of a table that is never read.
pub(crate) type Handle = *const u64;

pub(crate) const SUCCESS: Ret = 0;
pub(crate) const UNINITIALIZED: Ret = 1;
pub(crate) const INVALID_ARGUMENT: Ret = 2;
pub(crate) const NOT_SUPPORTED: Ret = 3;
pub(crate) const NO_PERMISSION: Ret = 4;
pub(crate) const NOT_FOUND: Ret = 6;
pub(crate) const INSUFFICIENT_SIZE: Ret = 7;
pub(crate) const DRIVER_NOT_LOADED: Ret = 9;
pub(crate) const TIMEOUT: Ret = 10;
pub(crate) const GPU_IS_LOST: Ret = 15;
pub(crate) const RESET_REQUIRED: Ret = 16;
pub(crate) const VERSION_MISMATCH: Ret = 25;
pub(crate) const UNKNOWN: Ret = 999;

/// `NVML_VALUE_NOT_AVAILABLE` in an unsigned 64-bit field.
pub(crate) const NOT_AVAILABLE: u64 = u64::MAX;
/// No MIG instance.
pub(crate) const NO_INSTANCE: c_uint = c_uint::MAX;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PciInfo {
    pub(crate) bus_id_legacy: [c_char; 16],
    pub(crate) domain: c_uint,
    pub(crate) bus: c_uint,
    pub(crate) device: c_uint,
    pub(crate) pci_device_id: c_uint,
    pub(crate) pci_subsystem_id: c_uint,
    pub(crate) bus_id: [c_char; 32],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) total: c_ulonglong,
    pub(crate) free: c_ulonglong,
    pub(crate) used: c_ulonglong,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct MemoryV2 {
    pub(crate) version: c_uint,
    pub(crate) total: c_ulonglong,
    pub(crate) reserved: c_ulonglong,
    pub(crate) free: c_ulonglong,
    pub(crate) used: c_ulonglong,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Bar1Memory {
    pub(crate) total: c_ulonglong,
    pub(crate) free: c_ulonglong,
    pub(crate) used: c_ulonglong,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Utilization {
    pub(crate) gpu: c_uint,
    pub(crate) memory: c_uint,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ProcessInfo {
    pub(crate) pid: c_uint,
    pub(crate) used_gpu_memory: c_ulonglong,
    pub(crate) gpu_instance_id: c_uint,
    pub(crate) compute_instance_id: c_uint,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ProcessUtilizationSample {
    pub(crate) pid: c_uint,
    pub(crate) timestamp: c_ulonglong,
    pub(crate) sm: c_uint,
    pub(crate) memory: c_uint,
    pub(crate) encoder: c_uint,
    pub(crate) decoder: c_uint,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct EccErrorCounts {
    pub(crate) l1_cache: c_ulonglong,
    pub(crate) l2_cache: c_ulonglong,
    pub(crate) device_memory: c_ulonglong,
    pub(crate) register_file: c_ulonglong,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RowRemapperHistogram {
    pub(crate) max: c_uint,
    pub(crate) high: c_uint,
    pub(crate) partial: c_uint,
    pub(crate) low: c_uint,
    pub(crate) none: c_uint,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TemperatureV1 {
    pub(crate) version: c_uint,
    pub(crate) sensor: c_uint,
    pub(crate) temperature: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FieldValue {
    pub(crate) field_id: c_uint,
    pub(crate) scope_id: c_uint,
    pub(crate) timestamp: i64,
    pub(crate) latency_us: i64,
    pub(crate) value_type: c_uint,
    pub(crate) ret: Ret,
    /// The union's widest member; little-endian machines see narrower ones in its first bytes.
    pub(crate) value: c_ulonglong,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct EventData {
    pub(crate) device: Handle,
    pub(crate) event_type: c_ulonglong,
    pub(crate) event_data: c_ulonglong,
    pub(crate) gpu_instance_id: c_uint,
    pub(crate) compute_instance_id: c_uint,
}
