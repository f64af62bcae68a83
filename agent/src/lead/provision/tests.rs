//! The pool loop over a cloud in memory, turn by turn, with a clock that the test moves.

use super::*;
use crate::lead::record::Piece;
use crate::lead::state::tests::pool;
use crate::lead::state::{CloudNotice, Declare, Draft, Keep, NodeSaid, Withdraw};
use gpuloom_cloud::{FakeCloud, Faults, Offered, Offering};
use gpuloom_fleet::{AwsPlace, Backend, Kind, Market, Object, OnDestroy, PoolPhase, PoolStatus};
use gpuloom_store::{OpenOptions, SqliteStore};
use std::sync::atomic::{AtomicU64, Ordering};

struct World {
    core: Core,
    provisioner: Provisioner,
    cloud: Arc<FakeCloud>,
    clock: Arc<AtomicU64>,
    outages: Outages,
    spec: PoolSpec,
}

fn offering(subnet: &str, market: Market) -> Offering {
    Offering::new("aws", "us-east-1", subnet, "g4dn.xlarge", market)
}

fn place() -> PoolPlace {
    PoolPlace::Aws(Box::new(AwsPlace {
        region: "us-east-1".to_owned(),
        subnets: vec!["subnet-a".to_owned(), "subnet-b".to_owned()],
        instance_types: vec!["g4dn.xlarge".to_owned()],
        image: "ami-1".to_owned(),
        root_disk_gib: 50,
        ..AwsPlace::default()
    }))
}

fn offered(offering: Offering) -> Offered {
    Offered {
        offering,
        gpu: None,
        gpu_memory_each: None,
        vcpus: 4,
        memory: gpuloom_fleet::Bytes::gib(16),
        hourly: None,
        price_at: None,
    }
}

/// Two subnets; so many fit into each.
fn room(a: usize, b: usize) -> Faults {
    let (a_, b_) = (
        offering("subnet-a", Market::OnDemand),
        offering("subnet-b", Market::OnDemand),
    );
    Faults {
        offered: vec![offered(a_.clone()), offered(b_.clone())],
        capacity: BTreeMap::from([(a_, a), (b_, b)]),
        ..Faults::default()
    }
}

impl World {
    /// A fleet with one pool on AWS of 3 nodes, at most 4.
    async fn new() -> Self {
        let store = SqliteStore::in_memory(OpenOptions::default()).expect("a store");
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let ticks = clock.clone();
        let (core, _writer) = Core::start(
            State::new(Keep::default()),
            Arc::new(store),
            Arc::new(move || Millis(ticks.load(Ordering::Relaxed))),
            CancellationToken::new(),
        );
        let cloud = Arc::new(FakeCloud::new());
        cloud.set(room(9, 9));
        let clouds = Clouds::new(Arc::new(FakeCloud::new()));
        clouds.put(&place(), cloud.clone()).await;
        let template = NodeTemplate {
            fleet: FleetName::new("ml").expect("a name"),
            fleet_id: "f1".to_owned(),
            endpoint: "10.0.0.5:7443".to_owned(),
            ca_pin: format!("sha256:{}", "0".repeat(64)),
            backend: Backend::Nvml,
            sim_state: None,
        };
        let provisioner = Provisioner {
            core: core.clone(),
            clouds: Arc::new(clouds),
            offerings: Arc::default(),
            book: Arc::new(Book::new(core.clone(), template)),
            fleet: FleetName::new("ml").expect("a name"),
            fleet_id: "f1".to_owned(),
            no_gpus: String::new(),
            numbers: Arc::default(),
        };
        let mut spec = pool("t4");
        spec.place = place();
        (spec.min, spec.max) = (3, 4);
        spec.on_destroy = OnDestroy::Kill;
        let declare = Declare {
            object: Object::Pool(spec.clone()),
            owner: "terraform".to_owned(),
            session: "s".to_owned(),
            expected_generation: 0,
        };
        let declare = move |s: &State, now| s.declare(&declare, "admin", now);
        core.write("declare", declare).await.expect("a pool");
        Self {
            core,
            provisioner,
            cloud,
            clock,
            outages: Outages::default(),
            spec,
        }
    }

