use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::executor::block_on;
use gpuloom_fleet::{FleetName, InstanceId, Millis, PoolName, PoolSpec, Seconds};
use proptest::prelude::*;

use super::grow::LAUNCHES_AT_ONCE;
use super::{Members, Plan, Why, reconcile};
use crate::{
    Cloud, FailureClass, FakeCloud, Faults, Instance, InstanceState, LaunchBook, LaunchId,
    LaunchRecord, LaunchState, MemoryBook, Offering, Outages, Outcome, Tags, Token, carry_out,
    contract,
};

mod chaos;
mod clouds;

const LAG: u64 = 10;

fn spec(max: u32) -> PoolSpec {
    serde_json::from_value(serde_json::json!({
        "name": "t4", "gpu": {"model": "T4", "per_node": 1}, "place": {"kind": "local"},
        "min": 0, "max": max, "initial_size": null,
        "capacity": {"on_shortfall": "degrade", "max_wait": 60}, "on_destroy": "drain", "labels": {},
    }))
    .expect("a pool")
}

fn fleet() -> FleetName {
    FleetName::new("f").expect("name")
}

fn offering() -> Offering {
    Offering::of_pool(&spec(1)).remove(0)
}

fn members(wanted: u32) -> Members {
    Members {
        wanted,
        listed: Some(Vec::new()),
        launches: Vec::new(),
        busy: BTreeSet::new(),
        nodes: BTreeMap::new(),
        offerings: vec![offering()],
        no_offerings: String::new(),
        next_launch: LaunchId(1),
        salt: "s".to_owned(),
        listing_lag: Seconds(LAG),
    }
}

fn decide(members: &Members, at_s: u64) -> Plan {
    reconcile(
        &spec(100),
        members,
        &Outages::default(),
        Millis(at_s * 1000),
    )
}

fn instance(n: u64, token: &Token) -> Instance {
    Instance {
        id: InstanceId::new(format!("i-{n}")).expect("id"),
        token: token.clone(),
        offering: offering(),
        tags: Tags::of_pool(&fleet(), &PoolName::new("t4").expect("name")),
        state: InstanceState::Running,
        launched_at: Millis(n),
        pool: Some(PoolName::new("t4").expect("name")),
        role: crate::Role::Node,
        private_address: None,
        public_address: None,
    }
}

fn record(n: u64, state: LaunchState) -> LaunchRecord {
    LaunchRecord {
        id: LaunchId(n),
        pool: PoolName::new("t4").expect("name"),
        attempt: 1,
        offerings: vec![offering()],
        token: Token::of("s", LaunchId(n), 1),
        revision: String::new(),
        state,
        at: Millis(0),
    }
}

fn launched(n: u64) -> (LaunchRecord, Instance) {
    let i = instance(n, &Token::of("s", LaunchId(n), 1));
    (
        record(
            n,
            LaunchState::Launched {
                instance: i.id.clone(),
            },
        ),
        i,
    )
}

fn ended(plan: &Plan) -> Vec<(&str, Why)> {
    plan.terminations
        .iter()
        .map(|t| (t.instance.as_str(), t.why))
        .collect()
}

#[test]
fn an_empty_pool_launches_what_it_wants_each_under_its_own_token() {
    let plan = decide(&members(3), 0);
    let tokens: BTreeSet<_> = plan
        .launches
        .iter()
        .map(|l| l.record.token.clone())
        .collect();
    assert_eq!(tokens.len(), 3);
    assert!(
        plan.launches
            .iter()
            .all(|l| !l.again && l.record.state == LaunchState::Sent)
    );
    assert_eq!(plan.shortfall, None);
}

#[test]
fn a_pool_that_cannot_be_listed_is_left_as_it_is() {
    let plan = decide(
        &Members {
            listed: None,
            ..members(3)
        },
        0,
    );
    assert!(
        plan.launches.is_empty() && plan.shortfall.is_some(),
        "unknown is not zero: {plan:?}"
    );
    let plan = decide(
        &Members {
            listed: None,
            launches: vec![launched(1).0],
            ..members(0)
        },
        99,
    );
    assert!(plan.terminations.is_empty() && plan.forgets.is_empty());
}

