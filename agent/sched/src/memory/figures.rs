//! How much of what is free is of use, and what the books cost.

use super::arena::Arena;
use super::bins::{BINS, FINE, bin_of, largest_of};

/// Sizes asked for, by size class; classes are at most 1.6% wide.
#[derive(Debug, Clone)]
pub struct Sizes {
    counts: Vec<u64>,
    total: u64,
    granule: u64,
}

/// How the free memory lies. The fractions are of what is free.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Fragmentation {
    /// Bytes in all holes.
    pub free: u64,
    /// Bytes of the largest hole.
    pub largest: u64,
    /// Holes.
    pub holes: u64,
    /// The request's size that is counted in: the 90th percentile of those made.
    pub unit: u64,
    /// Bytes of free memory that can be lent out in that unit.
    pub usable: u64,
}

// === impl Sizes ===

impl Sizes {
    /// Nothing asked for yet, in an arena of such granules (at least 1 byte).
    #[must_use]
    pub fn new(granule: u64) -> Self {
        Self {
            counts: vec![0; BINS],
            total: 0,
            granule: granule.max(1),
        }
    }

    /// Counts a request; sizes above 2^32 granules count as that.
    pub fn note(&mut self, bytes: u64) {
        let granules = u32::try_from(bytes.div_ceil(self.granule)).unwrap_or(u32::MAX);
        self.counts[bin_of::<FINE>(granules) as usize] += 1;
        self.total += 1;
    }

    /// A size that so many percent of the requests do not exceed, up to 1.6% too large; `None`
    /// before the first request.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let wanted = (self.total * percent.min(100)).div_ceil(100).max(1);
        let mut seen = 0;
        let bin = self.counts.iter().position(|n| {
            seen += n;
            seen >= wanted
        })?;
        let bin = u32::try_from(bin).ok()?;
        Some(u64::from(largest_of::<FINE>(bin).max(1)) * self.granule)
    }
}

// === impl Fragmentation ===

impl Fragmentation {
    /// Of an arena, counted in requests of `unit` bytes (at least a granule).
    #[must_use]
    pub fn of(arena: &Arena, unit: u64) -> Self {
        let unit = unit.max(arena.granule());
        let mut this = Self {
            unit,
            ..Self::default()
        };
        for hole in arena.regions().filter(|r| r.held.is_none()) {
            this.free += hole.bytes;
            this.largest = this.largest.max(hole.bytes);
            this.holes += 1;
            this.usable += hole.bytes / unit * unit;
        }
        this
    }

    /// 1 - usable / free, in [0, 1]: what part of the free memory typical requests cannot get.
    /// 0 when nothing is free.
    #[must_use]
    pub fn unusable(&self) -> f64 {
        1.0 - ratio(self.usable, self.free)
    }

    /// 1 - largest / free, in [0, 1); 0 when nothing is free. High in any busy arena, whether
    /// requests fail or not.
    #[must_use]
    pub fn external(&self) -> f64 {
        1.0 - ratio(self.largest, self.free)
    }
}

/// 1 when there is nothing to divide.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a fraction for people")]
    let ratio = part as f64 / whole as f64;
    ratio
}
