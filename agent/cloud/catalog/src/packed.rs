//! The catalog as text: one line of facts for each instance type, and its prices by region.
//!
//! ```text
//! # comment
//! source NAME DATE ABOUT...
//! type CLOUD NAME MODEL GPUS PART GPU_MIB VCPUS MIB SOURCE
//! listed SOURCE REGION...                      regions that have the type above
//! price SOURCE REGION=MICROS[/SPOT_MICROS]...  `-` for a price that is not known
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use gpuloom_fleet::{Bytes, GpuModel, Market, MicroUsd, MilliGpu, Millis};

use crate::catalog::{Availability, Catalog, CloudKind, Row, Shape, Source};
use crate::price::Price;

/// A line that does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct PackedError {
    /// From 1.
    pub line: usize,
    /// What was read, and what was expected.
    pub what: String,
}

/// The catalog's text, the same for the same catalog; `heading` becomes comments.
#[must_use]
pub fn pack(catalog: &Catalog, heading: &str) -> String {
    let mut text = String::new();
    for line in heading.lines() {
        let _ = writeln!(text, "{}", format!("# {line}").trim_end());
    }
    for source in catalog.sources() {
        let _ = writeln!(
            text,
            "source {} {} {}",
            source.name,
            date(source.at),
            source.about
        );
    }
    for ((cloud, name), shape) in &catalog.shapes {
        let rows: Vec<&Row> = catalog
            .rows()
            .filter(|r| r.cloud == *cloud && r.instance_type == *name)
            .collect();
        pack_type(*cloud, name, shape, &rows, &mut text);
    }
    text
}

fn pack_type(cloud: CloudKind, name: &str, shape: &Shape, rows: &[&Row], text: &mut String) {
    let mib = |bytes: Bytes| bytes.0 >> 20;
    let _ = writeln!(
        text,
        "type {cloud} {name} {} {} {} {} {} {} {}",
        shape.model,
        shape.gpus,
        shape.part.0,
        mib(shape.gpu_memory),
        shape.vcpus,
        mib(shape.memory),
        shape.source
    );
    let listed: Vec<&str> = rows
        .iter()
        .filter(|r| r.availability == Availability::Listed)
        .map(|r| r.region.as_str())
        .collect();
    if !listed.is_empty() {
        let _ = writeln!(text, "listed {}", listed.join(" "));
    }
    // A line for each source: dates differ.
    let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for row in rows {
        for (source, price) in prices_by_source(row) {
            lines
                .entry(source)
                .or_default()
                .push(format!("{}={price}", row.region));
        }
    }
    for (source, prices) in lines {
        let _ = writeln!(text, "price {source} {}", prices.join(" "));
    }
}

fn prices_by_source(row: &Row) -> BTreeMap<&str, String> {
    let mut prices: BTreeMap<&str, (Option<u64>, Option<u64>)> = BTreeMap::new();
    if let Some(p) = &row.on_demand {
        prices.entry(&p.source).or_default().0 = Some(p.hourly.0);
    }
    if let Some(p) = &row.spot {
        prices.entry(&p.source).or_default().1 = Some(p.hourly.0);
    }
    let say = |(on_demand, spot): (Option<u64>, Option<u64>)| {
        let on_demand = on_demand.map_or_else(|| "-".to_owned(), |n| n.to_string());
        spot.map_or_else(|| on_demand.clone(), |n| format!("{on_demand}/{n}"))
    };
    prices.into_iter().map(|(s, p)| (s, say(p))).collect()
}

/// Reads what [`pack`] wrote.
///
/// # Errors
/// [`PackedError`] names the first line that does not read.
pub(crate) fn unpack(text: &str) -> Result<Catalog, PackedError> {
    let mut reader = Reader::default();
    for (i, line) in text.lines().enumerate() {
        let read = match line.split_once(' ').unwrap_or((line, "")) {
            ("", _) => Ok(()),
            (word, _) if word.starts_with('#') => Ok(()),
            ("source", rest) => reader.source(rest),
            ("type", rest) => reader.shape(rest),
            ("listed", rest) => reader.listed(rest),
            ("price", rest) => reader.prices(rest),
            (word, _) => Err(format!("{word:?} is not source, type, listed or price")),
        };
        read.map_err(|what| PackedError { line: i + 1, what })?;
    }
    Ok(reader.catalog)
}

#[derive(Default)]
struct Reader {
    catalog: Catalog,
    current: Option<(CloudKind, String, Arc<Shape>)>,
}

// === impl Reader ===

