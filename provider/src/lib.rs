//! HCL in, plan and state out: what people declare of a GPU fleet, brought to its lead and read back.

mod clouds;
mod configure;
mod convert;
mod data_sources;
mod ephemeral;
mod functions;
mod import;
mod lead;
mod lead_instance;
mod local;
mod lost;
mod pool_wait;
mod resources;
mod say;

use std::sync::Arc;

use tfplug::{
    ConfigureCtx, Data, DataSource, Diagnostics, EphemeralResource, Function, Provider, Resource,
    Schema, async_trait,
};

/// The places at which a test can end the provider: before and after each step that others see.
pub const FAILPOINTS: &[&str] = &[
    "provider.declare.before",
    "provider.declare.after",
    "provider.withdraw.before",
    "provider.withdraw.after",
    "provider.pool.wait.before",
    "provider.pool.wait.after",
    "provider.pool.abandon.before",
    "provider.pool.abandon.after",
    "provider.terminate.before",
    "provider.terminate.after",
    "provider.fleet.note.before",
    "provider.fleet.note.after",
    "provider.fleet.launch.before",
    "provider.fleet.launch.after",
    "provider.fleet.answer.after",
    "provider.fleet.start.before",
    "provider.fleet.start.after",
    "provider.fleet.stop.before",
    "provider.fleet.stop.after",
    "provider.fleet.confirm.before",
    "provider.fleet.confirm.after",
];

/// The provider, for [`tfplug::serve`] and for whoever documents or tests it.
#[must_use]
pub fn provider() -> impl Provider {
    Gpuloom
}

#[derive(Debug)]
struct Gpuloom;

#[async_trait]
impl Provider for Gpuloom {
    fn name(&self) -> &str {
        "gpuloom"
    }

    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    fn schema(&self) -> Schema {
        configure::schema()
    }

    async fn configure(&self, ctx: &mut ConfigureCtx) -> Result<Data, Diagnostics> {
        Ok(Arc::new(configure::configure(ctx)?))
    }

    fn resources(&self) -> Vec<Box<dyn Resource>> {
        resources::all()
    }

    fn data_sources(&self) -> Vec<Box<dyn DataSource>> {
        data_sources::all()
    }

    fn functions(&self) -> Vec<Box<dyn Function>> {
        functions::all()
    }

    fn ephemeral_resources(&self) -> Vec<Box<dyn EphemeralResource>> {
        ephemeral::all()
    }
}
