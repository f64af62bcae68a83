//! Declared objects and pools.

use super::jobs::tone;
use crate::output::{Style, Table, dash, plain};
use gpuloom_api::proto::PoolView;
use gpuloom_api::{ObjectView, convert};
use gpuloom_fleet::{Object, PoolPhase};

/// Declared objects in rows.
pub(crate) fn objects(views: &[ObjectView], style: Style) -> String {
    let heads = ["KIND", "NAME", "GENERATION", "OWNER", "DECLARED"];
    let mut table = Table::new(&heads).right(&[2]);
    for v in views {
        let owner = match (v.builtin, v.withdrawing) {
            (true, _) => "built in".to_owned(),
            (false, true) => format!("{} (withdrawn)", v.owner),
            (false, false) => v.owner.clone(),
        };
        let declared = if v.builtin {
            "-".to_owned()
        } else {
            style.ago(v.declared_at.0)
        };
        table.row(vec![
            plain(v.object.kind().as_str()),
            plain(v.object.name()),
            plain(v.generation.to_string()),
            plain(owner),
            plain(declared),
        ]);
    }
    table.show_or(style, "nothing is declared")
}

/// Pools in rows; objects of other kinds are left out.
pub(crate) fn pools(views: &[ObjectView], style: Style) -> String {
    let heads = [
        "POOL",
        "GPUS PER NODE",
        "READY",
        "BOUNDS",
        "PHASE",
        "JOBS",
        "SHORTFALL",
    ];
    let mut table = Table::new(&heads).right(&[5]);
    for view in views {
        let Object::Pool(spec) = &view.object else {
            continue;
        };
        let seen = view.pool.clone().unwrap_or_default();
        let phase = phase_word(&seen);
        table.row(vec![
            plain(spec.name.as_str()),
            plain(format!("{} x {}", spec.gpu.per_node, spec.gpu.model)),
            plain(format!("{}/{}", seen.ready, seen.wanted)),
            plain(format!("{} to {}", spec.min, spec.max)),
            (phase.to_owned(), tone(phase)),
            plain(seen.running_jobs.to_string()),
            plain(dash(&seen.shortfall)),
        ]);
    }
    table.show_or(style, "no pools: declare one in Terraform (gpuloom_pool)")
}

/// The phase in one word; `unknown` for one of a newer fleet.
pub(crate) fn phase_word(view: &PoolView) -> &'static str {
    match convert::pool_status(view).map(|s| s.phase) {
        Ok(PoolPhase::Provisioning) => "provisioning",
        Ok(PoolPhase::Ready) => "ready",
        Ok(PoolPhase::Degraded) => "degraded",
        Ok(PoolPhase::Draining) => "draining",
        Err(_) => "unknown",
    }
}

/// One line about a pool that comes up.
pub(crate) fn progress(name: &str, view: &PoolView) -> String {
    let mut text = format!("{name}: {}/{} nodes ready", view.ready, view.wanted);
    if view.provisioned > view.ready {
        text += &format!(", {} starting", view.provisioned - view.ready);
    }
    if !view.shortfall.is_empty() {
        text += &format!(" ({})", view.shortfall);
    }
    text
}
