//! A service account: its key file for clients, and the check of what they sign with it.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The account's address.
pub const EMAIL: &str = "lead@gpuloom-test.iam.gserviceaccount.com";

/// A key that was made for a test.
#[derive(Debug)]
pub(super) struct Account {
    public: Vec<u8>,
}

// === impl Account ===

impl Account {
    /// Makes a key and writes its file into `dir`, readable by its owner alone.
    pub(super) fn make(dir: &Path, project: &str, endpoint: &str) -> io::Result<(Self, PathBuf)> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let failed = |_| io::Error::other("no RSA key could be made");
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
        let der = pair.as_der().map_err(failed)?;
        let body = STANDARD.encode(der.as_ref() as &[u8]);
        let lines: Vec<&str> = (0..body.len())
            .step_by(64)
            .map(|at| &body[at..body.len().min(at + 64)])
            .collect();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            lines.join("\n")
        );
        let key = json!({
            "type": "service_account", "project_id": project, "private_key_id": "double", "private_key": pem,
            "client_email": EMAIL, "client_id": "1", "token_uri": format!("{endpoint}/token"),
            "universe_domain": "googleapis.com",
        });
        let path = dir.join("service-account.json");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        io::Write::write_all(&mut file, key.to_string().as_bytes())?;
        let public = pair.public_key().as_ref().to_vec();
        Ok((Self { public }, path))
    }

    /// Whether the header `authorization` holds a token that the key signed and that is not over.
    pub(super) fn check(&self, authorization: Option<&str>) -> Result<(), String> {
        let token = authorization
            .and_then(|a| a.strip_prefix("Bearer "))
            .ok_or("no bearer token was sent")?;
        let (signed, signature) = token.rsplit_once('.').ok_or("the token is no JWT")?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|e| e.to_string())?;
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public);
        key.verify(signed.as_bytes(), &signature)
            .map_err(|_| "the token's signature is wrong")?;
        let claims = signed.split('.').nth(1).ok_or("the token has no claims")?;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|e| e.to_string())?;
        let claims: Value = serde_json::from_slice(&claims).map_err(|e| e.to_string())?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        match (
            claims["iss"] == EMAIL,
            claims["exp"].as_u64().is_some_and(|exp| exp > now),
        ) {
            (true, true) => Ok(()),
            (false, _) => Err(format!("the token is of {}", claims["iss"])),
            (_, false) => Err("the token is over".to_owned()),
        }
    }
}
