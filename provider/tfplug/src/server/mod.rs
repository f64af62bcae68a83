//! The process that Terraform starts: handshake, transport, services.

mod calls;
mod connection;
mod debug;
mod grpc;
mod handshake;
mod plugin;
mod registry;
mod run;
mod service;
mod socket;
mod tls;

pub use debug::{Reattach, serve_debug};
pub use handshake::{COOKIE_KEY, COOKIE_VALUE, HandshakeError};
pub use run::{MAX_REQUEST_BYTES, ServeError, serve, serve_on};
pub use service::Service;
