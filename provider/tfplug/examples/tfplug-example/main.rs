//! A provider of make-believe servers, kept as JSON files in a directory: every feature of the framework once.

mod join;
mod lookup;
mod server;
mod store;
mod token;

use std::process::ExitCode;
use std::sync::Arc;

use tfplug::{
    Attribute, ConfigureCtx, Data, DataSource, Diagnostics, EphemeralResource, Function, Provider,
    Resource, Schema, async_trait,
};

use store::Store;

/// `provider "demo" {}`
struct Demo;

#[async_trait]
impl Provider for Demo {
    fn name(&self) -> &str {
        "demo"
    }

    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    fn schema(&self) -> Schema {
        Schema::new(0)
            .description("Make-believe servers in a directory.")
            .attribute(
                Attribute::string("root")
                    .required()
                    .description("The directory that servers live in."),
            )
    }

    async fn configure(&self, ctx: &mut ConfigureCtx) -> Result<Data, Diagnostics> {
        // Unknown during a plan that also makes the directory: nothing can be read then.
        let root = ctx
            .config
            .view()
            .attr("root")
            .known()
            .value()
            .map(|root| root.str())
            .transpose()?;
        Ok(Arc::new(Store::new(root)))
    }

    fn resources(&self) -> Vec<Box<dyn Resource>> {
        vec![Box::new(server::Server)]
    }

    fn data_sources(&self) -> Vec<Box<dyn DataSource>> {
        vec![Box::new(lookup::Lookup)]
    }

    fn functions(&self) -> Vec<Box<dyn Function>> {
        vec![Box::new(join::Join)]
    }

    fn ephemeral_resources(&self) -> Vec<Box<dyn EphemeralResource>> {
        vec![Box::new(token::Token)]
    }
}

fn main() -> ExitCode {
    // `tfplug-example debug` waits for a Terraform that is told where to attach.
    match std::env::args().nth(1).as_deref() {
        Some("debug") => tfplug::serve_debug(Demo, "registry.terraform.io/example/demo"),
        _ => tfplug::serve(Demo),
    }
}
