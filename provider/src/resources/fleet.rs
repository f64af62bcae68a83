//! `gpuloom_fleet`: the lead, where queue and policies live.

mod bring_up;
pub(super) mod note;
mod schema;

use gpuloom_cloud::{InstanceState, failpoint};
use gpuloom_fleet::{FleetName, Problems, parse_layout};
use tfplug::{
    ApplyCtx, Diagnostic, Diagnostics, IdentitySchema, ImportCtx, Op, PlanCtx, ReadCtx,
    ReadOutcome, Resource, Schema, Type, ValidateCtx, Value, async_trait,
};

use crate::configure::Settings;
use crate::convert;
use crate::lead::Unreachable;
use crate::local::LocalFleet;
use crate::lost;
use note::Note;

/// What a start of the lead may change.
const OF_A_START: [&str; 5] = [
    "status",
    "agent_binary",
    "agent_sha256",
    "agent_version",
    "metrics_endpoint",
];

/// The status of a fleet whose destruction was interrupted.
const TERMINATING: &str = "terminating";

/// See the module.
pub(super) struct Fleet;

// === impl Fleet ===

#[async_trait]
impl Resource for Fleet {
    fn name(&self) -> &str {
        "fleet"
    }

    fn schema(&self) -> Schema {
        schema::schema()
    }

    fn identity_schema(&self) -> Option<IdentitySchema> {
        let text = "The fleet's name, unique on this machine.";
        Some(IdentitySchema::new(0).required("name", Type::String, text))
    }

    async fn validate(&self, ctx: &mut ValidateCtx) -> Result<(), Diagnostics> {
        let problems = check(&ctx.config);
        if problems.0.is_empty() {
            Ok(())
        } else {
            Err(convert::diagnostics(&problems))
        }
    }

    /// Announces a start of the lead: when it does not run, or runs another program than ours.
    async fn plan(&self, ctx: &mut PlanCtx) -> Result<(), Diagnostics> {
        let Some(settings) = ctx.try_data::<Settings>() else {
            return Ok(());
        };
        if ctx.is_create() || settings.local.is_unknown() {
            return Ok(());
        }
        if ctx.prior.get("status").as_str() == Some(TERMINATING) {
            // Its end was begun and cannot be taken back: it is ended first, and made anew.
            ctx.planned.set("status", Value::unknown());
            ctx.require_replace("status");
            return Ok(());
        }
        let stopped = ctx.prior.get("status").as_str() != Some("running");
        // Without a program at hand there is nothing to upgrade to.
        let upgrade = settings
            .local
            .program()
            .is_ok_and(|p| ctx.prior.get("agent_sha256").as_str() != Some(p.sha256.as_str()));
        if stopped || upgrade {
            for name in OF_A_START {
                ctx.planned.set(name, Value::unknown());
            }
        }
        Ok(())
    }

    async fn create(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let name = ctx.planned.view().attr("name").str()?.to_owned();
        let limit = ctx.timeout(Op::Create);
        let cancel = ctx.cancel.clone();
        let fleet = bring_up::create(&settings, &ctx.planned, limit, &cancel).await?;
        let mut state = ctx.planned.clone();
        let answered = put(&mut state, &fleet, &settings).await;
        match answered {
            Ok(()) => {
                ctx.save(state);
                Ok(())
            }
            // It answered a moment ago; what it is now is for the next plan to see.
            Err(unreachable) => {
                let detail = describe(unreachable)?;
                ctx.save(state.unknown_as_null());
                ctx.warn(
                    format!("Fleet {name} came up and does not answer any more"),
                    detail,
                );
                Ok(())
            }
        }
    }

