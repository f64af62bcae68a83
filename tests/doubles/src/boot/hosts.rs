//! What the doubles of Google Cloud and Azure hand their machines to.

use super::{Address, Attendant, Booting, Disk, Yard};
use crate::control::Seen;
use crate::{azure, gcp, imds};
use serde_json::Value;

impl gcp::Host for Yard {
    fn launched(&self, machine: &gcp::Machine) -> Result<String, String> {
        let address = Address::claim().map_err(|e| e.to_string())?;
        let ip = address.ip().to_string();
        let region = machine
            .zone
            .rsplit_once('-')
            .map_or("", |(region, _)| region);
        let disk = |(device, name): &(String, String)| Disk {
            device: format!("/dev/disk/by-id/google-{device}"),
            folder: self.dir().join("disks").join(name),
        };
        let booting = Booting {
            instance: imds::Instance {
                id: machine.name.clone(),
                vm_id: machine.id.to_string(),
                account: gcp::PROJECT.to_owned(),
                region: region.to_owned(),
                zone: machine.zone.clone(),
                instance_type: machine.machine_type.clone(),
                private_address: ip.clone(),
                public_address: machine.public_address.clone().unwrap_or_default(),
                identity: machine.service_account.is_some(),
            },
            address,
            user_data: machine.script().to_owned(),
            gpus: machine.gpus.clone(),
            disks: machine.disks.iter().map(disk).collect(),
        };
        self.boot(booting).map_err(|e| e.to_string())?;
        Ok(ip)
    }

    fn ended(&self, name: &str) {
        self.end(name);
    }

    fn notice(&self, name: &str, notice: &Value) -> Result<(), String> {
        Self::notice(self, name, notice)
    }
}

impl azure::Watcher for Attendant {
    fn boots(&self, machine: &Seen, vm_id: &str) {
        let attended = self.attend(imds::Instance {
            id: machine.id.clone(),
            vm_id: vm_id.to_owned(),
            account: azure::SUBSCRIPTION.to_owned(),
            region: azure::LOCATION.to_owned(),
            zone: machine.zone.clone(),
            instance_type: machine.instance_type.clone(),
            private_address: machine.private_address.clone().unwrap_or_default(),
            public_address: String::new(),
            identity: true,
        });
        if let Err(e) = attended {
            eprintln!("{} has no metadata service: {e}", machine.id);
        }
    }

    fn ended(&self, name: &str) {
        self.leave(name);
    }

    fn notice(&self, name: &str, notice: &Value) -> Result<(), String> {
        Self::notice(self, name, notice)
    }
}
