//! How long one placement takes, and how that grows with the fleet.

use super::{data, read};
use crate::row::Row;
use anyhow::Result;
use gpuloom_replay::openb::Trace;
use gpuloom_sched::place::Scoring;
use std::time::Instant;

/// Nodes of the larger fleet, as a multiple of the trace's.
const LARGER: usize = 80;

pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let (Some(nodes), Some(pods)) = (
        data("openb/openb_node_list_gpu_node.csv"),
        data("openb/openb_pod_list_default.csv"),
    ) else {
        anyhow::bail!("the openb trace is not here: set GPULOOM_DATA to a folder that has openb/");
    };
    let trace = Trace::read(&read(&nodes)?, &read(&pods)?)?;
    let larger = Trace {
        nodes: std::iter::repeat_n(&trace.nodes, LARGER)
            .flatten()
            .cloned()
            .collect(),
        pods: trace.pods.clone(),
    };
    let rounds = if quick { 1 } else { 5 };
    let mut small = Vec::new();
    for seed in 0..rounds {
        small.extend(times(&trace, seed, usize::MAX));
    }
    let mut large = times(&larger, 0, if quick { 100_000 } else { usize::MAX });
    let (n, inputs) = (small.len(), format!("{} nodes", trace.nodes.len()));
    let inputs = format!("{inputs}, {n} placements");
    let large_inputs = format!("{} nodes, {} placements", larger.nodes.len(), large.len());
    let (small_mean, large_mean) = (mean(&small), mean(&large));
    Ok(vec![
        Row::at_most("decision p50", part(&mut small, 0.50), "us", 5.0).with(&inputs),
        Row::at_most("decision p99", part(&mut small, 0.99), "us", 50.0).with(&inputs),
        Row::at_most("decision mean at 80x the nodes", large_mean, "us", 3.0)
            .beside(small_mean)
            .with(&large_inputs),
        Row::report(
            "decision p99 at 80x the nodes",
            part(&mut large, 0.99),
            "us",
        )
        .with(&large_inputs),
    ])
}

/// Microseconds of each placement.
fn times(trace: &Trace, seed: u64, most: usize) -> Vec<f64> {
    let mut times = Vec::new();
    trace.run_timed(Scoring::FragmentationAware, seed, |placer, pod| {
        if times.len() >= most {
            return false;
        }
        let start = Instant::now();
        let placed = placer.place(pod).is_some();
        times.push(start.elapsed().as_secs_f64() * 1e6);
        placed
    });
    times
}

fn mean(times: &[f64]) -> f64 {
    let n = f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
    times.iter().sum::<f64>() / n.max(1.0)
}

/// The time that so much of the times is below, e.g. 0.99.
fn part(times: &mut [f64], part: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into at most millions of times"
    )]
    let at = (times.len() as f64 * part) as usize;
    times.get(at).or(times.last()).copied().unwrap_or(f64::NAN)
}
