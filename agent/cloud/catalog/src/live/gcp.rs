//! Google's billing catalog of Compute Engine: prices of cores, memory and GPUs, from which a machine's is added up.
//! Source: docs.cloud.google.com/billing/docs/reference/rest/v1/services.skus/list
//!
//! Only families whose price is nothing but cores, memory and GPUs are added up: G2, and A2 with 40 GB. The
//! others bundle local disks or are billed under names that this does not know; their embedded prices stay.

use std::collections::BTreeMap;

use gpuloom_fleet::{Bytes, Market, MicroUsd, Millis};
use serde::Deserialize;

use super::http::{Http, address};
use super::{LiveError, LiveOptions, MAX_PAGES, Scope};
use crate::catalog::{Catalog, CloudKind, Shape};
use crate::price::Quote;

const SOURCE: &str = "google-billing-catalog";

/// Compute Engine in the billing catalog.
const SERVICE: &str = "v1/services/6F81-5844-456A/skus";

/// How a family's parts are named: machine prefix, core, memory, GPU.
const FAMILIES: [[&str; 4]; 3] = [
    [
        "g2-standard-",
        "G2 Instance Core",
        "G2 Instance Ram",
        "Nvidia L4 GPU",
    ],
    [
        "a2-highgpu-",
        "A2 Instance Core",
        "A2 Instance Ram",
        "Nvidia Tesla A100 GPU",
    ],
    [
        "a2-megagpu-",
        "A2 Instance Core",
        "A2 Instance Ram",
        "Nvidia Tesla A100 GPU",
    ],
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    skus: Vec<Sku>,
    next_page_token: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Sku {
    description: String,
    category: Category,
    service_regions: Vec<String>,
    pricing_info: Vec<PricingInfo>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Category {
    usage_type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PricingInfo {
    pricing_expression: PricingExpression,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PricingExpression {
    usage_unit: String,
    tiered_rates: Vec<TieredRate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TieredRate {
    unit_price: Money,
}

/// `units` dollars and `nanos` thousand-millionths.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Money {
    currency_code: String,
    units: String,
    nanos: u64,
}

/// Thousand-millionths of a dollar for an hour of a part: by its name, region and market.
type Parts = BTreeMap<(&'static str, String, Market), u128>;

/// The prices of the catalog's machines in the regions of `scopes`.
pub(super) async fn quotes(
    http: &Http,
    options: &LiveOptions,
    catalog: &Catalog,
    scopes: &[Scope],
    now: Millis,
) -> Result<Vec<Quote>, LiveError> {
    let key = options.gcp_api_key.as_deref().ok_or(LiveError::NoKey)?;
    let mut parts = Parts::new();
    let mut token = String::new();
    for _ in 0..MAX_PAGES {
        let query = [
            ("currencyCode", "USD"),
            ("pageSize", "5000"),
            ("pageToken", &token),
        ];
        let url = address(&options.gcp, SERVICE, &query)?;
        // In a header, so that it stands in no log.
        let page: Page = http.page(&url, Some(("x-goog-api-key", key))).await?;
        for sku in &page.skus {
            note(sku, &mut parts);
        }
        token = page.next_page_token.unwrap_or_default();
        if token.is_empty() {
            return Ok(compose(&parts, catalog, scopes, now));
        }
    }
    Err(LiveError::TooLarge {
        url: format!("{}/{SERVICE}", options.gcp),
        limit: MAX_PAGES as u64,
        unit: "pages",
    })
}

fn note(sku: &Sku, parts: &mut Parts) {
    let market = match sku.category.usage_type.as_str() {
        "OnDemand" => Market::OnDemand,
        "Preemptible" => Market::Spot,
        _ => return,
    };
    let Some(part) = part(&sku.description, market) else {
        return;
    };
    let Some(nanos) = nanos(sku) else { return };
    for region in &sku.service_regions {
        parts.insert((part, region.clone(), market), nanos);
    }
}

/// Which part a description such as `G2 Instance Core running in Americas` names.
fn part(description: &str, market: Market) -> Option<&'static str> {
    let (named, attached) = match market {
        Market::OnDemand => (description, " running in "),
        Market::Spot => match description.strip_prefix("Spot Preemptible ") {
            Some(rest) => (rest, " running in "),
            None => (description, " attached to Spot Preemptible VMs running in "),
        },
    };
    let (name, _) = named.split_once(attached)?;
    FAMILIES
        .iter()
        .flat_map(|[_, parts @ ..]| parts)
        .find(|part| **part == name)
        .copied()
}

/// The price of a unit and hour; `None` when it is none, not in dollars, or in steps.
fn nanos(sku: &Sku) -> Option<u128> {
    let expression = &sku.pricing_info.last()?.pricing_expression;
    let [rate] = &expression.tiered_rates[..] else {
        return None;
    };
    let money = &rate.unit_price;
    let hourly = matches!(expression.usage_unit.as_str(), "h" | "GiBy.h");
    let units: u64 = match money.units.as_str() {
        "" => 0,
        units => units.parse().ok()?,
    };
    let nanos = u128::from(units) * 1_000_000_000 + u128::from(money.nanos);
    (hourly && money.currency_code == "USD" && nanos > 0).then_some(nanos)
}

fn compose(parts: &Parts, catalog: &Catalog, scopes: &[Scope], now: Millis) -> Vec<Quote> {
    let mut quotes = Vec::new();
    for ((cloud, name), shape) in &catalog.shapes {
        let family = FAMILIES.iter().find(|f| name.starts_with(f[0]));
        let (CloudKind::Gcp, Some(family)) = (cloud, family) else {
            continue;
        };
        for scope in scopes {
            for market in [Market::OnDemand, Market::Spot] {
                if let Some(hourly) = sum(parts, family, &scope.region, market, shape) {
                    quotes.push(Quote {
                        cloud: CloudKind::Gcp,
                        region: scope.region.clone(),
                        instance_type: name.clone(),
                        market,
                        hourly,
                        at: now,
                        source: SOURCE.to_owned(),
                    });
                }
            }
        }
    }
    quotes
}

/// `None` unless every part has a price: a machine without its GPU's would look cheap.
fn sum(
    parts: &Parts,
    family: &[&'static str; 4],
    region: &str,
    market: Market,
    shape: &Shape,
) -> Option<MicroUsd> {
    let price = |part| parts.get(&(part, region.to_owned(), market)).copied();
    let [_, core, memory, gpu] = *family;
    let cores = price(core)? * u128::from(shape.vcpus);
    let memory = price(memory)? * u128::from(shape.memory.0) / u128::from(Bytes::gib(1).0);
    let gpus = price(gpu)? * u128::from(shape.gpus);
    let micros = (cores + memory + gpus + 500) / 1000;
    u64::try_from(micros).ok().filter(|m| *m > 0).map(MicroUsd)
}
