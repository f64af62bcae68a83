//! What a cloud's driver offered to an account, beside what the catalog knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gpuloom_cloud::Offered;
use gpuloom_fleet::{Market, MilliGpu, Millis};

use crate::catalog::{Availability, Catalog, CloudKind, Row, Shape};
use crate::price::Price;
use crate::query::Query;

type Key = (CloudKind, String, String, String);

// === impl Catalog ===

impl Catalog {
    /// What fits `query` of `offered` and, in the regions that nothing was offered of, of the catalog; best first.
    /// A price that a driver knows counts before the catalog's. What has no GPUs, or GPUs whose memory nobody knows,
    /// is left out.
    #[must_use]
    pub fn find_among(&self, query: &Query, offered: &[Offered], now: Millis) -> Vec<Row> {
        let mut rows: BTreeMap<Key, Row> = BTreeMap::new();
        for offer in offered {
            self.add(offer, now, &mut rows);
        }
        let asked: BTreeSet<(CloudKind, &str)> = rows
            .values()
            .map(|r| (r.cloud, r.region.as_str()))
            .collect();
        let others = self
            .rows()
            .filter(|r| !asked.contains(&(r.cloud, r.region.as_str())));
        query.pick(rows.values().chain(others))
    }

    fn add(&self, offer: &Offered, now: Millis, rows: &mut BTreeMap<Key, Row>) {
        let offering = &offer.offering;
        let Ok(cloud) = offering.kind().parse::<CloudKind>() else {
            return;
        };
        let Some(shape) = self.shape_of(cloud, offer, now) else {
            return;
        };
        let (region, name) = (
            offering.region().to_owned(),
            offering.instance_type().to_owned(),
        );
        let zone = offering.zone().to_owned();
        let known = self.row(cloud, &region, &name);
        let row = rows
            .entry((cloud, region.clone(), name.clone(), zone.clone()))
            .or_insert_with(|| Row {
                cloud,
                region,
                zone: (zone != "-").then_some(zone),
                instance_type: name,
                shape,
                availability: Availability::Offered,
                on_demand: known.and_then(|r| r.on_demand.clone()),
                spot: known.and_then(|r| r.spot.clone()),
            });
        let market = offering.market();
        let price = offer.hourly.filter(|p| p.0 > 0).map(|hourly| Price {
            hourly,
            market,
            at: offer.price_at.unwrap_or(now),
            source: format!("{cloud}-driver").into(),
        });
        let place = match market {
            Market::OnDemand => &mut row.on_demand,
            Market::Spot => &mut row.spot,
        };
        if price.is_some() {
            *place = price;
        }
    }

    fn shape_of(&self, cloud: CloudKind, offer: &Offered, now: Millis) -> Option<Arc<Shape>> {
        if let Some(shape) = self.shape(cloud, offer.offering.instance_type()) {
            return Some(Arc::clone(shape));
        }
        let gpu = offer.gpu.as_ref()?;
        Some(Arc::new(Shape {
            model: gpu.model.clone(),
            gpus: gpu.per_node,
            part: MilliGpu::ONE,
            gpu_memory: offer.gpu_memory_each.or_else(|| gpu.model.memory())?,
            vcpus: offer.vcpus,
            memory: offer.memory,
            source: format!("{cloud}-driver").into(),
            at: now,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::unpack;
    use gpuloom_cloud::Offering;
    use gpuloom_fleet::{Bytes, GpuModel, GpuShape, MicroUsd};

    const CATALOG: &str = "\
source s 2026-01-01 x
type aws g4dn.xlarge T4 1 1000 16384 4 16384 s
price s us-east-1=526000 us-west-2=530000
type gcp n1-standard-8 T4 1 1000 16384 8 30720 s
";

    fn offered(text: &str, hourly: Option<u64>, model: Option<&str>) -> Offered {
        Offered {
            offering: Offering(text.to_owned()),
            gpu: model.map(|m| GpuShape {
                model: GpuModel::new(m).expect("a name"),
                per_node: 1,
            }),
            gpu_memory_each: None,
            vcpus: 4,
            memory: Bytes::gib(16),
            hourly: hourly.map(MicroUsd),
            price_at: None,
        }
    }

    #[test]
    fn what_a_driver_offers_stands_for_its_region_by_zone_and_market() {
        let catalog = unpack(CATALOG).expect("reads");
        let all = [
            offered(
                "aws/us-east-1/subnet-a/g4dn.xlarge/on-demand",
                None,
                Some("T4"),
            ),
            offered(
                "aws/us-east-1/subnet-a/g4dn.xlarge/spot",
                Some(158_000),
                Some("T4"),
            ),
            offered(
                "aws/us-east-1/subnet-b/g4dn.xlarge/spot",
                Some(0),
                Some("T4"),
            ),
            offered(
                "aws/us-east-1/subnet-a/g9.xlarge/spot",
                Some(90_000),
                Some("T4"),
            ),
            offered("aws/us-east-1/subnet-a/g9.huge/spot", Some(9), Some("X1")),
            offered("aws/us-east-1/subnet-a/m5.large/spot", Some(9), None),
            offered("local/T4x1", Some(9), Some("T4")),
        ];
        let now = Millis(7);
        let found = catalog.find_among(&Query::default(), &all, now);
        let shown: Vec<_> = found
            .iter()
            .map(|r| {
                let zone = r.zone.as_deref().unwrap_or("-");
                let price = |m| r.price(m).map(|p| p.hourly.0);
                let prices = (price(Market::OnDemand), price(Market::Spot));
                (r.region.as_str(), zone, r.instance_type.as_str(), prices)
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("us-east-1", "subnet-a", "g9.xlarge", (None, Some(90_000))),
                (
                    "us-east-1",
                    "subnet-a",
                    "g4dn.xlarge",
                    (Some(526_000), Some(158_000))
                ),
                (
                    "us-east-1",
                    "subnet-b",
                    "g4dn.xlarge",
                    (Some(526_000), None)
                ),
                ("us-west-2", "-", "g4dn.xlarge", (Some(530_000), None)),
            ]
        );
        assert_eq!(found[0].availability, Availability::Offered);
        assert_eq!(found[0].shape.gpu_memory, Bytes::gib(16), "the model's own");
        let spot = found[0].spot.as_ref().expect("a price");
        assert_eq!((spot.at, &*spot.source), (now, "aws-driver"));
        assert_eq!(found[3].availability, Availability::Priced);
    }
}
