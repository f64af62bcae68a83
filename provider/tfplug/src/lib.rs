//! Terraform plugin protocol 6: handshake, mutual TLS, value codec, schema, diagnostics, plan helpers. Knows no GPU.
//!
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod call;
mod data_source;
mod diag;
mod ephemeral;
mod function;
mod identity;
mod log;
mod path;
mod plan;
mod private;
pub mod proto;
mod provider;
mod resource;
mod schema;
mod server;
mod value;

pub use async_trait::async_trait;
pub use call::{Call, Data, ValidateCtx};
pub use data_source::{DataCtx, DataSource};
pub use diag::{Diagnostic, Diagnostics, OrDiag, Severity};
pub use ephemeral::{EphemeralCtx, EphemeralResource, OpenCtx, Opened};
pub use function::{Function, FunctionError, Parameter, Signature};
pub use identity::{IdentityAttribute, IdentitySchema};
pub use path::{Path, Step};
pub use private::Private;
pub use provider::{ConfigureCtx, Provider};
pub use resource::{
    ApplyCtx, ImportCtx, MoveCtx, PlanCtx, ReadCtx, ReadOutcome, Resource, UpgradeCtx,
};
pub use schema::{
    Attribute, AttributeDefault, AttributeKind, Block, BlockNesting, ConfigValidator,
    DEFAULT_TIMEOUT, DurationError, Nesting, Op, Replace, ReplaceCtx, Schema, SchemaError,
    Timeouts, Validator, at_least_one_of, conflicts_with, exactly_one_of, parse_duration,
    required_with, validators,
};
pub use server::{
    COOKIE_KEY, COOKIE_VALUE, HandshakeError, MAX_REQUEST_BYTES, Reattach, ServeError, Service,
    serve, serve_debug, serve_on,
};
pub use tokio_util::sync::CancellationToken;
pub use value::{
    CodecError, Known, MAX_DIGITS, MAX_EXPONENT, Missing, Number, NumberError, Refinements, Type,
    Value, View, nfc_eq,
};
