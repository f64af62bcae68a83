//! TLS as a client: the CA known by its pin, the peer by the URI in its certificate.

use super::{
    CaPin, KeyAndCertificate, LEAD_DNS, LEAD_URI, NODE_DNS, NODE_URI, SecretKey, TlsError,
    provider, read_certificate,
};
use crate::token::BearerToken;
use gpuloom_fleet::NodeId;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::sync::Arc;

/// How a caller proves who it is.
#[derive(Debug, Clone)]
pub enum Credential {
    /// Not at all: may only say Hello and Join.
    Anonymous,
    /// With the fleet's admin key.
    Admin(SecretKey),
    /// With a certificate of the fleet's CA: a node, or the lead towards its nodes.
    Certificate(KeyAndCertificate),
    /// With a tenant's token.
    Token(BearerToken),
}

/// Who must be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// The fleet's lead.
    Lead,
    /// This node.
    Node(NodeId),
}

/// The server's chain holds no CA with the pinned key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PinMismatch {
    pub(crate) pin: CaPin,
    pub(crate) seen: Option<CaPin>,
}

/// A TLS configuration that accepts the pinned CA alone and presents `credential`.
pub fn client_config(
    pin: CaPin,
    expect: &Expect,
    credential: &Credential,
) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = Arc::new(PinnedCa {
        pin,
        uri: expect.uri(),
        provider: provider(),
    });
    let config = |what: &'static str| move |source| TlsError::Config { what, source };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(config("version 1.3"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut tls = match credential {
        Credential::Anonymous | Credential::Token(_) => builder.with_no_client_auth(),
        Credential::Admin(key) => builder
            .with_client_auth_cert(vec![key.self_signed()?], key.der())
            .map_err(config("the admin key"))?,
        Credential::Certificate(own) => builder
            .with_client_auth_cert(own.chain(), own.key.der())
            .map_err(config("the certificate"))?,
    };
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(tls))
}

#[derive(Debug)]
struct PinnedCa {
    pin: CaPin,
    uri: String,
    provider: Arc<CryptoProvider>,
}

// === impl Expect ===

impl Expect {
    fn uri(&self) -> String {
        match self {
            Self::Lead => LEAD_URI.to_owned(),
            Self::Node(id) => format!("{NODE_URI}{id}"),
        }
    }

    pub(crate) fn server_name(&self) -> Result<ServerName<'static>, TlsError> {
        let dns = match self {
            Self::Lead => LEAD_DNS,
            Self::Node(_) => NODE_DNS,
        };
        ServerName::try_from(dns).map_err(|e| TlsError::Unreadable {
            what: "the server's name",
            why: e.to_string(),
        })
    }
}

// === impl PinMismatch ===

impl fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server's CA does not match the pin {}", self.pin)?;
        match self.seen {
            Some(seen) => write!(f, " (it is {seen})"),
            None => f.write_str(" (it sent no CA certificate)"),
        }
    }
}

impl std::error::Error for PinMismatch {}

// === impl PinnedCa ===

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pins = intermediates.iter().map(|c| CaPin::of(c).ok());
        let ca = intermediates
            .iter()
            .zip(pins.clone())
            .find_map(|(ca, pin)| (pin == Some(self.pin)).then_some(ca));
        let Some(ca) = ca else {
            let seen = pins.flatten().last();
            let mismatch = PinMismatch {
                pin: self.pin,
                seen,
            };
            let other = CertificateError::Other(OtherError(Arc::new(mismatch)));
            return Err(rustls::Error::InvalidCertificate(other));
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let chain =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|e| rustls::Error::General(e.to_string()))?;
        chain.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)?;
        let uris = read_certificate(end_entity).map(|(_, uris)| uris);
        if uris.is_none_or(|u| !u.contains(&self.uri)) {
            let wrong = CertificateError::ApplicationVerificationFailure;
            return Err(rustls::Error::InvalidCertificate(wrong));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
