//! What a pool on a cloud will cost, and what is known against it, before anything is launched.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gpuloom_cloud_catalog::{Catalog, CloudKind, Price, Query, Row};
use gpuloom_fleet::{Kind, Market, Millis, Object, PoolSpec};
use tfplug::{PlanCtx, Value};

use crate::clouds::shown;
use crate::configure::Settings;
use crate::convert::{self, number_from_micro};

/// How long a plan asks a cloud about a pool before it goes on without an answer.
const ASK: Duration = Duration::from_secs(10);

/// US dollars for an hour of so many nodes; null when a price that counts is not known.
///
/// From the provider's own catalog alone: a plan is repeated at apply, and both have to say the same.
pub(super) fn hourly(spec: &PoolSpec, nodes: u32) -> Value {
    estimate(Catalog::embedded(), spec, nodes).map_or(Value::Null, number_from_micro)
}

fn estimate(catalog: &Catalog, spec: &PoolSpec, nodes: u32) -> Option<u64> {
    let spot = spec.capacity.spot_of(nodes);
    let mut sum = 0u64;
    for (market, count) in [(Market::OnDemand, nodes - spot), (Market::Spot, spot)] {
        if count > 0 {
            let price = price(catalog, spec, market)?;
            sum = sum.checked_add(price.hourly.times(u64::from(count)).0)?;
        }
    }
    spec.place.is_cloud().then_some(sum)
}

/// The price of what is tried first: the first stated type that has one, else the cheapest that fits.
fn price(catalog: &Catalog, spec: &PoolSpec, market: Market) -> Option<Price> {
    rows(catalog, spec, Some(market))
        .into_iter()
        .find_map(|row| row.price(market).cloned())
}

/// What the catalog has of a pool's place, in the order it is tried.
fn rows(catalog: &Catalog, spec: &PoolSpec, market: Option<Market>) -> Vec<Row> {
    let (Ok(cloud), Some(region)) = (spec.place.kind().parse::<CloudKind>(), spec.place.region())
    else {
        return Vec::new();
    };
    let stated = spec.place.instance_types();
    if !stated.is_empty() {
        let rows = stated.iter().filter_map(|t| catalog.row(cloud, region, t));
        return rows.cloned().collect();
    }
    catalog.find(&Query {
        clouds: [cloud].into(),
        regions: [region.to_owned()].into(),
        model: Some(spec.gpu.model.clone()),
        gpus: Some(spec.gpu.per_node),
        market,
        ..Query::default()
    })
}

