//! The wire between people, the provider, the lead and its nodes: messages, client, identity.

mod access;
mod client;
mod connect;
pub mod convert;
mod identity;
mod refusal;
mod serve;
pub mod tls;
mod token;

pub use access::{TokenLookup, negotiate};
pub use client::{
    Admittance, Challenge, Client, Declared, Joined, NodeLogClient, ObjectView, Updates, Withdrawn,
    join, join_challenge, renew,
};
pub use connect::{CallError, Endpoints, MAX_ENDPOINTS, ParseEndpointsError, Timeouts};
pub use identity::Identity;
pub use refusal::{MAX_PROBLEMS, MAX_TEXT_BYTES, Refusal, RefusalCode};
pub use serve::{
    HANDSHAKE_TIMEOUT, KEEPALIVE, MAX_CONNECTIONS, MAX_STREAMS, SHUTDOWN_GRACE, ServeError,
    ServerConfig, serve,
};
pub use token::{BearerToken, ParseTokenError, RandomError};

/// The generated messages, clients and server traits of `gpuloom.v1`.
#[expect(
    clippy::allow_attributes,
    clippy::large_enum_variant,
    reason = "generated"
)]
pub mod proto {
    tonic::include_proto!("gpuloom.v1");
}

/// The newest protocol this crate speaks.
pub const PROTOCOL_MAX: u32 = 1;
/// The oldest protocol this crate speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// The metadata key every call carries, with the protocol in decimal.
pub const PROTOCOL_HEADER: &str = "gpuloom-protocol";
/// Largest message to the lead or a node, in bytes. A server sets it with
/// `FleetServer::new(..).max_decoding_message_size(MAX_REQUEST_BYTES)`.
pub const MAX_REQUEST_BYTES: usize = 8 << 20;
/// Largest message from the lead or a node, in bytes.
pub const MAX_REPLY_BYTES: usize = 64 << 20;

/// `service` as the lead serves it, with the message limits set.
pub fn fleet_server<T: proto::fleet_server::Fleet>(
    service: T,
) -> proto::fleet_server::FleetServer<T> {
    proto::fleet_server::FleetServer::new(service)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_REPLY_BYTES)
}

/// `service` as the lead serves it to nodes, with the message limits set.
pub fn node_server<T: proto::node_server::Node>(service: T) -> proto::node_server::NodeServer<T> {
    proto::node_server::NodeServer::new(service)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_REPLY_BYTES)
}

/// `service` as the lead serves it to those who become and stay members, with the message limits set.
pub fn membership_server<T: proto::membership_server::Membership>(
    service: T,
) -> proto::membership_server::MembershipServer<T> {
    proto::membership_server::MembershipServer::new(service)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_REPLY_BYTES)
}

/// `service` as a node serves it to the lead, with the message limits set.
pub fn node_logs_server<T: proto::node_logs_server::NodeLogs>(
    service: T,
) -> proto::node_logs_server::NodeLogsServer<T> {
    proto::node_logs_server::NodeLogsServer::new(service)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_REPLY_BYTES)
}
