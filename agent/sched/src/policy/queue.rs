//! One queue in one of the eight orders.

use super::Job;
use super::fair::Fair;
use super::jobs::{Edf, Fcfs, Priority, Sjf};
use super::lottery::Lottery;
use super::mlfq::Mlfq;
use super::round::WeightedFair;

/// An order and its settings. Times in milliseconds, use in GPU-milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// First come, first served.
    Fcfs,
    /// Shortest predicted job first.
    Sjf {
        /// Use that a second of waiting makes up for, in thousandths of a GPU-millisecond per millisecond.
        aging_milli: u64,
        /// Nobody waits longer than this for others that came later, as long as jobs are picked.
        bound_ms: u64,
    },
    /// Earliest deadline first. What can no longer be met is demoted behind everything else, in
    /// order of arrival there: plain EDF collapses under overload.
    Edf,
    /// The tenant with the least use by weight first, as Linux's CFS.
    Fair {
        /// One that slept starts at most half of this before the others.
        latency: u64,
    },
    /// Larger priority first.
    Priority {
        /// Waiting so long lifts a job by one.
        step_ms: u64,
        /// By at most so much: below the distance of classes, so that a class is never overtaken.
        cap: i32,
    },
    /// Least attained use first, in levels.
    Mlfq {
        /// Between the levels, ascending.
        thresholds: Vec<u64>,
        /// All start at the top again after this; 0: never.
        boost_ms: u64,
    },
    /// Tenants drawn in proportion to their weights.
    Lottery {
        /// The same seed gives the same draws.
        seed: u64,
        /// A tenant that uses less is drawn more often until it is.
        quantum: u64,
    },
    /// Deficit round robin over tenants.
    WeightedFair {
        /// Use a turn for weight 1.
        quantum: u64,
    },
}

/// Waiting jobs in one of the orders.
#[derive(Debug, Clone)]
pub struct Queue(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Fcfs(Fcfs),
    Sjf(Sjf),
    Edf(Edf),
    Fair(Fair),
    Priority(Priority),
    Mlfq(Mlfq),
    Lottery(Lottery),
    WeightedFair(WeightedFair),
}

// === impl Policy ===

impl Policy {
    /// The eight, each with settings for clusters: SJF bound 1 day, fair latency 6 GPU-minutes, a lift
    /// a minute up to 99, levels at 1, 8 and 64 GPU-hours (Tiresias' range on Philly), quanta of 6 minutes.
    #[must_use]
    pub fn all() -> [Self; 8] {
        const MINUTE: u64 = 60_000;
        const HOUR: u64 = 60 * MINUTE;
        [
            Self::Fcfs,
            Self::Sjf {
                aging_milli: 0,
                bound_ms: 24 * HOUR,
            },
            Self::Edf,
            Self::Fair {
                latency: 6 * MINUTE,
            },
            Self::Priority {
                step_ms: MINUTE,
                cap: 99,
            },
            Self::Mlfq {
                thresholds: vec![HOUR, 8 * HOUR, 64 * HOUR],
                boost_ms: 0,
            },
            Self::Lottery {
                seed: 1,
                quantum: 6 * MINUTE,
            },
            Self::WeightedFair {
                quantum: 6 * MINUTE,
            },
        ]
    }

    /// As people write it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fcfs => "fcfs",
            Self::Sjf { .. } => "sjf",
            Self::Edf => "edf",
            Self::Fair { .. } => "fair",
            Self::Priority { .. } => "priority",
            Self::Mlfq { .. } => "mlfq",
            Self::Lottery { .. } => "lottery",
            Self::WeightedFair { .. } => "weighted-fair",
        }
    }
}

// === impl Queue ===

impl Queue {
    /// Nobody waits yet.
    #[must_use]
    pub fn new(policy: &Policy) -> Self {
        Self(match policy {
            Policy::Fcfs => Kind::Fcfs(Fcfs::default()),
            Policy::Sjf {
                aging_milli,
                bound_ms,
            } => Kind::Sjf(Sjf::new(*aging_milli, *bound_ms)),
            Policy::Edf => Kind::Edf(Edf::default()),
            Policy::Fair { latency } => Kind::Fair(Fair::new(*latency)),
            Policy::Priority { step_ms, cap } => Kind::Priority(Priority::new(*step_ms, *cap)),
            Policy::Mlfq {
                thresholds,
                boost_ms,
            } => Kind::Mlfq(Mlfq::new(thresholds, *boost_ms)),
            Policy::Lottery { seed, quantum } => Kind::Lottery(Lottery::new(*seed, *quantum)),
            Policy::WeightedFair { quantum } => Kind::WeightedFair(WeightedFair::new(*quantum)),
        })
    }

    /// A tenant's weight, 1 unless told; 0 counts as 1. Orders over jobs do not look at it.
    pub fn set_weight(&mut self, tenant: u32, weight: u64) {
        match &mut self.0 {
            Kind::Fair(q) => q.set_weight(tenant, weight),
            Kind::Lottery(q) => q.set_weight(tenant, weight),
            Kind::WeightedFair(q) => q.set_weight(tenant, weight),
            _ => {}
        }
    }

    /// A job begins to wait, or waits again (with what it attained).
    pub fn push(&mut self, job: Job) {
        match &mut self.0 {
            Kind::Fcfs(q) => q.push(job),
            Kind::Sjf(q) => q.push(job),
            Kind::Edf(q) => q.push(job),
            Kind::Fair(q) => q.push(job),
            Kind::Priority(q) => q.push(job),
            Kind::Mlfq(q) => q.push(job),
            Kind::Lottery(q) => q.push(job),
            Kind::WeightedFair(q) => q.push(job),
        }
    }

    /// Whose turn it is, taken out; `None` when nobody waits.
    pub fn pick(&mut self, now_ms: u64) -> Option<Job> {
        match &mut self.0 {
            Kind::Fcfs(q) => q.pick(),
            Kind::Sjf(q) => q.pick(now_ms),
            Kind::Edf(q) => q.pick(now_ms),
            Kind::Fair(q) => q.pick(),
            Kind::Priority(q) => q.pick(now_ms),
            Kind::Mlfq(q) => q.pick(now_ms),
            Kind::Lottery(q) => q.pick(),
            Kind::WeightedFair(q) => q.pick(),
        }
    }

    /// A tenant's job used so much, in GPU-milliseconds. Weighted fair counts a job's predicted cost
    /// when it is picked instead.
    pub fn charge(&mut self, tenant: u32, used: u64) {
        match &mut self.0 {
            Kind::Fair(q) => q.charge(tenant, used),
            Kind::Lottery(q) => q.charge(tenant, used),
            _ => {}
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Kind::Fcfs(q) => q.len(),
            Kind::Sjf(q) => q.len(),
            Kind::Edf(q) => q.len(),
            Kind::Fair(q) => q.len(),
            Kind::Priority(q) => q.len(),
            Kind::Mlfq(q) => q.len(),
            Kind::Lottery(q) => q.len(),
            Kind::WeightedFair(q) => q.len(),
        }
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
