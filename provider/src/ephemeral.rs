//! `gpuloom_join_token`: lets one machine join a pool; in neither plan nor state.

use gpuloom_api::proto::{CreateTokenRequest, create_token_request::Purpose};
use gpuloom_fleet::{PoolName, Seconds};
use jiff::Timestamp;
use tfplug::{
    Attribute, Diagnostic, Diagnostics, EphemeralResource, OpenCtx, Opened, Schema, async_trait,
    validators,
};

use crate::configure::Settings;
use crate::convert::Connection;
use crate::resources::fleet_attribute;
use crate::say;

/// Every ephemeral resource.
pub(crate) fn all() -> Vec<Box<dyn EphemeralResource>> {
    vec![Box::new(JoinToken)]
}

/// How long a token may wait for its machine unless `ttl` says so.
const TTL: Seconds = Seconds(600);
/// What the lead takes, in seconds.
const TTL_RANGE: std::ops::RangeInclusive<u64> = 60..=86_400;

struct JoinToken;

#[async_trait]
impl EphemeralResource for JoinToken {
    fn name(&self) -> &str {
        "join_token"
    }

    fn schema(&self) -> Schema {
        Schema::new(0)
            .description(
                "A token with which one machine joins an `existing` pool, once. It is in neither plan nor state. \
                 Terraform opens it in the plan and again in the apply; one that nobody uses ends by itself.",
            )
            .attribute(fleet_attribute())
            .attribute(
                Attribute::string("pool")
                    .required()
                    .description("The pool that the machine joins.")
                    .validate(validators::parses("a pool's name", |s| s.parse::<PoolName>())),
            )
            .attribute(
                Attribute::string("ttl")
                    .optional()
                    .description(format!("How long it may wait for its machine, `1m` to `1d`. Default: `{TTL}`."))
                    .validate(validators::parses("a duration from 1m to 1d", parse_ttl)),
            )
            .attribute(
                Attribute::string("token")
                    .computed()
                    .sensitive()
                    .description("The secret: what `gpuloom agent` of the new machine reads from its `join-token` file."),
            )
            .attribute(Attribute::string("id").computed().description("What the token is revoked by."))
            .attribute(
                Attribute::string("expires_at").computed().description("When it ends unused, RFC 3339."),
            )
    }

    async fn open(&self, ctx: &mut OpenCtx) -> Result<Opened, Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let config = ctx.config.view();
        let connection = Connection::read(&config.attr("fleet"))?;
        let pool = config.attr("pool").str()?.to_owned();
        let ttl = match config.attr("ttl").opt_str()? {
            Some(text) => {
                parse_ttl(text).map_err(|why| config.attr("ttl").error("Invalid ttl", why))?
            }
            None => TTL,
        };
        let lead = settings.lead(&connection).await?;
        let request = CreateTokenRequest {
            purpose: Purpose::Join.into(),
            pool: pool.clone(),
            ttl_s: ttl.0,
            label: settings.owner.clone(),
            ..CreateTokenRequest::default()
        };
        let reply = lead.client().create_token(request).await;
        let reply = reply.map_err(|e| {
            say::failed(
                &format!("Cannot make a join token for pool {pool}"),
                &e,
                None,
            )
        })?;
        let expires = i64::try_from(reply.expires_at_ms)
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let expires = expires.ok_or_else(|| {
            Diagnostic::error(
                "The lead's answer does not read",
                format!("expires_at_ms = {}", reply.expires_at_ms),
            )
        })?;
        let result = ctx
            .config
            .clone()
            .with("token", reply.token)
            .with("id", reply.id)
            .with("expires_at", expires.to_string());
        Ok(Opened {
            result,
            renew_at: None,
        })
    }
}

fn parse_ttl(text: &str) -> Result<Seconds, String> {
    let ttl: Seconds = text
        .parse()
        .map_err(|e: gpuloom_fleet::ParseUnitError| e.to_string())?;
    if TTL_RANGE.contains(&ttl.0) {
        Ok(ttl)
    } else {
        Err(format!("{text:?} is out of range: use 1m to 1d"))
    }
}
