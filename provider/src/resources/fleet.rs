//! `gpuloom_fleet`: the lead, where queue and policies live.

mod bring_up;
mod launch;
pub(super) mod note;
mod plan;
mod request;
mod schema;
#[cfg(test)]
mod tests;

use gpuloom_cloud::{InstanceState, failpoint};
use gpuloom_fleet::FleetName;
use tfplug::{
    ApplyCtx, Diagnostic, Diagnostics, IdentitySchema, ImportCtx, Op, PlanCtx, ReadCtx,
    ReadOutcome, Resource, Schema, Type, ValidateCtx, Value, async_trait,
};

use crate::clouds::shown;
use crate::configure::Settings;
use crate::convert::{self, Site};
use crate::lead::Unreachable;
use crate::lead_instance::{self, LeadAt, LeadInstance};
use crate::{import, lost};
use bring_up::Last;
use launch::Limit;
use note::Note;

/// The status of a fleet whose destruction was interrupted, or whose store is gone.
const TERMINATING: &str = "terminating";
/// The status of a fleet whose lead has no instance any more.
const LOST: &str = "lost";
/// Where the revision and the token of the lead's instance are remembered.
const REVISION: &str = "revision";
const TOKEN: &str = "token";

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
        Some(
            IdentitySchema::new(0)
                .required("name", Type::String, "The fleet's name.")
                .optional(
                    "place",
                    Type::String,
                    "Where its lead runs: left out on this machine, else `aws/<region>`, `gcp/<project>/<region>` or \
                     `azure/<subscription>/<resource group>/<location>`.",
                )
                .optional(
                    "endpoint",
                    Type::String,
                    "The private endpoint of that cloud's calls, if there is one.",
                ),
        )
    }

    fn identity(&self, state: &Value) -> Option<Value> {
        let name = state.get("name").as_str()?;
        let of_cloud = convert::CLOUDS.map(|kind| state.get(kind));
        if of_cloud.iter().any(|block| !block.is_wholly_known()) {
            return None;
        }
        let site = convert::stored_site(state);
        let endpoint = site.place().endpoint().map(str::to_owned);
        Some(Value::object([
            ("name", Value::from(name)),
            ("place", import::place_id(&site).into()),
            ("endpoint", endpoint.into()),
        ]))
    }

    async fn validate(&self, ctx: &mut ValidateCtx) -> Result<(), Diagnostics> {
        let problems = convert::check_fleet(&ctx.config);
        if problems.0.is_empty() {
            Ok(())
        } else {
            Err(convert::diagnostics(&problems))
        }
    }

    /// Announces a start of the lead: when it does not run, or is made of something else than what is planned.
    async fn plan(&self, ctx: &mut PlanCtx) -> Result<(), Diagnostics> {
        plan::plan(ctx)
    }

    async fn create(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let name = ctx.planned.view().attr("name").str()?.to_owned();
        let site = convert::site(&ctx.planned)?;
        let limit = Limit::new(ctx.timeout(Op::Create), &ctx.cancel);
        let labels = bring_up::labels(&ctx.planned);
        if site.cloud().is_some() {
            // Whatever is launched from here on is this resource's to destroy.
            let begun = ctx.planned.clone().unknown_as_null();
            ctx.save(begun.with("status", LOST));
        }
        let created = bring_up::create(&settings, &site, &name, labels, &limit).await;
        let lead = match created {
            Ok(lead) => lead,
            Err(not) if not.left => {
                let mut diagnostics = not.diagnostics;
                let detail = "Its data disk may exist, and its instance unless it was seen gone: the fleet stays in the \
                              state as tainted. Applying again ends what there is and makes it anew; destroying ends it.";
                diagnostics.push(Diagnostic::warning(
                    format!("Something of fleet {name} may be left"),
                    detail,
                ));
                return Err(diagnostics);
            }
            Err(not) => {
                if site.cloud().is_some() {
                    ctx.save(Value::Null);
                }
                return Err(not.diagnostics);
            }
        };
        remember(ctx, &settings, &site, &lead);
        let mut state = ctx.planned.clone();
        let answered = put(&mut state, &site, &lead, &settings).await;
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
        let site = convert::stored_site(&ctx.state);
        let known = ctx.state.get("connection").get("id").as_str();
        let known = known.map(str::to_owned);
        if let Some(id) = &known {
            settings.saw(id, at(&name, &site));
        }
        let found = lead_instance::find(&settings, &site, &name).await?;
        let lead = match found {
            Some(lead) if lead.is_another_than(known.as_deref()) => return Ok(ReadOutcome::Gone),
            Some(lead) if lead.instance.state != InstanceState::Terminating => lead,
            ended => return Ok(read_ended(ctx, &site, &name, known.as_deref(), ended)),
        };
        Note::confirm(&settings, &site, &name)?;
        if let Some(connection) = &lead.connection {
            settings.saw(&connection.id, at(&name, &site));
        }
        let revision = lead.instance.revision().unwrap_or_default();
        ctx.private.set(REVISION, revision);
        ctx.private.set(TOKEN, lead.instance.token.as_str());
        let mut state = ctx.state.clone();
        if let Err(unreachable) = put(&mut state, &site, &lead, &settings).await {
            let detail = describe(unreachable)?;
            ctx.warn(format!("Fleet {name} does not answer"), detail);
        }
        Ok(ReadOutcome::State(state))
    }

    async fn update(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let name = ctx.planned.view().attr("name").str()?.to_owned();
        let site = convert::site(&ctx.planned)?;
        let limit = Limit::new(ctx.timeout(Op::Update), &ctx.cancel);
        let labels = bring_up::labels(&ctx.planned);
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let last = Last {
            offering: text(ctx.prior.get("offering")),
            token: ctx
                .private(TOKEN)
                .and_then(|t| t.as_str().map(str::to_owned)),
        };
        let lead = bring_up::start(&settings, &site, &name, labels, &last, &limit).await?;
        remember(ctx, &settings, &site, &lead);
        refuse_another_store(ctx, &lead, &name)?;
        let mut state = ctx.planned.clone();
        put(&mut state, &site, &lead, &settings)
            .await
            .map_err(|unreachable| match describe(unreachable) {
                Ok(why) => {
                    Diagnostic::error(format!("Fleet {name} was started and does not answer"), why)
                        .into()
                }
                Err(diagnostics) => diagnostics,
            })?;
        ctx.save(state);
        if site.cloud().is_some() {
            Note::remove(&settings, &site, &name)?;
        }
        Ok(())
    }

    async fn delete(&self, ctx: &mut ApplyCtx) -> Result<(), Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let name = ctx.prior.view().attr("name").str()?.to_owned();
        let site = convert::stored_site(&ctx.prior);
        let known = ctx.prior.get("connection").get("id").as_str();
        let known = known.map(str::to_owned);
        let found = lead_instance::find(&settings, &site, &name).await?;
        if let Some(lead) = &found {
            if lead.is_another_than(known.as_deref()) {
                // The one we knew is gone, and who has its name now is not ours to end.
                return Ok(());
            }
            refuse_while_pools_remain(ctx, &settings, lead).await?;
            if let Some(connection) = &lead.connection {
                settings.forget(&connection.id);
            }
        } else if site.cloud().is_none() {
            return Note::remove(&settings, &site, &name);
        }
        let said = found.and_then(|l| l.connection).map(|c| c.id).or(known);
        let limit = ctx.timeout(Op::Delete);
        lost::end_fleet(&settings, &site, &name, said.as_deref(), limit).await?;
        Note::remove(&settings, &site, &name)
    }

    async fn import(&self, ctx: &mut ImportCtx) -> Result<Value, Diagnostics> {
        let (name, place) = match &ctx.identity {
            Some(identity) => import::fleet_by_identity(identity)?,
            None => import::fleet_by_id(&ctx.id)?,
        };
        if let Err(e) = FleetName::new(name.as_str()) {
            return Err(Diagnostic::error("Malformed import id", e.to_string()).into());
        }
        let settings = ctx.data::<Settings>()?;
        let mut stub = ctx.empty.clone().with("name", name.as_str());
        let site = Site::of_place(place);
        match site.cloud() {
            None => {
                if let Some(lead) = lead_instance::find(&settings, &site, &name).await? {
                    bring_up::put_configured(&mut stub, &lead)?;
                }
            }
            Some(cloud) => {
                let block = convert::stub(&cloud.place);
                stub.set(cloud.place.kind(), block);
            }
        }
        Ok(stub)
    }
}

