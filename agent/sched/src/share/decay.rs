//! Past use that counts less the longer ago it was.

use gpuloom_fleet::{Millis, Seconds};

/// Use older than so many half-lives counts as none.
pub const MAX_HALF_LIVES: u32 = 64;

/// GPU-milliseconds used, halved every half-life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecayedUse {
    used: f64,
    at: Millis,
}

// === impl DecayedUse ===

impl DecayedUse {
    /// Nothing used until `now`.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self { used: 0.0, at: now }
    }

    /// Adds `milli_gpus` held from the last moment until `now`; a `now` that lies before it adds
    /// nothing. Use within the span decays as if it came at its end: spans are short beside the
    /// half-life.
    pub fn hold(&mut self, milli_gpus: u64, half_life: Seconds, now: Millis) {
        let span = now.since_ms(self.at);
        self.used = self.at_moment(half_life, now);
        #[expect(clippy::cast_precision_loss, reason = "use is a weight, not a count")]
        let held = milli_gpus as f64 / 1000.0 * span as f64;
        self.used += held;
        if span > 0 {
            self.at = now;
        }
    }

    /// What counts at `now`: `used * 0.5 ^ (age / half_life)`. A half-life of 0 s forgets at once.
    #[must_use]
    pub fn at_moment(&self, half_life: Seconds, now: Millis) -> f64 {
        let age = now.since_ms(self.at);
        if age == 0 {
            return self.used;
        }
        #[expect(clippy::cast_precision_loss, reason = "an exponent")]
        let halves = age as f64 / (half_life.0 as f64 * 1000.0);
        if halves >= f64::from(MAX_HALF_LIVES) {
            0.0
        } else {
            self.used * 0.5f64.powf(halves)
        }
    }
}
