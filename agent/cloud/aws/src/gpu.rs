//! GPUs of instance types, in the words of [`gpuloom_fleet::GpuModel`].

use aws_sdk_ec2::types::InstanceTypeInfo;
use gpuloom_fleet::{Bytes, GpuModel, GpuShape};

/// The GPUs of an instance type and the memory of each; `None` without any, with a part of one (g6f), or with
/// something that is no GPU (Gaudi).
pub(crate) fn gpus(info: &InstanceTypeInfo) -> Option<(GpuShape, Option<Bytes>)> {
    let device = info.gpu_info()?.gpus().first()?;
    let count = u32::try_from(device.count()?).ok().filter(|n| *n > 0)?;
    let whole = device.gpu_partition_size().is_none_or(|part| part >= 1.0);
    let maker = device.manufacturer().unwrap_or("NVIDIA");
    if !whole || !["NVIDIA", "AMD"].contains(&maker) {
        return None;
    }
    let mib = device.memory_info().and_then(|m| m.size_in_mib());
    let mib = mib
        .and_then(|mib| u64::try_from(mib).ok())
        .filter(|m| *m > 0);
    let model = model(device.name()?, mib)?;
    let memory = mib.map(|mib| Bytes(mib << 20));
    let shape = GpuShape {
        model,
        per_node: count,
    };
    Some((shape, memory))
}

/// EC2's name as the model's short name: a model of two sizes gets its memory, a long name hyphens.
fn model(name: &str, mib: Option<u64>) -> Option<GpuModel> {
    let short = match name {
        "A100" => sized(name, mib, 60 * 1024, "40G", "80G"),
        "V100" => sized(name, mib, 24 * 1024, "16G", "32G"),
        // As the other clouds and the driver have it.
        "RTX PRO Server 6000" => "RTX-PRO-6000".to_owned(),
        _ => {
            let words = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
            words.join("-")
        }
    };
    GpuModel::new(short).ok()
}

fn sized(name: &str, mib: Option<u64>, border: u64, small: &str, large: &str) -> String {
    match mib {
        Some(mib) if mib < border => format!("{name}-{small}"),
        Some(_) => format!("{name}-{large}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ec2::types::{GpuDeviceInfo, GpuDeviceMemoryInfo, GpuInfo};

    fn shape(maker: &str, name: &str, count: i32, mib: i32, part: f64) -> Option<String> {
        let memory = GpuDeviceMemoryInfo::builder().size_in_mib(mib).build();
        let device = GpuDeviceInfo::builder()
            .manufacturer(maker)
            .name(name)
            .count(count)
            .gpu_partition_size(part)
            .memory_info(memory)
            .build();
        let info = GpuInfo::builder().gpus(device).build();
        let kind = InstanceTypeInfo::builder().gpu_info(info).build();
        gpus(&kind).map(|(shape, _)| format!("{}x{}", shape.model, shape.per_node))
    }

    #[test]
    fn models_have_the_names_people_write() {
        for (name, mib, expected) in [
            ("T4", 16384, "T4x8"),
            ("A10G", 22888, "A10Gx8"),
            ("L40S", 45776, "L40Sx8"),
            ("A100", 40960, "A100-40Gx8"),
            ("A100", 81920, "A100-80Gx8"),
            ("V100", 16384, "V100-16Gx8"),
            ("V100", 32768, "V100-32Gx8"),
            ("H200", 144_384, "H200x8"),
            ("RTX PRO Server 6000", 98304, "RTX-PRO-6000x8"),
        ] {
            assert_eq!(
                shape("NVIDIA", name, 8, mib, 1.0).as_deref(),
                Some(expected)
            );
        }
    }

    #[test]
    fn parts_of_a_gpu_and_other_accelerators_are_none() {
        assert_eq!(shape("NVIDIA", "L4", 0, 2861, 0.125), None);
        assert_eq!(shape("NVIDIA", "L4", 1, 2861, 0.125), None);
        assert_eq!(shape("Habana", "Gaudi HL-205", 8, 32768, 1.0), None);
        assert_eq!(gpus(&InstanceTypeInfo::builder().build()), None);
    }
}
