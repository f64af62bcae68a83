//! Amazon EC2 as a cloud: a fleet request of type instant for each launch, membership by tag, terminations verified by listing.
//!
//! Architecture invariant: a launch is sent once, never retried here; whoever stored its token sends it again. A
//! launch template says what is launched, and goes with the last instance of its fleet.

mod check;
mod client;
mod cloud;
mod create_fleet;
mod data_disk;
mod failure;
mod gpu;
mod launch;
mod listing;
mod offerings;
mod template;
#[cfg(test)]
mod tests;

pub use check::PlaceWarning;
pub use client::{AwsCloud, AwsOptions};
