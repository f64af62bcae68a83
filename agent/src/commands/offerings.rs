//! `gpuloom offerings`: what clouds sell with GPUs, cheapest first; the data source `gpuloom_offerings` on the command
//! line.

use super::place::PlaceArg;
use super::{CommandError, table};
use clap::{Args, ValueEnum};
use gpuloom_cloud::{Cloud, CloudError, Offered};
use gpuloom_cloud_catalog::{
    Cache, Catalog, CloudKind, LiveOptions, LivePrices, Order, Price, Query, Row, Scope,
};
use gpuloom_fleet::{Bytes, GpuModel, GpuShape, Market, Millis, PoolPlace};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// The most regions whose price lists are read by one command.
const MAX_LIVE_REGIONS: usize = 20;

/// What to show.
#[derive(Debug, Clone, Args)]
pub struct OfferingsArgs {
    /// Only this cloud: aws, gcp or azure; may be given several times
    #[arg(long, value_name = "CLOUD")]
    pub cloud: Vec<CloudKind>,
    /// Only this region; may be given several times
    #[arg(long, value_name = "REGION")]
    pub region: Vec<String>,
    /// Only this instance type; may be given several times
    #[arg(long, value_name = "TYPE")]
    pub instance_type: Vec<String>,
    /// Only this GPU model, e.g. T4, A100-80G
    #[arg(long, value_name = "MODEL")]
    pub gpu: Option<GpuModel>,
    /// Only machines with so many GPUs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub count: Option<u32>,
    /// Only GPUs with at least so much memory, e.g. 24GiB
    #[arg(long, value_name = "SIZE")]
    pub min_gpu_memory: Option<Bytes>,
    /// Machines with a fraction of a GPU, too
    #[arg(long)]
    pub fractions: bool,
    /// Whose price decides the order: on-demand or spot; without it the lower one that is known
    #[arg(long)]
    pub market: Option<Market>,
    /// What comes first
    #[arg(long, value_enum, default_value_t)]
    pub sort: Sort,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Read the public price lists of --cloud and --region now, and keep the prices for later
    #[arg(long, requires_all = ["cloud", "region"])]
    pub live: bool,
    /// Ask a cloud itself, with its credentials, what of --gpu and --count can be had there:
    /// aws:REGION/SUBNET,..., gcp:PROJECT/REGION or azure:SUBSCRIPTION/GROUP/LOCATION
    #[arg(long, value_name = "PLACE", requires_all = ["gpu", "count"])]
    pub at: Vec<PlaceArg>,
    /// Google's billing catalog needs an API key
    #[arg(
        long,
        env = "GPULOOM_GCP_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub gcp_api_key: Option<String>,
    /// Where live prices are kept [default: gpuloom/prices.json in ~/.cache]
    #[arg(long, value_name = "FILE")]
    pub price_cache: Option<PathBuf>,
}

/// By which price offerings are ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Of a whole GPU and hour.
    #[default]
    GpuHour,
    /// Of a GiB of GPU memory and hour.
    Gib,
}

/// Shows what `args` asks for on `out`, as a table or as JSON; warnings go to `warn`.
///
/// # Errors
/// [`CommandError`] when a cloud of `--at` cannot be asked, or the output not be written.
pub async fn offerings(
    args: &OfferingsArgs,
    as_json: bool,
    now: Millis,
    out: &mut dyn Write,
    warn: &mut dyn Write,
) -> Result<(), CommandError> {
    let options = LiveOptions {
        gcp_api_key: args.gcp_api_key.clone(),
        ..LiveOptions::default()
    };
    let mut catalog = Catalog::embedded().clone();
    prices(args, options, &mut catalog, now, warn).await?;
    let mut offered = Vec::new();
    for place in &args.at {
        let cloud = crate::lead::open_cloud(&place.0).await;
        let what = format!("cannot ask {place} what it offers");
        let cloud = cloud.map_err(CommandError::cloud(what.clone()))?;
        let found = ask(&*cloud, &place.0, args).await;
        offered.extend(found.map_err(CommandError::cloud(what))?);
    }
    let rows = catalog.find_among(&query(args), &offered, now);
    show(&rows, as_json, now, out)
}

