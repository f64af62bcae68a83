//! What a region sells: machine types of each zone, with the GPUs they have built in or may be given.

use std::collections::BTreeMap;

use futures::future::{join, join_all};
use google_cloud_compute_v1::model::MachineType;
use google_cloud_gax::paginator::ItemPaginator;
use gpuloom_cloud::{CloudError, FailureClass, Offered, Offering};
use gpuloom_fleet::{Bytes, GcpPlace, GpuShape, Market, PoolPlace};

use crate::cloud::GcpCloud;
use crate::errors::call_error;
use crate::gpus::{Sold, attached_gpu, is_sold};

/// N1 machines that are offered with GPUs when none are stated, of at least so many vCPUs for each GPU.
const N1_FAMILIES: &[&str] = &["n1-standard-", "n1-highmem-"];
const LEAST_VCPUS_PER_GPU: u32 = 4;

/// What one zone has.
#[derive(Debug)]
pub(crate) struct ZoneStock {
    /// Its name.
    pub(crate) zone: String,
    /// Its machine types that can be launched.
    pub(crate) types: Vec<MachineType>,
    /// How many of an accelerator one instance may have.
    pub(crate) accelerators: BTreeMap<String, u32>,
}

impl GcpCloud {
    /// See [`gpuloom_cloud::Cloud::offerings`].
    pub(crate) async fn offered(
        &self,
        place: &PoolPlace,
        gpu: Option<&GpuShape>,
    ) -> Result<Vec<Offered>, CloudError> {
        let PoolPlace::Gcp(place) = place else {
            let why = format!("place = {}: Google Cloud offers gcp places", place.kind());
            return Err(CloudError::new(FailureClass::Invalid, why));
        };
        let stock = self.stock(place).await?;
        Ok(offered(place, gpu, &stock))
    }

    /// What each of the place's zones that are up has, in the place's order.
    pub(crate) async fn stock(&self, place: &GcpPlace) -> Result<Vec<ZoneStock>, CloudError> {
        let region = self.list_zones().await?;
        let up = |zone: &String| region.iter().any(|(name, up)| name == zone && *up);
        let zones: Vec<String> = match place.zones.is_empty() {
            true => region
                .iter()
                .filter(|(_, up)| *up)
                .map(|(z, _)| z.clone())
                .collect(),
            false => place.zones.iter().filter(|z| up(z)).cloned().collect(),
        };
        let each = join_all(zones.iter().map(|zone| async move {
            let (types, accelerators) = join(self.types_of(zone), self.accelerators_of(zone)).await;
            Ok(ZoneStock {
                zone: zone.clone(),
                types: types?,
                accelerators: accelerators?,
            })
        }));
        each.await.into_iter().collect()
    }

    async fn types_of(&self, zone: &str) -> Result<Vec<MachineType>, CloudError> {
        let call = self
            .clients
            .machine_types
            .list()
            .set_project(&self.options.project);
        let mut items = call.set_zone(zone).by_item();
        let mut found = Vec::new();
        while let Some(item) = items.next().await {
            let item = item
                .map_err(|e| call_error(&format!("cannot list the machine types of {zone}"), e))?;
            if item.deprecated.is_none() {
                found.push(item);
            }
        }
        Ok(found)
    }

    async fn accelerators_of(&self, zone: &str) -> Result<BTreeMap<String, u32>, CloudError> {
        let call = self
            .clients
            .accelerator_types
            .list()
            .set_project(&self.options.project);
        let mut items = call.set_zone(zone).by_item();
        let mut found = BTreeMap::new();
        while let Some(item) = items.next().await {
            let item = item
                .map_err(|e| call_error(&format!("cannot list the accelerators of {zone}"), e))?;
            let most = item
                .maximum_cards_per_instance
                .and_then(|n| u32::try_from(n).ok());
            if let (Some(name), Some(most)) = (item.name, most) {
                found.insert(name, most);
            }
        }
        Ok(found)
    }
}

