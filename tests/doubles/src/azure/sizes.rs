//! What the double sells, and how it says so.

use super::state::State;
use super::{LOCATION, Options};
use serde_json::{Value, json};

/// A size of machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// `Standard_NC4as_T4_v3`.
    pub name: String,
    /// The quota it counts against.
    pub family: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// GiB.
    pub memory: u32,
    /// GPUs: model and number; the model is told to nobody but the booted machine.
    pub gpus: Option<(String, u32)>,
    /// The zones that sell it.
    pub zones: Vec<String>,
    /// The spot market has it.
    pub spot: bool,
}

// === impl Size ===

impl Size {
    fn of(
        name: &str,
        family: &str,
        shape: (u32, u32),
        gpus: Option<(&str, u32)>,
        spot: bool,
    ) -> Self {
        Self {
            name: name.to_owned(),
            family: family.to_owned(),
            vcpus: shape.0,
            memory: shape.1,
            gpus: gpus.map(|(model, count)| (model.to_owned(), count)),
            zones: ["1", "2", "3"].map(str::to_owned).to_vec(),
            spot,
        }
    }

    /// A choice of real ones.
    #[must_use]
    pub fn usual() -> Vec<Self> {
        let t4 = "standardNCASv3_T4Family";
        vec![
            Self::of("Standard_NC4as_T4_v3", t4, (4, 28), Some(("T4", 1)), true),
            Self::of("Standard_NC8as_T4_v3", t4, (8, 56), Some(("T4", 1)), true),
            Self::of(
                "Standard_NC64as_T4_v3",
                t4,
                (64, 440),
                Some(("T4", 4)),
                true,
            ),
            Self::of(
                "Standard_NC24ads_A100_v4",
                "StandardNCADSA100v4Family",
                (24, 220),
                Some(("A100-80G", 1)),
                true,
            ),
            Self::of(
                "Standard_ND96isr_H100_v5",
                "standardNDSH100v5Family",
                (96, 1900),
                Some(("H100", 8)),
                true,
            ),
            Self::of("Standard_D2s_v5", "standardDSv5Family", (2, 8), None, true),
            Self::of("Standard_D4s_v5", "standardDSv5Family", (4, 16), None, true),
        ]
    }

    /// Its GPUs as the simulator wants them: `1xT4`.
    pub(super) fn layout(&self) -> Option<String> {
        self.gpus
            .as_ref()
            .map(|(model, count)| format!("{count}x{model}"))
    }
}

/// The rows of the skus listing.
pub(super) fn skus(options: &Options, filter: &str) -> Vec<Value> {
    // Without a filter of its location a caller gets every location's.
    if !filter.is_empty() && filter != format!("location eq '{LOCATION}'") {
        return Vec::new();
    }
    let mut rows: Vec<Value> = options.sizes.iter().map(sku).collect();
    rows.push(
        json!({ "resourceType": "disks", "name": "StandardSSD_LRS", "locations": [LOCATION] }),
    );
    rows
}

fn sku(size: &Size) -> Value {
    let mut capabilities = vec![
        json!({ "name": "vCPUs", "value": size.vcpus.to_string() }),
        json!({ "name": "MemoryGB", "value": size.memory.to_string() }),
        json!({ "name": "LowPriorityCapable", "value": if size.spot { "True" } else { "False" } }),
    ];
    if let Some((_, count)) = &size.gpus {
        capabilities.push(json!({ "name": "GPUs", "value": count.to_string() }));
    }
    json!({
        "resourceType": "virtualMachines",
        "name": size.name,
        "tier": "Standard",
        "family": size.family,
        "locations": [LOCATION],
        "locationInfo": [{ "location": LOCATION, "zones": size.zones }],
        "capabilities": capabilities,
        "restrictions": [],
    })
}

/// The rows of the usages listing.
pub(super) fn usages(options: &Options, state: &State) -> Vec<Value> {
    let mut names: Vec<String> = options.sizes.iter().map(|s| s.family.clone()).collect();
    names.extend(["cores".to_owned(), "lowPriorityCores".to_owned()]);
    names.sort();
    names.dedup();
    let row = |name: &String| {
        let limit = state.quotas.get(name).copied().unwrap_or(10_000);
        json!({
            "name": { "value": name, "localizedValue": name },
            "unit": "Count",
            "currentValue": state.used(name, &options.sizes),
            "limit": limit,
        })
    };
    names.iter().map(row).collect()
}
