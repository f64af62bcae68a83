//! What the driver says of itself and of its devices.

use std::collections::BTreeMap;

use gpuloom_fleet::{Backend, Device, DeviceId};
use serde::{Deserialize, Serialize};

/// The driver behind the door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// The real one or a simulated one.
    pub backend: Backend,
    /// Version of the kernel driver, e.g. `580.95.05`; `None` when it does not say.
    pub driver_version: Option<String>,
    /// Highest CUDA version it supports, e.g. `13.0`.
    pub cuda_version: Option<String>,
    /// Version of the library.
    pub nvml_version: Option<String>,
}

/// The devices of this node's share of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// The driver that told.
    pub driver: Driver,
    /// Devices, in the order of their index.
    pub devices: Vec<Device>,
    /// Minor number of each device's node, `/dev/nvidia<minor>`.
    pub minors: BTreeMap<DeviceId, u32>,
    /// Devices of the share that the driver does not show, and why.
    pub missing: BTreeMap<DeviceId, String>,
    /// Indices of devices that could not be identified at all, and why. Only without a share.
    pub unreadable: BTreeMap<u32, String>,
}

// === impl Driver ===

impl Driver {
    /// Whether process lists can be trusted: the list's layout changed and went in drivers 535.43
    /// to 535.98, so their answer to the current call is not understood.
    pub(crate) fn lists_processes(&self) -> bool {
        let version = self.driver_version.as_deref().unwrap_or("");
        let mut parts = version.split('.').map(str::parse::<u32>);
        !matches!(
            (parts.next(), parts.next()),
            (Some(Ok(535)), Some(Ok(43..=98)))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_lists_of_some_535_drivers_are_not_believed() {
        for (version, believed) in [
            ("535.42.01", true),
            ("535.43.02", false),
            ("535.98", false),
            ("535.104.05", true),
            ("580.95.05", true),
            ("", true),
        ] {
            let driver = Driver {
                backend: Backend::Nvml,
                driver_version: Some(version.to_owned()),
                cuda_version: None,
                nvml_version: None,
            };
            assert_eq!(driver.lists_processes(), believed, "{version}");
        }
    }
}