    /// So many seconds later the lead looks at the pool.
    async fn turn(&mut self, later_s: u64) {
        self.clock.fetch_add(later_s * 1000, Ordering::Relaxed);
        let known = (self.outages.clone(), Millis(0));
        let name = self.spec.name.clone();
        self.outages = self.provisioner.turn(name, known, Millis(0)).await;
    }

    async fn status(&self) -> Option<PoolStatus> {
        let name = self.spec.name.clone();
        let read = self.core.read(move |s, _| s.pools.get(&name).cloned());
        read.await.expect("a lead")
    }

    /// The agent of an instance joins and reports; with a notice, if any.
    async fn report(&self, instance: &Instance, notice: Option<&str>) {
        let id = NodeId::new(instance.id.as_str()).expect("an id");
        let record = NodeRecord {
            id: id.clone(),
            pool: self.spec.name.clone(),
            joined_at: Millis(0),
            cordon: None,
            draining: false,
            agent_version: String::new(),
            endpoint: String::new(),
            backend: Backend::Nvml,
            devices: Vec::new(),
            capabilities: BTreeMap::new(),
            membership: crate::lead::record::Membership::default(),
        };
        let join = move |s: &State, _| {
            let mut draft = Draft::new(s);
            if !s.nodes.contains_key(&record.id) {
                draft.put(Piece::Node(record));
            }
            Ok((draft.finish(), ()))
        };
        self.core.write("join", join).await.expect("joined");
        self.core.connect(id.clone(), 1).await.expect("connected");
        let said = NodeSaid {
            notice: notice.map(|kind| CloudNotice {
                kind: kind.to_owned(),
                at: None,
            }),
            ..NodeSaid::default()
        };
        let taken = self.core.report(id, 1, said).await.expect("reported");
        assert!(taken);
    }

    async fn all_report(&self) {
        for instance in self.cloud.truth() {
            self.report(&instance, None).await;
        }
    }
}

#[tokio::test]
async fn a_cloud_pool_is_launched_by_script_without_any_token_and_restored_when_one_is_killed() {
    let mut w = World::new().await;
    w.turn(1).await;
    let there = w.cloud.truth();
    assert_eq!(there.len(), 3);
    for i in &there {
        assert_eq!(i.tags.get(Tags::FLEET_ID), Some("f1"));
        assert_eq!(i.revision(), Some(w.spec.revision().as_str()));
    }
    assert!(
        w.core
            .read(|s, _| s.tokens.is_empty())
            .await
            .expect("a lead")
    );
    let record = w.core.read(|s, _| s.launches.values().next().cloned());
    let record = record.await.expect("a lead").expect("a launch");
    assert!(matches!(record.state, LaunchState::Launched { .. }));
    let request = w
        .provisioner
        .book
        .request(&record)
        .await
        .expect("a request");
    let script = request.user_data.script;
    for told in [
        "10.0.0.5:7443",
        "join = \"instance\"",
        "cloud = \"aws\"",
        "pool = \"t4\"",
    ] {
        assert!(script.contains(told), "{told}: {script}");
    }
    assert_eq!(request.user_data.join_token, None);
    w.all_report().await;
    w.turn(1).await;
    let status = w.status().await.expect("there");
    assert_eq!((status.ready, status.phase), (3, PoolPhase::Ready));
    w.cloud.kill(&there[0].id);
    // It is not listed, but it was heard of just now; then it is silent.
    w.turn(1).await;
    assert_eq!(w.cloud.calls().made, 3);
    let tick = |s: &State, now| {
        Ok((
            s.node_gone(&NodeId::new("i-0001").expect("an id"), "silent", now),
            (),
        ))
    };
    w.core.write("node_gone", tick).await.expect("a lead");
    w.turn(61).await;
    assert_eq!((w.cloud.calls().made, w.cloud.truth().len()), (4, 3));
}

