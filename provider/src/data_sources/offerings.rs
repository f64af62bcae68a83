//! `gpuloom_offerings`: what clouds sell with GPUs, and at which price: from the embedded catalog, on request from the
//! public price lists, and from a cloud itself where its credentials are at hand.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gpuloom_cloud::Offered;
use gpuloom_cloud_catalog::{
    Catalog, CloudKind, LiveOptions, LivePrices, Order, Price, Query, Row, Scope,
};
use gpuloom_fleet::{
    AwsPlace, AzurePlace, Bytes, GcpPlace, GpuModel, GpuShape, Market, Millis, PoolPlace,
};
use tfplug::{
    Attribute, DataCtx, DataSource, Diagnostic, Diagnostics, OrDiag, Schema, Type, Value, View,
    async_trait, validators,
};

use crate::configure::Settings;
use crate::convert::{gib_from_bytes, number_from_micro, number_from_milli};

/// The most offerings that are shown.
const MAX_ROWS: u32 = 1_000;
/// As many are shown when nothing is said.
const DEFAULT_ROWS: u32 = 100;
/// The most regions whose price lists are asked at once.
const MAX_LIVE_REGIONS: usize = 20;
/// How long a region's price list may take.
const LIVE_TIMEOUT: Duration = Duration::from_secs(300);
/// The key of Google's billing catalog.
const GCP_KEY_VARIABLE: &str = "GPULOOM_GCP_API_KEY";

const PER_GPU: &str = "price_per_gpu_hour";
const PER_GIB: &str = "price_per_gib_hour";

pub(super) struct Offerings;

#[async_trait]
impl DataSource for Offerings {
    fn name(&self) -> &str {
        "offerings"
    }

    fn schema(&self) -> Schema {
        Schema::new(0)
            .description(
                "What AWS, Google Cloud and Azure sell with GPUs, cheapest first. Prices come from the catalog that the \
                 provider was built with, each with its date and source; with `live` from the public price lists of \
                 today; with `aws`, `gcp` or `azure` from the cloud itself, by zone and with the spot price, with the \
                 credentials that its own tools find. A price that nobody told is null, never zero, and an old one is \
                 marked as stale.",
            )
            .attributes(filters())
            .attributes(clouds())
            .attribute(
                Attribute::nested_list("offerings", offering())
                    .computed()
                    .description("The offerings; those without the price that counts come last."),
            )
            .validate(needs(
                "live",
                "live needs clouds and regions: the lists are read region by region",
                |config| config.get("live").as_bool() == Some(true),
                &["clouds", "regions"],
            ))
            .validate(needs(
                "gpu",
                "a cloud is asked for a GPU model and number: state gpu = { model = \"T4\", count = 1 }",
                |config| ["aws", "gcp", "azure"].iter().any(|name| !config.get(name).is_null()),
                &["gpu.count"],
            ))
    }

    async fn read(&self, ctx: &mut DataCtx) -> Result<Value, Diagnostics> {
        let config = ctx.config.clone();
        let view = config.view();
        let query = query(&view)?;
        let now = now();
        let catalog = catalog(ctx, &view, &query, now).await?;
        let offered = ask(ctx, &view, &query).await?;
        let rows = catalog.find_among(&query, &offered, now);
        let values = rows.iter().map(|row| row_value(row, now));
        Ok(config.clone().with("offerings", Value::list(values)))
    }
}

// === the schema ===

fn filters() -> Vec<Attribute> {
    let known = CloudKind::ALL.map(CloudKind::as_str);
    vec![
        Attribute::list("clouds", Type::String)
            .optional()
            .description("Only these: `aws`, `gcp`, `azure`. Default: all.")
            .validate(validators::each(validators::one_of(known))),
        Attribute::list("regions", Type::String)
            .optional()
            .description("Only these regions or locations, in the clouds' own words. Default: all."),
        Attribute::list("instance_types", Type::String)
            .optional()
            .description("Only these instance types. Default: all."),
        Attribute::object(
            "gpu",
            [
                Attribute::string("model")
                    .required()
                    .description("The GPU model in short, such as `T4`, `A100-80G` or `H100`.")
                    .validate(validators::parses("a GPU model", |s: &str| s.parse::<GpuModel>())),
                Attribute::number("count")
                    .optional()
                    .description("How many of them, 1 to 64. Default: any number.")
                    .validate(validators::whole())
                    .validate(validators::between(1, 64)),
            ],
        )
        .optional()
        .description("Only machines with these GPUs."),
        Attribute::number("min_gpu_memory_gib")
            .optional()
            .description("Only machines whose GPUs have at least so much memory each, in GiB.")
            .validate(validators::whole())
            .validate(validators::between(1, 4096)),
        Attribute::bool("fractions").optional().description(
            "Machines with a fraction of a GPU, too. Default: `false`.",
        ),
        Attribute::string("market")
            .optional()
            .description(
                "Whose price decides the order: `on-demand` or `spot`. Default: the lower one that is known.",
            )
            .validate(validators::one_of(["on-demand", "spot"])),
        Attribute::string("sort")
            .optional()
            .description(format!(
                "What comes first: `{PER_GPU}` (the default) or `{PER_GIB}`, the price of a GiB of GPU memory."
            ))
            .validate(validators::one_of([PER_GPU, PER_GIB])),
        Attribute::number("limit")
            .optional()
            .description(format!(
                "At most so many offerings, 1 to {MAX_ROWS}. Default: {DEFAULT_ROWS}."
            ))
            .validate(validators::whole())
            .validate(validators::between(1, i64::from(MAX_ROWS))),
        Attribute::bool("live").optional().description(format!(
            "Reads the public price lists of `clouds` in `regions` now: Azure's and AWS's without credentials (AWS's has \
             some 300 MB a region), Google's with an API key in `{GCP_KEY_VARIABLE}`. A list that fails is a warning. At \
             most {MAX_LIVE_REGIONS} clouds and regions together. Default: `false`."
        )),
    ]
}

