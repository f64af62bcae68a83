//! How much GPU memory a model needs: an estimate, with its formula stated.

use crate::problem::Problems;
use crate::unit::Bytes;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// The number format of weights and cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 4 bytes a parameter.
    Fp32,
    /// 2 bytes a parameter (fp16 and bf16).
    Fp16,
    /// 1 byte a parameter (fp8 and int8).
    Fp8,
    /// Half a byte a parameter.
    Int4,
}

/// An estimate of GPU memory, in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VramEstimate {
    /// Parameters times bytes a parameter.
    pub weights: Bytes,
    /// Gradients and optimizer state when training, else zero.
    pub training: Bytes,
    /// 20% of the rest for activations, cache and fragmentation.
    pub overhead: Bytes,
    /// The sum.
    pub total: Bytes,
}

/// Memory for a model of `parameters_millions`, 1 to 100,000,000 (100 trillion).
///
/// Inference: weights x 1.2. Training adds gradients in the weights' precision and Adam's two
/// moments plus a master copy in fp32 (12 bytes a parameter). Sources: mixed-precision Adam's
/// accounting of 16 bytes a parameter in Rajbhandari et al., ZeRO (SC 2020), section 3.1; the 20%
/// is the rule of thumb of serving guides and an assumption, not a bound.
pub fn vram_required(
    parameters_millions: u64,
    precision: Precision,
    training: bool,
) -> Result<VramEstimate, Problems> {
    let mut p = Problems::default();
    p.range("parameters", parameters_millions, 1, 100_000_000);
    if training && matches!(precision, Precision::Fp8 | Precision::Int4) {
        p.add("precision", "", "is for inference", "train in fp32 or fp16");
    }
    p.into_result()?;
    let parameters = parameters_millions.saturating_mul(1_000_000);
    let half_bytes: u64 = match precision {
        Precision::Fp32 => 8,
        Precision::Fp16 => 4,
        Precision::Fp8 => 2,
        Precision::Int4 => 1,
    };
    let weights = Bytes(parameters.saturating_mul(half_bytes) / 2);
    let training = if training {
        weights + Bytes(parameters.saturating_mul(12))
    } else {
        Bytes(0)
    };
    let overhead = Bytes((weights + training).0 / 5);
    Ok(VramEstimate {
        weights,
        training,
        overhead,
        total: weights + training + overhead,
    })
}

// === impl Precision ===

impl FromStr for Precision {
    type Err = Problems;

    fn from_str(s: &str) -> Result<Self, Problems> {
        Ok(match s {
            "fp32" => Self::Fp32,
            "fp16" | "bf16" => Self::Fp16,
            "fp8" | "int8" => Self::Fp8,
            "int4" => Self::Int4,
            _ => {
                let mut p = Problems::default();
                p.add(
                    "precision",
                    s,
                    "is unknown",
                    "use fp32, fp16, bf16, fp8, int8 or int4",
                );
                return Err(p);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_7b_model_needs_16_8_gb_to_serve_in_fp16_and_134_4_gb_to_train() {
        let serve = vram_required(7_000, Precision::Fp16, false).expect("in range");
        assert_eq!(serve.total, Bytes(16_800_000_000));
        let train = vram_required(7_000, Precision::Fp16, true).expect("in range");
        assert_eq!(train.total, Bytes(134_400_000_000));
        assert!(vram_required(0, Precision::Fp16, false).is_err());
        assert!(vram_required(1, Precision::Int4, true).is_err());
    }
}
