//! The memory's invariants, on random stories.

mod arena;
mod device;
mod mig;
mod moves;
mod pools;
mod pressure;

use super::{Arena, Block, Region};

/// Asserts what holds of every arena at every moment, and returns its regions.
fn hold(arena: &Arena) -> Vec<Region> {
    let regions: Vec<Region> = arena.regions().collect();
    let (mut end, mut free, mut blocks) = (0, 0, 0);
    let mut hole_before = false;
    for r in &regions {
        assert_eq!(r.offset, end, "regions cover the arena without overlap");
        assert!(r.bytes > 0 && r.bytes % arena.granule() == 0);
        assert!(!(hole_before && r.held.is_none()), "two holes touch");
        hole_before = r.held.is_none();
        if let Some(held) = r.held {
            assert_eq!(
                arena.region(held.block),
                Ok(*r),
                "the handle names its region"
            );
            assert_eq!(r.offset % held.align, 0, "aligned");
            blocks += 1;
        } else {
            free += r.bytes;
        }
        end += r.bytes;
    }
    assert_eq!(end, arena.capacity());
    assert_eq!(free, arena.free_bytes());
    assert_eq!(blocks, arena.blocks());
    assert_eq!(arena.used() + arena.free_bytes(), arena.capacity());
    regions
}

/// Where the highest block ends.
fn footprint(arena: &Arena) -> u64 {
    let held = arena.regions().filter(|r| r.held.is_some());
    held.last().map_or(0, |r| r.offset + r.bytes)
}

fn live(arena: &Arena) -> Vec<Block> {
    arena
        .regions()
        .filter_map(|r| Some(r.held?.block))
        .collect()
}