#[test]
fn an_unanswered_launch_that_is_listed_is_adopted() {
    let sent = record(7, LaunchState::Sent);
    let found = instance(1, &sent.token);
    let plan = decide(
        &Members {
            listed: Some(vec![found.clone()]),
            launches: vec![sent],
            ..members(1)
        },
        0,
    );
    assert!(plan.launches.is_empty());
    assert_eq!(plan.adoptions.len(), 1);
    assert!(!plan.adoptions[0].unrecorded);
    assert_eq!(plan.adoptions[0].record.id, LaunchId(7));
    assert_eq!(
        plan.adoptions[0].record.state,
        LaunchState::Launched { instance: found.id }
    );
}

#[test]
fn an_unanswered_launch_that_is_not_listed_is_sent_again_with_its_token() {
    let sent = record(7, LaunchState::Sent);
    let plan = decide(
        &Members {
            launches: vec![sent.clone()],
            next_launch: LaunchId(8),
            ..members(1)
        },
        0,
    );
    assert_eq!(plan.launches.len(), 1);
    assert!(plan.launches[0].again);
    assert_eq!(plan.launches[0].record.token, sent.token);
}

#[test]
fn an_unanswered_launch_nobody_wants_any_more_is_forgotten_only_when_it_cannot_appear() {
    let m = Members {
        launches: vec![record(7, LaunchState::Sent)],
        ..members(0)
    };
    assert_eq!(decide(&m, LAG - 1), Plan::default());
    assert_eq!(decide(&m, LAG).forgets, [LaunchId(7)]);
}

#[test]
fn a_launched_instance_counts_before_it_is_listed_and_is_replaced_when_it_never_is() {
    let m = Members {
        launches: vec![launched(1).0],
        next_launch: LaunchId(2),
        ..members(1)
    };
    assert_eq!(decide(&m, LAG - 1), Plan::default());
    let plan = decide(&m, LAG);
    assert_eq!(plan.forgets, [LaunchId(1)]);
    assert_eq!(plan.launches.len(), 1);
    assert_eq!(plan.launches[0].record.id, LaunchId(2));
}

#[test]
fn an_instance_without_a_record_is_a_member() {
    let stray = instance(5, &Token::new("from-elsewhere").expect("token"));
    let m = Members {
        listed: Some(vec![stray]),
        next_launch: LaunchId(9),
        ..members(1)
    };
    let plan = decide(&m, 0);
    assert!(plan.launches.is_empty() && plan.terminations.is_empty());
    assert!(plan.adoptions[0].unrecorded);
    assert_eq!(plan.adoptions[0].record.id, LaunchId(9));
}

#[test]
fn two_instances_of_one_token_become_one() {
    let (r, first) = launched(1);
    let second = Instance {
        id: InstanceId::new("i-0").expect("id"),
        launched_at: Millis(0),
        ..first.clone()
    };
    let plan = decide(
        &Members {
            listed: Some(vec![second, first]),
            launches: vec![r],
            ..members(1)
        },
        0,
    );
    assert_eq!(
        ended(&plan),
        [("i-0", Why::Duplicate)],
        "the one the record names stays"
    );
    assert!(plan.launches.is_empty());
}

#[test]
fn a_scale_in_ends_the_idle_newest_first_and_drains_the_busy() {
    let (records, instances): (Vec<_>, Vec<_>) = (1..=4).map(launched).unzip();
    let busy = |ids: &[&str]| {
        ids.iter()
            .map(|i| InstanceId::new(*i).expect("id"))
            .collect()
    };
    let m = Members {
        listed: Some(instances),
        launches: records,
        busy: busy(&["i-4", "i-1"]),
        ..members(1)
    };
    let plan = decide(&m, 0);
    assert_eq!(ended(&plan), [("i-3", Why::Surplus), ("i-2", Why::Surplus)]);
    let drained: Vec<_> = plan.drains.into_iter().map(|t| t.instance).collect();
    assert_eq!(drained, busy(&["i-4"]).into_iter().collect::<Vec<_>>());
}

