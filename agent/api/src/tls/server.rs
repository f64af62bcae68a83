//! TLS as a server: callers without a certificate, with one of the fleet's CA, or with the
//! admin's key are let in; any other certificate ends the handshake with `access_denied`.

use super::{
    KeyAndCertificate, LEAD_URI, NODE_URI, PublicKey, TlsError, not_after, provider,
    read_certificate,
};
use gpuloom_fleet::NodeId;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;

/// What a verified certificate says of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerCertificate {
    /// It presented none.
    None,
    /// It has the admin key.
    Admin,
    /// It is this node.
    Node(NodeId, NodeCertificate),
    /// It is the lead.
    Lead,
}

/// What a node's verified certificate says beside its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    /// The key it is of.
    pub key: PublicKey,
    /// When it ends.
    pub not_after: SystemTime,
}

/// A TLS configuration that presents the newest of `own` and checks callers against its CA and `admin`.
pub(crate) fn server_config(
    own: &watch::Receiver<KeyAndCertificate>,
    admin: Option<&PublicKey>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let config = |what: &'static str| move |source| TlsError::Config { what, source };
    let present = own.borrow().clone();
    certified(&present).map_err(config("the server's certificate"))?;
    let mut roots = RootCertStore::empty();
    roots
        .add(present.ca.clone())
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
        .with_cert_resolver(Arc::new(Newest { own: own.clone() }));
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(tls))
}

fn certified(own: &KeyAndCertificate) -> Result<CertifiedKey, rustls::Error> {
    let key = provider().key_provider.load_private_key(own.key.der())?;
    let certified = CertifiedKey::new(own.chain(), key);
    certified.keys_match()?;
    Ok(certified)
}

/// Presents the certificate as it was renewed last.
#[derive(Debug)]
struct Newest {
    own: watch::Receiver<KeyAndCertificate>,
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
        let first = chain.and_then(<[_]>::first);
        let Some((key, uris)) = first.and_then(read_certificate) else {
            return Self::None;
        };
        let Some(not_after) = first.and_then(not_after) else {
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
                return Self::Node(id, NodeCertificate { key, not_after });
            }
        }
        Self::None
    }
}

// === impl NodeCertificate ===

impl NodeCertificate {
    /// The certificate behind a node's call that came through [`crate::serve`]; `None` for any
    /// other caller.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<Self> {
        match request.extensions().get::<PeerCertificate>()? {
            PeerCertificate::Node(_, certificate) => Some(certificate.clone()),
            _ => None,
        }
    }
}

// === impl Newest ===

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match certified(&self.own.borrow()) {
            Ok(certified) => Some(Arc::new(certified)),
            Err(error) => {
                tracing::error!(%error, "the renewed certificate cannot be presented");
                None
            }
        }
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
