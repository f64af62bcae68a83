//! `cloud-faults`: launches and terminations on doubles of three clouds while three of ten calls go wrong.

use super::Row;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::process::Command;

const CLOUDS: [&str; 3] = ["aws", "gcp", "azure"];
const OPERATIONS: u32 = 10_000;
const QUICK: u32 = 500;

#[derive(Deserialize)]
struct Said {
    name: String,
    figure: f64,
    unit: String,
    goal: Option<f64>,
    inputs: String,
}

pub(crate) fn run(quick: bool) -> Result<Vec<Row>> {
    let operations = if quick { QUICK } else { OPERATIONS };
    let mut rows = Vec::new();
    for cloud in CLOUDS {
        eprintln!("{cloud}: {operations} operations");
        rows.extend(of(cloud, operations)?);
    }
    Ok(rows)
}

/// A program of its own: xtask compiles no cloud's SDK.
fn of(cloud: &str, operations: u32) -> Result<Vec<Row>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args(["run", "--release", "--quiet", "-p", "gpuloom-tests"])
        .args(["--bin", "cloud-faults", "--", "play", cloud])
        .args(["--operations", &operations.to_string()])
        .current_dir(crate::root());
    let output = cargo.stderr(std::process::Stdio::inherit()).output()?;
    if output.stdout.is_empty() {
        bail!("cloud-faults play {cloud} ended with {}", output.status);
    }
    let said: Vec<Said> =
        serde_json::from_slice(&output.stdout).context("cloud-faults prints rows")?;
    let row = |said: Said| Row {
        name: said.name,
        figure: said.figure,
        unit: match said.unit.as_str() {
            "calls" => "calls",
            "%" => "%",
            "1/s" => "1/s",
            _ => "count",
        },
        goal: said.goal,
        peer: None,
        inputs: said.inputs,
    };
    Ok(said.into_iter().map(row).collect())
}
