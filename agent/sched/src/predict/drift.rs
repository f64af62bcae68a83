//! Notices that errors have a direction: the world has changed.

/// Two-sided CUSUM over standardised errors. Source: Page, "Continuous Inspection Schemes", Biometrika 41
/// (1954).
#[derive(Debug, Clone)]
pub struct Cusum {
    slack: f64,
    threshold: f64,
    above: f64,
    below: f64,
}

/// One error counts at most this: a single outlier is no change.
const MOST: f64 = 4.0;

// === impl Cusum ===

impl Cusum {
    /// Errors within `slack` standard deviations never add up; a sum above `threshold` is a change. With
    /// 0.5 and 10 a false alarm is once in more than 10,000 observations of normal noise, and a shift of two
    /// standard deviations is seen after about 7.
    #[must_use]
    pub fn new(slack: f64, threshold: f64) -> Self {
        Self {
            slack,
            threshold,
            above: 0.0,
            below: 0.0,
        }
    }

    /// An error in standard deviations; `true`: a change, and the sums start again. What is not finite is
    /// ignored.
    pub fn observe(&mut self, error: f64) -> bool {
        if !error.is_finite() {
            return false;
        }
        let error = error.clamp(-MOST, MOST);
        self.above = (self.above + error - self.slack).max(0.0);
        self.below = (self.below - error - self.slack).max(0.0);
        let changed = self.above > self.threshold || self.below > self.threshold;
        if changed {
            self.above = 0.0;
            self.below = 0.0;
        }
        changed
    }
}
