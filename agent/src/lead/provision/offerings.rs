//! What each pool may be made of, best first: asked of its cloud, priced, and remembered for a while.

use gpuloom_cloud::{Cloud, CloudError, Offered, Offering};
use gpuloom_cloud_catalog::Catalog;
use gpuloom_fleet::{Millis, PoolName, PoolPlace, PoolSpec, Seconds};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How long an answer is believed.
const KEPT: Seconds = Seconds(600);
/// How long after a failed question it is not asked again.
const RETRY: Seconds = Seconds(5);

/// The answers of all pools.
#[derive(Debug, Default)]
pub(crate) struct Offerings(Mutex<BTreeMap<PoolName, Answer>>);

#[derive(Debug, Clone)]
struct Answer {
    /// What was asked about.
    revision: String,
    ask_again: Millis,
    ranked: Ranked,
}

/// The offerings of a pool, best first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranked {
    pub(crate) offerings: Vec<Offering>,
    /// Why there are none, for the pool's owner; empty when there are, or when it is worth asking again at once.
    pub(crate) problem: String,
}

// === impl Offerings ===

impl Offerings {
    /// The offerings of `spec`'s pool. When its cloud does not answer, those it named before.
    pub(crate) async fn ranked(&self, cloud: &dyn Cloud, spec: &PoolSpec, now: Millis) -> Ranked {
        if spec.place == PoolPlace::Local {
            return Ranked {
                offerings: Offering::of_pool(spec),
                problem: String::new(),
            };
        }
        let revision = spec.revision();
        let known = self.known(&spec.name).filter(|a| a.revision == revision);
        if let Some(answer) = known.as_ref().filter(|a| a.ask_again > now) {
            return answer.ranked.clone();
        }
        let asked = cloud.offerings(&spec.place, Some(&spec.gpu)).await;
        let (ranked, again) = match asked {
            Ok(offered) => (rank(spec, offered), KEPT),
            Err(error) => {
                tracing::warn!(pool = %spec.name, %error, "the place does not say what it offers");
                let before = known.map(|a| a.ranked).filter(|r| !r.offerings.is_empty());
                (before.unwrap_or_else(|| unknown(&error)), RETRY)
            }
        };
        let answer = Answer {
            revision,
            ask_again: now.plus(again),
            ranked: ranked.clone(),
        };
        self.all().insert(spec.name.clone(), answer);
        ranked
    }

    /// Forgets what is known for pools that are gone.
    pub(crate) fn retain(&self, pools: &[PoolName]) {
        self.all().retain(|name, _| pools.contains(name));
    }

    fn known(&self, pool: &PoolName) -> Option<Answer> {
        self.all().get(pool).cloned()
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<PoolName, Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rank(spec: &PoolSpec, mut offered: Vec<Offered>) -> Ranked {
    for o in &mut offered {
        if o.hourly.is_none()
            && let Some(price) = Catalog::embedded().price(&o.offering)
        {
            o.hourly = Some(price.hourly);
        }
    }
    let ranked = Offered::ranked(&spec.place, offered);
    let offerings: Vec<_> = ranked.into_iter().map(|o| o.offering).collect();
    let problem = match offerings.is_empty() {
        true => nothing_fits(spec),
        false => String::new(),
    };
    Ranked { offerings, problem }
}

fn nothing_fits(spec: &PoolSpec) -> String {
    let types = match spec.place.instance_types() {
        [] => "no instance type".to_owned(),
        stated => format!("none of {}", stated.join(", ")),
    };
    let zones = match spec.place.zones() {
        [] => String::new(),
        zones => format!(" ({})", zones.join(", ")),
    };
    format!(
        "{types} of {}{zones} has {} x {}: choose instance types, zones or gpu that fit each other",
        spec.place.region().unwrap_or_default(),
        spec.gpu.per_node,
        spec.gpu.model,
    )
}

/// What the owner is told; nothing when asking again helps by itself.
fn unknown(error: &CloudError) -> Ranked {
    use gpuloom_cloud::FailureClass as Class;
    let passing = matches!(error.class, Class::Transient | Class::Throttled);
    let problem = match passing {
        true => String::new(),
        false => format!("its place does not say what it offers: {error}"),
    };
    Ranked {
        offerings: Vec::new(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lead::state::tests::pool;
    use gpuloom_cloud::{FakeCloud, Faults};
    use gpuloom_fleet::{AwsPlace, Bytes, Market, MicroUsd};

    fn offered(instance_type: &str, hourly: Option<u64>) -> Offered {
        let o = Offering::new("aws", "moon-1", "subnet-a", instance_type, Market::OnDemand);
        Offered {
            offering: o,
            gpu: None,
            gpu_memory_each: None,
            vcpus: 4,
            memory: Bytes::gib(16),
            hourly: hourly.map(MicroUsd),
            price_at: None,
        }
    }

    #[tokio::test]
    async fn offerings_are_ranked_by_price_and_asked_for_every_ten_minutes() {
        let (cloud, offerings) = (FakeCloud::new(), Offerings::default());
        let mut spec = pool("t4");
        spec.place = PoolPlace::Aws(Box::new(AwsPlace {
            region: "moon-1".to_owned(),
            ..AwsPlace::default()
        }));
        let with = |offered: Vec<Offered>, no_listing| Faults {
            offered,
            no_listing,
            ..Faults::default()
        };
        cloud.set(with(Vec::new(), true));
        let none = offerings.ranked(&cloud, &spec, Millis(0)).await;
        assert_eq!(none, Ranked::default(), "it passes: nothing is said");
        let three = vec![
            offered("unknown", None),
            offered("dear", Some(2)),
            offered("cheap", Some(1)),
        ];
        cloud.set(with(three, false));
        let early = offerings.ranked(&cloud, &spec, Millis(4_999)).await;
        assert_eq!(early, none);
        let at = |ms| offerings.ranked(&cloud, &spec, Millis(ms));
        let first = at(5_000).await;
        let types: Vec<_> = first
            .offerings
            .iter()
            .map(Offering::instance_type)
            .collect();
        assert_eq!(types, ["cheap", "dear", "unknown"]);
        cloud.set(with(vec![offered("new", Some(1))], true));
        assert_eq!(at(604_999).await, first);
        assert_eq!(
            at(605_000).await,
            first,
            "what was known, rather than nothing"
        );
        cloud.set(with(vec![offered("new", Some(1))], false));
        assert_eq!(at(610_000).await.offerings.len(), 1);
        offerings.retain(&[]);
        assert!(offerings.known(&spec.name).is_none());
    }
}
