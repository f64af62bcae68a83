use super::super::{
    Arena, Backend, Block, Budget, Costs, Fit, NoRoom, Plan, Request, StepError, Strategy as Goal,
    Way, Ways, carry_out, plan,
};
use super::{footprint, hold, live};
use proptest::prelude::*;
use std::convert::Infallible;

const GRANULE: u64 = 16;
const PAGE: u64 = 64;
const CAPACITY: u64 = 64 * PAGE;
/// What memory holds that nobody owns.
const POISON: u8 = 0xEE;

/// Memory that checks what is done to it: pages behind a table, and nothing left where it was.
struct Device {
    table: Vec<usize>,
    frames: Vec<u8>,
    copied: u64,
}

impl Device {
    fn new() -> Self {
        let pages = usize::try_from(CAPACITY / PAGE).expect("small");
        Self {
            table: (0..pages).collect(),
            frames: vec![POISON; usize::try_from(CAPACITY).expect("small")],
            copied: 0,
        }
    }

    fn at(&mut self, offset: u64) -> &mut u8 {
        let page = self.table[usize::try_from(offset / PAGE).expect("small")];
        let page_bytes = usize::try_from(PAGE).expect("small");
        &mut self.frames[page * page_bytes + usize::try_from(offset % PAGE).expect("small")]
    }

    fn read(&mut self, offset: u64, bytes: u64) -> Vec<u8> {
        (offset..offset + bytes).map(|o| *self.at(o)).collect()
    }

    fn write(&mut self, offset: u64, content: &[u8]) {
        for (o, byte) in (offset..).zip(content) {
            *self.at(o) = *byte;
        }
    }

    fn poison(&mut self, from: u64, to: Option<u64>, bytes: u64) {
        for o in from..from + bytes {
            if !to.is_some_and(|to| (to..to + bytes).contains(&o)) {
                *self.at(o) = POISON;
            }
        }
    }
}

impl Backend for Device {
    type Error = Infallible;

    fn remap(&mut self, from: u64, to: u64, bytes: u64) -> Result<(), Infallible> {
        assert!(
            [from, to, bytes].iter().all(|x| x % PAGE == 0),
            "whole pages"
        );
        let page = |o: u64| usize::try_from(o / PAGE).expect("small");
        let moved: Vec<usize> = (0..page(bytes))
            .map(|i| self.table[page(from) + i])
            .collect();
        let mut spare: Vec<usize> = (page(to)..page(to + bytes))
            .filter(|p| !(page(from)..page(from + bytes)).contains(p))
            .map(|p| self.table[p])
            .collect();
        for p in page(from)..page(from + bytes) {
            if !(page(to)..page(to + bytes)).contains(&p) {
                self.table[p] = spare.pop().expect("as many as were taken");
            }
        }
        self.table[page(to)..page(to + bytes)].copy_from_slice(&moved);
        Ok(())
    }

    fn copy(&mut self, _: u32, from: u64, to: u64, bytes: u64) -> Result<(), Infallible> {
        assert_ne!(from, to);
        let chunk = from.abs_diff(to).min(bytes);
        let starts: Vec<u64> = (0..bytes.div_ceil(chunk)).map(|i| i * chunk).collect();
        let upwards = to > from;
        for i in 0..starts.len() {
            let start = starts[if upwards { starts.len() - 1 - i } else { i }];
            let part = self.read(from + start, chunk.min(bytes - start));
            self.write(to + start, &part);
        }
        self.copied += bytes;
        self.poison(from, Some(to), bytes);
        Ok(())
    }

    fn evict(&mut self, _: u32, from: u64, to: u64, bytes: u64) -> Result<(), Infallible> {
        let host = self.read(from, bytes);
        self.poison(from, None, bytes);
        self.write(to, &host);
        Ok(())
    }

    fn migrate(&mut self, _: u32, from: u64, bytes: u64) -> Result<(), Infallible> {
        self.poison(from, None, bytes);
        Ok(())
    }
}

fn costs() -> Costs {
    Costs {
        page: PAGE,
        ..Costs::default()
    }
}

fn ways(bits: u8) -> Ways {
    [Ways::REMAP, Ways::COPY, Ways::EVICT, Ways::MIGRATE]
        .into_iter()
        .enumerate()
        .filter(|(i, _)| bits & (1 << i) != 0)
        .fold(Ways::NONE, |all, (_, way)| all.or(way))
}

/// An arena after allocations (granules, alignment, ways) and frees.
fn story(blocks: &[(u64, u32, u8)], freed: &[usize]) -> Arena {
    let mut arena = Arena::new(CAPACITY, GRANULE, 256, Fit::First).expect("a shape");
    for (i, (granules, align, bits)) in blocks.iter().enumerate() {
        let owner = u32::try_from(i % 5).expect("small");
        let (bytes, align) = (granules * GRANULE, GRANULE << align);
        let request = Request {
            bytes,
            align,
            owner,
            ways: ways(*bits),
        };
        if arena.allocate(&request).is_err() {
            break;
        }
    }
    for i in freed {
        let blocks = live(&arena);
        if !blocks.is_empty() {
            arena.free(blocks[i % blocks.len()]).expect("live");
        }
    }
    arena
}

