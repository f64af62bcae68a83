//! What the node's devices may still be given: whatever the lead says, nothing twice.

use gpuloom_fleet::{Bytes, Device, DeviceGrant, MilliGpu};

/// Why `wanted` cannot be given beside `held` (the grants of live attempts); `None` when it can.
/// Each device has 1000 thousandths and its memory to give.
pub(crate) fn refusal(
    devices: &[Device],
    held: &[DeviceGrant],
    wanted: &[DeviceGrant],
) -> Option<String> {
    wanted.iter().find_map(|grant| {
        let id = &grant.device;
        let Some(device) = devices.iter().find(|d| d.id == *id) else {
            return Some(format!("device {id} is not one of this node's"));
        };
        let of = |all: &[DeviceGrant]| {
            let mine = all.iter().filter(|g| g.device == *id);
            mine.fold((MilliGpu(0), Bytes(0)), |(share, memory), g| {
                (share + g.share, memory + g.memory)
            })
        };
        let (held, asked) = (of(held), of(wanted));
        if held.0 + asked.0 > MilliGpu::ONE {
            let (held, asked) = (held.0, asked.0);
            return Some(format!(
                "device {id} has {held} GPU in use here and cannot give {asked} more"
            ));
        }
        if held.1 + asked.1 > device.memory {
            let (total, held, asked) = (device.memory, held.1, asked.1);
            return Some(format!(
                "device {id} has {held} of {total} memory reserved here and cannot give {asked} more"
            ));
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_fleet::{DeviceId, GpuModel};

    fn device(id: &str) -> Device {
        Device {
            id: DeviceId::new(id).expect("an id"),
            index: 0,
            model: GpuModel::new("T4").expect("a model"),
            product: "Tesla T4".into(),
            memory: Bytes::gib(16),
            compute_capability: None,
            pci: None,
            numa: None,
        }
    }

    fn grant(id: &str, share: u64, gib: u64) -> DeviceGrant {
        DeviceGrant {
            device: DeviceId::new(id).expect("an id"),
            share: MilliGpu(share),
            memory: Bytes::gib(gib),
        }
    }

    #[track_caller]
    fn check(held: &[DeviceGrant], wanted: &[DeviceGrant], told: Option<&str>) {
        let devices = [device("g0"), device("g1")];
        let found = refusal(&devices, held, wanted);
        match (&found, told) {
            (None, None) => {}
            (Some(text), Some(part)) => assert!(text.contains(part), "{text}"),
            _ => panic!("{found:?} instead of {told:?}"),
        }
    }

    #[test]
    fn a_device_is_filled_to_the_brim_and_not_beyond() {
        check(&[], &[grant("g0", 1000, 16)], None);
        check(&[grant("g0", 500, 8)], &[grant("g0", 500, 8)], None);
        check(
            &[grant("g0", 500, 8)],
            &[grant("g0", 501, 1)],
            Some("0.5 GPU in use"),
        );
        check(
            &[grant("g0", 500, 9)],
            &[grant("g0", 500, 8)],
            Some("9GiB of 16GiB"),
        );
        check(&[grant("g1", 1000, 16)], &[grant("g0", 1000, 16)], None);
        check(&[], &[grant("g9", 1, 1)], Some("not one of this node's"));
    }

    #[test]
    fn a_gang_is_counted_whole() {
        let gang = [grant("g0", 1000, 16), grant("g1", 1000, 16)];
        check(&[], &gang, None);
        check(&[grant("g1", 1, 0)], &gang, Some("device g1"));
        check(
            &[],
            &[grant("g0", 600, 1), grant("g0", 600, 1)],
            Some("cannot give 1.2"),
        );
    }
}