fn at(name: &str, site: &Site) -> LeadAt {
    LeadAt {
        name: name.to_owned(),
        site: site.clone(),
    }
}

/// What later calls need of the lead's instance.
fn remember(ctx: &ApplyCtx, settings: &Settings, site: &Site, lead: &LeadInstance) {
    if let Some(connection) = &lead.connection {
        settings.saw(&connection.id, at(&lead.name, site));
    }
    ctx.set_private(REVISION, lead.instance.revision().unwrap_or_default());
    ctx.set_private(TOKEN, lead.instance.token.as_str());
}

/// A fleet whose lead is not there, or is being ended.
fn read_ended(
    ctx: &mut ReadCtx,
    site: &Site,
    name: &str,
    known: Option<&str>,
    lead: Option<LeadInstance>,
) -> ReadOutcome {
    match (lead, site.cloud()) {
        // On this machine its store goes with it, and what never answered has none.
        (None, None) => ReadOutcome::Gone,
        (None, Some(_)) if known.is_none() && ctx.state.get("status").is_null() => {
            ReadOutcome::Gone
        }
        (Some(lead), None) => {
            let detail = format!(
                "The end of its instance {} was begun and not seen through: destroying goes on with it, applying ends \
                 it and makes the fleet anew.",
                lead.instance.id
            );
            ctx.warn(format!("Fleet {name} was being destroyed"), detail);
            ReadOutcome::State(ctx.state.clone().with("status", TERMINATING))
        }
        (lead, Some(cloud)) => {
            let what = match lead {
                Some(lead) => format!("Its lead's instance {} is being ended", lead.instance.id),
                None => format!(
                    "No instance of its lead is listed in {}",
                    shown(&cloud.place)
                ),
            };
            let detail = format!(
                "{what}. Its queue and its policies are on its data disk: applying launches another instance with that \
                 disk, destroying ends what is left of the fleet."
            );
            ctx.warn(format!("Fleet {name} is without its lead"), detail);
            if ctx.state.get("status").as_str() == Some(TERMINATING) {
                return ReadOutcome::State(ctx.state.clone());
            }
            ReadOutcome::State(ctx.state.clone().with("status", LOST))
        }
    }
}

