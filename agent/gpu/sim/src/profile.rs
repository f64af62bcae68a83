//! The GPU models the simulator knows, with the figures their data sheets and drivers state.

/// One GPU model. Memory in MiB, power in milliwatts, clocks in MHz, temperatures in °C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// Short name used in layouts: `A100-80G`.
    pub model: &'static str,
    /// What `nvmlDeviceGetName` says.
    pub nvml_name: &'static str,
    /// Total device memory as NVML counts it.
    pub memory_mib: u64,
    /// Part of the total that the driver keeps.
    pub reserved_mib: u64,
    /// `NVML_DEVICE_ARCH_*`.
    pub architecture: u32,
    /// CUDA compute capability.
    pub compute_capability: (i32, i32),
    /// PCI device id << 16 | vendor id.
    pub pci_device_id: u32,
    /// PCI subsystem id << 16 | vendor id.
    pub pci_subsystem_id: u32,
    /// Lowest, default and highest power limit.
    pub power_mw: (u32, u32, u32),
    /// Power drawn when idle.
    pub idle_power_mw: u32,
    /// Highest SM clock and memory clock.
    pub clock_mhz: (u32, u32),
    /// PCIe generation (x16).
    pub pcie_generation: u32,
    /// CUDA cores.
    pub cores: u32,
    /// Memory bus width in bits.
    pub bus_width: u32,
    /// Slowdown and shutdown temperatures.
    pub thresholds_c: (u32, u32),
    /// Row remapping (Ampere data centre and later) in place of page retirement.
    pub remaps_rows: bool,
    /// Multi-instance capable; the simulator answers "disabled".
    pub mig_capable: bool,
}