#[tokio::test]
async fn without_capacity_the_next_zone_is_had_and_when_all_fail_each_is_named() {
    let mut w = World::new().await;
    w.cloud.set(room(1, 1));
    w.turn(1).await;
    let zones: BTreeSet<_> = w
        .cloud
        .truth()
        .iter()
        .map(|i| i.offering.zone().to_owned())
        .collect();
    assert_eq!(zones.len(), 2, "both were tried");
    w.turn(1).await;
    let status = w.status().await.expect("there");
    assert_eq!((status.provisioned, status.phase), (2, PoolPhase::Degraded));
    for said in [
        "2 of 3 nodes",
        "aws/us-east-1/subnet-a/g4dn.xlarge/on-demand: capacity",
        "aws/us-east-1/subnet-b/g4dn.xlarge/on-demand: capacity",
    ] {
        assert!(status.shortfall.contains(said), "{}", status.shortfall);
    }
    let calls = w.cloud.calls().launches;
    w.turn(100).await;
    assert_eq!(
        w.cloud.calls().launches,
        calls,
        "it is left alone for a while"
    );
    w.cloud.set(room(9, 9));
    w.turn(100).await;
    assert_eq!(w.cloud.truth().len(), 3, "and tried again");
    let status = w.status().await.expect("there");
    assert_eq!(status.shortfall, "");
}

#[tokio::test]
async fn what_passes_by_itself_is_no_shortfall() {
    let mut w = World::new().await;
    w.cloud.set(Faults {
        refusals: vec![FailureClass::Throttled; 3],
        ..room(9, 9)
    });
    w.turn(1).await;
    w.turn(1).await;
    let status = w.status().await.expect("there");
    assert_eq!(
        (status.phase, status.shortfall.as_str()),
        (PoolPhase::Provisioning, "")
    );
    w.cloud.set(Faults {
        no_listing: true,
        ..room(9, 9)
    });
    w.turn(20).await;
    assert_eq!(w.cloud.truth().len(), 0, "unknown is not zero");
    w.cloud.set(room(9, 9));
    w.turn(20).await;
    assert_eq!(w.cloud.truth().len(), 3);
}

#[tokio::test]
async fn a_withdrawn_pool_ends_when_no_launch_can_come_true_any_more() {
    let mut w = World::new().await;
    w.cloud.set(Faults {
        lost_answers: 3,
        listing_lag: 2,
        ..room(9, 9)
    });
    w.turn(1).await;
    assert_eq!(w.cloud.truth().len(), 3, "they exist, nobody knows");
    let withdraw = Withdraw {
        kind: Kind::Pool,
        name: "t4".to_owned(),
        expected_generation: 0,
        abandon: true,
    };
    let withdraw = move |s: &State, now| s.withdraw(&withdraw, "admin", now);
    w.core.write("withdraw", withdraw).await.expect("withdrawn");
    w.turn(1).await;
    assert!(w.status().await.is_some(), "launches are open");
    for _ in 0..4 {
        w.turn(1).await;
    }
    assert_eq!(w.cloud.truth().len(), 0);
    w.turn(70).await;
    w.turn(1).await;
    assert!(w.status().await.is_none());
    assert_eq!(w.cloud.calls().starts, 0);
}

#[tokio::test]
async fn a_node_that_its_cloud_takes_back_is_replaced_before_it_is_gone() {
    let mut w = World::new().await;
    w.turn(1).await;
    w.all_report().await;
    w.turn(1).await;
    let told = w.cloud.truth().remove(0);
    w.report(&told, Some("preempt")).await;
    w.turn(1).await;
    assert_eq!(w.cloud.calls().made, 4, "its replacement");
    w.turn(1).await;
    let ids: Vec<_> = w.cloud.truth().into_iter().map(|i| i.id).collect();
    assert!(!ids.contains(&told.id) && ids.len() == 3, "{ids:?}");
}
