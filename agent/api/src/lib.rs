//! The wire between people, the provider, the lead and its nodes: messages, client, identity.

/// The generated messages, clients and server traits of `gpuloom.v1`.
#[expect(clippy::allow_attributes, reason = "generated")]
pub mod proto {
    tonic::include_proto!("gpuloom.v1");
}