fn clouds() -> [Attribute; 3] {
    let text = |name: &str, text: &str| Attribute::string(name).required().description(text);
    let endpoint = || {
        Attribute::string("endpoint")
            .optional()
            .description("A private endpoint for the calls. Default: the public one.")
    };
    let zones = |text: &str| {
        Attribute::list("zones", Type::String)
            .optional()
            .description(text)
    };
    let asked = |name: &str, of: &str, own: Vec<Attribute>| {
        Attribute::object(name, own).optional().description(format!(
            "Asks {of} itself what this account can have of `gpu`, by zone. In its region the answer stands for the catalog's."
        ))
    };
    [
        asked(
            "aws",
            "EC2",
            vec![
                text("region", "The region, such as `us-east-1`."),
                Attribute::list("subnets", Type::String)
                    .required()
                    .description("Subnets, `subnet-...`: each stands for its zone."),
                endpoint(),
            ],
        ),
        asked(
            "gcp",
            "Compute Engine",
            vec![
                text("project", "The project's id."),
                text("region", "The region, such as `us-central1`."),
                zones("Only these zones. Default: the region's."),
                endpoint(),
            ],
        ),
        asked(
            "azure",
            "Azure",
            vec![
                text("subscription", "The subscription's id."),
                text("resource_group", "A resource group that exists."),
                text("location", "The location, such as `eastus`."),
                zones("Only these zones, such as `1`. Default: no zone is pinned."),
                endpoint(),
            ],
        ),
    ]
}

fn offering() -> Vec<Attribute> {
    let text = |name: &str, text: &str| Attribute::string(name).computed().description(text);
    let number = |name: &str, text: &str| Attribute::number(name).computed().description(text);
    let mut attributes = vec![
        text("cloud", "`aws`, `gcp` or `azure`."),
        text("region", "The region or location."),
        text(
            "zone",
            "The zone (AWS: the subnet); null unless the cloud itself was asked.",
        ),
        text("instance_type", "The cloud's name of the machine."),
        text("gpu_model", "The GPU model in short."),
        number("gpus", "How many GPUs it has."),
        number(
            "gpu_fraction",
            "Which part of a GPU each is: 1 is a whole one.",
        ),
        number("gpu_memory_gib", "Memory of each GPU in GiB."),
        number("vcpus", "Virtual CPUs."),
        number("memory_gib", "Memory of the machine in GiB."),
        text(
            "availability",
            "How its being there is known: `offered` (the cloud said so to this account), `listed` (the region's list \
             of instance types names it) or `priced` (only a price list names it: it may be retired).",
        ),
    ];
    for (market, what) in [("on_demand", "On-demand"), ("spot", "Spot")] {
        let name = |rest: &str| format!("{market}_{rest}");
        let unknown = "null when nobody told";
        attributes.extend([
            number(
                &name("hourly_usd"),
                &format!("{what} price of an hour in US dollars; {unknown}."),
            ),
            number(&name("per_gpu_hour_usd"), "The same for one whole GPU."),
            number(
                &name("per_gib_hour_usd"),
                "The same for one GiB of GPU memory.",
            ),
            text(
                &name("price_at"),
                "When the source stated that price, RFC 3339.",
            ),
            text(&name("price_source"), "The source of that price."),
            Attribute::bool(name("price_stale"))
                .computed()
                .description("Whether that price is old: 90 days (on-demand), 1 day (spot)."),
        ]);
    }
    attributes
}

