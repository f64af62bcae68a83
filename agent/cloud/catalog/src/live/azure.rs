//! Azure Retail Prices: pages of meters, without credentials.
//! Source: learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices

use std::collections::BTreeMap;

use gpuloom_fleet::{Market, MicroUsd, Millis};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Number;

use super::http::{Http, address};
use super::{LiveError, MAX_PAGES};
use crate::catalog::{Catalog, CloudKind};
use crate::price::{Quote, micro_usd};

const SOURCE: &str = "azure-retail-prices";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    items: Vec<Meter>,
    next_page_link: Option<String>,
}

/// A meter; whatever a machine's does not have may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meter {
    arm_sku_name: String,
    arm_region_name: String,
    product_name: String,
    sku_name: String,
    meter_name: String,
    unit_of_measure: String,
    currency_code: String,
    #[serde(rename = "type")]
    kind: String,
    tier_minimum_units: Option<Number>,
    retail_price: Option<Number>,
    effective_start_date: String,
}

/// The prices of the catalog's machines in `region`.
pub(super) async fn quotes(
    http: &Http,
    base: &str,
    catalog: &Catalog,
    region: &str,
    now: Millis,
) -> Result<Vec<Quote>, LiveError> {
    let filter = format!(
        "serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armRegionName eq '{}'",
        region.replace('\'', "''")
    );
    let query = [
        ("api-version", "2023-01-01-preview"),
        ("currencyCode", "USD"),
        ("$filter", filter.as_str()),
    ];
    let first = address(base, "api/retail/prices", &query)?;
    let mut next = Some(first.clone());
    let mut prices = BTreeMap::new();
    for _ in 0..MAX_PAGES {
        let Some(url) = next.take() else {
            return Ok(into_quotes(prices, region, now));
        };
        let page: Page = http.page(&url, None).await?;
        for meter in &page.items {
            if let Some((key, price)) = price(meter, catalog, region, now) {
                keep(&mut prices, key, price);
            }
        }
        let link = page.next_page_link.filter(|link| !link.is_empty());
        next = link.map(|link| follow(&first, &link)).transpose()?;
    }
    Err(LiveError::TooLarge {
        url: first.to_string(),
        limit: MAX_PAGES as u64,
        unit: "pages",
    })
}

/// A next page is on the same server: a list does not send us elsewhere.
fn follow(first: &Url, link: &str) -> Result<Url, LiveError> {
    let next = Url::parse(link).ok();
    next.filter(|next| next.origin() == first.origin())
        .ok_or_else(|| LiveError::Unreadable {
            url: first.to_string(),
            what: format!("the next page {link:?} is not on the same server"),
        })
}

type Key = (String, Market);
/// When it began, and how much it is.
type Stated = (String, MicroUsd);

fn price(meter: &Meter, catalog: &Catalog, region: &str, now: Millis) -> Option<(Key, Stated)> {
    let linux_machine = meter.product_name.starts_with("Virtual Machines")
        && !meter.product_name.ends_with("Windows");
    let low_priority =
        meter.sku_name.ends_with("Low Priority") || meter.meter_name.ends_with("Low Priority");
    let first_tier = meter
        .tier_minimum_units
        .as_ref()
        .is_none_or(|n| n.as_f64() == Some(0.0));
    let counts = linux_machine
        && !low_priority
        && first_tier
        && meter.kind == "Consumption"
        && meter.currency_code == "USD"
        && meter.unit_of_measure == "1 Hour"
        && meter.arm_region_name == region
        && begun(&meter.effective_start_date, now)
        && catalog
            .shape(CloudKind::Azure, &meter.arm_sku_name)
            .is_some();
    let hourly = meter.retail_price.as_ref()?.to_string();
    let hourly = micro_usd(&hourly).filter(|p| counts && p.0 > 0)?;
    let market = if meter.sku_name.ends_with("Spot") {
        Market::Spot
    } else {
        Market::OnDemand
    };
    let since = meter.effective_start_date.clone();
    Some(((meter.arm_sku_name.clone(), market), (since, hourly)))
}

/// Prices of the future stand in the list, too.
fn begun(since: &str, now: Millis) -> bool {
    let stamp = since.parse::<jiff::Timestamp>();
    stamp.is_ok_and(|t| u64::try_from(t.as_millisecond()).is_ok_and(|ms| ms <= now.0))
}

/// Of several prices the one that began last counts, and of those the higher: nobody is told less than is billed.
fn keep(prices: &mut BTreeMap<Key, Stated>, key: Key, price: Stated) {
    let kept = prices.entry(key).or_insert_with(|| price.clone());
    if *kept < price {
        *kept = price;
    }
}

fn into_quotes(prices: BTreeMap<Key, Stated>, region: &str, now: Millis) -> Vec<Quote> {
    prices
        .into_iter()
        .map(|((instance_type, market), (_, hourly))| Quote {
            cloud: CloudKind::Azure,
            region: region.to_owned(),
            instance_type,
            market,
            hourly,
            at: now,
            source: SOURCE.to_owned(),
        })
        .collect()
}
