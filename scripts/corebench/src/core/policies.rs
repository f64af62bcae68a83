//! Picking from a long queue: how long one pick and its update take, and how that grows.

use crate::row::Row;
use anyhow::Result;
use gpuloom_replay::Chance;
use gpuloom_sched::policy::{Job, Policy, Queue};
use std::time::Instant;

const SHORT: u64 = 1_000;
const TENANTS: usize = 1_000;

pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let (long, picks) = if quick {
        (100_000, 100_000)
    } else {
        (1_000_000, 1_000_000)
    };
    let mut rows = Vec::new();
    for policy in Policy::all() {
        let mut times = [f64::INFINITY; 2];
        // The least of three: the machine's other work only adds.
        for round in 0..3 {
            for (time, pending) in times.iter_mut().zip([SHORT, long]) {
                *time = time.min(pick_ns(&policy, pending, picks, round));
            }
        }
        let name = format!("policies {} pick and update", policy.name());
        let inputs = format!("{long} pending, {TENANTS} tenants, {picks} picks");
        rows.push(Row::at_most(&name, times[1], "ns", 500.0).with(&inputs));
        let grown = format!("{name}, by {SHORT} pending");
        rows.push(
            Row::at_most(grown, times[1], "ns", 3.0)
                .beside(times[0])
                .with(inputs),
        );
    }
    Ok(rows)
}

fn pick_ns(policy: &Policy, pending: u64, picks: u32, seed: u64) -> f64 {
    let mut chance = Chance::new(seed);
    let mut queue = Queue::new(policy);
    let mut job = |id: u64, now: u64| Job {
        id,
        tenant: u32::try_from(chance.below(TENANTS)).unwrap_or(0),
        arrival_ms: now,
        priority: i32::try_from(chance.below(3)).unwrap_or(0) * 100,
        cost: 1_000 + chance.bits() % 1_000_000,
        deadline_ms: Some(now + 10_000_000_000 + chance.bits() % 1_000_000_000),
        attained: 0,
    };
    for id in 0..pending {
        queue.push(job(id, id));
    }
    let fresh: Vec<Job> = (0..u64::from(picks))
        .map(|i| job(pending + i, pending + i))
        .collect();
    let start = Instant::now();
    for next in &fresh {
        if let Some(picked) = queue.pick(next.arrival_ms) {
            queue.charge(picked.tenant, picked.cost);
        }
        queue.push(*next);
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(picks)
}
