//! Azure's attested document: a PKCS#7 signed message of the metadata service. Source: "Azure Instance
//! Metadata Service", "Attested data"; RFC 5652.

use crate::cert;
use crate::challenge::Cloud;
use crate::der::{INTEGER, OCTETS, OID, Reader, SEQUENCE, SET};
use crate::judge::{Claims, Subject};
use crate::refusal::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gpuloom_fleet::Millis;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;
use sha2::{Digest as _, Sha256, Sha384};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, aws_lc_rs as algorithms};

const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
/// `[0]`.
const CONTEXT_0: u8 = 0xa0;
/// `[1]`.
const CONTEXT_1: u8 = 0xa1;
/// Certificates believed of one message.
const MAX_CERTIFICATES: usize = 8;

/// A signed message, taken apart.
pub(crate) struct Message {
    content: Vec<u8>,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    signed: Vec<u8>,
    attributes: Option<Vec<u8>>,
    digest: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    nonce: String,
    subscription_id: String,
    vm_id: String,
    time_stamp: TimeStamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TimeStamp {
    created_on: String,
    expires_on: String,
}

fn bad(why: impl Into<String>) -> Refusal {
    Refusal::BadProof {
        cloud: "azure",
        why: why.into(),
    }
}

/// `11/20/18 22:07:39 -0000`.
fn date(text: &str) -> Option<Millis> {
    let read = jiff::fmt::strtime::parse("%m/%d/%y %H:%M:%S %z", text.trim()).ok()?;
    let at = read.to_timestamp().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Millis)
}

// === impl Message ===

impl Message {
    /// Takes `document` (base64 of DER) apart; believes nothing of it yet.
    pub(crate) fn read(document: &str) -> Result<Self, Refusal> {
        let text: String = document.split_ascii_whitespace().collect();
        let der = STANDARD.decode(text).map_err(|_| bad("it is not base64"))?;
        Self::take_apart(&der).ok_or_else(|| bad("it is no PKCS#7 signed message in DER"))
    }

    fn take_apart(der: &[u8]) -> Option<Self> {
        let mut info = Reader(Reader(der).take(SEQUENCE)?);
        if info.take(OID)? != SIGNED_DATA {
            return None;
        }
        let mut data = Reader(Reader(info.take(CONTEXT_0)?).take(SEQUENCE)?);
        data.take(INTEGER)?;
        data.take(SET)?;
        let mut encapsulated = Reader(data.take(SEQUENCE)?);
        encapsulated.take(OID)?;
        let content = Reader(encapsulated.take(CONTEXT_0)?).take(OCTETS)?;
        let mut certificates = Vec::new();
        if let Some(all) = data.optional(CONTEXT_0) {
            let mut all = Reader(all.inside);
            while let Some(one) = all.any() {
                if certificates.len() == MAX_CERTIFICATES {
                    return None;
                }
                certificates.push(CertificateDer::from(one.whole.to_vec()));
            }
        }
        data.optional(CONTEXT_1);
        let mut signer = Reader(Reader(data.take(SET)?).take(SEQUENCE)?);
        signer.take(INTEGER)?;
        // Who signed, by issuer and number or by key: every certificate is tried instead.
        signer.any()?;
        let digest = Reader(signer.take(SEQUENCE)?).take(OID)?;
        let attributes = signer.optional(CONTEXT_0);
        signer.take(SEQUENCE)?;
        let signature = signer.take(OCTETS)?;
        // Attributes are signed as the SET they are, not as the [0] they stand as.
        let signed = attributes.map_or_else(
            || content.to_vec(),
            |a| {
                let mut set = a.whole.to_vec();
                set[0] = SET;
                set
            },
        );
        Some(Self {
            content: content.to_vec(),
            certificates,
            signed,
            attributes: attributes.map(|a| a.inside.to_vec()),
            digest: digest.to_vec(),
            signature: signature.to_vec(),
        })
    }

    /// The certificate that signed it, and the others beside it.
    pub(crate) fn signer(&self) -> Result<&CertificateDer<'static>, Refusal> {
        let algorithm = match self.digest.as_slice() {
            SHA256 => algorithms::RSA_PKCS1_2048_8192_SHA256,
            SHA384 => algorithms::RSA_PKCS1_2048_8192_SHA384,
            _ => {
                return Err(bad(
                    "it is signed with another digest than SHA-256 or SHA-384",
                ));
            }
        };
        let signs = |certificate: &&CertificateDer<'static>| {
            EndEntityCert::try_from(*certificate).is_ok_and(|c| {
                c.verify_signature(algorithm, &self.signed, &self.signature)
                    .is_ok()
            })
        };
        let signer = self.certificates.iter().find(signs);
        let signer = signer.ok_or_else(|| bad("its signature is of none of its certificates"))?;
        self.digested()?;
        if !cert::is_metadata_service(signer) {
            return Err(bad("its certificate is not metadata.azure.com's"));
        }
        Ok(signer)
    }

    /// With attributes it is those that are signed: they have to hold the content's digest.
    fn digested(&self) -> Result<(), Refusal> {
        let Some(attributes) = &self.attributes else {
            return Ok(());
        };
        let mut attributes = Reader(attributes);
        let want = if self.digest == SHA256 {
            Sha256::digest(&self.content).to_vec()
        } else {
            Sha384::digest(&self.content).to_vec()
        };
        while let Some(mut attribute) = attributes.take(SEQUENCE).map(Reader) {
            if attribute.take(OID) == Some(MESSAGE_DIGEST) {
                let held = attribute.take(SET).and_then(|set| Reader(set).take(OCTETS));
                if held == Some(want.as_slice()) {
                    return Ok(());
                }
            }
        }
        Err(bad("its digest is not of what it says"))
    }

    /// Whether its signer leads to one of `roots` at `now`, by way of its own certificates and `more`.
    pub(crate) fn is_trusted(
        &self,
        signer: &CertificateDer<'static>,
        more: &[CertificateDer<'static>],
        roots: &[CertificateDer<'static>],
        now: Millis,
    ) -> Result<(), String> {
        let between: Vec<_> = self.certificates.iter().chain(more).cloned().collect();
        let anchors = cert::anchors(roots);
        let end = EndEntityCert::try_from(signer).map_err(|e| e.to_string())?;
        end.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &between,
            UnixTime::since_unix_epoch(Duration::from_millis(now.0)),
            KeyUsage::server_auth(),
            None,
            None,
        )
        .map(drop)
        .map_err(|e| e.to_string())
    }

    /// What it says; only after it was found to be signed by whom we trust.
    pub(crate) fn claims(&self) -> Result<Claims, Refusal> {
        let document: Document =
            serde_json::from_slice(&self.content).map_err(|e| bad(e.to_string()))?;
        let times = document.time_stamp;
        let no_date = || bad("its timeStamp is no date");
        Ok(Claims {
            cloud: Cloud::Azure,
            account: document.subscription_id,
            subject: Subject::VmId(document.vm_id),
            challenge: document.nonce,
            issued_at: date(&times.created_on).ok_or_else(no_date)?,
            expires_at: Some(date(&times.expires_on).ok_or_else(no_date)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_services_own() {
        assert_eq!(
            date("11/20/18 22:07:39 -0000"),
            Some(Millis(1_542_751_659_000))
        );
        assert_eq!(date("2018-11-20"), None);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for text in [
            "",
            "%",
            "MAA=",
            &STANDARD.encode([0x30, 0x03, 0x06, 0x01, 0x2a]),
        ] {
            assert!(Message::read(text).is_err(), "{text}");
        }
    }
}
