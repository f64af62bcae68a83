//! Numbers as Terraform has them: exact decimals of any size, never rounded through a float.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use bigdecimal::num_bigint::BigInt;
use bigdecimal::{BigDecimal, ToPrimitive};

/// The largest decimal exponent taken, either way: Terraform's own 512-bit numbers hold 155 digits.
pub const MAX_EXPONENT: i64 = 4096;
/// The most digits taken.
pub const MAX_DIGITS: usize = 4096;

/// An exact decimal number. Integers that fit 64 bits cost no allocation.
#[derive(Clone)]
pub struct Number(Repr);

#[derive(Clone)]
enum Repr {
    /// Every integer of i64's range is kept here, so that equal numbers look alike.
    Small(i64),
    /// Normalised: no trailing zeros in the digits.
    Big(Box<BigDecimal>),
}

/// Why a text or float is no number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not a decimal.
    #[error("{0:?} is not a decimal number")]
    Syntax(String),
    /// More digits or a larger exponent than [`MAX_DIGITS`] and [`MAX_EXPONENT`].
    #[error(
        "a number may have at most {MAX_DIGITS} digits and an exponent of at most {MAX_EXPONENT}"
    )]
    TooLarge,
    /// Infinity or not-a-number.
    #[error("{0} is not a finite number")]
    NotFinite(String),
}

// === impl Number ===

impl Number {
    /// The exact value of a float: 0.1 becomes the 55-digit decimal that the float really holds.
    /// To write 0.1 itself, parse `"0.1"`.
    ///
    /// # Errors
    /// [`NumberError::NotFinite`] for infinities and NaN.
    pub fn from_f64_exact(value: f64) -> Result<Self, NumberError> {
        let exact =
            BigDecimal::try_from(value).map_err(|_| NumberError::NotFinite(value.to_string()))?;
        Self::from_big(exact)
    }

    /// The shortest decimal that reads back as this float: what a person means by `0.1`.
    ///
    /// # Errors
    /// [`NumberError::NotFinite`] for infinities and NaN.
    pub fn from_f64(value: f64) -> Result<Self, NumberError> {
        if !value.is_finite() {
            return Err(NumberError::NotFinite(value.to_string()));
        }
        value.to_string().parse()
    }

    /// The value as an i64; `None` for fractions and anything outside the range.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match &self.0 {
            Repr::Small(n) => Some(*n),
            Repr::Big(_) => None,
        }
    }

    /// The value as a u64; `None` for fractions and anything outside the range.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match &self.0 {
            Repr::Small(n) => u64::try_from(*n).ok(),
            Repr::Big(n) if n.is_integer() => n.to_u64(),
            Repr::Big(_) => None,
        }
    }

    /// The nearest float.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        match &self.0 {
            Repr::Small(n) => n.to_string().parse().unwrap_or(f64::NAN),
            Repr::Big(n) => n.to_scientific_notation().parse().unwrap_or(f64::NAN),
        }
    }

    /// The value as a float when no digit is lost; `None` otherwise.
    #[must_use]
    pub fn as_f64_exact(&self) -> Option<f64> {
        let nearest = self.to_f64();
        let back = Self::from_f64_exact(nearest).ok()?;
        (back == *self).then_some(nearest)
    }

    /// True without a fractional part.
    #[must_use]
    pub fn is_integer(&self) -> bool {
        match &self.0 {
            Repr::Small(_) => true,
            Repr::Big(n) => n.is_integer(),
        }
    }

    fn from_big(value: BigDecimal) -> Result<Self, NumberError> {
        let (digits, scale) = value.as_bigint_and_exponent();
        if digits.bits() > 4 * MAX_DIGITS as u64 || scale.abs() > MAX_EXPONENT {
            return Err(NumberError::TooLarge);
        }
        if value.is_integer()
            && let Some(small) = value.to_i64()
        {
            return Ok(Self(Repr::Small(small)));
        }
        Ok(Self(Repr::Big(Box::new(value.normalized()))))
    }
}

impl From<BigInt> for Number {
    fn from(value: BigInt) -> Self {
        match value.to_i64() {
            Some(small) => Self(Repr::Small(small)),
            None => Self(Repr::Big(Box::new(BigDecimal::from(value).normalized()))),
        }
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        BigInt::from(value).into()
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self(Repr::Small(value))
    }
}

impl From<i32> for Number {
    fn from(value: i32) -> Self {
        Self(Repr::Small(value.into()))
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self(Repr::Small(value.into()))
    }
}

impl FromStr for Number {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        if let Ok(small) = text.parse::<i64>() {
            return Ok(Self(Repr::Small(small)));
        }
        if text.len() > MAX_DIGITS {
            return Err(NumberError::TooLarge);
        }
        let big = BigDecimal::from_str(text).map_err(|_| NumberError::Syntax(text.to_owned()))?;
        Self::from_big(big)
    }
}

/// Plain digits while they are few, scientific notation beyond 40 zeros; always parses back exactly.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Small(n) => write!(f, "{n}"),
            Repr::Big(n) => {
                let (_, scale) = n.as_bigint_and_exponent();
                if (-40..=400).contains(&scale) {
                    f.write_str(&n.to_plain_string())
                } else {
                    f.write_str(&n.to_scientific_notation())
                }
            }
        }
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Repr::Small(a), Repr::Small(b)) => a.cmp(b),
            (Repr::Big(a), Repr::Big(b)) => a.cmp(b),
            (Repr::Small(a), Repr::Big(b)) => BigDecimal::from(*a).cmp(b),
            (Repr::Big(a), Repr::Small(b)) => a.as_ref().cmp(&BigDecimal::from(*b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        text.parse().expect("a number")
    }

    #[test]
    fn every_digit_is_kept() {
        for text in [
            "0",
            "-7",
            "0.7",
            "18446744073709551615",
            "12345678901234567890123.5",
            "0.001",
        ] {
            assert_eq!(number(text).to_string(), text);
        }
        let third = format!("0.{}", "3".repeat(155));
        assert_eq!(number(&third).to_string(), third);
    }

    #[test]
    fn equal_numbers_look_alike_however_they_were_written() {
        assert_eq!(number("1e3"), number("1000.00"));
        assert_eq!(number("1.50"), number("1.5"));
        assert_eq!(number("1e3").as_i64(), Some(1000));
        assert_eq!(number("18446744073709551615").as_u64(), Some(u64::MAX));
        assert_eq!(number("0.5").as_i64(), None);
        assert_eq!(number("-1").as_u64(), None);
    }

    #[test]
    fn a_float_is_exact_only_when_no_digit_is_lost() {
        assert_eq!(number("0.5").as_f64_exact(), Some(0.5));
        assert_eq!(number("0.7").as_f64_exact(), None);
        assert_eq!(number("1e30").as_f64_exact(), None);
        assert_eq!(Number::from_f64(0.7).expect("finite"), number("0.7"));
        assert!(Number::from_f64(f64::NAN).is_err());
    }

    #[test]
    fn monstrous_numbers_are_refused_at_the_limit() {
        assert_eq!("1e4096".parse::<Number>().map(|_| ()), Ok(()));
        assert_eq!("1e4097".parse::<Number>(), Err(NumberError::TooLarge));
        assert_eq!("1e999999999".parse::<Number>(), Err(NumberError::TooLarge));
        assert_eq!(
            "9".repeat(MAX_DIGITS + 1).parse::<Number>(),
            Err(NumberError::TooLarge)
        );
        assert!(matches!(
            "ten".parse::<Number>(),
            Err(NumberError::Syntax(_))
        ));
    }
}
