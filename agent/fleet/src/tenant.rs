//! Who shares the fleet and on what terms: tenants, quotas, priority classes, limit ranges.

use crate::id::{LimitRangeName, PoolName, PriorityClassName, QuotaName, TenantName};
use crate::limits::{MAX_DURATION_S, MAX_PRIORITY, MAX_WEIGHT};
use crate::problem::Problems;
use crate::unit::{Bytes, MilliGpu, Seconds};
use serde::{Deserialize, Serialize};

/// A tenant: a team or project, perhaps part of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantSpec {
    /// Unique in the fleet.
    pub name: TenantName,
    /// The tenant this one is part of; quotas of a parent bound the sum over its children.
    pub parent: Option<TenantName>,
    /// Relative share among siblings, 1 to 10,000.
    pub weight: u32,
    /// What happens to its live jobs when it is withdrawn.
    #[serde(default)]
    pub on_destroy: OnTenantDestroy,
}

/// What happens to a tenant's live jobs when it is withdrawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTenantDestroy {
    /// Waiting jobs are cancelled and running ones stopped with their grace.
    #[default]
    Cancel,
    /// Withdrawal is refused while it has live jobs.
    Refuse,
}

/// Amounts of what a fleet shares. `None` means "not stated", never zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// GPUs, in thousandths.
    pub gpus: Option<MilliGpu>,
    /// GPU memory.
    pub gpu_memory: Option<Bytes>,
}

/// What happens to running jobs when a limit is set below present use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExcess {
    /// Running jobs stay; nothing new starts until use is below the limit.
    #[default]
    Keep,
    /// As `keep`, and the tenant starts nothing in any other pool either until it is within.
    Drain,
    /// The youngest jobs of lowest priority are preempted until use is within the limit.
    Preempt,
}

/// What one tenant may use, over the whole fleet or in one pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaSpec {
    /// Unique in the fleet.
    pub name: QuotaName,
    /// Whose quota it is; use by its child tenants counts too.
    pub tenant: TenantName,
    /// Only use in this pool counts; `None` means the whole fleet.
    pub pool: Option<PoolName>,
    /// Kept for the tenant: reclaimed from those above their own guarantee.
    pub guaranteed: Resources,
    /// Never exceeded.
    pub limit: Resources,
    /// Exceeded only while no other tenant waits for the resource.
    pub soft_limit: Resources,
    /// What happens when `limit` is set below present use.
    pub on_excess: OnExcess,
}

/// How urgent a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorityClassSpec {
    /// Unique in the fleet; `urgent`, `normal` and `background` exist undeclared.
    pub name: PriorityClassName,
    /// Larger is more urgent; -1,000,000 to 1,000,000.
    pub value: i32,
    /// Whether jobs of this class may preempt those of lower value.
    pub preempts: bool,
    /// What a GPU-hour costs, in thousandths of the rate: 1500 is half as much again.
    pub cost_multiplier_milli: u32,
    /// How long a preempted job of this class may take to stop.
    pub grace: Seconds,
}

/// Defaults and bounds of single jobs, for one tenant or pool or for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRangeSpec {
    /// Unique in the fleet.
    pub name: LimitRangeName,
    /// Applies to this tenant's jobs; `None` means every tenant's.
    pub tenant: Option<TenantName>,
    /// Applies to jobs that name this pool; `None` means every pool.
    pub pool: Option<PoolName>,
    /// For jobs that state nothing.
    pub default: Resources,
    /// Walltime for jobs that state none.
    pub default_walltime: Option<Seconds>,
    /// Smaller requests are refused at submission.
    pub min: Resources,
    /// Larger requests are refused at submission.
    pub max: Resources,
    /// Longer walltimes, and jobs without one, are refused at submission.
    pub max_walltime: Option<Seconds>,
}

/// The classes that exist without being declared: urgent (1000, preempts), normal (0) and
/// background (-1000).
pub fn builtin_priority_classes() -> Vec<PriorityClassSpec> {
    [
        ("urgent", 1000, true),
        ("normal", 0, false),
        ("background", -1000, false),
    ]
    .into_iter()
    .filter_map(|(name, value, preempts)| {
        Some(PriorityClassSpec {
            name: PriorityClassName::new(name).ok()?,
            value,
            preempts,
            cost_multiplier_milli: 1000,
            grace: Seconds(30),
        })
    })
    .collect()
}

