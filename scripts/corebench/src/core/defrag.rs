//! How long a plan of moves takes, how near it is to the fewest bytes, and the pause it costs.

use super::memory::{CAPACITY, GRANULE, as_f64};
use crate::row::Row;
use anyhow::Result;
use gpuloom_replay::Chance;
use gpuloom_sched::memory::{
    Arena, Budget, Costs, Fit, MAX_TRIES, Plan, Request, Strategy, Ways, plan,
};
use std::time::Instant;

const BLOCKS: usize = 10_000;
/// One block in so many may not be moved.
const IMMOVABLE: usize = 1_000;
const MIB: u64 = 1 << 20;

/// The worst over all arenas.
#[derive(Default)]
struct Worst {
    ms: f64,
    ratio: f64,
    pause_ms: f64,
    incomplete: u32,
    plans: u32,
}

pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let seeds = if quick { 3 } else { 20 };
    let arenas: Vec<Arena> = (0..seeds).map(fragmented).collect::<Result<_>>()?;
    let mut rows = Vec::new();
    for mib in [256, 1024, 4096] {
        let goal = Strategy::MakeRoom {
            bytes: mib * MIB,
            align: GRANULE,
        };
        rows.extend(judge(&format!("room of {mib} MiB"), &arenas, goal));
    }
    let bytes = 1 << 30;
    let evacuate = Strategy::EvacuateEmptiest { bytes };
    rows.extend(judge("evacuate 1 GiB", &arenas, evacuate));
    let mut worst = Worst::default();
    for arena in &arenas {
        worst.take(arena, Strategy::CompactLow, &Budget::default());
    }
    rows.push(
        Row::at_most("defrag compact: plan", worst.ms, "ms", 5.0)
            .with(format!("worst of {seeds} arenas, one cycle of 256 moves")),
    );
    rows.push(
        Row::at_most("defrag compact: pause", worst.pause_ms, "ms", 100.0)
            .with("modelled at 800 GB/s, one cycle"),
    );
    Ok(rows)
}

fn judge(what: &str, arenas: &[Arena], goal: Strategy) -> Vec<Row> {
    let (mut free, mut bounded) = (Worst::default(), Worst::default());
    for arena in arenas {
        free.take(arena, goal, &Budget::UNBOUNDED);
        bounded.take(arena, goal, &Budget::default());
    }
    let inputs = format!(
        "worst of {} arenas of {BLOCKS} blocks of 2-16 MiB, 0.1% immovable; {} of {} plans complete, \
         at most {MAX_TRIES} tries",
        arenas.len(),
        free.plans - free.incomplete,
        free.plans
    );
    // No plan at all is not a good one.
    let made = free.plans > free.incomplete;
    let ratio = if made { free.ratio } else { f64::INFINITY };
    vec![
        Row::at_most(format!("defrag {what}: plan"), free.ms, "ms", 5.0).with(&inputs),
        Row::at_most(format!("defrag {what}: bytes by fewest"), ratio, "x", 1.2).with(&inputs),
        Row::at_most(
            format!("defrag {what}: pause"),
            bounded.pause_ms,
            "ms",
            100.0,
        )
        .with("modelled at 800 GB/s, one cycle"),
    ]
}

// === impl Worst ===

impl Worst {
    fn take(&mut self, arena: &Arena, goal: Strategy, budget: &Budget) {
        let costs = Costs::default();
        let mut best = f64::INFINITY;
        let mut made = Plan::default();
        // The best of a few: what is measured is the plan, not what else the machine does.
        for _ in 0..5 {
            let start = Instant::now();
            made = plan(arena, goal, &costs, budget);
            best = best.min(start.elapsed().as_secs_f64() * 1e3);
        }
        self.plans += 1;
        self.ms = self.ms.max(best);
        self.pause_ms = self.pause_ms.max(as_f64(made.pause_ns) / 1e6);
        if !made.complete {
            self.incomplete += 1;
            return;
        }
        if let Some(least) = made.least_bytes.filter(|b| *b > 0) {
            self.ratio = self.ratio.max(as_f64(made.bytes) / as_f64(least));
        }
    }
}

/// An arena filled to the brim, emptied at random down to 10,000 blocks (about 85% full), and then
/// used for a while: no large hole is left anywhere.
fn fragmented(seed: u64) -> Result<Arena> {
    let mut chance = Chance::new(seed);
    let mut arena = Arena::new(CAPACITY, GRANULE, 20_000, Fit::Best)?;
    let mut blocks = Vec::new();
    while let Ok(block) = arena.allocate(&request(&mut chance)) {
        blocks.push(block);
    }
    while blocks.len() > BLOCKS {
        arena.free(blocks.swap_remove(chance.below(blocks.len())))?;
    }
    for _ in 0..BLOCKS {
        let victim = chance.below(blocks.len());
        if let Ok(block) = arena.allocate(&request(&mut chance)) {
            arena.free(std::mem::replace(&mut blocks[victim], block))?;
        }
    }
    Ok(arena)
}

fn request(chance: &mut Chance) -> Request {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "2 to 16 MiB"
    )]
    let bytes = (2.0 * as_f64(MIB) * 8f64.powf(chance.unit())) as u64;
    Request {
        owner: u32::try_from(chance.below(8)).unwrap_or(0),
        ways: if chance.below(IMMOVABLE) == 0 {
            Ways::NONE
        } else {
            Ways::COPY
        },
        ..Request::of(bytes)
    }
}
