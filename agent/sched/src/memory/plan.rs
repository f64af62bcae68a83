//! Which blocks to move where, so that the free memory is of use again.
//!
//! A block's handle and alignment stay, blocks without a legal way stay where they are, each step's
//! destination is free once the steps before it are done, and no plan raises the end of the
//! highest block.

use super::arena::Arena;
use super::cost::{Budget, Costs, Way};
use super::holes::Holes;
use super::terms::{Block, Held, Region, Ways};
use std::collections::BTreeSet;

/// Windows or slides that are tried, cheapest first, before a strategy gives up.
pub const MAX_TRIES: usize = 256;

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Bring blocks down: the highest into the lowest holes that take them, each once; when no hole
    /// takes any, slide all down.
    CompactLow,
    /// Empty the region of `bytes` (at a multiple of `bytes`) that holds the least.
    EvacuateEmptiest {
        /// The regions' size, at least one granule.
        bytes: u64,
    },
    /// Make one hole of `bytes` at a multiple of `align`.
    MakeRoom {
        /// The hole's size.
        bytes: u64,
        /// A power of two in bytes.
        align: u64,
    },
}

/// One step of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Which block.
    pub block: Block,
    /// Whose it is, so that they can be asked.
    pub owner: u32,
    /// Where it starts, in bytes.
    pub from: u64,
    /// Where it shall start; `None`: it leaves the device.
    pub to: Option<u64>,
    /// Its size.
    pub bytes: u64,
    /// How.
    pub way: Way,
    /// How long that takes, apart from the owner's acknowledgement.
    pub pause_ns: u64,
}

/// Steps in the order in which they have to be taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps of this cycle.
    pub moves: Vec<Move>,
    /// Bytes moved by them.
    pub bytes: u64,
    /// The pause they take, acknowledgements included.
    pub pause_ns: u64,
    /// No way to the goal moves fewer bytes than this; `None`: immovable blocks stand in every way.
    pub least_bytes: Option<u64>,
    /// The goal is reached once these steps are done; otherwise plan again after them, or, when
    /// there are none, it cannot be reached.
    pub complete: bool,
}

/// Plans one cycle. The same arena gives the same plan; O(regions log regions).
#[must_use]
pub fn plan(arena: &Arena, strategy: Strategy, costs: &Costs, budget: &Budget) -> Plan {
    let regions: Vec<Region> = arena.regions().collect();
    let last = regions.iter().rev().find(|r| r.held.is_some());
    let Some(top) = last.map(|r| r.offset + r.bytes) else {
        return Plan {
            least_bytes: Some(0),
            complete: true,
            ..Plan::default()
        };
    };
    let mut planner = Planner {
        holes: Holes::new(&regions, top),
        regions,
        costs,
        budget,
        capacity: arena.capacity(),
    };
    match strategy {
        Strategy::CompactLow => planner.compact(),
        Strategy::EvacuateEmptiest { bytes } => planner.evacuate(bytes.max(arena.granule())),
        Strategy::MakeRoom { bytes, align } => {
            planner.make_room(bytes.max(1), align.max(arena.granule()))
        }
    }
}

/// A range that could be emptied, and what that moves; regions `first..past` touch it.
#[derive(Debug, Clone, Copy)]
struct Window {
    bytes: u64,
    start: u64,
    end: u64,
    first: usize,
    past: usize,
}

struct Planner<'a> {
    regions: Vec<Region>,
    holes: Holes,
    costs: &'a Costs,
    budget: &'a Budget,
    capacity: u64,
}

// === impl Plan ===

impl Plan {
    /// As many of the steps as one cycle may take.
    fn cut(moves: Vec<Move>, least: Option<u64>, costs: &Costs, budget: &Budget) -> Self {
        let mut plan = Self {
            least_bytes: least,
            complete: true,
            ..Self::default()
        };
        let mut asked = BTreeSet::new();
        for step in moves {
            let acknowledge = if step.way == Way::Copy && asked.insert(step.owner) {
                costs.acknowledge_ns
            } else {
                0
            };
            let pause = plan
                .pause_ns
                .saturating_add(step.pause_ns.saturating_add(acknowledge));
            let bytes = plan.bytes.saturating_add(step.bytes);
            if plan.moves.len() >= budget.moves || bytes > budget.bytes || pause > budget.pause_ns {
                plan.complete = false;
                break;
            }
            plan.moves.push(step);
            plan.bytes = bytes;
            plan.pause_ns = pause;
        }
        plan
    }

