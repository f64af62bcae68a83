//! `resource "demo_server"`

use std::time::Duration;

use tfplug::{
    ApplyCtx, Attribute, Block, Diagnostic, Diagnostics, IdentitySchema, ImportCtx, MoveCtx, Op,
    PlanCtx, ReadCtx, ReadOutcome, Resource, Schema, Type, UpgradeCtx, ValidateCtx, Value,
    async_trait, required_with, validators,
};

use crate::store::Store;

pub(crate) struct Server;

/// Letters, digits and dashes.
fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

fn name_and_size() -> [Attribute; 2] {
    let name = Attribute::string("name")
        .required()
        .description("Names the server for ever.")
        .validate(validators::length(1..=63))
        .validate(validators::pattern("letters, digits and dashes", is_name))
        .requires_replace();
    let size = Attribute::int64("size")
        .optional()
        .computed()
        .use_state_for_unknown()
        .description("How big it is. Left out, it is what it is: an outsider may change it.")
        .validate(validators::between(1, 100));
    [name, size]
}

fn disks_and_ports() -> [Attribute; 2] {
    let disk = [
        Attribute::int64("size_gb")
            .required()
            .validate(validators::at_least(1)),
        Attribute::string("id").computed().use_state_for_unknown(),
    ];
    let port = [
        Attribute::int64("number")
            .required()
            .validate(validators::between(1, 65_535)),
        Attribute::string("protocol")
            .optional()
            .default("tcp")
            .validate(validators::one_of(["tcp", "udp"])),
    ];
    [
        Attribute::nested_list("disks", disk).optional(),
        Attribute::nested_set("ports", port).optional(),
    ]
}

pub(crate) fn schema() -> Schema {
    let tls = Block::single(
        "tls",
        [Attribute::string("certificate").required().sensitive()],
    );
    Schema::new(1)
        .description("A make-believe server.")
        .attribute(Attribute::string("id").computed().use_state_for_unknown())
        .attributes(name_and_size())
        .attribute(
            Attribute::string("zone")
                .optional()
                .default("a")
                .requires_replace(),
        )
        .attribute(
            Attribute::number("price")
                .optional()
                .description("In any decimal."),
        )
        .attribute(Attribute::map("labels", Type::String).optional())
        .attribute(Attribute::set("tags", Type::String).optional())
        .attribute(Attribute::dynamic("extra").optional())
        .attributes(disks_and_ports())
        .attribute(
            Attribute::string("password")
                .optional()
                .sensitive()
                .write_only(),
        )
        .attribute(
            Attribute::int64("password_version")
                .optional()
                .description("Raise it to send the password again."),
        )
        .attribute(Attribute::string("password_length").computed())
        .attribute(
            Attribute::string("chaos")
                .optional()
                .description("What is to go wrong, for tests."),
        )
        .block(
            Block::list("listener", [Attribute::int64("port").required()])
                .block(tls)
                .max(4),
        )
        .timeouts([
            (Op::Create, Duration::from_secs(600)),
            (Op::Delete, Duration::from_secs(300)),
        ])
        .validate(required_with(["password", "password_version"]))
}

fn name_of(state: &Value) -> Result<String, Diagnostics> {
    Ok(state.view().attr("name").str()?.to_owned())
}

/// Fills in what only the cloud knows.
fn settle(ctx: &ApplyCtx, name: &str) -> Value {
    let mut state = ctx.planned.clone();
    state.set_if_unknown("id", format!("server-{name}"));
    state.set_if_unknown("size", ctx.prior.get("size").as_i64().unwrap_or(1));
    let length = ctx
        .config
        .get("password")
        .as_str()
        .map(|p| p.len().to_string());
    state.set_if_unknown("password_length", length);
    if let Some(Value::List(disks)) = state.at_mut(&"disks".into()) {
        for (i, disk) in disks.iter_mut().enumerate() {
            disk.set_if_unknown("id", format!("disk-{name}-{i}"));
        }
    }
    state
}

#[async_trait]
impl Resource for Server {
    fn name(&self) -> &str {
        "server"
    }

    fn schema(&self) -> Schema {
        schema()
    }

    fn identity_schema(&self) -> Option<IdentitySchema> {
        Some(IdentitySchema::new(0).required("name", Type::String, "The server's name."))
    }

