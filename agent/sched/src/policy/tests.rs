use super::*;
use proptest::prelude::*;

fn job(id: u64) -> Job {
    Job {
        id,
        tenant: 0,
        arrival_ms: id,
        priority: 0,
        cost: 10,
        deadline_ms: None,
        attained: 0,
    }
}

fn ids(queue: &mut Queue, now: u64) -> Vec<u64> {
    std::iter::from_fn(|| queue.pick(now))
        .map(|j| j.id)
        .collect()
}

fn queue(policy: &Policy, jobs: &[Job]) -> Queue {
    let mut q = Queue::new(policy);
    for j in jobs {
        q.push(*j);
    }
    q
}

#[test]
fn fcfs_serves_in_order_of_arrival_also_those_that_were_put_back() {
    let mut q = queue(&Policy::Fcfs, &[job(2), job(5)]);
    q.push(job(3));
    q.push(job(1));
    assert_eq!(q.pick(9).map(|j| j.id), Some(1));
    q.push(job(1));
    assert_eq!(ids(&mut q, 9), [1, 2, 3, 5]);
}

#[test]
fn sjf_serves_the_shortest_but_nobody_waits_beyond_the_bound() {
    let policy = Policy::Sjf {
        aging_milli: 0,
        bound_ms: 100,
    };
    let jobs = [
        Job {
            cost: 900,
            ..job(1)
        },
        Job { cost: 10, ..job(2) },
        Job { cost: 20, ..job(3) },
    ];
    assert_eq!(ids(&mut queue(&policy, &jobs), 50), [2, 3, 1]);
    assert_eq!(queue(&policy, &jobs).pick(101).map(|j| j.id), Some(1));
    // A millisecond of waiting makes up for one of use: the long one that came first goes first.
    let aged = Policy::Sjf {
        aging_milli: 1000,
        bound_ms: u64::MAX,
    };
    let late = Job {
        cost: 10,
        arrival_ms: 2_000,
        ..job(2)
    };
    let early = Job {
        cost: 900,
        arrival_ms: 0,
        ..job(1)
    };
    assert_eq!(ids(&mut queue(&aged, &[late, early]), 5_000), [1, 2]);
}

#[test]
fn edf_serves_by_deadline_and_demotes_what_is_too_late() {
    let due = |id, at| Job {
        deadline_ms: Some(at),
        ..job(id)
    };
    let jobs = [due(1, 500), due(2, 105), due(3, 200), job(4)];
    // At 100, job 2 (10 ms of work) can no longer be done by 105.
    assert_eq!(ids(&mut queue(&Policy::Edf, &jobs), 100), [3, 1, 4, 2]);
}

#[test]
fn priority_ages_up_to_its_cap() {
    let policy = Policy::Priority {
        step_ms: 10,
        cap: 5,
    };
    let urgent = |id, p, at| Job {
        priority: p,
        arrival_ms: at,
        ..job(id)
    };
    let jobs = [urgent(1, 0, 0), urgent(2, 4, 100), urgent(3, 100, 100)];
    assert_eq!(ids(&mut queue(&policy, &jobs), 100), [3, 1, 2]);
    assert_eq!(ids(&mut queue(&policy, &jobs), 1_000_000), [3, 2, 1]);
}

#[test]
fn mlfq_serves_the_new_first_and_a_boost_forgets() {
    let policy = Policy::Mlfq {
        thresholds: vec![100, 1_000],
        boost_ms: 1_000,
    };
    let used = |id, attained| Job {
        attained,
        ..job(id)
    };
    let jobs = [used(1, 5_000), used(2, 100), used(3, 99), used(4, 0)];
    assert_eq!(ids(&mut queue(&policy, &jobs), 0), [3, 4, 2, 1]);
    let mut q = queue(&policy, &jobs);
    assert_eq!(q.pick(1_000).map(|j| j.id), Some(3));
    q.push(used(5, 0));
    assert_eq!(ids(&mut q, 1_500), [4, 2, 1, 5]);
}

/// Runs a backlog of equal jobs of each tenant; the use each got.
fn shares(policy: &Policy, weights: &[u64], picks: usize, cost: impl Fn(u32) -> u64) -> Vec<u64> {
    let mut q = Queue::new(policy);
    let mut used = vec![0; weights.len()];
    let mut next = 0;
    let mut push = |q: &mut Queue, tenant: u32| {
        next += 1;
        q.push(Job {
            tenant,
            cost: cost(tenant),
            ..job(next)
        });
    };
    for (tenant, weight) in (0u32..).zip(weights) {
        q.set_weight(tenant, *weight);
        push(&mut q, tenant);
        push(&mut q, tenant);
    }
    for _ in 0..picks {
        let j = q.pick(0).expect("a backlog");
        used[j.tenant as usize] += j.cost;
        q.charge(j.tenant, j.cost);
        push(&mut q, j.tenant);
    }
    used
}

