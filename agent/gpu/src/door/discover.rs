//! Which devices there are.

use std::collections::BTreeMap;

use gpuloom_fleet::{Bytes, Device as FleetDevice, DeviceId};
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;

use super::read::Remembered;
use super::{Door, Slot};
use crate::driver::Discovery;
use crate::error::GpuError;
use crate::model::model_of;

impl Door {
    /// Looks for the devices of the share anew; what was lost and is back is found again.
    pub(crate) fn discover(&mut self) -> Result<Discovery, GpuError> {
        let mut discovery = Discovery {
            driver: self.driver.clone(),
            devices: Vec::new(),
            minors: BTreeMap::new(),
            missing: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        };
        self.slots = match &self.share {
            Some(share) => share
                .iter()
                .map(|id| self.look_up(id, &mut discovery))
                .collect(),
            None => self.enumerate(&mut discovery)?,
        };
        for slot in &self.slots {
            let Some(device) = &slot.device else { continue };
            match describe(&slot.id, device) {
                Ok(described) => {
                    discovery.devices.push(described);
                    if let Ok(minor) = device.minor_number() {
                        discovery.minors.insert(slot.id.clone(), minor);
                    }
                }
                Err(e) => {
                    discovery.missing.insert(slot.id.clone(), e.to_string());
                }
            }
        }
        discovery.devices.sort_by_key(|d| d.index);
        Ok(discovery)
    }

    fn look_up(&self, id: &DeviceId, discovery: &mut Discovery) -> Slot {
        let found = self.nvml.device_by_uuid(id.as_str());
        if let Err(e) = &found {
            discovery.missing.insert(id.clone(), e.to_string());
        }
        Slot {
            id: id.clone(),
            device: found.ok(),
            remembered: Remembered::default(),
        }
    }

    fn enumerate(&self, discovery: &mut Discovery) -> Result<Vec<Slot>, GpuError> {
        let count = self.nvml.device_count().map_err(|e| GpuError::Call {
            call: "nvmlDeviceGetCount_v2".to_owned(),
            reason: e.to_string(),
        })?;
        let mut slots = Vec::new();
        for index in 0..count {
            match identify(self.nvml.device_by_index(index)) {
                Ok((id, device)) => {
                    slots.push(Slot {
                        id,
                        device: Some(device),
                        remembered: Remembered::default(),
                    });
                }
                Err(reason) => {
                    discovery.unreadable.insert(index, reason);
                }
            }
        }
        Ok(slots)
    }
}

fn identify(
    device: Result<Device<'static>, NvmlError>,
) -> Result<(DeviceId, Device<'static>), String> {
    let device = device.map_err(|e| e.to_string())?;
    let uuid = device.uuid().map_err(|e| e.to_string())?;
    let id = DeviceId::new(uuid).map_err(|e| e.to_string())?;
    Ok((id, device))
}

fn describe(id: &DeviceId, device: &Device<'_>) -> Result<FleetDevice, NvmlError> {
    let product = device.name()?;
    let capability = device.cuda_compute_capability().ok();
    Ok(FleetDevice {
        id: id.clone(),
        index: device.index()?,
        model: model_of(&product),
        product,
        memory: Bytes(device.memory_info()?.total),
        compute_capability: capability.map(|c| format!("{}.{}", c.major, c.minor)),
        pci: device.pci_info().ok().map(|p| p.bus_id),
        numa: device.numa_node_id().ok(),
    })
}
