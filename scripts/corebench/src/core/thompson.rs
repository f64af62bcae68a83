//! How many decisions until Thompson sampling serves by the best of eight orders, with and without replay.

use crate::row::{Row, median};
use anyhow::Result;
use gpuloom_replay::Chance;
use gpuloom_sched::choose::{Settings, Thompson};

const ARMS: usize = 8;
/// Decisions after which the best arm becomes another.
const SHIFT: usize = 100;
const DECISIONS: usize = 300;
/// Of so many choices in a row 90% have to be within 5% of the best.
const WINDOW: usize = 20;

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    replay: bool,
    sd: f64,
    discount: f64,
    /// Goals before and after the shift.
    goals: (Option<f64>, Option<f64>),
}

/// The bounds are those of the published reproduction: decisions with all arms replayed, and without.
const CASES: [Case; 5] = [
    Case {
        name: "replayed, sd .05",
        replay: true,
        sd: 0.05,
        discount: 0.8,
        goals: (Some(2.0), Some(8.0)),
    },
    Case {
        name: "replayed, sd .10",
        replay: true,
        sd: 0.10,
        discount: 0.8,
        goals: (Some(10.0), None),
    },
    Case {
        name: "bandit, sd .05",
        replay: false,
        sd: 0.05,
        discount: 1.0,
        goals: (Some(18.0), None),
    },
    Case {
        name: "bandit, sd .10",
        replay: false,
        sd: 0.10,
        discount: 1.0,
        goals: (Some(62.0), None),
    },
    Case {
        name: "bandit, sd .20",
        replay: false,
        sd: 0.20,
        discount: 1.0,
        goals: (None, None),
    },
];

pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let seeds = if quick { 31 } else { 301 };
    let mut rows = Vec::new();
    for case in CASES {
        let runs: Vec<_> = (0..seeds).map(|seed| converge(case, seed)).collect();
        let middle = |of: fn(&(f64, f64)) -> f64| {
            median(&mut runs.iter().map(of).collect::<Vec<_>>()).unwrap_or(f64::NAN)
        };
        let inputs = format!("{ARMS} arms, best .05-.10 above the rest, median of {seeds} seeds");
        let mut row = |what: &str, figure: f64, goal: Option<f64>| {
            let name = format!("thompson {}, {what}", case.name);
            let row = match goal {
                Some(goal) => Row::at_most(name, figure, "choices", goal),
                None => Row::report(name, figure, "choices"),
            };
            rows.push(row.with(&inputs));
        };
        row("from the start", middle(|r| r.0), case.goals.0);
        row("after a change", middle(|r| r.1), case.goals.1);
    }
    Ok(rows)
}

/// Decisions until the choices settle on the best: from the start, and after the shift.
fn converge(case: Case, seed: u64) -> (f64, f64) {
    let mut chance = Chance::new(seed);
    let mut rewards: Vec<f64> = (0..ARMS).map(|_| 0.70 - chance.unit() * 0.05).collect();
    let first = chance.below(ARMS);
    rewards[first] = 0.75;
    let settings = Settings {
        noise: case.sd,
        discount: case.discount,
        safety: None,
        seed,
    };
    let Some(mut sampler) = Thompson::new(ARMS, 0, settings) else {
        return (f64::NAN, f64::NAN);
    };
    let mut good = Vec::with_capacity(DECISIONS);
    for step in 0..DECISIONS {
        if step == SHIFT {
            let other = (first + 1 + chance.below(ARMS - 1)) % ARMS;
            rewards.swap(first, other);
        }
        let best = rewards.iter().copied().fold(0.0, f64::max);
        let arm = if case.replay {
            // The window that has just passed is replayed under all arms before the choice.
            let seen: Vec<f64> = rewards
                .iter()
                .map(|r| r + case.sd * normal(&mut chance))
                .collect();
            sampler.observe_all(&[], &seen);
            sampler.best(&[])
        } else {
            let ticket = sampler.choose(&[]);
            sampler.credit(&ticket, rewards[ticket.arm] + case.sd * normal(&mut chance));
            ticket.arm
        };
        good.push(rewards[arm] >= best * 0.95);
    }
    (settled(&good[..SHIFT]), settled(&good[SHIFT..]))
}

/// The first decision from which on 90% of a window's choices are good; the length when never.
fn settled(good: &[bool]) -> f64 {
    let at = good
        .windows(WINDOW)
        .position(|w| w.iter().filter(|g| **g).count() * 10 >= WINDOW * 9);
    f64::from(u32::try_from(at.map_or(good.len(), |at| at + 1)).unwrap_or(u32::MAX))
}

fn normal(chance: &mut Chance) -> f64 {
    let (u, v) = (chance.unit(), chance.unit());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
