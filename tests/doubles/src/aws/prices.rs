//! Spot prices that differ by type and zone and change over time.

use super::Ec2;
use super::wire::{self, Params};
use crate::clock::rfc3339;
use crate::http::Response;
use std::fmt::Write as _;

/// Millionths of a dollar an hour that a type costs on demand in us-east-1 (AWS's price list of 2026); a spot price
/// is a part of it.
const ON_DEMAND: &[(&str, u64)] = &[
    ("g4dn.xlarge", 526_000),
    ("g4dn.2xlarge", 752_000),
    ("g4dn.12xlarge", 3_912_000),
    ("g4dn.metal", 7_824_000),
    ("g5.xlarge", 1_006_000),
    ("g5.2xlarge", 1_212_000),
    ("g5.12xlarge", 5_672_000),
    ("g5.48xlarge", 16_288_000),
    ("g6.xlarge", 804_800),
    ("g6.2xlarge", 977_600),
    ("g6e.xlarge", 1_861_000),
    ("p3dn.24xlarge", 31_212_000),
    ("p4d.24xlarge", 21_957_642),
    ("p5.48xlarge", 55_040_000),
];

/// An hour, in milliseconds.
const HOUR: u64 = 3_600_000;

/// `DescribeSpotPriceHistory`: for each type and zone asked for, an older price and the one that holds now; nothing
/// for a type without a known price.
pub(super) fn history(cloud: &Ec2, region: &str, params: &Params) -> Response {
    let mut types = params.values("InstanceType");
    types.extend(params.filter("instance-type").unwrap_or_default());
    if types.is_empty() {
        types = ON_DEMAND
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
    }
    let mut zones = params.filter("availability-zone").unwrap_or_default();
    zones.extend(params.find("AvailabilityZone").map(str::to_owned));
    if zones.is_empty() {
        zones = ["a", "b", "c"]
            .map(|letter| format!("{region}{letter}"))
            .to_vec();
    }
    let now = cloud.control.clock.now_ms();
    let mut items = String::new();
    for kind in &types {
        for zone in &zones {
            let set = cloud.state.spot_price(kind, zone);
            let Some(price) = set.or_else(|| usual(kind, zone)) else {
                continue;
            };
            // The older one first: whoever takes the first sees the wrong one.
            for (price, at) in [("99.0", now - 20 * HOUR), (price.as_str(), now - HOUR)] {
                // Writing to a string does not fail.
                let _ = write!(
                    items,
                    "<item><instanceType>{kind}</instanceType><productDescription>Linux/UNIX\
                     </productDescription><spotPrice>{price}</spotPrice><timestamp>{}</timestamp>\
                     <availabilityZone>{zone}</availabilityZone></item>",
                    rfc3339(at)
                );
            }
        }
    }
    wire::answer(
        "DescribeSpotPriceHistory",
        &format!("<spotPriceHistorySet>{items}</spotPriceHistorySet><nextToken></nextToken>"),
    )
}

/// 30% of the on-demand price in zone a, 31% in b, ...
fn usual(kind: &str, zone: &str) -> Option<String> {
    let (_, price) = ON_DEMAND.iter().find(|(name, _)| *name == kind)?;
    let letter = zone.bytes().last()?.saturating_sub(b'a');
    let spot = price * (30 + u64::from(letter)) / 100;
    Some(format!("{}.{:06}", spot / 1_000_000, spot % 1_000_000))
}
