//! Ranked offerings, spot shares, notices and rolling updates.

use super::*;
use crate::{LaunchError, MemberNode, OfferingFailure};
use gpuloom_fleet::Market;

pub(super) fn offered(zone: &str, market: Market) -> Offering {
    Offering::new("aws", "us-east-1", zone, "g4dn.xlarge", market)
}

/// Two zones, both markets, ranked on-demand first.
pub(super) fn four() -> Vec<Offering> {
    [Market::OnDemand, Market::Spot]
        .into_iter()
        .flat_map(|m| [offered("subnet-a", m), offered("subnet-b", m)])
        .collect()
}

pub(super) fn aws(max: u32, spot_ratio_milli: u32, on_demand_base: u32) -> PoolSpec {
    let mut pool = spec(max);
    pool.place = gpuloom_fleet::PoolPlace::Aws(Box::default());
    pool.capacity.spot_ratio_milli = spot_ratio_milli;
    pool.capacity.on_demand_base = on_demand_base;
    pool
}

/// A joined, ready, idle member of the pool `of`.
fn member(n: u64, market: Market, of: &PoolSpec) -> (LaunchRecord, Instance) {
    let (mut r, mut i) = launched(n);
    i.offering = offered("subnet-a", market);
    i.tags.0.insert(Tags::REVISION.to_owned(), of.revision());
    r.offerings = vec![i.offering.clone()];
    r.revision = of.revision();
    (r, i)
}

const READY: MemberNode = MemberNode {
    reporting: true,
    ready: true,
    leaving: false,
    cordoned: false,
};

fn with(members_of: Vec<(LaunchRecord, Instance)>, wanted: u32) -> Members {
    let nodes = members_of.iter().map(|(_, i)| (i.id.clone(), READY));
    Members {
        nodes: nodes.collect(),
        next_launch: LaunchId(1000),
        offerings: four(),
        launches: members_of.iter().map(|(r, _)| r.clone()).collect(),
        listed: Some(members_of.into_iter().map(|(_, i)| i).collect()),
        ..members(wanted)
    }
}

fn plan(spec: &PoolSpec, m: &Members, outages: &Outages) -> Plan {
    reconcile(spec, m, outages, Millis(1_000_000))
}

fn drained(plan: &Plan) -> Vec<&str> {
    plan.drains.iter().map(|t| t.instance.as_str()).collect()
}

fn asked(plan: &Plan) -> Vec<(Market, usize)> {
    let launches = plan.launches.iter();
    launches
        .map(|l| (l.record.market(), l.record.offerings.len()))
        .collect()
}

fn out(outages: &mut Outages, of: &[Offering], at: u64) {
    let error = LaunchError::new(FailureClass::Capacity, "no capacity");
    outages.note_refusal(of, &error, Millis(at));
}

#[test]
fn a_launch_asks_for_every_zone_of_one_market() {
    let p = plan(&aws(9, 0, 0), &with(Vec::new(), 2), &Outages::default());
    assert_eq!(
        asked(&p),
        [(Market::OnDemand, 2), (Market::OnDemand, 2)],
        "no spot without a ratio"
    );
}

#[test]
fn what_was_refused_is_left_out_and_the_next_is_tried_at_once() {
    let mut outages = Outages::default();
    let error = LaunchError {
        failed: vec![OfferingFailure {
            offering: four()[0].clone(),
            class: FailureClass::Unsupported,
            message: "not in this zone".to_owned(),
        }],
        ..LaunchError::new(FailureClass::Capacity, "no capacity")
    };
    outages.note_refusal(&four()[..1], &error, Millis(999_999));
    let p = plan(&aws(9, 0, 0), &with(Vec::new(), 1), &outages);
    assert_eq!(p.launches[0].record.offerings, [four()[1].clone()]);
    out(&mut outages, &four()[1..2], 999_999);
    let p = plan(&aws(9, 0, 0), &with(Vec::new(), 1), &outages);
    assert!(p.launches.is_empty());
    let reason = p.shortfall.expect("short").reason;
    for said in [
        "aws/us-east-1/subnet-a/g4dn.xlarge/on-demand: unsupported: not in this zone",
        "aws/us-east-1/subnet-b/g4dn.xlarge/on-demand: capacity: no capacity",
    ] {
        assert!(reason.contains(said), "{reason}");
    }
}

