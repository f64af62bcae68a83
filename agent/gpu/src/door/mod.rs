//! Inside the probe: the open library and this node's devices.

mod discover;
mod read;

use std::ffi::OsStr;

use gpuloom_fleet::{Backend, DeviceId};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::driver::Driver;
use crate::error::GpuError;
use crate::simulated;
use read::Remembered;

/// The driver's library, by soname: the loader's own search decides where it lies.
const NVML_SONAME: &str = "libnvidia-ml.so.1";

/// The open library. Made once and kept for the life of the process: devices borrow from it.
pub(crate) struct Door {
    nvml: &'static Nvml,
    driver: Driver,
    /// The node's share, in the order asked for; all devices when no share was given.
    share: Option<Vec<DeviceId>>,
    slots: Vec<Slot>,
}

/// One device of the share.
struct Slot {
    id: DeviceId,
    /// `None` while the driver does not show it.
    device: Option<Device<'static>>,
    remembered: Remembered,
}

// === impl Door ===

impl Door {
    /// Opens the library of `backend` and finds the devices of `share` (all when `None`).
    pub(crate) fn open(backend: Backend, share: Option<Vec<DeviceId>>) -> Result<Self, GpuError> {
        let library = match backend {
            Backend::Nvml => NVML_SONAME.into(),
            Backend::Simulated => simulated::library()?.into_os_string(),
        };
        let nvml = Nvml::builder().lib_path(&library).init();
        let nvml = nvml.map_err(|e| closed(backend, &library, &e))?;
        let nvml: &'static Nvml = Box::leak(Box::new(nvml));
        let cuda = nvml.sys_cuda_driver_version().ok();
        let driver = Driver {
            backend,
            driver_version: nvml.sys_driver_version().ok(),
            cuda_version: cuda.map(|v| format!("{}.{}", v / 1_000, v % 1_000 / 10)),
            nvml_version: nvml.sys_nvml_version().ok(),
        };
        Ok(Self {
            nvml,
            driver,
            share,
            slots: Vec::new(),
        })
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }

    pub(crate) fn nvml(&self) -> &'static Nvml {
        self.nvml
    }

    /// Ids of the share.
    pub(crate) fn ids(&self) -> Vec<DeviceId> {
        self.slots.iter().map(|slot| slot.id.clone()).collect()
    }
}

/// Why the library does not open, and what to do about it.
fn closed(backend: Backend, library: &OsStr, error: &NvmlError) -> GpuError {
    let library = library.to_string_lossy().into_owned();
    let reason = error.to_string();
    if let NvmlError::LibloadingError(cause) = error {
        let source = std::error::Error::source(cause)
            .map(|s| format!(": {s}"))
            .unwrap_or_default();
        return GpuError::NoLibrary {
            library,
            reason: format!("{cause}{source}"),
        };
    }
    let fix = match (backend, error) {
        (Backend::Simulated, _) => "check that the machine's state file exists and is readable",
        (_, NvmlError::DriverNotLoaded) => "load the kernel module (`modprobe nvidia`)",
        (_, NvmlError::NoPermission) => "give the agent access to /dev/nvidia*",
        (_, NvmlError::LibRmVersionMismatch) => {
            "library and kernel module differ: restart the machine after the driver update"
        }
        _ => "see whether `nvidia-smi` works",
    };
    GpuError::NoDriver {
        library,
        reason,
        fix: fix.to_owned(),
    }
}
