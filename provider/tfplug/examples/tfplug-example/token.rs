//! `ephemeral "demo_token"`

use std::time::{Duration, SystemTime};

use tfplug::{
    Attribute, Diagnostics, EphemeralCtx, EphemeralResource, OpenCtx, Opened, Schema, async_trait,
    validators,
};

pub(crate) struct Token;

#[async_trait]
impl EphemeralResource for Token {
    fn name(&self) -> &str {
        "token"
    }

    fn schema(&self) -> Schema {
        Schema::new(0)
            .description("A token that is never stored.")
            .attribute(
                Attribute::string("audience")
                    .required()
                    .validate(validators::length(1..=40)),
            )
            .attribute(Attribute::string("value").computed().sensitive())
    }

    async fn open(&self, ctx: &mut OpenCtx) -> Result<Opened, Diagnostics> {
        let token = format!("token-for-{}", ctx.config.view().attr("audience").str()?);
        ctx.private.set("renewals", 0);
        let result = ctx.config.clone().with("value", token);
        Ok(Opened {
            result,
            renew_at: Some(SystemTime::now() + Duration::from_secs(60)),
        })
    }

    async fn renew(&self, ctx: &mut EphemeralCtx) -> Result<Option<SystemTime>, Diagnostics> {
        let renewals = ctx
            .private
            .get("renewals")
            .and_then(serde_json::Value::as_i64)
            .unwrap_or_default();
        ctx.private.set("renewals", renewals + 1);
        Ok(Some(SystemTime::now() + Duration::from_secs(60)))
    }

    async fn close(&self, ctx: &mut EphemeralCtx) -> Result<(), Diagnostics> {
        tracing::debug!(renewals = ?ctx.private.get("renewals"), "token closed");
        Ok(())
    }
}
