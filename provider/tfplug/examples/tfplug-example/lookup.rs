//! `data "demo_server"`

use tfplug::{Attribute, DataCtx, DataSource, Diagnostic, Diagnostics, Schema, Value, async_trait};

use crate::server;
use crate::store::Store;

pub(crate) struct Lookup;

#[async_trait]
impl DataSource for Lookup {
    fn name(&self) -> &str {
        "server"
    }

    fn schema(&self) -> Schema {
        Schema::new(0)
            .description("A server that exists.")
            .attribute(Attribute::string("name").required())
            .attribute(Attribute::int64("size").computed())
            .attribute(Attribute::map("labels", tfplug::Type::String).computed())
    }

    async fn read(&self, ctx: &mut DataCtx) -> Result<Value, Diagnostics> {
        let store = ctx.data::<Store>()?;
        let name = ctx.config.view().attr("name").str()?;
        let Some(server) = store.read(name, &server::schema())? else {
            let detail = format!("There is no server {name:?}.");
            return Err(Diagnostic::error("No such server", detail)
                .at("name")
                .into());
        };
        let found = ctx.config.clone().with("size", server.get("size").clone());
        Ok(found.with("labels", server.get("labels").clone()))
    }
}
