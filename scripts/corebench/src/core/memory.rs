//! Nanoseconds for taking a block back and lending another, beside a published allocator on the same operations.

use crate::row::{Row, median};
use anyhow::{Context as _, Result};
use gpuloom_replay::Chance;
use gpuloom_sched::memory::{Arena, Fit, Request};
use offset_allocator::Allocator;
use std::time::Instant;

/// The device: 80 GiB in units of 512 bytes.
pub(super) const CAPACITY: u64 = 80 << 30;
pub(super) const GRANULE: u64 = 512;
/// Records for so many blocks; the peer needs one for each hole too.
const BLOCKS: u32 = 131_072;
/// Pairs timed at once; the median of the slices does not see what else the machine does.
const SLICE: usize = 1_000;
/// Decisions a second at which the overhead is stated.
const RATE: f64 = 1_000.0;

const FITS: [(Fit, &str); 5] = [
    (Fit::Segregated, "segregated"),
    (Fit::Best, "best"),
    (Fit::First, "first"),
    (Fit::Next, "next"),
    (Fit::Worst, "worst"),
];

/// What every allocator does: sizes in units, and which live block each later one replaces.
struct Story {
    live: usize,
    sizes: Vec<u32>,
    victims: Vec<usize>,
}

pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let (rounds, operations) = if quick { (5, 50_000) } else { (15, 100_000) };
    let mut rows = Vec::new();
    for live in [100, 1_000, 10_000, 50_000] {
        let mut peer = f64::INFINITY;
        let mut ours = [f64::INFINITY; FITS.len()];
        for seed in 0..rounds {
            let story = Story::new(live, operations, seed);
            peer = peer.min(story.offset_allocator()?);
            for (best, (fit, _)) in ours.iter_mut().zip(FITS) {
                // The tree of the address-ordered fits is not what the goal is about.
                if seed < 3 || matches!(fit, Fit::Segregated | Fit::Best) {
                    *best = best.min(story.arena(fit)?);
                }
            }
        }
        let inputs =
            format!("best of {rounds} medians of {operations} pairs, half full, log-uniform");
        for (ns, (fit, name)) in ours.into_iter().zip(FITS) {
            let name = format!("memory {name} fit, {live} live");
            let row = match (fit, live) {
                (Fit::Segregated, _) => Row::at_most(name, ns, "ns/pair", 1.0),
                (Fit::Best, 10_000) => Row::at_most(name, ns, "ns/pair", 1.5),
                _ => Row::report(name, ns, "ns/pair"),
            };
            rows.push(row.beside(peer).with(&inputs));
        }
        if live == 10_000 {
            rows.extend(overhead(ours[0])?);
        }
    }
    Ok(rows)
}

/// Processor time and books, in percent.
fn overhead(ns: f64) -> Result<Vec<Row>> {
    let arena = Arena::new(CAPACITY, GRANULE, 10_000, Fit::Segregated)?;
    let percent = 100.0 * as_f64(arena.metadata_bytes()) / as_f64(arena.capacity());
    Ok(vec![
        Row::at_most(
            "memory processor at 1,000 a second",
            ns * RATE / 1e7,
            "%",
            2.0,
        )
        .with("of one core, segregated fit, 10,000 live"),
        Row::at_most("memory books for 10,000 blocks", percent, "%", 2.0)
            .with("host bytes by 80 GiB"),
    ])
}

// === impl Story ===

impl Story {
    /// Sizes from one unit up, log-uniform, such that `live` of them take half of the device.
    fn new(live: usize, operations: usize, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let mean = as_f64(CAPACITY / GRANULE / 2) / as_f64(live as u64);
        let mut most = mean;
        for _ in 0..32 {
            most = mean * most.ln();
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and the device's units"
        )]
        let size = |unit: f64| (most.ln() * unit).exp() as u32;
        Self {
            live,
            sizes: (0..live + operations)
                .map(|_| size(chance.unit()).max(1))
                .collect(),
            victims: (0..operations).map(|_| chance.below(live)).collect(),
        }
    }

    fn arena(&self, fit: Fit) -> Result<f64> {
        let mut arena = Arena::new(CAPACITY, GRANULE, BLOCKS, fit)?;
        let of = |units: u32| Request::of(u64::from(units) * GRANULE);
        let (first, later) = self.sizes.split_at(self.live);
        let mut blocks = Vec::with_capacity(self.live);
        for size in first {
            blocks.push(arena.allocate(&of(*size))?);
        }
        let mut times = Vec::new();
        for (victims, sizes) in self.victims.chunks(SLICE).zip(later.chunks(SLICE)) {
            let start = Instant::now();
            for (victim, size) in victims.iter().zip(sizes) {
                arena.free(blocks[*victim])?;
                blocks[*victim] = match arena.allocate(&of(*size)) {
                    Ok(block) => block,
                    Err(_) => arena.allocate(&of(1))?,
                };
            }
            times.push(per(start, sizes.len()));
        }
        median(&mut times).context("no operation")
    }

    fn offset_allocator(&self) -> Result<f64> {
        let units = u32::try_from(CAPACITY / GRANULE)?;
        let mut allocator: Allocator = Allocator::with_max_allocs(units, BLOCKS);
        let (first, later) = self.sizes.split_at(self.live);
        let mut blocks = Vec::with_capacity(self.live);
        for size in first {
            blocks.push(
                allocator
                    .allocate(*size)
                    .context("the device is half full")?,
            );
        }
        let mut times = Vec::new();
        for (victims, sizes) in self.victims.chunks(SLICE).zip(later.chunks(SLICE)) {
            let start = Instant::now();
            for (victim, size) in victims.iter().zip(sizes) {
                allocator.free(blocks[*victim]);
                blocks[*victim] = match allocator.allocate(*size) {
                    Some(block) => block,
                    None => allocator.allocate(1).context("one unit")?,
                };
            }
            times.push(per(start, sizes.len()));
        }
        median(&mut times).context("no operation")
    }
}

fn per(start: Instant, pairs: usize) -> f64 {
    start.elapsed().as_secs_f64() * 1e9 / as_f64(pairs as u64)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) fn as_f64(n: u64) -> f64 {
    n as f64
}
