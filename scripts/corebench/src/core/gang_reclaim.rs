//! Gangs, reclaim and verdicts on KAI's cases: decisions in process, no writes.

use super::allocation;
use crate::row::{Row, median};
use anyhow::{Context as _, Result};
use gpuloom_replay::Chance;
use gpuloom_sched::place::{Mix, Models, Placement, Placer, Racks, Room, Scoring, Shape, WHOLE};
use gpuloom_sched::reclaim::{
    Ask, Balance, Goal, Held, Holders, Shortfall, Within, plan, rebalance,
};
use std::collections::BTreeMap;
use std::time::Instant;

const NODES: usize = 500;
const NOW_MS: u64 = 10_000_000;

pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let rounds = if quick { 5 } else { 30 };
    let mut rows = gangs(rounds)?;
    rows.extend(verdicts(rounds)?);
    rows.extend(reclaims(rounds)?);
    rows.extend(oracle(if quick { 300 } else { 3_000 }));
    rows.extend(consolidation()?);
    rows.extend(allocation::rows(if quick { 20_000 } else { 200_000 })?);
    Ok(rows)
}

fn shape(gpus: u8) -> Shape {
    Shape {
        cpu_milli: u32::from(gpus) * 8_000,
        memory_mib: u32::from(gpus) * 65_536,
        gpus,
        share_milli: WHOLE,
        models: Models::ANY,
    }
}

pub(super) fn fleet(nodes: usize, work: &BTreeMap<Shape, u64>) -> Result<Placer> {
    let room = Room {
        cpu_milli: 96_000,
        memory_mib: 1_048_576,
        model: 0,
        gpus: vec![WHOLE; 8],
    };
    let rooms = vec![room; nodes];
    let mut placer = Placer::new(Scoring::FragmentationAware, Mix::of(work, rooms.iter()));
    for room in rooms {
        placer.add(room).context("few nodes")?;
    }
    Ok(placer)
}

fn work() -> BTreeMap<Shape, u64> {
    BTreeMap::from([
        (shape(1), 60),
        (shape(2), 20),
        (shape(4), 10),
        (shape(8), 10),
    ])
}

