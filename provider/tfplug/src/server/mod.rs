//! The process that Terraform starts: handshake, transport, services.

mod calls;
mod grpc;
mod registry;
mod service;

pub use service::Service;
