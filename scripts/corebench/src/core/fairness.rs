//! How far shares are off what weights entitle to: in tasks, and as index, least share and envy together.

use crate::row::Row;
use anyhow::Result;
use gpuloom_replay::Chance;
use gpuloom_sched::policy::{Job, Policy, Queue};
use gpuloom_sched::share::{
    Claim, Fairness, Node, Order, Tree, User, progressive_filling, water_fill,
};

const TENANTS: usize = 10;

pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let cases = if quick { 200 } else { 2_000 };
    let mut rows = vec![filled(cases), drf(cases), kept(cases)?];
    rows.extend(queues(if quick { 20_000 } else { 200_000 }));
    rows.extend(divisible());
    rows.extend(indivisible()?);
    Ok(rows)
}

fn weights(chance: &mut Chance) -> Vec<u64> {
    (0..TENANTS).map(|_| 1 + chance.bits() % 8).collect()
}

fn float(n: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let n = n as f64;
    n
}

/// Off the exact weighted max-min share of each claim, which the water level gives.
fn filled(cases: u32) -> Row {
    let mut chance = Chance::new(1);
    let mut worst = 0.0f64;
    for _ in 0..cases {
        let capacity = 1 + chance.bits() % 10_000;
        let claims: Vec<Claim<usize>> = weights(&mut chance)
            .into_iter()
            .enumerate()
            .map(|(key, weight)| Claim {
                key,
                demand: (chance.bits() % 3_000) >> (chance.bits() % 6),
                weight,
            })
            .collect();
        let got = water_fill(capacity, &claims);
        let level = level(float(capacity), &claims);
        for (claim, got) in claims.iter().zip(got) {
            let exact = (level * float(claim.weight)).min(float(claim.demand));
            worst = worst.max((float(got) - exact).abs());
        }
    }
    let inputs = format!("{cases} cases, {TENANTS} tenants, weights 1 to 8, skewed demand, seed 1");
    Row::at_most(
        "fairness water-filling off the exact share",
        worst,
        "units",
        1.0,
    )
    .with(inputs)
}

