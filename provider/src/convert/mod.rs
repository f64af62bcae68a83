//! Between Terraform's values and fleet's types, both ways; nothing else in the provider knows both.
//!
//! Architecture invariant: the rules of what is valid are fleet's own; nothing here repeats them.

mod connection;
mod lead;
mod object;
mod place;
mod pool;
mod problem;
mod quantity;
mod reader;
#[cfg(test)]
mod tests;
mod view;

use std::cell::RefCell;
use std::collections::BTreeMap;

use gpuloom_fleet::{Kind, Object, Problems};
use tfplug::Value;

pub(crate) use connection::Connection;
pub(crate) use lead::{
    CloudSite, DATA_DISK_GIB, LocalSite, Reachability, Site, check_fleet, site, stored_site, stub,
    types_of,
};
pub(crate) use object::DEFAULTS;
pub(crate) use place::{CLOUDS, DISK_GIB};
pub(crate) use pool::{POOL_DEFAULTS, phase_word, stored_place};
pub(crate) use problem::diagnostics;
pub(crate) use quantity::{
    gib_from_bytes, milli_from_number, number_from_micro, number_from_milli,
};
pub(crate) use view::{device_value, job_value, node_value};

use reader::{Reader, StandIn, in_both};

/// The declared attributes of one kind, by name; those of the framework (`fleet`, `generation`,
/// statuses, `timeouts`) are not among them.
pub(crate) type Members = BTreeMap<&'static str, Value>;

/// What is wrong with a configuration whatever its unknown values turn out to be.
pub(crate) fn check(kind: Kind, config: &Value) -> Problems {
    let judge = |stand_in| {
        let problems = RefCell::new(Vec::new());
        let object = read(kind, &Reader::new(config, stand_in, false, &problems));
        let mut problems = problems.into_inner();
        if let Some(Err(found)) = object.map(|o| o.check()) {
            problems.extend(found.0);
        }
        problems
    };
    in_both(judge(StandIn::Lowest), &judge(StandIn::Highest))
}

/// The object that a wholly known value declares.
///
/// # Errors
/// Every attribute that does not read or breaks a rule.
pub(crate) fn object(kind: Kind, value: &Value) -> Result<Object, Problems> {
    let problems = RefCell::new(Vec::new());
    let object = read(kind, &Reader::new(value, StandIn::Lowest, true, &problems));
    Problems(problems.into_inner()).into_result()?;
    let object = object.ok_or_else(Problems::default)?;
    object.check()?;
    Ok(object)
}

fn read(kind: Kind, reader: &Reader<'_>) -> Option<Object> {
    match kind {
        Kind::Pool => pool::read(reader).map(Object::Pool),
        Kind::Tenant => object::tenant(reader).map(Object::Tenant),
        Kind::Quota => object::quota(reader).map(Object::Quota),
        Kind::PriorityClass => object::priority_class(reader).map(Object::PriorityClass),
        Kind::LimitRange => object::limit_range(reader).map(Object::LimitRange),
        Kind::AutoscalingPolicy => {
            object::autoscaling_policy(reader).map(Object::AutoscalingPolicy)
        }
    }
}

/// The declared attributes of an object, in their canonical form.
pub(crate) fn members(object: &Object) -> Members {
    match object {
        Object::Pool(spec) => pool::members(spec),
        Object::Tenant(spec) => object::tenant_members(spec),
        Object::Quota(spec) => object::quota_members(spec),
        Object::PriorityClass(spec) => object::priority_class_members(spec),
        Object::LimitRange(spec) => object::limit_range_members(spec),
        Object::AutoscalingPolicy(spec) => object::autoscaling_policy_members(spec),
    }
}

/// The canonical form of what a value declares, however it is written; unreadable and unknown
/// parts stand as the lowest.
fn canonical(kind: Kind, value: &Value) -> Option<Members> {
    let problems = RefCell::new(Vec::new());
    let object = read(kind, &Reader::new(value, StandIn::Lowest, false, &problems))?;
    Some(members(&object))
}

/// Writes the object's declared attributes into `state`, keeping what is written there already
/// wherever it means the same: `60s` stays `60s`.
pub(crate) fn write(object: &Object, state: &mut Value) {
    let before = match state.get("name").as_str() {
        Some(_) => canonical(object.kind(), state),
        None => None,
    };
    for (name, value) in members(object) {
        let stored = state.get(name);
        let same = before.as_ref().and_then(|b| b.get(name)) == Some(&value);
        let unset = stored.is_unknown() || stored.is_null() && !value.is_null();
        if !same || unset {
            state.set(name, value);
        }
    }
}

/// Keeps the stored wording of every attribute whose new wording means the same, so that a plan
/// shows nothing. True when something else changes, or may.
pub(crate) fn keep_wording(kind: Kind, planned: &mut Value, prior: &Value) -> bool {
    let (new, old) = match (canonical(kind, planned), canonical(kind, prior)) {
        (Some(new), Some(old)) => (new, old),
        _ => return true,
    };
    let mut changes = false;
    for (name, value) in new {
        let written = planned.get(name);
        let stored = prior.get(name);
        let same = written.is_wholly_known() && old.get(name) == Some(&value);
        if same && !written.is_null() && !stored.is_null() && same_presence(written, stored) {
            let stored = stored.clone();
            planned.set(name, stored);
        }
        changes |= !same;
    }
    changes
}

/// True when the same members are set in both, at every depth: Terraform lets a plan keep a stored
/// value, but not add one that the configuration leaves out.
fn same_presence(a: &Value, b: &Value) -> bool {
    match (a.members(), b.members()) {
        (Some(a), Some(b)) => {
            a.len() == b.len()
                && a.iter().all(|(name, value)| {
                    b.get(name).is_some_and(|other| {
                        value.is_null() == other.is_null() && same_presence(value, other)
                    })
                })
        }
        (None, None) => true,
        _ => false,
    }
}
