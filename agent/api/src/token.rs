//! Bearer tokens: made by the lead, shown once, kept as their SHA-256.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

const SUBMIT_PREFIX: &str = "glt_";
const JOIN_PREFIX: &str = "glj_";
const BODY_CHARS: usize = 43;

/// A tenant's token (`glt_`) or a node's join token (`glj_`): 256 random bits in base64url.
/// Its Debug output tells its hash alone.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(String);

/// A token that does not read. The token itself is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the token is not well formed: it must be \"glt_\" (tenant) or \"glj_\" (join) and 43 \
     characters; `gpuloom token create` makes one"
)]
pub struct ParseTokenError;

/// The system has no random numbers to give.
#[derive(Debug, thiserror::Error)]
#[error("the system's random number generator failed")]
pub struct RandomError;

// === impl BearerToken ===

impl BearerToken {
    /// A new token for a tenant's jobs.
    pub fn new_submit() -> Result<Self, RandomError> {
        Self::random(SUBMIT_PREFIX)
    }

    /// A new token for one node to join with.
    pub fn new_join() -> Result<Self, RandomError> {
        Self::random(JOIN_PREFIX)
    }

    fn random(prefix: &str) -> Result<Self, RandomError> {
        let mut bits = [0u8; 32];
        aws_lc_rs::rand::fill(&mut bits).map_err(|_| RandomError)?;
        Ok(Self(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bits))))
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the lead stores and looks up: SHA-256 of the token in lower-case hex, 64 digits.
    pub fn sha256(&self) -> String {
        hex::encode(Sha256::digest(self.0.as_bytes()))
    }
}

impl FromStr for BearerToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let text = text.trim();
        let body = text
            .strip_prefix(SUBMIT_PREFIX)
            .or_else(|| text.strip_prefix(JOIN_PREFIX))
            .ok_or(ParseTokenError)?;
        let good = body.len() == BODY_CHARS
            && body
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseTokenError)
        }
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BearerToken(sha256 {})", self.sha256())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_read_back_and_hide() {
        let (a, b) = (BearerToken::new_submit(), BearerToken::new_submit());
        let (a, b) = (a.expect("random"), b.expect("random"));
        assert_ne!(a, b);
        assert_eq!(a.expose().parse::<BearerToken>(), Ok(a.clone()));
        assert!(!format!("{a:?}").contains(a.expose()));
        assert_eq!(a.sha256().len(), 64);
        let join = BearerToken::new_join().expect("random");
        assert!(join.expose().starts_with("glj_"));
        for text in [
            "",
            "glt_",
            "glt_short",
            "glx_0123456789012345678901234567890123456789012",
        ] {
            assert!(text.parse::<BearerToken>().is_err(), "{text}");
        }
    }
}
