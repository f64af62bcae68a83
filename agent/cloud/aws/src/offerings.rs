//! What a place offers: types with their GPUs, zones that have them, both markets, spot prices.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types::{
    ArchitectureType, InstanceType, InstanceTypeInfo, LocationType, UsageClassType,
};
use gpuloom_cloud::{Offered, Offering};
use gpuloom_fleet::{AwsPlace, Bytes, GpuShape, Market, MicroUsd, Millis};

use crate::client::AwsCloud;
use crate::failure::Failure;
use crate::gpu::gpus;
use crate::listing::filter;
use crate::template::invalid;

/// Most types that one call may name (EC2's limit).
const TYPES_A_CALL: usize = 100;
/// Patterns of the names of all types with GPUs: there is no filter for the GPUs themselves.
const GPU_FAMILIES: [&str; 2] = ["g*", "p*"];
/// Most results of one page of types and of prices (EC2's limits).
const TYPES_A_PAGE: i32 = 100;
const PRICES_A_PAGE: i32 = 1_000;

/// Price by type and zone, with when it began to hold.
type Prices = BTreeMap<(String, String), (MicroUsd, Millis)>;

// === impl AwsCloud ===

impl AwsCloud {
    /// See [`gpuloom_cloud::Cloud::offerings`].
    pub(crate) async fn offered(
        &self,
        place: &AwsPlace,
        gpu: Option<&GpuShape>,
    ) -> Result<Vec<Offered>, Failure> {
        if gpu.is_none() && place.instance_types.is_empty() {
            let example = "aws.instance_types = [\"t3.medium\"]";
            return Err(invalid(format!(
                "a machine without GPU may be of any type: name some, e.g. {example}"
            )));
        }
        let zones = self.zones_of(&place.subnets).await?;
        let mut types = self.types(&place.instance_types).await?;
        types.retain(|info| gpu.is_none_or(|want| has(info, want)));
        if types.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<_> = types.iter().map(name).collect();
        let there = self.in_zones(&names, &zones).await?;
        let prices = self.spot_prices(&names, &zones).await?;
        let mut all = Vec::new();
        for info in &types {
            for (subnet, zone) in &zones {
                if !there.contains(&(name(info), zone.clone())) {
                    continue;
                }
                for market in markets(info) {
                    all.push(self.offering(info, subnet, zone, market, &prices));
                }
            }
        }
        Ok(all)
    }

    fn offering(
        &self,
        info: &InstanceTypeInfo,
        subnet: &str,
        zone: &str,
        market: Market,
        prices: &Prices,
    ) -> Offered {
        let name = name(info);
        let shape = gpus(info);
        let price = prices.get(&(name.clone(), zone.to_owned()));
        let price = price.filter(|_| market == Market::Spot);
        let vcpus = info.v_cpu_info().and_then(|cpu| cpu.default_v_cpus());
        let mib = info.memory_info().and_then(|memory| memory.size_in_mib());
        let mib = mib.and_then(|mib| u64::try_from(mib).ok());
        Offered {
            offering: Offering::new("aws", &self.region, subnet, &name, market),
            gpu_memory_each: shape.as_ref().and_then(|(_, memory)| *memory),
            gpu: shape.map(|(shape, _)| shape),
            vcpus: vcpus
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or_default(),
            memory: Bytes(mib.unwrap_or_default() << 20),
            hourly: price.map(|(price, _)| *price),
            price_at: price.map(|(_, at)| *at),
        }
    }

    /// The zone of each subnet, in their order.
    ///
    /// An unknown subnet is an error that names it.
    pub(crate) async fn zones_of(
        &self,
        subnets: &[String],
    ) -> Result<Vec<(String, String)>, Failure> {
        if let Some(known) = self.known_zones(subnets) {
            return Ok(known);
        }
        let call = self.ec2.describe_subnets();
        let call = call.set_subnet_ids(Some(subnets.to_vec()));
        let answer = call.send().await;
        let answer = answer.map_err(|e| Failure::new("find aws.subnets", &e))?;
        let pair = |s: &aws_sdk_ec2::types::Subnet| {
            Some((s.subnet_id()?.to_owned(), s.availability_zone()?.to_owned()))
        };
        let found: BTreeMap<_, _> = answer.subnets().iter().filter_map(pair).collect();
        let zone = |subnet: &String| match found.get(subnet) {
            Some(zone) => Ok((subnet.clone(), zone.clone())),
            None => Err(invalid(format!(
                "aws.subnets: {subnet:?} is not in {}: name subnets of this region",
                self.region
            ))),
        };
        let zones = subnets.iter().map(zone).collect::<Result<Vec<_>, _>>()?;
        self.note_zones(&zones);
        Ok(zones)
    }

    /// The named types in their order; without names all x86_64 types with GPUs, by name.
    async fn types(&self, names: &[String]) -> Result<Vec<InstanceTypeInfo>, Failure> {
        let mut found = Vec::new();
        if names.is_empty() {
            self.types_into(None, &mut found).await?;
            found.retain(|info| gpus(info).is_some() && is_x86(info));
            found.sort_by_key(name);
            return Ok(found);
        }
        for some in names.chunks(TYPES_A_CALL) {
            self.types_into(Some(some), &mut found).await?;
        }
        let rank = |info: &InstanceTypeInfo| names.iter().position(|n| *n == name(info));
        found.sort_by_key(rank);
        Ok(found)
    }