#[test]
fn what_was_begun_to_end_is_ended_and_replaced() {
    let (r, mut i) = launched(1);
    i.state = InstanceState::Terminating;
    let m = Members {
        listed: Some(vec![i]),
        launches: vec![r],
        next_launch: LaunchId(2),
        ..members(1)
    };
    let plan = decide(&m, 0);
    assert_eq!(ended(&plan), [("i-1", Why::Unfinished)]);
    assert_eq!(plan.launches.len(), 1);
}

#[test]
fn a_stopped_member_is_started_not_replaced() {
    let (r, mut i) = launched(1);
    i.state = InstanceState::Stopped;
    let m = Members {
        listed: Some(vec![i.clone()]),
        launches: vec![r],
        ..members(1)
    };
    let plan = decide(&m, 0);
    assert_eq!((plan.starts, plan.launches.len()), (vec![i.id], 0));
    assert!(decide(&Members { wanted: 0, ..m }, 0).starts.is_empty());
}

#[test]
fn an_offering_in_outage_is_left_alone_until_its_time_and_the_shortfall_says_why() {
    let mut outages = Outages::default();
    let error = crate::LaunchError::new(FailureClass::Capacity, "no T4 left");
    outages.note(&offering(), &error, Millis(0));
    let failed = LaunchState::Failed {
        class: FailureClass::Capacity,
        message: String::new(),
    };
    let m = Members {
        launches: vec![record(1, failed)],
        next_launch: LaunchId(2),
        ..members(2)
    };
    let plan = reconcile(&spec(9), &m, &outages, Millis(179_999));
    assert!(plan.launches.is_empty());
    let shortfall = plan.shortfall.expect("shortfall");
    assert_eq!(
        (shortfall.missing, shortfall.retry_at),
        (2, Some(Millis(180_000)))
    );
    assert!(shortfall.reason.contains("no T4 left"));
    let plan = reconcile(&spec(9), &m, &outages, Millis(180_000));
    let tries: Vec<_> = plan
        .launches
        .iter()
        .map(|l| (l.record.id.0, l.record.attempt))
        .collect();
    assert_eq!(
        tries,
        [(1, 2), (2, 1)],
        "the failed launch is tried again under a new token"
    );
    assert_ne!(plan.launches[0].record.token, m.launches[0].token);
}

#[test]
fn a_plan_never_exceeds_the_pools_max_nor_its_own_limit() {
    assert_eq!(
        reconcile(&spec(2), &members(5), &Outages::default(), Millis(0))
            .launches
            .len(),
        2
    );
    let plan = decide(&members(100), 0);
    assert_eq!(plan.launches.len(), LAUNCHES_AT_ONCE);
    assert_eq!(plan.shortfall.map(|s| s.missing), Some(100 - 64));
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    contract::run(|| async {
        let cloud = FakeCloud::new();
        cloud.set(Faults {
            capacity: BTreeMap::from([(offering(), 3)]),
            ..Faults::default()
        });
        let r = record(1, LaunchState::Sent);
        let request = crate::LaunchRequest {
            gpu: Some(spec(1).gpu),
            ..MemoryBook::request_for(&r.token, &r, fleet())
        };
        let foreign = MemoryBook::request_for(&r.token, &r, FleetName::new("other").expect("name"));
        contract::Setup {
            cloud: Arc::new(cloud),
            request,
            foreign,
        }
    })
    .await;
}