/// Every model that a layout may name.
pub const PROFILES: &[Profile] = &[
    Profile {
        model: "T4",
        nvml_name: "Tesla T4",
        memory_mib: 15_360,
        reserved_mib: 449,
        architecture: 6,
        compute_capability: (7, 5),
        pci_device_id: 0x1EB8_10DE,
        pci_subsystem_id: 0x12A2_10DE,
        power_mw: (60_000, 70_000, 70_000),
        idle_power_mw: 9_000,
        clock_mhz: (1_590, 5_001),
        pcie_generation: 3,
        cores: 2_560,
        bus_width: 256,
        thresholds_c: (93, 96),
        remaps_rows: false,
        mig_capable: false,
    },
    Profile {
        model: "V100-16G",
        nvml_name: "Tesla V100-SXM2-16GB",
        memory_mib: 16_384,
        reserved_mib: 278,
        architecture: 5,
        compute_capability: (7, 0),
        pci_device_id: 0x1DB1_10DE,
        pci_subsystem_id: 0x1212_10DE,
        power_mw: (150_000, 300_000, 300_000),
        idle_power_mw: 42_000,
        clock_mhz: (1_530, 877),
        pcie_generation: 3,
        cores: 5_120,
        bus_width: 4_096,
        thresholds_c: (87, 90),
        remaps_rows: false,
        mig_capable: false,
    },
    Profile {
        model: "V100-32G",
        nvml_name: "Tesla V100-SXM2-32GB",
        memory_mib: 32_768,
        reserved_mib: 278,
        architecture: 5,
        compute_capability: (7, 0),
        pci_device_id: 0x1DB5_10DE,
        pci_subsystem_id: 0x1249_10DE,
        power_mw: (150_000, 300_000, 300_000),
        idle_power_mw: 42_000,
        clock_mhz: (1_530, 877),
        pcie_generation: 3,
        cores: 5_120,
        bus_width: 4_096,
        thresholds_c: (87, 90),
        remaps_rows: false,
        mig_capable: false,
    },
    Profile {
        model: "A100-40G",
        nvml_name: "NVIDIA A100-SXM4-40GB",
        memory_mib: 40_960,
        reserved_mib: 571,
        architecture: 7,
        compute_capability: (8, 0),
        pci_device_id: 0x20B0_10DE,
        pci_subsystem_id: 0x134F_10DE,
        power_mw: (100_000, 400_000, 400_000),
        idle_power_mw: 50_000,
        clock_mhz: (1_410, 1_215),
        pcie_generation: 4,
        cores: 6_912,
        bus_width: 5_120,
        thresholds_c: (89, 92),
        remaps_rows: true,
        mig_capable: true,
    },
    Profile {
        model: "A100-80G",
        nvml_name: "NVIDIA A100-SXM4-80GB",
        memory_mib: 81_920,
        reserved_mib: 868,
        architecture: 7,
        compute_capability: (8, 0),
        pci_device_id: 0x20B2_10DE,
        pci_subsystem_id: 0x1463_10DE,
        power_mw: (100_000, 400_000, 400_000),
        idle_power_mw: 60_000,
        clock_mhz: (1_410, 1_593),
        pcie_generation: 4,
        cores: 6_912,
        bus_width: 5_120,
        thresholds_c: (89, 92),
        remaps_rows: true,
        mig_capable: true,
    },
    Profile {
        model: "A10G",
        nvml_name: "NVIDIA A10G",
        memory_mib: 23_028,
        reserved_mib: 296,
        architecture: 7,
        compute_capability: (8, 6),
        pci_device_id: 0x2237_10DE,
        pci_subsystem_id: 0x152F_10DE,
        power_mw: (100_000, 300_000, 300_000),
        idle_power_mw: 15_000,
        clock_mhz: (1_710, 6_251),
        pcie_generation: 4,
        cores: 9_216,
        bus_width: 384,
        thresholds_c: (95, 98),
        remaps_rows: true,
        mig_capable: false,
    },
    Profile {
        model: "L4",
        nvml_name: "NVIDIA L4",
        memory_mib: 23_034,
        reserved_mib: 466,
        architecture: 8,
        compute_capability: (8, 9),
        pci_device_id: 0x27B8_10DE,
        pci_subsystem_id: 0x16CA_10DE,
        power_mw: (40_000, 72_000, 72_000),
        idle_power_mw: 12_000,
        clock_mhz: (2_040, 6_251),
        pcie_generation: 4,
        cores: 7_424,
        bus_width: 192,
        thresholds_c: (88, 93),
        remaps_rows: true,
        mig_capable: false,
    },
    Profile {
        model: "L40S",
        nvml_name: "NVIDIA L40S",
        memory_mib: 46_068,
        reserved_mib: 600,
        architecture: 8,
        compute_capability: (8, 9),
        pci_device_id: 0x26B9_10DE,
        pci_subsystem_id: 0x1851_10DE,
        power_mw: (100_000, 350_000, 350_000),
        idle_power_mw: 35_000,
        clock_mhz: (2_520, 9_001),
        pcie_generation: 4,
        cores: 18_176,
        bus_width: 384,
        thresholds_c: (88, 93),
        remaps_rows: true,
        mig_capable: false,
    },
    Profile {
        model: "H100",
        nvml_name: "NVIDIA H100 80GB HBM3",
        memory_mib: 81_559,
        reserved_mib: 551,
        architecture: 9,
        compute_capability: (9, 0),
        pci_device_id: 0x2330_10DE,
        pci_subsystem_id: 0x16C1_10DE,
        power_mw: (200_000, 700_000, 700_000),
        idle_power_mw: 70_000,
        clock_mhz: (1_980, 2_619),
        pcie_generation: 5,
        cores: 16_896,
        bus_width: 5_120,
        thresholds_c: (87, 92),
        remaps_rows: true,
        mig_capable: true,
    },
    Profile {
        model: "H200",
        nvml_name: "NVIDIA H200",
        memory_mib: 143_771,
        reserved_mib: 615,
        architecture: 9,
        compute_capability: (9, 0),
        pci_device_id: 0x2335_10DE,
        pci_subsystem_id: 0x18BE_10DE,
        power_mw: (200_000, 700_000, 700_000),
        idle_power_mw: 75_000,
        clock_mhz: (1_980, 3_201),
        pcie_generation: 5,
        cores: 16_896,
        bus_width: 6_144,
        thresholds_c: (87, 92),
        remaps_rows: true,
        mig_capable: true,
    },
    Profile {
        model: "B200",
        nvml_name: "NVIDIA B200",
        memory_mib: 183_359,
        reserved_mib: 715,
        architecture: 10,
        compute_capability: (10, 0),
        pci_device_id: 0x2901_10DE,
        pci_subsystem_id: 0x1999_10DE,
        power_mw: (200_000, 1_000_000, 1_000_000),
        idle_power_mw: 140_000,
        clock_mhz: (1_965, 3_996),
        pcie_generation: 5,
        cores: 18_944,
        bus_width: 8_192,
        thresholds_c: (87, 92),
        remaps_rows: true,
        mig_capable: true,
    },
];

// === impl Profile ===

impl Profile {
    /// The profile named `model`, letter case ignored; `None` when there is no such profile.
    #[must_use]
    pub fn named(model: &str) -> Option<&'static Self> {
        PROFILES
            .iter()
            .find(|p| p.model.eq_ignore_ascii_case(model))
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_mib << 20
    }

    pub(crate) fn reserved_bytes(&self) -> u64 {
        self.reserved_mib << 20
    }
}