    async fn types_into(
        &self,
        names: Option<&[String]>,
        found: &mut Vec<InstanceTypeInfo>,
    ) -> Result<(), Failure> {
        let mut call = self.ec2.describe_instance_types();
        call = match names {
            // By filter: a name that this region does not know is left out, and no error.
            Some(names) => call.filters(filter("instance-type", names.to_vec())),
            None => call.filters(filter(
                "instance-type",
                GPU_FAMILIES.map(str::to_owned).to_vec(),
            )),
        };
        let call = call.max_results(TYPES_A_PAGE);
        let mut pages = call.into_paginator().items().send();
        while let Some(info) = pages.next().await {
            let tried = format!("list the instance types of {}", self.region);
            found.push(info.map_err(|e| Failure::new(&tried, &e))?);
        }
        Ok(())
    }

    /// Which types there are in which zones.
    pub(crate) async fn in_zones(
        &self,
        names: &[String],
        zones: &[(String, String)],
    ) -> Result<BTreeSet<(String, String)>, Failure> {
        let mut there = BTreeSet::new();
        for some in names.chunks(TYPES_A_CALL) {
            let call = self
                .ec2
                .describe_instance_type_offerings()
                .location_type(LocationType::AvailabilityZone)
                .filters(filter("location", distinct(zones)))
                .filters(filter("instance-type", some.to_vec()));
            let mut pages = call.into_paginator().items().send();
            while let Some(offering) = pages.next().await {
                let tried = format!("list where {} has its types", self.region);
                let offering = offering.map_err(|e| Failure::new(&tried, &e))?;
                let kind = offering.instance_type().map(InstanceType::as_str);
                if let (Some(kind), Some(zone)) = (kind, offering.location()) {
                    there.insert((kind.to_owned(), zone.to_owned()));
                }
            }
        }
        Ok(there)
    }

    /// The price that holds now of each type in each zone; those that EC2 gives none for are missing.
    async fn spot_prices(
        &self,
        names: &[String],
        zones: &[(String, String)],
    ) -> Result<Prices, Failure> {
        let mut latest = Prices::new();
        let now = DateTime::from(SystemTime::now());
        for some in names.chunks(TYPES_A_CALL) {
            let types: Vec<_> = some
                .iter()
                .map(|n| InstanceType::from(n.as_str()))
                .collect();
            let call = self
                .ec2
                .describe_spot_price_history()
                .set_instance_types(Some(types))
                .product_descriptions("Linux/UNIX")
                .filters(filter("availability-zone", distinct(zones)))
                .start_time(now)
                .max_results(PRICES_A_PAGE);
            let mut pages = call.into_paginator().items().send();
            while let Some(price) = pages.next().await {
                let tried = format!("read the spot prices of {}", self.region);
                let price = price.map_err(|e| Failure::new(&tried, &e))?;
                note_price(&price, &mut latest);
            }
        }
        Ok(latest)
    }
}

// === functions ===

fn note_price(price: &aws_sdk_ec2::types::SpotPrice, latest: &mut Prices) {
    let kind = price.instance_type().map(InstanceType::as_str);
    let at = price.timestamp().and_then(|at| at.to_millis().ok());
    let at = at.and_then(|at| u64::try_from(at).ok());
    let dollars = price.spot_price().and_then(micro_usd);
    let (Some(kind), Some(zone), Some(at), Some(dollars)) =
        (kind, price.availability_zone(), at, dollars)
    else {
        return;
    };
    let key = (kind.to_owned(), zone.to_owned());
    let newest = latest.entry(key).or_insert((dollars, Millis(at)));
    if newest.1 < Millis(at) {
        *newest = (dollars, Millis(at));
    }
}

/// `0.1578` as millionths of a dollar, rounded down; `None` for what is no amount, and for zero, which no machine costs.
fn micro_usd(text: &str) -> Option<MicroUsd> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part: String = part.chars().chain("000000".chars()).take(6).collect();
    let whole: u64 = whole.parse().ok()?;
    let micro = whole
        .checked_mul(1_000_000)?
        .checked_add(part.parse().ok()?)?;
    (micro > 0).then_some(MicroUsd(micro))
}

fn distinct(zones: &[(String, String)]) -> Vec<String> {
    let zones: BTreeSet<_> = zones.iter().map(|(_, zone)| zone.clone()).collect();
    zones.into_iter().collect()
}

fn name(info: &InstanceTypeInfo) -> String {
    info.instance_type()
        .map_or_else(String::new, |kind| kind.as_str().to_owned())
}

fn has(info: &InstanceTypeInfo, want: &GpuShape) -> bool {
    gpus(info).is_some_and(|(shape, _)| shape == *want)
}

fn is_x86(info: &InstanceTypeInfo) -> bool {
    let cpu = info.processor_info();
    cpu.is_none_or(|cpu| {
        cpu.supported_architectures()
            .contains(&ArchitectureType::X8664)
    })
}

/// How a type may be bought: on demand first. A type that says nothing may be bought on demand.
fn markets(info: &InstanceTypeInfo) -> Vec<Market> {
    let said = info.supported_usage_classes();
    let mut markets = Vec::new();
    if said.is_empty() || said.contains(&UsageClassType::OnDemand) {
        markets.push(Market::OnDemand);
    }
    if said.contains(&UsageClassType::Spot) {
        markets.push(Market::Spot);
    }
    markets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        for (text, micro) in [
            ("0.157800", Some(157_800)),
            ("0.1578", Some(157_800)),
            ("12", Some(12_000_000)),
            ("0.00001", Some(10)),
            ("0.0000001", None),
            ("0", None),
            ("free", None),
            ("-1.0", None),
        ] {
            assert_eq!(micro_usd(text), micro.map(MicroUsd), "{text}");
        }
    }
}
