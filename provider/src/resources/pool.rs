//! `gpuloom_pool`: like nodes of one place. The lead launches them; this declares, waits and reports.

mod estimate;
mod schema;

use gpuloom_api::proto::PoolView;
use gpuloom_cloud::failpoint;
use gpuloom_fleet::{Kind, Object, OnShortfall, PoolName, PoolPhase, PoolPlace, PoolSpec};
use tfplug::{
    ApplyCtx, Diagnostic, Diagnostics, IdentitySchema, ImportCtx, Op, OrDiag, PlanCtx, ReadCtx,
    ReadOutcome, Resource, Schema, ValidateCtx, Value, async_trait,
};

use super::attributes::{identity_of_object, object_identity};
use super::declared::{
    LEAD_AT, connection, declare, declare_new, generation, keep, plan_wording, seen, validate, what,
};
use crate::clouds::shown;
use crate::configure::Settings;
use crate::convert::{self, Connection, phase_word};
use crate::lead::{Lead, Unreachable, is_silence};
use crate::lead_instance::LeadAt;
use crate::pool_wait::{Ended, Wait, wait_gone};
use crate::{import, lost, say};

const KIND: Kind = Kind::Pool;
/// The kinds of place, each a block.
const PLACES: [&str; 5] = ["local", "existing", "aws", "gcp", "azure"];
const COMPUTED: [&str; 7] = [
    "size",
    "provisioned_size",
    "ready_size",
    "status",
    "shortfall",
    "generation",
    "estimated_hourly_usd",
];
/// Where the fleet's name is remembered: nodes are found by it when the lead is gone.
const FLEET_NAME: &str = "fleet_name";

/// See the module.
pub(super) struct Pool;

// === impl Pool ===

#[async_trait]
impl Resource for Pool {
    fn name(&self) -> &str {
        KIND.as_str()
    }

    fn schema(&self) -> Schema {
        schema::schema()
    }

    fn identity_schema(&self) -> Option<IdentitySchema> {
        Some(object_identity())
    }

    fn identity(&self, state: &Value) -> Option<Value> {
        identity_of_object(state)
    }

    async fn validate(&self, ctx: &mut ValidateCtx) -> Result<(), Diagnostics> {
        validate(KIND, &ctx.config)
    }

    async fn plan(&self, ctx: &mut PlanCtx) -> Result<(), Diagnostics> {
        for block in PLACES {
            if ctx.prior.get(block).is_null() != ctx.planned.get(block).is_null() {
                ctx.require_replace(block);
            }
        }
        plan_wording(KIND, ctx, &COMPUTED);
        estimate::plan(ctx).await;
        Ok(())
    }

    async fn create(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let lead = settings.lead(&connection(&ctx.planned)?).await?;
        create(ctx, &settings, &lead).await
    }