#[test]
fn a_throttled_place_is_not_called_at_all_and_a_lost_answer_says_nothing_of_an_offering() {
    let mut outages = Outages::default();
    let lost = LaunchError::new(FailureClass::Transient, "reset");
    outages.note_refusal(&four(), &lost, Millis(999_999));
    assert_eq!(outages, Outages::default());
    let error = LaunchError::new(FailureClass::Throttled, "rate exceeded");
    outages.note_refusal(&four()[..2], &error, Millis(999_999));
    let sent = LaunchRecord {
        offerings: four()[..1].to_vec(),
        ..record(1, LaunchState::Sent)
    };
    let m = Members {
        launches: vec![sent],
        ..with(Vec::new(), 2)
    };
    let p = plan(&aws(9, 500, 0), &m, &outages);
    assert!(p.launches.is_empty(), "not even what was sent before");
    let short = p.shortfall.expect("short");
    assert_eq!(short.retry_at, Some(Millis(1_009_999)));
    assert!(short.reason.starts_with("throttled: rate exceeded"));
}

#[test]
fn the_spot_share_is_exact_above_its_base_and_falls_back_to_on_demand() {
    for (wanted, ratio, base, spot) in [
        (10, 700, 0, 7),
        (10, 700, 4, 4),
        (3, 500, 0, 1),
        (1, 1000, 1, 0),
        (4, 1000, 0, 4),
        (0, 1000, 0, 0),
    ] {
        let pool = aws(10, ratio, base);
        let p = plan(&pool, &with(Vec::new(), wanted), &Outages::default());
        let bought = asked(&p);
        let of = |m| bought.iter().filter(|(market, _)| *market == m).count();
        let expected = (wanted as usize - spot, spot);
        assert_eq!((of(Market::OnDemand), of(Market::Spot)), expected);
        let mut outages = Outages::default();
        out(&mut outages, &four()[2..], 999_999);
        let p = plan(&pool, &with(Vec::new(), wanted), &outages);
        assert_eq!(p.launches.len(), wanted as usize, "on-demand instead");
        let of_spot = asked(&p).iter().filter(|a| a.0 == Market::Spot).count();
        assert_eq!(of_spot, 0);
    }
}

#[test]
fn on_demand_slots_are_never_bought_as_spot() {
    let mut outages = Outages::default();
    out(&mut outages, &four()[..2], 999_999);
    let p = plan(&aws(4, 500, 0), &with(Vec::new(), 4), &outages);
    assert_eq!(asked(&p), [(Market::Spot, 2), (Market::Spot, 2)]);
    assert_eq!(p.shortfall.map(|s| s.missing), Some(2));
}

#[test]
fn when_spot_is_back_one_idle_on_demand_node_at_a_time_is_replaced() {
    let pool = aws(3, 1000, 0);
    let all = |pool: &PoolSpec| {
        (1..=3)
            .map(|n| member(n, Market::OnDemand, pool))
            .collect::<Vec<_>>()
    };
    let mut m = with(all(&pool), 3);
    let p = plan(&pool, &m, &Outages::default());
    assert_eq!(
        ended(&p),
        [("i-1", Why::Market)],
        "max is reached: end first"
    );
    // A refusal not long ago: no node is given up for it.
    let mut outages = Outages::default();
    out(&mut outages, &four()[2..], 700_000);
    assert_eq!(plan(&pool, &m, &outages), Plan::default());
    m.busy = m.nodes.keys().cloned().collect();
    assert_eq!(
        plan(&pool, &m, &Outages::default()),
        Plan::default(),
        "busy"
    );
    m.busy.clear();
    let roomy = PoolSpec { max: 4, ..pool };
    let mut m = with(all(&roomy), 3);
    let p = plan(&roomy, &m, &outages);
    assert_eq!(asked(&p), [(Market::Spot, 2)], "the new one first");
    assert!(p.terminations.is_empty());
    let mut four_now = all(&roomy);
    four_now.push(member(4, Market::Spot, &roomy));
    m = with(four_now, 3);
    let p = plan(&roomy, &m, &Outages::default());
    assert_eq!(ended(&p), [("i-3", Why::Surplus)], "not the spot node");
}

