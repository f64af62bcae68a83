//! Quantities: a type each, so that bytes are never added to GPUs.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

/// A number of bytes. Written `16GiB`, `512MiB`, `1024`; decimal suffixes (`GB`) are powers of 1000.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// Thousandths of a GPU: 1000 is one whole device, 250 a quarter.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MilliGpu(pub u64);

/// Whole seconds. Written `90s`, `10m`, `1h30m`, `2d` or a bare number of seconds.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seconds(pub u64);

/// A moment: milliseconds since the Unix epoch, UTC. Pure code gets it as an argument.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

/// A quantity that does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not {expected}")]
pub struct ParseUnitError {
    /// What was given.
    pub input: String,
    /// What would have been read, with an example.
    pub expected: &'static str,
}

// === impl Bytes ===

impl Bytes {
    /// `n` GiB; saturates at `u64::MAX` bytes.
    pub const fn gib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 30))
    }

    /// `n` MiB; saturates at `u64::MAX` bytes.
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }

    /// `self - other`, or zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self * thousandths / 1000`, rounded down, without overflow.
    #[must_use]
    pub fn share(self, part: MilliGpu) -> Self {
        let wide = u128::from(self.0) * u128::from(part.0) / 1000;
        Self(u64::try_from(wide).unwrap_or(u64::MAX))
    }
}

const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl FromStr for Bytes {
    type Err = ParseUnitError;

    fn from_str(input: &str) -> Result<Self, ParseUnitError> {
        let bad = || ParseUnitError {
            input: input.to_owned(),
            expected: "a size in bytes such as \"16GiB\", \"512MiB\" or \"1073741824\"",
        };
        let text = input.trim();
        let (digits, unit) = BYTE_UNITS
            .iter()
            .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|d| (d.trim_end(), *unit)))
            .unwrap_or((text, 1));
        let whole: u64 = digits.parse().map_err(|_| bad())?;
        whole.checked_mul(unit).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for Bytes {
    /// The largest binary unit that holds the value exactly, else GiB with two decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (suffix, unit) in &BYTE_UNITS[..4] {
            if self.0 >= *unit && self.0.is_multiple_of(*unit) {
                return write!(f, "{}{suffix}", self.0 / unit);
            }
        }
        if self.0 >= 1 << 30 {
            let hundredths = u128::from(self.0) * 100 / (1 << 30);
            return write!(f, "{}.{:02}GiB", hundredths / 100, hundredths % 100);
        }
        write!(f, "{}B", self.0)
    }
}

// === impl MilliGpu ===

impl MilliGpu {
    /// One whole device.
    pub const ONE: Self = Self(1000);

    /// `n` whole devices; saturates.
    pub const fn whole(n: u64) -> Self {
        Self(n.saturating_mul(1000))
    }

    /// True for 1000, 2000, ...
    pub const fn is_whole(self) -> bool {
        self.0 > 0 && self.0.is_multiple_of(1000)
    }

    /// `self - other`, or zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl FromStr for MilliGpu {
    type Err = ParseUnitError;

    /// Reads GPUs: `2`, `0.25`, at most three decimals.
    fn from_str(input: &str) -> Result<Self, ParseUnitError> {
        let bad = || ParseUnitError {
            input: input.to_owned(),
            expected: "a number of GPUs such as \"2\" or \"0.25\" (at most three decimals)",
        };
        let text = input.trim();
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        if part.len() > 3 || (whole.is_empty() && part.is_empty()) {
            return Err(bad());
        }
        let digits = |s: &str| -> Result<u64, ParseUnitError> {
            if s.is_empty() {
                return Ok(0);
            }
            if !s.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad());
            }
            s.parse().map_err(|_| bad())
        };
        let thousandths = digits(&format!("{part:0<3}"))?;
        digits(whole)?
            .checked_mul(1000)
            .and_then(|w| w.checked_add(thousandths))
            .map(Self)
            .ok_or_else(bad)
    }
}

