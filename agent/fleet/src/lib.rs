//! The nouns and units of a GPU fleet, checked once: every other crate speaks in these types.
//!
//! Architecture invariant: this crate imports nothing of ours, reads no clock and does no I/O.
//! Checking answers with every [`Problem`] at once, each naming the field, the value and the fix.

mod attempt;
mod device;
mod event;
mod id;
mod job;
mod limits;
mod memory_need;
mod money;
mod object;
mod offering;
mod place;
mod policy;
mod pool;
mod problem;
mod status;
mod tenant;
mod unit;

pub use attempt::{Attempt, AttemptEnd, AttemptState, DeviceGrant, EndCause, Exit, StopCause};
pub use device::{Backend, Device, DeviceHealth, GpuModel, KNOWN_MODELS, LayoutPart, parse_layout};
pub use event::{Event, EventKind};
pub use id::{
    AttemptId, DeviceId, FleetName, InstanceId, JobId, Kind, LimitRangeName, NodeId, ParseIdError,
    PolicyName, PoolName, PriorityClassName, QuotaName, TenantName,
};
pub use job::{Dependency, DependencyCondition, GpuRequest, Job, JobSpec, JobState};
pub use limits::*;
pub use memory_need::{Precision, VramEstimate, vram_required};
pub use money::MicroUsd;
pub use object::{Object, ObjectRecord};
pub use offering::Market;
pub use place::{AgentSource, AwsPlace, AzurePlace, GcpPlace, PoolPlace};
pub use policy::AutoscalingPolicySpec;
pub use pool::{
    Capacity, GpuShape, OnDestroy, OnShortfall, PoolPhase, PoolSpec, PoolStatus, RollingUpdate,
};
pub use problem::{Problem, Problems};
pub use status::{NodeState, NodeStatus, TenantUsage};
pub use tenant::{
    LimitRangeSpec, OnExcess, OnTenantDestroy, PriorityClassSpec, QuotaSpec, Resources, TenantSpec,
    builtin_priority_classes,
};
pub use unit::{Bytes, MilliGpu, Millis, ParseUnitError, Seconds};
