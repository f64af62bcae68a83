use super::super::{Arena, Fit, MAX_SMALL, NoRoom, Piece, Pools, Request, SEGMENT, Ways};
use super::{hold, live};
use proptest::prelude::*;

fn arena(segments: u64) -> Arena {
    Arena::new(segments * SEGMENT, 512, 4096, Fit::Best).expect("a shape")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn pieces_never_overlap_lie_within_the_arena_and_all_comes_back(
        ops in prop::collection::vec(
            (prop_oneof![1..4_096u64, 1..MAX_SMALL, MAX_SMALL..4 * SEGMENT], any::<usize>(), 0..5u8),
            1..150,
        ),
    ) {
        let mut arena = arena(32);
        let mut pools = Pools::new(1, Ways::COPY);
        let mut pieces: Vec<(Piece, u64)> = Vec::new();
        for (bytes, which, kind) in ops {
            if kind < 3 || pieces.is_empty() {
                match pools.allocate(&mut arena, bytes) {
                    Ok(piece) => pieces.push((piece, bytes)),
                    Err(e) => {
                        prop_assert!(!matches!(e, NoRoom::Nothing));
                        prop_assert_eq!(pools.held().empty, 0, "empty segments were given back first");
                    }
                }
            } else {
                let (piece, bytes) = pieces.swap_remove(which % pieces.len());
                pools.free(&mut arena, piece, bytes).expect("live");
                prop_assert!(pools.free(&mut arena, piece, bytes).is_err(), "freed twice");
                prop_assert!(pools.offset(&arena, piece).is_err());
            }
            hold(&arena);
            let mut ranges: Vec<(u64, u64)> = pieces
                .iter()
                .map(|(p, bytes)| (pools.offset(&arena, *p).expect("live"), *bytes))
                .collect();
            ranges.sort_unstable();
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].0 + pair[0].1 <= pair[1].0, "pieces overlap");
            }
            let small = pieces.iter().filter(|(p, _)| matches!(p, Piece::Slot { .. }));
            prop_assert_eq!(small.map(|(_, b)| b).sum::<u64>(), pools.held().asked);
            prop_assert!(pools.held().asked <= pools.held().slots_used);
            prop_assert!(pools.held().slots_used <= pools.held().segments * SEGMENT);
        }
        for (piece, bytes) in pieces {
            pools.free(&mut arena, piece, bytes).expect("live");
        }
        pools.trim(&mut arena);
        prop_assert_eq!(pools.held(), super::super::PoolUse::default());
        prop_assert_eq!(arena.used(), 0);
    }
}

#[test]
fn no_share_of_the_device_is_set_aside_for_a_size() {
    for bytes in [512, 300 << 10, MAX_SMALL] {
        let mut arena = arena(8);
        let mut pools = Pools::new(1, Ways::NONE);
        let mut lent = 0;
        while pools.allocate(&mut arena, bytes).is_ok() {
            lent += bytes;
        }
        assert!(lent * 100 >= arena.capacity() * 85, "{bytes}: {lent}");
    }
    let mut arena = arena(8);
    let whole = arena.capacity();
    assert!(
        Pools::new(1, Ways::NONE)
            .allocate(&mut arena, whole)
            .is_ok()
    );
}

#[test]
fn an_empty_segment_is_given_back_for_a_request_that_needs_it() {
    let mut arena = arena(4);
    let mut pools = Pools::new(1, Ways::NONE);
    let small = pools.allocate(&mut arena, 100).expect("room");
    pools.free(&mut arena, small, 100).expect("live");
    assert_eq!((pools.held().segments, pools.held().empty), (1, 1));
    assert!(pools.allocate(&mut arena, 4 * SEGMENT).is_ok());
    assert_eq!(pools.held().segments, 0);
}

#[test]
fn a_slot_follows_its_segment_when_that_is_moved() {
    let mut arena = arena(4);
    let first = arena.allocate(&Request::of(SEGMENT)).expect("room");
    let mut pools = Pools::new(1, Ways::REMAP);
    pools.allocate(&mut arena, 1_000).expect("room");
    let slot = pools.allocate(&mut arena, 1_000).expect("room");
    assert_eq!(pools.offset(&arena, slot), Ok(SEGMENT + 1_024));
    let segment = live(&arena)[1];
    arena.free(first).expect("live");
    arena.relocate(segment, 0).expect("it is free");
    assert_eq!(pools.offset(&arena, slot), Ok(1_024));
}
