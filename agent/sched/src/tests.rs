//! Stories as tables: nodes, quotas and jobs in, decisions out.

use crate::{Decision, DeviceView, Held, NodeView, Snapshot, Waiting, Weights, decide};
use gpuloom_fleet::{
    AttemptId, Bytes, DeviceGrant, DeviceId, GpuModel, GpuRequest, JobId, MilliGpu, Millis, NodeId,
    OnExcess, PoolName, QuotaName, QuotaSpec, Resources, TenantName,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const GIB: u64 = 1 << 30;

fn tenant(name: &str) -> TenantName {
    TenantName::new(name).expect("a name")
}

fn job_id(number: u64) -> JobId {
    JobId {
        number,
        index: None,
    }
}

fn node(id: &str, pool: &str, gpus: u32, gib: u64) -> NodeView {
    let device = |i| DeviceView {
        id: DeviceId::new(format!("{id}-g{i}")).expect("an id"),
        model: GpuModel::new("T4").expect("a model"),
        memory: Bytes::gib(gib),
        healthy: true,
        foreign_memory: Bytes(0),
        utilization_milli: None,
        temperature_c: None,
    };
    NodeView {
        id: NodeId::new(id).expect("an id"),
        pool: PoolName::new(pool).expect("a name"),
        schedulable: true,
        devices: (0..gpus).map(device).collect(),
    }
}

/// `name gpus [gib|-] [priority] [tenant] [!]` where `!` may preempt.
fn waiting(number: u64, line: &str) -> Waiting {
    let mut parts = line.split_whitespace();
    let gpus = parts.next().expect("gpus").parse().expect("gpus");
    let memory = parts.next().filter(|m| *m != "-");
    Waiting {
        job: job_id(number),
        request: GpuRequest {
            gpus: Some(gpus),
            memory_per_gpu: memory.map(|m| Bytes::gib(m.parse().expect("GiB"))),
            model: None,
        },
        priority: parts.next().map_or(0, |p| p.parse().expect("a priority")),
        tenant: tenant(parts.next().unwrap_or("a")),
        preempts: parts.next() == Some("!"),
        submitted_at: Millis(number),
        pool: None,
        not_before: None,
    }
}

/// `attempt-of-job node device share gib priority tenant`.
fn held(
    number: u64,
    node: &str,
    device: u32,
    share: u64,
    gib: u64,
    priority: i32,
    who: &str,
) -> Held {
    Held {
        attempt: AttemptId {
            job: job_id(number),
            number: 1,
        },
        tenant: tenant(who),
        priority,
        node: NodeId::new(node).expect("an id"),
        grants: vec![DeviceGrant {
            device: DeviceId::new(format!("{node}-g{device}")).expect("an id"),
            share: MilliGpu(share),
            memory: Bytes::gib(gib),
        }],
        granted_at: Millis(number),
        stopping: false,
        freed_for: None,
    }
}

fn quota(name: &str, who: &str) -> QuotaSpec {
    QuotaSpec {
        name: QuotaName::new(name).expect("a name"),
        tenant: tenant(who),
        pool: None,
        guaranteed: Resources::default(),
        limit: Resources::default(),
        soft_limit: Resources::default(),
        on_excess: OnExcess::Keep,
    }
}

fn gpus(n: u64) -> Resources {
    Resources {
        gpus: Some(MilliGpu::whole(n)),
        gpu_memory: None,
    }
}

fn fleet(nodes: Vec<NodeView>, jobs: &[&str]) -> Snapshot {
    let waiting = (1..).zip(jobs).map(|(i, line)| waiting(i, line)).collect();
    Snapshot {
        nodes,
        waiting,
        ..Snapshot::default()
    }
}

fn show(d: &Decision) -> String {
    let mut lines = Vec::new();
    for g in &d.grants {
        let devices: Vec<_> = g.grants.iter().map(|g| g.device.to_string()).collect();
        lines.push(format!("{} -> {}", g.job, devices.join("+")));
    }
    for p in &d.preemptions {
        lines.push(format!("stop {}: {}", p.victim, p.cause));
    }
    for r in &d.refusals {
        lines.push(format!("{} waits: {}", r.job, r.reason));
    }
    lines.join("\n")
}

fn check(snapshot: &Snapshot, expected: &[&str]) {
    let shown = show(&decide(snapshot, Millis(0)));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{shown}");
    for (line, start) in lines.iter().zip(expected) {
        assert!(line.starts_with(start), "{shown}\nexpected: {start}");
    }
}

#[test]
fn a_big_job_does_not_block_a_small_one_behind_it() {
    let f = fleet(vec![node("n", "p", 1, 16)], &["1 32", "0.25 4"]);
    check(
        &f,
        &["2 -> n-g0", "1 waits: no node could run it even when empty"],
    );
}

#[test]
fn priority_comes_first_then_arrival() {
    let f = fleet(vec![node("n", "p", 2, 16)], &["1", "1", "1 - 5"]);
    check(
        &f,
        &[
            "3 -> n-g0",
            "1 -> n-g1",
            "2 waits: no node has 1 free GPU now (most on one node: 0)",
        ],
    );
}

#[test]
fn shares_pack_one_device_and_a_gang_stays_on_one_node() {
    let nodes = vec![node("m", "p", 2, 16), node("n", "p", 2, 16)];
    let f = fleet(nodes, &["0.5", "0.5", "2", "1", "2"]);
    check(
        &f,
        &[
            "1 -> m-g0",
            "2 -> m-g0",
            "3 -> n-g0+n-g1",
            "4 -> m-g1",
            "5 waits: no node has 2 free GPUs now (most on one node: 0)",
        ],
    );
}

#[test]
fn memory_is_a_limit_of_its_own() {
    let f = fleet(vec![node("n", "p", 1, 16)], &["0.1 12", "0.1 8"]);
    check(
        &f,
        &[
            "1 -> n-g0",
            "2 waits: no node has 1 free GPU with a share of 0.1 and 8GiB",
        ],
    );
}

#[test]
fn a_whole_device_is_never_shared_even_when_little_memory_is_asked() {
    let f = fleet(vec![node("n", "p", 1, 16)], &["1 1", "0.1 1"]);
    check(&f, &["1 -> n-g0", "2 waits"]);
}

#[test]
fn a_quota_refuses_with_the_numbers_and_counts_children() {
    let mut f = fleet(
        vec![node("n", "p", 4, 16)],
        &["1 - 0 kid", "1 - 0 kid", "1 - 0 b"],
    );
    f.parents = BTreeMap::from([(tenant("kid"), tenant("a"))]);
    f.quotas = vec![QuotaSpec {
        limit: gpus(1),
        ..quota("q", "a")
    }];
    check(
        &f,
        &[
            "1 -> n-g0",
            "3 -> n-g1",
            "2 waits: quota q limits tenant a to 1 GPU: it holds 1 GPU and this job asks for 1 GPU",
        ],
    );
}

#[test]
fn a_quota_of_one_pool_sends_the_job_to_another() {
    let mut f = fleet(
        vec![node("n", "p", 1, 16), node("o", "q", 1, 16)],
        &["1", "1"],
    );
    let pool = Some(PoolName::new("p").expect("a name"));
    f.quotas = vec![QuotaSpec {
        limit: gpus(0),
        pool,
        ..quota("q", "a")
    }];
    check(&f, &["1 -> o-g0", "2 waits: no node has 1 free GPU"]);
}

#[test]
fn an_urgent_job_stops_as_few_as_it_needs_and_the_least_important() {
    let mut f = fleet(vec![node("n", "p", 2, 16)], &["1 - 9 b !"]);
    f.held = vec![
        held(8, "n", 0, 1000, 16, 1, "a"),
        held(9, "n", 1, 1000, 16, 0, "a"),
    ];
    check(
        &f,
        &[
            "stop 9#1: preempted by job 1",
            "1 waits: devices are being freed for it: 9#1 is stopping",
        ],
    );
    f.waiting[0].preempts = false;
    check(&f, &["1 waits: no node has 1 free GPU"]);
    f.waiting[0].preempts = true;
    f.waiting[0].priority = 0;
    check(&f, &["1 waits: no node has 1 free GPU"]);
}

#[test]
fn what_is_freed_for_one_job_is_not_taken_by_another() {
    let mut f = fleet(vec![node("n", "p", 2, 16)], &["2 - 9 b !", "1 - 0 a"]);
    f.held = vec![held(9, "n", 1, 1000, 16, 0, "a")];
    f.held[0].stopping = true;
    f.held[0].freed_for = Some(job_id(1));
    check(
        &f,
        &[
            "1 waits: devices are being freed for it: 9#1 is stopping",
            "2 waits: no node has 1 free GPU",
        ],
    );
    f.held.clear();
    check(&f, &["1 -> n-g0+n-g1", "2 waits"]);
}

#[test]
fn a_guarantee_is_reclaimed_from_those_above_theirs_never_upwards() {
    let mut f = fleet(vec![node("n", "p", 2, 16)], &["1 - 0 b"]);
    f.held = vec![
        held(8, "n", 0, 1000, 16, 0, "a"),
        held(9, "n", 1, 1000, 16, 0, "a"),
    ];
    f.quotas = vec![QuotaSpec {
        guaranteed: gpus(1),
        ..quota("gb", "b")
    }];
    check(
        &f,
        &[
            "stop 9#1: reclaimed for job 1",
            "1 waits: devices are being freed",
        ],
    );
    f.quotas.push(QuotaSpec {
        guaranteed: gpus(2),
        ..quota("ga", "a")
    });
    check(&f, &["1 waits: no node has 1 free GPU"]);
    f.quotas.pop();
    for h in &mut f.held {
        h.priority = 1;
    }
    check(&f, &["1 waits: no node has 1 free GPU"]);
}

#[test]
fn a_soft_limit_gives_way_to_others_who_wait() {
    let mut f = fleet(vec![node("n", "p", 2, 16)], &["1", "1"]);
    f.quotas = vec![QuotaSpec {
        soft_limit: gpus(1),
        ..quota("s", "a")
    }];
    check(&f, &["1 -> n-g0", "2 -> n-g1"]);
    f.waiting.push(waiting(3, "2 - 0 b"));
    check(
        &f,
        &[
            "1 -> n-g0",
            "3 waits: no node has 2 free GPUs",
            "2 waits: quota s softly limits it to 1 GPU",
        ],
    );
}

#[test]
fn a_lowered_limit_keeps_drains_or_preempts() {
    let mut f = fleet(vec![node("n", "p", 4, 16), node("o", "q", 4, 16)], &["1"]);
    f.held = vec![
        held(7, "n", 0, 1000, 16, 0, "a"),
        held(8, "n", 1, 1000, 16, 5, "a"),
    ];
    let pool = Some(PoolName::new("p").expect("a name"));
    let lowered = |on_excess| QuotaSpec {
        limit: gpus(1),
        on_excess,
        pool: pool.clone(),
        ..quota("l", "a")
    };
    f.quotas = vec![lowered(OnExcess::Keep)];
    check(&f, &["1 -> o-g0"]);
    f.quotas = vec![lowered(OnExcess::Drain)];
    check(
        &f,
        &["1 waits: quota l is exceeded and its on_excess is drain"],
    );
    f.quotas = vec![lowered(OnExcess::Preempt)];
    check(
        &f,
        &["1 -> o-g0", "stop 7#1: quota l was lowered below its use"],
    );
}

#[test]
fn a_retry_waits_for_its_time_and_the_decision_says_when_to_look_again() {
    let mut f = fleet(vec![node("n", "p", 1, 16)], &["1"]);
    f.waiting[0].not_before = Some(Millis(500));
    let d = decide(&f, Millis(499));
    assert_eq!((d.wake_at, d.grants.len()), (Some(Millis(500)), 0));
    assert_eq!(decide(&f, Millis(500)).grants.len(), 1);
}

#[test]
fn nothing_lands_on_a_cordoned_node_or_a_sick_device() {
    let mut f = fleet(vec![node("n", "p", 2, 16)], &["1", "1"]);
    f.nodes[0].devices[0].healthy = false;
    check(&f, &["1 -> n-g1", "2 waits"]);
    f.nodes[0].schedulable = false;
    check(
        &f,
        &["1 waits: the fleet has no node that takes jobs", "2 waits"],
    );
}

#[test]
fn memory_used_by_strangers_is_not_granted() {
    let mut f = fleet(vec![node("n", "p", 1, 16)], &["0.5 12", "0.5 8"]);
    f.nodes[0].devices[0].foreign_memory = Bytes::gib(8);
    check(&f, &["2 -> n-g0", "1 waits"]);
}

// === properties ===

fn arbitrary() -> impl Strategy<Value = Snapshot> {
    let job = (
        1u64..4000,
        prop::option::of(1u64..20),
        -2i32..3,
        0u8..3,
        any::<bool>(),
    );
    let running = (
        0u8..3,
        0u32..4,
        1u64..=1000,
        1u64..16,
        -2i32..3,
        0u8..3,
        any::<bool>(),
    );
    let bounds = (
        0u8..3,
        prop::option::of(0u64..6),
        prop::option::of(0u64..6),
        0u8..3,
    );
    (
        prop::collection::vec(1u32..5, 1..4),
        prop::collection::vec(job, 0..25),
        prop::collection::vec(running, 0..10),
        prop::collection::vec(bounds, 0..4),
    )
        .prop_map(|(nodes, jobs, running, quotas)| build(&nodes, &jobs, &running, &quotas))
}

type JobIn = (u64, Option<u64>, i32, u8, bool);
type RunIn = (u8, u32, u64, u64, i32, u8, bool);
type QuotaIn = (u8, Option<u64>, Option<u64>, u8);

fn build(nodes: &[u32], jobs: &[JobIn], running: &[RunIn], quotas: &[QuotaIn]) -> Snapshot {
    let name = |t: u8| ["a", "b", "kid"][usize::from(t)];
    let mut s = Snapshot {
        nodes: nodes
            .iter()
            .enumerate()
            .map(|(i, g)| node(&format!("n{i}"), ["p", "q"][i % 2], *g, 16))
            .collect(),
        parents: BTreeMap::from([(tenant("kid"), tenant("a"))]),
        weights: Weights::default(),
        ..Snapshot::default()
    };
    for (i, (t, guaranteed, limit, excess)) in quotas.iter().enumerate() {
        s.quotas.push(QuotaSpec {
            guaranteed: guaranteed.map(gpus).unwrap_or_default(),
            limit: limit.map(gpus).unwrap_or_default(),
            on_excess: [OnExcess::Keep, OnExcess::Drain, OnExcess::Preempt][usize::from(*excess)],
            ..quota(&format!("q{i}"), name(*t))
        });
    }
    for (i, (n, d, share, gib, priority, t, stopping)) in (1000..).zip(running) {
        let node = format!("n{}", usize::from(*n) % nodes.len());
        let mut h = held(i, &node, *d, *share, *gib, *priority, name(*t));
        h.stopping = *stopping;
        let room = crate::ledger::Ledger::new(&s, |_| true);
        let fits = room.nodes.iter().filter(|r| r.node.id == h.node).any(|r| {
            r.node.devices.iter().zip(&r.devices).any(|(v, room)| {
                v.id == h.grants[0].device
                    && room.is_some_and(|r| {
                        r.share >= h.grants[0].share && r.memory >= h.grants[0].memory
                    })
            })
        });
        if fits {
            s.held.push(h);
        }
    }
    for (i, (milli, gib, priority, t, preempts)) in (1..).zip(jobs) {
        let milli = if *milli > 1000 {
            milli.div_ceil(1000) * 1000
        } else {
            *milli
        };
        let mut w = waiting(i, "1");
        w.request.gpus = Some(MilliGpu(milli));
        w.request.memory_per_gpu = gib.map(Bytes::gib);
        w.priority = *priority;
        w.tenant = tenant(name(*t));
        w.preempts = *preempts;
        s.waiting.push(w);
    }
    s
}

fn used_by(s: &Snapshot, d: &Decision, quota: &QuotaSpec) -> u64 {
    let covers = |t: &TenantName| *t == quota.tenant || s.parents.get(t) == Some(&quota.tenant);
    let held = s
        .held
        .iter()
        .filter(|h| covers(&h.tenant))
        .flat_map(|h| &h.grants);
    let granted = d.grants.iter().flat_map(|g| {
        let w = s
            .waiting
            .iter()
            .find(|w| w.job == g.job)
            .expect("it waited");
        g.grants.iter().filter(|_| covers(&w.tenant))
    });
    held.chain(granted).map(|g| g.share.0).sum()
}

proptest! {
    #[test]
    fn grants_never_exceed_what_is_free_now(s in arbitrary()) {
        let d = decide(&s, Millis(0));
        for n in &s.nodes {
            for v in &n.devices {
                let all = s.held.iter().flat_map(|h| &h.grants).chain(d.grants.iter().flat_map(|g| &g.grants));
                let on: Vec<_> = all.filter(|g| g.device == v.id).collect();
                prop_assert!(on.iter().map(|g| g.share.0).sum::<u64>() <= 1000);
                prop_assert!(on.iter().map(|g| g.memory.0).sum::<u64>() <= 16 * GIB);
            }
        }
    }

    #[test]
    fn no_grant_takes_a_quota_above_its_limit(s in arbitrary()) {
        let d = decide(&s, Millis(0));
        for q in &s.quotas {
            if let Some(limit) = q.limit.gpus {
                let before = used_by(&s, &Decision::default(), q);
                let after = used_by(&s, &d, q);
                prop_assert!(after == before || after <= limit.0, "{} {before} -> {after}", q.name);
            }
        }
    }

    #[test]
    fn preemption_goes_down_and_reclaiming_never_up(s in arbitrary()) {
        let d = decide(&s, Millis(0));
        for p in &d.preemptions {
            let victim = s.held.iter().find(|h| h.attempt == p.victim).expect("it is held");
            prop_assert!(!victim.stopping);
            let priority = |j: &JobId| s.waiting.iter().find(|w| w.job == *j).expect("it waits").priority;
            match &p.cause {
                gpuloom_fleet::StopCause::Preempted { by } => prop_assert!(victim.priority < priority(by)),
                gpuloom_fleet::StopCause::Reclaimed { by } => prop_assert!(victim.priority <= priority(by)),
                other => {
 let cut = matches!(other, gpuloom_fleet::StopCause::OverQuota { .. });
 prop_assert!(cut);
 }
            }
        }
        let mut victims: Vec<_> = d.preemptions.iter().map(|p| p.victim).collect();
        victims.sort();
        victims.dedup();
        prop_assert_eq!(victims.len(), d.preemptions.len());
    }

    #[test]
    fn every_waiting_job_is_granted_once_or_told_why(s in arbitrary()) {
        let d = decide(&s, Millis(0));
        let mut answered: Vec<_> = d.grants.iter().map(|g| g.job).chain(d.refusals.iter().map(|r| r.job)).collect();
        answered.sort();
        let mut waiting: Vec<_> = s.waiting.iter().map(|w| w.job).collect();
        waiting.sort();
        prop_assert_eq!(answered, waiting);
    }

    #[test]
    fn the_order_of_the_snapshot_does_not_matter(s in arbitrary()) {
        let mut turned = s.clone();
        turned.waiting.reverse();
        turned.held.reverse();
        prop_assert_eq!(decide(&s, Millis(0)), decide(&turned, Millis(0)));
    }
}
