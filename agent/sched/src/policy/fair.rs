//! Fair (as Linux's CFS) and stride: the tenant that has had least for its weight is next.

use super::Job;
use super::tenants::Lines;
use std::collections::BTreeSet;

/// Virtual time of one unit at weight 1: large, so that integer division keeps precision.
const SCALE: u128 = 1 << 20;

/// Least virtual time first. `charge` moves a tenant on by use / weight.
#[derive(Debug, Clone)]
pub(super) struct Fair {
    lines: Lines,
    /// (virtual time, tenant) of those with waiting jobs.
    order: BTreeSet<(u128, u32)>,
    virtual_time: Vec<u128>,
    /// Never falls: where newcomers start.
    least: u128,
    /// A tenant that comes back starts at most so much before the others.
    credit: u128,
}

// === impl Fair ===

impl Fair {
    /// `latency` is the period in which each tenant is meant to run once, in GPU-milliseconds; one that
    /// slept starts half of it before the others, however long it slept. 0 makes it stride scheduling
    /// (Waldspurger & Weihl, MIT-LCS-TM-528): newcomers start with the others.
    pub(super) fn new(latency: u64) -> Self {
        Self {
            lines: Lines::default(),
            order: BTreeSet::new(),
            virtual_time: Vec::new(),
            least: 0,
            credit: u128::from(latency / 2) * SCALE,
        }
    }

    pub(super) fn set_weight(&mut self, tenant: u32, weight: u64) {
        self.lines.line(tenant).weight = weight.max(1);
    }

    pub(super) fn push(&mut self, job: Job) {
        let tenant = job.tenant;
        if self.lines.push(job) {
            let from = self.least.saturating_sub(self.credit);
            let at = self.time(tenant);
            *at = (*at).max(from);
            let entry = (*at, tenant);
            self.order.insert(entry);
        }
    }

    pub(super) fn pick(&mut self) -> Option<Job> {
        let (time, tenant) = self.order.first().copied()?;
        self.least = self.least.max(time);
        let (job, more) = self.lines.pick(tenant)?;
        if !more {
            self.order.remove(&(time, tenant));
        }
        Some(job)
    }

    pub(super) fn charge(&mut self, tenant: u32, used: u64) {
        let weight = u128::from(self.lines.line(tenant).weight);
        let waits = self.lines.waits(tenant);
        let at = self.time(tenant);
        let before = (*at, tenant);
        *at += u128::from(used) * SCALE / weight;
        let after = (*at, tenant);
        if waits {
            self.order.remove(&before);
            self.order.insert(after);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    fn time(&mut self, tenant: u32) -> &mut u128 {
        let at = tenant as usize;
        if self.virtual_time.len() <= at {
            self.virtual_time.resize(at + 1, 0);
        }
        &mut self.virtual_time[at]
    }
}
