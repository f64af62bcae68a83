//! P-256 key pairs, their public halves, and keys with the certificate that vouches for them.

use super::{TlsError, read_certificate};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// DER in front of the 65 bytes of an uncompressed P-256 point in a SubjectPublicKeyInfo.
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const P256_SPKI_BYTES: usize = P256_SPKI_PREFIX.len() + 65;

/// A P-256 private key. Its Debug output tells the public half alone.
#[derive(Clone)]
pub struct SecretKey(pub(super) Arc<KeyPair>);

/// A public key: SubjectPublicKeyInfo in DER, written in base64.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublicKey(Vec<u8>);

/// A key with its certificate and the CA's, as presented to peers.
#[derive(Debug, Clone)]
pub struct KeyAndCertificate {
    /// The private half.
    pub key: SecretKey,
    /// The certificate of the public half.
    pub certificate: CertificateDer<'static>,
    /// The CA that signed it.
    pub ca: CertificateDer<'static>,
}

// === impl SecretKey ===

impl SecretKey {
    /// A new key from the system's random numbers.
    pub fn generate() -> Result<Self, TlsError> {
        let made = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        let key = made.map_err(|source| TlsError::Making {
            what: "a P-256 key",
            source,
        })?;
        Ok(Self(Arc::new(key)))
    }

    /// Reads PKCS#8 PEM (`BEGIN PRIVATE KEY`) of a P-256 key.
    pub fn from_pem(pem: &str) -> Result<Self, TlsError> {
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256);
        let key = key.map_err(|e| TlsError::Unreadable {
            what: "the private key",
            why: format!(
                "it is not a P-256 key in PKCS#8 PEM (\"-----BEGIN PRIVATE KEY-----\"): {e}; \
                 `gpuloom keygen` makes one"
            ),
        })?;
        Ok(Self(Arc::new(key)))
    }

    /// PKCS#8 PEM. Keep it out of logs and state.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.subject_public_key_info())
    }

    /// A certificate signing request in DER: it proves possession of the key and asks for
    /// nothing, since the CA alone decides the names in the certificate.
    pub fn signing_request(&self) -> Result<Vec<u8>, TlsError> {
        let request = CertificateParams::default()
            .serialize_request(self.0.as_ref())
            .map_err(|source| TlsError::Making {
                what: "a certificate signing request",
                source,
            })?;
        Ok(request.der().to_vec())
    }

    /// A self-signed certificate, the envelope TLS wants around an admin's key.
    pub(crate) fn self_signed(&self) -> Result<CertificateDer<'static>, TlsError> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "gpuloom admin");
        let made = params.self_signed(self.0.as_ref());
        let certificate = made.map_err(|source| TlsError::Making {
            what: "the admin's certificate",
            source,
        })?;
        Ok(certificate.der().clone())
    }

    pub(crate) fn der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public_key())
    }
}

// === impl PublicKey ===

impl PublicKey {
    pub(crate) fn from_spki_unchecked(der: &[u8]) -> Self {
        Self(der.to_vec())
    }

    /// The key that a certificate is of; `Unreadable` when it is not a certificate.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let (key, _) = read_certificate(certificate).ok_or_else(|| TlsError::Unreadable {
            what: "the certificate",
            why: "it is not one X.509 certificate".to_owned(),
        })?;
        Ok(key)
    }

    /// SubjectPublicKeyInfo in DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = TlsError;

    /// Reads base64 of a P-256 SubjectPublicKeyInfo, as `gpuloom keygen` prints it.
    fn from_str(text: &str) -> Result<Self, TlsError> {
        let der = STANDARD.decode(text.trim()).unwrap_or_default();
        if der.len() == P256_SPKI_BYTES && der.starts_with(&P256_SPKI_PREFIX) {
            return Ok(Self(der));
        }
        Err(TlsError::Unreadable {
            what: "the public key",
            why: "it is not the base64 of a P-256 SubjectPublicKeyInfo, 124 characters; \
                  `gpuloom keygen` prints one"
                .to_owned(),
        })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(&self.0))
    }
}

// === impl KeyAndCertificate ===

impl KeyAndCertificate {
    /// Reads the three PEM texts; each error says which one does not read.
    pub fn from_pem(key: &str, certificate: &str, ca: &str) -> Result<Self, TlsError> {
        Ok(Self {
            key: SecretKey::from_pem(key)?,
            certificate: certificate_from_pem("the certificate", certificate)?,
            ca: certificate_from_pem("the CA certificate", ca)?,
        })
    }

    /// The certificate in PEM.
    pub fn certificate_pem(&self) -> String {
        certificate_to_pem(&self.certificate)
    }

    /// The CA's certificate in PEM.
    pub fn ca_pem(&self) -> String {
        certificate_to_pem(&self.ca)
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone(), self.ca.clone()]
    }
}

pub(super) fn certificate_from_pem(
    what: &'static str,
    pem: &str,
) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| TlsError::Unreadable {
        what,
        why: format!("it is not PEM (\"-----BEGIN CERTIFICATE-----\"): {e:?}"),
    })
}

/// PEM of one certificate.
pub(super) fn certificate_to_pem(der: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = next;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
