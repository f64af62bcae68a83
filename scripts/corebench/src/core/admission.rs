//! Whether what was let in is in time, and how often admission says what trying everything says.

use crate::row::Row;
use anyhow::{Context as _, Result};
use gpuloom_replay::Chance;
use gpuloom_sched::admit::{
    Book, Gang, Holder, Overbook, OverbookError, Periodic, PeriodicVerdict, Preemptible, Profile,
    SlackTree, Start, Terms, Z_P99, exact, feasible, schedule,
};
use std::time::Instant;

pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let mut rows = agreement(if quick { 2_000 } else { 10_000 })?;
    rows.extend(periodic(if quick { 2_000 } else { 20_000 }));
    rows.extend(missed(if quick { 2_000 } else { 10_000 }));
    rows.extend(latency(if quick { 100_000 } else { 500_000 }));
    rows.extend(overbooked(if quick { 20_000 } else { 200_000 })?);
    Ok(rows)
}

/// Up to 8 gangs on up to 8 GPUs with a reservation, runtimes exact.
fn case(chance: &mut Chance) -> (Profile, Vec<Gang>) {
    let units = 2 + chance.bits() % 7;
    let mut profile = Profile::new(units);
    let from = chance.bits() % 12;
    let taken = profile.take(from, from + chance.bits() % 8, chance.bits() % units);
    debug_assert!(taken.is_ok());
    let n = 2 + chance.bits() % 7;
    let gangs = (0..n).map(|id| {
        let runtime_ms = 1 + chance.bits() % 8;
        let release_ms = chance.bits() % 6;
        Gang {
            id,
            gpus: 1 + chance.bits() % units,
            runtime_ms,
            release_ms,
            deadline_ms: release_ms + runtime_ms + chance.bits() % (4 * n),
        }
    });
    (profile, gangs.collect())
}

fn agreement(cases: u32) -> Result<Vec<Row>> {
    let mut chance = Chance::new(1);
    let (mut accepts, mut rejects, mut edf, mut feasible) = (0u32, 0u32, 0u32, 0u32);
    for _ in 0..cases {
        let (profile, gangs) = case(&mut chance);
        let truth = exact(&profile, &gangs, 0).context("the case is small")?;
        let said = schedule(&profile, &gangs, 0).is_some();
        feasible += u32::from(truth);
        accepts += u32::from(said && !truth);
        rejects += u32::from(truth && !said);
        edf += u32::from(in_deadline_order(&profile, &gangs) == truth);
    }
    let inputs = format!("{cases} cases, 2 to 8 gangs, {feasible} feasible, seed 1");
    let part = |n: u32| f64::from(n) / f64::from(cases) * 100.0;
    let agreed = part(cases - accepts - rejects);
    Ok(vec![
        Row::at_most("admission false accepts", f64::from(accepts), "cases", 0.0).with(&inputs),
        Row::report("admission false rejects", f64::from(rejects), "cases").with(&inputs),
        Row::at_least("admission agreement with brute force", agreed, "%", 99.0).with(&inputs),
        Row::report("admission agreement of plain EDF order", part(edf), "%").with(inputs),
    ])
}

/// The peer: each gang in order of deadline as early as it fits, no search.
fn in_deadline_order(profile: &Profile, gangs: &[Gang]) -> bool {
    let mut order: Vec<&Gang> = gangs.iter().collect();
    order.sort_by_key(|g| (g.deadline_ms, g.id));
    let mut free = profile.clone();
    order.into_iter().all(|g| {
        let start = free.earliest(g.gpus, g.runtime_ms, g.release_ms);
        start.is_some_and(|s| {
            let end = s + g.runtime_ms;
            end <= g.deadline_ms && free.take(s, end, g.gpus).is_ok()
        })
    })
}

fn periodic(cases: u32) -> Vec<Row> {
    let mut chance = Chance::new(2);
    let (mut accepts, mut rejects) = (0u32, 0u32);
    for _ in 0..cases {
        let n = 2 + chance.below(4);
        let tasks: Vec<Periodic> = (0..n)
            .map(|_| {
                let period_ms = [4, 6, 8, 12, 24][chance.below(5)];
                Periodic {
                    work_ms: 1 + chance.bits() % 4,
                    deadline_ms: 2 + chance.bits() % (period_ms + 4),
                    period_ms,
                }
            })
            .collect();
        let said = feasible(&tasks, Preemptible::Yes) == PeriodicVerdict::Feasible;
        let truth = runs_in_time(&tasks);
        accepts += u32::from(said && !truth);
        rejects += u32::from(truth && !said);
    }
    let inputs = format!("{cases} sets of 2 to 5 tasks, run over two hyperperiods, seed 2");
    vec![
        Row::at_most(
            "admission periodic false accepts",
            f64::from(accepts),
            "cases",
            0.0,
        )
        .with(&inputs),
        Row::at_most(
            "admission periodic false rejects",
            f64::from(rejects),
            "cases",
            0.0,
        )
        .with(inputs),
    ]
}

