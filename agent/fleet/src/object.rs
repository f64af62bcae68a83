//! A declared object: one of the kinds, with the generation and owner that guard its writes.

use crate::id::Kind;
use crate::policy::AutoscalingPolicySpec;
use crate::pool::PoolSpec;
use crate::problem::Problems;
use crate::tenant::{LimitRangeSpec, PriorityClassSpec, QuotaSpec, TenantSpec};
use crate::unit::Millis;
use serde::{Deserialize, Serialize};

/// Any object a fleet's owner declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "spec")]
pub enum Object {
    /// A set of like nodes.
    Pool(PoolSpec),
    /// Who submits and is accounted for.
    Tenant(TenantSpec),
    /// What a tenant is guaranteed and limited to.
    Quota(QuotaSpec),
    /// How urgent jobs are.
    PriorityClass(PriorityClassSpec),
    /// Defaults and bounds of single jobs.
    LimitRange(LimitRangeSpec),
    /// How a pool's size follows its load.
    AutoscalingPolicy(AutoscalingPolicySpec),
}

/// A declared object as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// What was declared.
    pub object: Object,
    /// Counts up from 1 with every change.
    pub generation: u64,
    /// Who declared it, e.g. `terraform`.
    pub owner: String,
    /// The run that created it; see [`ObjectRecord::confirmed`].
    pub session: String,
    /// Whether its owner has read it back since it was created. An unconfirmed object is the rest
    /// of an interrupted creation and is adopted when created again.
    pub confirmed: bool,
    /// Whether it has been withdrawn and only waits for what it holds to end.
    pub withdrawing: bool,
    /// When the present generation was declared.
    pub declared_at: Millis,
}

// === impl Object ===

impl Object {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Pool(_) => Kind::Pool,
            Self::Tenant(_) => Kind::Tenant,
            Self::Quota(_) => Kind::Quota,
            Self::PriorityClass(_) => Kind::PriorityClass,
            Self::LimitRange(_) => Kind::LimitRange,
            Self::AutoscalingPolicy(_) => Kind::AutoscalingPolicy,
        }
    }

    /// Its name, unique within its kind.
    pub fn name(&self) -> &str {
        match self {
            Self::Pool(s) => s.name.as_str(),
            Self::Tenant(s) => s.name.as_str(),
            Self::Quota(s) => s.name.as_str(),
            Self::PriorityClass(s) => s.name.as_str(),
            Self::LimitRange(s) => s.name.as_str(),
            Self::AutoscalingPolicy(s) => s.name.as_str(),
        }
    }

    /// Checks the object by itself; references are checked where all objects are known.
    pub fn check(&self) -> Result<(), Problems> {
        match self {
            Self::Pool(s) => s.check(),
            Self::Tenant(s) => s.check(),
            Self::Quota(s) => s.check(),
            Self::PriorityClass(s) => s.check(),
            Self::LimitRange(s) => s.check(),
            Self::AutoscalingPolicy(s) => s.check(),
        }
    }
}
