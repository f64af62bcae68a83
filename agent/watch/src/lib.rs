//! What readings mean: histories, loads over a window, sums over a cluster and health verdicts.
//!
//! Architecture invariant: pure. The moment is an argument; a reading that is missing is missing
//! and never counts as zero.

mod cluster;
mod health;
mod history;
mod load;
mod reading;
mod xid;

pub use cluster::{ClusterSum, sum};
pub use health::{HealthRules, Symptoms, Verdict, judge};
pub use history::{DEFAULT_HISTORY, Histories, History, MAX_HISTORY};
pub use load::{Load, load};
pub use reading::{ProcessUse, Reading, XidEvent};
pub use xid::{XidEffect, XidEntry, xid_effect, xid_entry};
