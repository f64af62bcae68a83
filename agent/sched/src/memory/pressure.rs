//! How full a device is, whether it fills up, and when somebody has to be told.
//!
//! ```text
//!            0.80          0.90          0.97          a level is left `MARGIN` below its bound,
//!   Normal ───▶ Elevated ───▶ High ───▶ Critical       and only after it was so for `hold_ms`
//! ```

/// How far below its bound the occupancy has to fall before a level is left.
pub const MARGIN: f64 = 0.03;
/// Occupancy at which each level after the first begins.
pub const BOUNDS: [f64; 3] = [0.80, 0.90, 0.97];
/// A device that will be full within this time is one level higher, in milliseconds.
pub const SOON_MS: f64 = 30_000.0;
/// A share of failed requests from which on a device is at least `High`.
pub const FAILING: f64 = 0.05;

/// How urgent it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Room for all.
    #[default]
    Normal,
    /// Start no new background work.
    Elevated,
    /// Defragment, evict what may be evicted.
    High,
    /// Requests fail or soon will.
    Critical,
}

/// What is seen of a device at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Milliseconds; never less than in the sample before.
    pub now_ms: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that cannot be used: reserved by the driver, or on retired pages.
    pub retired: u64,
    /// Bytes of the device.
    pub total: u64,
    /// Requests since the last sample.
    pub requests: u64,
    /// Those of them that failed for want of room.
    pub failed: u64,
}

/// A change of level: what a callback is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Before.
    pub from: Level,
    /// After.
    pub to: Level,
    /// Bytes in use by bytes that can be used, in [0, 1].
    pub occupancy: f64,
    /// Bytes a second by which use grows; negative when it shrinks.
    pub growth_per_s: f64,
    /// Milliseconds until it is full at that rate; `None` when it does not grow.
    pub full_in_ms: Option<f64>,
    /// The share of recent requests that failed, in [0, 1].
    pub failure_rate: f64,
}

/// Follows one device.
#[derive(Debug, Clone)]
pub struct Pressure {
    level: Level,
    /// A lower level that would hold, and since when.
    falling: Option<(Level, u64)>,
    last: Option<Sample>,
    growth_per_s: f64,
    requests: f64,
    failed: f64,
    half_life_ms: f64,
    hold_ms: u64,
}

// === impl Sample ===

impl Sample {
    fn usable(&self) -> u64 {
        self.total.saturating_sub(self.retired)
    }

    #[expect(clippy::cast_precision_loss, reason = "a fraction for people")]
    fn occupancy(&self) -> f64 {
        if self.usable() == 0 {
            return 1.0;
        }
        (self.used as f64 / self.usable() as f64).min(1.0)
    }
}

// === impl Pressure ===

impl Pressure {
    /// A trend with such a half-life, and so long until a level is left; both in milliseconds, the
    /// half-life at least 1.
    #[must_use]
    pub fn new(half_life_ms: u64, hold_ms: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a time for people")]
        let half_life_ms = half_life_ms.max(1) as f64;
        Self {
            level: Level::Normal,
            falling: None,
            last: None,
            growth_per_s: 0.0,
            requests: 0.0,
            failed: 0.0,
            half_life_ms,
            hold_ms,
        }
    }

    /// The level now.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Takes a sample in; `Some` when the level changed. Rising is told at once, falling only after
    /// it held. A sample that is older than the last one is left out.
    #[expect(clippy::cast_precision_loss, reason = "rates for people")]
    pub fn observe(&mut self, sample: Sample) -> Option<Change> {
        if let Some(last) = self.last {
            let passed = sample.now_ms.checked_sub(last.now_ms)? as f64;
            let keep = 0.5f64.powf(passed / self.half_life_ms);
            self.requests *= keep;
            self.failed *= keep;
            if passed > 0.0 {
                let rate = (sample.used as f64 - last.used as f64) / passed * 1000.0;
                self.growth_per_s = keep * self.growth_per_s + (1.0 - keep) * rate;
            }
        }
        self.requests += sample.requests as f64;
        self.failed += sample.failed as f64;
        self.last = Some(sample);
        let wanted = self.wanted(&sample);
        let from = self.level;
        if wanted > self.level {
            self.level = wanted;
            self.falling = None;
        } else {
            self.fall(&sample);
        }
        (self.level != from).then(|| Change {
            from,
            to: self.level,
            occupancy: sample.occupancy(),
            growth_per_s: self.growth_per_s,
            full_in_ms: self.full_in_ms(),
            failure_rate: self.failure_rate(),
        })
    }

    /// Milliseconds until the device is full if it goes on like this; `None` when it does not grow.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a time for people")]
    pub fn full_in_ms(&self) -> Option<f64> {
        let last = self.last?;
        let free = last.usable().saturating_sub(last.used) as f64;
        (self.growth_per_s > 0.0).then(|| free / self.growth_per_s * 1000.0)
    }

    /// The share of recent requests that failed; 0 before the first.
    #[must_use]
    pub fn failure_rate(&self) -> f64 {
        if self.requests < f64::EPSILON {
            return 0.0;
        }
        self.failed / self.requests
    }

    /// The level that the sample alone asks for.
    fn wanted(&self, sample: &Sample) -> Level {
        let mut level = at(sample.occupancy());
        if level > Level::Normal && self.full_in_ms().is_some_and(|ms| ms < SOON_MS) {
            level = next(level);
        }
        if self.failure_rate() > FAILING {
            level = level.max(Level::High);
        }
        level
    }

    /// Leaves the level once a lower one held, with its margin, for long enough.
    fn fall(&mut self, sample: &Sample) {
        let lower = self.wanted(sample).max(at(sample.occupancy() + MARGIN));
        if lower >= self.level {
            self.falling = None;
            return;
        }
        let (level, since) = match self.falling {
            Some((level, since)) => (level.max(lower), since),
            None => (lower, sample.now_ms),
        };
        if sample.now_ms - since >= self.hold_ms {
            self.level = level;
            self.falling = None;
        } else {
            self.falling = Some((level, since));
        }
    }
}

fn at(occupancy: f64) -> Level {
    match BOUNDS.iter().filter(|b| occupancy >= **b).count() {
        0 => Level::Normal,
        1 => Level::Elevated,
        2 => Level::High,
        _ => Level::Critical,
    }
}

fn next(level: Level) -> Level {
    match level {
        Level::Normal => Level::Elevated,
        Level::Elevated => Level::High,
        Level::High | Level::Critical => Level::Critical,
    }
}
