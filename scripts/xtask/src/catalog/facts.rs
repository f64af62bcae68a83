//! What machines have, where no machine-readable source states it: from the vendors' documentation of their
//! sizes (Azure: learn.microsoft.com/azure/virtual-machines/sizes/gpu-accelerated; Google Cloud:
//! docs.cloud.google.com/compute/docs/gpus; AWS's retired families: aws.amazon.com/ec2/previous-generation).

use anyhow::{Context, Result, ensure};
use gpuloom_cloud_catalog::{CloudKind, Shape, Source};
use gpuloom_fleet::{Bytes, GpuModel, MilliGpu};
use std::collections::BTreeMap;
use std::sync::Arc;

/// When the table was written down. It was not compared with the pages again, row by row, since.
const DAY: &str = "2026-11-22";

/// NVIDIA RTX PRO 6000 Blackwell Server Edition.
pub(super) const RTX_PRO_6000: &str = "RTX-PRO-6000";

/// Memory in GiB of the GPUs that `fleet::KNOWN_MODELS` does not name, as their makers state it.
const MEMORY_GIB: &[(&str, u64)] = &[
    ("A10", 24),
    ("GB200", 186),
    ("H100-NVL", 94),
    ("K80", 12),
    ("M60", 8),
    ("MI25", 16),
    ("MI300X", 192),
    (RTX_PRO_6000, 96),
    ("V620", 32),
];

/// `model [part]: name gpus vcpus memory_gib, ...`; a part is in thousandths of a GPU.
const AZURE: &[&str] = &[
    "T4: Standard_NC4as_T4_v3 1 4 28, Standard_NC8as_T4_v3 1 8 56, Standard_NC16as_T4_v3 1 16 110, Standard_NC64as_T4_v3 4 64 440",
    "V100-16G: Standard_NC6s_v3 1 6 112, Standard_NC12s_v3 2 12 224, Standard_NC24s_v3 4 24 448, Standard_NC24rs_v3 4 24 448",
    "V100-32G: Standard_ND40rs_v2 8 40 672",
    "A100-80G: Standard_NC24ads_A100_v4 1 24 220, Standard_NC48ads_A100_v4 2 48 440, Standard_NC96ads_A100_v4 4 96 880",
    "A100-80G: Standard_ND96amsr_A100_v4 8 96 1900",
    "A100-40G: Standard_ND96asr_v4 8 96 900",
    "H100-NVL: Standard_NC40ads_H100_v5 1 40 320, Standard_NC80adis_H100_v5 2 80 640, Standard_NCC40ads_H100_v5 1 40 320",
    "H100: Standard_ND96isr_H100_v5 8 96 1900",
    "H200: Standard_ND96isr_H200_v5 8 96 1850",
    "MI300X: Standard_ND96isr_MI300X_v5 8 96 1850, Standard_ND96is_MI300X_v5 8 96 1850",
    "GB200: Standard_ND128isr_NDR_GB200_v6 4 128 900",
    "A10: Standard_NV36ads_A10_v5 1 36 440, Standard_NV36adms_A10_v5 1 36 880, Standard_NV72ads_A10_v5 2 72 880",
    "A10 500: Standard_NV18ads_A10_v5 1 18 220",
    "A10 333: Standard_NV12ads_A10_v5 1 12 110",
    "A10 167: Standard_NV6ads_A10_v5 1 6 55",
    "M60: Standard_NV12s_v3 1 12 112, Standard_NV24s_v3 2 24 224, Standard_NV48s_v3 4 48 448",
    "M60: Standard_NV6_Promo 1 6 56, Standard_NV12_Promo 2 12 112, Standard_NV24_Promo 4 24 224",
    "K80: Standard_NC6_Promo 1 6 56, Standard_NC12_Promo 2 12 112, Standard_NC24_Promo 4 24 224, Standard_NC24r_Promo 4 24 224",
    "MI25: Standard_NV32as_v4 1 32 112",
    "MI25 500: Standard_NV16as_v4 1 16 56",
    "MI25 250: Standard_NV8as_v4 1 8 28",
    "MI25 125: Standard_NV4as_v4 1 4 14",
    "V620: Standard_NG32ads_V620_v1 1 32 64",
    "V620 500: Standard_NG16ads_V620_v1 1 16 32",
    "V620 250: Standard_NG8ads_V620_v1 1 8 16",
];

