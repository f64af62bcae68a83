//! PKCS#7 signed messages as Azure's metadata service makes them. Source: RFC 5652, section 5.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, SigningKey as _,
};
use sha2::{Digest as _, Sha256};

/// A root, and a certificate of `metadata.azure.com` that it signed.
pub(super) struct Signer {
    root: Certificate,
    certificate: Certificate,
    key: KeyPair,
}

const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// One value: its tag, its length, what it holds.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let inside = parts.concat();
    let length = inside.len().to_be_bytes();
    let mut out = vec![tag];
    match inside.len() {
        short @ 0..=0x7f => out.push(u8::try_from(short).unwrap_or_default()),
        _ => {
            let digits = length
                .iter()
                .position(|b| *b != 0)
                .map_or(&length[7..], |at| &length[at..]);
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            out.extend_from_slice(digits);
        }
    }
    out.extend_from_slice(&inside);
    out
}

fn algorithm(oid: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&tlv(0x06, &[oid]), &[0x05, 0x00]])
}

// === impl Signer ===

impl Signer {
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let root_key = KeyPair::generate()?;
        let mut root = CertificateParams::default();
        root.distinguished_name
            .push(DnType::CommonName, "double root");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root_certificate = root.self_signed(&root_key)?;
        let issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let mut params = CertificateParams::new(vec!["metadata.azure.com".to_owned()])?;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Self {
            root: root_certificate,
            certificate,
            key,
        })
    }

    pub(super) fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// The signed message in DER, with signed attributes.
    pub(super) fn sign(&self, content: &[u8]) -> Vec<u8> {
        let digest = Sha256::digest(content);
        let attribute =
            |oid: &[u8], value: &[u8]| tlv(0x30, &[&tlv(0x06, &[oid]), &tlv(0x31, &[value])]);
        let attributes = [
            attribute(CONTENT_TYPE, &tlv(0x06, &[DATA])),
            attribute(MESSAGE_DIGEST, &tlv(0x04, &[&digest])),
        ];
        let parts: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
        // A signature of nothing is refused, and the test says where.
        let signature = self.key.sign(&tlv(0x31, &parts)).unwrap_or_default();
        let signer = tlv(
            0x30,
            &[
                &[0x02, 0x01, 0x01],
                // Who signed: issuer and number, which nobody here looks at.
                &tlv(0x30, &[&tlv(0x30, &[]), &[0x02, 0x01, 0x01]]),
                &algorithm(SHA256),
                &tlv(0xa0, &parts),
                &algorithm(RSA),
                &tlv(0x04, &[&signature]),
            ],
        );
        let encapsulated = tlv(
            0x30,
            &[&tlv(0x06, &[DATA]), &tlv(0xa0, &[&tlv(0x04, &[content])])],
        );
        let data = tlv(
            0x30,
            &[
                &[0x02, 0x01, 0x01],
                &tlv(0x31, &[&algorithm(SHA256)]),
                &encapsulated,
                &tlv(0xa0, &[self.certificate.der()]),
                &tlv(0x31, &[&signer]),
            ],
        );
        tlv(0x30, &[&tlv(0x06, &[SIGNED_DATA]), &tlv(0xa0, &[&data])])
    }
}
