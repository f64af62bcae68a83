//! Decides whether who wants to join is the instance it says: signed proofs of three clouds in, an identity or a refusal out.
//!
//! ```text
//! Nonces::issue -> the node asks its cloud to sign a Challenge -> Verifier::claims (asks the cloud, or
//! checks its signature) -> Claims -> judge(claims, expected, now) -> Identity | Refusal
//! ```
//! A challenge binds the lead's nonce to the fleet and to the node's key, so that a proof is good for
//! one join of one key and for nothing else. [`judge`] is pure; only [`Verifier`] opens connections.

mod aws;
mod azure;
mod cert;
mod challenge;
mod der;
mod google;
mod judge;
mod nonce;
mod refusal;
mod verify;

pub use challenge::{Challenge, Cloud};
pub use judge::{
    Claims, Expected, Identity, Known, MAX_CLOCK_SKEW_MS, MAX_LAUNCH_AGE_MS, Subject, judge,
};
pub use nonce::{MAX_SPENT_NONCES, NONCE_TTL_MS, Nonces};
pub use refusal::Refusal;
pub use verify::{
    FETCH_TIMEOUT, MAX_ANSWER_BYTES, MAX_KEYS_AGE, MAX_PROOF_BYTES, Verifier, VerifierError,
    VerifierOptions,
};
