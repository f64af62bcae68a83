//! One implementation for every object that is declared to the lead and has no machines of its own.

use gpuloom_api::{CallError, Refusal, RefusalCode};
use gpuloom_cloud::failpoint;
use gpuloom_fleet::Kind;
use tfplug::{
    ApplyCtx, Diagnostics, IdentitySchema, ImportCtx, Op, PlanCtx, ReadCtx, ReadOutcome, Resource,
    Schema, ValidateCtx, Value, async_trait,
};

use super::attributes::{
    fleet_attribute, generation_attribute, identity_of_object, name_attribute, object_identity,
};
use super::fleet::note::Note;
use crate::configure::Settings;
use crate::convert::{self, Connection};
use crate::lead::{Lead, Unreachable, is_silence};
use crate::lost::FleetEnd;
use crate::{import, lost, say};

/// Where is remembered where the lead runs: whether it is gone is seen there.
pub(super) const LEAD_AT: &str = "lead_at";
/// How often a withdrawal that waits for jobs is asked again.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(250);

/// A kind of declared object: its name, its own attributes, and how both read is in `convert`.
pub(super) struct Declared {
    kind: Kind,
    own_schema: fn() -> Schema,
}

// === impl Declared ===

impl Declared {
    pub(super) const fn new(kind: Kind, own_schema: fn() -> Schema) -> Self {
        Self { kind, own_schema }
    }

    fn what(&self, value: &Value) -> String {
        what(self.kind, value)
    }
}

/// Where the lead of a connection runs, as far as this process knows, for [`LEAD_AT`].
pub(super) fn seen(settings: &Settings, connection: &Connection) -> Option<serde_json::Value> {
    serde_json::to_value(settings.seen(&connection.id)?).ok()
}

/// `quota research`, for messages.
pub(super) fn what(kind: Kind, value: &Value) -> String {
    let name = value.get("name").as_str().unwrap_or("?");
    format!("{} {name}", kind.as_str().replace('_', " "))
}

/// The connection of a planned or stored object.
pub(super) fn connection(value: &Value) -> Result<Connection, Diagnostics> {
    Ok(Connection::read(&value.view().attr("fleet"))?)
}

