//! The work that is typical of a fleet: what room is worth having.

use super::{Room, Shape, WHOLE};
use std::collections::BTreeMap;

/// Weights of the shapes add up to this.
pub(crate) const UNIT: i64 = 10_000;
/// The share of the work, in percent, that typical shapes cover; the rare rest is left out.
/// Source: the simulator of Weng et al. (ATC'23).
const COVER_PCT: u64 = 95;
/// Most typical shapes.
const MAX_TYPICAL: usize = 256;
/// Processors that go with a GPU, as a part of the mean over work that uses GPUs (percent): a GPU
/// with fewer left beside it counts as stranded. Measured on the openb trace: 92 leaves least.
const PROCESSORS_PCT: u64 = 92;

/// Typical shapes of one model: what a room is asked for, and how often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Typical {
    asks: Vec<Ask>,
    /// Weight of the shapes that may not run on the model.
    elsewhere: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ask {
    cpu_milli: u32,
    memory_mib: u32,
    share_milli: u16,
    gpus: u16,
    weight: i64,
}

/// Typical shapes and how often each comes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mix {
    /// For each model, the typical shapes that may run on it, by share.
    by_model: Vec<Typical>,
    /// Processors that go with a whole GPU, in thousandths; 0 when no work uses GPUs.
    pub(crate) cpu_per_gpu: i64,
    /// For each model, demand per GPU that may serve it, in thousandths.
    pub(crate) pressure: Vec<i64>,
}

// === impl Mix ===

impl Mix {
    /// The mix of `work` (each shape with how often it comes) on a fleet with `rooms` when empty.
    /// Without work every room is worth the same.
    #[must_use]
    pub fn of<'a>(work: &BTreeMap<Shape, u64>, rooms: impl Iterator<Item = &'a Room>) -> Self {
        let mut capacity = vec![0u64; 64];
        for room in rooms {
            if let Some(c) = capacity.get_mut(usize::from(room.model)) {
                *c += u64::from(room.free_milli());
            }
        }
        let mut popular: Vec<(&Shape, u64)> = work.iter().map(|(s, n)| (s, *n)).collect();
        popular.sort_by_key(|(shape, n)| (std::cmp::Reverse(*n), **shape));
        let all: u64 = popular.iter().map(|(_, n)| n).sum();
        let mut covered = 0;
        let mut typical = Vec::new();
        for (shape, n) in popular {
            if covered * 100 >= all * COVER_PCT || typical.len() == MAX_TYPICAL {
                break;
            }
            covered += n;
            typical.push((*shape, n));
        }
        let mut shapes: Vec<(Shape, i64)> = typical
            .into_iter()
            .filter(|(s, _)| s.gpus > 0)
            .map(|(s, n)| (s, ratio(n, covered, UNIT)))
            .collect();
        shapes.sort_by_key(|(s, _)| (s.share_milli, *s));
        Self {
            by_model: (0..64).map(|m| Typical::of(&shapes, m)).collect(),
            cpu_per_gpu: cpu_per_gpu(work),
            pressure: pressure(work, &capacity),
        }
    }

    /// Expected unusable share of a room, in thousandths of a GPU times [`UNIT`]: for each typical
    /// shape all that is left when the room cannot take it, else what is left on GPUs that cannot.
    pub(crate) fn unusable(&self, room: &Room) -> i64 {
        let free = i64::from(room.free_milli());
        let whole = room.gpus.iter().filter(|g| **g == WHOLE).count();
        let most = room.gpus.iter().copied().max().unwrap_or(0);
        let Some(typical) = self.by_model.get(usize::from(room.model)) else {
            return free * UNIT;
        };
        let mut never = typical.elsewhere;
        let mut sum = 0;
        let mut below = (0, 0);
        for ask in &typical.asks {
            let gpus = if ask.share_milli == WHOLE {
                whole >= usize::from(ask.gpus)
            } else {
                most >= ask.share_milli
            };
            if !gpus || room.cpu_milli < ask.cpu_milli || room.memory_mib < ask.memory_mib {
                never += ask.weight;
                continue;
            }
            if below.0 != ask.share_milli {
                let small = room.gpus.iter().filter(|g| **g < ask.share_milli);
                below = (ask.share_milli, small.map(|g| i64::from(*g)).sum());
            }
            sum += ask.weight * below.1;
        }
        sum + never * free
    }

    /// GPU share left without the processors that go with it, in thousandths.
    pub(crate) fn stranded(&self, room: &Room) -> i64 {
        if self.cpu_per_gpu == 0 {
            return 0;
        }
        let served = i64::from(room.cpu_milli) * i64::from(WHOLE) / self.cpu_per_gpu;
        (i64::from(room.free_milli()) - served).max(0)
    }

    /// Demand per GPU that may serve it, for the room's model, in thousandths.
    pub(crate) fn pressure(&self, model: u8) -> i64 {
        self.pressure
            .get(usize::from(model))
            .copied()
            .unwrap_or_default()
    }
}

