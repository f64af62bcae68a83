//! How a machine is bought.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What kind of contract an instance runs under.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Market {
    /// The listed price; the cloud does not take it back.
    #[default]
    OnDemand,
    /// Spare capacity: cheaper, and taken back with short notice.
    Spot,
}

// === impl Market ===

impl fmt::Display for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnDemand => "on-demand",
            Self::Spot => "spot",
        })
    }
}

impl FromStr for Market {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on-demand" => Ok(Self::OnDemand),
            "spot" => Ok(Self::Spot),
            _ => Err(format!("{text:?} is not \"on-demand\" or \"spot\"")),
        }
    }
}
