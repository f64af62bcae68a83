//! What a cloud is asked to sign: the lead's nonce, the fleet and the node's key, made one.

use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// Whose word a proof is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cloud {
    /// A signed GetCallerIdentity.
    Aws,
    /// An identity token.
    Gcp,
    /// An attested document.
    Azure,
}

/// One challenge, in each cloud's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    fleet_id: String,
    digest: [u8; 32],
}

// === impl Cloud ===

impl Cloud {
    /// `aws`, `gcp` or `azure`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
        }
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Cloud {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "aws" => Ok(Self::Aws),
            "gcp" => Ok(Self::Gcp),
            "azure" => Ok(Self::Azure),
            other => Err(format!("{other:?} is no cloud: use aws, gcp or azure")),
        }
    }
}

// === impl Challenge ===

impl Challenge {
    /// Of the lead's nonce, the fleet's id and the node's key (SubjectPublicKeyInfo, DER).
    #[must_use]
    pub fn new(fleet_id: &str, nonce: &str, key_der: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [
            b"gpuloom join v1".as_slice(),
            fleet_id.as_bytes(),
            nonce.as_bytes(),
            key_der,
        ] {
            // Lengths go first: no two lists of parts are the same bytes.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self {
            fleet_id: fleet_id.to_owned(),
            digest: hash.finalize().into(),
        }
    }

    /// What the cloud signs: 64 hex digits (AWS), an audience of the fleet (Google), ten digits (Azure
    /// takes no more).
    #[must_use]
    pub fn text(&self, cloud: Cloud) -> String {
        let digits = hex::encode(self.digest);
        match cloud {
            Cloud::Aws => digits,
            Cloud::Gcp => format!("gpuloom:{}:{digits}", self.fleet_id),
            Cloud::Azure => {
                let mut first = [0; 8];
                first.copy_from_slice(&self.digest[..8]);
                format!("{:010}", u64::from_be_bytes(first) % 10_000_000_000)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_nonce_fleet_or_key_is_another_challenge_on_every_cloud() {
        let one = Challenge::new("f1", "n1", b"key");
        let others = [
            Challenge::new("f2", "n1", b"key"),
            Challenge::new("f1", "n2", b"key"),
            Challenge::new("f1", "n1", b"other"),
            Challenge::new("f", "1n1", b"key"),
        ];
        for cloud in [Cloud::Aws, Cloud::Gcp, Cloud::Azure] {
            assert_eq!(
                one.text(cloud),
                Challenge::new("f1", "n1", b"key").text(cloud)
            );
            for other in &others {
                assert_ne!(one.text(cloud), other.text(cloud), "{cloud}");
            }
            assert_eq!(cloud.as_str().parse(), Ok(cloud));
        }
        assert_eq!(one.text(Cloud::Azure).len(), 10);
        assert!(one.text(Cloud::Gcp).starts_with("gpuloom:f1:"));
    }
}
