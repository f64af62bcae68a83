//! The provider itself: what is configured once and what it offers.

use async_trait::async_trait;

use crate::call::{Call, Data, ValidateCtx, derefs_to_call};
use crate::data_source::DataSource;
use crate::diag::Diagnostics;
use crate::ephemeral::EphemeralResource;
use crate::function::Function;
use crate::resource::Resource;
use crate::schema::Schema;
use crate::value::Value;

/// A Terraform provider. Hand it to [`serve`](crate::serve) from `main`.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The prefix of all type names: `gpuloom` for `gpuloom_pool`.
    fn name(&self) -> &str;

    /// The provider's own version.
    fn version(&self) -> &str;

    /// What may be written in the provider block.
    fn schema(&self) -> Schema {
        Schema::new(0)
    }

    /// Checks the provider block beyond what the schema's validators see.
    async fn validate(&self, _ctx: &mut ValidateCtx) -> Result<(), Diagnostics> {
        Ok(())
    }

    /// Turns the provider block into the data that handlers get by
    /// [`Call::data`](crate::Call::data). The configuration may hold unknown values during plan: that is no error.
    async fn configure(&self, ctx: &mut ConfigureCtx) -> Result<Data, Diagnostics>;

    /// The managed resources.
    fn resources(&self) -> Vec<Box<dyn Resource>> {
        Vec::new()
    }

    /// The data sources.
    fn data_sources(&self) -> Vec<Box<dyn DataSource>> {
        Vec::new()
    }

    /// The functions.
    fn functions(&self) -> Vec<Box<dyn Function>> {
        Vec::new()
    }

    /// The ephemeral resources.
    fn ephemeral_resources(&self) -> Vec<Box<dyn EphemeralResource>> {
        Vec::new()
    }
}

/// For [`Provider::configure`].
#[derive(Debug)]
pub struct ConfigureCtx {
    pub(crate) call: Call,
    /// The provider block; may hold unknown values.
    pub config: Value,
    /// Such as `1.11.4`.
    pub terraform_version: String,
}

derefs_to_call!(ConfigureCtx);
