//! The latency predictor on the iterations of a replay, with noise, and with a change in the middle.

use super::llm::trace;
use super::read;
use crate::row::{Row, median};
use anyhow::{Result, bail};
use gpuloom_replay::Chance;
use gpuloom_replay::llm::{self, Iteration, Setup};
use gpuloom_sched::predict::{Predictor, PredictorSettings};

/// Noise of a measured time, either way, as a part of it.
const NOISE: f64 = 0.10;
/// Observations before the error is judged.
const WARM_UP: usize = 200;
/// Observations in which a drift has to be followed.
const RECOVERY: usize = 50;
/// Observations over which the error after a drift is judged.
const JUDGED: usize = 50;

/// What changes in the middle.
#[derive(Clone, Copy)]
struct Drift {
    name: &'static str,
    fixed: f64,
    token: f64,
    sequence: f64,
}

const DRIFTS: [Drift; 4] = [
    Drift {
        name: "half as slow again",
        fixed: 1.5,
        token: 1.5,
        sequence: 1.5,
    },
    Drift {
        name: "twice as slow",
        fixed: 2.0,
        token: 2.0,
        sequence: 2.0,
    },
    Drift {
        name: "twice as fast",
        fixed: 0.5,
        token: 0.5,
        sequence: 0.5,
    },
    Drift {
        name: "prompts twice as slow",
        fixed: 1.0,
        token: 2.0,
        sequence: 1.0,
    },
];

/// Errors of one run, in percent of what it took.
struct Errors {
    ours: f64,
    noise: f64,
    after_drift: f64,
    coverage: f64,
    noticed_after: f64,
}

pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let seeds = if quick { 5 } else { 31 };
    let most = if quick { 6_000 } else { 40_000 };
    let mut rows = Vec::new();
    for name in ["conv", "code"] {
        let requests = llm::read(&read(&trace(&format!(
            "AzureLLMInferenceTrace_{name}.csv"
        ))?)?)?;
        let mut seen = llm::iterations(&requests, &Setup::new(1.0)?);
        seen.truncate(most);
        for drift in DRIFTS {
            let mut runs = Vec::new();
            for seed in 0..seeds {
                runs.push(errors(&seen, drift, seed)?);
            }
            let middle = |of: fn(&Errors) -> f64| {
                median(&mut runs.iter().map(of).collect::<Vec<_>>()).unwrap_or(f64::NAN)
            };
            let worst = |of: fn(&Errors) -> f64| runs.iter().map(of).fold(f64::NAN, f64::max);
            let least = |of: fn(&Errors) -> f64| runs.iter().map(of).fold(f64::NAN, f64::min);
            let of = |what: &str| format!("predictor {name}, {}: {what}", drift.name);
            let inputs = format!(
                "{} iterations, noise +-10%, {seeds} seeds, worst",
                seen.len()
            );
            let noise = middle(|e| e.noise);
            rows.push(
                Row::at_most(
                    of("error above noise"),
                    worst(|e| e.ours - e.noise),
                    "points",
                    2.0,
                )
                .with(format!("{inputs}; noise itself {noise:.2}%")),
            );
            rows.push(
                Row::at_most(of("error 50 after it"), worst(|e| e.after_drift), "%", 15.0)
                    .with(&inputs),
            );
            rows.push(Row::at_least(
                of("coverage, least"),
                least(|e| e.coverage),
                "%",
                93.0,
            ));
            rows.push(Row::at_most(
                of("coverage, most"),
                worst(|e| e.coverage),
                "%",
                97.0,
            ));
            rows.push(Row::report(
                of("noticed after"),
                middle(|e| e.noticed_after),
                "batches",
            ));
        }
    }
    Ok(rows)
}

fn errors(seen: &[Iteration], drift: Drift, seed: u64) -> Result<Errors> {
    let Some(mut predictor) = Predictor::new(2, PredictorSettings::default()) else {
        bail!("the predictor's default settings are out of range");
    };
    let mut chance = Chance::new(seed);
    let half = seen.len() / 2;
    let (mut ours, mut noise, mut judged) = (0.0, 0.0, 0.0);
    let (mut after, mut held, mut given) = (0.0, 0.0, 0.0);
    let mut noticed = None;
    for (at, i) in seen.iter().enumerate() {
        let (tokens, sequences) = (number(i.tokens), number(i.sequences));
        let (fixed, token, sequence) = if at < half {
            (1.0, 1.0, 1.0)
        } else {
            (drift.fixed, drift.token, drift.sequence)
        };
        let cost = llm::COST;
        let truth = fixed * number(cost.fixed_us)
            + token * tokens * number(cost.token_ns) / 1000.0
            + sequence * sequences * number(cost.sequence_ns) / 1000.0;
        let took = truth * (1.0 + NOISE * (2.0 * chance.unit() - 1.0));
        let o = predictor.observe(&[tokens / 1000.0, sequences / 100.0], took);
        let error = 100.0 * (took - o.expected.mean).abs() / took;
        if let Some((low, high)) = o.expected.interval {
            given += 1.0;
            held += f64::from(u8::from((low..=high).contains(&took)));
        }
        if at >= WARM_UP && !(half..half + RECOVERY).contains(&at) {
            judged += 1.0;
            ours += error;
            noise += 100.0 * (took - truth).abs() / took;
        }
        if (half + RECOVERY..half + RECOVERY + JUDGED).contains(&at) {
            after += error / number(JUDGED as u64);
        }
        if o.drift && at >= half && noticed.is_none() {
            noticed = Some(number((at - half) as u64));
        }
    }
    Ok(Errors {
        ours: ours / judged,
        noise: noise / judged,
        after_drift: after,
        coverage: 100.0 * held / given,
        noticed_after: noticed.unwrap_or(f64::NAN),
    })
}

fn number(n: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "tokens and microseconds of an iteration"
    )]
    let n = n as f64;
    n
}