    async fn validate(&self, ctx: &mut ValidateCtx) -> Result<(), Diagnostics> {
        if ctx.config.get("name").as_str() == Some("localhost") {
            return Err(
                Diagnostic::error("Reserved name", "Every machine is localhost already.")
                    .at("name")
                    .into(),
            );
        }
        Ok(())
    }

    async fn plan(&self, ctx: &mut PlanCtx) -> Result<(), Diagnostics> {
        let (size, before) = (
            ctx.planned.get("size").as_i64(),
            ctx.prior.get("size").as_i64(),
        );
        if size < before && size.is_some() {
            ctx.warn(
                "The server shrinks",
                "What runs on it may not fit any more.",
            );
        }
        Ok(())
    }

    async fn create(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let store = ctx.data::<Store>()?;
        let name = name_of(&ctx.planned)?;
        store.claim(&name)?;
        // From here on there is something to lose: save at once, fill in later.
        ctx.save(ctx.planned.clone().with("id", format!("server-{name}")));
        ctx.set_private("attempt", 1);
        match ctx.config.get("chaos").as_str() {
            Some("panic") => panic!("chaos wants it"),
            Some("error") => {
                return Err(Diagnostic::error("The cloud failed", "Half of it is there.").into());
            }
            Some("degraded") => ctx.warn(
                "Degraded",
                "The server came up with less than was asked for.",
            ),
            Some("hang") => {
                let limit = ctx.timeout(Op::Create);
                let cancelled = tokio::time::timeout(limit, ctx.cancel.cancelled())
                    .await
                    .is_ok();
                let why = if cancelled {
                    "Terraform was interrupted."
                } else {
                    "Out of time."
                };
                return Err(Diagnostic::error("The server did not come up", why).into());
            }
            _ => {}
        }
        let state = settle(ctx, &name);
        store.write(&name, &state, &schema())?;
        ctx.save(state);
        tracing::info!(server = name, "created");
        Ok(())
    }

    async fn read(&self, ctx: &mut ReadCtx) -> Result<ReadOutcome, Diagnostics> {
        let store = ctx.data::<Store>()?;
        match store.read(&name_of(&ctx.state)?, &schema())? {
            // Claimed, but never filled in: as it was saved.
            Some(Value::Null) => Ok(ReadOutcome::State(ctx.state.clone())),
            Some(state) => Ok(ReadOutcome::State(state)),
            None => Ok(ReadOutcome::Gone),
        }
    }

    async fn update(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let store = ctx.data::<Store>()?;
        let name = name_of(&ctx.planned)?;
        let state = settle(ctx, &name);
        store.write(&name, &state, &schema())?;
        ctx.save(state);
        Ok(())
    }

    async fn delete(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        ctx.data::<Store>()?.remove(&name_of(&ctx.prior)?)
    }

    async fn import(&self, ctx: &mut ImportCtx) -> Result<Value, Diagnostics> {
        let name = match &ctx.identity {
            Some(identity) => identity.get("name").clone(),
            None => ctx.id.as_str().into(),
        };
        Ok(ctx.empty.clone().with("name", name))
    }

    /// Version 0 called the size `cores` and had no zone.
    async fn upgrade(&self, ctx: &mut UpgradeCtx) -> Result<Value, Diagnostics> {
        let mut old = ctx.state.clone();
        if let Some(state) = old.as_object_mut()
            && let Some(cores) = state.remove("cores")
        {
            state.insert("size".to_owned(), cores);
            state.insert("zone".to_owned(), "a".into());
        }
        Ok(ctx.decode(&old)?)
    }

    async fn move_from(&self, ctx: &mut MoveCtx) -> Result<Option<Value>, Diagnostics> {
        if ctx.source_type != "terraform_data" {
            return Ok(None);
        }
        let Some(name) = ctx.state["output"]["value"]
            .as_str()
            .or(ctx.state["output"].as_str())
        else {
            return Err(Diagnostic::error(
                "Nothing to move",
                "The terraform_data has no text as output.",
            )
            .into());
        };
        let id = format!("server-{name}");
        Ok(Some(
            ctx.empty()
                .with("name", name)
                .with("id", id)
                .with("zone", "a"),
        ))
    }
}
