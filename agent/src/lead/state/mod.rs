//! The whole fleet in memory: what the store holds, indexed; and what nodes last said.
//!
//! Every change is decided on a [`Draft`] over an unchanged [`State`], written to the store, and
//! then absorbed; reading the store back gives the same state.

mod cancel;
mod declare;
mod draft;
mod grant;
mod live;
mod members;
mod nodes;
mod pools;
mod queue;
mod references;
mod submit;
mod tick;
mod tokens;
mod usage;
mod withdraw;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use declare::Declare;
pub(crate) use draft::{Change, Draft, Part};
pub(crate) use live::{AttemptSaid, CloudNotice, NodeSaid, SaidPhase};
pub(crate) use members::{InstanceJoin, Presented};
pub(crate) use nodes::Join;
pub(crate) use pools::PoolSeen;
pub(crate) use queue::{Waits, not_before};
pub(crate) use submit::Submit;
pub(crate) use tokens::NewToken;
pub(crate) use withdraw::Withdraw;

use super::record::{ArrayRecord, FleetRecord, JobRecord, NodeRecord, Piece, TokenRecord};
use gpuloom_cloud::{LaunchId, LaunchRecord};
use gpuloom_fleet::{
    Attempt, AutoscalingPolicySpec, Event, JobId, JobState, Kind, LimitRangeSpec, NodeId, Object,
    ObjectRecord, PoolName, PoolSpec, PoolStatus, PriorityClassName, PriorityClassSpec, QuotaSpec,
    TenantName, TenantSpec, builtin_priority_classes,
};
use gpuloom_sched::Reason;
use live::NodeLive;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Events held in memory for followers; older ones are read from the store.
pub(crate) const EVENTS_IN_MEMORY: usize = 5_000;
/// Jobs that may wait or run at once.
pub(crate) const MAX_LIVE_JOBS: usize = 200_000;
/// Attempts kept with a job, newest first to stay.
pub(crate) const ATTEMPTS_KEPT: usize = 20;
/// Declared objects of one kind.
pub(crate) const MAX_OBJECTS: usize = 10_000;
/// Tokens that exist at once.
pub(crate) const MAX_TOKENS: usize = 10_000;

/// Limits of what is remembered; see the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    pub(crate) jobs: usize,
    pub(crate) events: u64,
    pub(crate) node_timeout_s: u64,
    pub(crate) history: usize,
}

/// The fleet as its one writer knows it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) keep: Keep,
    pub(crate) fleet: Option<FleetRecord>,
    pub(crate) next_job: u64,
    /// The number of the next launch.
    pub(crate) next_launch: u64,
    pub(crate) objects: BTreeMap<(Kind, String), ObjectRecord>,
    pub(crate) jobs: BTreeMap<JobId, JobRecord>,
    pub(crate) arrays: BTreeMap<u64, ArrayRecord>,
    pub(crate) nodes: BTreeMap<NodeId, NodeRecord>,
    pub(crate) launches: BTreeMap<LaunchId, LaunchRecord>,
    pub(crate) tokens: BTreeMap<String, TokenRecord>,
    pub(crate) pools: BTreeMap<PoolName, PoolStatus>,
    /// The newest events, oldest first.
    pub(crate) events: VecDeque<Event>,
    pub(crate) next_event: u64,
    /// The first event of each batch in the store, oldest first.
    pub(crate) event_batches: VecDeque<u64>,
    // === indexes, rebuilt from the above ===
    pub(crate) pending: BTreeSet<JobId>,
    pub(crate) active: BTreeSet<JobId>,
    /// Final jobs by when they ended.
    pub(crate) ended: BTreeSet<(u64, JobId)>,
    /// Jobs with a live attempt on each node.
    pub(crate) on_node: BTreeMap<NodeId, BTreeSet<JobId>>,
    /// Live jobs that wait for a job number.
    pub(crate) dependents: BTreeMap<u64, BTreeSet<JobId>>,
    /// Tenant and request id of each submission.
    pub(crate) requests: BTreeMap<(TenantName, String), u64>,
    /// Live jobs of each tenant.
    pub(crate) live_of: BTreeMap<TenantName, u64>,
    // === said by nodes, never stored ===
    pub(crate) live: BTreeMap<NodeId, NodeLive>,
    /// Why each waiting job waits, with its place in the queue from 1: the last decision's.
    pub(crate) reasons: BTreeMap<JobId, (u64, Reason)>,
}

// === impl Keep ===

impl Default for Keep {
    fn default() -> Self {
        Self {
            jobs: 10_000,
            events: 100_000,
            node_timeout_s: 10,
            history: 100,
        }
    }
}

// === impl State ===

