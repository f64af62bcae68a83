//! Exact numbers: HCL's decimals to bytes and thousandths and back, never through a float.

use gpuloom_fleet::{Bytes, MilliGpu};
use tfplug::{Number, Value};

/// A byte is 2^-30 GiB, which has at most this many decimals.
const GIB_DECIMALS: usize = 30;
/// 5^30 = 10^30 / 2^30: the last of 30 decimals in bytes is 1 / 5^30.
const FIVE_POW_30: u128 = 931_322_574_615_478_515_625;

/// GPUs with at most three decimals; `None` for anything else.
pub(crate) fn milli_from_number(number: &Number) -> Option<MilliGpu> {
    number.to_string().parse().ok()
}

/// Thousandths as the decimal people write: 1500 is `1.5`.
pub(crate) fn number_from_milli(milli: u64) -> Value {
    decimal(&MilliGpu(milli).to_string())
}

/// Millionths as a decimal: 526000 is `0.526`.
pub(crate) fn number_from_micro(micro: u64) -> Value {
    decimal(&format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000))
}

/// GiB to bytes; `None` unless it is a whole number of bytes that fits.
pub(crate) fn bytes_from_gib(number: &Number) -> Option<Bytes> {
    let text = number.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if part.len() > GIB_DECIMALS || !digits(whole) || !digits(part) {
        return None;
    }
    let part: u128 = format!("{part:0<GIB_DECIMALS$}").parse().ok()?;
    if !part.is_multiple_of(FIVE_POW_30) {
        return None;
    }
    let below = u64::try_from(part / FIVE_POW_30).ok()?;
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(1 << 30)?.checked_add(below).map(Bytes)
}

/// Bytes as an exact number of GiB.
pub(crate) fn gib_from_bytes(bytes: Bytes) -> Value {
    let (whole, below) = (bytes.0 >> 30, bytes.0 & ((1 << 30) - 1));
    if below == 0 {
        return whole.into();
    }
    let part = u128::from(below) * FIVE_POW_30;
    decimal(&format!("{whole}.{part:0>GIB_DECIMALS$}"))
}

/// GiB with two decimals, rounded down, for amounts people only look at.
pub(crate) fn about_gib(bytes: u64) -> Value {
    let hundredths = (u128::from(bytes) * 100) >> 30;
    decimal(&format!("{}.{:02}", hundredths / 100, hundredths % 100))
}

/// The number a decimal text says; null when it says none, which callers never write.
fn decimal(text: &str) -> Value {
    text.parse::<Number>().map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Number {
        text.parse().expect("a number")
    }

    #[test]
    fn memory_in_gib_is_exact_or_refused() {
        assert_eq!(bytes_from_gib(&number("1.5")), Some(Bytes(3 << 29)));
        assert_eq!(bytes_from_gib(&number("0.0009765625")), Some(Bytes::mib(1)));
        assert_eq!(
            bytes_from_gib(&number("17179869183")),
            Some(Bytes::gib(17_179_869_183))
        );
        for bad in ["0.1", "-1", "17179869184", "1e40", "1e-40"] {
            assert_eq!(bytes_from_gib(&number(bad)), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_count_and_share_survives_hcl(bytes: u64, milli in 0u64..1 << 40) {
            let gib = gib_from_bytes(Bytes(bytes));
            prop_assert_eq!(gib.as_number().and_then(bytes_from_gib), Some(Bytes(bytes)));
            let share = number_from_milli(milli);
            prop_assert_eq!(share.as_number().and_then(milli_from_number), Some(MilliGpu(milli)));
        }
    }
}
