//! What quotas count: use by a tenant and its children, in one pool or in all.

use crate::decision::{Reason, Resource};
use crate::snapshot::{NodeView, Snapshot, Waiting};
use gpuloom_fleet::{
    Bytes, DeviceGrant, JobId, MAX_TENANT_DEPTH, MilliGpu, OnExcess, PoolName, QuotaSpec,
    Resources, TenantName,
};
use std::collections::BTreeMap;

/// An amount of both resources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) gpus: MilliGpu,
    pub(crate) memory: Bytes,
}

/// What is held against each quota.
#[derive(Debug, Clone)]
pub(crate) struct Usage<'a> {
    quotas: &'a [QuotaSpec],
    parents: &'a BTreeMap<TenantName, TenantName>,
    /// Held by everything live, those told to stop included.
    used: Vec<Amount>,
    /// Held by what was not told to stop.
    staying: Vec<Amount>,
}

// === impl Amount ===

impl Amount {
    pub(crate) fn of(grants: &[DeviceGrant]) -> Self {
        Self {
            gpus: grants.iter().map(|g| g.share).sum(),
            memory: grants.iter().map(|g| g.memory).sum(),
        }
    }

    /// What a job would hold on a node; `None` when the node has no device of its model.
    pub(crate) fn asked(job: &Waiting, node: &NodeView) -> Option<Self> {
        let request = &job.request;
        let model = |m: &gpuloom_fleet::GpuModel| request.model.as_ref().is_none_or(|r| r == m);
        let device = node.devices.iter().find(|d| model(&d.model))?;
        let memory = request.memory_on(device.memory).0;
        Some(Self {
            gpus: request.gpus_or_one(),
            memory: Bytes(memory.saturating_mul(request.devices())),
        })
    }

    fn add(&mut self, other: Self) {
        self.gpus += other.gpus;
        self.memory += other.memory;
    }

    fn sub(&mut self, other: Self) {
        self.gpus -= other.gpus;
        self.memory -= other.memory;
    }
}

/// The first resource of `bound` that `used + asked` exceeds: (which, used, asked, bound).
fn exceeded(used: Amount, asked: Amount, bound: Resources) -> Option<(Resource, u64, u64, u64)> {
    let over = |r: Resource, u: u64, a: u64, b: Option<u64>| {
        b.filter(|b| u.saturating_add(a) > *b).map(|b| (r, u, a, b))
    };
    let gpus = bound.gpus.map(|g| g.0);
    let memory = bound.gpu_memory.map(|m| m.0);
    over(Resource::Gpus, used.gpus.0, asked.gpus.0, gpus)
        .or_else(|| over(Resource::GpuMemory, used.memory.0, asked.memory.0, memory))
}

// === impl Usage ===

