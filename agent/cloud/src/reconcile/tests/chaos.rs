//! Leads that die at any step, clouds that lose three calls in ten: nothing is left over, nothing is there twice.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::FutureExt as _;
use gpuloom_fleet::{GpuShape, Market, PoolPlace};

use super::clouds::{aws, four};
use super::*;
use crate::{Chaos, CloudError, LaunchError, LaunchRequest, Launched, MemberNode, Offered};

const MAX: u32 = 8;
/// One turn of the clock.
const TURN_MS: u64 = 5_000;

/// A cloud and a book whose user dies after so many steps: from then on nothing answers.
#[derive(Debug)]
struct Mortal<'a> {
    cloud: &'a FakeCloud,
    book: &'a MemoryBook,
    steps: AtomicU32,
}

impl Mortal<'_> {
    async fn step(&self) {
        let left = self.steps.load(Ordering::Relaxed);
        if left == 0 {
            std::future::pending::<()>().await;
        }
        self.steps.store(left - 1, Ordering::Relaxed);
    }
}

#[async_trait::async_trait]
impl Cloud for Mortal<'_> {
    async fn offerings(
        &self,
        place: &PoolPlace,
        gpu: Option<&GpuShape>,
    ) -> Result<Vec<Offered>, CloudError> {
        self.cloud.offerings(place, gpu).await
    }
    async fn launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchError> {
        self.step().await;
        let answer = self.cloud.launch(request).await;
        self.step().await;
        answer
    }
    async fn list(&self, tags: &Tags) -> Result<Vec<Instance>, CloudError> {
        self.cloud.list(tags).await
    }
    async fn start(&self, id: &InstanceId) -> Result<Instance, LaunchError> {
        self.cloud.start(id).await
    }
    async fn terminate(&self, id: &InstanceId) -> Result<(), CloudError> {
        self.step().await;
        let answer = self.cloud.terminate(id).await;
        self.step().await;
        answer
    }
    async fn read_attribute(
        &self,
        id: &InstanceId,
        key: &str,
    ) -> Result<Option<String>, CloudError> {
        self.cloud.read_attribute(id, key).await
    }
    async fn write_attribute(
        &self,
        id: &InstanceId,
        key: &str,
        value: &str,
    ) -> Result<(), CloudError> {
        self.cloud.write_attribute(id, key, value).await
    }
}

#[async_trait::async_trait]
impl LaunchBook for Mortal<'_> {
    async fn store(&self, record: &LaunchRecord) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.step().await;
        self.book.store(record).await?;
        self.step().await;
        Ok(())
    }
    async fn forget(&self, launch: LaunchId) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.step().await;
        self.book.forget(launch).await
    }
    async fn request(
        &self,
        record: &LaunchRecord,
    ) -> Result<LaunchRequest, Box<dyn Error + Send + Sync>> {
        self.book.request(record).await
    }
}

/// A fleet of one pool over time.
struct World {
    cloud: FakeCloud,
    book: MemoryBook,
    spec: PoolSpec,
    outages: Outages,
    joined: BTreeSet<InstanceId>,
    now: u64,
    next: u64,
    chance: u64,
}

