//! Objects name each other: what is named must exist, and circles are refused.

use super::State;
use gpuloom_fleet::{
    Kind, MAX_TENANT_DEPTH, Object, PoolName, PoolPlace, PoolSpec, Problems, TenantName, TenantSpec,
};

/// Every problem of what `object` refers to in `state`.
pub(super) fn check(state: &State, object: &Object) -> Result<(), Problems> {
    let mut p = Problems::default();
    match object {
        Object::Tenant(spec) => parents(state, spec, &mut p),
        Object::Quota(spec) => {
            tenant(state, &spec.tenant, &mut p);
            pool(state, spec.pool.as_ref(), &mut p);
            let same = |q: &&gpuloom_fleet::QuotaSpec| {
                q.tenant == spec.tenant && q.pool == spec.pool && q.name != spec.name
            };
            if let Some(other) = state.quotas().find(same) {
                let place = spec
                    .pool
                    .as_ref()
                    .map_or("the whole fleet".to_owned(), |p| format!("pool {p}"));
                let message = format!("has quota {} for {place} already", other.name);
                p.add("tenant", &spec.tenant, message, "change that quota instead");
            }
        }
        Object::LimitRange(spec) => {
            if let Some(name) = &spec.tenant {
                tenant(state, name, &mut p);
            }
            pool(state, spec.pool.as_ref(), &mut p);
        }
        Object::AutoscalingPolicy(spec) => {
            pool(state, Some(&spec.pool), &mut p);
            let mut policies = state.autoscaling_policies();
            if let Some(other) = policies.find(|o| o.pool == spec.pool && o.name != spec.name) {
                let message = format!("has autoscaling policy {} already", other.name);
                p.add("pool", &spec.pool, message, "change that policy instead");
            }
        }
        Object::Pool(spec) => same_nodes(state, spec, &mut p),
        Object::PriorityClass(_) => {}
    }
    p.into_result()
}

fn tenant(state: &State, name: &TenantName, p: &mut Problems) {
    if state.tenant(name).is_none() {
        let fix = "declare the tenant first";
        p.add("tenant", name, "there is no such tenant", fix);
    }
}

fn pool(state: &State, name: Option<&PoolName>, p: &mut Problems) {
    let Some(name) = name else { return };
    match state.pool(name) {
        None => p.add(
            "pool",
            name,
            "there is no such pool",
            "declare the pool first",
        ),
        Some((_, record)) if record.withdrawing => {
            p.add("pool", name, "is being destroyed", "wait until it is gone");
        }
        Some(_) => {}
    }
}

fn parents(state: &State, spec: &TenantSpec, p: &mut Problems) {
    let Some(parent) = &spec.parent else { return };
    if state.tenant(parent).is_none() {
        let fix = "declare the parent first";
        p.add("parent", parent, "there is no such tenant", fix);
        return;
    }
    let above = state.lineage(parent);
    if above.contains(&&spec.name) {
        let message = format!("is part of {} itself", spec.name);
        p.add("parent", parent, message, "choose a parent outside of it");
        return;
    }
    let depth = above.len() + height(state, &spec.name);
    if depth > MAX_TENANT_DEPTH {
        let message = format!("makes a chain of {depth} parents");
        let fix = format!("use at most {MAX_TENANT_DEPTH} levels above a tenant");
        p.add("parent", parent, message, fix);
    }
}

/// Levels of tenants below `name`.
fn height(state: &State, name: &TenantName) -> usize {
    state
        .tenants()
        .filter_map(|t| {
            let line = state.lineage(&t.name);
            line.iter().position(|above| *above == name)
        })
        .max()
        .unwrap_or(0)
}

fn same_nodes(state: &State, spec: &PoolSpec, p: &mut Problems) {
    let Some((old, _)) = state.pool(&spec.name) else {
        return;
    };
    let fix = "destroy the pool and create it anew (terraform does so by itself)";
    if old.gpu.model != spec.gpu.model {
        let message = format!("is {} on existing nodes", old.gpu.model);
        p.add("gpu.model", &spec.gpu.model, message, fix);
    }
    if old.gpu.per_node != spec.gpu.per_node {
        let message = format!("is {} on existing nodes", old.gpu.per_node);
        p.add("gpu.per_node", spec.gpu.per_node, message, fix);
    }
    // Nodes elsewhere would be left behind, unlisted; what they are made of may change.
    if old.place.home() != spec.place.home() {
        let shown = |place: &PoolPlace| {
            let parts = place.home();
            let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            parts.join("/")
        };
        let message = format!(
            "cannot change while the pool exists: its nodes are in {}",
            shown(&old.place)
        );
        p.add("place", shown(&spec.place), message, fix);
    }
}

/// What keeps the object: `kind name`, in order. Quotas, limit ranges and policies do not keep the
/// pool they name: a pool that is replaced comes back under its name, and until then they wait.
pub(super) fn users(state: &State, kind: Kind, name: &str) -> Vec<String> {
    let mut users = Vec::new();
    for record in state.objects.values() {
        let refers = match (&record.object, kind) {
            (Object::Tenant(s), Kind::Tenant) => {
                s.parent.as_ref().is_some_and(|p| p.as_str() == name)
            }
            (Object::Quota(s), Kind::Tenant) => s.tenant.as_str() == name,
            (Object::LimitRange(s), Kind::Tenant) => {
                s.tenant.as_ref().is_some_and(|t| t.as_str() == name)
            }
            _ => false,
        };
        if refers {
            users.push(format!("{} {}", record.object.kind(), record.object.name()));
        }
    }
    users
}
