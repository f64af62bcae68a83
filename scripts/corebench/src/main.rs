//! Runs the core's benchmarks: `corebench [NAME] [--quick] [--json]`; exit 1 when a goal is missed.

use anyhow::{Result, bail};
use corebench::core::ALL;
use corebench::table;
use std::process::ExitCode;

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| args.iter().any(|a| a == name);
    let (quick, json) = (flag("--quick"), flag("--json"));
    let name = args.iter().find(|a| !a.starts_with("--"));
    let chosen: Vec<_> = ALL
        .iter()
        .filter(|(n, _)| name.is_none_or(|w| w == n))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = ALL.iter().map(|(n, _)| *n).collect();
        bail!("no benchmark of that name; there are {}", names.join(", "));
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