impl World {
    fn new(seed: u64, rate_milli: u64) -> Self {
        let cloud = FakeCloud::new();
        let chaos = Chaos {
            seed: seed * 7919 + 13,
            rate_milli,
            most_lag: 2,
        };
        cloud.set(Faults {
            chaos: Some(chaos),
            ..Faults::default()
        });
        Self {
            cloud,
            book: MemoryBook::default(),
            spec: aws(MAX, 500, 1),
            outages: Outages::default(),
            joined: BTreeSet::new(),
            now: 1_000_000,
            next: 1,
            chance: seed,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % below
    }

    /// One turn of the lead; `steps` of it are done before it dies.
    fn turn(&mut self, wanted: u32, steps: u32) {
        self.now += TURN_MS;
        let now = Millis(self.now);
        let truth = self.cloud.truth();
        self.joined.extend(truth.iter().map(|i| i.id.clone()));
        let nodes = self.joined.iter().map(|id| {
            let there = truth.iter().any(|i| i.id == *id);
            let node = MemberNode {
                reporting: there,
                ready: there,
                ..MemberNode::default()
            };
            (id.clone(), node)
        });
        let tags = Tags::of_pool(&fleet(), &self.spec.name);
        let m = Members {
            listed: block_on(self.cloud.list(&tags)).ok(),
            launches: self.book.records(),
            nodes: nodes.collect(),
            offerings: four(),
            next_launch: LaunchId(self.next),
            listing_lag: Seconds(60),
            ..members(wanted)
        };
        let plan = reconcile(&self.spec, &m, &self.outages, now);
        // The lead stores which numbers it gave out before it does anything.
        self.next += 100;
        let mortal = Mortal {
            cloud: &self.cloud,
            book: &self.book,
            steps: AtomicU32::new(steps),
        };
        match carry_out(&plan, &mortal, &mortal, now).now_or_never() {
            None => self.outages = Outages::default(),
            Some(outcomes) => {
                for outcome in outcomes {
                    if let Outcome::Refused {
                        offerings, error, ..
                    } = outcome
                    {
                        self.outages.note_refusal(&offerings, &error, now);
                    }
                }
            }
        }
        let tokens: Vec<_> = self.cloud.truth().into_iter().map(|i| i.token).collect();
        let distinct: BTreeSet<_> = tokens.iter().collect();
        assert_eq!(distinct.len(), tokens.len(), "a token launched twice");
        let most = self.cloud.calls().most;
        assert!(most <= MAX as usize, "{most} instances, max is {MAX}");
    }

    /// Something happens, then a turn.
    fn happen(&mut self, mortal: bool) -> u32 {
        let wanted = u32::try_from(self.draw(u64::from(MAX) + 1)).expect("small");
        for _ in 0..6 {
            match self.draw(8) {
                0 => {
                    let ratio = self.draw(1001);
                    self.spec.capacity.spot_ratio_milli = u32::try_from(ratio).expect("small");
                }
                1 => {
                    let image = self.draw(3).to_string();
                    self.spec.labels.insert("image".to_owned(), image);
                }
                2 => {
                    let truth = self.cloud.truth();
                    if let Some(i) = truth.first() {
                        self.cloud.kill(&i.id);
                    }
                }
                _ => {}
            }
            let steps = match mortal && self.draw(3) == 0 {
                true => u32::try_from(self.draw(24)).expect("small"),
                false => u32::MAX,
            };
            self.turn(wanted, steps);
        }
        wanted
    }

    /// Turns until nothing is left to do; bounded.
    fn settle(&mut self, wanted: u32) {
        for _ in 0..400 {
            self.turn(wanted, u32::MAX);
            let truth = self.cloud.truth();
            let spot = truth.iter().filter(|i| i.offering.market() == Market::Spot);
            let exact = spot.count() == self.spec.capacity.spot_of(wanted) as usize;
            let revision = self.spec.revision();
            let new = truth.iter().all(|i| i.revision() == Some(&revision));
            let known = self.book.records().len() == truth.len();
            if truth.len() == wanted as usize && exact && new && known {
                return;
            }
        }
        panic!(
            "no end: {wanted} wanted, there are {:#?}, records {:#?}",
            self.cloud.truth(),
            self.book.records()
        );
    }
}

fn story(seed: u64, mortal: bool) -> (u64, u64) {
    let mut world = World::new(seed, 300);
    for _ in 0..6 {
        let wanted = world.happen(mortal);
        world.settle(wanted);
    }
    world.settle(0);
    assert!(world.book.records().is_empty());
    let calls = world.cloud.calls();
    (
        calls.launches + calls.terminations + calls.starts,
        calls.made + calls.ended,
    )
}

#[test]
fn at_three_faults_in_ten_every_pool_ends_exact_and_calls_stay_few() {
    let (mut calls, mut operations) = (0, 0);
    for seed in 1..=24 {
        let (c, o) = story(seed, false);
        calls += c;
        operations += o;
    }
    assert!(operations >= 500, "{operations}");
    assert!(
        calls <= 3 * operations,
        "{calls} calls for {operations} operations"
    );
}

#[test]
fn leads_that_die_at_any_step_leave_nothing_and_launch_nothing_twice() {
    let (mut calls, mut operations) = (0, 0);
    for seed in 100..=123 {
        let (c, o) = story(seed, true);
        calls += c;
        operations += o;
    }
    assert!(
        calls <= 3 * operations,
        "{calls} calls for {operations} operations"
    );
}

#[test]
fn a_provider_that_destroys_while_a_lead_scales_leaves_no_node() {
    for seed in 200..=219 {
        let mut world = World::new(seed, 300);
        world.turn(MAX, u32::MAX);
        let steps = u32::try_from(world.draw(24)).expect("small");
        world.turn(3, steps);
        // The lead is gone for good; what it sent is listed sooner or later.
        let tags = Tags::of_fleet(&fleet());
        let mut empty = 0;
        while empty < 4 {
            let listed = block_on(world.cloud.list(&tags));
            empty = match &listed {
                Ok(l) if l.is_empty() => empty + 1,
                _ => 0,
            };
            for i in listed.unwrap_or_default() {
                let _ = block_on(world.cloud.terminate(&i.id));
            }
        }
        assert!(world.cloud.truth().is_empty());
    }
}
