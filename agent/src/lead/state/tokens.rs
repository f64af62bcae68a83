//! Tokens: known by their hash alone, each for one purpose and for a while.

use super::draft::{Change, Draft};
use super::{MAX_TOKENS, State};
use crate::lead::record::{Piece, TokenPurpose, TokenRecord};
use gpuloom_api::Refusal;
use gpuloom_fleet::{Millis, Seconds};

/// Shortest life of a token.
pub(crate) const TOKEN_MIN_S: u64 = 60;
/// Longest life of a token to submit with: one year.
pub(crate) const SUBMIT_TOKEN_MAX_S: u64 = 365 * 24 * 3600;
/// Longest life of a token to join with: one day.
pub(crate) const JOIN_TOKEN_MAX_S: u64 = 24 * 3600;

/// A token to store.
#[derive(Debug, Clone)]
pub(crate) struct NewToken {
    /// Hex of SHA-256 of the token's text.
    pub(crate) hash: String,
    pub(crate) purpose: TokenPurpose,
    pub(crate) ttl_s: u64,
    pub(crate) label: String,
}

// === impl State ===

impl State {
    /// Stores a token; answers when it ends.
    pub(crate) fn create_token(
        &self,
        new: &NewToken,
        now: Millis,
    ) -> Result<(Change, Millis), Refusal> {
        let most = match &new.purpose {
            TokenPurpose::Submit { tenant } => {
                if self.tenant(tenant).is_none() {
                    return Err(Refusal::not_found(
                        "tenant",
                        tenant,
                        "declare the tenant first",
                    ));
                }
                SUBMIT_TOKEN_MAX_S
            }
            TokenPurpose::Join { pool, .. } => match self.pool(pool) {
                None => {
                    let fix = "declare the pool first";
                    return Err(Refusal::not_found("pool", pool, fix));
                }
                Some((_, r)) if r.withdrawing => {
                    let message = format!("pool {pool} is being destroyed");
                    return Err(Refusal::in_use(message, "name another pool"));
                }
                Some(_) => JOIN_TOKEN_MAX_S,
            },
        };
        if !(TOKEN_MIN_S..=most).contains(&new.ttl_s) {
            let message = "is not how long such a token may live";
            let fix = format!("use {TOKEN_MIN_S} to {most} seconds");
            return Err(Refusal::invalid_field("ttl_s", new.ttl_s, message, fix));
        }
        if new.label.len() > 128 || new.label.chars().any(char::is_control) {
            let fix = "use at most 128 bytes without control characters";
            return Err(Refusal::invalid_field(
                "label",
                &new.label,
                "is not a label",
                fix,
            ));
        }
        if self.tokens.len() >= MAX_TOKENS {
            let fix = "revoke some, or wait until they end";
            return Err(Refusal::limit("the number of tokens", MAX_TOKENS, fix));
        }
        let expires_at = now.plus(Seconds(new.ttl_s));
        let mut draft = Draft::new(self);
        draft.put(Piece::Token(TokenRecord {
            hash: new.hash.clone(),
            purpose: new.purpose.clone(),
            expires_at,
            label: new.label.clone(),
        }));
        Ok((draft.finish(), expires_at))
    }

    /// Forgets a token, named by the first 16 digits or more of its hash; true when it existed.
    pub(crate) fn revoke_token(&self, id: &str) -> (Change, bool) {
        let mut draft = Draft::new(self);
        let found = (id.len() >= 16)
            .then(|| self.tokens.range(id.to_owned()..).next())
            .flatten()
            .filter(|(hash, _)| hash.starts_with(id));
        let existed = found.is_some();
        if let Some((hash, _)) = found {
            draft.put(Piece::NoToken(hash.clone()));
        }
        (draft.finish(), existed)
    }
}
