//! What a device said at one moment.

use gpuloom_fleet::{Bytes, DeviceId, Millis};
use serde::{Deserialize, Serialize};

/// One reading of one device. `None` is "the driver did not say", never zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The device.
    pub device: DeviceId,
    /// When it was read.
    pub at: Millis,
    /// Thousandths of the time in which a kernel ran, 0 to 1000.
    pub utilization_milli: Option<u32>,
    /// Memory in use, without the driver's own reserve.
    pub memory_used: Option<Bytes>,
    /// All memory of the device, the driver's reserve included.
    pub memory_total: Option<Bytes>,
    /// Memory that the driver keeps for itself.
    pub memory_reserved: Option<Bytes>,
    /// Core temperature in degrees Celsius.
    pub temperature_c: Option<i32>,
    /// Power drawn, in milliwatts.
    pub power_mw: Option<u64>,
    /// Power limit in force, in milliwatts.
    pub power_limit_mw: Option<u64>,
    /// Clock of the streaming multiprocessors, in MHz.
    pub sm_clock_mhz: Option<u32>,
    /// Memory clock, in MHz.
    pub memory_clock_mhz: Option<u32>,
    /// Corrected ECC errors since the driver was loaded.
    pub ecc_corrected: Option<u64>,
    /// Uncorrected ECC errors since the driver was loaded.
    pub ecc_uncorrected: Option<u64>,
    /// Processes with a context on the device; `None` when they were not asked for this time (they
    /// cost the driver most) or the driver did not say.
    pub processes: Option<Vec<ProcessUse>>,
    /// The device has fallen off the bus; everything else is `None` then.
    pub lost: bool,
}

/// One process on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUse {
    /// Its id on the host.
    pub pid: u32,
    /// Device memory it holds; `None` when the driver does not say.
    pub memory: Option<Bytes>,
}

/// An Xid: the driver's report of an error on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct XidEvent {
    /// The device.
    pub device: DeviceId,
    /// When it was received.
    pub at: Millis,
    /// The Xid's number; `None` when the driver reports an error it has no number for.
    pub xid: Option<u64>,
}

// === impl Reading ===

impl Reading {
    /// A reading in which nothing was answered.
    #[must_use]
    pub fn unanswered(device: DeviceId, at: Millis) -> Self {
        Self {
            device,
            at,
            utilization_milli: None,
            memory_used: None,
            memory_total: None,
            memory_reserved: None,
            temperature_c: None,
            power_mw: None,
            power_limit_mw: None,
            sm_clock_mhz: None,
            memory_clock_mhz: None,
            ecc_corrected: None,
            ecc_uncorrected: None,
            processes: None,
            lost: false,
        }
    }

    /// A reading of a device that has fallen off the bus.
    #[must_use]
    pub fn of_lost(device: DeviceId, at: Millis) -> Self {
        Self {
            lost: true,
            ..Self::unanswered(device, at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_survives_json_and_keeps_what_was_not_said() {
        let device = DeviceId::new("GPU-1").expect("id");
        let reading = Reading {
            utilization_milli: Some(0),
            memory_used: Some(Bytes::gib(3)),
            processes: Some(vec![ProcessUse {
                pid: 7,
                memory: None,
            }]),
            ..Reading::unanswered(device, Millis(5))
        };
        let json = serde_json::to_string(&reading).expect("json");
        assert!(json.contains(r#""utilization_milli":0"#), "{json}");
        assert!(json.contains(r#""temperature_c":null"#), "{json}");
        assert_eq!(
            serde_json::from_str::<Reading>(&json).expect("back"),
            reading
        );
    }
}
