//! The catalog: a row for each cloud, region and instance type with GPUs.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use gpuloom_cloud::Offering;
use gpuloom_fleet::{Bytes, GpuModel, Market, MicroUsd, MilliGpu, Millis};
use serde::{Deserialize, Serialize};

use crate::packed;
use crate::price::{Price, Quote};
use crate::query::Query;

/// A cloud that sells by list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CloudKind {
    /// Amazon EC2.
    Aws,
    /// Google Compute Engine.
    Gcp,
    /// Azure Virtual Machines.
    Azure,
}

/// Where facts come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Short and unique in the catalog.
    pub name: Arc<str>,
    /// When the source stated them.
    pub at: Millis,
    /// What it is, its version and its licence.
    pub about: String,
}

/// The machine: the same in every region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Short model name as nodes report it.
    pub model: GpuModel,
    /// Devices, at least 1.
    pub gpus: u32,
    /// Which part of a GPU each device is: 1000 is a whole one, 125 an eighth.
    pub part: MilliGpu,
    /// Memory of each device.
    pub gpu_memory: Bytes,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Main memory.
    pub memory: Bytes,
    /// Where these facts come from.
    pub source: Arc<str>,
    /// When it stated them.
    pub at: Millis,
}

/// How we know that a region has the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// The region's list of instance types names it.
    Listed,
    /// Only a price list names it: it may be retired, or not sold to everyone.
    Priced,
    /// The cloud itself offered it to this account.
    Offered,
}

/// A machine in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Whose.
    pub cloud: CloudKind,
    /// Region or location.
    pub region: String,
    /// The zone (AWS: the subnet), when a driver said so; `None`: the catalog knows regions only.
    pub zone: Option<String>,
    /// The cloud's name of it.
    pub instance_type: String,
    /// What it has.
    pub shape: Arc<Shape>,
    /// How we know of it.
    pub availability: Availability,
    /// The listed price; `None` when nobody told us.
    pub on_demand: Option<Price>,
    /// The spot price; `None` when nobody told us.
    pub spot: Option<Price>,
}

/// Every machine with GPUs that we know of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    pub(crate) rows: BTreeMap<(CloudKind, String, String), Row>,
    pub(crate) shapes: BTreeMap<(CloudKind, String), Arc<Shape>>,
    pub(crate) sources: Vec<Source>,
}

// === impl Catalog ===

impl Catalog {
    /// The catalog this program was built with.
    ///
    /// # Panics
    /// Never: a test reads the embedded text.
    #[must_use]
    pub fn embedded() -> &'static Self {
        static EMBEDDED: OnceLock<Catalog> = OnceLock::new();
        EMBEDDED.get_or_init(|| {
            packed::unpack(include_str!("catalog.txt"))
                .unwrap_or_else(|e| unreachable!("the embedded catalog reads: {e}"))
        })
    }

    /// A catalog of `rows`, whose sources are among `sources`; of two rows of one machine and region the later
    /// counts.
    #[must_use]
    pub fn from_parts(sources: Vec<Source>, rows: impl IntoIterator<Item = Row>) -> Self {
        let mut catalog = Self {
            sources,
            ..Self::default()
        };
        for row in rows {
            let name = row.instance_type.clone();
            let shape = (row.cloud, name.clone());
            catalog.shapes.insert(shape, Arc::clone(&row.shape));
            let key = (row.cloud, row.region.clone(), name);
            catalog.rows.insert(key, row);
        }
        catalog
    }

    /// Every row, ordered by cloud, region and instance type.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// Where the facts come from.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The machine of that name, whatever the region; `None` when the catalog does not know it.
    #[must_use]
    pub fn shape(&self, cloud: CloudKind, instance_type: &str) -> Option<&Arc<Shape>> {
        self.shapes.get(&(cloud, instance_type.to_owned()))
    }

    /// The machine in that region.
    #[must_use]
    pub fn row(&self, cloud: CloudKind, region: &str, instance_type: &str) -> Option<&Row> {
        let key = (cloud, region.to_owned(), instance_type.to_owned());
        self.rows.get(&key)
    }

    /// The price of `offering` in its market; `None` when it is not known, or the offering not a cloud's.
    #[must_use]
    pub fn price(&self, offering: &Offering) -> Option<Price> {
        let cloud = offering.kind().parse().ok()?;
        let market = offering.market();
        self.row(cloud, offering.region(), offering.instance_type())?
            .price(market)
            .cloned()
    }

    /// What fits `query`, best first; see [`Query`] for the order. Nothing that fits gives an empty list.
    #[must_use]
    pub fn find(&self, query: &Query) -> Vec<Row> {
        query.pick(self.rows())
    }

    /// The regions of `cloud` that the catalog knows, each once, in order.
    #[must_use]
    pub fn regions(&self, cloud: CloudKind) -> Vec<String> {
        let mut regions: Vec<String> = self
            .rows()
            .filter(|row| row.cloud == cloud)
            .map(|row| row.region.clone())
            .collect();
        regions.dedup();
        regions
    }

    /// Takes over prices from live lists: a quote replaces an older price of the same machine, region and
    /// market, and adds a row for a known machine in a new region. Returns how many were taken; quotes of
    /// unknown machines, of zero, and those older than what is here are not.
    pub fn merge<'a>(&mut self, quotes: impl IntoIterator<Item = &'a Quote>) -> usize {
        let mut names: BTreeMap<&str, Arc<str>> = BTreeMap::new();
        let mut taken = 0;
        for quote in quotes {
            let name = names
                .entry(&quote.source)
                .or_insert_with(|| quote.source.as_str().into());
            taken += usize::from(self.take(quote, name));
        }
        taken
    }

    fn take(&mut self, quote: &Quote, source: &Arc<str>) -> bool {
        let Some(shape) = self.shape(quote.cloud, &quote.instance_type).cloned() else {
            return false;
        };
        if quote.hourly == MicroUsd(0) {
            return false;
        }
        let key = (
            quote.cloud,
            quote.region.clone(),
            quote.instance_type.clone(),
        );
        let row = self.rows.entry(key).or_insert_with(|| Row {
            cloud: quote.cloud,
            region: quote.region.clone(),
            zone: None,
            instance_type: quote.instance_type.clone(),
            shape,
            availability: Availability::Priced,
            on_demand: None,
            spot: None,
        });
        let place = match quote.market {
            Market::OnDemand => &mut row.on_demand,
            Market::Spot => &mut row.spot,
        };
        if place.as_ref().is_some_and(|old| old.at > quote.at) {
            return false;
        }
        *place = Some(Price {
            hourly: quote.hourly,
            market: quote.market,
            at: quote.at,
            source: Arc::clone(source),
        });
        true
    }
}

