//! How fair an allocation came out: three figures that mean something only together.

/// Jain's index of `shares`: 1 when all are equal, 1/n when one has all. Empty or all-zero gives 1.
/// Source: Jain, Chiu, Hawe, DEC-TR-301 (1984), eq. 1.
#[must_use]
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|s| s * s).sum();
    if squares == 0.0 {
        return 1.0;
    }
    sum * sum / (count(shares) * squares)
}

/// Fairness over those who wait for more. An index near 1 hides one starved party among many (1 of
/// 20 at zero is 0.95): read it with the least share and the largest envy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fairness {
    /// Backlogged parties.
    pub parties: usize,
    /// [`jain`] of allocation by entitlement.
    pub jain: f64,
    /// The least allocation by entitlement; 1 is exactly what one is entitled to.
    pub least: f64,
    /// The most that one's allocation by entitlement lies above another's.
    pub envy: f64,
}

// === impl Fairness ===

impl Fairness {
    /// Of `(allocated, entitled)` of each backlogged party; those entitled to nothing are left out.
    /// Nobody: perfectly fair, nobody envied.
    #[must_use]
    pub fn of(parties: &[(f64, f64)]) -> Self {
        let entitled = parties.iter().filter(|(_, e)| *e > 0.0);
        let shares: Vec<f64> = entitled.map(|(a, e)| a / e).collect();
        let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
        let most = shares.iter().copied().fold(0.0, f64::max);
        Self {
            parties: shares.len(),
            jain: jain(&shares),
            least: if shares.is_empty() { 1.0 } else { least },
            envy: if shares.is_empty() { 0.0 } else { most - least },
        }
    }
}

fn count(shares: &[f64]) -> f64 {
    f64::from(u32::try_from(shares.len()).unwrap_or(u32::MAX))
}