impl Reader {
    fn source(&mut self, rest: &str) -> Result<(), String> {
        let mut words = rest.splitn(3, ' ');
        let (Some(name), Some(day), Some(about)) = (words.next(), words.next(), words.next())
        else {
            return Err("a source has a name, a date and what it is".to_owned());
        };
        self.catalog.sources.push(Source {
            name: name.into(),
            at: Source::midnight(day)
                .ok_or_else(|| format!("{day:?} is not a date such as 2026-07-20"))?,
            about: about.to_owned(),
        });
        Ok(())
    }

    fn find_source(&self, name: &str) -> Result<(Arc<str>, Millis), String> {
        let source = self.catalog.sources.iter().find(|s| &*s.name == name);
        source
            .map(|s| (Arc::clone(&s.name), s.at))
            .ok_or_else(|| format!("{name:?} is not a source stated above"))
    }

    fn shape(&mut self, rest: &str) -> Result<(), String> {
        let words: Vec<&str> = rest.split(' ').collect();
        let [cloud, name, model, gpus, part, gpu_mib, vcpus, mib, source] = words[..] else {
            return Err(format!("a type has 9 words, not {}", words.len()));
        };
        let cloud: CloudKind = cloud.parse()?;
        let (source, at) = self.find_source(source)?;
        let shape = Arc::new(Shape {
            model: GpuModel::new(model).map_err(|e| e.to_string())?,
            gpus: positive(gpus)?,
            part: MilliGpu(u64::from(positive(part)?)),
            gpu_memory: Bytes::mib(u64::from(positive(gpu_mib)?)),
            vcpus: positive(vcpus)?,
            memory: Bytes::mib(u64::from(positive(mib)?)),
            source,
            at,
        });
        let key = (cloud, name.to_owned());
        if self
            .catalog
            .shapes
            .insert(key, Arc::clone(&shape))
            .is_some()
        {
            return Err(format!("{cloud} {name} stands twice"));
        }
        self.current = Some((cloud, name.to_owned(), shape));
        Ok(())
    }

    fn row(&mut self, region: &str, availability: Availability) -> Result<&mut Row, String> {
        let (cloud, name, shape) = self.current.as_ref().ok_or("no type stands above")?;
        if region.is_empty() {
            return Err("a region has a name".to_owned());
        }
        let key = (*cloud, region.to_owned(), name.clone());
        Ok(self.catalog.rows.entry(key).or_insert_with(|| Row {
            cloud: *cloud,
            region: region.to_owned(),
            zone: None,
            instance_type: name.clone(),
            shape: Arc::clone(shape),
            availability,
            on_demand: None,
            spot: None,
        }))
    }

    fn listed(&mut self, rest: &str) -> Result<(), String> {
        for region in rest.split(' ') {
            self.row(region, Availability::Listed)?;
        }
        Ok(())
    }

    fn prices(&mut self, rest: &str) -> Result<(), String> {
        let (source, prices) = rest.split_once(' ').ok_or("prices have a source")?;
        let (source, at) = self.find_source(source)?;
        for entry in prices.split(' ') {
            let (region, price) = entry
                .split_once('=')
                .ok_or_else(|| format!("{entry:?} is not REGION=PRICE"))?;
            let (on_demand, spot) = price.split_once('/').unwrap_or((price, "-"));
            let row = self.row(region, Availability::Priced)?;
            for (market, text) in [(Market::OnDemand, on_demand), (Market::Spot, spot)] {
                let place = match market {
                    Market::OnDemand => &mut row.on_demand,
                    Market::Spot => &mut row.spot,
                };
                if let Some(hourly) = micros(text)? {
                    *place = Some(Price {
                        hourly,
                        market,
                        at,
                        source: Arc::clone(&source),
                    });
                }
            }
        }
        Ok(())
    }
}

fn positive(text: &str) -> Result<u32, String> {
    let number: Option<u32> = text.parse().ok();
    number
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("{text:?} is not a number from 1"))
}

fn micros(text: &str) -> Result<Option<MicroUsd>, String> {
    if text == "-" {
        return Ok(None);
    }
    let number: Option<u64> = text.parse().ok();
    number
        .filter(|n| *n > 0)
        .map(|n| Some(MicroUsd(n)))
        .ok_or_else(|| format!("{text:?} is not a price in millionths; unknown is \"-\""))
}

/// The day (UTC) of `at`.
fn date(at: Millis) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms)
        .map(|t| t.strftime("%Y-%m-%d").to_string())
        .unwrap_or_else(|_| "9999-12-31".to_owned())
}