/// Refuses a configuration to which `when` applies and which lacks one of `attributes`.
fn needs(
    at: &'static str,
    why: &'static str,
    when: fn(&Value) -> bool,
    attributes: &'static [&'static str],
) -> tfplug::ConfigValidator {
    tfplug::ConfigValidator::new(why, move |config| {
        let missing = |path: &&str| {
            let value = config.at(&(**path).into());
            let empty = matches!(value, Value::List(elements) if elements.is_empty());
            value.is_null() || empty
        };
        if when(config) && attributes.iter().any(missing) {
            return Diagnostic::error("Incomplete configuration", why)
                .at(at)
                .into();
        }
        Diagnostics::default()
    })
}

// === reading ===

fn query(view: &View<'_>) -> Result<Query, Diagnostics> {
    let gpu = view.attr("gpu");
    let model = match gpu.non_null() {
        Some(gpu) => Some(gpu.attr("model").str()?.parse::<GpuModel>()?),
        None => None,
    };
    let gpus = match gpu.non_null() {
        Some(gpu) => gpu.attr("count").opt_u32()?,
        None => None,
    };
    let clouds: Result<BTreeSet<CloudKind>, String> =
        texts(view, "clouds")?.iter().map(|c| c.parse()).collect();
    let market = view.attr("market").opt_str()?.map(str::parse::<Market>);
    let limit = view.attr("limit").opt_u32()?.unwrap_or(DEFAULT_ROWS);
    let memory = view.attr("min_gpu_memory_gib").opt_u32()?;
    let wrong = |what: String| Diagnostic::error("Invalid value", what);
    Ok(Query {
        clouds: clouds.map_err(wrong)?,
        regions: texts(view, "regions")?.into_iter().collect(),
        instance_types: texts(view, "instance_types")?.into_iter().collect(),
        model,
        gpus,
        min_gpu_memory: memory.map(|gib| Bytes::gib(u64::from(gib))),
        market: market.transpose().map_err(wrong)?,
        parts: view.attr("fractions").opt_bool()?.unwrap_or(false),
        order: match view.attr("sort").opt_str()? {
            Some(PER_GIB) => Order::PerGib,
            _ => Order::PerGpuHour,
        },
        limit: Some(limit.min(MAX_ROWS) as usize),
    })
}

fn texts(view: &View<'_>, name: &str) -> Result<Vec<String>, Diagnostics> {
    let list = view.attr(name);
    let Some(list) = list.non_null() else {
        return Ok(Vec::new());
    };
    let each = list.elements();
    let each: Result<Vec<String>, _> = each.iter().map(|e| e.str().map(str::to_owned)).collect();
    Ok(each?)
}

/// The embedded catalog, with `live` the prices of today over it.
async fn catalog(
    ctx: &mut DataCtx,
    view: &View<'_>,
    query: &Query,
    now: Millis,
) -> Result<Catalog, Diagnostics> {
    let mut catalog = Catalog::embedded().clone();
    if view.attr("live").opt_bool()? != Some(true) {
        return Ok(catalog);
    }
    let scopes = scopes(&catalog, query);
    if scopes.len() > MAX_LIVE_REGIONS {
        let text = format!(
            "{} regions are stated; live prices are read of at most {MAX_LIVE_REGIONS} at once.",
            scopes.len()
        );
        return Err(Diagnostic::error("Too many regions", text)
            .at("regions")
            .into());
    }
    let key = std::env::var(GCP_KEY_VARIABLE)
        .ok()
        .filter(|k| !k.is_empty());
    let options = LiveOptions {
        gcp_api_key: key,
        timeout: LIVE_TIMEOUT,
        ..LiveOptions::default()
    };
    let live = LivePrices::new(options).or_diag("Cannot read live prices")?;
    let refreshed = live.refresh(&catalog, &scopes, now).await;
    for (scope, error) in &refreshed.failed {
        let text = format!(
            "{error}. The prices shown of {scope} are the catalog's, with their own dates."
        );
        ctx.warn(format!("No live prices of {scope}"), text);
    }
    catalog.merge(&refreshed.quotes);
    Ok(catalog)
}

/// The stated regions of the clouds that have them: `us-east-1` is nothing that Azure is asked of.
fn scopes(catalog: &Catalog, query: &Query) -> Vec<Scope> {
    let mut scopes = Vec::new();
    for cloud in &query.clouds {
        let known = catalog.regions(*cloud);
        let of_cloud = query.regions.iter().filter(|region| {
            let elsewhere = CloudKind::ALL
                .iter()
                .any(|other| other != cloud && catalog.regions(*other).contains(region));
            known.contains(region) || !elsewhere
        });
        scopes.extend(of_cloud.map(|region| Scope {
            cloud: *cloud,
            region: region.clone(),
        }));
    }
    scopes
}

