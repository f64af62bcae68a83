//! Recursive least squares with forgetting.

/// Most features, the constant one included.
pub const MAX_FEATURES: usize = 32;
/// Largest variance of a weight beforehand. It is not let grow beyond what it was beforehand: without news
/// in some direction forgetting would blow it up without end ("wind-up").
const MAX_VARIANCE: f64 = 1e6;

/// A linear model that follows its observations. Source: Haykin, "Adaptive Filter Theory", chapter 10
/// (exponentially weighted RLS).
#[derive(Debug, Clone)]
pub struct Rls {
    weights: Vec<f64>,
    /// Row by row; symmetric.
    covariance: Vec<f64>,
    forgetting: f64,
    prior: f64,
}

// === impl Rls ===

impl Rls {
    /// A model of `features` (1 to [`MAX_FEATURES`]) weights, all 0. `forgetting` in (0, 1] is what an
    /// observation counts for after each new one; `prior` above 0 is each weight's variance beforehand,
    /// in units of the noise's: large believes the first observations. `None` out of range.
    #[must_use]
    pub fn new(features: usize, forgetting: f64, prior: f64) -> Option<Self> {
        let good = (1..=MAX_FEATURES).contains(&features)
            && forgetting > 0.0
            && forgetting <= 1.0
            && prior > 0.0
            && prior <= MAX_VARIANCE;
        let mut model = good.then(|| Self {
            weights: vec![0.0; features],
            covariance: vec![0.0; features * features],
            forgetting,
            prior,
        })?;
        model.doubt();
        Some(model)
    }

    /// The model's value at `x`; missing features count as 0.
    #[must_use]
    pub fn predict(&self, x: &[f64]) -> f64 {
        self.weights.iter().zip(x).map(|(w, x)| w * x).sum()
    }

    /// Learns that `x` gave `y`, as if its noise had the standard deviation `scale` (above 0). What is not
    /// finite, or of another length, is ignored.
    pub fn learn(&mut self, x: &[f64], y: f64, scale: f64) {
        let n = self.weights.len();
        let sound = x.len() == n && x.iter().all(|v| v.is_finite()) && y.is_finite();
        if !sound || !scale.is_finite() || scale <= 0.0 {
            return;
        }
        let x: Vec<f64> = x.iter().map(|v| v / scale).collect();
        let px: Vec<f64> = (0..n)
            .map(|i| (0..n).map(|j| self.covariance[i * n + j] * x[j]).sum())
            .collect();
        let gain = self.forgetting + x.iter().zip(&px).map(|(x, p)| x * p).sum::<f64>();
        let error = y / scale - self.predict(&x);
        for (w, p) in self.weights.iter_mut().zip(&px) {
            *w += p / gain * error;
        }
        let largest = (0..n)
            .map(|i| self.covariance[i * n + i])
            .fold(0.0, f64::max);
        let forgetting = if largest > self.prior {
            1.0
        } else {
            self.forgetting
        };
        for i in 0..n {
            for j in 0..n {
                let c = &mut self.covariance[i * n + j];
                *c = (*c - px[i] * px[j] / gain) / forgetting;
            }
        }
        // Rounding must not make it lopsided.
        for i in 0..n {
            for j in 0..i {
                let mean = f64::midpoint(self.covariance[i * n + j], self.covariance[j * n + i]);
                self.covariance[i * n + j] = mean;
                self.covariance[j * n + i] = mean;
            }
        }
    }

    /// Keeps the weights and stops believing in them: the next observations move them as the first did.
    pub fn doubt(&mut self) {
        let n = self.weights.len();
        self.covariance.fill(0.0);
        for i in 0..n {
            self.covariance[i * n + i] = self.prior;
        }
    }

    /// The weights.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }
}
