//! Benchmarks: figure, goal, peer and ratio side by side in one run; SHORT when a goal is missed.

mod build;
mod clouds;
mod fleet;
mod footprint;
mod kill;
mod plan;
mod size;
mod start;

pub(crate) use build::release as release_binaries;

use anyhow::{Result, bail};
use corebench::core;
use serde::Serialize;
use std::process::{Command, ExitCode};

/// One line of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// The benchmark, then what is measured.
    pub(crate) name: String,
    /// What was measured, in `unit`.
    pub(crate) figure: f64,
    /// The unit of `figure`, `goal` and `peer`.
    pub(crate) unit: &'static str,
    /// The largest figure (or ratio, where there is a peer) that passes; `None`: reported only.
    pub(crate) goal: Option<f64>,
    /// What the same run measured of the peer.
    pub(crate) peer: Option<f64>,
    /// Inputs and seed.
    pub(crate) inputs: String,
}

/// Its name, and how it is measured: `true` on less input, where it can be.
type Bench = (&'static str, fn(bool) -> Result<Vec<Row>>);

const ALL: [Bench; 7] = [
    ("provider-start", |_| start::run()),
    ("provider-plan", |_| plan::run()),
    ("agent-footprint", |_| footprint::run()),
    ("kill-latency", |_| kill::run()),
    ("cloud-faults", clouds::run),
    ("binary-size", |_| size::size()),
    ("validate-time", |_| size::validate()),
];

/// Runs one benchmark by name, or all of them. Those of the scheduling core are a program of their
/// own: a release build of it needs neither the agent nor the provider.
pub(crate) fn run(name: Option<&str>, quick: bool, json: bool) -> Result<ExitCode> {
    if let Some(name) = name.filter(|n| core::ALL.iter().any(|(c, _)| c == n)) {
        return core_bench(name, quick, json);
    }
    let chosen: Vec<&Bench> = ALL
        .iter()
        .filter(|(n, _)| name.is_none_or(|w| w == *n))
        .collect();
    if chosen.is_empty() {
        let own = ALL.iter().map(|(n, _)| *n);
        let names: Vec<_> = own.chain(core::ALL.iter().map(|(n, _)| *n)).collect();
        bail!(
            "no benchmark is named {:?}; there are {}",
            name.unwrap_or_default(),
            names.join(", ")
        );
    }
    let mut rows = Vec::new();
    for (name, bench) in chosen {
        eprintln!("== {name}");
        rows.extend(bench(quick)?);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        table(&rows);
    }
    let short = rows.iter().any(|r| r.passes() == Some(false));
    Ok(if short {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn core_bench(name: &str, quick: bool, json: bool) -> Result<ExitCode> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["run", "--release", "--quiet", "-p", "corebench", "--", name]);
    cargo.args(quick.then_some("--quick"));
    cargo.args(json.then_some("--json"));
    let status = cargo.current_dir(crate::root()).status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn table(rows: &[Row]) {
    let number = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), |n| format!("{n:.2}"));
    println!(
        "{:<38} {:>10} {:<8} {:>8} {:>10} {:>7} {:<6} inputs",
        "name", "figure", "unit", "goal", "peer", "ratio", ""
    );
    for r in rows {
        let verdict = match r.passes() {
            Some(true) => "PASS",
            Some(false) => "SHORT",
            None => "-",
        };
        println!(
            "{:<38} {:>10.2} {:<8} {:>8} {:>10} {:>7} {:<6} {}",
            r.name,
            r.figure,
            r.unit,
            number(r.goal),
            number(r.peer),
            number(r.ratio()),
            verdict,
            r.inputs
        );
    }
}

/// The middle of the values; `None` of an empty list.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

// === impl Row ===

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.peer.filter(|p| *p > 0.0).map(|p| self.figure / p)
    }

    /// With a peer the goal bounds the ratio, else the figure.
    fn passes(&self) -> Option<bool> {
        self.goal
            .map(|goal| self.ratio().unwrap_or(self.figure) <= goal)
    }
}
