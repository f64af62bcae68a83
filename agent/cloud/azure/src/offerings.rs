//! What a location sells: sizes, zones and both markets, with the GPUs we know them to have.

use gpuloom_cloud::{CloudError, Offered, Offering};
use gpuloom_fleet::{AzurePlace, Bytes, GpuShape, Market};

use crate::arm::{Call, SKUS};
use crate::cloud::AzureCloud;
use crate::gpus;
use crate::types::Sku;

impl AzureCloud {
    pub(crate) async fn offered(
        &self,
        place: &AzurePlace,
        gpu: Option<&GpuShape>,
    ) -> Result<Vec<Offered>, CloudError> {
        Ok(offered(&self.skus(place).await?, place, gpu))
    }

    /// Every size of virtual machine that the place's location knows, sold to us or not.
    pub(crate) async fn skus(&self, place: &AzurePlace) -> Result<Vec<Sku>, CloudError> {
        let path = self.arm.in_subscription("providers/Microsoft.Compute/skus");
        let filter = format!("location eq '{}'", place.location);
        let call = Call::get(path, SKUS).query("$filter", filter);
        let all: Result<Vec<Sku>, _> = self.arm.list(call).await;
        let what = format!("cannot list what Azure sells in {}", place.location);
        let mut all = all.map_err(|e| e.cloud(what))?;
        all.retain(|s| s.resource_type == "virtualMachines");
        Ok(all)
    }
}

