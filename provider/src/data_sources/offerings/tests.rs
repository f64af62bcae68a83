//! What the data source tells, from the catalog and from a cloud that is asked.

use super::*;
use gpuloom_cloud_catalog::Availability;
use std::sync::Arc;

fn config(set: &[(&str, Value)]) -> Value {
    let names = filters().into_iter().chain(clouds());
    let mut config = Value::object(names.map(|a| (a.name().to_owned(), Value::Null)));
    for (name, value) in set {
        config.set(name, value.clone());
    }
    config
}

fn gpu(model: &str, count: Option<u32>) -> Value {
    Value::object([("model", Value::from(model)), ("count", count.into())])
}

fn found(set: &[(&str, Value)]) -> Vec<Value> {
    let config = config(set);
    let query = query(&config.view()).expect("reads");
    let rows = Catalog::embedded().find_among(&query, &[], Millis(0));
    rows.iter().map(|row| row_value(row, Millis(0))).collect()
}

#[test]
fn offerings_come_from_the_catalog_cheapest_first_and_unknown_prices_are_null() {
    let t4 = found(&[
        ("gpu", gpu("T4", Some(1))),
        ("regions", Value::list(["us-east-1", "eastus"])),
        ("market", "on-demand".into()),
    ]);
    assert!(t4.len() >= 6, "{} offerings", t4.len());
    let prices: Vec<Option<String>> = t4
        .iter()
        .map(|o| {
            o.get("on_demand_hourly_usd")
                .as_number()
                .map(ToString::to_string)
        })
        .collect();
    assert!(prices[0].is_some());
    for offering in &t4 {
        assert_eq!(offering.get("gpu_model").as_str(), Some("T4"));
        assert_eq!(offering.get("gpus").as_u64(), Some(1));
        assert!(offering.get("zone").is_null());
        assert!(
            offering.get("spot_hourly_usd").is_null(),
            "no source states it"
        );
        assert!(offering.get("spot_price_stale").is_null());
    }
    let unknown = found(&[("regions", Value::list(["eu-west-1"]))]);
    assert!(!unknown.is_empty());
    for offering in unknown {
        assert!(
            offering.get("on_demand_hourly_usd").is_null(),
            "{offering:?}"
        );
        assert_eq!(offering.get("availability").as_str(), Some("listed"));
    }
}

#[test]
fn filters_order_and_limit_are_taken_over() {
    let all = found(&[]);
    assert_eq!(all.len(), DEFAULT_ROWS as usize);
    assert_eq!(found(&[("limit", 7.into())]).len(), 7);
    let gcp = found(&[
        ("clouds", Value::list(["gcp"])),
        ("min_gpu_memory_gib", 80.into()),
        ("sort", PER_GIB.into()),
        ("market", "spot".into()),
        ("limit", 1000.into()),
    ]);
    let per_gib: Vec<f64> = gcp
        .iter()
        .map(|o| {
            assert_eq!(o.get("cloud").as_str(), Some("gcp"));
            assert!(
                o.get("gpu_memory_gib")
                    .as_u64()
                    .is_some_and(|gib| gib >= 80)
            );
            let number = o.get("spot_per_gib_hour_usd").as_number().expect("known");
            number.to_string().parse::<f64>().expect("a number")
        })
        .collect();
    assert!(per_gib.len() > 50 && per_gib.is_sorted(), "{per_gib:?}");
    let whole = found(&[("gpu", gpu("A10", None)), ("limit", 1000.into())]);
    let parts = found(&[
        ("gpu", gpu("A10", None)),
        ("fractions", true.into()),
        ("limit", 1000.into()),
    ]);
    assert!(parts.len() > whole.len());
}

#[test]
fn a_price_has_its_date_source_and_age() {
    let row = Catalog::embedded()
        .row(CloudKind::Aws, "us-east-1", "g4dn.xlarge")
        .expect("a row");
    let at = row.on_demand.as_ref().expect("a price").at;
    let fresh = row_value(row, at);
    assert_eq!(fresh.get("on_demand_price_stale").as_bool(), Some(false));
    assert_eq!(
        fresh.get("on_demand_price_source").as_str(),
        Some("karpenter-aws")
    );
    assert_eq!(
        fresh.get("on_demand_price_at").as_str(),
        Some("2026-07-20T00:00:00Z")
    );
    let later = row_value(row, Millis(at.0 + 91 * 86_400_000));
    assert_eq!(later.get("on_demand_price_stale").as_bool(), Some(true));
    let per_gib = later.get("on_demand_per_gib_hour_usd").as_number();
    assert_eq!(
        per_gib.map(ToString::to_string).as_deref(),
        Some("0.032875")
    );
}

#[test]
fn every_attribute_of_an_offering_is_told_and_no_other() {
    let row = Catalog::embedded().rows().next().expect("a row").clone();
    let mut row = row;
    row.zone = Some("subnet-a".to_owned());
    row.availability = Availability::Offered;
    row.shape = Arc::new((*row.shape).clone());
    let Value::Object(told) = row_value(&row, Millis(0)) else {
        unreachable!("an offering is an object");
    };
    let told: BTreeSet<String> = told.keys().map(ToString::to_string).collect();
    let declared: BTreeSet<String> = offering().iter().map(|a| a.name().to_owned()).collect();
    assert_eq!(told, declared);
}

#[test]
fn live_prices_are_asked_of_the_clouds_that_have_the_region() {
    let set = [
        ("clouds", Value::list(["aws", "azure"])),
        (
            "regions",
            Value::list(["us-east-1", "eastus", "new-region-1"]),
        ),
    ];
    let config = config(&set);
    let query = query(&config.view()).expect("reads");
    let scopes = scopes(Catalog::embedded(), &query);
    let shown: Vec<String> = scopes.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "aws/new-region-1",
            "aws/us-east-1",
            "azure/eastus",
            "azure/new-region-1"
        ]
    );
}

#[test]
fn what_needs_more_says_so_and_passes_over_unknowns() {
    let schema = Offerings.schema();
    let problems = |set: &[(&str, Value)]| -> usize {
        let config = config(set);
        let rules = schema.config_validators();
        rules
            .iter()
            .map(|rule| rule.check(&config).iter().count())
            .sum()
    };
    let azure = Value::object([("location", Value::from("eastus"))]);
    assert_eq!(problems(&[]), 0);
    assert_eq!(problems(&[("live", true.into())]), 1);
    assert_eq!(problems(&[("live", false.into())]), 0);
    let regions = ("regions", Value::list(["eastus"]));
    let clouds = ("clouds", Value::list(["azure"]));
    assert_eq!(
        problems(&[("live", true.into()), regions.clone(), clouds.clone()]),
        0
    );
    let empty = ("regions", Value::List(Vec::new()));
    assert_eq!(problems(&[("live", true.into()), empty, clouds.clone()]), 1);
    let unknown = ("regions", Value::unknown());
    assert_eq!(problems(&[("live", true.into()), unknown, clouds]), 0);
    assert_eq!(problems(&[("azure", azure.clone())]), 1);
    assert_eq!(
        problems(&[("azure", azure.clone()), ("gpu", gpu("T4", None))]),
        1
    );
    assert_eq!(
        problems(&[("azure", azure), ("gpu", gpu("T4", Some(1)))]),
        0
    );
}
