//! Intervals that hold as often as they say, whatever the errors' distribution.

use std::collections::VecDeque;

/// Conformal intervals over the last errors, with a level that follows its misses.
///
/// Sources: split conformal prediction (Vovk et al., "Algorithmic Learning in a Random World"); the level:
/// adaptive conformal inference, Gibbs & Candès, NeurIPS'21 (arXiv 2106.00170), eq. 2, which keeps the
/// long-run share of misses at the target even while the errors' distribution drifts.
#[derive(Debug, Clone)]
pub struct Conformal {
    errors: VecDeque<f64>,
    /// The same, ascending.
    sorted: Vec<f64>,
    window: usize,
    miss: f64,
    level: f64,
    step: f64,
}

// === impl Conformal ===

impl Conformal {
    /// Intervals missed by `miss` of the outcomes (0.05: 95% intervals), from the last `window` errors.
    /// `step` is how fast the level follows; 0.005 to 0.05 is usual, 0 never. `None` when `miss` is not
    /// between 0 and 1, the window is 0 or the step negative.
    #[must_use]
    pub fn new(miss: f64, window: usize, step: f64) -> Option<Self> {
        let good = miss > 0.0 && miss < 1.0 && window > 0 && step >= 0.0;
        good.then(|| Self {
            errors: VecDeque::new(),
            sorted: Vec::new(),
            window,
            miss,
            level: miss,
            step,
        })
    }

    /// Half the interval's width, in units of the errors; `None` while too few errors are known for any
    /// finite interval to hold.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank within the window"
    )]
    pub fn width(&self) -> Option<f64> {
        let n = self.sorted.len();
        // The finite-sample rank: ceil((n + 1)(1 - level)).
        let rank = ((n as f64 + 1.0) * (1.0 - self.level.clamp(0.0, 1.0))).ceil() as usize;
        if rank > n {
            // More than was ever seen: half as much again, once there is anything to go by.
            let largest = self.sorted.last().copied();
            return largest.filter(|_| n >= 10).map(|e| e * 1.5);
        }
        self.sorted.get(rank.saturating_sub(1)).copied()
    }

    /// An outcome was off by `error` (not negative), and the interval that was given missed it or not.
    /// What is not finite is ignored.
    pub fn observe(&mut self, error: f64, missed: bool) {
        if !error.is_finite() {
            return;
        }
        let miss = if missed { 1.0 } else { 0.0 };
        self.level = (self.level + self.step * (self.miss - miss)).clamp(0.0, 1.0);
        if self.errors.len() == self.window {
            self.drop_oldest();
        }
        let error = error.abs();
        let at = self.sorted.partition_point(|e| *e < error);
        self.sorted.insert(at, error);
        self.errors.push_back(error);
    }

    /// Forgets all but the last `keep` errors, after a change.
    pub fn forget(&mut self, keep: usize) {
        while self.errors.len() > keep {
            self.drop_oldest();
        }
        self.level = self.miss;
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.errors.pop_front() {
            let at = self.sorted.partition_point(|e| *e < oldest);
            self.sorted.remove(at);
        }
    }
}
