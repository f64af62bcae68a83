//! Linear-Gaussian Thompson sampling, one model for each arm. Source: Agrawal & Goyal, ICML'13 (arXiv 1209.3352).

use super::matrix::{backward, cholesky, forward};

/// Most arms.
pub const MAX_ARMS: usize = 64;
/// Most features of a context, the constant one included.
pub const MAX_CONTEXT: usize = 32;

/// How the sampler explores and forgets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Standard deviation of a reward, in reward units: larger explores longer. Above 0.
    pub noise: f64,
    /// What older observations count for after each new one, (0, 1]: 1 never forgets and never follows
    /// a change; 0.8 to 0.98 follow one.
    pub discount: f64,
    /// See [`Safety`].
    pub safety: Option<Safety>,
    /// The same seed gives the same choices.
    pub seed: u64,
}

/// When not to explore.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Safety {
    /// The arm to fall back to.
    pub baseline: usize,
    /// An arm whose expected reward is lower than the baseline's by more than this is not tried.
    pub most_loss: f64,
}

/// Chooses among arms by samples from what it believes of each.
#[derive(Debug, Clone)]
pub struct Thompson {
    settings: Settings,
    features: usize,
    arms: Vec<Arm>,
    stream: u64,
}

/// A choice whose reward is still to come.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticket {
    /// The arm.
    pub arm: usize,
    context: Vec<f64>,
}

/// Bayesian linear regression: precision `b` in units of the noise, `f` = sum of reward times context.
/// Before anything is seen each weight is N(0, 1): wide beside rewards of about 0 to 1, so that every
/// arm is tried.
#[derive(Debug, Clone)]
struct Arm {
    prior: f64,
    b: Vec<f64>,
    f: Vec<f64>,
}

// === impl Thompson ===

impl Thompson {
    /// `arms` (1 to [`MAX_ARMS`]) over contexts of `features` numbers (0 to [`MAX_CONTEXT`] - 1), each
    /// about -1 to 1; a constant is added. `None` when a number or a setting is out of range.
    #[must_use]
    pub fn new(arms: usize, features: usize, settings: Settings) -> Option<Self> {
        let n = features + 1;
        let good = (1..=MAX_ARMS).contains(&arms)
            && n <= MAX_CONTEXT
            && settings.noise > 0.0
            && settings.discount > 0.0
            && settings.discount <= 1.0
            && settings.safety.is_none_or(|s| s.baseline < arms);
        good.then(|| Self {
            settings,
            features,
            arms: vec![Arm::new(n, settings.noise * settings.noise); arms],
            stream: settings.seed,
        })
    }

    /// Samples each arm's reward for this context and takes the largest (equals: the first); missing
    /// features count as 0, further ones are ignored.
    pub fn choose(&mut self, context: &[f64]) -> Ticket {
        let x = self.extend(context);
        let noise = self.settings.noise;
        let mut best = (f64::NEG_INFINITY, 0);
        for i in 0..self.arms.len() {
            let z: Vec<f64> = (0..x.len()).map(|_| self.normal()).collect();
            let sampled = self.arms[i].sample(&x, noise, &z);
            if sampled > best.0 && self.is_safe(i, &x) {
                best = (sampled, i);
            }
        }
        Ticket {
            arm: best.1,
            context: x,
        }
    }

    /// The arm with the largest expected reward (equals: the first). Where every arm is observed
    /// ([`Self::observe_all`]) there is nothing to explore, and sampling would only lose.
    #[must_use]
    pub fn best(&self, context: &[f64]) -> usize {
        let mut best = (f64::NEG_INFINITY, 0);
        for arm in 0..self.arms.len() {
            let expected = self.expected(arm, context);
            if expected > best.0 {
                best = (expected, arm);
            }
        }
        best.1
    }

    /// The expected reward of an arm.
    #[must_use]
    pub fn expected(&self, arm: usize, context: &[f64]) -> f64 {
        let x = self.extend(context);
        self.arms.get(arm).map_or(0.0, |a| a.mean(&x))
    }

    /// A choice's reward has come, in whatever order; rewards that are no number are ignored.
    pub fn credit(&mut self, ticket: &Ticket, reward: f64) {
        if reward.is_finite() && ticket.context.len() == self.features + 1 {
            let discount = self.settings.discount;
            for arm in &mut self.arms {
                arm.forget(discount);
            }
            self.arms[ticket.arm].learn(&ticket.context, reward);
        }
    }

    /// What every arm would have brought in one window (a replay under each): the arms' rewards in order.
    pub fn observe_all(&mut self, context: &[f64], rewards: &[f64]) {
        let x = self.extend(context);
        for (arm, reward) in self.arms.iter_mut().zip(rewards) {
            arm.forget(self.settings.discount);
            if reward.is_finite() {
                arm.learn(&x, *reward);
            }
        }
    }

    fn is_safe(&self, arm: usize, x: &[f64]) -> bool {
        self.settings.safety.is_none_or(|s| {
            let baseline = self.arms[s.baseline].mean(x);
            arm == s.baseline || self.arms[arm].mean(x) >= baseline - s.most_loss
        })
    }

    fn extend(&self, context: &[f64]) -> Vec<f64> {
        let mut x = context.to_vec();
        x.resize(self.features, 0.0);
        x.push(1.0);
        x
    }

    /// A standard normal number (Box & Muller, 1958) from SplitMix64.
    fn normal(&mut self) -> f64 {
        let (u, v) = (self.unit(), self.unit());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    fn unit(&mut self) -> f64 {
        self.stream = self.stream.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.stream;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
        let x = (z >> 11) as f64;
        x / 9_007_199_254_740_992.0
    }
}

// === impl Arm ===

impl Arm {
    fn new(n: usize, prior: f64) -> Self {
        let mut b = vec![0.0; n * n];
        for i in 0..n {
            b[i * n + i] = prior;
        }
        Self {
            prior,
            b,
            f: vec![0.0; n],
        }
    }

    fn learn(&mut self, x: &[f64], reward: f64) {
        let n = x.len();
        for i in 0..n {
            for j in 0..n {
                self.b[i * n + j] += x[i] * x[j];
            }
            self.f[i] += reward * x[i];
        }
    }

    /// Older observations count less; the prior stays.
    fn forget(&mut self, discount: f64) {
        let n = self.f.len();
        for i in 0..n {
            for j in 0..n {
                let prior = if i == j { self.prior } else { 0.0 };
                let b = &mut self.b[i * n + j];
                *b = prior + (*b - prior) * discount;
            }
            self.f[i] *= discount;
        }
    }

    fn mean(&self, x: &[f64]) -> f64 {
        let Some(l) = cholesky(&self.b, x.len()) else {
            return 0.0;
        };
        dot(&backward(&l, &forward(&l, &self.f)), x)
    }

    /// A sample of N(mean, noise² B⁻¹) along `x`.
    fn sample(&self, x: &[f64], noise: f64, z: &[f64]) -> f64 {
        let Some(l) = cholesky(&self.b, x.len()) else {
            return 0.0;
        };
        let mean = backward(&l, &forward(&l, &self.f));
        dot(&mean, x) + noise * dot(&backward(&l, z), x)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