/// One turn of a lead: list, decide, do.
async fn turn(
    cloud: &FakeCloud,
    book: &MemoryBook,
    outages: &mut Outages,
    wanted: u32,
    now: Millis,
    next: &mut u64,
) {
    let tags = Tags::of_pool(&fleet(), &spec(1).name);
    let launches = book.records();
    let m = Members {
        listed: cloud.list(&tags).await.ok(),
        launches,
        next_launch: LaunchId(*next),
        ..members(wanted)
    };
    let plan = reconcile(&spec(100), &m, outages, now);
    *next += 100;
    for outcome in carry_out(&plan, cloud, book, now).await {
        if let Outcome::Refused {
            offerings, error, ..
        } = outcome
        {
            outages.note_refusal(&offerings, &error, now);
        }
    }
}

/// Faults a property test draws.
fn faults() -> impl Strategy<Value = Faults> {
    (
        0u32..3,
        0u32..3,
        0u32..3,
        any::<bool>(),
        0u32..3,
        any::<bool>(),
    )
        .prop_map(
            |(
                lost_answers,
                lost_requests,
                listing_lag,
                no_listing,
                lost_terminations,
                ignores_tokens,
            )| Faults {
                lost_answers,
                lost_requests,
                listing_lag,
                no_listing,
                lost_terminations,
                ignores_tokens,
                refusals: vec![FailureClass::Capacity; usize::from(lost_answers == 2)],
                capacity: BTreeMap::new(),
                offered: Vec::new(),
                chaos: None,
            },
        )
}

proptest! {
    #[test]
    fn whatever_goes_wrong_the_pool_ends_with_exactly_what_it_wants(
        story in prop::collection::vec((faults(), 0u32..6, any::<bool>()), 1..12),
        last in 0u32..6,
    ) {
        block_on(async {
            let (cloud, book) = (FakeCloud::new(), MemoryBook::default());
            let (mut outages, mut now, mut next) = (Outages::default(), 0, 1);
            let mut honest = true;
            for (faults, wanted, forgets) in story {
                honest &= !faults.ignores_tokens;
                cloud.set(faults);
                turn(&cloud, &book, &mut outages, wanted, Millis(now), &mut next).await;
                if honest {
                    let tokens: Vec<_> = cloud.truth().into_iter().map(|i| i.token).collect();
                    let distinct: BTreeSet<_> = tokens.iter().collect();
                    assert!(distinct.len() == tokens.len(), "a token launched twice");
                }
                // The process dies and loses what it had not stored: outages are in memory only.
                if forgets {
                    outages = Outages::default();
                }
                now += 1_000;
            }
            cloud.set(Faults::default());
            // Longer than every outage and the listing lag.
            for _ in 0..8 {
                now += 200_000;
                turn(&cloud, &book, &mut outages, last, Millis(now), &mut next).await;
            }
            assert_eq!(cloud.truth().len(), last as usize);
            let records = book.records();
            assert_eq!(records.len(), last as usize, "one record per instance: {records:?}");
        });
    }
}

#[test]
fn a_book_that_cannot_store_keeps_the_launch_from_being_sent() {
    #[derive(Debug)]
    struct Full;
    type Refused = Box<dyn std::error::Error + Send + Sync>;
    #[async_trait::async_trait]
    impl LaunchBook for Full {
        async fn store(&self, _: &LaunchRecord) -> Result<(), Refused> {
            Err("disk full".into())
        }
        async fn forget(&self, _: LaunchId) -> Result<(), Refused> {
            Err("disk full".into())
        }
        async fn request(&self, _: &LaunchRecord) -> Result<crate::LaunchRequest, Refused> {
            Err("disk full".into())
        }
    }
    let cloud = FakeCloud::new();
    let outcomes = block_on(carry_out(&decide(&members(2), 0), &cloud, &Full, Millis(0)));
    assert!(matches!(
        outcomes[..],
        [Outcome::NotStored { .. }, Outcome::NotStored { .. }]
    ));
    assert!(cloud.truth().is_empty());
}
