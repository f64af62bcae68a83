//! Durations as people write them in HCL.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a duration; write numbers with units ms, s, m or h, such as \"90s\", \"10m\" or \"1h30m\""
)]
pub struct DurationError(String);

/// Longest duration taken: 10 years, in milliseconds.
const MAX_MS: u64 = 10 * 365 * 24 * 3_600_000;

/// Reads `90s`, `10m`, `1h30m`, `1.5h`, `250ms`; exact to the millisecond, at most ten years.
///
/// # Errors
/// [`DurationError`] for anything else, also for negative and unitless numbers.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    total_ms(text)
        .map(Duration::from_millis)
        .ok_or_else(|| DurationError(text.to_owned()))
}

fn total_ms(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = fraction.parse::<u64>().ok()?.checked_mul(unit_ms)? / scale;
        total = whole
            .parse::<u64>()
            .ok()?
            .checked_mul(unit_ms)?
            .checked_add(part)?
            .checked_add(total)?;
        rest = tail;
    }
    (total <= MAX_MS).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_terraform_users_write_them() {
        let table = [
            ("90s", 90_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("0s", 0),
        ];
        for (text, ms) in table {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
        for text in [
            "",
            "10",
            "m",
            "-1s",
            "1d",
            "10 m",
            "1.2.3s",
            "99999999999999999999h",
            "87601h",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