/// Every stated type (or every one that fits) in every zone that has it, on demand and as spot.
fn offered(place: &GcpPlace, gpu: Option<&GpuShape>, stock: &[ZoneStock]) -> Vec<Offered> {
    let mut names: Vec<&str> = place.machine_types.iter().map(String::as_str).collect();
    if names.is_empty() && gpu.is_some() {
        names = any_order(stock);
    }
    let mut found = Vec::new();
    for name in names {
        for zone in stock {
            let Some(of) = zone.types.iter().find(|t| t.name.as_deref() == Some(name)) else {
                continue;
            };
            found.extend(of_type(place, gpu, zone, name, of));
        }
    }
    found
}

/// All types: those of fewer vCPUs first.
fn any_order(stock: &[ZoneStock]) -> Vec<&str> {
    let of = |t: &'_ MachineType| (t.guest_cpus.unwrap_or(0), t.memory_mb.unwrap_or(0));
    let all = stock.iter().flat_map(|z| &z.types);
    let mut all: Vec<_> = all
        .filter_map(|t| Some((of(t), t.name.as_deref()?)))
        .collect();
    all.sort_unstable();
    all.dedup_by_key(|(_, name)| *name);
    let mut names: Vec<&str> = Vec::new();
    for (_, name) in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn of_type(
    place: &GcpPlace,
    gpu: Option<&GpuShape>,
    zone: &ZoneStock,
    name: &str,
    of: &MachineType,
) -> Vec<Offered> {
    let (Some(vcpus), Some(memory_mb)) = (
        of.guest_cpus.and_then(|n| u32::try_from(n).ok()),
        of.memory_mb.and_then(|n| u64::try_from(n).ok()),
    ) else {
        return Vec::new();
    };
    let have = match (built_in(of), gpu) {
        (Some((sold, count)), Some(gpu)) if sold.is(&gpu.model) && count == gpu.per_node => {
            Some((sold, count))
        }
        (have, None) => have,
        (None, Some(gpu)) => {
            match attachable(gpu, zone, name, vcpus, place.machine_types.is_empty()) {
                Some(sold) => Some((sold, gpu.per_node)),
                None => return Vec::new(),
            }
        }
        (Some(_), Some(_)) => return Vec::new(),
    };
    let shape = have.and_then(|(sold, per_node)| {
        let model = sold.gpu_model()?;
        Some(GpuShape { model, per_node })
    });
    let markets = [Market::OnDemand, Market::Spot];
    let markets = markets.into_iter().filter(|market| is_sold(name, *market));
    let one = |market| Offered {
        offering: Offering::new("gcp", &place.region, &zone.zone, name, market),
        gpu: shape.clone(),
        gpu_memory_each: have.map(|(sold, _)| sold.memory()),
        vcpus,
        memory: Bytes::mib(memory_mb),
        hourly: None,
        price_at: None,
    };
    markets.map(one).collect()
}

/// The GPUs that belong to the machine type.
fn built_in(of: &MachineType) -> Option<(&'static Sold, u32)> {
    let has = of.accelerators.first()?;
    let sold = Sold::of_accelerator(has.guest_accelerator_type.as_deref()?)?;
    let count = u32::try_from(has.guest_accelerator_count?).ok()?;
    Some((sold, count))
}

/// The GPU that an N1 machine of this zone can be given so many of.
fn attachable(
    gpu: &GpuShape,
    zone: &ZoneStock,
    name: &str,
    vcpus: u32,
    any: bool,
) -> Option<&'static Sold> {
    let sold = attached_gpu(&gpu.model).filter(|_| name.starts_with("n1-"))?;
    let sold_here = zone
        .accelerators
        .get(sold.accelerator)
        .is_some_and(|most| gpu.per_node <= *most);
    let few_enough = sold
        .most_vcpus(gpu.per_node)
        .is_some_and(|most| vcpus <= most);
    let worth_it = N1_FAMILIES.iter().any(|family| name.starts_with(family))
        && vcpus >= LEAST_VCPUS_PER_GPU.saturating_mul(gpu.per_node);
    (sold_here && few_enough && (worth_it || !any)).then_some(sold)
}

#[cfg(test)]
#[path = "offerings_tests.rs"]
mod tests;
