//! Data sources: what a provider implements.

use async_trait::async_trait;

use crate::call::{Call, ValidateCtx, derefs_to_call};
use crate::diag::Diagnostics;
use crate::schema::Schema;
use crate::value::Value;

/// A kind of thing to look up.
#[async_trait]
pub trait DataSource: Send + Sync + 'static {
    /// The name without the provider's prefix.
    fn name(&self) -> &str;

    /// What may be written and what comes back.
    fn schema(&self) -> Schema;

    /// Checks a configuration beyond what the schema's validators see.
    async fn validate(&self, _ctx: &mut ValidateCtx) -> Result<(), Diagnostics> {
        Ok(())
    }

    /// The configuration with everything computed filled in: known, never null. Unset computed
    /// attributes that stay unset are null.
    async fn read(&self, ctx: &mut DataCtx) -> Result<Value, Diagnostics>;
}

/// For [`DataSource::read`].
#[derive(Debug)]
pub struct DataCtx {
    pub(crate) call: Call,
    /// The configuration, wholly known, with defaults filled in.
    pub config: Value,
}

derefs_to_call!(DataCtx);