/// Fills in the estimate and warns of what is known against the pool. Never an error: what cannot be asked now may
/// work at apply.
pub(super) async fn plan(ctx: &mut PlanCtx) {
    let changes = ctx.planned.get("estimated_hourly_usd").is_unknown();
    let known = convert::object(Kind::Pool, &ctx.planned);
    let (true, Ok(Object::Pool(spec))) = (changes, known) else {
        return;
    };
    let nodes = match ctx.prior.get("size").as_u64() {
        Some(size) => u32::try_from(size).unwrap_or(spec.max),
        None => spec.first_size(),
    };
    let nodes = nodes.clamp(spec.min, spec.max);
    ctx.planned
        .set("estimated_hourly_usd", hourly(&spec, nodes));
    if !spec.place.is_cloud() || !is_new(ctx, &spec) {
        return;
    }
    let summary = format!("Pool {} may not come up as declared", spec.name);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(Millis(0), |d| {
        Millis(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    });
    for warning in against(Catalog::embedded(), &spec, now) {
        ctx.warn(summary.clone(), warning);
    }
    let Some(settings) = ctx.try_data::<Settings>() else {
        return;
    };
    let asked = settings
        .clouds
        .check(&spec.place, &spec.gpu, &spec.capacity, spec.max);
    match tokio::time::timeout(ASK, asked).await {
        Ok(Ok(warnings)) => {
            for warning in warnings {
                ctx.warn(summary.clone(), warning);
            }
        }
        Ok(Err(why)) => unasked(ctx, &spec, &why),
        Err(_elapsed) => unasked(ctx, &spec, &format!("no answer within {ASK:?}")),
    }
}

fn unasked(ctx: &mut PlanCtx, spec: &PoolSpec, why: &str) {
    ctx.warn(
        format!("Pool {} could not be checked beforehand", spec.name),
        format!(
            "{} could not be asked about offerings and quota: {why}. The plan stands; the lead asks with its own \
             permissions.",
            shown(&spec.place)
        ),
    );
}

/// Whether the pool is new, or made of something else than before.
fn is_new(ctx: &PlanCtx, spec: &PoolSpec) -> bool {
    match convert::object(Kind::Pool, &ctx.prior) {
        Ok(Object::Pool(before)) => before.revision() != spec.revision(),
        _ => true,
    }
}

/// What the catalog knows against a pool.
fn against(catalog: &Catalog, spec: &PoolSpec, now: Millis) -> Vec<String> {
    let mut warnings = Vec::new();
    let (Ok(cloud), Some(region)) = (spec.place.kind().parse::<CloudKind>(), spec.place.region())
    else {
        return warnings;
    };
    let gpu = format!("{} x {}", spec.gpu.per_node, spec.gpu.model);
    for name in spec.place.instance_types() {
        match catalog.shape(cloud, name) {
            None => warnings.push(format!(
                "{name} is no instance type with GPUs that this provider's catalog knows. A new one works all the \
                 same; its price is not known."
            )),
            Some(shape) if shape.model != spec.gpu.model || shape.gpus != spec.gpu.per_node => {
                warnings.push(format!(
                    "{name} has {} x {}, and the pool wants {gpu}: it is never launched. Change gpu, or take it out.",
                    shape.gpus, shape.model
                ));
            }
            Some(_) if catalog.row(cloud, region, name).is_none() => warnings.push(format!(
                "{name} is not listed in {region} by this provider's catalog."
            )),
            Some(_) => {}
        }
    }
    let found = rows(catalog, spec, None);
    if found.is_empty() && spec.place.instance_types().is_empty() {
        warnings.push(format!(
            "This provider's catalog knows nothing with {gpu} in {region}."
        ));
    }
    let spot = spec.capacity.spot_of(spec.max) > 0;
    let markets = [(Market::OnDemand, true), (Market::Spot, spot)];
    for (market, _) in markets.into_iter().filter(|(_, wanted)| *wanted) {
        match price(catalog, spec, market) {
            Some(price) if price.stale(now) && market == Market::OnDemand => {
                warnings.push(format!(
                    "The {market} price of estimated_hourly_usd, {} from {}, is stale: a newer release of the provider \
                     has newer ones.",
                    price.hourly, price.source
                ));
            }
            None if !found.is_empty() => warnings.push(format!(
                "The {market} price is not known here, and estimated_hourly_usd is null."
            )),
            _ => {}
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_fleet::{
        AwsPlace, Capacity, GpuModel, GpuShape, OnDestroy, OnShortfall, PoolName, PoolPlace,
        RollingUpdate, Seconds,
    };

    fn pool(types: &[&str], model: &str, spot_ratio_milli: u32) -> PoolSpec {
        PoolSpec {
            name: PoolName::new("t4").expect("a name"),
            gpu: GpuShape {
                model: GpuModel::new(model).expect("a model"),
                per_node: 1,
            },
            place: PoolPlace::Aws(Box::new(AwsPlace {
                region: "us-east-1".to_owned(),
                instance_types: types.iter().map(|t| (*t).to_owned()).collect(),
                ..AwsPlace::default()
            })),
            min: 1,
            max: 4,
            initial_size: None,
            capacity: Capacity {
                on_shortfall: OnShortfall::Fail,
                max_wait: Seconds(60),
                spot_ratio_milli,
                on_demand_base: 0,
            },
            update: RollingUpdate::default(),
            on_destroy: OnDestroy::Drain,
            labels: Default::default(),
        }
    }

    #[test]
    fn an_hour_costs_what_the_nodes_cost_together_and_null_where_a_price_is_missing() {
        let catalog = Catalog::embedded();
        let row = catalog
            .row(CloudKind::Aws, "us-east-1", "g4dn.xlarge")
            .expect("in the catalog");
        let each = row.on_demand.as_ref().expect("priced").hourly.0;
        let of = |spec: &PoolSpec, nodes| estimate(catalog, spec, nodes);
        assert_eq!(of(&pool(&["g4dn.xlarge"], "T4", 0), 3), Some(3 * each));
        assert_eq!(of(&pool(&["g4dn.xlarge"], "T4", 0), 0), Some(0));
        assert_eq!(
            of(&pool(&["x9.huge"], "T4", 0), 1),
            None,
            "unknown is not zero"
        );
        let spot = row.spot.as_ref().map(|p| 4 * p.hourly.0);
        assert_eq!(of(&pool(&["g4dn.xlarge"], "T4", 1000), 4), spot);
        let local = PoolSpec {
            place: PoolPlace::Local,
            ..pool(&[], "T4", 0)
        };
        assert_eq!(of(&local, 0), None);
    }

    #[test]
    fn a_pool_without_stated_types_costs_what_the_cheapest_that_fits_costs() {
        let catalog = Catalog::embedded();
        let spec = pool(&[], "T4", 0);
        let cheapest = rows(catalog, &spec, Some(Market::OnDemand))
            .iter()
            .filter_map(|r| r.on_demand.as_ref().map(|p| p.hourly.0))
            .min();
        assert!(cheapest.is_some());
        assert_eq!(estimate(catalog, &spec, 1), cheapest);
    }

    #[test]
    fn a_plan_warns_of_types_that_do_not_fit_and_of_stale_prices() {
        let catalog = Catalog::embedded();
        let about = |types: &[&str], model: &str, now: u64| {
            against(catalog, &pool(types, model, 0), Millis(now)).join("\n")
        };
        assert_eq!(about(&["g4dn.xlarge"], "T4", 0), "");
        assert!(about(&["x9.huge"], "T4", 0).contains("x9.huge is no instance type"));
        assert!(about(&["g4dn.xlarge"], "H100", 0).contains("1 x T4"));
        assert!(about(&[], "NoSuchGpu", 0).contains("knows nothing"));
        let later = about(&["g4dn.xlarge"], "T4", u64::MAX / 2);
        assert!(later.contains("stale"), "{later}");
    }
}