impl<'a> Usage<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        let zero = vec![Amount::default(); snapshot.quotas.len()];
        let mut usage = Self {
            quotas: &snapshot.quotas,
            parents: &snapshot.parents,
            used: zero.clone(),
            staying: zero,
        };
        let pools: BTreeMap<_, _> = snapshot.nodes.iter().map(|n| (&n.id, &n.pool)).collect();
        for held in &snapshot.held {
            let amount = Amount::of(&held.grants);
            usage.count(
                &held.tenant,
                pools.get(&held.node).copied(),
                amount,
                held.stopping,
            );
        }
        usage
    }

    /// Counts what is held. A pool of `None` (its node is gone) counts against fleet quotas only.
    pub(crate) fn count(
        &mut self,
        tenant: &TenantName,
        pool: Option<&PoolName>,
        amount: Amount,
        stopping: bool,
    ) {
        for i in 0..self.quotas.len() {
            if self.covers(i, tenant)
                && self.quotas[i].pool.as_ref().is_none_or(|p| Some(p) == pool)
            {
                self.used[i].add(amount);
                if !stopping {
                    self.staying[i].add(amount);
                }
            }
        }
    }

    /// Takes a victim off what stays; it still counts as used until it has stopped.
    pub(crate) fn release(&mut self, tenant: &TenantName, pool: &PoolName, amount: Amount) {
        for i in 0..self.quotas.len() {
            if self.covers(i, tenant) && self.quotas[i].pool.as_ref().is_none_or(|p| p == pool) {
                self.staying[i].sub(amount);
            }
        }
    }

    /// Whether quota `i` counts this tenant: it is its own or an ancestor's.
    fn covers(&self, i: usize, tenant: &TenantName) -> bool {
        let mut at = Some(tenant);
        for _ in 0..=MAX_TENANT_DEPTH {
            match at {
                Some(t) if *t == self.quotas[i].tenant => return true,
                Some(t) => at = self.parents.get(t),
                None => return false,
            }
        }
        false
    }

    fn applying<'s>(
        &'s self,
        tenant: &'s TenantName,
        pool: &'s PoolName,
    ) -> impl Iterator<Item = usize> + 's {
        (0..self.quotas.len())
            .filter(move |i| self.quotas[*i].pool.as_ref().is_none_or(|p| p == pool))
            .filter(move |i| self.covers(*i, tenant))
    }

    /// Why the job may not start in the pool, if a hard limit forbids it.
    pub(crate) fn forbids(&self, job: &Waiting, pool: &PoolName, asked: Amount) -> Option<Reason> {
        if let Some(reason) = self.draining(&job.tenant) {
            return Some(reason);
        }
        self.applying(&job.tenant, pool).find_map(|i| {
            let quota = &self.quotas[i];
            let (resource, used, asked, limit) = exceeded(self.used[i], asked, quota.limit)?;
            Some(Reason::OverLimit {
                quota: quota.name.clone(),
                tenant: quota.tenant.clone(),
                resource,
                used,
                asked,
                limit,
            })
        })
    }

    fn draining(&self, tenant: &TenantName) -> Option<Reason> {
        (0..self.quotas.len()).find_map(|i| {
            let quota = &self.quotas[i];
            let drains = quota.on_excess == OnExcess::Drain && self.covers(i, tenant);
            (drains && exceeded(self.used[i], Amount::default(), quota.limit).is_some()).then(
                || Reason::Draining {
                    quota: quota.name.clone(),
                },
            )
        })
    }

    /// The soft limit the job would exceed in the pool, if any.
    pub(crate) fn softly_exceeds(
        &self,
        job: &Waiting,
        pool: &PoolName,
        asked: Amount,
    ) -> Option<Soft> {
        self.applying(&job.tenant, pool).find_map(|i| {
            let (resource, used, _, limit) =
                exceeded(self.used[i], asked, self.quotas[i].soft_limit)?;
            Some(Soft {
                quota: i,
                resource,
                used,
                limit,
            })
        })
    }

    /// The reason to wait for `other`, when it is a job of somebody the soft limit does not cover.
    pub(crate) fn soft_reason(
        &self,
        soft: &Soft,
        other: JobId,
        tenant: &TenantName,
    ) -> Option<Reason> {
        (!self.covers(soft.quota, tenant)).then(|| Reason::OverSoftLimit {
            quota: self.quotas[soft.quota].name.clone(),
            resource: soft.resource,
            used: soft.used,
            limit: soft.limit,
            other,
        })
    }

    /// The quota whose guarantee covers the job in this pool, if one does.
    pub(crate) fn guarantees(
        &self,
        job: &Waiting,
        pool: &PoolName,
        asked: Amount,
    ) -> Option<usize> {
        self.applying(&job.tenant, pool).find(|i| {
            let guaranteed = self.quotas[*i].guaranteed;
            !guaranteed.is_empty() && exceeded(self.used[*i], asked, guaranteed).is_none()
        })
    }

    /// Whether the guarantee of quota `i` may take `amount` from this tenant: it is covered by
    /// another quota, and keeps its own guarantees.
    pub(crate) fn may_reclaim(
        &self,
        i: usize,
        tenant: &TenantName,
        pool: &PoolName,
        amount: Amount,
    ) -> bool {
        !self.covers(i, tenant)
            && self.applying(tenant, pool).all(|k| {
                let mut rest = self.staying[k];
                rest.sub(amount);
                let g = self.quotas[k].guaranteed;
                g.gpus.is_none_or(|g| rest.gpus >= g)
                    && g.gpu_memory.is_none_or(|g| rest.memory >= g)
            })
    }

    /// The quota, with `on_excess = "preempt"`, that this tenant's stay in the pool exceeds.
    pub(crate) fn to_cut(&self, tenant: &TenantName, pool: &PoolName) -> Option<&'a QuotaSpec> {
        self.applying(tenant, pool).find_map(|i| {
            let quota = &self.quotas[i];
            let cut = quota.on_excess == OnExcess::Preempt
                && exceeded(self.staying[i], Amount::default(), quota.limit).is_some();
            cut.then_some(quota)
        })
    }
}

/// A soft limit that would be exceeded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Soft {
    quota: usize,
    resource: Resource,
    used: u64,
    limit: u64,
}