/// A lead that came up with another store than the fleet's: the disk is gone, and the fleet with it.
fn refuse_another_store(
    ctx: &ApplyCtx,
    lead: &LeadInstance,
    name: &str,
) -> Result<(), Diagnostics> {
    let known = ctx.prior.get("connection").get("id").as_str();
    if !lead.is_another_than(known) {
        return Ok(());
    }
    ctx.save(ctx.prior.clone().with("status", TERMINATING));
    let detail = format!(
        "Instance {} came up with an empty store: the data disk of the fleet is gone, and its queue and policies with \
         it. The next apply ends that instance and makes the fleet anew.",
        lead.instance.id
    );
    Err(Diagnostic::error(format!("Fleet {name} has lost its store"), detail).into())
}

/// The fleet's own pools are destroyed before it; one that is left belongs to somebody else.
async fn refuse_while_pools_remain(
    ctx: &mut ApplyCtx,
    settings: &Settings,
    fleet: &LeadInstance,
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
    site: &Site,
    lead: &LeadInstance,
    settings: &Settings,
) -> Result<(), Unreachable> {
    bring_up::put_configured(state, lead).map_err(Unreachable::Refused)?;
    let (program, sha256) = match (&lead.here, site.place().agent()) {
        (Some(here), _) => (
            Some(here.program.path.display().to_string()),
            Some(here.program.sha256.clone()),
        ),
        (None, gpuloom_fleet::AgentSource::Package { sha256, .. }) => (None, Some(sha256.clone())),
        (None, gpuloom_fleet::AgentSource::Image) => (None, None),
    };
    state.set("agent_binary", program);
    state.set("agent_sha256", sha256);
    state.set("data_dir", lead.data_dir());
    state.set("instance_id", lead.instance.id.as_str());
    state.set("offering", lead.instance.offering.0.as_str());
    let connection = lead.connection.as_ref();
    if let Some(connection) = connection {
        state.set("connection", connection.value());
    }
    state.set("metrics_endpoint", lead.metrics_endpoint.clone());
    if lead.instance.state == InstanceState::Stopped {
        state.set("status", "stopped");
        return Ok(());
    }
    state.set("status", "unreachable");
    let reached = match connection {
        Some(connection) => settings.reach(connection).await,
        None => Err(Unreachable::Silent(not_said(lead))),
    };
    let lead = reached?;
    failpoint::hit("provider.fleet.answer.after");
    state.set("status", "running");
    state.set("agent_version", lead.hello().version.as_str());
    state.set("backend", lead.hello().backend.as_str());
    Ok(())
}

fn not_said(lead: &LeadInstance) -> String {
    match &lead.here {
        Some(_) => format!(
            "it has not said yet where it answers; its log is {}/agent.log",
            lead.data_dir()
        ),
        None => format!(
            "instance {} has not said yet who it is, or has no address of the stated reachability",
            lead.instance.id
        ),
    }
}