fn racks(nodes: usize, per_rack: u32) -> Racks {
    let of: Vec<u32> = (0u32..).take(nodes).map(|n| n / per_rack).collect();
    Racks::new(&of)
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn row(name: &str, mut times: Vec<f64>, goal: f64, inputs: &str) -> Result<Row> {
    let n = times.len();
    let worst = times.iter().copied().fold(0.0, f64::max);
    let figure = median(&mut times).context("no rounds")?;
    let inputs = format!("{inputs}; median of {n}, worst {worst:.2} ms");
    Ok(Row::at_most(name, figure, "ms", goal).with(inputs))
}

/// Half of a fleet's nodes carry two GPUs' worth of work, so that it is not all alike.
fn used(nodes: usize, seed: u64) -> Result<Placer> {
    let mut placer = fleet(nodes, &work())?;
    let mut chance = Chance::new(seed);
    for node in 0..nodes {
        if chance.below(2) == 0 {
            let at = Placement {
                node,
                gpus: vec![0, 1],
            };
            placer.take(&shape(2), &at);
        }
    }
    Ok(placer)
}

fn gangs(rounds: u64) -> Result<Vec<Row>> {
    let (mut one, mut rack, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for seed in 0..rounds {
        let mut placer = used(NODES, seed)?;
        let gang = vec![shape(1); 512];
        let start = Instant::now();
        placer.place_all(&gang).context("512 of 3,500 GPUs")?;
        one.push(ms(start));
        let mut placer = used(NODES, seed)?;
        let racks = racks(NODES, 100);
        let start = Instant::now();
        let placed = placer.place_in_one_rack(&shape(1), 512, &racks);
        rack.push(ms(start));
        placed.context("512 of about 700 GPUs")?;
        let mut placer = fleet(512, &work())?;
        let start = Instant::now();
        placer
            .place_all(&vec![shape(8); 512])
            .context("512 nodes")?;
        whole.push(ms(start));
    }
    let kai = "KAI with API writes: 48.7 s";
    Ok(vec![
        row(
            "gang-reclaim gang of 512, 500 nodes",
            one,
            10.0,
            &format!("1 GPU each; {kai}"),
        )?,
        row(
            "gang-reclaim gang of 512 in one rack",
            rack,
            10.0,
            "1 GPU each, 5 racks of 100 nodes",
        )?,
        row(
            "gang-reclaim gang of 512, 512 nodes",
            whole,
            10.0,
            "8 GPUs each",
        )?,
    ])
}

/// 500 nodes of 8 GPUs, 4,000 jobs of one GPU.
fn full(priority: i32, seed: u64) -> Result<(Placer, Holders)> {
    let mut placer = fleet(NODES, &work())?;
    let mut holders = Holders::default();
    let mut chance = Chance::new(seed);
    let mut id = 0;
    for node in 0..NODES {
        for g in 0..8 {
            let at = Placement {
                node,
                gpus: vec![g],
            };
            placer.take(&shape(1), &at);
            let lost = chance.bits() % 3_600_000;
            id += 1;
            holders.add(Held {
                id,
                priority,
                shape: shape(1),
                pieces: vec![at],
                started_ms: 0,
                checkpointed_ms: Some(NOW_MS - lost),
                checkpoint_ms: chance.bits() % 60_000,
                restart_ms: chance.bits() % 60_000,
                min_runtime_ms: 600_000,
                disruptions_left: 3,
                moved_ms: None,
            });
        }
    }
    Ok((placer, holders))
}

fn ask(gpus: u8, pieces: usize, within: Within) -> Ask {
    Ask {
        job: 0,
        priority: 10,
        shape: shape(gpus),
        pieces,
        within,
    }
}

fn verdicts(rounds: u64) -> Result<Vec<Row>> {
    let mut times = Vec::new();
    let mut said = String::new();
    for seed in 0..rounds {
        let (mut placer, holders) = full(10, seed)?;
        let start = Instant::now();
        let placed = placer.place_all(&vec![shape(1); 512]);
        let short: Option<Shortfall> = match placed {
            Some(_) => None,
            None => plan(
                &placer,
                &holders,
                &racks(NODES, 100),
                &ask(1, 512, Within::Fleet),
                NOW_MS,
            )
            .err(),
        };
        said = short
            .context("the fleet is full of equal priority")?
            .to_string();
        times.push(ms(start));
    }
    anyhow::ensure!(
        said.contains("4000.000 GPUs are held by work of equal or higher priority"),
        "{said}"
    );
    let inputs =
        "512 pieces, 4,000 jobs of equal priority, reason included; KAI with API writes: 249.5 s";
    Ok(vec![row(
        "gang-reclaim unschedulable verdict",
        times,
        10.0,
        inputs,
    )?])
}

fn reclaims(rounds: u64) -> Result<Vec<Row>> {
    let cases = [
        (
            "gang-reclaim reclaim of 1 GPU",
            1,
            1,
            1.0,
            Within::Fleet,
            "KAI with API writes: 13.9 s",
        ),
        (
            "gang-reclaim reclaim of 2,000 x 1 GPU",
            1,
            2_000,
            100.0,
            Within::Fleet,
            "KAI with API writes: 102 s",
        ),
        (
            "gang-reclaim reclaim of 250 x 8 GPUs",
            8,
            250,
            100.0,
            Within::Fleet,
            "whole nodes",
        ),
        (
            "gang-reclaim reclaim of 60 x 8 GPUs, one rack",
            8,
            60,
            100.0,
            Within::Rack,
            "5 racks of 100 nodes",
        ),
    ];
    let racks = racks(NODES, 100);
    let mut rows = Vec::new();
    for (name, gpus, pieces, goal, within, inputs) in cases {
        let mut times = Vec::new();
        for seed in 0..rounds {
            let (placer, holders) = full(0, seed)?;
            let wanted = ask(gpus, pieces, within);
            let start = Instant::now();
            let found = plan(&placer, &holders, &racks, &wanted, NOW_MS);
            times.push(ms(start));
            let found = found.map_err(|short| anyhow::anyhow!("{short}"))?;
            anyhow::ensure!(
                found.victims.len() == usize::from(gpus) * pieces && found.exact,
                "{} victims for {pieces} pieces",
                found.victims.len()
            );
        }
        rows.push(row(
            name,
            times,
            goal,
            &format!("500 x 8 GPUs, 4,000 jobs; {inputs}"),
        )?);
    }
    Ok(rows)
}

/// Small fleets, so that every set of victims can be tried.
fn small(chance: &mut Chance, spanning: bool) -> Result<(Placer, Holders)> {
    let mut placer = fleet(4, &work())?;
    let mut holders = Holders::default();
    for id in 0..4 + chance.bits() % 8 {
        let n = 1 + u8::try_from(chance.below(6)).unwrap_or(0);
        let nodes = if spanning && chance.below(3) == 0 {
            vec![chance.below(4), chance.below(4)]
        } else {
            vec![chance.below(4)]
        };
        let mut pieces = Vec::new();
        for node in nodes {
            pieces.extend(
                placer
                    .place_among(&shape(n), 1, &[node])
                    .into_iter()
                    .flatten(),
            );
        }
        holders.add(Held {
            id,
            priority: i32::try_from(chance.below(2)).unwrap_or(0),
            shape: shape(n),
            pieces,
            started_ms: 0,
            checkpointed_ms: Some(NOW_MS - chance.bits() % 3_600_000),
            checkpoint_ms: chance.bits() % 60_000,
            restart_ms: chance.bits() % 60_000,
            min_runtime_ms: 0,
            disruptions_left: 1,
            moved_ms: None,
        });
    }
    Ok((placer, holders))
}

/// The highest priority stopped the lowest possible, then the least cost.
fn by_trying_all(placer: &Placer, holders: &Holders, ask: &Ask) -> Option<u128> {
    let all: Vec<&Held> = holders.iter().collect();
    let mut least: Option<(Option<i32>, u128)> = None;
    for mask in 0u32..1 << all.len() {
        let victims = || (0..).zip(&all).filter(move |(i, _)| mask >> i & 1 == 1);
        let top = victims().map(|(_, h)| h.priority).max();
        let cost = victims().map(|(_, h)| h.stop_cost(NOW_MS)).sum();
        if least.is_some_and(|l| l <= (top, cost)) {
            continue;
        }
        let mut after = placer.clone();
        for (_, h) in victims() {
            for at in &h.pieces {
                after.give(&h.shape, at);
            }
        }
        if after.times(&ask.shape, 0..4) >= ask.pieces {
            least = Some((top, cost));
        }
    }
    least.map(|(_, cost)| cost)
}

fn oracle(cases: u32) -> Vec<Row> {
    let ratios = |spanning: bool, gang: bool| {
        let mut chance = Chance::new(7);
        let (mut worst, mut sum, mut n, mut wrong) = (1.0f64, 0.0, 0u32, 0u32);
        for _ in 0..cases {
            let Ok((placer, holders)) = small(&mut chance, spanning) else {
                continue;
            };
            let gpus = 1 + u8::try_from(chance.below(8)).unwrap_or(0);
            let pieces = if gang { 2 + chance.below(5) } else { 1 };
            let wanted = ask(gpus, pieces, Within::Fleet);
            let least = by_trying_all(&placer, &holders, &wanted);
            let found = plan(&placer, &holders, &Racks::default(), &wanted, NOW_MS).ok();
            wrong += u32::from(least.is_some() != found.is_some());
            if let (Some(found), Some(least)) = (found, least.filter(|l| *l > 0)) {
                #[expect(clippy::cast_precision_loss, reason = "a ratio")]
                let ratio = found.cost as f64 / least as f64;
                worst = worst.max(ratio);
                sum += ratio;
                n += 1;
            }
        }
        (
            if wrong > 0 { f64::NAN } else { worst },
            sum / f64::from(n.max(1)),
            n,
        )
    };
    let line = |name: &str, goal: f64, (worst, mean, n): (f64, f64, u32)| {
        let inputs = format!("4 nodes, 4 to 11 jobs, worst of {n} cases, mean {mean:.4}, seed 7");
        Row::at_most(name, worst, "x", goal).with(inputs)
    };
    vec![
        line(
            "gang-reclaim cost by brute force, node",
            1.0,
            ratios(false, false),
        ),
        line(
            "gang-reclaim cost by brute force, gang",
            1.1,
            ratios(false, true),
        ),
        line(
            "gang-reclaim same, victims on two nodes",
            1.1,
            ratios(true, true),
        ),
    ]
}

/// KAI's consolidation: every node lacks a little for 41 gangs of 10 pods.
fn consolidation() -> Result<Vec<Row>> {
    let mut placer = fleet(NODES, &work())?;
    let mut holders = Holders::default();
    for node in 0..NODES {
        let n = if node % 2 == 0 { 5 } else { 1 };
        let gpus = (0..n).collect();
        let at = Placement { node, gpus };
        placer.take(&shape(n), &at);
        holders.add(Held {
            id: node as u64,
            priority: 0,
            shape: shape(n),
            pieces: vec![at],
            started_ms: 0,
            checkpointed_ms: Some(NOW_MS),
            checkpoint_ms: 30_000,
            restart_ms: 30_000,
            min_runtime_ms: 0,
            disruptions_left: 3,
            moved_ms: None,
        });
    }
    let balance = Balance {
        lasts_ms: 3_600_000,
        hysteresis_milli: 1_500,
        moves: 500,
        rest_ms: 600_000,
    };
    let goal = Goal::RoomFor {
        shape: shape(8),
        pieces: 205,
    };
    let start = Instant::now();
    let found = rebalance(&placer, &holders, goal, balance, NOW_MS)?;
    let took = ms(start);
    let inputs = format!(
        "500 nodes, 205 x 8 GPUs, {} moves; KAI's 41 x 10 pods with API writes: 456 s",
        found.moves.len()
    );
    Ok(vec![
        Row::report("gang-reclaim consolidation plan", took, "ms").with(inputs),
    ])
}