    async fn read(&self, ctx: &mut ReadCtx) -> Result<ReadOutcome, Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let connection = connection(&ctx.state)?;
        let name = ctx.state.view().attr("name").str()?.to_owned();
        let lead = match settings.reach(&connection).await {
            Ok(lead) => lead,
            Err(unreachable) => return keep_pool(ctx, &settings, &connection, unreachable).await,
        };
        ctx.private.set(FLEET_NAME, lead.fleet_name());
        if let Some(at) = seen(&settings, &connection) {
            ctx.private.set(LEAD_AT, at);
        }
        match lead.object(KIND, &name).await {
            Ok(Some(found)) => {
                let mut state = ctx.state.clone();
                convert::write(&found.object, &mut state);
                put_view(&mut state, &found.pool);
                state.set("generation", found.generation);
                if let Object::Pool(spec) = &found.object {
                    let estimate = estimate::hourly(spec, found.pool.wanted);
                    state.set("estimated_hourly_usd", estimate);
                }
                Ok(ReadOutcome::State(state))
            }
            Ok(None) => Ok(ReadOutcome::Gone),
            Err(error) if is_silence(&error) => {
                let silent = Unreachable::Silent(error.to_string());
                keep_pool(ctx, &settings, &connection, silent).await
            }
            Err(error) => {
                let tried = format!("Cannot read {}", what(KIND, &ctx.state));
                Err(say::failed(&tried, &error, None))
            }
        }
    }

    async fn update(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let connection = connection(&ctx.planned)?;
        let spec = spec(&ctx.planned)?;
        if Object::Pool(spec.clone()) == Object::Pool(self::spec(&ctx.prior)?) {
            let mut state = ctx.planned.clone();
            for name in COMPUTED {
                let stored = ctx.prior.get(name).clone();
                state.set_if_unknown(name, stored);
            }
            ctx.save(state);
            return Ok(());
        }
        let lead = settings.lead(&connection).await?;
        let stands = generation(&ctx.prior);
        let generation = declare(&settings, &lead, KIND, &ctx.planned, stands).await?;
        let mut state = ctx.planned.clone();
        for name in COMPUTED {
            let stored = ctx.prior.get(name).clone();
            state.set_if_unknown(name, stored);
        }
        state.set("generation", generation);
        ctx.save(state.clone());
        let limit = ctx.timeout(Op::Update);
        let ended = Wait::new(&lead, &spec, limit, &ctx.cancel)
            .until_sized()
            .await;
        put_view(&mut state, ended.view());
        ctx.save(state);
        match ended {
            Ended::Sized(_) => Ok(()),
            Ended::Short { ref why, .. } if spec.capacity.on_shortfall == OnShortfall::Fail => {
                let view = ended.view();
                Err(Diagnostic::error(
                    format!("Pool {} has {} of {} nodes", spec.name, view.ready, view.wanted),
                    say::sentences(&[why, "the change stands and the lead keeps trying; lower autoscaling.min or free capacity"]),
                )
                .into())
            }
            other => {
                warn_short(ctx, &spec, &other);
                Ok(())
            }
        }
    }

    async fn delete(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let connection = connection(&ctx.prior)?;
        let unreachable = match settings.reach(&connection).await {
            Ok(lead) => match withdraw(ctx, &lead).await? {
                None => return Ok(()),
                Some(unreachable) => unreachable,
            },
            Err(unreachable) => unreachable,
        };
        delete_without_lead(ctx, &settings, &connection, unreachable).await
    }

    async fn import(&self, ctx: &mut ImportCtx) -> Result<Value, Diagnostics> {
        import::object(ctx).await
    }
}

/// Where the lead runs, or ran when the pool was last read.
fn lead_at(
    settings: &Settings,
    connection: &Connection,
    stored: Option<serde_json::Value>,
) -> Option<LeadAt> {
    let stored = stored.and_then(|at| serde_json::from_value(at).ok());
    settings.seen(&connection.id).or(stored)
}

fn spec(value: &Value) -> Result<PoolSpec, Diagnostics> {
    match convert::object(KIND, value) {
        Ok(Object::Pool(spec)) => Ok(spec),
        Ok(other) => Err(Diagnostic::error("Not a pool", format!("{other:?}")).into()),
        Err(problems) => Err(convert::diagnostics(&problems)),
    }
}

/// Declares, saves what is known at once, waits, and reports. An error leaves nothing behind; what
/// is left stands in the state without an error, so that Terraform never destroys it for being late.
async fn create(ctx: &mut ApplyCtx, settings: &Settings, lead: &Lead) -> Result<(), Diagnostics> {
    let spec = spec(&ctx.planned)?;
    ctx.set_private(FLEET_NAME, lead.fleet_name());
    if let Some(at) = seen(settings, &connection(&ctx.planned)?) {
        ctx.set_private(LEAD_AT, at);
    }
    let generation = declare_new(ctx, settings, lead, KIND).await?;
    let mut state = ctx.planned.clone();
    state.set("generation", generation);
    put_view(
        &mut state,
        &PoolView {
            wanted: spec.first_size(),
            ..PoolView::default()
        },
    );
    let estimate = estimate::hourly(&spec, spec.first_size());
    state.set_if_unknown("estimated_hourly_usd", estimate);
    ctx.save(state.clone());
    failpoint::hit("provider.pool.wait.before");
    let wait = Wait::new(lead, &spec, ctx.timeout(Op::Create), &ctx.cancel);
    let ended = match spec.place {
        PoolPlace::Local | PoolPlace::Aws(_) | PoolPlace::Gcp(_) | PoolPlace::Azure(_) => {
            wait.until_sized().await
        }
        // Its machines join with tokens that can only be made now: there is nothing to wait for.
        PoolPlace::Existing => wait.once().await,
    };
    failpoint::hit("provider.pool.wait.after");
    if let Ended::Short { why, .. } = &ended
        && spec.capacity.on_shortfall == OnShortfall::Fail
    {
        return give_up(ctx, lead, &spec, &ended, why).await;
    }
    put_view(&mut state, ended.view());
    ctx.save(state);
    warn_short(ctx, &spec, &ended);
    Ok(())
}

