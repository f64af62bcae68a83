use super::super::{Arena, Fit, MAX_OWNERS, NoRoom, NotMoved, Region, Request, ShapeError, Ways};
use super::{hold, live};
use proptest::prelude::*;

const FITS: [Fit; 5] = [
    Fit::Segregated,
    Fit::Best,
    Fit::First,
    Fit::Next,
    Fit::Worst,
];
const GRANULE: u64 = 512;

#[derive(Debug, Clone)]
enum Op {
    Allocate { granules: u64, align: u32 },
    Free(usize),
    Relocate { which: usize, to: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let granules = prop_oneof![1..8u64, 1..64u64, 1..300u64];
    let align = prop_oneof![4 => Just(0u32), 1 => 0..5u32];
    prop_oneof![
        5 => (granules, align).prop_map(|(granules, align)| Op::Allocate { granules, align }),
        3 => any::<usize>().prop_map(Op::Free),
        1 => (any::<usize>(), 0..1024u64).prop_map(|(which, to)| Op::Relocate { which, to }),
    ]
}

fn fits(hole: &Region, bytes: u64, align: u64) -> bool {
    hole.held.is_none() && hole.offset.next_multiple_of(align) + bytes <= hole.offset + hole.bytes
}

/// Whether the block at `at` came from the hole that the rule names.
fn right_hole(fit: Fit, before: &[Region], at: u64, bytes: u64, align: u64) {
    let holes: Vec<&Region> = before.iter().filter(|r| fits(r, bytes, align)).collect();
    let from = holes
        .iter()
        .find(|h| h.offset <= at && at < h.offset + h.bytes);
    let from = from.expect("a block comes from a hole that it fits");
    match fit {
        Fit::Best => assert!(holes.iter().all(|h| h.bytes >= from.bytes)),
        Fit::Worst => assert!(holes.iter().all(|h| h.bytes <= from.bytes)),
        Fit::First => assert_eq!(from.offset, holes[0].offset),
        Fit::Next | Fit::Segregated => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn regions_never_overlap_and_every_byte_is_accounted_for(
        fit in 0..FITS.len(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let fit = FITS[fit];
        let mut arena = Arena::new(1024 * GRANULE, GRANULE, 64, fit).expect("a shape");
        for op in ops {
            let before = hold(&arena);
            let blocks = live(&arena);
            match op {
                Op::Allocate { granules, align } => {
                    let (bytes, align) = (granules * GRANULE - 7, GRANULE << align);
                    let asked = granules * GRANULE;
                    let request = Request { align, owner: 3, ways: Ways::COPY, ..Request::of(bytes) };
                    match arena.allocate(&request) {
                        Ok(block) => {
                            let at = arena.offset(block).expect("live");
                            right_hole(fit, &before, at, asked, align);
                            let held = arena.region(block).expect("live").held.expect("a block");
                            prop_assert_eq!((held.owner, held.ways, held.align), (3, Ways::COPY, align));
                        }
                        Err(NoRoom::Blocks(n)) => prop_assert_eq!(n as usize, blocks.len()),
                        Err(NoRoom::Exhausted { free, .. }) => prop_assert!(free < asked),
                        Err(NoRoom::Fragmented { free, .. }) => {
                            prop_assert!(free >= asked);
                            prop_assert!(!before.iter().any(|r| fits(r, asked, align)), "{:?}", fit);
                        }
                        Err(other) => prop_assert!(false, "{}", other),
                    }
                }
                Op::Free(which) if !blocks.is_empty() => {
                    let block = blocks[which % blocks.len()];
                    let bytes = arena.region(block).expect("live").bytes;
                    prop_assert_eq!(arena.free(block), Ok(bytes));
                    prop_assert!(arena.free(block).is_err(), "freed twice");
                    prop_assert!(arena.offset(block).is_err());
                }
                Op::Relocate { which, to } if !blocks.is_empty() => {
                    let block = blocks[which % blocks.len()];
                    let (region, to) = (arena.region(block).expect("live"), to * GRANULE);
                    let end = to + region.bytes;
                    let own = |r: &Region| r.held.is_none_or(|h| h.block == block);
                    let clear = before.iter().filter(|r| r.offset < end && to < r.offset + r.bytes);
                    let may = end <= arena.capacity()
                        && to % region.held.expect("a block").align == 0
                        && clear.into_iter().all(own);
                    match arena.relocate(block, to) {
                        Ok(()) => {
                            prop_assert!(may);
                            prop_assert_eq!(arena.offset(block), Ok(to));
                        }
                        Err(e) => {
                            prop_assert!(!may, "{}", e);
                            prop_assert_eq!(&hold(&arena), &before, "a refusal changes nothing");
                        }
                    }
                }
                Op::Free(_) | Op::Relocate { .. } => {}
            }
            hold(&arena);
        }
        for block in live(&arena) {
            arena.free(block).expect("live");
        }
        prop_assert_eq!(hold(&arena).len(), 1, "all holes join again");
    }
}

#[test]
fn next_fit_goes_on_where_it_stopped_and_wraps() {
    let mut arena = Arena::new(10 * GRANULE, GRANULE, 10, Fit::Next).expect("a shape");
    let blocks: Vec<_> = (0..10)
        .map(|_| arena.allocate(&Request::of(GRANULE)).expect("room"))
        .collect();
    for i in [2, 6] {
        arena.free(blocks[i]).expect("live");
    }
    let at = |arena: &mut Arena| {
        let block = arena.allocate(&Request::of(1)).expect("room");
        arena.offset(block).expect("live") / GRANULE
    };
    assert_eq!(at(&mut arena), 2, "the cursor stood at the end");
    arena.free(live(&arena)[1]).expect("live");
    assert_eq!(at(&mut arena), 6, "not 1, which is behind the cursor");
    assert_eq!(at(&mut arena), 1);
}

#[test]
fn a_fit_within_the_same_size_class_is_not_refused() {
    let mut arena = Arena::new(1001 * GRANULE, GRANULE, 4, Fit::Segregated).expect("a shape");
    let all = arena
        .allocate(&Request::of(1001 * GRANULE))
        .expect("an empty arena");
    arena.free(all).expect("live");
    assert!(arena.allocate(&Request::of(1000 * GRANULE)).is_ok());
}

#[test]
fn what_is_out_of_range_is_refused_with_its_reason() {
    let new = |capacity, granule, blocks| Arena::new(capacity, granule, blocks, Fit::Best).err();
    assert_eq!(new(1 << 20, 500, 1), Some(ShapeError::Granule(500)));
    assert_eq!(new(1 << 20, 512, 0), Some(ShapeError::Blocks(0)));
    let capacity = 1 << 41;
    let granules = 1 << 32;
    assert_eq!(
        new(capacity, 512, 1),
        Some(ShapeError::Capacity { capacity, granules })
    );
    let mut arena = Arena::new(1 << 20, 512, 1, Fit::Best).expect("a shape");
    let of = |bytes, align, owner| Request {
        bytes,
        align,
        owner,
        ways: Ways::NONE,
    };
    assert_eq!(arena.allocate(&of(0, 1, 0)), Err(NoRoom::Nothing));
    assert_eq!(arena.allocate(&of(1, 3, 0)), Err(NoRoom::Align(3)));
    assert_eq!(
        arena.allocate(&of(1, 1 << 21, 0)),
        Err(NoRoom::Align(1 << 21))
    );
    assert_eq!(
        arena.allocate(&of(1, 1, MAX_OWNERS)),
        Err(NoRoom::Owner(MAX_OWNERS))
    );
    let asked = u64::MAX - 511;
    assert!(matches!(
        arena.allocate(&of(asked, 1, 0)),
        Err(NoRoom::Exhausted { .. })
    ));
    let block = arena.allocate(&of(1, 1, 0)).expect("room");
    assert_eq!(arena.allocate(&of(1, 1, 0)), Err(NoRoom::Blocks(1)));
    let (to, bytes) = (1 << 20, 512);
    assert_eq!(
        arena.relocate(block, to),
        Err(NotMoved::Taken { to, bytes })
    );
    assert_eq!(
        arena.relocate(block, 100),
        Err(NotMoved::Taken { to: 100, bytes })
    );
    assert_eq!(arena.relocate(block, 1024), Ok(()));
}

#[test]
fn the_books_take_less_than_a_thousandth_of_a_gpu() {
    let arena = Arena::new(80 << 30, 512, 100_000, Fit::Segregated).expect("a shape");
    assert!(arena.metadata_bytes() * 1000 < arena.capacity());
    assert!(arena.metadata_bytes() > 200_000 * 32);
}
