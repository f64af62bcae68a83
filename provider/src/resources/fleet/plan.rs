//! What a plan of a fleet announces.

use tfplug::{Diagnostics, PlanCtx, Value};

use super::request::revision;
use super::{REVISION, TERMINATING};
use crate::configure::Settings;
use crate::convert::{self, Reachability, Site};
use crate::lead_instance::LEAD_PORT;

/// The kinds of place, each a block.
const PLACES: [&str; 4] = ["local", "aws", "gcp", "azure"];
/// What a start of the lead may change.
const OF_A_START: [&str; 5] = [
    "status",
    "agent_binary",
    "agent_sha256",
    "agent_version",
    "metrics_endpoint",
];
/// What a launch of another instance may change beside that.
const OF_A_LAUNCH: [&str; 2] = ["instance_id", "offering"];

/// See [`tfplug::Resource::plan`].
pub(super) fn plan(ctx: &mut PlanCtx) -> Result<(), Diagnostics> {
    for kind in PLACES {
        if ctx.prior.get(kind).is_null() != ctx.planned.get(kind).is_null() {
            ctx.require_replace(kind);
        }
    }
    warn_of_no_identity(ctx);
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
    if ctx.planned.get("local").is_null() {
        plan_on_cloud(ctx, stopped);
    } else {
        // Without a program at hand there is nothing to upgrade to.
        let upgrade = settings
            .local
            .program()
            .is_ok_and(|p| ctx.prior.get("agent_sha256").as_str() != Some(p.sha256.as_str()));
        if stopped || upgrade {
            announce(ctx, &OF_A_START);
        }
    }
    Ok(())
}

/// A lead without permissions cannot say who it is: it tags its own instance.
fn warn_of_no_identity(ctx: &mut PlanCtx) {
    let identities = [
        ("aws", "instance_profile"),
        ("gcp", "service_account"),
        ("azure", "identity"),
    ];
    for (kind, name) in identities {
        let block = ctx.planned.get(kind);
        if !block.is_null() && block.get(name).is_null() && ctx.is_create() {
            ctx.warn(
                "The fleet's lead may not come up",
                format!(
                    "{kind}.{name} is not set. The lead tags its own instance with who it is and launches the nodes of \
                     pools: without permissions, and unless its image brings credentials, it can do neither. The guide \
                     Clouds lists them."
                ),
            );
        }
    }
}

fn plan_on_cloud(ctx: &mut PlanCtx, stopped: bool) {
    let Some(kind) = ["aws", "gcp", "azure"]
        .into_iter()
        .find(|kind| !ctx.planned.get(kind).is_null())
    else {
        return;
    };
    let known = ctx.planned.get(kind).is_wholly_known();
    let site = known.then(|| convert::stored_site(&ctx.planned));
    let stands = ctx.private.get_str(REVISION).map(str::to_owned);
    let other = match &site {
        Some(site) => stands.as_deref() != Some(revision(site.place()).as_str()),
        None => true,
    };
    if stopped || other {
        announce(ctx, &OF_A_START);
        announce(ctx, &OF_A_LAUNCH);
    }
    let name = match site.as_ref().and_then(Site::cloud).map(|c| &c.reachability) {
        Some(Reachability::Dns(name)) => Some(format!("{name}:{LEAD_PORT}")),
        _ => None,
    };
    let path = format!("{kind}.reachability");
    let moves = stopped || other || ctx.changes(path.as_str()) || name.is_some();
    if moves
        && !ctx.planned.get("connection").is_null()
        && !ctx.planned.get("connection").is_unknown()
    {
        let endpoints = match name {
            Some(name) => Value::list([name]),
            None => Value::unknown(),
        };
        let connection = ctx.planned.get("connection").clone();
        ctx.planned
            .set("connection", connection.with("endpoints", endpoints));
    }
}

fn announce(ctx: &mut PlanCtx, names: &[&str]) {
    for name in names {
        ctx.planned.set(name, Value::unknown());
    }
}
