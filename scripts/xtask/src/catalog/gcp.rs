//! Google Cloud: prices from karpenter-provider-gcp, machines from [`super::facts`].

use super::{Compiled, commit, facts, price, read, row, source};
use anyhow::{Context, Result};
use gpuloom_cloud_catalog::{Availability, CloudKind, micro_usd};
use gpuloom_fleet::Market;
use serde::Deserialize;
use serde_json::Number;
use std::collections::BTreeMap;
use std::path::Path;

const FILE: &str = "pkg/providers/pricing/initial-prices.json";

/// Families whose machines have GPUs of their own.
const FAMILIES: [&str; 6] = ["a2-", "a3-", "a4-", "a4x-", "g2-", "g4-"];

#[derive(Debug, Deserialize)]
struct File {
    prices: BTreeMap<String, Markets>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Markets {
    on_demand: BTreeMap<String, Number>,
    spot: BTreeMap<String, Number>,
}

pub(super) fn compile(karpenter: &Path) -> Result<Compiled> {
    let text = read(&karpenter.join(FILE))?;
    let (head, day) = commit(karpenter, FILE)?;
    let about = format!(
        "github.com/cloudpilot-ai/karpenter-provider-gcp@{head} {FILE}: on-demand and spot prices; (c) The CloudPilot AI Authors, Apache-2.0"
    );
    let source = source("karpenter-gcp", &day, about)?;
    let file: File = serde_json::from_str(&text).with_context(|| format!("{FILE} reads"))?;
    let shapes = facts::shapes(CloudKind::Gcp)?;
    let mut compiled = Compiled::default();
    for (region, markets) in &file.prices {
        for (name, number) in &markets.on_demand {
            let Some(shape) = shapes.get(name) else {
                if FAMILIES.iter().any(|f| name.starts_with(f)) {
                    compiled.left_out.insert(name.clone());
                }
                continue;
            };
            let place = (CloudKind::Gcp, region.as_str(), name.as_str());
            let mut row = row(place, shape, Availability::Priced);
            let stated = |number: &Number, market| {
                let hourly = micro_usd(&number.to_string()).filter(|p| p.0 > 0)?;
                Some(price(hourly, market, source.at, &source.name))
            };
            row.on_demand = stated(number, Market::OnDemand);
            let spot = markets.spot.get(name);
            row.spot = spot.and_then(|number| stated(number, Market::Spot));
            compiled.rows.push(row);
        }
    }
    compiled.sources.push(source);
    Ok(compiled)
}
