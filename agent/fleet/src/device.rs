//! GPUs as a node sees them, and the models we know.

use crate::id::{DeviceId, ParseIdError};
use crate::unit::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A GPU model in its short form: `T4`, `A100-80G`, `H100`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GpuModel(String);

/// Models with their device memory, as the short names people write. Others are accepted as they
/// are: the list only serves defaults, the simulator and estimates.
pub const KNOWN_MODELS: &[(&str, Bytes)] = &[
    ("T4", Bytes::gib(16)),
    ("L4", Bytes::gib(24)),
    ("A10G", Bytes::gib(24)),
    ("L40S", Bytes::gib(48)),
    ("V100-16G", Bytes::gib(16)),
    ("V100-32G", Bytes::gib(32)),
    ("A100-40G", Bytes::gib(40)),
    ("A100-80G", Bytes::gib(80)),
    ("H100", Bytes::gib(80)),
    ("H200", Bytes::gib(141)),
    ("B200", Bytes::gib(180)),
];

/// Where a node's readings come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The NVIDIA driver's own library.
    Nvml,
    /// A simulated driver: no GPU is touched.
    Simulated,
}

/// A device as discovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The driver's UUID.
    pub id: DeviceId,
    /// Its index on the machine.
    pub index: u32,
    /// Short model name.
    pub model: GpuModel,
    /// The driver's own name for it.
    pub product: String,
    /// Device memory.
    pub memory: Bytes,
    /// CUDA compute capability, e.g. `8.0`; `None` when the driver does not say.
    pub compute_capability: Option<String>,
    /// PCI bus id.
    pub pci: Option<String>,
    /// NUMA node; `None` when the driver does not say.
    pub numa: Option<u32>,
}

/// Whether a device takes jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceHealth {
    /// Takes jobs.
    #[default]
    Healthy,
    /// Takes jobs; something is worth a look.
    Degraded,
    /// Takes no jobs.
    Failed,
}

/// One part of a layout such as `8xA100-80G,4xT4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutPart {
    /// How many, 1 to 64.
    pub count: u32,
    /// Of which model.
    pub model: GpuModel,
}

// === impl GpuModel ===

impl GpuModel {
    /// Checks `text`: 1 to 32 letters, digits, hyphens and dots.
    pub fn new(text: impl Into<String>) -> Result<Self, ParseIdError> {
        let input = text.into();
        let good = !input.is_empty()
            && input.len() <= 32
            && input
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        if good {
            Ok(Self(input))
        } else {
            Err(ParseIdError {
                input,
                expected: "a GPU model such as \"T4\", \"A100-80G\" or \"H100\"",
            })
        }
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Device memory of a known model.
    pub fn memory(&self) -> Option<Bytes> {
        KNOWN_MODELS
            .iter()
            .find(|(name, _)| *name == self.0)
            .map(|(_, memory)| *memory)
    }
}

impl FromStr for GpuModel {
    type Err = ParseIdError;
    fn from_str(s: &str) -> Result<Self, ParseIdError> {
        Self::new(s)
    }
}

impl TryFrom<String> for GpuModel {
    type Error = ParseIdError;
    fn try_from(s: String) -> Result<Self, ParseIdError> {
        Self::new(s)
    }
}

impl From<GpuModel> for String {
    fn from(m: GpuModel) -> String {
        m.0
    }
}

impl fmt::Display for GpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a layout: parts `<count>x<model>` joined by commas, at most 64 GPUs in all, models from
/// [`KNOWN_MODELS`]. The error says which part does not read.
pub fn parse_layout(text: &str) -> Result<Vec<LayoutPart>, ParseIdError> {
    let bad = |part: &str| ParseIdError {
        input: part.to_owned(),
        expected: "a layout such as \"8xA100-80G\" or \"4xT4,2xH100\" (1 to 64 GPUs of T4, L4, A10G, L40S, V100-16G, V100-32G, A100-40G, A100-80G, H100, H200 or B200)",
    };
    let mut parts = Vec::new();
    let mut total = 0u32;
    for part in text.split(',') {
        let (count, model) = part.trim().split_once('x').ok_or_else(|| bad(part))?;
        let count: u32 = count.parse().map_err(|_| bad(part))?;
        let model = GpuModel::new(model).map_err(|_| bad(part))?;
        total = total.saturating_add(count);
        if count == 0 || total > crate::limits::MAX_GPUS_PER_NODE || model.memory().is_none() {
            return Err(bad(part));
        }
        parts.push(LayoutPart { count, model });
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_reads_up_to_64_gpus_of_known_models() {
        let parts = parse_layout("8xA100-80G, 4xT4").expect("reads");
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[1].model.as_str(), "T4");
        assert!(parse_layout("64xT4").is_ok());
        for text in [
            "",
            "8",
            "xT4",
            "0xT4",
            "65xT4",
            "60xT4,5xT4",
            "2xK9",
            "-1xT4",
            "1xT4,",
        ] {
            assert!(parse_layout(text).is_err(), "{text}");
        }
    }
}
