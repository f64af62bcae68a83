//! What the fleet has: nodes, GPUs, tenants, pools, objects, events.

use super::Session;
use crate::args::{OutputFormat, PoolsCommand};
use crate::exit::{CliError, Exit};
use crate::output::{print, print_json};
use crate::render::{devices as render, events, json, objects as declared, usage};
use gpuloom_api::ObjectView;
use gpuloom_api::proto::PoolView;
use gpuloom_fleet::{Kind, PoolName, Seconds, TenantName};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::time::Duration;

pub(super) async fn nodes(s: &Session, pool: Option<PoolName>) -> Result<Exit, CliError> {
    let nodes = s.client.nodes(pool.as_ref()).await?;
    s.show(
        |style| render::nodes(&nodes, style),
        || json!({ "nodes": json::list(&nodes, json::node) }),
    )
}

pub(super) async fn devices(s: &Session, pool: Option<PoolName>) -> Result<Exit, CliError> {
    let nodes = s.client.nodes(pool.as_ref()).await?;
    s.show(
        |style| render::devices(&nodes, style),
        || {
            let all = nodes.iter().flat_map(|n| &n.devices).map(json::device);
            json!({ "devices": all.collect::<Vec<_>>() })
        },
    )
}

pub(super) async fn history(s: &Session, device: &str, limit: u32) -> Result<Exit, CliError> {
    let reply = s.client.history(device, limit).await?;
    s.show(
        |style| render::history(&reply, style),
        || {
            json!({
                "device": device,
                "capacity": reply.capacity,
                "readings": json::list(&reply.readings, json::reading),
            })
        },
    )
}

pub(super) async fn quota(s: &Session, tenant: Option<TenantName>) -> Result<Exit, CliError> {
    let rows = s.client.usage(tenant.as_ref()).await?;
    s.show(
        |style| usage::usage(&rows, style),
        || json!({ "usage": json::list(&rows, json::usage) }),
    )
}

pub(super) async fn objects(s: &Session, kind: Option<Kind>) -> Result<Exit, CliError> {
    let views = s.client.list_objects(kind).await?;
    s.show(
        |style| declared::objects(&views, style),
        || json!({ "objects": json::list(&views, json::object) }),
    )
}

pub(super) async fn get(s: &Session, kind: Kind, name: &str) -> Result<Exit, CliError> {
    let view = s.client.get_object(kind, name, false).await?;
    let view: ObjectView = view.ok_or_else(|| {
        CliError::NotFound(format!(
            "there is no {kind} {name:?}: `gpuloom objects {kind}` lists them"
        ))
    })?;
    print_json(&json::object(&view))?;
    Ok(Exit::OK)
}

pub(super) async fn events(
    s: &Session,
    follow: bool,
    after: u64,
    limit: u64,
) -> Result<Exit, CliError> {
    let mut updates = s.client.events(after, follow, limit).await?;
    while let Some(event) = updates.next().await? {
        match s.output {
            OutputFormat::Table => print(&events::line(&event))?,
            OutputFormat::Json => {
                let read: Value = serde_json::from_str(&event.json).unwrap_or(Value::Null);
                let what = &read["what"];
                let line = json!({ "seq": event.seq, "at_ms": event.at_ms, "what": what });
                print(&format!("{line}\n"))?;
            }
        }
    }
    Ok(Exit::OK)
}

pub(super) async fn pools(s: &Session, command: Option<PoolsCommand>) -> Result<Exit, CliError> {
    if let Some(PoolsCommand::Wait { pool, timeout }) = command {
        return wait(s, &pool, timeout).await;
    }
    let views = s.client.list_objects(Some(Kind::Pool)).await?;
    s.show(
        |style| declared::pools(&views, style),
        || json!({ "pools": json::list(&views, json::object) }),
    )
}

async fn wait(s: &Session, pool: &PoolName, timeout: Seconds) -> Result<Exit, CliError> {
    let bar = ProgressBar::new(0);
    // A template that does not parse would show the plain bar.
    if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:24}] {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut last = PoolView::default();
    let watched = until_ready(s, pool, &bar, &mut last);
    let done = tokio::time::timeout(Duration::from_secs(timeout.0), watched).await;
    bar.finish_and_clear();
    let view = done.unwrap_or_else(|_| {
        let stands = declared::progress(pool.as_str(), &last);
        Err(CliError::Failed(format!("after {timeout} {stands}")))
    })?;
    s.show(
        |_| format!("{}\n", declared::progress(pool.as_str(), &view)),
        || json::pool_view(&view),
    )
}

async fn until_ready(
    s: &Session,
    pool: &PoolName,
    bar: &ProgressBar,
    last: &mut PoolView,
) -> Result<PoolView, CliError> {
    let mut updates = s.client.watch_pool(pool).await?;
    let mut seen = false;
    while let Some(view) = updates.next().await? {
        if view.gone && !seen {
            let fix = "`gpuloom pools` lists them";
            return Err(CliError::NotFound(format!(
                "there is no pool {pool}: {fix}"
            )));
        }
        seen = true;
        bar.set_length(u64::from(view.wanted));
        bar.set_position(u64::from(view.ready));
        bar.set_message(declared::progress(pool.as_str(), &view));
        if let Some(verdict) = verdict(pool, &view) {
            return verdict.map(|()| view);
        }
        *last = view;
    }
    Err(CliError::NotFound(format!("pool {pool} is gone")))
}

/// Whether waiting is over: the pool is ready, or will never be.
fn verdict(pool: &PoolName, view: &PoolView) -> Option<Result<(), CliError>> {
    match declared::phase_word(view) {
        _ if view.gone => Some(Err(CliError::NotFound(format!("pool {pool} is gone")))),
        "draining" => {
            let why = format!("pool {pool} is withdrawn: its nodes are ending");
            Some(Err(CliError::Failed(why)))
        }
        "ready" if view.ready >= view.wanted => Some(Ok(())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_api::proto::pool_view::Phase;

    #[test]
    fn waiting_ends_when_a_pool_is_ready_or_never_will_be() {
        let pool = PoolName::new("t4").expect("a name");
        let view = |phase: Phase, ready, gone| PoolView {
            wanted: 2,
            ready,
            phase: phase.into(),
            gone,
            ..Default::default()
        };
        for (seen, exit) in [
            (view(Phase::Provisioning, 0, false), None),
            (view(Phase::Degraded, 1, false), None),
            (view(Phase::Ready, 1, false), None),
            (view(Phase::Ready, 2, false), Some(0)),
            (view(Phase::Draining, 2, false), Some(1)),
            (view(Phase::Draining, 0, true), Some(3)),
        ] {
            let found = verdict(&pool, &seen).map(|v| v.map_or_else(|e| e.exit().0, |()| 0));
            assert_eq!(found, exit, "{seen:?}");
        }
    }
}
