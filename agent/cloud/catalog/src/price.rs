//! Prices: how much, since when and who said so.

use std::sync::Arc;

use gpuloom_fleet::{Market, MicroUsd, Millis, Seconds};
use serde::{Deserialize, Serialize};

use crate::catalog::CloudKind;

/// An on-demand price older than this is shown as stale: clouds change them a few times a year.
pub const ON_DEMAND_STALE_AFTER: Seconds = Seconds(90 * 86_400);

/// A spot price older than this is shown as stale: they move every day.
pub const SPOT_STALE_AFTER: Seconds = Seconds(86_400);

/// Longest text of a price that is read, in bytes.
const MAX_DECIMAL_BYTES: usize = 40;

/// What an instance costs in one market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// For one instance and one hour; never zero.
    pub hourly: MicroUsd,
    /// The contract.
    pub market: Market,
    /// When the source stated it.
    pub at: Millis,
    /// Who stated it, e.g. `azure-retail-prices`.
    pub source: Arc<str>,
}

/// A price as a list states it: what it is the price of, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// Whose machine.
    pub cloud: CloudKind,
    /// Region or location.
    pub region: String,
    /// The cloud's name of the machine.
    pub instance_type: String,
    /// The contract.
    pub market: Market,
    /// For one instance and one hour; a quote of zero is dropped.
    pub hourly: MicroUsd,
    /// When the list stated it.
    pub at: Millis,
    /// The list.
    pub source: String,
}

// === impl Price ===

impl Price {
    /// True when the price is older at `now` than prices of its market keep. One from the future is not.
    #[must_use]
    pub fn stale(&self, now: Millis) -> bool {
        let keeps = match self.market {
            Market::OnDemand => ON_DEMAND_STALE_AFTER,
            Market::Spot => SPOT_STALE_AFTER,
        };
        self.at.plus(keeps) < now
    }
}

/// Reads US dollars such as `0.526`, `12`, `3.6e-05` or `126.643390632548`, rounded to the nearest millionth (half up).
/// `None` for anything else, signs and amounts above 1,000,000 dollars included.
#[must_use]
pub fn micro_usd(text: &str) -> Option<MicroUsd> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_DECIMAL_BYTES {
        return None;
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.parse::<i32>().ok().filter(|e| e.abs() <= 30)?),
        None => (text, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = [whole, part].concat();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) || digits.len() > 36 {
        return None;
    }
    let value: u128 = digits.parse().ok()?;
    // value * 10^shift is the amount in millionths.
    let shift = exponent + 6 - i32::try_from(part.len()).ok()?;
    let power = 10u128.checked_pow(shift.unsigned_abs());
    let micro = if shift >= 0 {
        value.checked_mul(power?)?
    } else {
        power.map_or(0, |p| (value / p) + u128::from(value % p >= p.div_ceil(2)))
    };
    let micro = u64::try_from(micro).ok()?;
    (micro <= 1_000_000_000_000).then_some(MicroUsd(micro))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_to_the_nearest_millionth() {
        for (text, micro) in [
            ("0.526", Some(526_000)),
            ("12", Some(12_000_000)),
            ("0.5260000000", Some(526_000)),
            ("126.643390632548", Some(126_643_391)),
            ("0.0000005", Some(1)),
            ("0.0000004", Some(0)),
            (".5", Some(500_000)),
            ("3.6e-05", Some(36)),
            ("1E2", Some(100_000_000)),
            ("1000000", Some(1_000_000_000_000)),
            ("1000000.01", None),
            ("", None),
            (".", None),
            ("-1", None),
            ("NaN", None),
            ("1,5", None),
            ("1e999", None),
            ("99999999999999999999999999999999999999999", None),
        ] {
            assert_eq!(micro_usd(text), micro.map(MicroUsd), "{text}");
        }
    }

    #[test]
    fn a_price_is_stale_when_it_is_older_than_its_market_keeps() {
        let price = |market| Price {
            hourly: MicroUsd(1),
            market,
            at: Millis(1_000),
            source: "list".into(),
        };
        for (market, keeps) in [
            (Market::OnDemand, ON_DEMAND_STALE_AFTER),
            (Market::Spot, SPOT_STALE_AFTER),
        ] {
            let price = price(market);
            let limit = price.at.plus(keeps);
            assert!(!price.stale(limit), "{market}");
            assert!(price.stale(Millis(limit.0 + 1)), "{market}");
            assert!(!price.stale(Millis(0)), "a clock that runs behind");
        }
    }
}
