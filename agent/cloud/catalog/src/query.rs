//! What to look for in the catalog, and what comes first.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use gpuloom_fleet::{Bytes, GpuModel, Market, MicroUsd};

use crate::catalog::{CloudKind, Row};

/// What a row must be. The default fits every row with whole GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only these clouds; empty: all.
    pub clouds: BTreeSet<CloudKind>,
    /// Only these regions; empty: all.
    pub regions: BTreeSet<String>,
    /// Only these instance types; empty: all.
    pub instance_types: BTreeSet<String>,
    /// Exactly this model.
    pub model: Option<GpuModel>,
    /// Exactly this many devices.
    pub gpus: Option<u32>,
    /// At least so much memory on each device.
    pub min_gpu_memory: Option<Bytes>,
    /// The market whose price counts; `None`: the lower of the known ones. Rows without that price stay, last.
    pub market: Option<Market>,
    /// Machines with a part of a GPU, too.
    pub parts: bool,
    /// What comes first.
    pub order: Order,
    /// At most so many rows; `None`: all.
    pub limit: Option<usize>,
}

/// By which price rows are ordered. Unknown prices come last; equal ones by cloud, region, instance type
/// and zone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Per whole GPU and hour.
    #[default]
    PerGpuHour,
    /// Per GiB of GPU memory and hour.
    PerGib,
}

// === impl Query ===

impl Query {
    /// True when `row` fits.
    #[must_use]
    pub fn fits(&self, row: &Row) -> bool {
        let shape = &row.shape;
        let whole = shape.part.0 == 1000;
        (self.clouds.is_empty() || self.clouds.contains(&row.cloud))
            && (self.regions.is_empty() || self.regions.contains(&row.region))
            && (self.instance_types.is_empty() || self.instance_types.contains(&row.instance_type))
            && self.model.as_ref().is_none_or(|m| *m == shape.model)
            && self.gpus.is_none_or(|n| n == shape.gpus)
            && self.min_gpu_memory.is_none_or(|m| shape.gpu_memory >= m)
            && (whole || self.parts)
    }

    /// The price of `row` that counts here.
    #[must_use]
    pub fn price(&self, row: &Row) -> Option<MicroUsd> {
        match self.market {
            Some(market) => row.price(market).map(|p| p.hourly),
            None => row.lowest().map(|p| p.hourly),
        }
    }

    pub(crate) fn pick<'a>(&self, rows: impl Iterator<Item = &'a Row>) -> Vec<Row> {
        let mut found: Vec<&Row> = rows.filter(|row| self.fits(row)).collect();
        found.sort_by(|a, b| self.compare(a, b));
        let limit = self.limit.unwrap_or(usize::MAX);
        found.into_iter().take(limit).cloned().collect()
    }

    /// What comes first of `a` and `b`: exact, without rounding.
    #[must_use]
    pub fn compare(&self, a: &Row, b: &Row) -> Ordering {
        let by_price = match (self.price(a), self.price(b)) {
            // p / u < q / v when p * v < q * u.
            (Some(p), Some(q)) => {
                let (left, right) = (self.units(b), self.units(a));
                wide(p, left).cmp(&wide(q, right))
            }
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        by_price.then_with(|| name(a).cmp(&name(b)))
    }

    /// What the price is divided by: thousandths of GPUs, or bytes; at most 2^74 for what a u32 and a u64 say.
    fn units(&self, row: &Row) -> u128 {
        let gpus = u128::from(row.shape.gpus);
        match self.order {
            Order::PerGpuHour => gpus * u128::from(row.shape.part.0),
            Order::PerGib => gpus * u128::from(row.shape.gpu_memory.0),
        }
    }
}

fn name(row: &Row) -> (CloudKind, &str, &str, Option<&str>) {
    let zone = row.zone.as_deref();
    (row.cloud, &row.region, &row.instance_type, zone)
}

/// Saturates: prices are at most 2^40, so what machines have would have to exceed 2^88 units.
fn wide(price: MicroUsd, units: u128) -> u128 {
    u128::from(price.0).saturating_mul(units)
}