#[test]
fn use_follows_weights_whatever_the_jobs_sizes() {
    let weights = [1, 2, 5];
    for policy in [
        Policy::Fair { latency: 0 },
        Policy::WeightedFair { quantum: 10 },
    ] {
        let used = shares(&policy, &weights, 4_000, |t| [30, 7, 50][t as usize]);
        let per_weight: Vec<u64> = used.iter().zip(weights).map(|(u, w)| u / w).collect();
        let (least, most) = (per_weight.iter().min(), per_weight.iter().max());
        let apart = most.expect("three") - least.expect("three");
        // One job of each at most: 30/1 + 50/5, and the round robin's quantum.
        assert!(apart <= 60, "{policy:?}: {per_weight:?}");
    }
}

#[test]
fn a_lottery_draws_in_proportion_to_tickets() {
    let used = shares(
        &Policy::Lottery {
            seed: 3,
            quantum: 0,
        },
        &[1, 2, 5],
        8_000,
        |_| 1,
    );
    // Chi-square with two degrees of freedom: 13.8 is exceeded once in a thousand.
    let expected = [1_000.0, 2_000.0, 5_000.0];
    let chi: f64 = used
        .iter()
        .zip(expected)
        .map(|(u, e)| {
            let u = f64::from(u32::try_from(*u).expect("small"));
            (u - e) * (u - e) / e
        })
        .sum();
    assert!(chi < 13.8, "{used:?}: {chi}");
}

#[test]
fn a_tenant_that_uses_a_part_of_its_quantum_is_drawn_more_often() {
    // Tenant 0 uses a fifth of what it may: with compensation both use the same.
    let policy = Policy::Lottery {
        seed: 5,
        quantum: 100,
    };
    let used = shares(&policy, &[1, 1], 20_000, |t| [20, 100][t as usize]);
    let ratio = used[0] as f64 / used[1] as f64;
    assert!((0.9..1.1).contains(&ratio), "{used:?}");
}

#[test]
fn sleeping_earns_at_most_half_a_latency() {
    let mut q = Queue::new(&Policy::Fair { latency: 200 });
    let of = |id, tenant| Job { tenant, ..job(id) };
    for id in 0..50 {
        q.push(of(id, 0));
        let j = q.pick(0).expect("one");
        q.charge(j.tenant, 100);
    }
    // Tenant 1 slept through 5,000: it catches up 100, not all.
    for id in 100..120 {
        q.push(of(id, 0));
        q.push(of(id + 100, 1));
    }
    let mut first = Vec::new();
    for _ in 0..6 {
        let j = q.pick(0).expect("one");
        q.charge(j.tenant, 100);
        first.push(j.tenant);
    }
    assert!(first.iter().filter(|t| **t == 0).count() >= 2, "{first:?}");
    assert_eq!(first[0], 1);
}

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    let one = (
        0u32..6,
        0u64..1000,
        -3i32..4,
        0u64..500,
        prop::option::of(0u64..2000),
        0u64..300,
    );
    prop::collection::vec(one, 1..200).prop_map(|all| {
        (0u64..)
            .zip(all)
            .map(
                |(id, (tenant, arrival_ms, priority, cost, deadline_ms, attained))| Job {
                    id,
                    tenant,
                    arrival_ms,
                    priority,
                    cost,
                    deadline_ms,
                    attained,
                },
            )
            .collect()
    })
}

proptest! {
    /// Every order serves every job exactly once, whatever the mix of pushes and picks.
    #[test]
    fn nobody_is_lost_and_nobody_is_served_twice(
        jobs in jobs(), which in 0usize..8, early in prop::collection::vec(any::<bool>(), 200),
    ) {
        let mut q = Queue::new(&Policy::all()[which]);
        let mut served = Vec::new();
        let mut now = 0;
        for (j, pick) in jobs.iter().zip(early) {
            q.push(*j);
            now += 10;
            if pick && let Some(j) = q.pick(now) {
                q.charge(j.tenant, j.cost);
                served.push(j.id);
            }
            prop_assert_eq!(q.len() + served.len(), usize::try_from(j.id).expect("few") + 1);
        }
        while let Some(j) = q.pick(now) {
            served.push(j.id);
        }
        prop_assert!(q.is_empty());
        served.sort_unstable();
        prop_assert_eq!(served, (0..jobs.len() as u64).collect::<Vec<_>>());
    }

    /// Two backlogged tenants' use by weight never differs by more than a job of each.
    #[test]
    fn fair_service_differs_by_one_job_of_each(
        weights in prop::collection::vec(1u64..8, 2..5), costs in prop::collection::vec(1u64..100, 5), picks in 1usize..300,
    ) {
        let used = shares(&Policy::Fair { latency: 0 }, &weights, picks, |t| costs[t as usize]);
        for i in 0..weights.len() {
            for j in 0..weights.len() {
                let (a, b) = (used[i] * weights[j], used[j] * weights[i]);
                let bound = costs[i] * weights[j] + costs[j] * weights[i];
                prop_assert!(a <= b + bound, "{used:?} {weights:?}");
            }
        }
    }

    /// The same draws for the same seed.
    #[test]
    fn a_lottery_is_the_same_for_the_same_seed(jobs in jobs(), seed in any::<u64>()) {
        let policy = Policy::Lottery { seed, quantum: 50 };
        prop_assert_eq!(ids(&mut queue(&policy, &jobs), 0), ids(&mut queue(&policy, &jobs), 0));
    }
}
