//! The door to a cloud: one trait for every place instances come from, and the launch-or-adopt decision they share.
//!
//! Architecture invariant: [`reconcile()`] decides (pure: time and state are arguments, no runtime), [`carry_out`]
//! does what was decided and has no choices left. Who is a member is what the cloud lists by tag, never a group
//! of the cloud's own.

pub mod boot;
mod carry_out;
mod cloud;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod failpoint;
#[cfg(any(test, feature = "contract"))]
mod fake;
mod instance;
mod launch;
mod offering;
mod reconcile;
mod sweep;

pub use carry_out::{AT_ONCE, FAILPOINTS, LaunchBook, Outcome, carry_out};
pub use cloud::{Cloud, CloudError, FailureClass, LaunchError, Launched, OfferingFailure};
#[cfg(any(test, feature = "contract"))]
pub use fake::{Calls, Chaos, FakeCloud, Faults, MemoryBook};
pub use instance::{Instance, InstanceState, Role, Tags};
pub use launch::{
    DataDisk, LaunchId, LaunchRecord, LaunchRequest, LaunchState, Outage, Outages, Token, UserData,
};
pub use offering::{Offered, Offering};
pub use reconcile::{
    Adoption, Launch, MemberNode, Members, Plan, Shortfall, Termination, Why, reconcile,
};
pub use sweep::terminate_all;