/// The fewest bytes that have to move for a hole of `bytes`, over every place for it.
fn least(arena: &Arena, bytes: u64, align: u64) -> Option<u64> {
    let regions = hold(arena);
    let step = usize::try_from(align.max(GRANULE)).expect("small");
    (0..=CAPACITY.checked_sub(bytes)?)
        .step_by(step)
        .filter_map(|start| {
            let touched = regions
                .iter()
                .filter(|r| r.offset < start + bytes && start < r.offset + r.bytes)
                .filter_map(|r| Some((r.bytes, r.held?.ways)));
            touched
                .map(|(b, w)| (w != Ways::NONE).then_some(b))
                .sum::<Option<u64>>()
        })
        .min()
}

fn check_plan(arena: &Arena, plan: &Plan, budget: &Budget) {
    assert!(plan.moves.len() <= budget.moves);
    assert!(plan.bytes <= budget.bytes && plan.pause_ns <= budget.pause_ns);
    assert_eq!(plan.bytes, plan.moves.iter().map(|m| m.bytes).sum::<u64>());
    for step in &plan.moves {
        let region = arena.region(step.block).expect("live");
        let held = region.held.expect("a block");
        let bit = match step.way {
            Way::Remap => Ways::REMAP,
            Way::Copy => Ways::COPY,
            Way::Evict => Ways::EVICT,
            Way::Migrate => Ways::MIGRATE,
        };
        assert!(held.ways.has(bit), "only in a legal way");
        assert_eq!((step.owner, step.bytes), (held.owner, region.bytes));
        assert_eq!(step.to.is_none(), step.way == Way::Migrate);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn contents_survive_every_move_and_plans_keep_their_word(
        blocks in prop::collection::vec((1..24u64, 0..3u32, prop_oneof![3 => 1..16u8, 1 => Just(0u8)]), 1..120),
        freed in prop::collection::vec(any::<usize>(), 0..60),
        goal in 0..3,
        granules in 1..100u64,
        align in 0..3u32,
        moves in prop_oneof![Just(usize::MAX), 1..6usize],
    ) {
        let mut arena = story(&blocks, &freed);
        let mut device = Device::new();
        let content = |block: Block, bytes: u64| -> Vec<u8> {
            let seed = format!("{block:?}").bytes().fold(7u8, |a, b| a.wrapping_mul(31).wrapping_add(b));
            (0..bytes).map(|i| seed.wrapping_add(i.to_le_bytes()[0].wrapping_mul(3)) & 0x7F).collect()
        };
        for block in live(&arena) {
            let r = arena.region(block).expect("live");
            device.write(r.offset, &content(block, r.bytes));
        }
        let (bytes, align) = (granules * GRANULE, GRANULE << align);
        let goal = match goal {
            0 => Goal::CompactLow,
            1 => Goal::EvacuateEmptiest { bytes: 4 * PAGE },
            _ => Goal::MakeRoom { bytes, align },
        };
        let budget = Budget { moves, ..Budget::UNBOUNDED };
        let mut left = 0;
        for _ in 0..200 {
            let plan = plan(&arena, goal, &costs(), &budget);
            check_plan(&arena, &plan, &budget);
            if matches!(goal, Goal::MakeRoom { .. }) {
                prop_assert_eq!(plan.least_bytes, least(&arena, bytes, align));
                if plan.complete {
                    prop_assert!(plan.bytes >= plan.least_bytes.expect("it can be done"));
                }
            }
            for step in &plan.moves {
                let (used, top) = (arena.used(), footprint(&arena));
                carry_out(&mut arena, step, &mut device).expect("each step can be taken in turn");
                hold(&arena);
                prop_assert!(footprint(&arena) <= top, "the footprint never grows");
                let gone = if step.to.is_none() { step.bytes } else { 0 };
                prop_assert_eq!(arena.used() + gone, used);
                left += u64::from(step.to.is_none());
            }
            for block in live(&arena) {
                let r = arena.region(block).expect("live");
                prop_assert_eq!(device.read(r.offset, r.bytes), content(block, r.bytes));
            }
            if plan.complete || plan.moves.is_empty() {
                if let (Goal::MakeRoom { .. }, true) = (goal, plan.complete) {
                    let room = arena.allocate(&Request { align, ..Request::of(bytes) });
                    prop_assert!(room.is_ok() || matches!(room, Err(NoRoom::Blocks(_))));
                }
                prop_assert!(left <= 120);
                return Ok(());
            }
            if matches!(goal, Goal::EvacuateEmptiest { .. }) {
                return Ok(());
            }
        }
        prop_assert!(false, "cycles come to an end");
    }
}

#[test]
fn room_is_always_made_when_every_block_may_be_moved() {
    for seed in 0..40usize {
        let blocks: Vec<_> = (0..200)
            .map(|i| (1 + (i * 7 + seed as u64) % 9, 0, 2))
            .collect();
        let freed: Vec<usize> = (0..seed + 10).map(|i| i * 13 + seed).collect();
        let arena = story(&blocks, &freed);
        let goal = Goal::MakeRoom {
            bytes: arena.free_bytes(),
            align: GRANULE,
        };
        let plan = plan(&arena, goal, &costs(), &Budget::UNBOUNDED);
        assert!(plan.complete, "{} free", arena.free_bytes());
    }
}

#[test]
fn compaction_ends_with_one_hole() {
    let blocks: Vec<_> = (0..60).map(|i| (1 + i % 7, 0, 2)).collect();
    let mut arena = story(&blocks, &[3, 9, 9, 20, 31, 2]);
    let mut device = Device::new();
    loop {
        let plan = plan(&arena, Goal::CompactLow, &costs(), &Budget::UNBOUNDED);
        for step in &plan.moves {
            carry_out(&mut arena, step, &mut device).expect("each step in turn");
        }
        if plan.complete {
            break;
        }
    }
    assert_eq!(hold(&arena).iter().filter(|r| r.held.is_none()).count(), 1);
    assert_eq!(footprint(&arena), arena.used());
}

#[test]
fn pages_are_mapped_elsewhere_without_copying() {
    let page = PAGE / GRANULE;
    let blocks: Vec<_> = (0..32).map(|_| (2 * page, 2, 1)).collect();
    let mut arena = story(&blocks, &[]);
    for i in (0..32).step_by(2).rev() {
        let block = live(&arena)[i];
        arena.free(block).expect("live");
    }
    let mut device = Device::new();
    let goal = Goal::MakeRoom {
        bytes: 16 * PAGE,
        align: PAGE,
    };
    let plan = plan(&arena, goal, &costs(), &Budget::UNBOUNDED);
    assert!(plan.complete && plan.moves.iter().all(|m| m.way == Way::Remap));
    for step in &plan.moves {
        carry_out(&mut arena, step, &mut device).expect("each step in turn");
    }
    assert_eq!(device.copied, 0);
    assert!(arena.allocate(&Request::of(16 * PAGE)).is_ok());
}

#[derive(Debug, thiserror::Error)]
#[error("the owner did not acknowledge")]
struct Unacknowledged;

struct Broken;

impl Backend for Broken {
    type Error = Unacknowledged;
    fn remap(&mut self, _: u64, _: u64, _: u64) -> Result<(), Unacknowledged> {
        Err(Unacknowledged)
    }
    fn copy(&mut self, _: u32, _: u64, _: u64, _: u64) -> Result<(), Unacknowledged> {
        Err(Unacknowledged)
    }
    fn evict(&mut self, _: u32, _: u64, _: u64, _: u64) -> Result<(), Unacknowledged> {
        Err(Unacknowledged)
    }
    fn migrate(&mut self, _: u32, _: u64, _: u64) -> Result<(), Unacknowledged> {
        Err(Unacknowledged)
    }
}

#[test]
fn a_step_that_fails_or_comes_late_changes_nothing() {
    for bits in [2u8, 4, 8] {
        let blocks: Vec<_> = (0..64).map(|_| (4, 0, bits)).collect();
        let mut arena = story(&blocks, &[1, 5, 9]);
        let before = hold(&arena);
        let goal = Goal::MakeRoom {
            bytes: 8 * GRANULE,
            align: GRANULE,
        };
        let plan = plan(&arena, goal, &costs(), &Budget::UNBOUNDED);
        let step = plan.moves.first().expect("something to move");
        let failed = carry_out(&mut arena, step, &mut Broken);
        assert!(matches!(failed, Err(StepError::Backend(Unacknowledged))));
        assert_eq!(hold(&arena), before);
        arena.free(step.block).expect("live");
        let late = carry_out(&mut arena, step, &mut Broken);
        assert!(matches!(late, Err(StepError::Stale(_))));
    }
}

#[test]
fn each_way_costs_what_it_takes() {
    let costs = Costs::default();
    let gib = 1 << 30;
    let ns = |way, to| costs.pause_ns(way, 4 * gib, to, gib);
    assert_eq!(ns(Way::Remap, Some(0)), Some(512 * 20_000));
    assert_eq!(ns(Way::Copy, Some(0)), Some(1_342_177 + 10_000));
    assert_eq!(
        ns(Way::Copy, Some(4 * gib - (64 << 20))),
        Some(1_342_177 + 160_000)
    );
    assert_eq!(ns(Way::Copy, Some(4 * gib - 512)), None, "too many chunks");
    assert_eq!(ns(Way::Evict, Some(0)), Some(500_000_000 + 2 * 42_949_672));
    assert_eq!(ns(Way::Migrate, None), Some(10_000_000_000 + 107_374_182));
    assert_eq!(ns(Way::Migrate, Some(0)), None);
    assert_eq!(
        costs.pause_ns(Way::Remap, 512, Some(0), gib),
        None,
        "not whole pages"
    );
    let any = Ways::REMAP.or(Ways::COPY).or(Ways::EVICT).or(Ways::MIGRATE);
    let best = |from| costs.cheapest(any, from, Some(0), gib).map(|(way, _)| way);
    assert_eq!(best(4 * gib), Some(Way::Copy));
    assert_eq!(costs.cheapest(Ways::NONE, gib, Some(0), 512), None);
}
