//! What vouches for instances: STS, Google's keys, Azure's root, with keys made for one test run.

use super::{Instance, signed, sts};
use crate::clock::{Clock, rfc3339};
use crate::http::{Answer, Handler, Request, Response, Server};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// How long a Google token and an Azure document are good, in seconds.
const GOOD_FOR_S: u64 = 3_600;
const KEY_ID: &str = "double-1";

/// Whom a pair of AWS keys is of.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) secret: String,
    pub(super) token: String,
    pub(super) account: String,
    pub(super) arn: String,
}

/// Signs for three clouds; clones are the same one. It answers as STS and as Google's key set until the
/// last clone is gone.
#[derive(Clone)]
pub struct Authority {
    keys: Arc<Keys>,
    server: Arc<Server>,
}

struct Keys {
    google: RsaKeyPair,
    azure: signed::Signer,
    callers: Mutex<BTreeMap<String, Caller>>,
    clock: Clock,
}

// === impl Authority ===

impl Authority {
    /// Makes the keys and begins to answer.
    ///
    /// # Errors
    /// When a key cannot be made or no port is free.
    pub async fn start(clock: Clock) -> io::Result<Self> {
        let google = RsaKeyPair::generate(KeySize::Rsa2048).map_err(io::Error::other)?;
        let azure = signed::Signer::new().map_err(io::Error::other)?;
        let keys = Arc::new(Keys {
            google,
            azure,
            callers: Mutex::default(),
            clock,
        });
        let server = Arc::new(Server::start(keys.clone()).await?);
        Ok(Self { keys, server })
    }

    /// In place of the regions' STS.
    #[must_use]
    pub fn sts_endpoint(&self) -> String {
        self.server.url()
    }

    /// In place of Google's key set.
    #[must_use]
    pub fn google_keys_url(&self) -> String {
        format!("{}/google/keys", self.server.url())
    }

    /// PEM of the root that Azure's documents lead to.
    #[must_use]
    pub fn azure_roots_pem(&self) -> String {
        self.keys.azure.root_pem()
    }

    /// What a lead's environment has to hold to believe this authority. Writes the root below `dir`.
    ///
    /// # Errors
    /// When the root cannot be written.
    pub fn env(&self, dir: &Path) -> io::Result<Vec<(String, String)>> {
        let roots = dir.join("azure-roots.pem");
        std::fs::write(&roots, self.azure_roots_pem())?;
        let of = |name: &str, value: String| (name.to_owned(), value);
        Ok(vec![
            of("GPULOOM_AWS_STS_ENDPOINT", self.sts_endpoint()),
            of("GPULOOM_GOOGLE_KEYS_URL", self.google_keys_url()),
            of("GPULOOM_AZURE_ROOTS", roots.display().to_string()),
        ])
    }

    /// The keys of an instance's role, as IMDSv2 shows them.
    pub(super) fn credentials(&self, of: &Instance, now_ms: u64) -> Value {
        let id = format!("ASIA{:X}", fnv(&of.id));
        let caller = Caller {
            secret: format!("secret/of+{}", of.id),
            token: format!("token-of-{}==", of.id),
            account: of.account.clone(),
            arn: format!(
                "arn:aws:sts::{}:assumed-role/gpuloom-node/{}",
                of.account, of.id
            ),
        };
        let shown = json!({
            "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": rfc3339(now_ms), "AccessKeyId": id,
            "SecretAccessKey": caller.secret, "Token": caller.token,
            "Expiration": rfc3339(now_ms + GOOD_FOR_S * 1_000),
        });
        let callers = &self.keys.callers;
        callers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, caller);
        shown
    }

    /// A Google identity token for `audience`; `full` names the instance in it.
    #[must_use]
    pub fn identity_token(&self, of: &Instance, audience: &str, full: bool, now_ms: u64) -> String {
        let now = now_ms / 1_000;
        let mut claims = json!({
            "aud": audience, "azp": "104862320153", "exp": now + GOOD_FOR_S, "iat": now,
            "iss": "https://accounts.google.com", "sub": "104862320153",
        });
        if full {
            claims["google"] = json!({ "compute_engine": {
                "instance_creation_timestamp": now, "instance_id": "4520031799277581759",
                "instance_name": of.id, "project_id": of.account, "project_number": 1234, "zone": of.zone,
            } });
        }
        let header = json!({ "alg": "RS256", "kid": KEY_ID, "typ": "JWT" });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let said = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; self.keys.google.public_modulus_len()];
        let random = SystemRandom::new();
        let keys = &self.keys.google;
        let signed = keys.sign(&RSA_PKCS1_SHA256, &random, said.as_bytes(), &mut signature);
        if signed.is_err() {
            // Refused by whoever checks it, and the test says where.
            signature.clear();
        }
        format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// An Azure attested document with `nonce`, in base64.
    #[must_use]
    pub fn attested_document(&self, of: &Instance, nonce: &str, now_ms: u64) -> String {
        let date = |ms: u64| {
            let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap_or_default());
            at.unwrap_or_default()
                .strftime("%m/%d/%y %H:%M:%S -0000")
                .to_string()
        };
        let content = json!({
            "licenseType": "", "nonce": nonce, "plan": { "name": "", "product": "", "publisher": "" },
            "sku": "22_04-lts", "subscriptionId": of.account, "vmId": of.vm_id,
            "timeStamp": { "createdOn": date(now_ms), "expiresOn": date(now_ms + GOOD_FOR_S * 1_000) },
        });
        STANDARD.encode(self.keys.azure.sign(content.to_string().as_bytes()))
    }
}

/// Distinct for distinct instances of a test; FNV-1a.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

// === impl Keys ===

impl Handler for Keys {
    async fn handle(self: Arc<Self>, request: Request) -> Answer {
        let response = match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/google/keys") => {
                let public = self.google.public_key();
                let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
                let n = public.modulus().big_endian_without_leading_zero().to_vec();
                let e = public.exponent().big_endian_without_leading_zero().to_vec();
                let keys = json!({ "keys": [{
                    "alg": "RS256", "e": number(&e), "kid": KEY_ID, "kty": "RSA", "n": number(&n), "use": "sig",
                }] });
                Response::json(200, &keys)
                    .with("cache-control", "public, max-age=300, must-revalidate")
            }
            ("POST", "/") => {
                let callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
                sts::answer(&callers, &request, self.clock.now_ms())
            }
            _ => Response::empty(404),
        };
        response.into()
    }
}
