//! AWS's offer file of EC2: one table for each region, hundreds of megabytes, read as it arrives.
//! Source: docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/price-changes.html

use std::collections::BTreeMap;

use gpuloom_fleet::{Market, MicroUsd, Millis};

use super::csv::{Csv, CsvError};
use super::http::{Http, address};
use super::{LiveError, MAX_LINE_BYTES, MAX_OFFER_BYTES};
use crate::catalog::{Catalog, CloudKind};
use crate::price::{Quote, micro_usd};

const SOURCE: &str = "aws-offer-file";

/// What a row must say to be the price of a plain Linux machine.
const MUST: [(&str, &str); 8] = [
    ("TermType", "OnDemand"),
    ("Currency", "USD"),
    ("Unit", "Hrs"),
    ("Tenancy", "Shared"),
    ("Operating System", "Linux"),
    ("Pre Installed S/W", "NA"),
    ("CapacityStatus", "Used"),
    ("Region Code", ""),
];

/// Columns read beside those.
const TYPE: &str = "Instance Type";
const PRICE: &str = "PricePerUnit";

/// Lines before the table: its version, a disclaimer, dates.
const MAX_HEADING: usize = 20;

/// The table, row by row.
struct Table<'a> {
    catalog: &'a Catalog,
    region: &'a str,
    heading: usize,
    columns: Option<Columns>,
    prices: BTreeMap<String, MicroUsd>,
    wrong: Option<String>,
}

struct Columns {
    count: usize,
    must: Vec<(usize, String)>,
    instance_type: usize,
    price: usize,
    market: Option<usize>,
}

/// The on-demand prices of the catalog's machines in `region`.
pub(super) async fn quotes(
    http: &Http,
    base: &str,
    catalog: &Catalog,
    region: &str,
    now: Millis,
) -> Result<Vec<Quote>, LiveError> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let path = format!("offers/v1.0/aws/AmazonEC2/current/{region}/index.csv");
    if region.is_empty() || !region.bytes().all(good) {
        let what = format!("{region:?} is not a region");
        return Err(LiveError::Unreadable { url: path, what });
    }
    let url = address(base, &path, &[])?;
    let mut body = http.open(&url, None, MAX_OFFER_BYTES).await?;
    let mut csv = Csv::new(MAX_LINE_BYTES);
    let mut table = Table::new(catalog, region);
    let unreadable = |what: String| LiveError::Unreadable {
        url: url.to_string(),
        what,
    };
    while let Some(piece) = body.next().await? {
        csv.push(piece.as_ref(), &mut |row| table.row(row))
            .map_err(|e| unreadable(say(&e)))?;
        if let Some(wrong) = table.wrong.take() {
            return Err(unreadable(wrong));
        }
    }
    let columns = table.columns.as_ref().map_or(0, |c| c.count);
    csv.finish(columns, &mut |row| table.row(row))
        .map_err(|e| unreadable(say(&e)))?;
    if let Some(wrong) = table.wrong.take() {
        return Err(unreadable(wrong));
    }
    if table.columns.is_none() {
        return Err(unreadable("it has no table of prices".to_owned()));
    }
    tracing::debug!(
        url = body.url(),
        prices = table.prices.len(),
        "offer file read"
    );
    Ok(table.into_quotes(now))
}

fn say(error: &CsvError) -> String {
    match error {
        CsvError::TooLong => format!("a line has more than {MAX_LINE_BYTES} bytes"),
        CsvError::NotText => "it is not UTF-8".to_owned(),
        CsvError::CutOff => "it ends in the middle of a row".to_owned(),
    }
}

// === impl Table ===

impl<'a> Table<'a> {
    fn new(catalog: &'a Catalog, region: &'a str) -> Self {
        Self {
            catalog,
            region,
            heading: 0,
            columns: None,
            prices: BTreeMap::new(),
            wrong: None,
        }
    }

    fn row(&mut self, row: &[&str]) {
        let Some(columns) = &self.columns else {
            self.head(row);
            return;
        };
        if row.len() != columns.count {
            let what = format!("a row has {} fields, not {}", row.len(), columns.count);
            self.wrong.get_or_insert(what);
            return;
        }
        let on_demand = columns
            .market
            .is_none_or(|i| row[i].is_empty() || row[i] == "OnDemand");
        let fits = on_demand && columns.must.iter().all(|(i, text)| row[*i] == text);
        let name = row[columns.instance_type];
        if !fits || self.catalog.shape(CloudKind::Aws, name).is_none() {
            return;
        }
        let Some(hourly) = micro_usd(row[columns.price]).filter(|p| p.0 > 0) else {
            return;
        };
        // Of several the higher: nobody is told less than is billed.
        let kept = self.prices.entry(name.to_owned()).or_insert(hourly);
        *kept = (*kept).max(hourly);
    }

    fn head(&mut self, row: &[&str]) {
        let find = |name: &str| row.iter().position(|field| *field == name);
        let (Some(instance_type), Some(price)) = (find(TYPE), find(PRICE)) else {
            self.heading += 1;
            if self.heading > MAX_HEADING {
                let what = format!("no column {TYPE:?} in its first {MAX_HEADING} lines");
                self.wrong.get_or_insert(what);
            }
            return;
        };
        let mut must = Vec::new();
        for (name, value) in MUST {
            let Some(i) = find(name) else {
                self.wrong
                    .get_or_insert_with(|| format!("it has no column {name:?}"));
                return;
            };
            let value = if name == "Region Code" {
                self.region
            } else {
                value
            };
            must.push((i, value.to_owned()));
        }
        self.columns = Some(Columns {
            count: row.len(),
            must,
            instance_type,
            price,
            market: find("MarketOption"),
        });
    }

    fn into_quotes(self, now: Millis) -> Vec<Quote> {
        self.prices
            .into_iter()
            .map(|(instance_type, hourly)| Quote {
                cloud: CloudKind::Aws,
                region: self.region.to_owned(),
                instance_type,
                market: Market::OnDemand,
                hourly,
                at: now,
                source: SOURCE.to_owned(),
            })
            .collect()
    }
}
