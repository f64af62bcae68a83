//! `agent-footprint`: memory and processor time of agents over 8 simulated GPUs read once a second.

use super::Row;
use super::fleet::{Fleet, Use, probe_of, used};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

const SETTLE: Duration = Duration::from_secs(10);
const OVER: Duration = Duration::from_secs(60);

pub(crate) fn run() -> Result<Vec<Row>> {
    let fleet = Fleet::up("8xA100-80G", "A100-80G", 1, 8)?;
    std::thread::sleep(SETTLE);
    let before = measure(&fleet)?;
    let start = Instant::now();
    std::thread::sleep(OVER);
    let after = measure(&fleet)?;
    let seconds = start.elapsed().as_secs_f64();
    let mut rows = Vec::new();
    for ((name, then), (_, now)) in before.iter().zip(&after) {
        let role = if name.starts_with("lead") {
            "lead"
        } else {
            "node"
        };
        let inputs =
            "release build, 8 simulated A100-80G on one node, 1 Hz, empty queue, 60 s".to_owned();
        let row = |what: &str, figure, unit, goal| Row {
            name: format!("agent-footprint: {role} {what}"),
            figure,
            unit,
            goal,
            peer: None,
            inputs: inputs.clone(),
        };
        let cpu = |now: Use, then: Use| (now.cpu_s - then.cpu_s) / seconds * 100.0;
        rows.push(row("memory", now[0].rss_mib, "MiB", Some(25.0)));
        if now[1].rss_mib > 0.0 {
            rows.push(row("gpu-probe memory", now[1].rss_mib, "MiB", None));
        }
        rows.push(row(
            "cpu with gpu-probe",
            cpu(now[0], then[0]) + cpu(now[1], then[1]),
            "% core",
            Some(1.0),
        ));
    }
    Ok(rows)
}

/// Each agent's own use and its probe's.
fn measure(fleet: &Fleet) -> Result<Vec<(String, [Use; 2])>> {
    let agents = fleet.agents()?;
    let one = |(name, pid): (String, i32)| {
        let probe = probe_of(pid)?.map(used).transpose()?.unwrap_or_default();
        Ok((name, [used(pid).context("the agent runs")?, probe]))
    };
    agents.into_iter().map(one).collect()
}
