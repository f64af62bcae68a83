//! The latency predictor: a model, its intervals and its doubts.

use super::{Conformal, Cusum, Rls};

/// How the predictor learns. The default suits latencies of batches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PredictorSettings {
    /// What an observation counts for after each new one, (0, 1].
    pub forgetting: f64,
    /// Each weight's variance before anything is known, in units of the noise's: above 0.
    pub prior: f64,
    /// Share of outcomes the interval may miss, 0 to 1.
    pub miss: f64,
    /// Errors the interval is made from.
    pub window: usize,
    /// How fast the interval's level follows its misses.
    pub step: f64,
    /// See [`Cusum::new`].
    pub slack: f64,
    /// See [`Cusum::new`].
    pub threshold: f64,
}

/// What a latency will be, in the unit of the observations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Most likely.
    pub mean: f64,
    /// The interval holds as often as the settings say; `None` while too little is known.
    pub interval: Option<(f64, f64)>,
}

/// What an observation showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observed {
    /// What had been expected.
    pub expected: Expected,
    /// A change was noticed: what was learned before it is doubted.
    pub drift: bool,
}

/// Learns latencies online. Noise is taken as relative: a batch that takes twice as long errs by twice as
/// much.
#[derive(Debug, Clone)]
pub struct Predictor {
    model: Rls,
    interval: Conformal,
    drift: Cusum,
    /// The first observation: the model's unit, so that the prior means the same for every latency.
    unit: f64,
    /// Mean square of the relative errors.
    spread: f64,
    seen: u64,
    /// Observations since the start or the last change.
    fresh: u64,
}

/// Relative errors are taken of at least this: a prediction of 0 has none.
const LEAST: f64 = 1e-9;
/// Observations before errors tell anything of a change.
const WARM_UP: u64 = 30;
/// How fast the spread follows the errors.
const SPREAD_STEP: f64 = 0.02;
/// Errors kept for the interval after a change.
const KEPT: usize = 20;

// === impl PredictorSettings ===

impl Default for PredictorSettings {
    fn default() -> Self {
        Self {
            forgetting: 0.995,
            prior: 1e4,
            miss: 0.05,
            window: 500,
            step: 0.01,
            slack: 0.5,
            threshold: 10.0,
        }
    }
}

// === impl Predictor ===

impl Predictor {
    /// A predictor over `features` numbers, each best scaled to about 0 to 1; a constant is added. `None`
    /// when a number or a setting is out of range.
    #[must_use]
    pub fn new(features: usize, settings: PredictorSettings) -> Option<Self> {
        Some(Self {
            model: Rls::new(features + 1, settings.forgetting, settings.prior)?,
            interval: Conformal::new(settings.miss, settings.window, settings.step)?,
            drift: Cusum::new(settings.slack, settings.threshold),
            unit: 1.0,
            spread: 0.0,
            seen: 0,
            fresh: 0,
        })
    }

    /// What `features` will take; never below 0.
    #[must_use]
    pub fn expect(&self, features: &[f64]) -> Expected {
        let mean = (self.model.predict(&extend(features)) * self.unit).max(0.0);
        let width = self.interval.width().map(|w| w * mean.max(LEAST));
        Expected {
            mean,
            interval: width.map(|w| ((mean - w).max(0.0), mean + w)),
        }
    }

    /// `features` took `took` (above 0; else it is ignored).
    pub fn observe(&mut self, features: &[f64], took: f64) -> Observed {
        let expected = self.expect(features);
        if !took.is_finite() || took <= 0.0 {
            return Observed {
                expected,
                drift: false,
            };
        }
        if self.seen == 0 {
            self.unit = took;
        }
        let relative = (took - expected.mean) / expected.mean.max(LEAST);
        let known = self.fresh > features.len() as u64;
        if known {
            let missed = expected
                .interval
                .is_some_and(|(low, high)| took < low || took > high);
            self.interval.observe(relative.abs(), missed);
        }
        let drift = known && self.changed(relative);
        if drift {
            self.model.doubt();
            self.interval.forget(KEPT);
            self.fresh = 0;
        }
        // The noise is in proportion to the latency: each error counts by what was expected of it.
        let scale = if known { expected.mean } else { took };
        let scale = scale.max(took * 0.1) / self.unit;
        self.model.learn(&extend(features), took / self.unit, scale);
        self.seen += 1;
        self.fresh += 1;
        Observed { expected, drift }
    }

    /// Standard deviation of the relative errors; 0 while nothing is known.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        self.spread.sqrt()
    }

    /// How many observations it has learned from.
    #[must_use]
    pub fn observations(&self) -> u64 {
        self.seen
    }

    fn changed(&mut self, relative: f64) -> bool {
        let sd = self.spread.sqrt();
        let drift = self.fresh >= WARM_UP && sd > 0.0 && self.drift.observe(relative / sd);
        // What a change makes of the errors is not their spread.
        let most = if self.fresh >= WARM_UP {
            3.0 * sd
        } else {
            f64::INFINITY
        };
        let square = relative.abs().min(most).powi(2);
        self.spread = if self.spread == 0.0 {
            square
        } else {
            self.spread + SPREAD_STEP * (square - self.spread)
        };
        drift
    }
}

fn extend(features: &[f64]) -> Vec<f64> {
    std::iter::once(1.0)
        .chain(features.iter().copied())
        .collect()
}
