//! `kill-latency`: from the moment a job exceeds its memory limit until all of it is dead.

use super::fleet::Fleet;
use super::{Row, median};
use anyhow::{Context, Result};
use serde_json::Value;
use std::time::Duration;

const ROUNDS: usize = 9;
/// The node's poll period, 1 s, and the grace a job over its limit gets, none; plus 100 ms.
const GOAL_MS: f64 = 1_100.0;

pub(crate) fn run() -> Result<Vec<Row>> {
    let fleet = Fleet::up("2xA100-80G", "A100-80G", 1, 2)?;
    let mut latencies = Vec::new();
    for round in 0..ROUNDS {
        // The growth falls at a different moment of the poll period in each round.
        let after = format!("{}ms", 300 + round * 110);
        latencies.push(one(&fleet, &after)?);
    }
    let inputs = format!(
        "release build, one node, poll 1 s, a job of 4GiB grows to 8GiB, {ROUNDS} rounds spread over the period"
    );
    let largest = latencies.iter().copied().fold(0.0, f64::max);
    let row = |name: &str, figure, goal| Row {
        name: name.to_owned(),
        figure,
        unit: "ms",
        goal,
        peer: None,
        inputs: inputs.clone(),
    };
    Ok(vec![
        row(
            "kill-latency: median",
            median(&mut latencies).context("rounds")?,
            None,
        ),
        row("kill-latency: largest", largest, Some(GOAL_MS)),
    ])
}

/// Milliseconds from growth to the end the agent recorded.
fn one(fleet: &Fleet, after: &str) -> Result<f64> {
    let work = format!(
        "{} --gpu-memory 1GiB --grow-to 8GiB --grow-after {after} --duration 60s | while read l; do echo \"$(date +%s%3N) $l\"; done",
        fleet.workload()
    );
    let submitted = fleet.gpuloom(&[
        "submit",
        "--tenant",
        "bench",
        "--gpus",
        "0.5",
        "--gpu-memory",
        "4GiB",
        "--",
        "sh",
        "-c",
        &work,
    ])?;
    let id = submitted["ids"][0].as_str().context("a job id")?.to_owned();
    let ended = fleet.wait("the job is killed", Duration::from_secs(30), |fleet| {
        let job = fleet.gpuloom(&["why", &id])?;
        Ok(ended_at(&job))
    })?;
    let log = fleet.logs(&id)?;
    let grown = log
        .lines()
        .find(|l| l.contains("grown to"))
        .context("the job grew")?;
    let grown: f64 = grown.split_whitespace().next().context("a time")?.parse()?;
    Ok(ended - grown)
}

fn ended_at(job: &Value) -> Option<f64> {
    let attempts = job
        .get("attempts")
        .or_else(|| job.get(0)?.get("attempts"))?;
    attempts.get(0)?.get("ended_at_ms")?.as_f64()
}