/// What the stated clouds offer themselves.
async fn ask(ctx: &DataCtx, view: &View<'_>, query: &Query) -> Result<Vec<Offered>, Diagnostics> {
    let (Some(model), Some(per_node)) = (query.model.clone(), query.gpus) else {
        return Ok(Vec::new());
    };
    let gpu = GpuShape { model, per_node };
    let mut offered = Vec::new();
    for place in places(view, query)? {
        let settings = ctx.data::<Settings>()?;
        let cloud = settings.clouds.of(&place).await?;
        let found = cloud.offerings(&place, Some(&gpu)).await;
        let region = place.region().unwrap_or_default();
        let what = format!("Cannot ask {} what it offers in {region}", place.kind());
        offered.extend(found.or_diag(what)?);
    }
    Ok(offered)
}

fn places(view: &View<'_>, query: &Query) -> Result<Vec<PoolPlace>, Diagnostics> {
    let types: Vec<String> = query.instance_types.iter().cloned().collect();
    let text = |v: &View<'_>, name: &str| -> Result<String, Diagnostics> {
        Ok(v.attr(name).str()?.to_owned())
    };
    let endpoint = |v: &View<'_>| -> Result<Option<String>, Diagnostics> {
        Ok(v.attr("endpoint").opt_str()?.map(str::to_owned))
    };
    let mut places = Vec::new();
    if let Some(v) = view.attr("aws").non_null() {
        places.push(PoolPlace::Aws(Box::new(AwsPlace {
            region: text(&v, "region")?,
            subnets: texts(&v, "subnets")?,
            instance_types: types.clone(),
            endpoint: endpoint(&v)?,
            ..AwsPlace::default()
        })));
    }
    if let Some(v) = view.attr("gcp").non_null() {
        places.push(PoolPlace::Gcp(Box::new(GcpPlace {
            project: text(&v, "project")?,
            region: text(&v, "region")?,
            zones: texts(&v, "zones")?,
            machine_types: types.clone(),
            endpoint: endpoint(&v)?,
            ..GcpPlace::default()
        })));
    }
    if let Some(v) = view.attr("azure").non_null() {
        places.push(PoolPlace::Azure(Box::new(AzurePlace {
            subscription: text(&v, "subscription")?,
            resource_group: text(&v, "resource_group")?,
            location: text(&v, "location")?,
            zones: texts(&v, "zones")?,
            vm_sizes: types,
            endpoint: endpoint(&v)?,
            ..AzurePlace::default()
        })));
    }
    Ok(places)
}

// === values ===

fn row_value(row: &Row, now: Millis) -> Value {
    let shape = &row.shape;
    let value = Value::object([
        ("cloud", Value::from(row.cloud.as_str())),
        ("region", row.region.as_str().into()),
        ("zone", row.zone.clone().into()),
        ("instance_type", row.instance_type.as_str().into()),
        ("gpu_model", shape.model.as_str().into()),
        ("gpus", shape.gpus.into()),
        ("gpu_fraction", number_from_milli(shape.part.0)),
        ("gpu_memory_gib", gib_from_bytes(shape.gpu_memory)),
        ("vcpus", shape.vcpus.into()),
        ("memory_gib", gib_from_bytes(shape.memory)),
        ("availability", row.availability.to_string().into()),
    ]);
    let value = priced(value, row, "on_demand", row.on_demand.as_ref(), now);
    priced(value, row, "spot", row.spot.as_ref(), now)
}

fn priced(value: Value, row: &Row, market: &str, price: Option<&Price>, now: Millis) -> Value {
    let dollars = |amount: fn(&Row, &Price) -> u64| {
        price.map_or(Value::Null, |p| number_from_micro(amount(row, p)))
    };
    let name = |rest: &str| format!("{market}_{rest}");
    value
        .with(&name("hourly_usd"), dollars(|_, p| p.hourly.0))
        .with(
            &name("per_gpu_hour_usd"),
            dollars(|row, p| row.shape.per_gpu_hour(p.hourly).0),
        )
        .with(
            &name("per_gib_hour_usd"),
            dollars(|row, p| row.shape.per_gib_hour(p.hourly).0),
        )
        .with(&name("price_at"), price.map(|p| instant(p.at)))
        .with(&name("price_source"), price.map(|p| p.source.to_string()))
        .with(&name("price_stale"), price.map(|p| p.stale(now)))
}

fn instant(at: Millis) -> String {
    let stamp = i64::try_from(at.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.unwrap_or(jiff::Timestamp::MAX).to_string()
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.map_or(0, |d| d.as_millis());
    Millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
