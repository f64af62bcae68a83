//! What a cloud offers: a place, a machine and a market.

use std::fmt;

use gpuloom_fleet::{Bytes, GpuShape, Market, MicroUsd, Millis, PoolPlace, PoolSpec};
use serde::{Deserialize, Serialize};

/// Something a cloud offers, as one text: `kind/region/zone/instance_type/market`.
///
/// E.g. `aws/us-east-1/subnet-0a/g4dn.xlarge/spot`, `gcp/us-central1/us-central1-a/g2-standard-4/on-demand`,
/// `azure/eastus/1/Standard_NC4as_T4_v3/spot`; the zone is `-` when the cloud chooses it. This machine's are
/// shorter: `local/T4x1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Offering(pub String);

/// An offering with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// Which.
    pub offering: Offering,
    /// The GPUs of one instance; `None`: none.
    pub gpu: Option<GpuShape>,
    /// Memory of each GPU, when known.
    pub gpu_memory_each: Option<Bytes>,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// The machine's memory.
    pub memory: Bytes,
    /// Price of one hour of the whole instance; `None` is unknown, never zero.
    pub hourly: Option<MicroUsd>,
    /// When the price was looked up.
    pub price_at: Option<Millis>,
}

// === impl Offering ===

impl Offering {
    /// Most of one call on AWS (`CreateFleet` overrides that stay readable) and on Google Cloud (instance flexibility
    /// policy). Azure and this machine take one at a time.
    const TOGETHER_AWS: usize = 50;
    const TOGETHER_GCP: usize = 10;

    /// An offering of a cloud. `zone` is `-` when the cloud chooses.
    #[must_use]
    pub fn new(kind: &str, region: &str, zone: &str, instance_type: &str, market: Market) -> Self {
        Self(format!("{kind}/{region}/{zone}/{instance_type}/{market}"))
    }

    /// What the local pool `spec` is made of.
    #[must_use]
    pub fn local(gpu: &GpuShape) -> Self {
        Self(format!("local/{}x{}", gpu.model, gpu.per_node))
    }

    /// What a pool may be made of without asking anybody: a local pool's one offering; empty for every other.
    #[must_use]
    pub fn of_pool(spec: &PoolSpec) -> Vec<Self> {
        match spec.place {
            PoolPlace::Local => vec![Self::local(&spec.gpu)],
            _ => Vec::new(),
        }
    }

    /// `aws`, `gcp`, `azure` or `local`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.part(0)
    }

    /// E.g. `us-east-1`; empty for `local`.
    #[must_use]
    pub fn region(&self) -> &str {
        if self.is_whole() { self.part(1) } else { "" }
    }

    /// The subnet (AWS) or zone; `-` when the cloud chooses it.
    #[must_use]
    pub fn zone(&self) -> &str {
        if self.is_whole() { self.part(2) } else { "-" }
    }

    /// E.g. `g4dn.xlarge`; the machine's GPUs (`T4x1`) for `local`.
    #[must_use]
    pub fn instance_type(&self) -> &str {
        self.part(if self.is_whole() { 3 } else { 1 })
    }

    /// On-demand unless it says spot.
    #[must_use]
    pub fn market(&self) -> Market {
        self.part(4).parse().unwrap_or_default()
    }

    /// How many of `ranked`, from the front, one call may ask for: those of the first one's kind, region and market,
    /// up to the kind's limit. 0 only when there are none.
    #[must_use]
    pub fn together(ranked: &[Self]) -> usize {
        let Some(first) = ranked.first() else {
            return 0;
        };
        let most = match first.kind() {
            "aws" => Self::TOGETHER_AWS,
            "gcp" => Self::TOGETHER_GCP,
            _ => 1,
        };
        let like_first = |o: &&Self| {
            o.kind() == first.kind() && o.region() == first.region() && o.market() == first.market()
        };
        ranked.iter().take(most).take_while(like_first).count()
    }

    fn is_whole(&self) -> bool {
        self.0.split('/').count() >= 5
    }

    fn part(&self, n: usize) -> &str {
        self.0.split('/').nth(n).unwrap_or_default()
    }
}