// === impl Resources ===

impl Resources {
    /// True when neither resource is stated.
    pub fn is_empty(&self) -> bool {
        self.gpus.is_none() && self.gpu_memory.is_none()
    }

    fn check_within(&self, larger: &Self, field: &str, other: &str, problems: &mut Problems) {
        if let (Some(a), Some(b)) = (self.gpus, larger.gpus)
            && a > b
        {
            let message = format!("is above {other}.gpus ({b})");
            problems.add(
                format!("{field}.gpus"),
                a,
                message,
                format!("lower it or raise {other}.gpus"),
            );
        }
        if let (Some(a), Some(b)) = (self.gpu_memory, larger.gpu_memory)
            && a > b
        {
            let message = format!("is above {other}.gpu_memory ({b})");
            let fix = format!("lower it or raise {other}.gpu_memory");
            problems.add(format!("{field}.gpu_memory"), a, message, fix);
        }
    }
}

// === impl TenantSpec ===

impl TenantSpec {
    /// Checks the spec by itself; references are checked where all objects are known.
    pub fn check(&self) -> Result<(), Problems> {
        let mut p = Problems::default();
        p.range("weight", self.weight, 1, MAX_WEIGHT);
        if self.parent.as_ref() == Some(&self.name) {
            p.add(
                "parent",
                &self.name,
                "is the tenant itself",
                "name another tenant or leave it out",
            );
        }
        p.into_result()
    }
}

// === impl QuotaSpec ===

impl QuotaSpec {
    /// Checks the spec by itself: something is stated, and guaranteed <= soft limit <= limit.
    pub fn check(&self) -> Result<(), Problems> {
        let mut p = Problems::default();
        if self.guaranteed.is_empty() && self.limit.is_empty() && self.soft_limit.is_empty() {
            p.add(
                "limit",
                "",
                "nothing is stated",
                "state guaranteed, soft_limit or limit",
            );
        }
        self.guaranteed
            .check_within(&self.limit, "guaranteed", "limit", &mut p);
        self.guaranteed
            .check_within(&self.soft_limit, "guaranteed", "soft_limit", &mut p);
        self.soft_limit
            .check_within(&self.limit, "soft_limit", "limit", &mut p);
        p.into_result()
    }
}

// === impl PriorityClassSpec ===

impl PriorityClassSpec {
    /// Checks the spec by itself.
    pub fn check(&self) -> Result<(), Problems> {
        let mut p = Problems::default();
        p.range("value", self.value, -MAX_PRIORITY, MAX_PRIORITY);
        p.range("cost_multiplier", self.cost_multiplier_milli, 0, 1_000_000);
        p.range("grace_s", self.grace.0, 0, MAX_DURATION_S);
        p.into_result()
    }
}

// === impl LimitRangeSpec ===

impl LimitRangeSpec {
    /// Checks the spec by itself: something is stated, and min <= default <= max.
    pub fn check(&self) -> Result<(), Problems> {
        let mut p = Problems::default();
        let nothing = self.default.is_empty() && self.min.is_empty() && self.max.is_empty();
        if nothing && self.default_walltime.is_none() && self.max_walltime.is_none() {
            p.add(
                "max",
                "",
                "nothing is stated",
                "state default, min, max or a walltime",
            );
        }
        self.min.check_within(&self.max, "min", "max", &mut p);
        self.min
            .check_within(&self.default, "min", "default", &mut p);
        self.default
            .check_within(&self.max, "default", "max", &mut p);
        if let (Some(d), Some(m)) = (self.default_walltime, self.max_walltime)
            && d > m
        {
            p.add(
                "default.walltime",
                d,
                format!("is above max.walltime ({m})"),
                "lower it",
            );
        }
        for (field, s) in [
            ("default.walltime", self.default_walltime),
            ("max.walltime", self.max_walltime),
        ] {
            if let Some(s) = s {
                p.range(field, s.0, 1, MAX_DURATION_S);
            }
        }
        p.into_result()
    }
}
