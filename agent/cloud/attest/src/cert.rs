//! Who signs Azure's documents: names, roots, and where a missing certificate is had.

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// SHA-256 of the roots that Azure's metadata certificates lead to: DigiCert Global Root G2 and
/// Microsoft RSA Root Certificate Authority 2017. Source: "Azure Certificate Authority details".
const PINNED: [&str; 2] = [
    "cb3ccbb76031e5e0138f8dd39a23f9de47ffc35e43c1144cea27d46a5ab1cb5f",
    "c741f70f4b2a8d88bf2e71c14122ef53ef10eba0cfa5e64cfa20f418853073e0",
];
/// Where distributions keep the roots they trust.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// Hosts that a certificate of an issuer may be fetched from.
const ISSUERS: [&str; 5] = [
    "www.microsoft.com",
    "caissuers.microsoft.com",
    "cacerts.digicert.com",
    "cacerts.digicert.cn",
    "cacerts.geotrust.com",
];

/// Every certificate in PEM text; those that do not read are left out.
pub(crate) fn from_pem(text: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .filter_map(Result::ok)
        .collect()
}

/// The pinned roots, as far as this machine has them.
pub(crate) fn pinned() -> Vec<CertificateDer<'static>> {
    let texts = BUNDLES
        .iter()
        .map(Path::new)
        .filter_map(|p| std::fs::read_to_string(p).ok());
    let mut found: Vec<CertificateDer<'static>> = Vec::new();
    for certificate in texts.flat_map(|t| from_pem(&t)) {
        let print = hex::encode(Sha256::digest(&certificate));
        if PINNED.contains(&print.as_str()) && !found.contains(&certificate) {
            found.push(certificate);
        }
    }
    found
}

pub(crate) fn anchors<'a>(roots: &'a [CertificateDer<'static>]) -> Vec<TrustAnchor<'a>> {
    roots
        .iter()
        .filter_map(|r| webpki::anchor_from_trusted_cert(r).ok())
        .collect()
}

/// Whether a certificate is one of the metadata service's, in any of Azure's clouds.
pub(crate) fn is_metadata_service(der: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return false;
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return false;
    };
    names.value.general_names.iter().any(|name| match name {
        GeneralName::DNSName(name) => {
            let clouds = ["azure.com", "azure.us", "azure.cn"];
            clouds.iter().any(|cloud| {
                let service = format!("metadata.{cloud}");
                *name == service || name.ends_with(&format!(".{service}"))
            })
        }
        _ => false,
    })
}

/// Where the certificate of its issuer may be fetched, when that is one of the allowed hosts.
pub(crate) fn issuer_url(der: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let descriptions = certificate
        .extensions()
        .iter()
        .filter_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => Some(&access.accessdescs),
            _ => None,
        });
    descriptions
        .flatten()
        .find_map(|d| match &d.access_location {
            GeneralName::URI(uri) if d.access_method.to_id_string() == "1.3.6.1.5.5.7.48.2" => {
                let rest = uri
                    .strip_prefix("http://")
                    .or_else(|| uri.strip_prefix("https://"))?;
                let host = rest.split('/').next()?;
                ISSUERS.contains(&host).then(|| (*uri).to_owned())
            }
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_roots_are_those_of_this_machine() {
        // A machine without a bundle has none; one with a bundle has the roots that sign the web.
        let have = BUNDLES.iter().any(|p| Path::new(p).exists());
        assert_eq!(!pinned().is_empty(), have);
        assert_eq!(anchors(&pinned()).len(), pinned().len());
    }
}