    async fn read(&self, ctx: &mut ReadCtx) -> Result<ReadOutcome, Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let name = ctx.state.view().attr("name").str()?.to_owned();
        let Some(fleet) = settings.local.fleet(&name).await? else {
            return Ok(ReadOutcome::Gone);
        };
        if is_another(&ctx.state, &fleet) {
            return Ok(ReadOutcome::Gone);
        }
        if fleet.instance.state == InstanceState::Terminating {
            let detail = format!(
                "The end of its instance {} was begun and not seen through: destroying goes on with it, applying ends \
                 it and makes the fleet anew.",
                fleet.instance.id
            );
            ctx.warn(format!("Fleet {name} was being destroyed"), detail);
            let state = ctx.state.clone().with("status", TERMINATING);
            return Ok(ReadOutcome::State(state));
        }
        Note::confirm(&settings, &name)?;
        let mut state = ctx.state.clone();
        if let Err(unreachable) = put(&mut state, &fleet, &settings).await {
            let detail = describe(unreachable)?;
            ctx.warn(format!("Fleet {name} does not answer"), detail);
        }
        Ok(ReadOutcome::State(state))
    }

    async fn update(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let name = ctx.planned.view().attr("name").str()?.to_owned();
        let limit = ctx.timeout(Op::Update);
        let cancel = ctx.cancel.clone();
        let fleet = bring_up::start(&settings, &name, limit, &cancel).await?;
        let mut state = ctx.planned.clone();
        put(&mut state, &fleet, &settings)
            .await
            .map_err(|unreachable| match describe(unreachable) {
                Ok(why) => {
                    Diagnostic::error(format!("Fleet {name} was started and does not answer"), why)
                        .into()
                }
                Err(diagnostics) => diagnostics,
            })?;
        ctx.save(state);
        Ok(())
    }

    async fn delete(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let name = ctx.prior.view().attr("name").str()?.to_owned();
        let Some(fleet) = settings.local.fleet(&name).await? else {
            return Note::remove(&settings, &name);
        };
        if is_another(&ctx.prior, &fleet) {
            // The one we knew is gone, and who has its name now is not ours to end.
            return Ok(());
        }
        refuse_while_pools_remain(ctx, &settings, &fleet).await?;
        if let Some(connection) = &fleet.connection {
            settings.forget(&connection.id);
        }
        lost::terminate(&settings, std::slice::from_ref(&fleet.instance)).await?;
        // Without a lead its nodes are nobody's: whatever is left of the fleet goes with it.
        let nodes = lost::fleet_instances(&settings, &name).await?;
        lost::terminate(&settings, &nodes).await?;
        let left = lost::fleet_instances(&settings, &name).await?;
        if !left.is_empty() {
            let ids: Vec<_> = left.iter().map(|i| i.id.to_string()).collect();
            let detail = format!("{} are still there. Destroy again.", ids.join(", "));
            return Err(Diagnostic::error(format!("Fleet {name} is not gone"), detail).into());
        }
        Note::remove(&settings, &name)
    }

    async fn import(&self, ctx: &mut ImportCtx) -> Result<Value, Diagnostics> {
        let name = match &ctx.identity {
            Some(identity) => identity.view().attr("name").str()?.to_owned(),
            None => ctx.id.clone(),
        };
        if let Err(e) = FleetName::new(name.as_str()) {
            return Err(Diagnostic::error("Malformed import id", e.to_string()).into());
        }
        let settings = ctx.data::<Settings>()?;
        let mut stub = ctx.empty.clone().with("name", name.as_str());
        if let Some(fleet) = settings.local.fleet(&name).await? {
            bring_up::put_configured(&mut stub, &fleet)?;
        }
        Ok(stub)
    }
}

/// Problems of a configuration that can be told already.
fn check(config: &Value) -> Problems {
    let mut problems = Problems::default();
    if let Some(name) = config.get("name").as_str()
        && let Err(e) = FleetName::new(name)
    {
        problems.add("name", name, format!("is not {}", e.expected), "");
    }
    let local = config.get("local");
    if let Some(layout) = local.get("simulate").as_str()
        && let Err(e) = parse_layout(layout)
    {
        problems.add(
            "local.simulate",
            layout,
            format!("is not {}", e.expected),
            "",
        );
    }
    if let Some(listen) = local.get("listen").as_str()
        && listen.parse::<std::net::SocketAddr>().is_err()
    {
        let fix =
            "use an address and a port such as \"127.0.0.1:7443\", or port 0 for any free one";
        problems.add("local.listen", listen, "is not an address with a port", fix);
    }
    problems
}

