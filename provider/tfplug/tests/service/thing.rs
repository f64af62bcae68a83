//! A provider whose only resource fails in every way it is told to.

use std::sync::{Arc, LazyLock};

use tfplug::{
    ApplyCtx, Attribute, Block, ConfigureCtx, Data, Diagnostic, Diagnostics, EphemeralCtx,
    EphemeralResource, Function, FunctionError, IdentitySchema, ImportCtx, MoveCtx, OpenCtx,
    Opened, Parameter, PlanCtx, ReadCtx, ReadOutcome, Resource, Schema, Signature, Type,
    UpgradeCtx, ValidateCtx, Value, async_trait, validators,
};
use tokio::sync::Notify;

/// Signalled when the handler that waits has been cancelled and has saved.
pub(crate) static FINISHED: LazyLock<Notify> = LazyLock::new(Notify::new);
/// Signalled when the handler that waits has begun to.
pub(crate) static WAITING: LazyLock<Notify> = LazyLock::new(Notify::new);

pub(crate) struct Provider;
struct Thing;
struct Half;
struct Key;

pub(crate) fn schema() -> Schema {
    Schema::new(2)
        .attribute(Attribute::string("id").computed().use_state_for_unknown())
        .attribute(
            Attribute::string("name")
                .required()
                .requires_replace()
                .validate(validators::length(1..=8)),
        )
        .attribute(Attribute::int64("size").optional().computed())
        .attribute(Attribute::string("chaos").optional())
        .attribute(Attribute::string("secret").optional().write_only())
        .block(Block::list("rule", [Attribute::int64("port").required()]))
}

/// A configuration with a secret.
pub(crate) fn config(name: &str, chaos: &str) -> Value {
    schema()
        .empty_value()
        .with("name", name)
        .with("chaos", chaos)
        .with("secret", "s3cret")
}

/// What a successful create leaves behind.
pub(crate) fn stored(name: &str, chaos: &str) -> Value {
    config(name, chaos)
        .with("secret", Value::Null)
        .with("id", "i-1")
        .with("size", 7)
}

#[async_trait]
impl tfplug::Provider for Provider {
    fn name(&self) -> &str {
        "test"
    }
    fn version(&self) -> &str {
        "0.0.0"
    }
    async fn configure(&self, _ctx: &mut ConfigureCtx) -> Result<Data, Diagnostics> {
        Ok(Arc::new(42_u32))
    }
    fn resources(&self) -> Vec<Box<dyn Resource>> {
        vec![Box::new(Thing)]
    }
    fn functions(&self) -> Vec<Box<dyn Function>> {
        vec![Box::new(Half)]
    }
    fn ephemeral_resources(&self) -> Vec<Box<dyn EphemeralResource>> {
        vec![Box::new(Key)]
    }
}

fn failure() -> Diagnostics {
    Diagnostic::error("The cloud failed", "as it was told").into()
}

#[async_trait]
impl Resource for Thing {
    fn name(&self) -> &str {
        "thing"
    }

    fn schema(&self) -> Schema {
        schema()
    }

    fn identity_schema(&self) -> Option<IdentitySchema> {
        Some(IdentitySchema::new(0).required("id", Type::String, "The id."))
    }

    async fn validate(&self, ctx: &mut ValidateCtx) -> Result<(), Diagnostics> {
        ctx.diagnostics.warn_at("name", "Handler ran", "");
        Ok(())
    }

    async fn plan(&self, ctx: &mut PlanCtx) -> Result<(), Diagnostics> {
        match ctx.config.get("chaos").as_str() {
            Some("plan panic") => panic!("no plan"),
            Some("replace") => ctx.require_replace("chaos"),
            Some("leak") => {
                let secret = ctx.config.get("secret").clone();
                ctx.planned.set("secret", secret);
            }
            _ => {}
        }
        Ok(())
    }

    async fn plan_destroy(&self, ctx: &mut PlanCtx) -> Result<(), Diagnostics> {
        ctx.warn("Going", "");
        Ok(())
    }

