//! The benchmarks, by name.

mod admission;
mod allocation;
mod decision;
mod defrag;
mod earlier;
mod fairness;
mod fragmentation;
mod gang_reclaim;
mod llm;
mod memory;
mod openb;
mod philly;
mod policies;
mod predictor;
mod thompson;
mod token_efficiency;

use crate::row::Row;
use anyhow::Result;
use std::path::PathBuf;

/// A benchmark; `true`: quick, under a minute, the same goals on less input.
pub type Bench = (&'static str, fn(bool) -> Result<Vec<Row>>);

/// Every benchmark of the core.
pub const ALL: &[Bench] = &[
    ("openb", openb::run),
    ("decision", decision::run),
    ("policies", policies::run),
    ("philly", philly::run),
    ("thompson", thompson::run),
    ("llm", llm::run),
    ("token-efficiency", token_efficiency::run),
    ("predictor", predictor::run),
    ("admission", admission::run),
    ("gang-reclaim", gang_reclaim::run),
    ("fairness", fairness::run),
    ("memory", memory::run),
    ("fragmentation", fragmentation::run),
    ("defrag", defrag::run),
    ("earlier", earlier::run),
];

/// Where public traces are: `GPULOOM_DATA`, else nowhere.
pub(crate) fn data(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("GPULOOM_DATA")?;
    let path = PathBuf::from(root).join(path);
    path.exists().then_some(path)
}

/// The file's text.
pub(crate) fn read(path: &std::path::Path) -> Result<String> {
    use anyhow::Context as _;
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
