//! How many requests fail at a held fill, by fit and with blocks that may be moved, beside a published allocator.

use super::memory::{CAPACITY, GRANULE, as_f64};
use crate::row::Row;
use anyhow::Result;
use gpuloom_replay::Chance;
use gpuloom_sched::memory::{
    Arena, Backend, Block, Budget, Costs, Fit, Fragmentation, NoRoom, Request, Sizes, Strategy,
    Ways, carry_out, plan,
};
use offset_allocator::{Allocation, Allocator};
use std::convert::Infallible;

const MIXES: [(&str, u64, u64); 3] = [
    ("2M-16M", 2 << 20, 16 << 20),
    ("512K-1G", 512 << 10, 1 << 30),
    ("128K-8G", 128 << 10, 8 << 30),
];
const FILLS: [u64; 3] = [85, 90, 95];
/// Cycles of moves that one request waits for at most.
const MAX_CYCLES: usize = 32;
const BLOCKS: u32 = 200_000;
/// A unit of the peer's, so that 80 GiB are a number of 32 bits.
const UNIT: u64 = GRANULE;

/// What lends memory out.
trait Lender {
    /// Whether there was room; a block that is lent gets the next number.
    fn lend(&mut self, bytes: u64) -> bool;
    /// Takes the block of that number back; the last one gets its number.
    fn take_back(&mut self, i: usize);
    fn live(&self) -> usize;
    fn used(&self) -> u64;
}

struct Peer {
    allocator: Allocator,
    blocks: Vec<(Allocation, u64)>,
    used: u64,
}

struct Ours {
    arena: Arena,
    blocks: Vec<Block>,
    movable: bool,
    rooms: u64,
    moved: u64,
    pause_ns: u64,
    longest_ns: u64,
}

/// Only the books are of interest here.
pub(super) struct Nowhere;

pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let requests = if quick { 4_000 } else { 30_000 };
    let mut rows = Vec::new();
    for (mix, least, most) in MIXES {
        for fill in FILLS {
            let name = |what: &str| format!("fragmentation {mix} at {fill}%: {what}");
            let inputs = format!("{requests} requests, log-uniform, random frees, seed 1");
            let mut peer = Peer::new()?;
            let failed = closed_loop(&mut peer, (least, most), fill, requests).0;
            for (fit, what) in [(Fit::Segregated, "segregated"), (Fit::Best, "best fit")] {
                let mut ours = Ours::new(fit, false)?;
                let own = closed_loop(&mut ours, (least, most), fill, requests).0;
                let row = Row::report(name(what), own, "% failed");
                rows.push(row.beside(failed).with(&inputs));
            }
            let mut ours = Ours::new(Fit::Best, true)?;
            let (own, sizes) = closed_loop(&mut ours, (least, most), fill, requests);
            let row = if mix == "512K-1G" && fill < 95 {
                Row::at_most(name("best fit, movable"), own, "% failed", 1.0)
            } else {
                Row::report(name("best fit, movable"), own, "% failed")
            };
            rows.push(row.with(ours.story(requests)));
            let unit = sizes.percentile(90).unwrap_or(GRANULE);
            let unusable = |ours: &Ours| Fragmentation::of(&ours.arena, unit).unusable() * 100.0;
            rows.push(
                Row::report(name("unusable"), unusable(&ours), "% of free")
                    .with(format!("in units of the p90 request, {} MiB", unit >> 20)),
            );
            ours.compact();
            let row = Row::at_most(
                name("unusable, compacted"),
                unusable(&ours),
                "% of free",
                10.0,
            );
            let row = if mix == "512K-1G" && fill < 95 {
                row
            } else {
                Row { goal: None, ..row }
            };
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Percent of requests that fail while the device is held at `fill` percent, once it is there.
fn closed_loop(
    lender: &mut dyn Lender,
    (least, most): (u64, u64),
    fill: u64,
    requests: u64,
) -> (f64, Sizes) {
    let mut chance = Chance::new(1);
    let mut sizes = Sizes::new(GRANULE);
    let target = CAPACITY / 100 * fill;
    let (mut failed, mut counted, mut made) = (0u64, 0u64, 0u64);
    while counted < requests {
        let spread = as_f64(most) / as_f64(least);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between the mix's bounds"
        )]
        let bytes = (as_f64(least) * spread.powf(chance.unit())) as u64;
        while lender.used() + bytes > target && lender.live() > 0 {
            lender.take_back(chance.below(lender.live()));
        }
        let lent = lender.lend(bytes);
        sizes.note(bytes);
        made += 1;
        if made > requests / 2 {
            counted += 1;
            failed += u64::from(!lent);
        }
    }
    (100.0 * as_f64(failed) / as_f64(counted), sizes)
}

