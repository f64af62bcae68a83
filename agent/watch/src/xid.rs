//! What each Xid means for the jobs and the device, as data.
//!
//! Source: NVIDIA's Xid catalogue (docs.nvidia.com/deploy/xid-errors, read September 2026), its
//! "immediate resolution" column. Where other projects call an Xid fatal and NVIDIA does not,
//! NVIDIA's word stands.

use serde::{Deserialize, Serialize};

/// What an Xid asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XidEffect {
    /// An application's own fault: the job may fail, the device is fine.
    Job,
    /// Worth counting; the device goes on.
    Watch,
    /// The device needs a reset before it takes more jobs.
    Reset,
    /// The machine needs a restart before the device is of use.
    Reboot,
}

/// One row of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XidEntry {
    /// The number.
    pub xid: u64,
    /// What happened, in a few words.
    pub meaning: &'static str,
    /// What it asks for.
    pub effect: XidEffect,
}

use XidEffect::{Job, Reboot, Reset, Watch};

const fn row(xid: u64, meaning: &'static str, effect: XidEffect) -> XidEntry {
    XidEntry {
        xid,
        meaning,
        effect,
    }
}

/// In ascending order of number.
const CATALOGUE: &[XidEntry] = &[
    row(13, "graphics engine exception", Job),
    row(31, "GPU memory page fault", Job),
    row(43, "GPU stopped processing", Job),
    row(45, "preemptive cleanup after another error", Job),
    row(46, "GPU stopped processing", Reset),
    row(48, "double bit ECC error", Reset),
    row(62, "internal micro-controller halt", Reset),
    row(63, "row remapping or page retirement recorded", Watch),
    row(64, "row remapping or page retirement failed", Reset),
    row(68, "video processor exception", Job),
    row(69, "graphics engine class error", Job),
    row(74, "NVLink error", Reset),
    row(79, "GPU has fallen off the bus", Reboot),
    row(92, "high single bit ECC error rate", Watch),
    row(94, "contained ECC error", Job),
    row(95, "uncontained ECC error", Reset),
    row(109, "context switch timeout", Reset),
    row(110, "security fault", Reset),
    row(119, "GSP RPC timeout", Reset),
    row(120, "GSP error", Reset),
    row(136, "link training failed", Reset),
    row(140, "unrecovered ECC error", Reset),
    row(143, "GPU initialisation failed", Reset),
    row(144, "NVLink: SAW error", Reset),
    row(145, "NVLink: RLW error", Reset),
    row(146, "NVLink: TLW error", Reset),
    row(147, "NVLink: TREX error", Reset),
    row(148, "NVLink: NVLPW_CTRL error", Reset),
    row(149, "NVLink: NETIR error", Reset),
    row(150, "NVLink: MSE error", Reset),
    row(151, "key rotation error", Reboot),
    row(154, "recovery action changed", Watch),
    row(155, "NVLink software defined error", Reset),
    row(156, "resource retirement", Reset),
    row(158, "fatal timeout", Reset),
];

/// The catalogue's row for `xid`; `None` when it has none.
#[must_use]
pub fn xid_entry(xid: u64) -> Option<&'static XidEntry> {
    CATALOGUE
        .binary_search_by_key(&xid, |row| row.xid)
        .ok()
        .map(|i| &CATALOGUE[i])
}

/// What `xid` asks for. One that the catalogue does not know, or that has no number, is watched.
#[must_use]
pub fn xid_effect(xid: Option<u64>) -> XidEffect {
    xid.and_then(xid_entry).map_or(Watch, |row| row.effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_in_order_and_each_row_is_found() {
        assert!(CATALOGUE.is_sorted_by(|a, b| a.xid < b.xid));
        assert!(CATALOGUE.iter().all(|row| xid_entry(row.xid) == Some(row)));
        for (xid, effect) in [
            (Some(13), Job),
            (Some(63), Watch),
            (Some(79), Reboot),
            (Some(119), Reset),
            (Some(9_999), Watch),
            (None, Watch),
        ] {
            assert_eq!(xid_effect(xid), effect, "{xid:?}");
        }
    }
}