fn query(args: &OfferingsArgs) -> Query {
    Query {
        clouds: args.cloud.iter().copied().collect(),
        regions: args.region.iter().cloned().collect(),
        instance_types: args.instance_type.iter().cloned().collect(),
        model: args.gpu.clone(),
        gpus: args.count,
        min_gpu_memory: args.min_gpu_memory,
        market: args.market,
        parts: args.fractions,
        order: match args.sort {
            Sort::GpuHour => Order::PerGpuHour,
            Sort::Gib => Order::PerGib,
        },
        limit: Some(args.limit as usize),
    }
}

/// Prices kept from before, and with `--live` those of today.
async fn prices(
    args: &OfferingsArgs,
    options: LiveOptions,
    catalog: &mut Catalog,
    now: Millis,
    warn: &mut dyn Write,
) -> Result<(), CommandError> {
    let cache = args.price_cache.clone().or_else(usual_cache).map(Cache::at);
    match cache.as_ref().map(Cache::load) {
        Some(Ok(quotes)) => {
            catalog.merge(&quotes);
        }
        Some(Err(error)) => writeln!(warn, "gpuloom: {error}")?,
        None => {}
    }
    if !args.live {
        return Ok(());
    }
    let pairs = args.cloud.iter().flat_map(|cloud| {
        args.region.iter().map(|region| Scope {
            cloud: *cloud,
            region: region.clone(),
        })
    });
    // A region that only another cloud has is not asked for.
    let known: Vec<_> = CloudKind::ALL.map(|c| (c, catalog.regions(c))).into();
    let elsewhere = |scope: &Scope| {
        let has = |cloud: CloudKind| {
            known
                .iter()
                .any(|(c, r)| *c == cloud && r.contains(&scope.region))
        };
        !has(scope.cloud) && CloudKind::ALL.into_iter().any(has)
    };
    let scopes: Vec<Scope> = pairs.filter(|scope| !elsewhere(scope)).collect();
    if scopes.len() > MAX_LIVE_REGIONS {
        let text = format!(
            "--live reads the lists of at most {MAX_LIVE_REGIONS} regions at once, not {}: name fewer with --region",
            scopes.len()
        );
        return Err(CommandError::Usage(text));
    }
    let live = LivePrices::new(options).map_err(|e| CommandError::Failed(e.to_string()))?;
    let refreshed = live.refresh(catalog, &scopes, now).await;
    for (scope, error) in &refreshed.failed {
        writeln!(warn, "gpuloom: no live prices of {scope}: {error}")?;
    }
    if let Some(Err(error)) = cache.map(|c| c.store(&refreshed.quotes, now)) {
        writeln!(warn, "gpuloom: live prices are not kept: {error}")?;
    }
    catalog.merge(&refreshed.quotes);
    if !refreshed.failed.is_empty() && refreshed.quotes.is_empty() {
        let text = "no price list could be read".to_owned();
        return Err(CommandError::Unreachable(text));
    }
    Ok(())
}

fn usual_cache() -> Option<PathBuf> {
    let stated = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let home = stated("HOME").map(|home| home.join(".cache"));
    let cache = stated("XDG_CACHE_HOME").or(home)?;
    Some(cache.join("gpuloom/prices.json"))
}

async fn ask(
    cloud: &dyn Cloud,
    place: &PoolPlace,
    args: &OfferingsArgs,
) -> Result<Vec<Offered>, CloudError> {
    let gpu = match (&args.gpu, args.count) {
        (Some(model), Some(per_node)) => Some(GpuShape {
            model: model.clone(),
            per_node,
        }),
        _ => None,
    };
    cloud.offerings(place, gpu.as_ref()).await
}

