//! Which metadata service answers, and what it says an instance is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Whose metadata service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// IMDSv2.
    Aws,
    /// Compute Engine's metadata server.
    Gcp,
    /// Azure's instance metadata service.
    Azure,
}

/// A word that names no cloud.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no cloud with a metadata service: use aws, gcp or azure")]
pub struct UnknownDialect(String);

/// What an instance is, as its metadata service says: unproven, for the instance's own use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What drivers call the instance: `i-...`, on Google Cloud and Azure its name.
    pub id: String,
    /// Azure's own id of the machine, which its proofs name; `None` on the others.
    pub vm_id: Option<String>,
    /// AWS account, Google project or Azure subscription.
    pub account: String,
    /// Region or location.
    pub region: String,
    /// Zone; `None` where the instance is in none.
    pub zone: Option<String>,
    /// Type or size.
    pub instance_type: String,
    /// The first address inside the network.
    pub private_address: IpAddr,
    /// The first public address; `None` when it has none.
    pub public_address: Option<IpAddr>,
}

// === impl Dialect ===

impl Dialect {
    /// `aws`, `gcp` or `azure`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
        }
    }

    /// Where the cloud serves it.
    #[must_use]
    pub fn endpoint(self) -> &'static str {
        match self {
            Self::Aws | Self::Azure => "http://169.254.169.254",
            Self::Gcp => "http://metadata.google.internal",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(text: &str) -> Result<Self, UnknownDialect> {
        match text {
            "aws" => Ok(Self::Aws),
            "gcp" => Ok(Self::Gcp),
            "azure" => Ok(Self::Azure),
            other => Err(UnknownDialect(other.to_owned())),
        }
    }
}