/// The level of water per weight at which all of the capacity, or all demand, is given.
fn level(capacity: f64, claims: &[Claim<usize>]) -> f64 {
    let given = |level: f64| -> f64 {
        let each = claims.iter();
        each.map(|c| (level * float(c.weight)).min(float(c.demand)))
            .sum()
    };
    let (mut low, mut high) = (0.0, 20_000.0);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if given(middle) < capacity {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The most that two shares per weight differ, in tasks of both: 1 is one task of each.
fn lag(tasks: &[u64], weights: &[u64]) -> f64 {
    let mut worst = 0.0f64;
    for (a, wa) in tasks.iter().zip(weights) {
        for (b, wb) in tasks.iter().zip(weights) {
            let (wa, wb) = (float(*wa), float(*wb));
            let lag = (float(*a) / wa - float(*b) / wb) / (1.0 / wa + 1.0 / wb);
            worst = worst.max(lag);
        }
    }
    worst
}

fn drf(cases: u32) -> Row {
    let mut chance = Chance::new(2);
    let mut worst = 0.0f64;
    for _ in 0..cases {
        let weights = weights(&mut chance);
        let users: Vec<User> = weights
            .iter()
            .map(|weight| User {
                task: vec![1, 4],
                tasks: 1_000_000,
                weight: *weight,
            })
            .collect();
        let capacity = 1 + chance.bits() % 5_000;
        let got = progressive_filling(&[capacity, 4 * capacity], &users);
        worst = worst.max(lag(&got.tasks, &weights));
    }
    let inputs = format!("{cases} cases, {TENANTS} backlogged tenants, weights 1 to 8, seed 2");
    Row::at_most("fairness DRF lag between tenants", worst, "tasks", 1.0).with(inputs)
}

/// The order that is kept while work ends and starts: after every step, as long as all wait.
fn kept(cases: u32) -> Result<Row> {
    let mut chance = Chance::new(3);
    let mut worst = 0.0f64;
    for _ in 0..cases.min(400) {
        let weights = weights(&mut chance);
        let nodes = weights.iter().map(|weight| Node {
            parent: None,
            weight: *weight,
            task: Vec::new(),
            tasks: 0,
        });
        let tree = Tree::new(nodes.collect())?;
        let mut order = Order::new(&tree, &[1_000]);
        let mut tasks = [0u64; TENANTS];
        for leaf in 0..TENANTS {
            order.set_waiting(leaf, true);
        }
        for _ in 0..1_000 {
            if let Some(leaf) = order.next() {
                tasks[leaf] += 1;
                order.took(leaf, &[1]);
            }
            worst = worst.max(lag(&tasks, &weights));
        }
    }
    let inputs = format!("1,000 allocations each, the worst moment, {TENANTS} tenants, seed 3");
    Ok(Row::at_most(
        "fairness kept order lag between tenants",
        worst,
        "tasks",
        1.0,
    )
    .with(inputs))
}

/// Tasks of each tenant after each pick: all are backlogged, tasks are alike.
fn served(policy: &Policy, picks: u64, weights: &[u64], mut see: impl FnMut(&[u64])) {
    let mut queue = Queue::new(policy);
    let job = |id: u64, tenant: u32| Job {
        id,
        tenant,
        arrival_ms: 0,
        priority: 0,
        cost: 1,
        deadline_ms: None,
        attained: 0,
    };
    for (tenant, weight) in (0u32..).zip(weights) {
        queue.set_weight(tenant, *weight);
        queue.push(job(u64::from(tenant), tenant));
        queue.push(job(100 + u64::from(tenant), tenant));
    }
    let mut tasks = [0u64; TENANTS];
    for i in 0..picks {
        if let Some(picked) = queue.pick(i) {
            tasks[picked.tenant as usize] += 1;
            queue.charge(picked.tenant, 1);
            queue.push(job(1_000 + i, picked.tenant));
        }
        see(&tasks);
    }
}

/// Orders over tenants, at their worst moment.
fn queues(picks: u64) -> Vec<Row> {
    let mut chance = Chance::new(4);
    let weights = weights(&mut chance);
    let inputs = format!(
        "{picks} picks, the worst moment, {TENANTS} backlogged tenants, weights 1 to 8, seed 4"
    );
    let mut worst = 0.0f64;
    served(&Policy::Fair { latency: 2 }, picks, &weights, |tasks| {
        worst = worst.max(lag(tasks, &weights));
    });
    // A round robin serves a whole turn: by weight, tenants differ by a turn and two tasks at most
    // (Shreedhar & Varghese, SIGCOMM'95, theorem 2).
    let mut turns = 0.0f64;
    let policy = Policy::WeightedFair { quantum: 1 };
    served(&policy, picks, &weights, |tasks| {
        let by_weight = tasks
            .iter()
            .zip(&weights)
            .map(|(t, w)| float(*t) / float(*w));
        let least = by_weight.clone().fold(f64::INFINITY, f64::min);
        turns = turns.max(by_weight.fold(0.0, f64::max) - least);
    });
    vec![
        Row::at_most("fairness fair lag between tenants", worst, "tasks", 1.0).with(&inputs),
        Row::at_most("fairness weighted-fair lag, by weight", turns, "tasks", 3.0)
            .with(format!("{inputs}, quantum 1")),
    ]
}

fn three(name: &str, fairness: Fairness, goal: Option<f64>, inputs: &str) -> Vec<Row> {
    let inputs = format!("{} backlogged tenants, {inputs}", fairness.parties);
    let index = format!("fairness Jain, {name}");
    let first = match goal {
        Some(goal) => Row::at_least(index, fairness.jain, "index", goal),
        None => Row::report(index, fairness.jain, "index"),
    };
    vec![
        first.with(&inputs),
        Row::report(format!("fairness least share, {name}"), fairness.least, "x").with(&inputs),
        Row::report(format!("fairness most envy, {name}"), fairness.envy, "x").with(inputs),
    ]
}

/// Thousandths of 64 GPUs to tenants whose demand is skewed: half of them want little.
fn divisible() -> Vec<Row> {
    let mut chance = Chance::new(5);
    let claims: Vec<Claim<usize>> = (0..TENANTS)
        .map(|key| Claim {
            key,
            demand: if key % 2 == 0 {
                chance.bits() % 3_000
            } else {
                20_000 + chance.bits() % 100_000
            },
            weight: 1,
        })
        .collect();
    let got = water_fill(64_000, &claims);
    let hungry: Vec<u64> = claims
        .iter()
        .zip(&got)
        .filter(|(c, got)| c.demand > **got)
        .map(|(_, got)| *got)
        .collect();
    let entitled = float(hungry.iter().sum()) / float(hungry.len() as u64);
    let parties: Vec<(f64, f64)> = hungry.iter().map(|g| (float(*g), entitled)).collect();
    three(
        "divisible, equal weights",
        Fairness::of(&parties),
        Some(0.99),
        "64 GPUs in thousandths, skewed demand, seed 5",
    )
}

/// Whole tasks of 1, 2, 4 and 8 GPUs: envy is bounded by one task of the largest.
fn indivisible() -> Result<Vec<Row>> {
    const GPUS: u64 = 512;
    let nodes = (0..TENANTS).map(|_| Node {
        parent: None,
        weight: 1,
        task: Vec::new(),
        tasks: 0,
    });
    let tree = Tree::new(nodes.collect())?;
    let mut order = Order::new(&tree, &[GPUS]);
    for leaf in 0..TENANTS {
        order.set_waiting(leaf, true);
    }
    let mut held = [0u64; TENANTS];
    let mut left = GPUS;
    while let Some(leaf) = order.next() {
        let task = 1 << (leaf % 4);
        if task > left {
            order.set_waiting(leaf, false);
            continue;
        }
        left -= task;
        held[leaf] += task;
        order.took(leaf, &[task]);
    }
    let entitled = float(GPUS) / float(TENANTS as u64);
    let parties: Vec<(f64, f64)> = held.iter().map(|h| (float(*h), entitled)).collect();
    let fairness = Fairness::of(&parties);
    let mut rows = three(
        "whole tasks of 1 to 8 GPUs",
        fairness,
        None,
        "512 GPUs, equal weights",
    );
    let envy = fairness.envy * entitled / 8.0;
    rows.push(
        Row::at_most("fairness most envy, in tasks of 8 GPUs", envy, "tasks", 1.0)
            .with("512 GPUs, equal weights"),
    );
    Ok(rows)
}
