//! The CA's pin: what people copy to know their fleet again.

use super::{TlsError, read_certificate};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// SHA-256 of a CA certificate's SubjectPublicKeyInfo. Written `sha256:<64 hex digits>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CaPin([u8; 32]);

// === impl CaPin ===

impl CaPin {
    /// The pin of a CA certificate; `Unreadable` when it is not a certificate.
    pub fn of(ca: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let (key, _) = read_certificate(ca).ok_or_else(|| TlsError::Unreadable {
            what: "the CA certificate",
            why: "it is not one X.509 certificate".to_owned(),
        })?;
        Ok(Self(Sha256::digest(key.spki_der()).into()))
    }
}

impl FromStr for CaPin {
    type Err = TlsError;

    fn from_str(text: &str) -> Result<Self, TlsError> {
        let bad = || TlsError::Unreadable {
            what: "the CA pin",
            why: format!("{text:?} is not \"sha256:\" and 64 hexadecimal digits"),
        };
        let digits = text.trim().strip_prefix("sha256:").ok_or_else(bad)?;
        let mut pin = [0; 32];
        hex::decode_to_slice(digits, &mut pin).map_err(|_| bad())?;
        Ok(Self(pin))
    }
}

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}
