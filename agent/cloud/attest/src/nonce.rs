//! Nonces: given to anybody, good for five minutes, spent once.
//!
//! One that is given out is not remembered: it says itself when it was made, under the lead's
//! authentication code. Only those that were spent are remembered, for as long as they would be good:
//! who asks for many crowds nobody out.

use crate::refusal::Refusal;
use aws_lc_rs::hmac;
use gpuloom_fleet::Millis;
use std::collections::BTreeMap;

/// How long a nonce is good.
pub const NONCE_TTL_MS: u64 = 5 * 60 * 1000;
/// Spent nonces remembered at once: joins within five minutes.
pub const MAX_SPENT_NONCES: usize = 20_000;

/// The nonces of one lead process; those of an earlier one are refused.
#[derive(Debug)]
pub struct Nonces {
    key: hmac::Key,
    /// With when each was made.
    spent: BTreeMap<String, Millis>,
}

// === impl Nonces ===

impl Nonces {
    /// With a fresh random `key`.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            spent: BTreeMap::new(),
        }
    }

    /// A nonce made at `now` with 16 fresh random bytes.
    #[must_use]
    pub fn issue(&self, random: &[u8; 16], now: Millis) -> String {
        let said = format!("{:x}.{}", now.0, hex::encode(random));
        let code = hmac::sign(&self.key, said.as_bytes());
        format!("{said}.{}", hex::encode(code.as_ref()))
    }

    /// Takes a nonce for the first and last time. `UnknownNonce` when it is not ours,
    /// `ExpiredNonce`, `Replay` when it was spent, `Busy` when too many are.
    pub fn spend(&mut self, nonce: &str, now: Millis) -> Result<(), Refusal> {
        let (said, code) = nonce.rsplit_once('.').ok_or(Refusal::UnknownNonce)?;
        let code = hex::decode(code).map_err(|_| Refusal::UnknownNonce)?;
        hmac::verify(&self.key, said.as_bytes(), &code).map_err(|_| Refusal::UnknownNonce)?;
        let made = said.split('.').next().unwrap_or_default();
        let made = u64::from_str_radix(made, 16).map_err(|_| Refusal::UnknownNonce)?;
        if now.0.saturating_sub(made) > NONCE_TTL_MS {
            return Err(Refusal::ExpiredNonce);
        }
        if self.spent.contains_key(said) {
            return Err(Refusal::Replay);
        }
        if self.spent.len() >= MAX_SPENT_NONCES {
            // Those that would be refused for their age anyway.
            self.spent
                .retain(|_, made| now.0.saturating_sub(made.0) <= NONCE_TTL_MS);
        }
        if self.spent.len() >= MAX_SPENT_NONCES {
            return Err(Refusal::Busy);
        }
        self.spent.insert(said.to_owned(), Millis(made));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_once_and_for_five_minutes_with_the_lead_that_gave_it() {
        let mut nonces = Nonces::new(&[1; 32]);
        let (first, second) = (
            nonces.issue(&[1; 16], Millis(1_000)),
            nonces.issue(&[2; 16], Millis(1_000)),
        );
        assert_ne!(first, second);
        assert_eq!(nonces.spend(&first, Millis(2_000)), Ok(()));
        assert_eq!(nonces.spend(&first, Millis(2_001)), Err(Refusal::Replay));
        let late = Millis(1_001 + NONCE_TTL_MS);
        assert_eq!(nonces.spend(&second, late), Err(Refusal::ExpiredNonce));
        // Forgotten once it is too old to be good, and refused for that.
        assert_eq!(nonces.spend(&first, late), Err(Refusal::ExpiredNonce));
        let mut other = Nonces::new(&[2; 32]);
        assert_eq!(
            other.spend(&second, Millis(2_000)),
            Err(Refusal::UnknownNonce)
        );
        for text in ["", "x", "1.2", "1.2.zz"] {
            assert_eq!(
                nonces.spend(text, Millis(2_000)),
                Err(Refusal::UnknownNonce),
                "{text}"
            );
        }
    }

    #[test]
    fn the_memory_of_spent_nonces_is_bounded_and_comes_back() {
        let mut nonces = Nonces::new(&[3; 32]);
        for n in 0..=MAX_SPENT_NONCES {
            let random = (n as u128).to_be_bytes();
            let nonce = nonces.issue(&random, Millis(1_000));
            let want = if n < MAX_SPENT_NONCES {
                Ok(())
            } else {
                Err(Refusal::Busy)
            };
            assert_eq!(nonces.spend(&nonce, Millis(1_000)), want, "{n}");
        }
        let later = Millis(1_001 + NONCE_TTL_MS);
        let nonce = nonces.issue(&[9; 16], later);
        assert_eq!(nonces.spend(&nonce, later), Ok(()));
    }
}
