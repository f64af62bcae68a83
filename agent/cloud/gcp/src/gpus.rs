//! Google's names of GPUs, and which machines they come with.

use gpuloom_fleet::{Bytes, GpuModel, Market};

/// A GPU as Google sells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sold {
    /// Google's accelerator type.
    pub(crate) accelerator: &'static str,
    /// Our short name.
    pub(crate) model: &'static str,
    /// Memory of each, in GiB.
    pub(crate) memory_gib: u64,
    /// For those attached to an N1 machine: the most vCPUs for 1, 2, 4 and 8 of them (0: that many cannot be had).
    /// `None`: built into machine types of its own.
    pub(crate) attached: Option<[u32; 4]>,
}

/// Source: Compute Engine's documentation, "GPU machine types" (built in) and "N1 machine type" (limits of vCPUs).
pub(crate) const SOLD: &[Sold] = &[
    attached("nvidia-tesla-t4", "T4", 16, [48, 48, 96, 0]),
    attached("nvidia-tesla-p4", "P4", 8, [24, 48, 96, 0]),
    attached("nvidia-tesla-v100", "V100-16G", 16, [12, 24, 48, 96]),
    attached("nvidia-tesla-p100", "P100", 16, [16, 32, 64, 0]),
    attached("nvidia-tesla-k80", "K80", 12, [8, 16, 32, 64]),
    built_in("nvidia-l4", "L4", 24),
    built_in("nvidia-tesla-a100", "A100-40G", 40),
    built_in("nvidia-a100-80gb", "A100-80G", 80),
    built_in("nvidia-h100-80gb", "H100", 80),
    built_in("nvidia-h100-mega-80gb", "H100", 80),
    built_in("nvidia-h200-141gb", "H200", 141),
    built_in("nvidia-b200", "B200", 180),
    built_in("nvidia-gb200", "GB200", 186),
    built_in("nvidia-rtx-pro-6000", "RTX-PRO-6000", 96),
];

/// Types that cannot be had in a market: sold by reservation or with a flexible start alone.
/// Source: Compute Engine's documentation, "Consumption options for accelerator-optimized machine types".
const NOT_ON_DEMAND: &[&str] = &[
    "a3-highgpu-1g",
    "a3-highgpu-2g",
    "a3-highgpu-4g",
    "a3-ultragpu-",
    "a4-",
    "a4x-",
];
const NOT_SPOT: &[&str] = &["a4x-"];

const fn attached(
    accelerator: &'static str,
    model: &'static str,
    memory_gib: u64,
    vcpus: [u32; 4],
) -> Sold {
    Sold {
        accelerator,
        model,
        memory_gib,
        attached: Some(vcpus),
    }
}

const fn built_in(accelerator: &'static str, model: &'static str, memory_gib: u64) -> Sold {
    Sold {
        accelerator,
        model,
        memory_gib,
        attached: None,
    }
}

// === impl Sold ===

impl Sold {
    /// What Google calls `accelerator`; `None` for one we do not know (and for virtual workstations).
    pub(crate) fn of_accelerator(accelerator: &str) -> Option<&'static Self> {
        SOLD.iter().find(|s| s.accelerator == accelerator)
    }

    /// Whether this is what people mean by `asked`: our name, or its front: `V100` is `V100-16G`.
    pub(crate) fn is(&self, asked: &GpuModel) -> bool {
        let front = self.model.strip_prefix(asked.as_str());
        front.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// Our name as a type.
    pub(crate) fn gpu_model(&self) -> Option<GpuModel> {
        GpuModel::new(self.model).ok()
    }

    /// Memory of each.
    pub(crate) fn memory(&self) -> Bytes {
        Bytes::gib(self.memory_gib)
    }

    /// The most vCPUs of an N1 machine with `count` of them; `None` when they are not attached, or not so many.
    pub(crate) fn most_vcpus(&self, count: u32) -> Option<u32> {
        let at = match count {
            1 => 0,
            2 => 1,
            4 => 2,
            8 => 3,
            _ => return None,
        };
        self.attached.map(|most| most[at]).filter(|most| *most > 0)
    }
}

/// Of those attached to N1 machines, the one meant by `asked`.
pub(crate) fn attached_gpu(asked: &GpuModel) -> Option<&'static Sold> {
    SOLD.iter().find(|s| s.attached.is_some() && s.is(asked))
}

/// Whether the type is sold in this market at all.
pub(crate) fn is_sold(machine_type: &str, market: Market) -> bool {
    let not = match market {
        Market::OnDemand => NOT_ON_DEMAND,
        Market::Spot => NOT_SPOT,
    };
    !not.iter().any(|prefix| machine_type.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_may_leave_out_the_memory_of_a_model() {
        let is = |asked: &str, accelerator: &str| {
            let asked = GpuModel::new(asked).expect("a model");
            Sold::of_accelerator(accelerator).expect("known").is(&asked)
        };
        assert!(is("T4", "nvidia-tesla-t4"));
        assert!(is("V100", "nvidia-tesla-v100"));
        assert!(is("A100-80G", "nvidia-a100-80gb"));
        assert!(!is("A100-80G", "nvidia-tesla-a100"));
        assert!(!is("L4", "nvidia-tesla-p4"));
        assert!(!is("L40S", "nvidia-l4"));
        assert!(!is("A1", "nvidia-tesla-a100"));
    }

    #[test]
    fn an_n1_machine_has_at_most_as_many_vcpus_as_its_gpus_allow() {
        let v100 = Sold::of_accelerator("nvidia-tesla-v100").expect("known");
        assert_eq!(v100.most_vcpus(1), Some(12));
        assert_eq!(v100.most_vcpus(8), Some(96));
        assert_eq!(v100.most_vcpus(3), None);
        let t4 = Sold::of_accelerator("nvidia-tesla-t4").expect("known");
        assert_eq!(t4.most_vcpus(8), None, "there are no 8 T4");
        let l4 = Sold::of_accelerator("nvidia-l4").expect("known");
        assert_eq!(l4.most_vcpus(1), None, "built in");
    }

    #[test]
    fn what_is_sold_by_reservation_alone_is_not_offered() {
        assert!(!is_sold("a3-highgpu-1g", Market::OnDemand));
        assert!(is_sold("a3-highgpu-1g", Market::Spot));
        assert!(is_sold("a3-highgpu-8g", Market::OnDemand));
        assert!(!is_sold("a4x-highgpu-4g", Market::Spot));
        assert!(is_sold("g2-standard-4", Market::OnDemand));
    }

    #[test]
    fn every_name_is_a_model_that_reads() {
        for sold in SOLD {
            assert!(sold.gpu_model().is_some(), "{sold:?}");
        }
    }
}