    fn impossible(least_bytes: Option<u64>) -> Self {
        Self {
            least_bytes,
            ..Self::default()
        }
    }
}

fn up(offset: u64, align: u64) -> u64 {
    offset.next_multiple_of(align.max(1))
}

fn total(moves: &[Move]) -> u64 {
    moves.iter().map(|m| m.bytes).sum()
}

// === impl Planner ===

impl Planner<'_> {
    /// Whether a block may be moved at all within one cycle.
    fn movable(&self, region: &Region) -> bool {
        let held = region.held.filter(|h| h.ways != Ways::NONE);
        held.is_some() && region.bytes <= self.budget.bytes
    }

    /// What a block's offset has to be a multiple of.
    fn align(&self, held: &Held) -> u64 {
        if held.ways.has(Ways::REMAP) && !held.ways.has(Ways::COPY) && !held.ways.has(Ways::EVICT) {
            held.align.max(self.costs.page)
        } else {
            held.align
        }
    }

    fn step(&self, region: &Region, to: Option<u64>) -> Option<Move> {
        let held = region.held?;
        let (way, pause_ns) = self
            .costs
            .cheapest(held.ways, region.offset, to, region.bytes)?;
        let alone = if way == Way::Copy {
            self.costs.acknowledge_ns
        } else {
            0
        };
        (pause_ns.saturating_add(alone) <= self.budget.pause_ns).then_some(Move {
            block: held.block,
            owner: held.owner,
            from: region.offset,
            to,
            bytes: region.bytes,
            way,
            pause_ns,
        })
    }

    /// Into the lowest hole that takes it.
    fn fill_hole(&mut self, region: &Region, below: u64) -> Option<Move> {
        let align = self.align(region.held.as_ref()?);
        let hole = self.holes.first(region.bytes).and_then(|hole| {
            let at = self.holes.offset(hole);
            if up(at, align) == at {
                return Some(hole);
            }
            self.holes.first(region.bytes.saturating_add(align))
        })?;
        let to = up(self.holes.offset(hole), align);
        if to.saturating_add(region.bytes) > below {
            return None;
        }
        let step = self.step(region, Some(to))?;
        self.holes.fill(hole, to + region.bytes);
        Some(step)
    }

    /// Moves everything out of a window: the largest first, each into the lowest hole outside.
    fn empty(&mut self, window: &Window) -> Option<Vec<Move>> {
        self.holes.bar(window.start, window.end);
        let mut blocks: Vec<Region> = self.regions[window.first..window.past]
            .iter()
            .filter(|r| r.held.is_some())
            .copied()
            .collect();
        blocks.sort_by_key(|r| (std::cmp::Reverse(r.bytes), r.offset));
        let mut moves = Vec::with_capacity(blocks.len());
        for block in &blocks {
            let step = self
                .fill_hole(block, u64::MAX)
                .or_else(|| self.step(block, None));
            let Some(step) = step else {
                self.holes.undo();
                return None;
            };
            moves.push(step);
        }
        self.holes.undo();
        Some(moves)
    }

    /// The cheapest windows of `bytes` that can be emptied, cheapest first.
    fn windows(&self, bytes: u64, align: u64, aligned_only: bool) -> Vec<Window> {
        let regions = &self.regions;
        let mut sums = vec![(0u64, 0usize)];
        for r in regions {
            let (used, fixed) = sums[sums.len() - 1];
            let held = if r.held.is_some() { r.bytes } else { 0 };
            let stuck = usize::from(r.held.is_some() && !self.movable(r));
            sums.push((used + held, fixed + stuck));
        }
        let starts: Vec<u64> = if aligned_only {
            let most = usize::try_from(self.capacity / bytes).unwrap_or(usize::MAX);
            let start = |i: usize| u64::try_from(i).unwrap_or(u64::MAX).saturating_mul(bytes);
            (0..most).map(start).collect()
        } else {
            regions.iter().map(|r| up(r.offset, align)).collect()
        };
        let (mut first, mut past) = (0, 0);
        let mut windows = Vec::new();
        for start in starts {
            let Some(end) = start.checked_add(bytes).filter(|e| *e <= self.capacity) else {
                break;
            };
            while regions[first].offset + regions[first].bytes <= start {
                first += 1;
            }
            while past < regions.len() && regions[past].offset < end {
                past += 1;
            }
            if sums[past].1 == sums[first].1 {
                windows.push(Window {
                    bytes: sums[past].0 - sums[first].0,
                    start,
                    end,
                    first,
                    past,
                });
            }
        }
        windows
    }

    fn cheapest(mut windows: Vec<Window>) -> Vec<Window> {
        if windows.len() > MAX_TRIES {
            windows.select_nth_unstable_by_key(MAX_TRIES, |w| (w.bytes, w.start));
            windows.truncate(MAX_TRIES);
        }
        windows.sort_by_key(|w| (w.bytes, w.start));
        windows
    }

    fn make_room(&mut self, bytes: u64, align: u64) -> Plan {
        let windows = Self::cheapest(self.windows(bytes, align, false));
        let least = windows.first().map(|w| w.bytes);
        if least == Some(0) {
            return Plan::cut(Vec::new(), least, self.costs, self.budget);
        }
        let mut found = windows.iter().find_map(|w| self.empty(w));
        if found.as_deref().map(total) != least || least.is_none() {
            let slid = self.slide_for(bytes, align);
            found = match (found, slid) {
                (Some(a), Some(b)) => Some(if total(&b) < total(&a) { b } else { a }),
                (a, b) => a.or(b),
            };
        }
        match found {
            Some(moves) => Plan::cut(moves, least, self.costs, self.budget),
            None => Plan::impossible(least),
        }
    }

    fn evacuate(&mut self, bytes: u64) -> Plan {
        let mut windows = self.windows(bytes, 1, true);
        windows.retain(|w| w.bytes > 0);
        let windows = Self::cheapest(windows);
        let least = windows.first().map(|w| w.bytes);
        match windows.iter().find_map(|w| self.empty(w)) {
            Some(moves) => Plan::cut(moves, least, self.costs, self.budget),
            None => Plan::impossible(least),
        }
    }

    /// Slides what lies between two holes down, so that holes between them join; fewest bytes first.
    fn slide_for(&self, bytes: u64, align: u64) -> Option<Vec<Move>> {
        let mut runs = Vec::new();
        let (mut free, mut used, mut low) = (0, 0, 0);
        for (high, region) in self.regions.iter().enumerate() {
            if region.held.is_some() {
                if self.movable(region) {
                    used += region.bytes;
                } else {
                    (free, used, low) = (0, 0, high + 1);
                }
                continue;
            }
            free += region.bytes;
            while free >= bytes {
                if self.regions[low].held.is_none() {
                    runs.push((used, low, high));
                    free -= self.regions[low].bytes;
                } else {
                    used -= self.regions[low].bytes;
                }
                low += 1;
            }
        }
        runs.sort_unstable();
        runs.into_iter().take(MAX_TRIES).find_map(|(_, low, high)| {
            let mut end = self.regions[low].offset;
            let moves = self.slide(&self.regions[low..=high], &mut end)?;
            let last = &self.regions[high];
            (up(end, align).saturating_add(bytes) <= last.offset + last.bytes).then_some(moves)
        })
    }

    /// Each block down to where the one before it ends; `end` is where the last one does.
    fn slide(&self, regions: &[Region], end: &mut u64) -> Option<Vec<Move>> {
        let mut moves = Vec::new();
        for region in regions {
            let Some(held) = region.held else { continue };
            let to = up(*end, self.align(&held));
            if to < region.offset {
                moves.push(self.step(region, Some(to))?);
                *end = to + region.bytes;
            } else {
                *end = region.offset + region.bytes;
            }
        }
        Some(moves)
    }

    fn compact(&mut self) -> Plan {
        let mut moves = Vec::new();
        for i in (0..self.regions.len()).rev() {
            let region = self.regions[i];
            if !self.movable(&region) {
                continue;
            }
            match self.fill_hole(&region, region.offset) {
                Some(step) => moves.push(step),
                None => self.holes.undo(),
            }
            self.holes.keep();
            if moves.len() >= self.budget.moves {
                break;
            }
        }
        if moves.is_empty() {
            moves = self.slide_all();
        }
        let done = moves.is_empty();
        let mut plan = Plan::cut(moves, None, self.costs, self.budget);
        plan.complete = done;
        plan
    }

    /// Slides every block that may move, between those that may not.
    fn slide_all(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        let mut end = 0;
        for region in &self.regions {
            if region.held.is_none() {
                continue;
            }
            let slid = if self.movable(region) {
                self.slide(std::slice::from_ref(region), &mut end)
            } else {
                None
            };
            match slid {
                Some(steps) => moves.extend(steps),
                None => end = region.offset + region.bytes,
            }
        }
        moves
    }
}