impl State {
    /// A state with nothing in it.
    pub(crate) fn new(keep: Keep) -> Self {
        Self {
            keep,
            fleet: None,
            next_job: 1,
            next_launch: 1,
            objects: BTreeMap::new(),
            jobs: BTreeMap::new(),
            arrays: BTreeMap::new(),
            nodes: BTreeMap::new(),
            launches: BTreeMap::new(),
            tokens: BTreeMap::new(),
            pools: BTreeMap::new(),
            events: VecDeque::new(),
            next_event: 1,
            event_batches: VecDeque::new(),
            pending: BTreeSet::new(),
            active: BTreeSet::new(),
            ended: BTreeSet::new(),
            on_node: BTreeMap::new(),
            dependents: BTreeMap::new(),
            requests: BTreeMap::new(),
            live_of: BTreeMap::new(),
            live: BTreeMap::new(),
            reasons: BTreeMap::new(),
        }
    }

    /// Takes in one record that is in the store, new or read back.
    pub(crate) fn absorb(&mut self, piece: Piece) {
        match piece {
            Piece::Fleet(r) => self.fleet = Some(r),
            Piece::NextJob(n) => self.next_job = n,
            Piece::NextLaunch(n) => self.next_launch = n,
            Piece::Object(r) => {
                let key = (r.object.kind(), r.object.name().to_owned());
                self.objects.insert(key, r);
            }
            Piece::NoObject(kind, name) => {
                self.objects.remove(&(kind, name));
            }
            Piece::Job(r) => self.put_job(r),
            Piece::NoJob(id) => self.remove_job(id),
            Piece::Array(r) => {
                for index in 0..r.count {
                    let id = JobId {
                        number: r.number,
                        index: Some(index),
                    };
                    if !self.jobs.contains_key(&id) {
                        let mut element = r.template.clone();
                        element.job.id = id;
                        self.put_job(element);
                    }
                }
                self.arrays.insert(r.number, r);
            }
            Piece::NoArray(number) => {
                self.arrays.remove(&number);
                let (low, high) = (
                    JobId {
                        number,
                        index: Some(0),
                    },
                    JobId {
                        number,
                        index: Some(u32::MAX),
                    },
                );
                let ids: Vec<JobId> = self.jobs.range(low..=high).map(|(id, _)| *id).collect();
                for id in ids {
                    self.remove_job(id);
                }
            }
            Piece::Node(r) => {
                self.nodes.insert(r.id.clone(), r);
            }
            Piece::NoNode(id) => {
                self.nodes.remove(&id);
                self.live.remove(&id);
            }
            Piece::Launch(r) => {
                self.launches.insert(r.id, r);
            }
            Piece::NoLaunch(id) => {
                self.launches.remove(&id);
            }
            Piece::Token(r) => {
                self.tokens.insert(r.hash.clone(), r);
            }
            Piece::NoToken(hash) => {
                self.tokens.remove(&hash);
            }
            Piece::Pool(name, status) => {
                self.pools.insert(name, status);
            }
            Piece::NoPool(name) => {
                self.pools.remove(&name);
            }
        }
    }