/// Declares the object of `ctx.planned`, which is to be new, and returns its generation. The rest of one
/// that is still going away is waited for, as long as a creation may take.
pub(super) async fn declare_new(
    ctx: &ApplyCtx,
    settings: &Settings,
    lead: &Lead,
    kind: Kind,
) -> Result<u64, Diagnostics> {
    let hello = lead.hello();
    Note::in_use(settings, &hello.fleet_name, &hello.fleet_id).await?;
    let give_up = tokio::time::Instant::now() + ctx.timeout(Op::Create);
    loop {
        let error = match told(settings, lead, kind, &ctx.planned, 0).await {
            Ok(generation) => return Ok(generation),
            Err(error) => error,
        };
        let going = error
            .refusal()
            .is_some_and(|r| r.code == RefusalCode::InUse);
        if !going || ctx.is_cancelled() || tokio::time::Instant::now() >= give_up {
            return Err(cannot_declare("create", kind, &ctx.planned, &error));
        }
        tokio::select! {
            () = ctx.cancel.cancelled() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

/// Declares the object of `planned` over the generation that stands and returns the new one.
pub(super) async fn declare(
    settings: &Settings,
    lead: &Lead,
    kind: Kind,
    planned: &Value,
    stands: u64,
) -> Result<u64, Diagnostics> {
    told(settings, lead, kind, planned, stands)
        .await
        .map_err(|error| cannot_declare("change", kind, planned, &error))
}

fn cannot_declare(doing: &str, kind: Kind, planned: &Value, error: &CallError) -> Diagnostics {
    let import = import::hint(kind, planned);
    let tried = format!("Cannot {doing} {}", what(kind, planned));
    say::failed(&tried, error, import.as_deref())
}

async fn told(
    settings: &Settings,
    lead: &Lead,
    kind: Kind,
    planned: &Value,
    expected: u64,
) -> Result<u64, CallError> {
    let object = convert::object(kind, planned)
        .map_err(|p| CallError::Refused(Refusal::invalid(&what(kind, planned), p)))?;
    failpoint::hit("provider.declare.before");
    let reply = lead
        .declare(&object, &settings.owner, &settings.session, expected)
        .await;
    failpoint::hit("provider.declare.after");
    Ok(reply?.generation)
}

/// The generation in a stored object; 0 where none is known.
pub(super) fn generation(state: &Value) -> u64 {
    state.get("generation").as_u64().unwrap_or(0)
}

/// Plans the stored value of computed attributes again when nothing else changes.
pub(super) fn plan_wording(kind: Kind, ctx: &mut PlanCtx, computed: &[&str]) {
    if ctx.is_create() {
        return;
    }
    if ctx.planned.get("fleet").is_unknown() {
        // The fleet is made anew, and what belongs to it goes with it. Planned as anything else, the plan would
        // contradict itself at apply, when the new id is known.
        ctx.require_replace("fleet");
    }
    let changes = convert::keep_wording(kind, &mut ctx.planned, &ctx.prior);
    if !changes && !ctx.changes("fleet.id") {
        for name in computed {
            let stored = ctx.prior.get(name).clone();
            ctx.planned.set(name, stored);
        }
    }
}

/// The problems of a configuration that can be told already.
pub(super) fn validate(kind: Kind, config: &Value) -> Result<(), Diagnostics> {
    let problems = convert::check(kind, config);
    if problems.0.is_empty() {
        return Ok(());
    }
    Err(convert::diagnostics(&problems))
}

#[async_trait]
impl Resource for Declared {
    fn name(&self) -> &str {
        self.kind.as_str()
    }

    fn schema(&self) -> Schema {
        (self.own_schema)()
            .attribute(fleet_attribute())
            .attribute(name_attribute(&self.kind.as_str().replace('_', " ")))
            .attribute(generation_attribute())
    }

    fn identity_schema(&self) -> Option<IdentitySchema> {
        Some(object_identity())
    }

    fn identity(&self, state: &Value) -> Option<Value> {
        identity_of_object(state)
    }

    async fn validate(&self, ctx: &mut ValidateCtx) -> Result<(), Diagnostics> {
        validate(self.kind, &ctx.config)
    }

    async fn plan(&self, ctx: &mut PlanCtx) -> Result<(), Diagnostics> {
        plan_wording(self.kind, ctx, &["generation"]);
        Ok(())
    }

    async fn create(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let lead = settings.lead(&connection(&ctx.planned)?).await?;
        let generation = declare_new(ctx, &settings, &lead, self.kind).await?;
        ctx.save(ctx.planned.clone().with("generation", generation));
        Ok(())
    }

    async fn read(&self, ctx: &mut ReadCtx) -> Result<ReadOutcome, Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let connection = connection(&ctx.state)?;
        if let Some(at) = seen(&settings, &connection) {
            ctx.private.set(LEAD_AT, at);
        }
        let lead = match settings.reach(&connection).await {
            Ok(lead) => lead,
            Err(unreachable) => return keep(self.kind, ctx, unreachable),
        };
        let name = ctx.state.view().attr("name").str()?.to_owned();
        match lead.object(self.kind, &name).await {
            Ok(Some(found)) => {
                let mut state = ctx.state.clone();
                convert::write(&found.object, &mut state);
                state.set("generation", found.generation);
                Ok(ReadOutcome::State(state))
            }
            Ok(None) => Ok(ReadOutcome::Gone),
            Err(error) if is_silence(&error) => {
                keep(self.kind, ctx, Unreachable::Silent(error.to_string()))
            }
            Err(error) => {
                let tried = format!("Cannot read {}", self.what(&ctx.state));
                Err(say::failed(&tried, &error, None))
            }
        }
    }

    async fn update(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let connection = connection(&ctx.planned)?;
        let object =
            |v: &Value| convert::object(self.kind, v).map_err(|p| convert::diagnostics(&p));
        let stands = generation(&ctx.prior);
        if object(&ctx.planned)? == object(&ctx.prior)? {
            // Only the way to the fleet changed: nothing to tell its lead.
            ctx.save(ctx.planned.clone().with("generation", stands));
            return Ok(());
        }
        let lead = settings.lead(&connection).await?;
        let generation = declare(&settings, &lead, self.kind, &ctx.planned, stands).await?;
        ctx.save(ctx.planned.clone().with("generation", generation));
        Ok(())
    }

    async fn delete(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let connection = connection(&ctx.prior)?;
        let what = self.what(&ctx.prior);
        let name = ctx.prior.view().attr("name").str()?.to_owned();
        let gone = match settings.reach(&connection).await {
            Ok(lead) => {
                failpoint::hit("provider.withdraw.before");
                let reply = withdraw(ctx, &lead, self.kind, &name).await;
                failpoint::hit("provider.withdraw.after");
                match reply {
                    Ok(true) => return Ok(()),
                    Ok(false) => return Err(still_ending(ctx, &what)),
                    Err(error) if is_silence(&error) => Unreachable::Silent(error.to_string()),
                    Err(error) => {
                        return Err(say::failed(&format!("Cannot destroy {what}"), &error, None));
                    }
                }
            }
            Err(unreachable) => unreachable,
        };
        let known = settings.seen(&connection.id).or_else(|| {
            let stored = ctx.private(LEAD_AT)?;
            serde_json::from_value(stored).ok()
        });
        match lost::end_of(&settings, &connection, known.as_ref(), gone).await? {
            FleetEnd::Gone => Ok(()),
            FleetEnd::Stopped { store } => {
                ctx.warn(
                    format!("The fleet's lead does not run; {what} was dropped from the state only"),
                    format!(
                        "It is still in the lead's store {store} and comes back if the lead is started \
                         again. Destroying the fleet removes it for good."
                    ),
                );
                Ok(())
            }
        }
    }

    async fn import(&self, ctx: &mut ImportCtx) -> Result<Value, Diagnostics> {
        import::object(ctx).await
    }
}

/// Withdraws and waits until nothing of the object is left (a tenant's jobs end first). False when
/// the time is over or Terraform was interrupted.
async fn withdraw(ctx: &ApplyCtx, lead: &Lead, kind: Kind, name: &str) -> Result<bool, CallError> {
    let give_up = tokio::time::Instant::now() + ctx.timeout(Op::Delete);
    loop {
        let reply = lead
            .withdraw(kind, name, generation(&ctx.prior), false)
            .await?;
        if reply.gone {
            return Ok(true);
        }
        tokio::select! {
            () = ctx.cancel.cancelled() => return Ok(false),
            () = tokio::time::sleep_until(give_up) => return Ok(false),
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

fn still_ending(ctx: &ApplyCtx, what: &str) -> Diagnostics {
    let why = if ctx.is_cancelled() {
        "Terraform was interrupted"
    } else {
        "the time is over"
    };
    tfplug::Diagnostic::error(
        format!("{what} is still ending"),
        format!("Its jobs were told to stop and {why}. Destroy again to wait for the rest."),
    )
    .into()
}

/// Keeps the stored state of an object whose lead cannot be asked, and says so.
pub(super) fn keep(
    kind: Kind,
    ctx: &mut ReadCtx,
    unreachable: Unreachable,
) -> Result<ReadOutcome, Diagnostics> {
    match unreachable {
        Unreachable::Silent(why) => {
            let state = ctx.state.clone();
            // One summary for all: Terraform then shows a thousand of them as one.
            ctx.warn(
                "The fleet's lead does not answer: what it holds is kept in the state as it was",
                say::sentences(&[&format!("{} could not be read", what(kind, &state)), &why]),
            );
            Ok(ReadOutcome::State(state))
        }
        Unreachable::Refused(diagnostics) => Err(diagnostics),
    }
}