/// `on_shortfall = "fail"`: withdraws the pool and verifies that nothing of it is left.
async fn give_up(
    ctx: &mut ApplyCtx,
    lead: &Lead,
    spec: &PoolSpec,
    ended: &Ended,
    why: &str,
) -> Result<(), Diagnostics> {
    let view = ended.view();
    let short = format!(
        "Pool {} got {} of {} nodes",
        spec.name, view.ready, view.wanted
    );
    failpoint::hit("provider.pool.abandon.before");
    let withdrawn = lead.withdraw(KIND, spec.name.as_str(), 0, true).await;
    failpoint::hit("provider.pool.abandon.after");
    let gone = match withdrawn {
        Ok(reply) if reply.gone || !reply.existed => Ok(()),
        // Cancelled or not: what was launched has to be seen gone, for as long as destroying may take.
        Ok(_) => wait_gone(lead, &spec.name, ctx.timeout(Op::Delete), None).await,
        Err(refusal) => Err(refusal.to_string()),
    };
    match gone {
        Ok(()) => {
            ctx.save(Value::Null);
            let advice = "nothing of it is left; ask for fewer nodes, free capacity, or set \
                          capacity { on_shortfall = \"degrade\" } to take what there is";
            Err(Diagnostic::error(short, say::sentences(&[why, advice])).into())
        }
        Err(what) => {
            let advice = "it was withdrawn, but its nodes were not seen gone: it stays in the state so that the \
                          next apply destroys it";
            Err(Diagnostic::error(short, say::sentences(&[why, advice, &what])).into())
        }
    }
}

/// A pool that is smaller than wanted: a warning with the true counts.
fn warn_short(ctx: &mut ApplyCtx, spec: &PoolSpec, ended: &Ended) {
    let view = ended.view();
    let counts = format!(
        "Pool {} has {} of {} nodes",
        spec.name, view.ready, view.wanted
    );
    match ended {
        Ended::Sized(_) => {}
        Ended::Short { why, .. } => ctx.warn(counts, say::sentences(&[why, "the lead keeps trying"])),
        Ended::Cancelled(_) => ctx.warn(
            counts,
            "Waiting was interrupted. The pool is declared and the lead goes on launching its nodes; \
             `terraform plan` shows how it stands.",
        ),
        Ended::Lost { why, .. } => ctx.warn(
            counts,
            say::sentences(&[why, "the pool is declared; these counts are the last ones heard"]),
        ),
    }
}

/// Withdraws through the lead and waits until the nodes are gone. `Some` when the lead is lost.
async fn withdraw(ctx: &mut ApplyCtx, lead: &Lead) -> Result<Option<Unreachable>, Diagnostics> {
    let name = ctx.prior.view().attr("name").str()?.to_owned();
    failpoint::hit("provider.withdraw.before");
    let reply = lead
        .withdraw(KIND, &name, generation(&ctx.prior), false)
        .await;
    failpoint::hit("provider.withdraw.after");
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) if is_silence(&error) => {
            return Ok(Some(Unreachable::Silent(error.to_string())));
        }
        Err(error) => {
            return Err(say::failed(
                &format!("Cannot destroy pool {name}"),
                &error,
                None,
            ));
        }
    };
    if reply.gone || !reply.existed {
        return Ok(None);
    }
    let limit = ctx.timeout(Op::Delete);
    let cancel = ctx.cancel.clone();
    let pool = PoolName::new(name.as_str()).or_diag("Invalid name")?;
    wait_gone(lead, &pool, limit, Some(&cancel))
        .await
        .map_err(|why| {
            let advice = "the lead goes on; destroy again to wait on, or cancel its jobs";
            Diagnostic::error(
                format!("Pool {name} is still being destroyed"),
                say::sentences(&[&why, advice]),
            )
        })?;
    Ok(None)
}

