//! Who is at the other end: the fleet's CA, its pin, keys and certificates, TLS on both sides.
//!
//! Everything is ECDSA P-256 and TLS 1.3 on aws-lc-rs. The lead makes the CA once; people and
//! nodes know it by its pin, never by a host name or address. The CA lives 30 years, the lead's
//! certificate is made anew at each start, a node's lives a day and is renewed after half of it. What
//! a certificate may do is looked up at every call, so a node that left is refused by its id, another
//! key than the member's by the key, and an admin key is replaced by restarting the lead.

mod ca;
mod client;
mod key;
mod pin;
mod server;

pub use ca::{CA_LIFETIME, Ca, LEAD_LIFETIME, NODE_LIFETIME};
pub(crate) use client::PinMismatch;
pub use client::{Credential, Expect, client_config};
pub use key::{KeyAndCertificate, PublicKey, SecretKey};
pub use pin::CaPin;
pub use server::NodeCertificate;
pub(crate) use server::{PeerCertificate, server_config};

use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// DNS name in the lead's certificate.
pub const LEAD_DNS: &str = "lead.gpuloom";
/// DNS name in every node's certificate.
pub const NODE_DNS: &str = "node.gpuloom";
/// URI in the lead's certificate.
pub const LEAD_URI: &str = "gpuloom://lead";
/// What the URI in a node's certificate begins with; its id follows.
pub const NODE_URI: &str = "gpuloom://node/";

/// A key, certificate or pin that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A pin, key or certificate does not read.
    #[error("{what} does not read: {why}")]
    Unreadable {
        /// Which thing.
        what: &'static str,
        /// Why, and what would be read.
        why: String,
    },
    /// A certificate could not be made.
    #[error("could not make {what}")]
    Making {
        /// Which thing.
        what: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// TLS does not take the key and certificate.
    #[error("TLS does not take {what}")]
    Config {
        /// Which thing.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The public key of a certificate and the URIs in its subject alternative names.
pub(crate) fn read_certificate(der: &CertificateDer<'_>) -> Option<(PublicKey, Vec<String>)> {
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let uris = certificate
        .subject_alternative_name()
        .ok()?
        .map(|names| {
            let names = names.value.general_names.iter();
            names
                .filter_map(|n| match n {
                    GeneralName::URI(uri) => Some((*uri).to_owned()),
                    _ => None,
                })
                .collect()
        })
        .unwrap_or_default();
    let spki = certificate.tbs_certificate.subject_pki.raw;
    Some((PublicKey::from_spki_unchecked(spki), uris))
}

/// When a certificate ends; `None` when it is not one X.509 certificate.
#[must_use]
pub fn not_after(der: &CertificateDer<'_>) -> Option<SystemTime> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let end = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(end))
}

#[cfg(test)]
mod tests;
