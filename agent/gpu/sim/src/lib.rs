//! A `libnvidia-ml.so.1` that pretends: one machine of GPUs in a shared file, behind NVML's own C ABI.
//!
//! The cdylib is what programs load instead of the driver's library; the rlib is what workloads,
//! the injector and tests use to change the same machine. Nothing here is linked into the agent.
//!
//! What it cannot show: real latencies and driver locks, CUDA's own allocation overhead, MPS and
//! MIG partitioning. Processes are known by (pid, start time) of one pid namespace and one boot.

mod claims;
mod error;
mod events;
mod faults;
mod ffi;
mod machine;
mod mapping;
mod process;
mod profile;
mod snapshot;
mod spec;
mod state;

pub use error::SimError;
pub use faults::{Fault, MemoryAnswer};
pub use machine::Machine;
pub use process::Owner;
pub use profile::{PROFILES, Profile};
pub use snapshot::{DeviceSnapshot, ProcessKind, ProcessUse};
pub use spec::{MachineSpec, parse_bytes};
pub use state::{MAX_CLAIMS, MAX_DEVICES, MAX_EVENTS};

/// The environment variable in which the simulated driver and workloads find the machine's file.
/// Only this crate reads it.
pub const STATE_ENV: &str = "GPULOOM_SIM_STATE";

/// File name of the cdylib as cargo builds it.
pub const LIBRARY_FILE: &str = "libgpuloom_nvml_sim.so";
