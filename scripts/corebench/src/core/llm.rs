//! Service levels of inference requests on one server: our batching beside first come, first served.

use super::{data, read};
use crate::row::Row;
use anyhow::{Result, bail};
use gpuloom_replay::llm::{self, Outcome, Setup};

/// Trace, load and the attainment that shortest-prompt-first reached there in the published reference,
/// in percent.
const CASES: [(&str, f64, f64); 5] = [
    ("conv", 0.7, 99.9),
    ("conv", 0.9, 99.2),
    ("conv", 1.0, 98.4),
    ("code", 0.6, 84.8),
    ("code", 1.0, 71.4),
];
/// How far below the reference is still as good, in points.
const TOLERANCE: f64 = 0.5;

pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, load, reference) in CASES {
        let requests = llm::read(&read(&trace(&format!(
            "AzureLLMInferenceTrace_{name}.csv"
        ))?)?)?;
        let of = |what: &str| format!("llm {name} x{load} {what}");
        let run = |former: &str, order: &str| -> Result<Outcome> {
            Ok(llm::run(&requests, &Setup::named(former, order, load)?))
        };
        let ours = run("token-budget", "on-time")?;
        let fcfs = run("token-budget", "fcfs")?;
        let inputs = format!(
            "{} requests, 1 server, fixed model; bound {} s",
            ours.requests,
            llm::BOUND_US / 1_000_000
        );
        rows.push(
            Row::at_least(
                of("SLO attainment"),
                ours.slo_attainment_pct,
                "%",
                reference - TOLERANCE,
            )
            .with(inputs),
        );
        rows.push(
            Row::at_most(of("p99 TTFT"), ours.ttft_p99_s, "s", 1.0)
                .beside(fcfs.ttft_p99_s)
                .with("peer: first come, first served, iterations of 97 ms"),
        );
        rows.push(Row::report(of("p99 TPOT"), ours.tpot_p99_ms, "ms"));
        rows.push(Row::report(
            of("SLO attainment, FCFS"),
            fcfs.slo_attainment_pct,
            "%",
        ));
        if !quick {
            rows.extend(others(&of, &run)?);
        }
    }
    if !quick {
        rows.extend(long_prompts()?);
    }
    Ok(rows)
}

/// Prompts ten times as long, many of which begin alike: no reference was published for them.
fn long_prompts() -> Result<Vec<Row>> {
    const LOAD: f64 = 0.2;
    let requests = llm::read(&read(&trace("conversation_trace.jsonl")?)?)?;
    let mut rows = Vec::new();
    for (former, order) in [
        ("token-budget", "on-time"),
        ("token-budget", "fcfs"),
        ("prefix-affinity", "fcfs"),
    ] {
        let o = llm::run(&requests, &Setup::named(former, order, LOAD)?);
        let of = |what: &str| format!("llm mooncake x{LOAD} {what}, {former} {order}");
        let inputs = format!("{} requests, KV peak {:.2}", o.requests, o.kv_peak);
        rows.push(Row::report(of("SLO"), o.slo_attainment_pct, "%").with(inputs));
        rows.push(Row::report(of("p99 TTFT"), o.ttft_p99_s, "s"));
    }
    Ok(rows)
}

/// Other orders and formers on the same requests.
fn others(
    of: &dyn Fn(&str) -> String,
    run: &dyn Fn(&str, &str) -> Result<Outcome>,
) -> Result<Vec<Row>> {
    let sjf = run("token-budget", "sjf")?;
    let edf = run("token-budget", "edf")?;
    let mut rows = vec![
        Row::report(of("SLO attainment, SJF"), sjf.slo_attainment_pct, "%"),
        Row::report(of("p99 TTFT, SJF without bound"), sjf.ttft_p99_s, "s"),
        Row::report(
            of("SLO attainment, EDF that demotes"),
            edf.slo_attainment_pct,
            "%",
        ),
    ];
    for former in llm::FORMERS.iter().filter(|f| **f != "token-budget") {
        let o = run(former, "fcfs")?;
        let what = format!("SLO attainment, {former}");
        rows.push(Row::report(of(&what), o.slo_attainment_pct, "%"));
    }
    Ok(rows)
}

/// A trace's path.
pub(super) fn trace(name: &str) -> Result<std::path::PathBuf> {
    let Some(path) = data(&format!("llm/{name}")) else {
        bail!("the request traces are not here: set GPULOOM_DATA to a folder that has llm/{name}");
    };
    Ok(path)
}