// === impl Source ===

impl Source {
    /// Midnight (UTC) of a day such as `2026-07-20`; `None` when it is no day since 1970.
    #[must_use]
    pub fn midnight(day: &str) -> Option<Millis> {
        let day: jiff::civil::Date = day.parse().ok()?;
        let stamp = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        u64::try_from(stamp.as_millisecond()).ok().map(Millis)
    }
}

// === impl Row ===

impl Row {
    /// The price in `market`.
    #[must_use]
    pub fn price(&self, market: Market) -> Option<&Price> {
        match market {
            Market::OnDemand => self.on_demand.as_ref(),
            Market::Spot => self.spot.as_ref(),
        }
    }

    /// The lower of the known prices; `None` when none is known.
    #[must_use]
    pub fn lowest(&self) -> Option<&Price> {
        [self.on_demand.as_ref(), self.spot.as_ref()]
            .into_iter()
            .flatten()
            .min_by_key(|price| price.hourly)
    }
}

// === impl Shape ===

impl Shape {
    /// What `hourly` for the machine comes to for one whole GPU, rounded down.
    #[must_use]
    pub fn per_gpu_hour(&self, hourly: MicroUsd) -> MicroUsd {
        let parts = u128::from(self.gpus) * u128::from(self.part.0);
        ratio(u128::from(hourly.0) * 1000, parts)
    }

    /// What `hourly` for the machine comes to for one GiB of GPU memory, rounded down.
    #[must_use]
    pub fn per_gib_hour(&self, hourly: MicroUsd) -> MicroUsd {
        let bytes = u128::from(self.gpus) * u128::from(self.gpu_memory.0);
        ratio(u128::from(hourly.0) << 30, bytes)
    }
}

fn ratio(above: u128, below: u128) -> MicroUsd {
    MicroUsd(u64::try_from(above / below.max(1)).unwrap_or(u64::MAX))
}

// === impl CloudKind ===

impl CloudKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Aws, Self::Gcp, Self::Azure];

    /// `aws`, `gcp` or `azure`: as in offerings and HCL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
        }
    }
}

impl fmt::Display for CloudKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for CloudKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|cloud| cloud.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not \"aws\", \"gcp\" or \"azure\""))
    }
}

// === impl Availability ===

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listed => "listed",
            Self::Priced => "priced",
            Self::Offered => "offered",
        })
    }
}

#[cfg(test)]
mod tests;