/// Earliest deadline first, millisecond by millisecond, all tasks coming together.
fn runs_in_time(tasks: &[Periodic]) -> bool {
    if tasks
        .iter()
        .map(|t| t.work_ms * 24 / t.period_ms)
        .sum::<u64>()
        > 24
    {
        return false;
    }
    let mut waiting: Vec<(u64, u64)> = Vec::new();
    for now in 0..72 {
        let come = tasks.iter().filter(|t| now % t.period_ms == 0);
        waiting.extend(come.map(|t| (now + t.deadline_ms, t.work_ms)));
        waiting.sort_unstable();
        if let Some(first) = waiting.first_mut() {
            first.1 -= 1;
            if first.1 == 0 {
                waiting.remove(0);
            }
        }
        if waiting.iter().any(|(deadline, _)| *deadline <= now + 1) {
            return false;
        }
    }
    true
}

/// What really happens to a gang that was let in.
struct Real {
    gang: Gang,
    lasts_ms: u64,
}

/// Gangs come to 64 GPUs and are promised on the 99th percentile of a lognormal runtime. One that runs
/// longer goes on where that breaks no promise, else it is stopped and missed.
fn missed(arrivals: u32) -> Vec<Row> {
    let mut chance = Chance::new(3);
    let mut book = Book::new(Profile::new(64));
    let mut real: Vec<Real> = Vec::new();
    let (mut admitted, mut missed) = (0u32, 0u32);
    let mut ends: Vec<(u64, u64)> = Vec::new();
    let mut comes_ms = 0;
    for id in 0..u64::from(arrivals) {
        comes_ms += 1 + chance.bits() % 20_000;
        run_until(comes_ms, &mut book, &real, &mut ends, &mut missed);
        let median = 10_000.0 + 590_000.0 * chance.unit() * chance.unit();
        let sd = 0.3;
        let ms = |x: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a positive runtime of minutes"
            )]
            let ms = x.round() as u64;
            ms.max(1)
        };
        let runtime_ms = ms(median * (2.326 * sd_of(sd)).exp());
        let gang = Gang {
            id,
            gpus: 1 << chance.below(6),
            runtime_ms,
            release_ms: comes_ms,
            deadline_ms: comes_ms + runtime_ms + chance.bits() % (2 * runtime_ms),
        };
        let lasts_ms = ms(median * (sd_of(sd) * normal(&mut chance)).exp());
        real.push(Real { gang, lasts_ms });
        admitted += u32::from(book.ask(gang, comes_ms).is_ok());
    }
    run_until(u64::MAX, &mut book, &real, &mut ends, &mut missed);
    let inputs =
        format!("{arrivals} gangs asked, 64 GPUs, lognormal runtimes sd .3, p99 promised, seed 3");
    let part = f64::from(missed) / f64::from(admitted.max(1)) * 100.0;
    let let_in = f64::from(admitted) / f64::from(arrivals) * 100.0;
    vec![
        Row::at_most("admission admitted that missed", part, "%", 1.0).with(&inputs),
        Row::report("admission admitted of asked", let_in, "%").with(inputs),
    ]
}

/// Of the logarithm.
fn sd_of(sd: f64) -> f64 {
    (1.0 + sd * sd).ln().sqrt()
}

/// Starts and ends what is due before `until_ms`.
fn run_until(
    until_ms: u64,
    book: &mut Book,
    real: &[Real],
    ends: &mut Vec<(u64, u64)>,
    missed: &mut u32,
) {
    loop {
        let start: Option<Start> = book
            .starts()
            .iter()
            .copied()
            .min_by_key(|s| (s.at_ms, s.id));
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let end = ends.last().copied();
        let start_ms = start.map_or(u64::MAX, |s| s.at_ms);
        let end_ms = end.map_or(u64::MAX, |e| e.0);
        if start_ms.min(end_ms) >= until_ms {
            return;
        }
        if let Some((at, id)) = end.filter(|_| end_ms <= start_ms) {
            ends.pop();
            let Some(Real { gang, .. }) = real.iter().rev().find(|r| r.gang.id == id) else {
                continue;
            };
            book.ended(id, at);
            *missed += u32::from(at > gang.deadline_ms);
            continue;
        }
        let (Some(start), Some(Real { gang, lasts_ms })) = (
            start,
            real.iter()
                .rev()
                .find(|r| Some(r.gang.id) == start.map(|s| s.id)),
        ) else {
            return;
        };
        if !book.started(gang.id, start.at_ms) {
            // Never: its place is in the schedule. Counted, so that it shows.
            *missed += 1;
            book.ended(gang.id, start.at_ms);
            continue;
        }
        let longer = lasts_ms.saturating_sub(gang.runtime_ms);
        let end = start.at_ms + lasts_ms;
        if longer == 0
            || book
                .reserve(start.end_ms, end, gang.gpus, start.at_ms)
                .is_ok()
        {
            ends.push((end, gang.id));
        } else {
            *missed += 1;
            ends.push((start.end_ms, gang.id));
        }
    }
}

