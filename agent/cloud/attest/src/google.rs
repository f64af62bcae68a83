//! Google's identity token: RS256 by one of Google's keys. Source: "Verify the identity of VMs" in
//! the Compute Engine guides; RFC 7515, RFC 7517.

use crate::challenge::Cloud;
use crate::judge::{Claims, Subject};
use crate::refusal::Refusal;
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gpuloom_fleet::Millis;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Google's keys.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug, Clone, Deserialize)]
struct Key {
    kid: String,
    kty: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct Payload {
    iss: String,
    aud: String,
    iat: u64,
    exp: u64,
    google: Option<Google>,
}

#[derive(Deserialize)]
struct Google {
    compute_engine: ComputeEngine,
}

#[derive(Deserialize)]
struct ComputeEngine {
    project_id: String,
    instance_name: String,
}

fn bad(why: impl Into<String>) -> Refusal {
    Refusal::BadProof {
        cloud: "gcp",
        why: why.into(),
    }
}

fn part<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| bad("it is no JWT"))?;
    serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))
}

/// The key that a token says it is signed with.
pub(crate) fn key_id(token: &str) -> Result<String, Refusal> {
    let header: Header = part(token.split('.').next().unwrap_or_default())?;
    if header.alg != "RS256" {
        return Err(bad(format!("it is signed by {}, not by RS256", header.alg)));
    }
    Ok(header.kid)
}

/// What a token says, its signature checked with `keys`. Whether it is fresh and for us is judged later.
pub(crate) fn claims(token: &str, keys: &KeySet) -> Result<Claims, Refusal> {
    let id = key_id(token)?;
    let key = keys
        .find(&id)
        .ok_or_else(|| bad("it is signed with a key that is not Google's"))?;
    let (said, signature) = token.rsplit_once('.').ok_or_else(|| bad("it is no JWT"))?;
    let decode = |text: &str| {
        URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| bad("it is no base64"))
    };
    let (n, e, signature) = (decode(&key.n)?, decode(&key.e)?, decode(signature)?);
    RsaPublicKeyComponents { n: &n, e: &e }
        .verify(&RSA_PKCS1_2048_8192_SHA256, said.as_bytes(), &signature)
        .map_err(|_| bad("its signature is not of Google's key"))?;
    let payload: Payload = part(said.split('.').nth(1).unwrap_or_default())?;
    if !matches!(
        payload.iss.as_str(),
        "https://accounts.google.com" | "accounts.google.com"
    ) {
        return Err(bad("its issuer is not https://accounts.google.com"));
    }
    let google = payload.google;
    let google = google.ok_or_else(|| bad("it does not name an instance: ask for format=full"))?;
    Ok(Claims {
        cloud: Cloud::Gcp,
        account: google.compute_engine.project_id,
        subject: Subject::Instance(google.compute_engine.instance_name),
        challenge: payload.aud,
        issued_at: Millis(payload.iat.saturating_mul(1000)),
        expires_at: Some(Millis(payload.exp.saturating_mul(1000))),
    })
}

// === impl KeySet ===

impl KeySet {
    pub(crate) fn has(&self, kid: &str) -> bool {
        self.find(kid).is_some()
    }

    fn find(&self, kid: &str) -> Option<&Key> {
        self.keys.iter().find(|k| k.kid == kid && k.kty == "RSA")
    }
}
