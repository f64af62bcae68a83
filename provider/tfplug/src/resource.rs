//! Managed resources: what a provider implements.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value as Json;

use crate::call::{Call, ValidateCtx, derefs_to_call};
use crate::diag::{Diagnostic, Diagnostics};
use crate::identity::IdentitySchema;
use crate::path::Path;
use crate::private::Private;
use crate::schema::Schema;
use crate::value::{CodecError, Missing, Type, Value};

/// A kind of managed object.
///
/// Handlers may panic or fail at any point: whatever was [saved](ApplyCtx::save) until then goes
/// into the state, together with the diagnostics.
#[async_trait]
pub trait Resource: Send + Sync + 'static {
    /// The name without the provider's prefix: `pool` for `gpuloom_pool`.
    fn name(&self) -> &str;

    /// What may be written.
    fn schema(&self) -> Schema;

    /// What names an object for ever; `None` for resources without identity.
    fn identity_schema(&self) -> Option<IdentitySchema> {
        None
    }

    /// The identity of an object with this state: by default the state's attributes of the same
    /// names. `None` while one of them is null or unknown.
    fn identity(&self, state: &Value) -> Option<Value> {
        self.identity_schema()
            .and_then(|schema| schema.value_of(state))
    }

    /// Checks a configuration beyond what the schema's validators see. Unknown values are no problem.
    async fn validate(&self, _ctx: &mut ValidateCtx) -> Result<(), Diagnostics> {
        Ok(())
    }

    /// Adjusts the plan of a create or update. Has to be deterministic: it runs again at apply.
    async fn plan(&self, _ctx: &mut PlanCtx) -> Result<(), Diagnostics> {
        Ok(())
    }

    /// Checks a planned destruction: the place for warnings and refusals.
    async fn plan_destroy(&self, _ctx: &mut PlanCtx) -> Result<(), Diagnostics> {
        Ok(())
    }

    /// Makes the object and saves its state, also in part as soon as there is something to lose.
    async fn create(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics>;

    /// Reports the object as it is. An error keeps the stored state.
    async fn read(&self, ctx: &mut ReadCtx) -> Result<ReadOutcome, Diagnostics>;

    /// Changes the object and saves its new state.
    async fn update(&self, _ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let detail =
            "Every change of this resource has to replace it, and the plan did not say so.";
        Err(Diagnostic::error("Update is not supported", detail).into())
    }

    /// Destroys the object. What is gone already is a success. An error keeps the stored state.
    async fn delete(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics>;

    /// The stub that a read fills: at least what read needs to find the object.
    async fn import(&self, _ctx: &mut ImportCtx) -> Result<Value, Diagnostics> {
        Err(Diagnostic::error(
            "Import is not supported",
            "This resource cannot be imported.",
        )
        .into())
    }

    /// The state of an older schema version in today's shape, without asking anybody.
    /// Not called for states of the current version.
    async fn upgrade(&self, ctx: &mut UpgradeCtx) -> Result<Value, Diagnostics> {
        let detail = format!(
            "The state was written with schema version {}; this provider knows version {} only.",
            ctx.version,
            self.schema().version()
        );
        Err(Diagnostic::error("Unknown state version", detail).into())
    }

    /// The identity of an older identity schema version in today's shape.
    async fn upgrade_identity(&self, _version: i64, _identity: Json) -> Result<Value, Diagnostics> {
        Err(Diagnostic::error(
            "Unknown identity version",
            "The identity was written by another version.",
        )
        .into())
    }

    /// Takes over the state of another resource type; `None` when that type means nothing here.
    async fn move_from(&self, _ctx: &mut MoveCtx) -> Result<Option<Value>, Diagnostics> {
        Ok(None)
    }
}

/// For [`Resource::plan`] and [`Resource::plan_destroy`].
#[derive(Debug)]
pub struct PlanCtx {
    pub(crate) call: Call,
    /// The configuration, with write-only values. Null when destroying.
    pub config: Value,
    /// The stored state. Null when creating.
    pub prior: Value,
    /// The plan so far: defaults, unknowns and kept values are in. To be changed in place. Null when destroying.
    pub planned: Value,
    /// Remembered beside the state.
    pub private: Private,
    pub(crate) replace: Vec<Path>,
}

/// For [`Resource::create`], [`Resource::update`] and [`Resource::delete`].
#[derive(Debug)]
pub struct ApplyCtx {
    pub(crate) call: Call,
    /// The configuration, with write-only values. Null when destroying.
    pub config: Value,
    /// The stored state. Null when creating.
    pub prior: Value,
    /// What was planned: its known parts have to come out as they are. Null when destroying.
    pub planned: Value,
    /// The planned identity, when there is one.
    pub identity: Option<Value>,
    pub(crate) saved: Saved,
}

/// What a handler has saved so far, safe from its panics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Saved(Arc<Mutex<SavedState>>);

#[derive(Debug, Clone, Default)]
pub(crate) struct SavedState {
    pub(crate) state: Option<Value>,
    pub(crate) private: Private,
}

/// For [`Resource::read`].
#[derive(Debug)]
pub struct ReadCtx {
    pub(crate) call: Call,
    /// The stored state, or the stub that import made.
    pub state: Value,
    /// Remembered beside the state.
    pub private: Private,
    /// The stored identity, when there is one.
    pub identity: Option<Value>,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadOutcome {
    /// The object as it is.
    State(Value),
    /// The object certainly does not exist any more: Terraform will create it anew.
    Gone,
}

/// For [`Resource::import`].
#[derive(Debug)]
pub struct ImportCtx {
    pub(crate) call: Call,
    /// What the user wrote; empty when importing by identity.
    pub id: String,
    /// The identity, when importing by it (Terraform 1.12).
    pub identity: Option<Value>,
    /// An object with every attribute null, to start from.
    pub empty: Value,
    /// Remembered beside the state.
    pub private: Private,
}

/// For [`Resource::upgrade`].
#[derive(Debug)]
pub struct UpgradeCtx {
    pub(crate) call: Call,
    /// The schema version that the state was written with.
    pub version: i64,
    /// The state.
    pub state: Json,
    pub(crate) schema: Arc<(Schema, Type)>,
}

/// For [`Resource::move_from`].
#[derive(Debug)]
pub struct MoveCtx {
    pub(crate) call: Call,
    /// Such as `registry.terraform.io/hashicorp/aws`.
    pub source_provider: String,
    /// Such as `aws_instance`.
    pub source_type: String,
    /// The schema version that the state was written with.
    pub source_version: i64,
    /// The state.
    pub state: Json,
    /// What the other provider remembered beside the state; becomes this resource's own.
    pub private: Private,
    pub(crate) schema: Arc<(Schema, Type)>,
}

derefs_to_call!(PlanCtx, ApplyCtx, ReadCtx, ImportCtx, UpgradeCtx, MoveCtx);

// === impl PlanCtx ===

impl PlanCtx {
    /// True when the object does not exist yet.
    #[must_use]
    pub fn is_create(&self) -> bool {
        self.prior.is_null()
    }

    /// True when the planned value at this path differs from the stored one; always when creating.
    #[must_use]
    pub fn changes(&self, path: impl Into<Path>) -> bool {
        let path = path.into();
        self.prior.is_null() || self.planned.at(&path) != self.prior.at(&path)
    }

    /// Destroys the object and creates it again because of this attribute. Without effect when creating.
    pub fn require_replace(&mut self, path: impl Into<Path>) {
        let path = path.into();
        if !self.prior.is_null() && !self.replace.contains(&path) {
            self.replace.push(path);
        }
    }
}

// === impl ApplyCtx ===

impl ApplyCtx {
    /// Saves the object's state as it is by now; each save replaces the one before. Parts that
    /// are still unknown count as null when the handler fails. A handler that returns without
    /// any save saves the plan, if nothing in it is unknown.
    pub fn save(&self, state: Value) {
        self.saved.with(|saved| saved.state = Some(state));
    }

    /// The latest save.
    #[must_use]
    pub fn saved_state(&self) -> Option<Value> {
        self.saved.with(|saved| saved.state.clone())
    }

    /// Something remembered beside the state.
    #[must_use]
    pub fn private(&self, key: &str) -> Option<Json> {
        self.saved.with(|saved| saved.private.get(key).cloned())
    }

    /// Remembers something beside the state; kept even when the handler fails.
    pub fn set_private(&self, key: impl Into<String>, value: impl Into<Json>) {
        self.saved.with(|saved| saved.private.set(key, value));
    }
}

// === impl Saved ===

impl Saved {
    pub(crate) fn new(private: Private) -> Self {
        let saved = Self::default();
        saved.with(|s| s.private = private);
        saved
    }

    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut SavedState) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl UpgradeCtx ===

impl UpgradeCtx {
    /// The state read as the current schema: what is missing is null, what is gone is dropped.
    /// Change the JSON first where names or types differ.
    ///
    /// # Errors
    /// When a value does not fit its attribute.
    pub fn decode(&self, state: &Json) -> Result<Value, CodecError> {
        decode(&self.schema, state)
    }
}

// === impl MoveCtx ===

impl MoveCtx {
    /// An object with every attribute null, to start from.
    #[must_use]
    pub fn empty(&self) -> Value {
        self.schema.0.empty_value()
    }

    /// JSON read as the current schema: what is missing is null, what is unfamiliar is dropped.
    ///
    /// # Errors
    /// When a value does not fit its attribute.
    pub fn decode(&self, state: &Json) -> Result<Value, CodecError> {
        decode(&self.schema, state)
    }
}

fn decode(schema: &(Schema, Type), state: &Json) -> Result<Value, CodecError> {
    let mut value = Value::from_json(state, &schema.1, Missing::Null)?;
    crate::plan::fill_blocks(&mut value, schema.0.block_list());
    Ok(value)
}