/// Standard normal: Box and Muller (1958).
fn normal(chance: &mut Chance) -> f64 {
    let radius = (-2.0 * (1.0 - chance.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * chance.unit()).cos()
}

fn latency(entries: u32) -> Vec<Row> {
    let ask = |n: u32| {
        let mut chance = Chance::new(4);
        let mut tree = SlackTree::default();
        let mut entry = |id: u64, tree: &mut SlackTree| {
            let deadline = 1_000_000_000_000 + chance.bits() % 1_000_000_000;
            tree.ask(id, deadline, 1 + chance.bits() % 100, 0).is_ok()
        };
        for id in 0..u64::from(n) {
            entry(id, &mut tree);
        }
        let rounds = 100_000u64;
        let start = Instant::now();
        for i in 0..rounds {
            entry(u64::from(n) + i, &mut tree);
            tree.remove(i);
        }
        start.elapsed().as_secs_f64() * 1e9 / 100_000.0
    };
    let (few, many) = (ask(1_000), ask(entries));
    let mut book = Book::new(Profile::new(4_096));
    let mut chance = Chance::new(5);
    let mut times = Vec::new();
    for id in 0..2_000 {
        let gang = Gang {
            id,
            gpus: 1 + chance.bits() % 64,
            runtime_ms: 1_000 + chance.bits() % 100_000,
            release_ms: 0,
            deadline_ms: 200_000 + chance.bits() % 10_000_000,
        };
        let start = Instant::now();
        let answer = book.ask(gang, 0);
        if id >= 1_000 && answer.is_ok() {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let inputs = format!("{entries} and 1000 entries wait, 100000 asks, seed 4");
    let mut rows = vec![
        Row::report("admission one server ask and leave", many, "ns").with(&inputs),
        Row::report(
            "admission one server, by 1000 waiting",
            many / few.max(1e-9),
            "x",
        )
        .with(inputs),
    ];
    if let Some(p50) = crate::row::median(&mut times) {
        rows.push(
            Row::report("admission gang ask p50", p50, "us").with("1000 to 2000 gangs promised"),
        );
    }
    rows
}

/// Holders whose peaks come together in part, let in until no more are; then their use is drawn.
fn overbooked(draws: u32) -> Result<Vec<Row>> {
    const CAPACITY: u64 = 100_000;
    let (correlation, mut chance) = (0.3f64, Chance::new(6));
    let mut book = Overbook::new(
        CAPACITY,
        Terms {
            z_milli: Z_P99,
            correlation_milli: 300,
        },
    );
    let mut within: Vec<Holder> = Vec::new();
    let mut refused = 0;
    for id in 0..10_000 {
        let mean = 200 + chance.bits() % 2_000;
        let holder = Holder {
            guaranteed: mean / 2,
            limit: mean * 4,
            mean,
            deviation: mean / 4,
            evictable: true,
            priority: 0,
        };
        match book.admit(id, holder) {
            Ok(()) => within.push(holder),
            Err(OverbookError::Chance { .. }) => refused += 1,
            Err(e) => return Err(e).context("every holder is well formed"),
        }
    }
    let mut over = 0u32;
    for _ in 0..draws {
        let common = normal(&mut chance);
        let sum: f64 = within.iter().fold(0.0, |sum, h| {
            #[expect(clippy::cast_precision_loss, reason = "thousands")]
            let (mean, sd) = (h.mean as f64, h.deviation as f64);
            let z = correlation.sqrt() * common + (1.0 - correlation).sqrt() * normal(&mut chance);
            sum + mean + sd * z
        });
        over += u32::from(sum > 100_000.0);
    }
    // The promise is at most 1%; of so many draws three standard errors more may show.
    let most = 1.0 + 300.0 * (0.01 * 0.99 / f64::from(draws)).sqrt();
    let inputs = format!(
        "{} holders let in, {refused} refused, correlation .3, {draws} draws, seed 6",
        within.len()
    );
    let part = f64::from(over) / f64::from(draws) * 100.0;
    #[expect(clippy::cast_precision_loss, reason = "at most the capacity")]
    let guaranteed = book.guaranteed() as f64 / 100_000.0;
    let ratio = f64::from(u32::try_from(book.ratio_milli()).unwrap_or(u32::MAX)) / 1000.0;
    Ok(vec![
        Row::at_most("admission overbooked beyond capacity", part, "%", most).with(&inputs),
        Row::at_most("admission guarantees by capacity", guaranteed, "x", 1.0).with(&inputs),
        Row::report("admission limits by capacity", ratio, "x").with(inputs),
    ])
}
