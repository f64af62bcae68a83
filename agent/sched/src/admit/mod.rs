//! Which promises can be kept: deadlines, periods and overbooked capacity, tested before work is let in.
//!
//! ```text
//! gangs with deadlines     Book       a schedule over the capacity profile, or a reason
//! one server               SlackTree  least slack over all deadlines, O(log n) an admission
//! periodic work            periodic   demand-bound function (QPA), utilization bounds
//! more than is there       Overbook   guarantees always, the rest by mean + z * deviation
//! ```
//! A promise is made only on a schedule that was built, so with runtimes that are upper bounds
//! (callers give the 99th percentile) nothing admitted is ever late.

mod exact;
mod gangs;
mod overbook;
mod periodic;
mod profile;
mod schedule;
mod slack;

pub use exact::{MAX_EXACT_GANGS, MAX_EXACT_SPAN, exact};
pub use gangs::{Book, Gang, MAX_GANGS, Refused, Start};
pub use overbook::{Claim, Holder, MAX_HOLDERS, Overbook, OverbookError, Terms, Z_P95, Z_P99};
pub use periodic::{
    MAX_POINTS, MAX_TASKS, Periodic, PeriodicVerdict, Preemptible, demand, feasible,
    global_edf_suffices,
};
pub use profile::{MAX_STEPS, Profile, Short};
pub use schedule::{MAX_SEARCHED, MAX_TRIES, schedule};
pub use slack::{Late, MAX_ENTRIES, SlackTree};

#[cfg(test)]
mod tests;
