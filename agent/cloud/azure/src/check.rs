//! What a plan can know before anything is launched.

use gpuloom_cloud::CloudError;
use gpuloom_fleet::{AzurePlace, GpuShape};

use crate::arm::{COMPUTE, Call, NETWORK};
use crate::cloud::AzureCloud;
use crate::gpus;
use crate::offerings::number;
use crate::types::{Sku, Usage};

/// The quota that Spot machines of all sizes share, in vCPUs.
const SPOT_QUOTA: &str = "lowPriorityCores";
/// The quota that all other machines share, in vCPUs.
const ALL_QUOTA: &str = "cores";

impl AzureCloud {
    /// What would keep `nodes` machines of `place` with `gpu` from coming up, as sentences that name the field and the
    /// fix: sizes that are unknown or not sold here, zones, GPUs, quota, the subnet. Empty when nothing is known
    /// against it. `spot` and `on_demand` say which markets are wanted.
    ///
    /// # Errors
    /// [`CloudError`]: it could not be asked; a plan is not refused for that.
    pub async fn check(
        &self,
        place: &AzurePlace,
        gpu: Option<&GpuShape>,
        nodes: u32,
        spot: bool,
        on_demand: bool,
    ) -> Result<Vec<String>, CloudError> {
        let mut warnings = Vec::new();
        let skus = self.skus(place).await?;
        if skus.is_empty() {
            return Ok(vec![format!(
                "azure.location = {:?} sells no virtual machines to this subscription: check the name with `az account \
                 list-locations`",
                place.location
            )]);
        }
        for (i, size) in place.vm_sizes.iter().enumerate() {
            let field = format!("azure.vm_sizes[{i}] = {size:?}");
            match skus.iter().find(|s| s.name.eq_ignore_ascii_case(size)) {
                None => warnings.push(format!(
                    "{field} is not known in {}: `az vm list-skus -l {}` shows what is",
                    place.location, place.location
                )),
                Some(sku) => warnings.extend(of_size(&field, sku, place, gpu)),
            }
        }
        if self.offered(place, gpu).await?.is_empty() {
            warnings.push(format!(
                "nothing in azure.location = {:?} fits",
                place.location
            ));
        }
        warnings.extend(
            self.quotas(place, &skus, gpu, nodes, spot, on_demand)
                .await?,
        );
        warnings.extend(self.subnet(place).await?);
        Ok(warnings)
    }

    async fn quotas(
        &self,
        place: &AzurePlace,
        skus: &[Sku],
        gpu: Option<&GpuShape>,
        nodes: u32,
        spot: bool,
        on_demand: bool,
    ) -> Result<Vec<String>, CloudError> {
        let fits = |s: &&Sku| {
            let named = place
                .vm_sizes
                .iter()
                .any(|n| n.eq_ignore_ascii_case(&s.name));
            let shape = gpus::of(s).map(|g| g.shape);
            named || (place.vm_sizes.is_empty() && gpu.is_some() && shape.as_ref() == gpu)
        };
        // The first size is the one that is tried first.
        let Some(sku) = skus.iter().find(fits) else {
            return Ok(Vec::new());
        };
        let path = format!(
            "providers/Microsoft.Compute/locations/{}/usages",
            place.location
        );
        let call = Call::get(self.arm.in_subscription(&path), COMPUTE);
        let usages: Result<Vec<Usage>, _> = self.arm.list(call).await;
        let usages = usages.map_err(|e| e.cloud("cannot read the quotas"))?;
        let needed = i64::from(nodes) * i64::from(number(sku, "vCPUs").unwrap_or(0));
        let mut quotas = Vec::new();
        if on_demand {
            quotas.extend([sku.family.as_str(), ALL_QUOTA]);
        }
        if spot {
            quotas.push(SPOT_QUOTA);
        }
        let short = |quota: &str| {
            let usage = usages
                .iter()
                .find(|u| u.name.value.eq_ignore_ascii_case(quota))?;
            let free = usage.limit - usage.current_value;
            (free < needed).then(|| {
                format!(
                    "quota {quota} in {} has {free} of {} vCPUs left and {nodes} x {} need {needed}: ask for more in \
                     the portal under Quotas",
                    place.location, usage.limit, sku.name
                )
            })
        };
        Ok(quotas.into_iter().filter_map(short).collect())
    }

    async fn subnet(&self, place: &AzurePlace) -> Result<Option<String>, CloudError> {
        let call = Call::get(&place.subnet_id, NETWORK);
        let found: Result<Option<serde_json::Value>, _> = self.arm.find(&call).await;
        Ok(match found {
            Ok(Some(_)) => None,
            Ok(None) => Some(format!(
                "azure.subnet_id = {:?} does not exist",
                place.subnet_id
            )),
            Err(e) if e.class() == gpuloom_cloud::FailureClass::Invalid => Some(format!(
                "azure.subnet_id = {:?} cannot be read: {e}",
                place.subnet_id
            )),
            Err(e) => return Err(e.cloud("cannot read azure.subnet_id")),
        })
    }
}

fn of_size(field: &str, sku: &Sku, place: &AzurePlace, gpu: Option<&GpuShape>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(reason) = sku.refused() {
        warnings.push(format!(
            "{field} is not sold to this subscription in {} ({reason}): ask for access, or choose another size",
            place.location
        ));
    }
    let sold = sku.zones(&place.location);
    for (i, zone) in place.zones.iter().enumerate() {
        if !sold.contains(&zone.as_str()) {
            warnings.push(format!(
                "azure.zones[{i}] = {zone:?} does not sell {}: it is sold in {}",
                sku.name,
                if sold.is_empty() {
                    "no zone; leave azure.zones out".to_owned()
                } else {
                    sold.join(", ")
                }
            ));
        }
    }
    if let Some(wanted) = gpu {
        let has = gpus::of(sku);
        if has.as_ref().map(|h| &h.shape) != Some(wanted) {
            let has = has.map_or("no GPU that is known".to_owned(), |h| {
                format!("{} x {}", h.shape.per_node, h.shape.model)
            });
            warnings.push(format!(
                "{field} has {has}, gpu asks for {} x {}",
                wanted.per_node, wanted.model
            ));
        }
    }
    warnings
}