impl fmt::Display for MilliGpu {
    /// GPUs with as few decimals as say it exactly: `2`, `0.25`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            return write!(f, "{}", self.0 / 1000);
        }
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.write_str(text.trim_end_matches('0'))
    }
}

// === impl Seconds ===

impl FromStr for Seconds {
    type Err = ParseUnitError;

    fn from_str(input: &str) -> Result<Self, ParseUnitError> {
        let bad = || ParseUnitError {
            input: input.to_owned(),
            expected: "a duration such as \"90s\", \"10m\", \"1h30m\" or \"2d\"",
        };
        let text = input.trim();
        if let Ok(bare) = text.parse() {
            return Ok(Self(bare));
        }
        let (mut total, mut number, mut last) = (0u64, String::new(), u64::MAX);
        for c in text.chars() {
            if c.is_ascii_digit() {
                number.push(c);
                continue;
            }
            let unit = match c {
                'd' => 86_400,
                'h' => 3_600,
                'm' => 60,
                's' => 1,
                _ => return Err(bad()),
            };
            if unit >= last {
                return Err(bad());
            }
            last = unit;
            let n: u64 = number.parse().map_err(|_| bad())?;
            number.clear();
            total = n
                .checked_mul(unit)
                .and_then(|t| t.checked_add(total))
                .ok_or_else(bad)?;
        }
        if number.is_empty() && last != u64::MAX {
            Ok(Self(total))
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for Seconds {
    /// `1h30m`, `45s`; zero is `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == 0 {
            return f.write_str("0s");
        }
        for (suffix, unit) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
            if rest >= unit {
                write!(f, "{}{suffix}", rest / unit)?;
                rest %= unit;
            }
        }
        Ok(())
    }
}

// === impl Millis ===

impl Millis {
    /// This moment plus `wait`; saturates.
    #[must_use]
    pub const fn plus(self, wait: Seconds) -> Self {
        Self(self.0.saturating_add(wait.0.saturating_mul(1000)))
    }

    /// Milliseconds from `earlier` to this moment; zero when `earlier` is later.
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

macro_rules! arithmetic {
    ($($t:ident),*) => {$(
        impl Add for $t {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }
        impl AddAssign for $t {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }
        impl Sub for $t {
            type Output = Self;
            /// Saturates at zero.
            fn sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }
        impl SubAssign for $t {
            fn sub_assign(&mut self, other: Self) {
                *self = *self - other;
            }
        }
        impl std::iter::Sum for $t {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                items.fold(Self(0), Add::add)
            }
        }
    )*};
}
arithmetic!(Bytes, MilliGpu, Seconds);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [
            ("16GiB", Bytes::gib(16)),
            ("512 MiB", Bytes::mib(512)),
            ("1KB", Bytes(1000)),
            ("7", Bytes(7)),
        ] {
            assert_eq!(text.parse(), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "-1GiB", "1.5GiB", "99999999999TiB", "16Gib"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, s) in [("90", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172_800)] {
            assert_eq!(text.parse(), Ok(Seconds(s)), "{text}");
        }
        for text in ["", "m", "10", "5m1h", "1h5", "-3s", "1.5h"] {
            assert_eq!(text.parse::<Seconds>().is_ok(), text == "10", "{text}");
        }
    }

    #[test]
    fn a_gpu_share_keeps_three_decimals_and_refuses_a_fourth() {
        assert_eq!("0.25".parse(), Ok(MilliGpu(250)));
        assert_eq!("2".parse(), Ok(MilliGpu(2000)));
        assert_eq!(".5".parse(), Ok(MilliGpu(500)));
        for text in ["0.2501", "-1", "", ".", "1e3", "+1"] {
            assert!(text.parse::<MilliGpu>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(n in 0u64..1 << 50, s in 0u64..1 << 40) {
            prop_assert_eq!(MilliGpu(n).to_string().parse(), Ok(MilliGpu(n)));
            prop_assert_eq!(Seconds(s).to_string().parse(), Ok(Seconds(s)));
            prop_assert_eq!(Bytes::mib(n % 1_000_000).to_string().parse(), Ok(Bytes::mib(n % 1_000_000)));
        }
    }
}
