//! Microsoft Azure as a cloud: virtual machines attached one by one to a flexible scale set, operations polled to their end.
//!
//! Architecture invariant: a machine is one PUT that makes its network interface and OS disk with it, and both end with
//! it; the PUT only ever creates (`If-None-Match: *`), so the same token can never change or double what exists. A
//! failure is reported when nothing of it is left.

mod arm;
mod body;
mod check;
mod cloud;
mod credential;
mod disk;
mod failure;
mod gpus;
mod launch;
mod list;
mod names;
mod offerings;
mod scale_set;
mod terminate;
mod types;

pub use cloud::{AzureCloud, AzureOptions};