#[test]
fn a_node_about_to_be_taken_back_is_replaced_ahead_and_never_beyond_max() {
    let pool = aws(3, 0, 0);
    let mut m = with(
        (1..=2)
            .map(|n| member(n, Market::OnDemand, &pool))
            .collect(),
        2,
    );
    let told = InstanceId::new("i-1").expect("id");
    m.nodes.insert(
        told.clone(),
        MemberNode {
            leaving: true,
            ..READY
        },
    );
    m.busy.insert(told.clone());
    let p = plan(&pool, &m, &Outages::default());
    assert_eq!((drained(&p), p.launches.len()), (vec!["i-1"], 1));
    m.busy.clear();
    let p = plan(&pool, &m, &Outages::default());
    assert_eq!(ended(&p), [("i-1", Why::Notice)]);
    let tight = PoolSpec { max: 2, ..pool };
    m.busy.insert(told);
    let mut m = Members { wanted: 2, ..m };
    for i in m.listed.as_mut().expect("listed") {
        i.tags.0.remove(Tags::REVISION);
    }
    let p = plan(&tight, &m, &Outages::default());
    assert_eq!(p.launches.len(), 0, "its place is free when it has gone");
    assert!(
        p.shortfall
            .expect("short")
            .reason
            .contains("max is reached")
    );
}

#[test]
fn an_update_takes_away_no_more_than_it_may() {
    let old = aws(5, 0, 0);
    let mut new = old.clone();
    new.labels.insert("image".to_owned(), "2".to_owned());
    new.update.max_unavailable = 2;
    let mut m = with(
        (1..=5).map(|n| member(n, Market::OnDemand, &old)).collect(),
        5,
    );
    let id = |n: u64| InstanceId::new(format!("i-{n}")).expect("id");
    m.busy = BTreeSet::from([id(1), id(2)]);
    let p = plan(&new, &m, &Outages::default());
    assert_eq!(
        ended(&p),
        [("i-3", Why::Outdated), ("i-4", Why::Outdated)],
        "idle ones first"
    );
    // One is not there yet: one less may go, and the one that is drained already goes on.
    m.nodes.insert(
        id(5),
        MemberNode {
            ready: false,
            ..READY
        },
    );
    m.nodes.insert(
        id(2),
        MemberNode {
            cordoned: true,
            ..READY
        },
    );
    let p = plan(&new, &m, &Outages::default());
    assert_eq!(
        ended(&p),
        [("i-5", Why::Outdated)],
        "it does not work anyway"
    );
    assert_eq!(drained(&p), ["i-2"]);
    // Nodes that do not say what they are made of are left alone.
    for i in m.listed.as_mut().expect("listed") {
        i.tags.0.remove(Tags::REVISION);
    }
    assert!(plan(&new, &m, &Outages::default()).terminations.is_empty());
}

#[test]
fn a_pool_that_is_withdrawn_starts_and_launches_nothing() {
    let pool = aws(3, 0, 0);
    let mut all: Vec<_> = (1..=2)
        .map(|n| member(n, Market::OnDemand, &pool))
        .collect();
    all[0].1.state = InstanceState::Stopped;
    let mut m = with(all, 0);
    m.busy = m.nodes.keys().cloned().collect();
    let p = plan(&pool, &m, &Outages::default());
    assert!(p.starts.is_empty() && p.launches.is_empty());
    assert_eq!(ended(&p), [("i-1", Why::Surplus)], "its jobs went with it");
    assert_eq!(p.drains.len(), 1);
}

#[test]
fn a_joined_node_that_is_not_listed_counts_as_long_as_it_reports() {
    let pool = aws(3, 0, 0);
    let mut m = with(vec![member(1, Market::OnDemand, &pool)], 1);
    let id = m.listed.take().expect("listed").remove(0).id;
    m.listed = Some(Vec::new());
    assert_eq!(plan(&pool, &m, &Outages::default()), Plan::default());
    m.nodes.insert(
        id,
        MemberNode {
            reporting: false,
            ..READY
        },
    );
    let p = plan(&pool, &m, &Outages::default());
    assert_eq!((p.forgets.len(), p.launches.len()), (1, 1), "it is gone");
}

#[test]
fn what_was_sent_under_an_older_revision_is_waited_for_and_not_sent_again() {
    let pool = aws(3, 0, 0);
    let sent = LaunchRecord {
        revision: "older".to_owned(),
        at: Millis(1_000_000),
        ..record(1, LaunchState::Sent)
    };
    let m = Members {
        launches: vec![sent],
        ..with(Vec::new(), 1)
    };
    assert_eq!(plan(&pool, &m, &Outages::default()), Plan::default());
    let later = Millis(1_000_000 + LAG * 1000);
    let p = reconcile(&pool, &m, &Outages::default(), later);
    assert_eq!(p.forgets, [LaunchId(1)]);
    assert_eq!(p.launches.len(), 1);
    assert!(!p.launches[0].again);
}