const GCP: &[&str] = &[
    "L4: g2-standard-4 1 4 16, g2-standard-8 1 8 32, g2-standard-12 1 12 48, g2-standard-16 1 16 64, g2-standard-32 1 32 128",
    "L4: g2-standard-24 2 24 96, g2-standard-48 4 48 192, g2-standard-96 8 96 384",
    "A100-40G: a2-highgpu-1g 1 12 85, a2-highgpu-2g 2 24 170, a2-highgpu-4g 4 48 340, a2-highgpu-8g 8 96 680, a2-megagpu-16g 16 96 1360",
    "A100-80G: a2-ultragpu-1g 1 12 170, a2-ultragpu-2g 2 24 340, a2-ultragpu-4g 4 48 680, a2-ultragpu-8g 8 96 1360",
    "H100: a3-highgpu-1g 1 26 234, a3-highgpu-2g 2 52 468, a3-highgpu-4g 4 104 936, a3-highgpu-8g 8 208 1872, a3-megagpu-8g 8 208 1872",
    "RTX-PRO-6000: g4-standard-48 1 48 180, g4-standard-96 2 96 360, g4-standard-192 4 192 720, g4-standard-384 8 384 1440",
    "RTX-PRO-6000 500: g4-standard-24 1 24 90",
    "RTX-PRO-6000 250: g4-standard-12 1 12 45",
    "RTX-PRO-6000 125: g4-standard-6 1 6 22",
];

/// Families that EC2 no longer lists but still prices.
const AWS: &[&str] = &[
    "V100-16G: p3.2xlarge 1 8 61, p3.8xlarge 4 32 244, p3.16xlarge 8 64 488",
    "K80: p2.xlarge 1 4 61, p2.8xlarge 8 32 488, p2.16xlarge 16 64 732",
    "M60: g3s.xlarge 1 4 30, g3.4xlarge 1 16 122, g3.8xlarge 2 32 244, g3.16xlarge 4 64 488",
];

/// The tables as a source.
pub(super) fn source() -> Result<Source> {
    let about = "written down by hand after the vendors' documentation of their machines, where no other source states GPUs, vCPUs and memory";
    super::source("vendor-docs", DAY, about.to_owned())
}

/// The machines of `cloud` in the tables.
pub(super) fn shapes(cloud: CloudKind) -> Result<BTreeMap<String, Arc<Shape>>> {
    let lines = match cloud {
        CloudKind::Aws => AWS,
        CloudKind::Gcp => GCP,
        CloudKind::Azure => AZURE,
    };
    let stated = source()?;
    let mut shapes = BTreeMap::new();
    for line in lines {
        let (gpu, machines) = line.split_once(": ").context("a line names its GPU")?;
        let (model, part) = gpu.split_once(' ').unwrap_or((gpu, "1000"));
        let model = GpuModel::new(model)?;
        let part = MilliGpu(part.parse()?);
        let gpu_memory = device_memory(&model, part)?;
        for machine in machines.split(", ") {
            let words: Vec<&str> = machine.split(' ').collect();
            let [name, gpus, vcpus, gib] = words[..] else {
                anyhow::bail!("{machine:?} is not NAME GPUS VCPUS GIB");
            };
            let shape = Arc::new(Shape {
                model: model.clone(),
                gpus: gpus.parse()?,
                part,
                gpu_memory,
                vcpus: vcpus.parse()?,
                memory: Bytes::gib(gib.parse()?),
                source: Arc::clone(&stated.name),
                at: stated.at,
            });
            let again = shapes.insert(name.to_owned(), shape).is_some();
            ensure!(!again, "{name} stands twice");
        }
    }
    Ok(shapes)
}

/// The memory of a device that is `part` of a `model`: an eighth has an eighth.
fn device_memory(model: &GpuModel, part: MilliGpu) -> Result<Bytes> {
    let table = MEMORY_GIB.iter().find(|(name, _)| *name == model.as_str());
    let whole = model.memory().or(table.map(|(_, gib)| Bytes::gib(*gib)));
    let whole = whole.with_context(|| format!("the memory of {model} is known"))?;
    // 167 is a sixth, 333 a third.
    let parts = (1000 + part.0 / 2) / part.0;
    Ok(Bytes(whole.0 / parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_of_the_tables_has_gpus_and_memory() {
        for cloud in CloudKind::ALL {
            let shapes = shapes(cloud).expect("the tables read");
            assert!(shapes.len() > 5, "{cloud}");
            for (name, shape) in shapes {
                assert!(
                    shape.gpus > 0 && shape.gpu_memory >= Bytes::gib(2),
                    "{name}"
                );
                assert!(shape.memory >= Bytes::gib(14), "{name}");
            }
        }
    }

    #[test]
    fn a_part_has_its_part_of_the_memory() {
        let a10 = GpuModel::new("A10").expect("a name");
        for (part, gib) in [(1000, 24), (500, 12), (333, 8), (167, 4)] {
            let memory = device_memory(&a10, MilliGpu(part)).expect("known");
            assert_eq!(memory, Bytes::gib(gib), "{part}");
        }
        let unheard = GpuModel::new("X9").expect("a name");
        assert!(device_memory(&unheard, MilliGpu::ONE).is_err());
    }
}