/// The fleet's own pools are destroyed before it; one that is left belongs to somebody else.
async fn refuse_while_pools_remain(
    ctx: &mut ApplyCtx,
    settings: &Settings,
    fleet: &LocalFleet,
) -> Result<(), Diagnostics> {
    let lead = match &fleet.connection {
        Some(connection) if fleet.instance.state == InstanceState::Running => {
            settings.reach(connection).await
        }
        _ => Err(Unreachable::Silent("Its process does not run.".to_owned())),
    };
    let pools = match lead {
        Ok(lead) => {
            lead.client()
                .list_objects(Some(gpuloom_fleet::Kind::Pool))
                .await
        }
        Err(unreachable) => {
            let why = describe(unreachable)?;
            let detail = format!(
                "{why} Whether pools are left in it could not be asked; nodes that are still there were found by \
                 their tags and terminated."
            );
            ctx.warn(
                format!("The lead of fleet {} did not answer", fleet.name),
                detail,
            );
            return Ok(());
        }
    };
    let tried = format!("Cannot destroy fleet {}", fleet.name);
    let pools = pools.map_err(|e| crate::say::failed(&tried, &e, None))?;
    if pools.is_empty() {
        return Ok(());
    }
    let listed: Vec<_> = pools
        .iter()
        .map(|p| format!("{} (of {})", p.object.name(), p.owner))
        .collect();
    let detail = format!(
        "It has the pools {}, which are not destroyed with it. Destroy them first, with the configuration that \
         declared them.",
        listed.join(", ")
    );
    Err(Diagnostic::error(tried, detail).into())
}

/// Whether another fleet has the name of the one in `state` by now.
fn is_another(state: &Value, present: &LocalFleet) -> bool {
    let stored = state.get("connection").get("id").as_str();
    let present = present.connection.as_ref().map(|c| c.id.as_str());
    stored.zip(present).is_some_and(|(s, p)| s != p)
}

/// Why nobody answers, in words; an answer of somebody who does not serve us is an error.
fn describe(unreachable: Unreachable) -> Result<String, Diagnostics> {
    match unreachable {
        Unreachable::Silent(why) => Ok(crate::say::sentences(&[&why])),
        Unreachable::Refused(diagnostics) => Err(diagnostics),
    }
}

/// Writes the fleet as it is. What a lead that does not answer would say stays as it was.
async fn put(
    state: &mut Value,
    fleet: &LocalFleet,
    settings: &Settings,
) -> Result<(), Unreachable> {
    bring_up::put_configured(state, fleet).map_err(Unreachable::Refused)?;
    state.set("agent_binary", fleet.program.path.display().to_string());
    state.set("agent_sha256", fleet.program.sha256.as_str());
    state.set("data_dir", fleet.data_dir.display().to_string());
    let connection = fleet.connection.as_ref();
    if let Some(connection) = connection {
        state.set("connection", connection.value());
    }
    state.set("metrics_endpoint", fleet.metrics_endpoint.clone());
    if fleet.instance.state == InstanceState::Stopped {
        state.set("status", "stopped");
        return Ok(());
    }
    state.set("status", "unreachable");
    let Some(connection) = connection else {
        let why = format!(
            "it has not said yet where it answers; its log is {}/agent.log",
            fleet.data_dir.display()
        );
        return Err(Unreachable::Silent(why));
    };
    let lead = settings.reach(connection).await?;
    failpoint::hit("provider.fleet.answer.after");
    state.set("status", "running");
    state.set("agent_version", lead.hello().version.as_str());
    state.set("backend", lead.hello().backend.as_str());
    Ok(())
}
