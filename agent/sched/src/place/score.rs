//! How bad it is to place a shape on a node: the least is best.

use super::mix::{Mix, UNIT};
use super::{Room, Shape, WHOLE};

/// How rooms are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// Fragmentation, stranded GPUs, pressure on models and packing together: the default.
    FragmentationAware,
    /// Fragmentation alone (Weng et al., ATC'23), for comparison.
    Fragmentation,
    /// The node with the least left (processors, memory and GPUs as parts of the shape's ask).
    BestFit,
    /// The node with the most left: work is spread.
    Spread,
}

/// Each weight in tenths of the unusable share.
const STRANDED: i64 = 20;
const PRESSURE: i64 = 5;
/// Thousandths of the share that is free on the node: the fuller one wins.
const PACKING_MILLI: i64 = 10;

/// A node that cannot take the shape.
pub(crate) const NEVER: i64 = i64::MAX;

/// What a room costs by itself: the part of the score that does not depend on the shape.
pub(crate) fn standing(scoring: Scoring, mix: &Mix, room: &Room) -> i64 {
    match scoring {
        Scoring::FragmentationAware => {
            mix.unusable(room) + mix.stranded(room) * UNIT / 10 * STRANDED
        }
        Scoring::Fragmentation => mix.unusable(room),
        Scoring::BestFit | Scoring::Spread => 0,
    }
}

/// The score of `shape` on `room` and the first GPU it would use; [`NEVER`] when it does not fit.
/// `standing` is the room's own; `scratch` is overwritten.
pub(crate) fn score(
    scoring: Scoring,
    mix: &Mix,
    room: &Room,
    shape: &Shape,
    standing_now: i64,
    scratch: &mut Room,
) -> (i64, u8) {
    if !room.fits(shape) {
        return (NEVER, 0);
    }
    let extra = match scoring {
        Scoring::FragmentationAware => {
            let pressed = mix.pressure(room.model) * i64::from(shape.gpu_milli().max(100));
            pressed * (UNIT / 1000) / 10 * PRESSURE
                + i64::from(room.free_milli()) * UNIT / 1000 * PACKING_MILLI
        }
        Scoring::Fragmentation => 0,
        Scoring::BestFit => return (left(room, shape), best_gpu(room, shape)),
        Scoring::Spread => return (-left(room, shape), best_gpu(room, shape)),
    };
    scratch.clone_from(room);
    scratch.cpu_milli -= shape.cpu_milli;
    scratch.memory_mib -= shape.memory_mib;
    if shape.gpus == 0 {
        return (standing(scoring, mix, scratch) - standing_now + extra, 0);
    }
    if shape.gpus > 1 || shape.share_milli == WHOLE {
        let first = first_gpus(&mut scratch.gpus, shape);
        return (
            standing(scoring, mix, scratch) - standing_now + extra,
            first,
        );
    }
    let mut best = (NEVER, 0);
    for g in 0..room.gpus.len() {
        let free = room.gpus[g];
        // GPUs with the same share left are worth the same: only the first is tried.
        if free < shape.share_milli || room.gpus[..g].contains(&free) {
            continue;
        }
        scratch.gpus[g] = free - shape.share_milli;
        let cost = standing(scoring, mix, scratch) - standing_now + extra;
        scratch.gpus[g] = free;
        if cost < best.0 {
            best = (cost, u8::try_from(g).unwrap_or(u8::MAX));
        }
    }
    best
}

/// Takes the shape's GPUs off the first that fit; the number of the first.
fn first_gpus(gpus: &mut [u16], shape: &Shape) -> u8 {
    let mut first = None;
    let fitting = (0u8..).zip(gpus).filter(|(_, g)| **g >= shape.share_milli);
    for (g, left) in fitting.take(usize::from(shape.gpus)) {
        *left -= shape.share_milli;
        first = first.or(Some(g));
    }
    first.unwrap_or(0)
}

/// The GPUs a shape gets on a node: for a part of one GPU `first`; otherwise the first that have room.
pub(crate) fn chosen(gpus: &[u16], shape: &Shape, first: Option<u8>) -> Vec<u8> {
    match first {
        Some(g) if shape.gpus == 1 => vec![g],
        _ => (0u8..)
            .zip(gpus)
            .filter(|(_, free)| **free >= shape.share_milli)
            .map(|(g, _)| g)
            .take(usize::from(shape.gpus))
            .collect(),
    }
}

/// The fullest GPU that still fits.
fn best_gpu(room: &Room, shape: &Shape) -> u8 {
    let fitting = (0u8..).zip(&room.gpus);
    let fitting = fitting.filter(|(_, free)| **free >= shape.share_milli);
    fitting.min_by_key(|(_, free)| **free).map_or(0, |(g, _)| g)
}

/// What would be left, each resource as thousandths of what the shape asks for.
fn left(room: &Room, shape: &Shape) -> i64 {
    let part = |free: u32, asked: u32| {
        let asked = i64::from(asked.max(1));
        (i64::from(free) - asked) * 1000 / asked
    };
    let gpu = if shape.gpus == 0 {
        i64::from(room.free_milli())
    } else {
        part(room.free_milli(), shape.gpu_milli())
    };
    part(room.cpu_milli, shape.cpu_milli) + part(room.memory_mib, shape.memory_mib) + gpu
}
