//! The two certificates of AutoMTLS: the client's, made exactly as Terraform makes it, and the check of the server's.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P521_SHA512,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::HostError;

/// The host name that Terraform asks the provider's certificate for.
pub const SERVER_NAME: &str = "localhost";

/// A client certificate as go-plugin's `generateCert` makes it: P-521, self-signed, `CA:TRUE`, SAN `localhost`.
///
/// `CA:TRUE` on an end-entity certificate is what breaks ordinary verifiers (trap 4), so a test that used a tidier
/// certificate would prove nothing.
#[derive(Debug)]
pub struct ClientIdentity {
    /// The certificate, for the provider's `PLUGIN_CLIENT_CERT`.
    pub pem: String,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Accepts one certificate only, and only if Go's verifier would accept it as its own root.
#[derive(Debug)]
pub(crate) struct PinnedServer {
    der: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

// === impl ClientIdentity ===

impl ClientIdentity {
    /// Makes a fresh key and certificate.
    ///
    /// # Errors
    /// [`HostError::Certificate`] when the crypto library refuses.
    pub fn generate() -> Result<Self, HostError> {
        let failed = |source: rcgen::Error| HostError::Certificate(source.to_string());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).map_err(failed)?;
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).map_err(failed)?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, SERVER_NAME);
        name.push(DnType::OrganizationName, "HashiCorp");
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyAgreement,
            KeyUsagePurpose::KeyCertSign,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }
}

/// The TLS configuration of a Terraform that pins `server_der` and offers ALPN `h2`.
pub(crate) fn client_config(
    identity: Option<&ClientIdentity>,
    server_der: &[u8],
) -> Result<ClientConfig, HostError> {
    let failed = |source: Error| HostError::Certificate(source.to_string());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = PinnedServer {
        der: CertificateDer::from(server_der.to_vec()),
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(vec![identity.der.clone()], identity.key.clone_key())
            .map_err(failed)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Decodes the sixth field of the handshake as Go's `base64.RawStdEncoding` does: padding is an error (trap 2).
///
/// # Errors
/// [`HostError::Handshake`] naming the offending field.
pub fn decode_server_certificate(field: &str) -> Result<Vec<u8>, HostError> {
    let der = STANDARD_NO_PAD.decode(field).map_err(|source| {
        HostError::Handshake(format!(
            "field 6 (server certificate) is not unpadded standard base64: {source}; send base64 of the DER without `=`"
        ))
    })?;
    acceptable_to_go(&der).map_err(HostError::Handshake)?;
    Ok(der)
}

/// Says whether Go's `x509.Verify`, with this certificate as its only root and the name `localhost`, accepts it.
fn acceptable_to_go(der: &[u8]) -> Result<(), String> {
    let (rest, certificate) = X509Certificate::from_der(der)
        .map_err(|source| format!("field 6 is not a DER certificate: {source}"))?;
    if !rest.is_empty() {
        return Err(format!(
            "field 6 has {} bytes after the certificate",
            rest.len()
        ));
    }
    if !certificate.validity().is_valid() {
        return Err(format!(
            "the server certificate is not valid now: {:?}",
            certificate.validity()
        ));
    }
    let mut named = false;
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => {
                named = names
                    .general_names
                    .iter()
                    .any(|name| matches!(name, GeneralName::DNSName(dns) if *dns == SERVER_NAME));
            }
            ParsedExtension::ExtendedKeyUsage(usage) if !(usage.any || usage.server_auth) => {
                return Err(
                    "the server certificate's extended key usage lacks serverAuth".to_owned(),
                );
            }
            _ => {}
        }
    }
    if named {
        Ok(())
    } else {
        Err(format!(
            "the server certificate has no subject alternative name `{SERVER_NAME}`"
        ))
    }
}

// === impl PinnedServer ===

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if end_entity.as_ref() == self.der.as_ref() {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_certificate_is_p521_self_signed_and_a_ca() {
        let identity = ClientIdentity::generate().expect("a certificate");
        let (_, parsed) = X509Certificate::from_der(&identity.der).expect("DER");
        assert!(parsed.is_ca(), "Terraform's certificate says CA:TRUE");
        assert_eq!(parsed.subject(), parsed.issuer());
        let curve = parsed
            .public_key()
            .algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.as_oid().ok())
            .expect("a named curve");
        assert_eq!(curve.to_id_string(), "1.3.132.0.35", "secp521r1");
        assert_eq!(
            parsed.signature_algorithm.algorithm.to_id_string(),
            "1.2.840.10045.4.3.4",
            "ecdsa-with-SHA512"
        );
    }

    #[test]
    fn padded_base64_is_refused() {
        let identity = ClientIdentity::generate().expect("a certificate");
        let mut field = STANDARD_NO_PAD.encode(&identity.der);
        assert!(decode_server_certificate(&field).is_ok());
        field.push('=');
        let refused = decode_server_certificate(&field).expect_err("padding is illegal");
        assert!(refused.to_string().contains("base64"), "{refused}");
    }

    #[test]
    fn a_certificate_for_another_name_is_refused() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).expect("a key");
        let other = CertificateParams::new(vec!["provider.example".to_owned()])
            .and_then(|params| params.self_signed(&key))
            .expect("a certificate");
        let refused = acceptable_to_go(other.der()).expect_err("wrong name");
        assert!(refused.contains("localhost"), "{refused}");
    }
}
