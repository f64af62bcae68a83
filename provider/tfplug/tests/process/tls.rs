//! AutoMTLS with the kind of certificate that Terraform makes.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, PKCS_ECDSA_P521_SHA512};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tfplug::proto::tfplugin6 as pb;
use tfplug::proto::tfplugin6::provider_client::ProviderClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{Plugin, channel};

/// A self-signed P-521 certificate that calls itself a CA, and its key, both PEM.
struct Identity {
    cert: String,
    key: String,
}

fn identity() -> Identity {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let cert = params.self_signed(&key).expect("a certificate");
    Identity {
        cert: cert.pem(),
        key: key.serialize_pem(),
    }
}

async fn connect(
    plugin: &Plugin,
    with: Option<&Identity>,
    alpn: &[&str],
) -> std::io::Result<TlsStream<UnixStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(plugin.certificate()))
        .expect("the plugin's certificate is its own root");
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match with {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let cert = CertificateDer::from_pem_slice(identity.cert.as_bytes()).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("PEM");
            builder
                .with_client_auth_cert(vec![cert], key)
                .expect("they match")
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = UnixStream::connect(plugin.socket()).await?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// True when the plugin closes the connection instead of talking HTTP/2.
async fn refused(connection: std::io::Result<TlsStream<UnixStream>>) -> bool {
    let Ok(mut stream) = connection else {
        return true;
    };
    // In TLS 1.3 a client learns of its rejection only when it reads.
    let _ = stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    !matches!(stream.read(&mut [0; 64]).await, Ok(n) if n > 0)
}

#[tokio::test]
async fn the_holder_of_the_pinned_certificate_is_served() {
    let terraform = identity();
    let plugin = Plugin::start(Some(&terraform.cert)).await;
    let stream = connect(&plugin, Some(&terraform), &["h2"])
        .await
        .expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let channel = channel(stream).await.expect("HTTP/2");
    let schema = ProviderClient::new(channel)
        .get_provider_schema(pb::get_provider_schema::Request {})
        .await;
    let schema = schema.expect("an answer").into_inner();
    assert_eq!(schema.diagnostics, vec![]);
    assert!(schema.resource_schemas.contains_key("demo_server"));
}

#[tokio::test]
async fn everybody_else_is_refused() {
    let terraform = identity();
    let plugin = Plugin::start(Some(&terraform.cert)).await;
    assert!(
        refused(connect(&plugin, None, &["h2"]).await).await,
        "without a certificate"
    );
    assert!(
        refused(connect(&plugin, Some(&identity()), &["h2"]).await).await,
        "with another certificate"
    );
    assert!(
        refused(connect(&plugin, Some(&terraform), &[]).await).await,
        "without ALPN"
    );
    assert!(
        refused(connect(&plugin, Some(&terraform), &["http/1.1"]).await).await,
        "with another protocol"
    );
    let mut plain = UnixStream::connect(plugin.socket())
        .await
        .expect("the plugin listens");
    plain
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .expect("written");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    // A TLS alert at most, never HTTP/2 settings.
    assert!(answer.is_empty() || answer[0] == 0x15, "{answer:x?}");
    // Nobody else's failure hurts Terraform.
    assert!(!refused(connect(&plugin, Some(&terraform), &["h2"]).await).await);
}
