//! The door to NVML: what GPUs there are, what they say now, and which errors they report.
//!
//! Architecture invariant: only the `gpu-probe` child process ([`probe_main`]) calls NVML; the
//! agent holds a [`Probe`] and never waits for a driver call. The library is the driver's own, by
//! soname, or the simulator beside the executable when the configuration says so; never a path
//! from the environment, and every message says which of the two it was.

mod door;
mod driver;
mod error;
mod events;
mod model;
mod probe;
mod probe_main;
mod simulated;
mod supervise;
mod wire;

pub use driver::{Discovery, Driver};
pub use error::GpuError;
pub use model::model_of;
pub use probe::{DEFAULT_BEAT, DEFAULT_PROCESSES_EVERY, OPENING, Probe, ProbeOptions, ProbeState};
pub use probe_main::{PROBE_COMMAND, probe_main};
pub use simulated::{SIM_STATE_ENV, create_machine, library as simulated_library};
pub use supervise::{MAX_PENDING_EVENTS, MISSED_BEATS};