/// In the place's order of sizes and zones; sizes that were not stated by name.
fn offered(skus: &[Sku], place: &AzurePlace, gpu: Option<&GpuShape>) -> Vec<Offered> {
    let mut sizes: Vec<&Sku> = if place.vm_sizes.is_empty() {
        // Without GPUs asked for, any size would do, which nobody means.
        skus.iter().filter(|_| gpu.is_some()).collect()
    } else {
        let named = |size: &String| skus.iter().find(|s| s.name.eq_ignore_ascii_case(size));
        place.vm_sizes.iter().filter_map(named).collect()
    };
    if place.vm_sizes.is_empty() {
        sizes.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let mut found = Vec::new();
    for sku in sizes {
        let has = gpus::of(sku);
        if sku.refused().is_some() || gpu.is_some_and(|g| has.as_ref().map(|h| &h.shape) != Some(g))
        {
            continue;
        }
        for zone in zones(sku, place) {
            for market in markets(sku) {
                found.push(Offered {
                    offering: Offering::new("azure", &place.location, zone, &sku.name, market),
                    gpu: has.as_ref().map(|h| h.shape.clone()),
                    gpu_memory_each: has.as_ref().map(|h| h.memory_each),
                    vcpus: number(sku, "vCPUs").unwrap_or(0),
                    memory: memory(sku),
                    hourly: None,
                    price_at: None,
                });
            }
        }
    }
    found
}

/// The stated zones that sell it, in the stated order; `-` when none is stated.
fn zones<'a>(sku: &'a Sku, place: &'a AzurePlace) -> Vec<&'a str> {
    if place.zones.is_empty() {
        return vec!["-"];
    }
    let sold = sku.zones(&place.location);
    let stated = place.zones.iter().map(String::as_str);
    stated.filter(|z| sold.contains(z)).collect()
}

fn markets(sku: &Sku) -> impl Iterator<Item = Market> {
    let spot = sku.capability("LowPriorityCapable");
    let spot = spot.is_some_and(|v| v.eq_ignore_ascii_case("true"));
    [Some(Market::OnDemand), spot.then_some(Market::Spot)]
        .into_iter()
        .flatten()
}

pub(crate) fn number(sku: &Sku, capability: &str) -> Option<u32> {
    sku.capability(capability)?.parse().ok()
}

/// `MemoryGB` counts GiB, sometimes with a fraction (`3.5`).
fn memory(sku: &Sku) -> Bytes {
    let text = sku.capability("MemoryGB").unwrap_or_default();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let gib = Bytes::gib(whole.parse().unwrap_or(0)).0;
    let digits: String = part.chars().take(3).collect();
    let scale = 10_u64.pow(u32::try_from(digits.len()).unwrap_or(0));
    let fraction = digits.parse::<u64>().unwrap_or(0) * Bytes::gib(1).0 / scale;
    Bytes(gib + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Capability, LocationInfo, Restriction, RestrictionInfo};
    use gpuloom_fleet::GpuModel;

    fn sku(name: &str, zones: &[&str], capabilities: &[(&str, &str)]) -> Sku {
        Sku {
            resource_type: "virtualMachines".to_owned(),
            name: name.to_owned(),
            location_info: vec![LocationInfo {
                location: "eastus".to_owned(),
                zones: zones.iter().map(|z| (*z).to_owned()).collect(),
            }],
            capabilities: capabilities
                .iter()
                .map(|(name, value)| Capability {
                    name: (*name).to_owned(),
                    value: (*value).to_owned(),
                })
                .collect(),
            ..Sku::default()
        }
    }

    fn place(sizes: &[&str], zones: &[&str]) -> AzurePlace {
        let owned = |all: &[&str]| all.iter().map(|t| (*t).to_owned()).collect();
        AzurePlace {
            location: "eastus".to_owned(),
            vm_sizes: owned(sizes),
            zones: owned(zones),
            ..AzurePlace::default()
        }
    }

    fn names(found: &[Offered]) -> Vec<&str> {
        found.iter().map(|o| o.offering.0.as_str()).collect()
    }

    #[test]
    fn sizes_zones_and_markets_come_in_the_stated_order_without_what_is_not_sold() {
        let spot = ("LowPriorityCapable", "True");
        let gpus = ("GPUs", "1");
        let mut restricted = sku("Standard_NC8as_T4_v3", &["1", "2"], &[gpus]);
        restricted.restrictions = vec![Restriction {
            kind: "Zone".to_owned(),
            reason_code: "NotAvailableForSubscription".to_owned(),
            restriction_info: RestrictionInfo {
                zones: vec!["1".to_owned()],
            },
        }];
        let mut refused = sku("Standard_NC16as_T4_v3", &["1", "2"], &[gpus]);
        refused.restrictions = vec![Restriction {
            kind: "Location".to_owned(),
            ..Restriction::default()
        }];
        let skus = [
            sku("Standard_NC4as_T4_v3", &["1", "2", "3"], &[gpus, spot]),
            restricted,
            refused,
            sku("Standard_D2s_v5", &["1"], &[]),
        ];
        let t4 = GpuShape {
            model: GpuModel::new("T4").expect("a model"),
            per_node: 1,
        };
        let stated = [
            "Standard_NC8as_T4_v3",
            "Standard_NC16as_T4_v3",
            "Standard_NC4as_T4_v3",
        ];
        let found = offered(&skus, &place(&stated, &["2", "1"]), Some(&t4));
        assert_eq!(
            names(&found),
            [
                "azure/eastus/2/Standard_NC8as_T4_v3/on-demand",
                "azure/eastus/2/Standard_NC4as_T4_v3/on-demand",
                "azure/eastus/2/Standard_NC4as_T4_v3/spot",
                "azure/eastus/1/Standard_NC4as_T4_v3/on-demand",
                "azure/eastus/1/Standard_NC4as_T4_v3/spot",
            ]
        );
        let any = offered(&skus, &place(&[], &[]), Some(&t4));
        assert_eq!(any.len(), 3, "{any:?}");
        assert!(any.iter().all(|o| o.offering.zone() == "-"));
        let lead = offered(&skus, &place(&["Standard_D2s_v5"], &[]), None);
        assert_eq!(names(&lead), ["azure/eastus/-/Standard_D2s_v5/on-demand"]);
        assert!(offered(&skus, &place(&[], &[]), None).is_empty());
    }

    #[test]
    fn memory_keeps_its_fraction() {
        let of = |text| memory(&sku("x", &[], &[("MemoryGB", text)]));
        assert_eq!(of("28"), Bytes::gib(28));
        assert_eq!(of("3.5"), Bytes(Bytes::gib(7).0 / 2));
        assert_eq!(of("0.75"), Bytes(Bytes::gib(3).0 / 4));
    }
}