    /// Takes in an event that is in the store.
    pub(crate) fn absorb_event(&mut self, event: Event) {
        self.next_event = self.next_event.max(event.seq + 1);
        if self.events.len() >= EVENTS_IN_MEMORY {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn put_job(&mut self, record: JobRecord) {
        let id = record.job.id;
        self.unindex_job(id);
        self.index_job(&record);
        self.jobs.insert(id, record);
    }

    fn remove_job(&mut self, id: JobId) {
        self.unindex_job(id);
        if let Some(record) = self.jobs.remove(&id) {
            let key = (record.job.spec.tenant, record.request_id);
            let rest = self.job_numbered(id.number).next().is_some();
            if !rest {
                self.requests.remove(&key);
            }
        }
    }

    fn index_job(&mut self, record: &JobRecord) {
        let job = &record.job;
        match job.state {
            JobState::Pending { .. } => {
                self.pending.insert(job.id);
            }
            JobState::Active { .. } => {
                self.active.insert(job.id);
            }
            JobState::Succeeded { at }
            | JobState::Failed { at }
            | JobState::TimedOut { at }
            | JobState::Cancelled { at } => {
                self.ended.insert((at.0, job.id));
            }
        }
        if !job.state.is_final() {
            *self.live_of.entry(job.spec.tenant.clone()).or_default() += 1;
            for wait in &job.spec.depends_on {
                let waiting = self.dependents.entry(wait.job.number).or_default();
                waiting.insert(job.id);
            }
        }
        if let Some(attempt) = live_attempt(record) {
            let on = self.on_node.entry(attempt.node.clone()).or_default();
            on.insert(job.id);
        }
        if !record.request_id.is_empty() {
            let key = (job.spec.tenant.clone(), record.request_id.clone());
            self.requests.insert(key, job.id.number);
        }
    }

    fn unindex_job(&mut self, id: JobId) {
        let Some(record) = self.jobs.get(&id) else {
            return;
        };
        let job = &record.job;
        self.pending.remove(&id);
        self.active.remove(&id);
        match job.state {
            JobState::Succeeded { at }
            | JobState::Failed { at }
            | JobState::TimedOut { at }
            | JobState::Cancelled { at } => {
                self.ended.remove(&(at.0, id));
            }
            JobState::Pending { .. } | JobState::Active { .. } => {
                if let Some(n) = self.live_of.get_mut(&job.spec.tenant) {
                    *n -= 1;
                    if *n == 0 {
                        self.live_of.remove(&job.spec.tenant);
                    }
                }
                for wait in &job.spec.depends_on {
                    if let Some(waiting) = self.dependents.get_mut(&wait.job.number) {
                        waiting.remove(&id);
                        if waiting.is_empty() {
                            self.dependents.remove(&wait.job.number);
                        }
                    }
                }
            }
        }
        if let Some(attempt) = live_attempt(record)
            && let Some(on) = self.on_node.get_mut(&attempt.node)
        {
            on.remove(&id);
            if on.is_empty() {
                self.on_node.remove(&attempt.node);
            }
        }
    }

    /// Every job of a number: one, or an array's elements.
    pub(crate) fn job_numbered(&self, number: u64) -> impl Iterator<Item = &JobRecord> {
        let low = JobId {
            number,
            index: None,
        };
        let high = JobId {
            number,
            index: Some(u32::MAX),
        };
        self.jobs.range(low..=high).map(|(_, record)| record)
    }

    /// The record of an object.
    pub(crate) fn object(&self, kind: Kind, name: &str) -> Option<&ObjectRecord> {
        self.objects.get(&(kind, name.to_owned()))
    }

    /// Every record of a kind, by name.
    pub(crate) fn objects_of(&self, kind: Kind) -> impl Iterator<Item = &ObjectRecord> {
        self.objects
            .range((kind, String::new())..)
            .take_while(move |((k, _), _)| *k == kind)
            .map(|(_, record)| record)
    }

    pub(crate) fn pool(&self, name: &PoolName) -> Option<(&PoolSpec, &ObjectRecord)> {
        let record = self.object(Kind::Pool, name.as_str())?;
        match &record.object {
            Object::Pool(spec) => Some((spec, record)),
            _ => None,
        }
    }

    pub(crate) fn tenant(&self, name: &TenantName) -> Option<&TenantSpec> {
        match &self.object(Kind::Tenant, name.as_str())?.object {
            Object::Tenant(spec) => Some(spec),
            _ => None,
        }
    }

    pub(crate) fn pool_specs(&self) -> impl Iterator<Item = (&PoolSpec, &ObjectRecord)> {
        self.objects_of(Kind::Pool).filter_map(|r| match &r.object {
            Object::Pool(spec) => Some((spec, r)),
            _ => None,
        })
    }

    pub(crate) fn tenants(&self) -> impl Iterator<Item = &TenantSpec> {
        self.objects_of(Kind::Tenant)
            .filter_map(|r| match &r.object {
                Object::Tenant(spec) => Some(spec),
                _ => None,
            })
    }

    pub(crate) fn quotas(&self) -> impl Iterator<Item = &QuotaSpec> {
        self.objects_of(Kind::Quota)
            .filter_map(|r| match &r.object {
                Object::Quota(spec) => Some(spec),
                _ => None,
            })
    }

    pub(crate) fn limit_ranges(&self) -> impl Iterator<Item = &LimitRangeSpec> {
        let all = self.objects_of(Kind::LimitRange);
        all.filter_map(|r| match &r.object {
            Object::LimitRange(spec) => Some(spec),
            _ => None,
        })
    }

    pub(crate) fn autoscaling_policies(&self) -> impl Iterator<Item = &AutoscalingPolicySpec> {
        let all = self.objects_of(Kind::AutoscalingPolicy);
        all.filter_map(|r| match &r.object {
            Object::AutoscalingPolicy(spec) => Some(spec),
            _ => None,
        })
    }

    /// The class a job runs in: declared, else built in; `None` when there is no such class.
    pub(crate) fn priority_class(
        &self,
        name: Option<&PriorityClassName>,
    ) -> Option<PriorityClassSpec> {
        let name = name.map_or("normal", PriorityClassName::as_str);
        match self.object(Kind::PriorityClass, name).map(|r| &r.object) {
            Some(Object::PriorityClass(spec)) => Some(spec.clone()),
            _ => builtin_priority_classes()
                .into_iter()
                .find(|c| c.name.as_str() == name),
        }
    }

    /// The tenant and everyone above it, nearest first; bounded by the depth limit.
    pub(crate) fn lineage<'a>(&'a self, tenant: &'a TenantName) -> Vec<&'a TenantName> {
        let mut line = vec![tenant];
        let mut at = tenant;
        while let Some(parent) = self.tenant(at).and_then(|t| t.parent.as_ref()) {
            if line.len() > gpuloom_fleet::MAX_TENANT_DEPTH || line.contains(&parent) {
                break;
            }
            line.push(parent);
            at = parent;
        }
        line
    }
}

/// The attempt that holds devices, if any.
pub(crate) fn live_attempt(record: &JobRecord) -> Option<&Attempt> {
    record.job.attempts.last().filter(|a| a.is_live())
}
