//! Azure: prices from karpenter-provider-azure, machines from [`super::facts`].

use super::{Compiled, commit, facts, generated_at, pairs, price, read, row, source};
use anyhow::{Context, Result};
use gpuloom_cloud_catalog::{Availability, CloudKind, micro_usd};
use gpuloom_fleet::Market;
use std::path::Path;

const FILE: &str = "pkg/providers/pricing/zz_generated.pricing.go";

pub(super) fn compile(karpenter: &Path) -> Result<Compiled> {
    let text = read(&karpenter.join(FILE))?;
    let day = generated_at(&text).with_context(|| format!("{FILE} says when it was made"))?;
    let (head, _) = commit(karpenter, FILE)?;
    let about = format!(
        "github.com/Azure/karpenter-provider-azure@{head} {FILE}: on-demand prices; (c) Microsoft Corporation, Apache-2.0"
    );
    let source = source("karpenter-azure", day, about)?;
    let shapes = facts::shapes(CloudKind::Azure)?;
    let mut compiled = Compiled::default();
    let mut region = String::new();
    for line in text.lines() {
        let opening = line.trim().strip_prefix("initialOnDemandPrices[\"");
        if let Some((name, _)) = opening.and_then(|rest| rest.split_once('"')) {
            name.clone_into(&mut region);
            continue;
        }
        for (name, number) in pairs(line) {
            let Some(shape) = shapes.get(name) else {
                // NP machines have FPGAs.
                if name.starts_with("Standard_N") && !name.starts_with("Standard_NP") {
                    compiled.left_out.insert(name.to_owned());
                }
                continue;
            };
            let Some(hourly) = micro_usd(number).filter(|p| p.0 > 0) else {
                continue;
            };
            let place = (CloudKind::Azure, region.as_str(), name);
            let mut row = row(place, shape, Availability::Priced);
            row.on_demand = Some(price(hourly, Market::OnDemand, source.at, &source.name));
            compiled.rows.push(row);
        }
    }
    compiled.sources.push(source);
    Ok(compiled)
}
