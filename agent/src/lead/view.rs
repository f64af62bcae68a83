//! What people, the provider and metrics read of the state.

use super::state::{State, Waits, live_attempt, not_before};
use crate::lead::record::JobRecord;
use gpuloom_api::convert::{JobExtras, device_health_word, job_view, node_view, pool_view};
use gpuloom_api::proto;
use gpuloom_fleet::{
    AttemptId, Bytes, EndCause, Exit, JobId, JobState, Kind, MilliGpu, Millis, NodeId, NodeStatus,
    Object, ObjectRecord, PoolName, PoolStatus, Seconds, TenantName, builtin_priority_classes,
};
use gpuloom_watch::Reading;

/// Readings older than this do not count in sums.
const FRESH: Seconds = Seconds(10);
/// Jobs named in one sentence.
const NAMED: usize = 5;

/// A job with why it waits or how it ended.
pub(crate) fn job(state: &State, record: &JobRecord) -> proto::JobView {
    let class = record.job.spec.priority_class.as_ref();
    let id = record.job.id;
    let reason = state.reasons.get(&id);
    let pending = matches!(record.job.state, JobState::Pending { .. });
    let memory_used = live_attempt(record).and_then(|a| {
        let attempt = AttemptId {
            job: id,
            number: a.number,
        };
        state.live.get(&a.node)?.attempts.get(&attempt).copied()?
    });
    job_view(
        &record.job,
        JobExtras {
            priority: state.priority_class(class).map_or(0, |c| c.value),
            why: why(state, record),
            position: reason.filter(|_| pending).map(|(place, _)| *place),
            memory_used,
        },
    )
}

fn why(state: &State, record: &JobRecord) -> Vec<String> {
    let job = &record.job;
    match job.state {
        JobState::Pending { .. } => {
            let mut why = Vec::new();
            if let Waits::For(jobs) = state.waits(record) {
                let names: Vec<String> = jobs.iter().take(NAMED).map(JobId::to_string).collect();
                let more = jobs.len().saturating_sub(NAMED);
                let more = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                why.push(format!(
                    "it waits for job {}{more} to end",
                    names.join(", ")
                ));
            } else if let Some((_, reason)) = state.reasons.get(&job.id) {
                why.push(reason.to_string());
            }
            if job.preemptions > 0 || job.failures > 0 {
                why.extend(last_end(record));
            }
            if let Some(at) = not_before(record) {
                why.push(format!("its next attempt is not before {} ms", at.0));
            }
            why
        }
        JobState::Active { .. } => match live_attempt(record).map(|a| &a.state) {
            Some(gpuloom_fleet::AttemptState::Stopping { cause, .. }) => {
                vec![format!("it is stopping: {cause}")]
            }
            _ => Vec::new(),
        },
        JobState::Succeeded { .. } => Vec::new(),
        _ if !record.note.is_empty() => vec![record.note.clone()],
        _ => last_end(record).into_iter().collect(),
    }
}

/// How the last attempt ended, in a sentence.
fn last_end(record: &JobRecord) -> Option<String> {
    let attempt = record.job.attempts.last()?;
    let gpuloom_fleet::AttemptState::Ended(end) = &attempt.state else {
        return None;
    };
    let how = match (&end.cause, end.exit) {
        (EndCause::Exited, Some(Exit::Code(code))) => format!("exited with {code}"),
        (EndCause::Exited, Some(Exit::Signal(signal))) => format!("was ended by signal {signal}"),
        (EndCause::Exited, None) => "ended".to_owned(),
        (EndCause::Stopped { why }, _) => format!("was stopped: {why}"),
        (EndCause::LaunchFailed { message }, _) => format!("could not be started: {message}"),
        (EndCause::Lost { message }, _) => format!("was lost: {message}"),
    };
    let made = record.job.attempts_made;
    Some(format!("attempt {made} on {} {how}", attempt.node))
}

