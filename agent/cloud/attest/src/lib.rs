//! Decides whether who wants to join is the instance it says: signed proofs of three clouds in, an identity or a refusal out.
