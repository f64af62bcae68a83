//! The fleet's certificate authority, kept by the lead.

use super::key::{certificate_from_pem, certificate_to_pem};
use super::{
    CaPin, KeyAndCertificate, LEAD_DNS, LEAD_URI, NODE_DNS, NODE_URI, SecretKey, TlsError,
};
use gpuloom_fleet::{FleetName, NodeId};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a CA is valid.
pub const CA_LIFETIME: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
/// How long the lead's own certificate is valid; made anew at each of its starts.
pub const LEAD_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a node's certificate is valid; renewed when half of that is over.
pub const NODE_LIFETIME: Duration = DAY;
/// Certificates are valid from a day before they are made, for clocks that differ.
const BACKDATE: Duration = DAY;

/// A certificate authority: its key and certificate.
#[derive(Debug)]
pub struct Ca {
    key: SecretKey,
    certificate: CertificateDer<'static>,
    pin: CaPin,
}

// === impl Ca ===

impl Ca {
    /// A new CA for `fleet`.
    pub fn create(fleet: &FleetName, now: SystemTime) -> Result<Self, TlsError> {
        let key = SecretKey::generate()?;
        let mut params = CertificateParams::default();
        let name = format!("gpuloom fleet {fleet}");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, CA_LIFETIME);
        let making = making("the fleet's CA");
        let certificate = params.self_signed(key.0.as_ref()).map_err(making)?;
        let certificate = certificate.der().clone();
        let pin = CaPin::of(&certificate)?;
        Ok(Self {
            key,
            certificate,
            pin,
        })
    }

    /// Reads a CA that was kept as [`Ca::certificate_pem`] and [`Ca::key_pem`]. `Unreadable` when
    /// either is damaged or they do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, TlsError> {
        let key = SecretKey::from_pem(key)?;
        let certificate = certificate_from_pem("the CA certificate", certificate)?;
        let theirs = super::read_certificate(&certificate).map(|(public, _)| public);
        if theirs.as_ref() != Some(&key.public_key()) {
            return Err(TlsError::Unreadable {
                what: "the CA",
                why: "its certificate and key do not belong together; restore both from one \
                      backup"
                    .to_owned(),
            });
        }
        let pin = CaPin::of(&certificate)?;
        Ok(Self {
            key,
            certificate,
            pin,
        })
    }

    /// The certificate in PEM; public.
    pub fn certificate_pem(&self) -> String {
        certificate_to_pem(&self.certificate)
    }

    /// The private key in PKCS#8 PEM: whoever has it is the fleet.
    pub fn key_pem(&self) -> String {
        self.key.to_pem()
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What people know the fleet by.
    pub fn pin(&self) -> CaPin {
        self.pin
    }

    /// A fresh key and certificate for the lead itself; made anew at every start.
    pub fn issue_lead(&self, now: SystemTime) -> Result<KeyAndCertificate, TlsError> {
        let key = SecretKey::generate()?;
        let names = Names {
            uri: LEAD_URI.to_owned(),
            dns: &[LEAD_DNS, NODE_DNS],
        };
        let certificate = self.sign(key.0.as_ref(), names, now, LEAD_LIFETIME)?;
        Ok(KeyAndCertificate {
            key,
            certificate,
            ca: self.certificate.clone(),
        })
    }

    /// Signs the key in a node's request, for [`NODE_LIFETIME`]. Nothing else of the request is used: the names come
    /// from `node`. `Unreadable` when it is no request or does not prove possession of its key.
    pub fn sign_node(
        &self,
        request_der: &[u8],
        node: &NodeId,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, TlsError> {
        let request = CertificateSigningRequestDer::from(request_der);
        let request = CertificateSigningRequestParams::from_der(&request).map_err(|e| {
            TlsError::Unreadable {
                what: "the certificate signing request",
                why: e.to_string(),
            }
        })?;
        if request.public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(TlsError::Unreadable {
                what: "the certificate signing request",
                why: "its key is not ECDSA P-256".to_owned(),
            });
        }
        let names = Names {
            uri: format!("{NODE_URI}{node}"),
            dns: &[NODE_DNS],
        };
        self.sign(&request.public_key, names, now, NODE_LIFETIME)
    }

    fn sign(
        &self,
        key: &impl PublicKeyData,
        names: Names,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<CertificateDer<'static>, TlsError> {
        let ia5 = |text: &str| {
            text.try_into()
                .map_err(making("the certificate's alternative names"))
        };
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, names.uri.as_str());
        params.subject_alt_names = vec![SanType::URI(ia5(&names.uri)?)];
        for dns in names.dns {
            params.subject_alt_names.push(SanType::DnsName(ia5(dns)?));
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, lifetime);
        let making = making("a certificate");
        let issuer: Issuer<'_, &KeyPair> =
            Issuer::from_ca_cert_der(&self.certificate, self.key.0.as_ref()).map_err(&making)?;
        let certificate = params.signed_by(key, &issuer).map_err(&making)?;
        Ok(certificate.der().clone())
    }
}

struct Names {
    uri: String,
    dns: &'static [&'static str],
}

fn making(what: &'static str) -> impl Fn(rcgen::Error) -> TlsError {
    move |source| TlsError::Making { what, source }
}

fn set_validity(params: &mut CertificateParams, now: SystemTime, lifetime: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let whole = Duration::from_secs(now.as_secs());
    params.not_before = epoch + whole.saturating_sub(BACKDATE);
    params.not_after = epoch + whole + lifetime;
}