/// A node with its devices, what is held of them and what they said last. A tenant sees that
/// others hold something, and not which of their attempts or processes.
pub(crate) fn node(
    state: &State,
    id: &NodeId,
    only: Option<&TenantName>,
) -> Option<proto::NodeView> {
    let record = state.nodes.get(id)?;
    let live = state.live.get(id);
    let (node_state, reason) = state.node_state(id);
    let mut view = node_view(&NodeStatus {
        id: id.clone(),
        pool: record.pool.clone(),
        state: node_state,
        reason,
        endpoint: record.endpoint.clone(),
        backend: record.backend,
        devices: record.devices.clone(),
        capabilities: record.capabilities.clone(),
        agent_version: record.agent_version.clone(),
        last_seen: live.map(|l| l.last_seen),
        joined_at: record.joined_at,
    });
    if record.endpoint.is_empty() {
        // It joined and has not reported: where its readings will come from is not known yet.
        view.backend.clear();
    }
    for (device, shown) in record.devices.iter().zip(&mut view.devices) {
        let held = state.held_on(&device.id);
        shown.share_held_milli = held.share.0;
        shown.memory_held_bytes = held.memory.0;
        let attempts = held.attempts.iter().filter(|a| is_of(state, a.job, only));
        shown.attempts = attempts.map(AttemptId::to_string).collect();
        if let Some((health, why)) = live.and_then(|l| l.health.get(&device.id)) {
            shown.health = device_health_word(*health).to_owned();
            shown.health_reason.clone_from(why);
        }
        let newest = live.and_then(|l| l.histories.of(&device.id)?.newest());
        shown.reading = newest.map(|r| reading(r, only));
    }
    Some(view)
}

/// Whether a caller may know the job: the admin knows all, a tenant its own.
fn is_of(state: &State, job: JobId, only: Option<&TenantName>) -> bool {
    only.is_none_or(|t| {
        let record = state.jobs.get(&job);
        record.is_some_and(|r| r.job.spec.tenant == *t)
    })
}

/// A reading on the wire. Whose a process is its node alone knows: a tenant is told of none.
pub(crate) fn reading(r: &Reading, only: Option<&TenantName>) -> proto::Reading {
    let processes = r.processes.iter().flatten().filter(|_| only.is_none());
    proto::Reading {
        device: r.device.to_string(),
        at_ms: r.at.0,
        utilization_milli: r.utilization_milli,
        memory_used_bytes: r.memory_used.map(|b| b.0),
        memory_total_bytes: r.memory_total.map(|b| b.0),
        temperature_c: r.temperature_c,
        power_mw: r.power_mw,
        power_limit_mw: r.power_limit_mw,
        sm_clock_mhz: r.sm_clock_mhz,
        ecc_uncorrected: r.ecc_uncorrected,
        processes: processes
            .map(|p| proto::ProcessUse {
                pid: p.pid,
                memory_bytes: p.memory.map(|b| b.0),
                attempt: String::new(),
            })
            .collect(),
        lost: r.lost,
    }
}

/// Every node of a pool, or of all, as [`node`] shows them.
pub(crate) fn nodes(
    state: &State,
    pool: Option<&PoolName>,
    only: Option<&TenantName>,
) -> Vec<proto::NodeView> {
    let shown = state
        .nodes
        .values()
        .filter(|n| pool.is_none_or(|p| n.pool == *p));
    shown.filter_map(|n| node(state, &n.id, only)).collect()
}

/// A pool as its watchers see it; one that is not there is gone.
pub(crate) fn pool(state: &State, name: &PoolName) -> proto::PoolView {
    let Some(status) = state.pools.get(name) else {
        return proto::PoolView {
            gone: true,
            ..proto::PoolView::default()
        };
    };
    let nodes = state.nodes.values().filter(|n| n.pool == *name);
    let running = state.jobs_in_pool(name).count() as u64;
    let status = PoolStatus {
        ready: state.ready_nodes(name),
        ..status.clone()
    };
    pool_view(&status, nodes.map(|n| n.id.to_string()).collect(), running)
}

/// A declared object, or a built-in priority class that nobody declared.
pub(crate) fn object(state: &State, kind: Kind, name: &str) -> Option<proto::ObjectRecord> {
    if let Some(record) = state.object(kind, name) {
        return Some(object_record(state, record));
    }
    let builtin = (kind == Kind::PriorityClass).then(builtin_priority_classes)?;
    let class = builtin.into_iter().find(|c| c.name.as_str() == name)?;
    Some(builtin_record(class))
}