// === impl Typical ===

impl Typical {
    fn of(shapes: &[(Shape, i64)], model: u8) -> Self {
        let mut typical = Self::default();
        for (s, weight) in shapes {
            if s.models.has(model) {
                typical.asks.push(Ask {
                    cpu_milli: s.cpu_milli,
                    memory_mib: s.memory_mib,
                    share_milli: s.share_milli,
                    gpus: u16::from(s.gpus),
                    weight: *weight,
                });
            } else {
                typical.elsewhere += weight;
            }
        }
        typical
    }
}

fn ratio(n: u64, of: u64, unit: i64) -> i64 {
    let unit = i128::from(unit);
    i64::try_from(i128::from(n) * unit / i128::from(of.max(1))).unwrap_or(i64::MAX)
}

fn cpu_per_gpu(work: &BTreeMap<Shape, u64>) -> i64 {
    let with_gpus = work.iter().filter(|(s, _)| s.gpus > 0);
    let (cpu, gpu) = with_gpus.fold((0u128, 0u128), |(cpu, gpu), (s, n)| {
        let n = u128::from(*n);
        (
            cpu + n * u128::from(s.cpu_milli),
            gpu + n * u128::from(s.gpu_milli()),
        )
    });
    let per_gpu = cpu * u128::from(WHOLE) * u128::from(PROCESSORS_PCT) / 100;
    i64::try_from(per_gpu.checked_div(gpu).unwrap_or(0)).unwrap_or(i64::MAX)
}

fn pressure(work: &BTreeMap<Shape, u64>, capacity: &[u64]) -> Vec<i64> {
    let all: u64 = capacity.iter().sum();
    let asked: u128 = work
        .iter()
        .map(|(s, n)| u128::from(*n) * u128::from(s.gpu_milli()))
        .sum();
    let mut pressure = vec![0f64; capacity.len()];
    for (shape, n) in work.iter().filter(|(s, _)| s.gpus > 0) {
        let serves = |m: usize| u8::try_from(m).is_ok_and(|m| shape.models.has(m));
        let may: u64 = (0..capacity.len())
            .filter(|m| serves(*m))
            .map(|m| capacity[m])
            .sum();
        if may == 0 {
            continue;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a weight: 53 bits are more than enough"
        )]
        let part = (*n as f64) * f64::from(shape.gpu_milli()) / may as f64;
        for (m, p) in pressure.iter_mut().enumerate().filter(|(m, _)| serves(*m)) {
            if capacity[m] > 0 {
                *p += part;
            }
        }
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a weight: 53 bits are more than enough"
    )]
    let scale = if asked == 0 {
        0.0
    } else {
        all as f64 / asked as f64 * f64::from(WHOLE)
    };
    // Relative to demand that equals capacity: the length of the history does not matter.
    pressure
        .into_iter()
        .map(|p| {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "at most the number of models times 1000"
            )]
            let milli = (p * scale).round() as i64;
            milli
        })
        .collect()
}
