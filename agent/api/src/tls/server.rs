//! TLS as a server: callers without a certificate, with one of the fleet's CA, or with the
//! admin's key are let in; any other certificate ends the handshake with `access_denied`.

use super::{
    KeyAndCertificate, LEAD_URI, NODE_URI, PublicKey, TlsError, provider, read_certificate,
};
use gpuloom_fleet::NodeId;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;

/// What a verified certificate says of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerCertificate {
    /// It presented none.
    None,
    /// It has the admin key.
    Admin,
    /// It is this node.
    Node(NodeId),
    /// It is the lead.
    Lead,
}

/// A TLS configuration that presents `own` and checks callers against its CA and `admin`.
pub(crate) fn server_config(
    own: &KeyAndCertificate,
    admin: Option<&PublicKey>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let config = |what: &'static str| move |source| TlsError::Config { what, source };
    let mut roots = RootCertStore::empty();
    roots
        .add(own.ca.clone())
        .map_err(config("the CA certificate"))?;
    let by_ca = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|e| TlsError::Unreadable {
            what: "the CA certificate",
            why: e.to_string(),
        })?;
    let verifier = Callers {
        admin: admin.cloned(),
        by_ca,
        provider: provider(),
    };
    let mut tls = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(config("version 1.3"))?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(own.chain(), own.key.der())
        .map_err(config("the server's certificate"))?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(tls))
}

#[derive(Debug)]
struct Callers {
    admin: Option<PublicKey>,
    by_ca: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
}

// === impl PeerCertificate ===

impl PeerCertificate {
    /// Who presented `chain`, which the handshake has verified.
    pub(crate) fn of(chain: Option<&[CertificateDer<'_>]>, admin: Option<&PublicKey>) -> Self {
        let Some((key, uris)) = chain.and_then(<[_]>::first).and_then(read_certificate) else {
            return Self::None;
        };
        if Some(&key) == admin {
            return Self::Admin;
        }
        for uri in uris {
            if uri == LEAD_URI {
                return Self::Lead;
            }
            let id = uri.strip_prefix(NODE_URI).map(NodeId::new);
            if let Some(Ok(id)) = id {
                return Self::Node(id);
            }
        }
        Self::None
    }
}

// === impl Callers ===

impl ClientCertVerifier for Callers {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let key = read_certificate(end_entity).map(|(key, _)| key);
        if key.is_some() && key == self.admin {
            return Ok(ClientCertVerified::assertion());
        }
        self.by_ca
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|e| match e {
                rustls::Error::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::BadSignature,
                ) => rustls::Error::InvalidCertificate(
                    CertificateError::ApplicationVerificationFailure,
                ),
                other => other,
            })
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