/// Every object of a kind, or of all; `tenant` restricts what names tenants to its own.
pub(crate) fn objects(
    state: &State,
    kind: Option<Kind>,
    tenant: Option<&TenantName>,
) -> Vec<proto::ObjectRecord> {
    let line = tenant.map(|t| state.lineage(t));
    let visible = |object: &Object| {
        let Some(line) = &line else { return true };
        match object {
            Object::Tenant(s) => line.contains(&&s.name),
            Object::Quota(s) => line.contains(&&s.tenant),
            Object::LimitRange(s) => s.tenant.as_ref().is_none_or(|t| line.contains(&t)),
            _ => true,
        }
    };
    let mut found: Vec<proto::ObjectRecord> = state
        .objects
        .values()
        .filter(|r| kind.is_none_or(|k| r.object.kind() == k) && visible(&r.object))
        .map(|r| object_record(state, r))
        .collect();
    if kind.is_none_or(|k| k == Kind::PriorityClass) {
        let undeclared = builtin_priority_classes()
            .into_iter()
            .filter(|c| state.object(Kind::PriorityClass, c.name.as_str()).is_none());
        found.extend(undeclared.map(builtin_record));
    }
    found
}

fn object_record(state: &State, record: &ObjectRecord) -> proto::ObjectRecord {
    let mut view = proto::ObjectRecord::from(record);
    if let Object::Pool(spec) = &record.object {
        view.pool = Some(pool(state, &spec.name));
    }
    view
}

fn builtin_record(class: gpuloom_fleet::PriorityClassSpec) -> proto::ObjectRecord {
    proto::ObjectRecord {
        object: Some((&Object::PriorityClass(class)).into()),
        builtin: true,
        ..proto::ObjectRecord::default()
    }
}

/// The fleet in one view; a tenant sees its own usage alone.
pub(crate) fn top(state: &State, only: Option<&TenantName>, now: Millis) -> proto::Top {
    let newest = state
        .live
        .iter()
        .filter(|(id, _)| state.nodes.contains_key(id));
    let sum = gpuloom_watch::sum(newest.flat_map(|(_, l)| l.histories.newest()), now, FRESH);
    let devices = state.nodes.values().flat_map(|n| &n.devices);
    let ledger = state.ledger();
    let held: MilliGpu = ledger.values().map(|h| h.share).sum();
    let held_memory: Bytes = ledger.values().map(|h| h.memory).sum();
    proto::Top {
        fleet: state
            .fleet
            .as_ref()
            .map(|f| f.name.clone())
            .unwrap_or_default(),
        at_ms: now.0,
        nodes: nodes(state, None, only),
        jobs_pending: state.pending.len() as u64,
        jobs_active: state.active.len() as u64,
        gpus_total: devices.clone().count() as u64,
        gpus_held_milli: held.0,
        utilization_mean_milli: sum.utilization_mean_milli,
        memory_total_bytes: devices.map(|d| d.memory).sum::<Bytes>().0,
        memory_held_bytes: held_memory.0,
        memory_used_bytes: sum.memory_used.map(|b| b.0),
        usage: state.tenant_usage(only).iter().map(Into::into).collect(),
        temperature_max_c: sum.temperature_max_c,
        power_total_mw: sum.power_total_mw,
    }
}

/// The queue: waiting jobs by their place, then running ones.
pub(crate) fn queue(
    state: &State,
    only: Option<&TenantName>,
    limit: usize,
) -> proto::ListQueueReply {
    let mine = |id: &&JobId| is_of(state, **id, only);
    let mut pending: Vec<JobId> = state.pending.iter().filter(mine).copied().collect();
    let place = |id: &JobId| state.reasons.get(id).map_or(u64::MAX, |(place, _)| *place);
    pending.sort_by_key(|id| (place(id), *id));
    let active: Vec<JobId> = state.active.iter().filter(mine).copied().collect();
    let shown = pending.iter().chain(&active).take(limit);
    proto::ListQueueReply {
        jobs: shown
            .filter_map(|id| Some(job(state, state.jobs.get(id)?)))
            .collect(),
        pending: pending.len() as u64,
        active: active.len() as u64,
    }
}
