//! Why GPUs cannot be asked, and who can do something about it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why the door stays shut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum GpuError {
    /// The driver's library is not there or does not load.
    #[error(
        "cannot load {library}: {reason}; install the NVIDIA driver until `nvidia-smi` works, or declare simulated GPUs (`simulate`) if there are none"
    )]
    NoLibrary {
        /// What was loaded, by soname or path.
        library: String,
        /// The loader's words.
        reason: String,
    },
    /// The library is there; the driver is not running, not permitted or does not match it.
    #[error("{library} cannot reach the driver: {reason}; {fix}")]
    NoDriver {
        /// What was loaded.
        library: String,
        /// NVML's words.
        reason: String,
        /// What a person can do.
        fix: String,
    },
    /// The simulated driver's library is not beside the executable.
    #[error(
        "the simulated driver {file} is in none of {searched:?}; install it beside the gpuloom binary"
    )]
    NoSimulator {
        /// File name looked for.
        file: String,
        /// Folders looked into.
        searched: Vec<PathBuf>,
    },
    /// The simulated machine could not be made or opened.
    #[error("simulated machine: {reason}")]
    SimulatedMachine {
        /// The simulator's words.
        reason: String,
    },
    /// The driver does not answer; no job may be admitted until it does.
    #[error("the GPU driver does not answer: {reason}")]
    Unresponsive {
        /// Since when and how it was noticed.
        reason: String,
    },
    /// The probe process could not be started or has ended.
    #[error("the gpu-probe process is gone: {reason}")]
    ProbeGone {
        /// What happened to it.
        reason: String,
    },
    /// A call the driver refused.
    #[error("{call} failed: {reason}")]
    Call {
        /// NVML's name of the call.
        call: String,
        /// NVML's words.
        reason: String,
    },
}