    async fn create(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        assert_eq!(*ctx.data::<u32>()?, 42);
        assert_eq!(ctx.config.get("secret").as_str(), Some("s3cret"));
        let done = ctx.planned.clone().with("id", "i-1").with("size", 7);
        ctx.set_private("token", "t");
        match ctx.config.get("chaos").as_str().unwrap_or_default() {
            "early error" => return Err(failure()),
            "late error" => ctx.save(ctx.planned.clone().with("id", "i-1")),
            "panic" => {
                ctx.save(ctx.planned.clone().with("id", "i-1"));
                panic!("told to");
            }
            "unsaved" => return Ok(()),
            "unknown" => {
                ctx.save(ctx.planned.clone());
                return Ok(());
            }
            "malformed" => {
                ctx.save(Value::object([
                    ("id", Value::from("i-1")),
                    ("size", "seven".into()),
                    ("odd", true.into()),
                ]));
                return Ok(());
            }
            "leak" => {
                ctx.save(done.with("secret", "s3cret").with("rule", Value::Null));
                return Ok(());
            }
            "degraded" => {
                ctx.warn("Degraded", "less than asked for");
                ctx.save(done);
                return Ok(());
            }
            "wait" => {
                ctx.save(ctx.planned.clone().with("id", "i-1"));
                WAITING.notify_one();
                ctx.cancel.cancelled().await;
                // An await after cancellation has to be reached, too.
                tokio::task::yield_now().await;
                FINISHED.notify_one();
            }
            _ => {
                ctx.save(done);
                return Ok(());
            }
        }
        Err(failure())
    }

    async fn read(&self, ctx: &mut ReadCtx) -> Result<ReadOutcome, Diagnostics> {
        match ctx.state.get("chaos").as_str().unwrap_or_default() {
            "gone" => Ok(ReadOutcome::Gone),
            "read error" => Err(failure()),
            "read panic" => panic!("unreadable"),
            "null" => Ok(ReadOutcome::State(Value::Null)),
            "unknown" => Ok(ReadOutcome::State(
                ctx.state.clone().with("size", Value::unknown()),
            )),
            _ => Ok(ReadOutcome::State(
                ctx.state.clone().with("size", 9).with("secret", "back"),
            )),
        }
    }

    async fn update(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        match ctx.config.get("chaos").as_str() {
            Some("half") => {
                ctx.save(ctx.prior.clone().with("size", 8));
                Err(failure())
            }
            Some("late error") => Err(failure()),
            _ => {
                ctx.save(ctx.planned.clone().with("size", 7));
                Ok(())
            }
        }
    }

    async fn delete(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        match ctx.prior.get("chaos").as_str() {
            Some("stuck") => Err(failure()),
            Some("panic") => panic!("told to"),
            _ => Ok(()),
        }
    }

    async fn import(&self, ctx: &mut ImportCtx) -> Result<Value, Diagnostics> {
        let id = ctx.identity.as_ref().map_or_else(
            || ctx.id.as_str().into(),
            |identity| identity.get("id").clone(),
        );
        Ok(ctx.empty.clone().with("id", id))
    }

    async fn upgrade(&self, ctx: &mut UpgradeCtx) -> Result<Value, Diagnostics> {
        assert_eq!(ctx.version, 1);
        let mut state = ctx.state.clone();
        state["size"] = state["cores"].clone();
        Ok(ctx.decode(&state)?)
    }

    async fn move_from(&self, ctx: &mut MoveCtx) -> Result<Option<Value>, Diagnostics> {
        let id = ctx.state["id"].as_str().map(str::to_owned);
        Ok((ctx.source_type == "other_thing").then(|| ctx.empty().with("id", id)))
    }
}

impl Function for Half {
    fn name(&self) -> &str {
        "half"
    }

    fn signature(&self) -> Signature {
        let numbers = Parameter::new("numbers", Type::Number, "Even numbers.");
        Signature::returns(Type::Number)
            .parameter(numbers.clone())
            .variadic(numbers)
    }

    fn call(&self, arguments: &[Value]) -> Result<Value, FunctionError> {
        let mut sum = 0;
        for (i, number) in arguments.iter().enumerate() {
            match number.as_i64() {
                Some(13) => panic!("unlucky"),
                Some(n) if n % 2 == 0 => sum += n / 2,
                _ => return Err(FunctionError::argument(i, "An even number is needed.")),
            }
        }
        Ok(sum.into())
    }
}

#[async_trait]
impl EphemeralResource for Key {
    fn name(&self) -> &str {
        "key"
    }

    fn schema(&self) -> Schema {
        Schema::new(0).attribute(Attribute::string("value").computed())
    }

    async fn open(&self, ctx: &mut OpenCtx) -> Result<Opened, Diagnostics> {
        ctx.private.set("lease", 1);
        Ok(Opened {
            result: ctx.config.clone().with("value", "k"),
            renew_at: Some(std::time::UNIX_EPOCH),
        })
    }

    async fn close(&self, ctx: &mut EphemeralCtx) -> Result<(), Diagnostics> {
        let lease = ctx.private.get("lease").cloned().unwrap_or_default();
        ctx.warn(format!("lease {lease}"), "");
        Ok(())
    }
}
