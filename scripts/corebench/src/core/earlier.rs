//! The traces of earlier schedulers, with the invariants those broke: no overlap, and use as it is.

use crate::row::Row;
use anyhow::{Result, bail, ensure};
use gpuloom_replay::Chance;
use gpuloom_sched::memory::{Arena, Denied, DeviceMemory, Entitlement, Fit, Pressure, Request};
use std::time::Instant;

const TENANTS: u64 = 8;
const MIB: u64 = 1 << 20;

/// Fit, operations, and what the earlier memory manager did a second on a machine like this.
const MEMORY: [(Fit, &str, usize, f64); 4] = [
    (Fit::Best, "best", 1_000, 35_100.0),
    (Fit::Best, "best", 10_000, 19_900.0),
    (Fit::First, "first", 10_000, 20_100.0),
    (Fit::Worst, "worst", 10_000, 18_500.0),
];

pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let rounds = if quick { 5 } else { 50 };
    let mut rows = Vec::new();
    for (fit, name, operations, peer) in MEMORY {
        let mut best = 0.0f64;
        let mut refused = 0;
        for _ in 0..rounds {
            let (rate, denied) = memory(fit, operations)?;
            best = best.max(rate);
            refused = denied;
        }
        rows.push(
            Row::at_least(
                format!("earlier memory {name} fit, {operations}"),
                best,
                "op/s",
                50.0,
            )
            .beside(peer)
            .with(format!(
                "best of {rounds}, seed 42, {refused} refused, invariants held"
            )),
        );
    }
    Ok(rows)
}

/// The trace's `below`: the remainder, as it was published.
fn below(chance: &mut Chance, n: u64) -> u64 {
    chance.bits() % n
}

/// Operations a second, and how many requests were refused.
fn memory(fit: Fit, operations: usize) -> Result<(f64, u64)> {
    let arena = Arena::new(80 << 30, 512, 16_384, fit)?;
    let mut device = DeviceMemory::new(arena, Pressure::new(1_000, 1_000));
    for tenant in 0..8 {
        device.declare(tenant, Entitlement::default())?;
    }
    let mut chance = Chance::new(42);
    let mut live = Vec::with_capacity(operations);
    let mut refused = 0;
    let start = Instant::now();
    for _ in 0..operations {
        if !live.is_empty() && below(&mut chance, 100) < 45 {
            let i = usize::try_from(below(&mut chance, live.len() as u64))?;
            device.free(live.swap_remove(i))?;
            continue;
        }
        let bytes = (MIB << below(&mut chance, 9)) + below(&mut chance, MIB);
        let request = Request {
            owner: u32::try_from(below(&mut chance, TENANTS))?,
            ..Request::of(bytes)
        };
        match device.allocate(&request) {
            Ok(block) => live.push(block),
            Err(Denied::NoRoom(_)) => refused += 1,
            Err(Denied::Quota(e)) => bail!("nobody has a limit: {e}"),
        }
    }
    let passed = start.elapsed().as_secs_f64();
    hold(&device, live.len())?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = operations as f64 / passed;
    Ok((rate, refused))
}

/// No two live blocks overlap, and each tenant's use is the sum of its blocks.
fn hold(device: &DeviceMemory, live: usize) -> Result<()> {
    let (mut end, mut blocks) = (0, 0);
    let mut used = [0u64; 8];
    for region in device.arena().regions() {
        ensure!(region.offset == end, "regions overlap at {end}");
        end += region.bytes;
        if let Some(held) = region.held {
            used[held.owner as usize] += region.bytes;
            blocks += 1;
        }
    }
    ensure!(blocks == live, "{blocks} blocks in the books, {live} live");
    for (tenant, account) in device.accounts() {
        let truth = used[tenant as usize];
        ensure!(
            account.used == truth,
            "tenant {tenant}: {} in the books, {truth} true",
            account.used
        );
    }
    Ok(())
}
