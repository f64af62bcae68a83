//! Plays Terraform's part in tests: AutoMTLS with a P-521 certificate, ALPN enforced, core's consistency checks.

mod cert;
pub mod check;
pub mod config;
mod connection;
mod diagnostics;
mod driver;
mod error;
mod handshake;
pub mod hclog;
mod host;
mod process;
mod proposed;
pub mod rules;
pub mod schema;
pub mod terraform;

pub use cert::{ClientIdentity, SERVER_NAME, decode_server_certificate};
pub use check::{Rule, Violation};
pub use config::UNKNOWN;
pub use connection::{MAX_MESSAGE_BYTES, MAX_SCHEMA_BYTES, TlsFacts};
pub use driver::{
    Action, Applied, DataSourceDriver, EphemeralDriver, FunctionDriver, FunctionFailure,
    OpenEphemeral, Plan, ResourceDriver, State,
};
pub use error::HostError;
pub use handshake::Handshake;
pub use host::{Host, TERRAFORM_VERSION};
pub use process::{
    MAGIC_COOKIE_KEY, MAGIC_COOKIE_VALUE, ProviderProcess, SHUTDOWN_GRACE, SpawnOptions,
};
pub use proposed::proposed_new_state;
pub use schema::ProviderSchema;
