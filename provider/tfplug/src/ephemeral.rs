//! Ephemeral resources: secrets that are never stored.

use std::time::SystemTime;

use async_trait::async_trait;

use crate::call::{Call, ValidateCtx, derefs_to_call};
use crate::diag::Diagnostics;
use crate::private::Private;
use crate::schema::Schema;
use crate::value::Value;

/// A kind of short-lived thing. It is opened in the plan and again in the apply.
#[async_trait]
pub trait EphemeralResource: Send + Sync + 'static {
    /// The name without the provider's prefix.
    fn name(&self) -> &str;

    /// What may be written and what comes back.
    fn schema(&self) -> Schema;

    /// Checks a configuration beyond what the schema's validators see.
    async fn validate(&self, _ctx: &mut ValidateCtx) -> Result<(), Diagnostics> {
        Ok(())
    }

    /// Opens it.
    async fn open(&self, ctx: &mut OpenCtx) -> Result<Opened, Diagnostics>;

    /// Keeps it valid; returns when to come back, if ever.
    async fn renew(&self, _ctx: &mut EphemeralCtx) -> Result<Option<SystemTime>, Diagnostics> {
        Ok(None)
    }

    /// Gives it back.
    async fn close(&self, _ctx: &mut EphemeralCtx) -> Result<(), Diagnostics> {
        Ok(())
    }
}

/// For [`EphemeralResource::open`].
#[derive(Debug)]
pub struct OpenCtx {
    pub(crate) call: Call,
    /// The configuration, wholly known, with defaults filled in.
    pub config: Value,
    /// Remembered until renew and close.
    pub private: Private,
}

/// For [`EphemeralResource::renew`] and [`EphemeralResource::close`].
#[derive(Debug)]
pub struct EphemeralCtx {
    pub(crate) call: Call,
    /// Remembered since open; renew may change it.
    pub private: Private,
}

/// What open returns.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The configuration with everything computed filled in.
    pub result: Value,
    /// When to renew; `None` for never.
    pub renew_at: Option<SystemTime>,
}

derefs_to_call!(OpenCtx, EphemeralCtx);
