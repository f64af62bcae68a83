//! Short model names from the driver's product names.

use gpuloom_fleet::GpuModel;

/// Families sold with more than one memory size under one name: the size is part of the model.
const SIZED_FAMILIES: &[&str] = &["A100", "V100", "P100"];

/// Words that say how a board is built, not which GPU it is.
const BOARD_WORDS: &[&str] = &[
    "NVIDIA",
    "TESLA",
    "GEFORCE",
    "PCIE",
    "HBM2",
    "HBM2E",
    "HBM3",
    "HBM3E",
    "BLACKWELL",
    "SERVER",
    "EDITION",
];

/// The short name people write for the driver's `product`: `NVIDIA A100-SXM4-80GB` is `A100-80G`,
/// `Tesla T4` is `T4`, `NVIDIA H100 80GB HBM3` is `H100`, `NVIDIA H100 NVL` is `H100-NVL`.
/// `unknown` when nothing of the name can be kept.
#[must_use]
pub fn model_of(product: &str) -> GpuModel {
    let mut kept: Vec<String> = Vec::new();
    let mut size = None;
    for word in product.split([' ', '-']).filter(|w| !w.is_empty()) {
        let upper = word.to_ascii_uppercase();
        if let Some(gigabytes) = gigabytes(&upper) {
            size = Some(gigabytes);
        } else if !BOARD_WORDS.contains(&upper.as_str()) && !is_form_factor(&upper) {
            kept.push(
                word.chars()
                    .filter(|c| c.is_ascii_alphanumeric() || *c == '.')
                    .collect(),
            );
        }
    }
    let sized = kept
        .first()
        .is_some_and(|f| SIZED_FAMILIES.contains(&f.as_str()));
    if let (true, Some(gigabytes)) = (sized, size) {
        kept.push(format!("{gigabytes}G"));
    }
    kept.retain(|word| !word.is_empty());
    let mut name = kept.join("-");
    name.truncate(32);
    GpuModel::new(name)
        .or_else(|_| GpuModel::new("unknown"))
        .unwrap_or_else(|e| unreachable!("`unknown` is a model name: {e}"))
}

fn gigabytes(word: &str) -> Option<u32> {
    word.strip_suffix("GB").and_then(|n| n.parse().ok())
}

/// `SXM2`, `SXM4`, `DGXS` and the like.
fn is_form_factor(word: &str) -> bool {
    word.starts_with("SXM") || word.starts_with("DGX") || word == "FHHL"
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_nvml_sim::PROFILES;

    #[test]
    fn products_have_the_short_names_people_write() {
        for (product, model) in [
            ("Tesla T4", "T4"),
            ("Tesla V100-SXM2-16GB", "V100-16G"),
            ("Tesla V100-DGXS-32GB", "V100-32G"),
            ("A100-SXM4-40GB", "A100-40G"),
            ("NVIDIA A100-PCIE-40GB", "A100-40G"),
            ("NVIDIA A100 80GB PCIe", "A100-80G"),
            ("NVIDIA H100 PCIe", "H100"),
            ("NVIDIA H100 NVL", "H100-NVL"),
            ("NVIDIA GH200 480GB", "GH200"),
            ("NVIDIA GeForce RTX 4090", "RTX-4090"),
            ("NVIDIA RTX A6000", "RTX-A6000"),
            (
                "NVIDIA RTX PRO 6000 Blackwell Server Edition",
                "RTX-PRO-6000",
            ),
            ("", "unknown"),
            ("NVIDIA", "unknown"),
            ("\u{1F600}", "unknown"),
            (
                "A very long name that no GPU ever had, not even once",
                "A-very-long-name-that-no-GPU-eve",
            ),
        ] {
            assert_eq!(model_of(product).as_str(), model, "{product}");
        }
    }

    #[test]
    fn every_known_model_can_be_simulated_and_is_recognised() {
        for profile in PROFILES {
            assert_eq!(model_of(profile.nvml_name).as_str(), profile.model);
        }
        for (model, _) in gpuloom_fleet::KNOWN_MODELS {
            assert!(
                PROFILES.iter().any(|p| p.model == *model),
                "{model} has no profile"
            );
        }
    }
}
