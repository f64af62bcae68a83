//! Eight orders in which work that waits is served, each exact, each in time that does not grow with the queue.
//!
//! Jobs are picked one by one ([`Queue::pick`]); what they used is charged ([`Queue::charge`]). An order
//! over tenants (fair, lottery, stride, weighted fair) serves each tenant's jobs in order of arrival.

mod fair;
mod gittins;
mod jobs;
mod ladder;
mod lottery;
mod mlfq;
mod queue;
mod round;
mod tenants;

pub use gittins::Gittins;
pub use queue::{Policy, Queue};

/// Work that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Unique; decides ties.
    pub id: u64,
    /// Whose, by a number below [`MAX_TENANTS`].
    pub tenant: u32,
    /// When it came, in milliseconds.
    pub arrival_ms: u64,
    /// Larger first, where the order looks at it.
    pub priority: i32,
    /// What it is predicted to use, in GPU-milliseconds; 0 when nothing is known.
    pub cost: u64,
    /// When it has to be done, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// What it used so far, in GPU-milliseconds.
    pub attained: u64,
}

/// Most tenants of one queue.
pub const MAX_TENANTS: usize = 100_000;

#[cfg(test)]
mod tests;
