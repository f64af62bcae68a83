//! Money, in millionths of a US dollar: exact to add, and never mistaken for a count.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Millionths of a US dollar. Written `$1.23`, with up to six decimals when cents do not say it exactly.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MicroUsd(pub u64);

// === impl MicroUsd ===

impl MicroUsd {
    /// `cents` hundredths of a dollar; saturates.
    pub const fn cents(cents: u64) -> Self {
        Self(cents.saturating_mul(10_000))
    }

    /// `self * n`; saturates.
    #[must_use]
    pub const fn times(self, n: u64) -> Self {
        Self(self.0.saturating_mul(n))
    }

    /// `self + other`; saturates.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if part % 10_000 == 0 {
            return write!(f, "${whole}.{:02}", part / 10_000);
        }
        let text = format!("${whole}.{part:06}");
        f.write_str(text.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_read_as_prices_do() {
        for (micro, text) in [
            (0, "$0.00"),
            (1_230_000, "$1.23"),
            (526_000, "$0.526"),
            (7, "$0.000007"),
            (32_772_600, "$32.7726"),
        ] {
            assert_eq!(MicroUsd(micro).to_string(), text);
        }
        assert_eq!(MicroUsd::cents(123), MicroUsd(1_230_000));
        assert_eq!(MicroUsd(u64::MAX).times(2), MicroUsd(u64::MAX));
    }
}