impl fmt::Display for Offering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Offered {
    /// The one offering of this machine; its price is not known.
    #[must_use]
    pub fn local(gpu: &GpuShape) -> Self {
        Self {
            offering: Offering::local(gpu),
            gpu: Some(gpu.clone()),
            gpu_memory_each: None,
            vcpus: 0,
            memory: Bytes(0),
            hourly: None,
            price_at: None,
        }
    }

    /// Ranks `offered` for a pool: in the order given when the place states instance types, else by the price of an
    /// hour with unknown last; equal ones keep their order.
    #[must_use]
    pub fn ranked(place: &PoolPlace, mut offered: Vec<Self>) -> Vec<Self> {
        if place.instance_types().is_empty() {
            offered.sort_by_key(|o| (o.hourly.is_none(), o.hourly));
        }
        offered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offering(text: &str) -> Offering {
        Offering(text.to_owned())
    }

    #[test]
    fn an_offering_says_its_parts() {
        let o = Offering::new("aws", "us-east-1", "subnet-0a", "g4dn.xlarge", Market::Spot);
        assert_eq!(o.0, "aws/us-east-1/subnet-0a/g4dn.xlarge/spot");
        assert_eq!(
            (
                o.kind(),
                o.region(),
                o.zone(),
                o.instance_type(),
                o.market()
            ),
            ("aws", "us-east-1", "subnet-0a", "g4dn.xlarge", Market::Spot)
        );
        let local = offering("local/T4x1");
        assert_eq!(
            (
                local.kind(),
                local.region(),
                local.zone(),
                local.instance_type()
            ),
            ("local", "", "-", "T4x1")
        );
        assert_eq!(local.market(), Market::OnDemand);
    }

    #[test]
    fn one_call_takes_what_its_cloud_takes_together() {
        let many = |kind: &str, n: usize| -> Vec<_> {
            (0..n)
                .map(|i| Offering::new(kind, "r", &format!("z{i}"), "t", Market::Spot))
                .collect()
        };
        for (kind, most) in [("aws", 50), ("gcp", 10), ("azure", 1)] {
            assert_eq!(Offering::together(&many(kind, 60)), most, "{kind}");
        }
        assert_eq!(Offering::together(&[]), 0);
        assert_eq!(Offering::together(&[offering("local/T4x1")]), 1);
        let mixed = [
            offering("aws/a/x/t/spot"),
            offering("aws/a/y/t/spot"),
            offering("aws/a/y/t/on-demand"),
            offering("aws/a/z/t/spot"),
        ];
        assert_eq!(Offering::together(&mixed), 2, "one market in a call");
    }

    #[test]
    fn stated_types_keep_their_order_and_unknown_prices_come_last() {
        let offered = |name: &str, hourly: Option<u64>| Offered {
            offering: offering(name),
            gpu: None,
            gpu_memory_each: None,
            vcpus: 4,
            memory: Bytes::gib(16),
            hourly: hourly.map(MicroUsd),
            price_at: None,
        };
        let all = vec![
            offered("a", None),
            offered("b", Some(2)),
            offered("c", Some(0)),
            offered("d", Some(2)),
        ];
        let names = |place: &PoolPlace| -> Vec<_> {
            Offered::ranked(place, all.clone())
                .into_iter()
                .map(|o| o.offering.0)
                .collect()
        };
        let mut place = gpuloom_fleet::AwsPlace::default();
        assert_eq!(
            names(&PoolPlace::Aws(Box::new(place.clone()))),
            ["c", "b", "d", "a"]
        );
        place.instance_types = vec!["t".to_owned()];
        assert_eq!(
            names(&PoolPlace::Aws(Box::new(place))),
            ["a", "b", "c", "d"]
        );
    }
}
