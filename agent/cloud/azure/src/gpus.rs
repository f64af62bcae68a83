//! Which GPU a size has: Resource Manager gives only how many.

use gpuloom_fleet::{Bytes, GpuModel, GpuShape};

use crate::types::Sku;

/// Sizes with whole GPUs: name, model, GPUs, GiB of each. Fractions of an A10 (`NV6ads_A10_v5` and so on) are no
/// GPU of a pool and are left out. Source: "GPU accelerated virtual machine sizes" on learn.microsoft.com (families
/// NC, ND, NV) and the GPU model in each size's own name, 2026-11-22.
const SIZES: &[(&str, &str, u32, u64)] = &[
    ("Standard_NC4as_T4_v3", "T4", 1, 16),
    ("Standard_NC8as_T4_v3", "T4", 1, 16),
    ("Standard_NC16as_T4_v3", "T4", 1, 16),
    ("Standard_NC64as_T4_v3", "T4", 4, 16),
    ("Standard_NC6s_v3", "V100-16G", 1, 16),
    ("Standard_NC12s_v3", "V100-16G", 2, 16),
    ("Standard_NC24s_v3", "V100-16G", 4, 16),
    ("Standard_NC24rs_v3", "V100-16G", 4, 16),
    ("Standard_ND40rs_v2", "V100-32G", 8, 32),
    ("Standard_NC24ads_A100_v4", "A100-80G", 1, 80),
    ("Standard_NC48ads_A100_v4", "A100-80G", 2, 80),
    ("Standard_NC96ads_A100_v4", "A100-80G", 4, 80),
    ("Standard_ND96asr_v4", "A100-40G", 8, 40),
    ("Standard_ND96amsr_A100_v4", "A100-80G", 8, 80),
    ("Standard_NC40ads_H100_v5", "H100-NVL", 1, 94),
    ("Standard_NC80adis_H100_v5", "H100-NVL", 2, 94),
    ("Standard_ND96isr_H100_v5", "H100", 8, 80),
    ("Standard_ND96isr_H200_v5", "H200", 8, 141),
    ("Standard_ND96isr_MI300X_v5", "MI300X", 8, 192),
    ("Standard_NV36ads_A10_v5", "A10", 1, 24),
    ("Standard_NV36adms_A10_v5", "A10", 1, 24),
    ("Standard_NV72ads_A10_v5", "A10", 2, 24),
];

/// What a size has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gpus {
    pub(crate) shape: GpuShape,
    pub(crate) memory_each: Bytes,
}

/// The GPUs of `sku`; `None` when it has none, or ones we cannot name. How many is Resource Manager's word.
pub(crate) fn of(sku: &Sku) -> Option<Gpus> {
    let (_, model, listed, gib) = SIZES
        .iter()
        .find(|(name, ..)| name.eq_ignore_ascii_case(&sku.name))?;
    let told = sku.capability("GPUs").and_then(|n| n.parse::<u32>().ok());
    let per_node = told.unwrap_or(*listed);
    if per_node == 0 {
        return None;
    }
    Some(Gpus {
        shape: GpuShape {
            model: GpuModel::new(*model).ok()?,
            per_node,
        },
        memory_each: Bytes::gib(*gib),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_names_a_model_and_stands_once() {
        for (i, (name, model, count, gib)) in SIZES.iter().enumerate() {
            let model = GpuModel::new(*model).expect("a model");
            if let Some(known) = model.memory() {
                assert_eq!(known, Bytes::gib(*gib), "{name}");
            }
            assert!((1..=16).contains(count), "{name}");
            assert!(SIZES[..i].iter().all(|(other, ..)| other != name), "{name}");
        }
    }

    #[test]
    fn resource_managers_count_is_believed() {
        let sku = |count: Option<&str>| Sku {
            name: "Standard_NC4as_T4_v3".to_owned(),
            capabilities: count
                .map(|value| crate::types::Capability {
                    name: "GPUs".to_owned(),
                    value: value.to_owned(),
                })
                .into_iter()
                .collect(),
            ..Sku::default()
        };
        let count = |told| of(&sku(told)).map(|g| g.shape.per_node);
        assert_eq!(
            (count(None), count(Some("2")), count(Some("0"))),
            (Some(1), Some(2), None)
        );
    }
}
