//! The layout of a machine as text, `8xA100-80G` or `4xT4,2xH100`, and sizes such as `10GiB`.

use std::fmt;
use std::str::FromStr;

use crate::error::SimError;
use crate::profile::{PROFILES, Profile};
use crate::state::{MAX_DEVICES, SPEC_LEN};

/// Which GPUs a simulated machine has, in index order. At least 1, at most [`MAX_DEVICES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    groups: Vec<(usize, &'static Profile)>,
}

/// Bytes of a size such as `512MiB`, `10GiB`, `8GB` (decimal) or plain `4096`.
/// `None` when the text is no such size or does not fit 64 bits.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

// === impl MachineSpec ===

impl MachineSpec {
    /// The profile of each device, in index order.
    pub fn profiles(&self) -> impl Iterator<Item = &'static Profile> + '_ {
        self.groups
            .iter()
            .flat_map(|(n, p)| std::iter::repeat_n(*p, *n))
    }

    /// How many devices.
    #[must_use]
    pub fn device_count(&self) -> usize {
        self.groups.iter().map(|(n, _)| n).sum()
    }
}

impl FromStr for MachineSpec {
    type Err = SimError;

    fn from_str(spec: &str) -> Result<Self, SimError> {
        let fail = |reason: String| SimError::Spec {
            spec: spec.to_owned(),
            reason,
        };
        let mut groups: Vec<(usize, &'static Profile)> = Vec::new();
        for part in spec.split(',') {
            let part = part.trim();
            let (count, model) = part
                .split_once(['x', 'X'])
                .ok_or_else(|| fail(format!("`{part}` has no `x` between count and model")))?;
            let count: usize = count
                .trim()
                .parse()
                .ok()
                .filter(|n| (1..=MAX_DEVICES).contains(n))
                .ok_or_else(|| fail(format!("count `{count}` is not in 1..={MAX_DEVICES}")))?;
            let profile = Profile::named(model.trim()).ok_or_else(|| {
                let known: Vec<_> = PROFILES.iter().map(|p| p.model).collect();
                fail(format!(
                    "unknown model `{model}`; known: {}",
                    known.join(", ")
                ))
            })?;
            match groups.last_mut() {
                Some((n, last)) if *last == profile => *n += count,
                _ => groups.push((count, profile)),
            }
        }
        let spec = Self { groups };
        if spec.device_count() > MAX_DEVICES {
            return Err(fail(format!("more than {MAX_DEVICES} devices")));
        }
        if spec.to_string().len() > SPEC_LEN {
            return Err(fail(format!("longer than {SPEC_LEN} characters")));
        }
        Ok(spec)
    }
}

impl fmt::Display for MachineSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (count, profile)) in self.groups.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{count}x{}", profile.model)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_reads_back_as_it_was_written() {
        for (text, shown, devices) in [
            ("8xA100-80G", "8xA100-80G", 8),
            ("4xT4,2xH100", "4xT4,2xH100", 6),
            (" 1xt4 , 1XT4 ", "2xT4", 2),
            ("128xL4", "128xL4", 128),
        ] {
            let spec: MachineSpec = text.parse().expect(text);
            assert_eq!(spec.to_string(), shown);
            assert_eq!(spec.profiles().count(), devices);
        }
    }

    #[test]
    fn a_bad_layout_says_what_is_wrong() {
        for (text, reason) in [
            ("", "no `x`"),
            ("8", "no `x`"),
            ("0xT4", "not in 1..=128"),
            ("129xT4", "not in 1..=128"),
            ("100xT4,100xH100", "more than 128"),
            ("2xK80", "known: T4, V100-16G"),
            ("2xT4,", "no `x`"),
        ] {
            let error = text.parse::<MachineSpec>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        for (text, bytes) in [
            ("10GiB", Some(10 << 30)),
            ("512 MiB", Some(512 << 20)),
            ("8GB", Some(8_000_000_000)),
            ("4096", Some(4096)),
            ("1.5GiB", None),
            ("GiB", None),
            ("-1", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }
}
