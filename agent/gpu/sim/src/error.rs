//! What can go wrong with the simulated machine, and what to do about it.

use std::fmt;
use std::path::PathBuf;

/// Why the simulated machine refused.
#[derive(Debug)]
pub enum SimError {
    /// A layout such as `8xA100-80G` that does not parse.
    Spec {
        /// The text given.
        spec: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The state file could not be opened, sized or mapped.
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file exists and holds something else than a machine of this version.
    NotAMachine {
        /// The file.
        path: PathBuf,
    },
    /// The file holds another machine than the one asked for.
    OtherMachine {
        /// The file.
        path: PathBuf,
        /// Layout and seed in the file.
        have: String,
        /// Layout and seed asked for.
        want: String,
    },
    /// No device of that index or UUID.
    NoDevice {
        /// What was asked for.
        device: String,
        /// How many devices the machine has.
        count: usize,
    },
    /// The device has less free memory than asked for.
    OutOfMemory {
        /// Index of the device.
        device: usize,
        /// Bytes asked for.
        requested: u64,
        /// Bytes free.
        free: u64,
    },
    /// The device has fallen off the bus.
    Lost {
        /// Index of the device.
        device: usize,
    },
    /// The device's compute mode admits no (further) process.
    ComputeMode {
        /// Index of the device.
        device: usize,
    },
    /// More processes on one device than the table holds.
    TooManyClaims {
        /// Index of the device.
        device: usize,
        /// The limit, [`crate::MAX_CLAIMS`].
        limit: usize,
    },
    /// The process is not alive, so it can hold nothing.
    NoProcess {
        /// The pid.
        pid: u32,
    },
}

// === impl SimError ===

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spec { spec, reason } => write!(
                f,
                "simulated machine `{spec}`: {reason}; write it like 8xA100-80G or 4xT4,2xH100"
            ),
            Self::File { path, .. } => write!(f, "cannot use the state file {}", path.display()),
            Self::NotAMachine { path } => write!(
                f,
                "{} is not a simulated machine of this version; remove it or choose another file",
                path.display()
            ),
            Self::OtherMachine { path, have, want } => write!(
                f,
                "{} holds the machine {have}, not {want}; choose another file",
                path.display()
            ),
            Self::NoDevice { device, count } => {
                write!(
                    f,
                    "no device `{device}`: the machine has {count}, counted from 0"
                )
            }
            Self::OutOfMemory {
                device,
                requested,
                free,
            } => write!(
                f,
                "device {device} out of memory: {requested} bytes requested, {free} bytes free"
            ),
            Self::Lost { device } => write!(f, "device {device} has fallen off the bus"),
            Self::ComputeMode { device } => {
                write!(
                    f,
                    "device {device} is busy or unavailable in its compute mode"
                )
            }
            Self::TooManyClaims { device, limit } => {
                write!(
                    f,
                    "device {device} already has {limit} processes, the limit"
                )
            }
            Self::NoProcess { pid } => write!(f, "no live process {pid}"),
        }
    }
}

impl std::error::Error for SimError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