fn show(rows: &[Row], as_json: bool, now: Millis, out: &mut dyn Write) -> Result<(), CommandError> {
    if as_json {
        let rows: Vec<Value> = rows.iter().map(|row| row_json(row, now)).collect();
        let text = json!({ "offerings": rows });
        writeln!(out, "{text:#}")?;
        return Ok(());
    }
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row_cells(row, now)).collect();
    let head = [
        "CLOUD",
        "REGION",
        "ZONE",
        "TYPE",
        "GPUS",
        "MEMORY",
        "VCPUS",
        "RAM",
        "ON-DEMAND",
        "SPOT",
        "GPU-HOUR",
        "PRICES OF",
        "KNOWN AS",
    ];
    table::write(out, &head, &cells)?;
    Ok(())
}

fn row_cells(row: &Row, now: Millis) -> Vec<String> {
    let shape = &row.shape;
    let price = |price: Option<&Price>| match price {
        Some(p) if p.stale(now) => format!("{} (old)", p.hourly),
        Some(p) => p.hourly.to_string(),
        None => "-".to_owned(),
    };
    let part = match shape.part.0 {
        1000 => String::new(),
        _ => format!(" ({} of one)", shape.part),
    };
    let lowest = row.lowest();
    vec![
        row.cloud.to_string(),
        row.region.clone(),
        row.zone.clone().unwrap_or_else(|| "-".to_owned()),
        row.instance_type.clone(),
        format!("{} x {}{part}", shape.gpus, shape.model),
        shape.gpu_memory.to_string(),
        shape.vcpus.to_string(),
        shape.memory.to_string(),
        price(row.on_demand.as_ref()),
        price(row.spot.as_ref()),
        lowest.map_or_else(
            || "-".to_owned(),
            |p| shape.per_gpu_hour(p.hourly).to_string(),
        ),
        lowest.map_or_else(|| "-".to_owned(), |p| day(p.at)),
        row.availability.to_string(),
    ]
}

/// The names of the data source.
fn row_json(row: &Row, now: Millis) -> Value {
    let shape = &row.shape;
    let gib = |bytes: Bytes| number((u128::from(bytes.0) * 1_000_000) >> 30);
    let mut value = json!({
        "cloud": row.cloud.as_str(),
        "region": row.region,
        "zone": row.zone,
        "instance_type": row.instance_type,
        "gpu_model": shape.model.as_str(),
        "gpus": shape.gpus,
        "gpu_fraction": number(u128::from(shape.part.0) * 1000),
        "gpu_memory_gib": gib(shape.gpu_memory),
        "vcpus": shape.vcpus,
        "memory_gib": gib(shape.memory),
        "availability": row.availability.to_string(),
    });
    let markets = [
        ("on_demand", row.on_demand.as_ref()),
        ("spot", row.spot.as_ref()),
    ];
    for (market, price) in markets {
        let dollars = |micros: Option<u64>| micros.map(|m| number(u128::from(m)));
        let hourly = price.map(|p| p.hourly);
        let fields = [
            ("hourly_usd", json!(dollars(hourly.map(|h| h.0)))),
            (
                "per_gpu_hour_usd",
                json!(dollars(hourly.map(|h| shape.per_gpu_hour(h).0))),
            ),
            (
                "per_gib_hour_usd",
                json!(dollars(hourly.map(|h| shape.per_gib_hour(h).0))),
            ),
            ("price_at", json!(price.map(|p| instant(p.at)))),
            ("price_source", json!(price.map(|p| p.source.to_string()))),
            ("price_stale", json!(price.map(|p| p.stale(now)))),
        ];
        for (name, field) in fields {
            value[format!("{market}_{name}")] = field;
        }
    }
    value
}

/// Millionths as a JSON number, exactly.
fn number(micros: u128) -> Value {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    serde_json::from_str(text).unwrap_or(Value::Null)
}

fn stamp(at: Millis) -> jiff::Timestamp {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX)
}

fn instant(at: Millis) -> String {
    stamp(at).to_string()
}

fn day(at: Millis) -> String {
    stamp(at).strftime("%Y-%m-%d").to_string()
}

/// Keeps the driver of a place; for the sweep, too.
pub(super) type Driver = Arc<dyn Cloud>;

#[cfg(test)]
mod tests;
