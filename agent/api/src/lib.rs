//! The wire between people, the provider, the lead and its nodes: messages, client, identity.

pub mod convert;
mod refusal;
pub mod tls;
mod token;

pub use refusal::{MAX_PROBLEMS, MAX_TEXT_BYTES, Refusal, RefusalCode};
pub use token::{BearerToken, ParseTokenError, RandomError};

/// The generated messages, clients and server traits of `gpuloom.v1`.
#[expect(clippy::allow_attributes, reason = "generated")]
pub mod proto {
    tonic::include_proto!("gpuloom.v1");
}

/// The newest protocol this crate speaks.
pub const PROTOCOL_MAX: u32 = 1;
/// The oldest protocol this crate speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// The metadata key every call carries, with the protocol in decimal.
pub const PROTOCOL_HEADER: &str = "gpuloom-protocol";