// === impl Peer ===

impl Peer {
    fn new() -> Result<Self> {
        let units = u32::try_from(CAPACITY / UNIT)?;
        Ok(Self {
            allocator: Allocator::with_max_allocs(units, BLOCKS),
            blocks: Vec::new(),
            used: 0,
        })
    }
}

impl Lender for Peer {
    fn lend(&mut self, bytes: u64) -> bool {
        let units = bytes.div_ceil(UNIT);
        let lent = u32::try_from(units)
            .ok()
            .and_then(|u| self.allocator.allocate(u));
        let Some(block) = lent else { return false };
        self.blocks.push((block, units * UNIT));
        self.used += units * UNIT;
        true
    }

    fn take_back(&mut self, i: usize) {
        let (block, bytes) = self.blocks.swap_remove(i);
        self.allocator.free(block);
        self.used -= bytes;
    }

    fn live(&self) -> usize {
        self.blocks.len()
    }

    fn used(&self) -> u64 {
        self.used
    }
}

// === impl Ours ===

impl Ours {
    fn new(fit: Fit, movable: bool) -> Result<Self> {
        Ok(Self {
            arena: Arena::new(CAPACITY, GRANULE, BLOCKS, fit)?,
            blocks: Vec::new(),
            movable,
            rooms: 0,
            moved: 0,
            pause_ns: 0,
            longest_ns: 0,
        })
    }

    /// Makes room in cycles of the ordinary budget.
    fn make_room(&mut self, bytes: u64) -> bool {
        let goal = Strategy::MakeRoom {
            bytes,
            align: GRANULE,
        };
        self.rooms += 1;
        for _ in 0..MAX_CYCLES {
            let cycle = plan(&self.arena, goal, &Costs::default(), &Budget::default());
            self.pause_ns += cycle.pause_ns;
            self.longest_ns = self.longest_ns.max(cycle.pause_ns);
            for step in &cycle.moves {
                if carry_out(&mut self.arena, step, &mut Nowhere).is_err() {
                    return false;
                }
                self.moved += step.bytes;
            }
            if cycle.complete || cycle.moves.is_empty() {
                return cycle.complete;
            }
        }
        false
    }

    /// Brings everything down, in cycles.
    fn compact(&mut self) {
        for _ in 0..BLOCKS {
            let goal = Strategy::CompactLow;
            let cycle = plan(&self.arena, goal, &Costs::default(), &Budget::default());
            for step in &cycle.moves {
                if carry_out(&mut self.arena, step, &mut Nowhere).is_err() {
                    return;
                }
            }
            if cycle.moves.is_empty() {
                return;
            }
        }
    }

    fn story(&self, requests: u64) -> String {
        let per_request = as_f64(self.moved) / as_f64(requests + requests / 2) / 1_048_576.0;
        let pause = as_f64(self.pause_ns) / as_f64(self.rooms.max(1)) / 1e6;
        let longest = as_f64(self.longest_ns) / 1e6;
        format!(
            "room made {} times, {per_request:.1} MiB moved a request, pause mean {pause:.1} ms, \
             longest {longest:.1} ms at 800 GB/s",
            self.rooms
        )
    }
}

impl Lender for Ours {
    fn lend(&mut self, bytes: u64) -> bool {
        let ways = if self.movable { Ways::COPY } else { Ways::NONE };
        let request = Request {
            ways,
            owner: u32::try_from(self.blocks.len() % 8).unwrap_or(0),
            ..Request::of(bytes)
        };
        let lent = match self.arena.allocate(&request) {
            Err(NoRoom::Fragmented { .. }) if self.movable && self.make_room(bytes) => {
                self.arena.allocate(&request)
            }
            other => other,
        };
        self.blocks.extend(lent.ok());
        lent.is_ok()
    }

    fn take_back(&mut self, i: usize) {
        let block = self.blocks.swap_remove(i);
        if let Err(e) = self.arena.free(block) {
            unreachable!("a live block: {e}");
        }
    }

    fn live(&self) -> usize {
        self.blocks.len()
    }

    fn used(&self) -> u64 {
        self.arena.used()
    }
}

impl Backend for Nowhere {
    type Error = Infallible;
    fn remap(&mut self, _: u64, _: u64, _: u64) -> Result<(), Infallible> {
        Ok(())
    }
    fn copy(&mut self, _: u32, _: u64, _: u64, _: u64) -> Result<(), Infallible> {
        Ok(())
    }
    fn evict(&mut self, _: u32, _: u64, _: u64, _: u64) -> Result<(), Infallible> {
        Ok(())
    }
    fn migrate(&mut self, _: u32, _: u64, _: u64) -> Result<(), Infallible> {
        Ok(())
    }
}
