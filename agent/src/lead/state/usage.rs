//! What is held, by device and by tenant: sums of live attempts, never stored.

use super::{State, live_attempt};
use gpuloom_fleet::{
    AttemptId, Bytes, DeviceId, MilliGpu, PoolName, Resources, TenantName, TenantUsage,
};
use std::collections::BTreeMap;

/// What live attempts hold of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) share: MilliGpu,
    pub(crate) memory: Bytes,
    pub(crate) attempts: Vec<AttemptId>,
}

/// What a tenant and its children hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) gpus: MilliGpu,
    pub(crate) gpu_memory: Bytes,
    pub(crate) pending: u64,
    pub(crate) active: u64,
}

/// What is held of one device.
pub(super) fn held_on(state: &State, device: &DeviceId) -> Held {
    // A GPU that two nodes claim is held by what runs on either.
    let nodes = state.nodes.values();
    let nodes = nodes.filter(|n| n.devices.iter().any(|d| d.id == *device));
    let jobs = nodes.filter_map(|n| state.on_node.get(&n.id));
    let mut held = Held::default();
    for id in jobs.flatten() {
        let Some(attempt) = state.jobs.get(id).and_then(live_attempt) else {
            continue;
        };
        for g in attempt.grants.iter().filter(|g| g.device == *device) {
            held.share += g.share;
            held.memory += g.memory;
            held.attempts.push(AttemptId {
                job: *id,
                number: attempt.number,
            });
        }
    }
    held
}

// === impl State ===

impl State {
    /// What live attempts hold of one device.
    pub(crate) fn held_on(&self, device: &DeviceId) -> Held {
        held_on(self, device)
    }

    /// What live attempts hold of each device.
    pub(crate) fn ledger(&self) -> BTreeMap<DeviceId, Held> {
        let mut ledger: BTreeMap<DeviceId, Held> = BTreeMap::new();
        for id in &self.active {
            let Some(attempt) = self.jobs.get(id).and_then(live_attempt) else {
                continue;
            };
            for g in &attempt.grants {
                let held = ledger.entry(g.device.clone()).or_default();
                held.share += g.share;
                held.memory += g.memory;
                held.attempts.push(AttemptId {
                    job: *id,
                    number: attempt.number,
                });
            }
        }
        ledger
    }

    /// What each tenant holds and waits for, its children's included; in one pool or in all.
    pub(crate) fn usage(&self, pool: Option<&PoolName>) -> BTreeMap<TenantName, Usage> {
        let mut by: BTreeMap<TenantName, Usage> = self
            .tenants()
            .map(|t| (t.name.clone(), Usage::default()))
            .collect();
        for id in self.pending.iter().chain(&self.active) {
            let Some(record) = self.jobs.get(id) else {
                continue;
            };
            let attempt = live_attempt(record);
            let place = match attempt {
                Some(a) => self.nodes.get(&a.node).map(|n| &n.pool),
                None => record.job.spec.pool.as_ref(),
            };
            if pool.is_some() && place != pool {
                continue;
            }
            for tenant in self.lineage(&record.job.spec.tenant) {
                let Some(usage) = by.get_mut(tenant) else {
                    continue;
                };
                match attempt {
                    None => usage.pending += 1,
                    Some(a) => {
                        usage.active += 1;
                        for g in &a.grants {
                            usage.gpus += g.share;
                            usage.gpu_memory += g.memory;
                        }
                    }
                }
            }
        }
        by
    }

    /// Every tenant over the fleet, and once more for each quota on one pool; `only` restricts whose.
    pub(crate) fn tenant_usage(&self, only: Option<&TenantName>) -> Vec<TenantUsage> {
        let all = self.usage(None);
        let mut rows = Vec::new();
        let shown = |t: &TenantName| only.is_none_or(|o| o == t);
        for (tenant, usage) in all.iter().filter(|(t, _)| shown(t)) {
            rows.push(self.row(tenant, None, *usage));
        }
        let mut by_pool: BTreeMap<&PoolName, BTreeMap<TenantName, Usage>> = BTreeMap::new();
        for quota in self.quotas().filter(|q| shown(&q.tenant)) {
            let Some(pool) = &quota.pool else { continue };
            let usage = by_pool
                .entry(pool)
                .or_insert_with(|| self.usage(Some(pool)));
            let of = usage.get(&quota.tenant).copied().unwrap_or_default();
            rows.push(self.row(&quota.tenant, Some(pool), of));
        }
        rows
    }

    fn row(&self, tenant: &TenantName, pool: Option<&PoolName>, usage: Usage) -> TenantUsage {
        let same = |q: &&gpuloom_fleet::QuotaSpec| q.tenant == *tenant && q.pool.as_ref() == pool;
        let quota = self.quotas().find(same);
        let stated = |of: fn(&gpuloom_fleet::QuotaSpec) -> Resources| {
            quota.map_or_else(Resources::default, of)
        };
        TenantUsage {
            tenant: tenant.clone(),
            pool: pool.cloned(),
            gpus: usage.gpus,
            gpu_memory: usage.gpu_memory,
            pending: usage.pending,
            active: usage.active,
            guaranteed: stated(|q| q.guaranteed),
            limit: stated(|q| q.limit),
            soft_limit: stated(|q| q.soft_limit),
        }
    }
}
