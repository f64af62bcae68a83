//! The driver against the double of Compute Engine: what every cloud must do, and what goes wrong on this one.
#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects in its asserts"
)]

mod contract;
mod disks;
mod faults;
mod offerings;
mod setup;