async fn delete_without_lead(
    ctx: &mut ApplyCtx,
    settings: &Settings,
    connection: &Connection,
    unreachable: Unreachable,
) -> Result<(), Diagnostics> {
    let name = ctx.prior.view().attr("name").str()?.to_owned();
    let known = lead_at(settings, connection, ctx.private(LEAD_AT));
    let end = lost::end_of(settings, connection, known.as_ref(), unreachable).await?;
    let refuses = ctx.prior.get("on_destroy").as_str() == Some("refuse");
    if let lost::FleetEnd::Stopped { store } = &end
        && refuses
    {
        let detail = format!(
            "Its on_destroy is refuse, and whether jobs run cannot be known while the lead, whose store is {store}, \
             does not run. Apply to start the lead, or set on_destroy to drain or kill."
        );
        return Err(Diagnostic::error(format!("Pool {name} may have running jobs"), detail).into());
    }
    if ctx.prior.get("existing").is_null() {
        let fleet = ctx
            .private(FLEET_NAME)
            .and_then(|v| v.as_str().map(str::to_owned));
        let place = convert::stored_place(&ctx.prior);
        let pool = lost::LostPool {
            connection,
            fleet: fleet.as_deref(),
            name: &name,
            place: &place,
        };
        let ended = pool.terminate(settings, ctx.timeout(Op::Delete)).await?;
        if ended > 0 {
            ctx.warn(
                format!("Pool {name} was destroyed without its lead"),
                format!("Its {ended} nodes were found by their tags and terminated, with the jobs on them."),
            );
        }
    }
    if let lost::FleetEnd::Stopped { store } = end {
        let detail = format!(
            "The lead does not run, so the pool is still in its store {store}: if that lead is started again, it \
             launches the pool's nodes anew. Destroying the fleet removes it for good."
        );
        ctx.warn(
            format!("Pool {name} was dropped from the state only"),
            detail,
        );
    }
    Ok(())
}

/// Keeps the state of a pool whose lead is gone, and says which of its nodes are still there.
async fn keep_pool(
    ctx: &mut ReadCtx,
    settings: &Settings,
    connection: &Connection,
    unreachable: Unreachable,
) -> Result<ReadOutcome, Diagnostics> {
    let name = ctx.state.view().attr("name").str()?.to_owned();
    let fleet = ctx.private.get_str(FLEET_NAME).map(str::to_owned);
    if let Some(at) = seen(settings, connection) {
        ctx.private.set(LEAD_AT, at);
    }
    let place = convert::stored_place(&ctx.state);
    let pool = lost::LostPool {
        connection,
        fleet: fleet.as_deref(),
        name: &name,
        place: &place,
    };
    if let Unreachable::Silent(_) = &unreachable
        && place != PoolPlace::Existing
        && let Ok(ids) = pool.ids(settings).await
    {
        let wanted = ctx.state.get("size").as_u64().unwrap_or_default();
        let there = shown(&place);
        let detail = match ids.len() {
            0 => format!(
                "By its tags, no node of the pool is left on {there}; {wanted} were wanted."
            ),
            n => format!(
                "By their tags, {n} nodes of it are left on {there}, of {wanted} that were wanted: {}.",
                ids.join(", ")
            ),
        };
        ctx.warn(format!("Pool {name} is without its lead"), detail);
    }
    keep(KIND, ctx, unreachable)
}

/// Writes what the lead sees of the pool.
fn put_view(state: &mut Value, view: &PoolView) {
    let phase =
        gpuloom_api::convert::pool_status(view).map_or(PoolPhase::Provisioning, |s| s.phase);
    state.set("size", view.wanted);
    state.set("provisioned_size", view.provisioned);
    state.set("ready_size", view.ready);
    state.set("status", phase_word(phase));
    state.set("shortfall", view.shortfall.as_str());
}
