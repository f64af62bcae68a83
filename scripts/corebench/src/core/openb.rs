//! Unallocated GPUs on the openb trace, beside what was published of FGD.

use super::{data, read};
use crate::row::Row;
use anyhow::{Context as _, Result};
use gpuloom_replay::openb::{MARKS, Trace, summary};
use gpuloom_sched::place::Scoring;
use std::path::Path;

const FIRST_SEED: u64 = 42;
/// Goals on the default pods, in percent (published of FGD: 4.77 and 4.61).
const DEFAULT_GOALS: [(u32, f64); 2] = [(100, 4.2), (130, 4.1)];

pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let Some(nodes) = data("openb/openb_node_list_gpu_node.csv") else {
        anyhow::bail!(
            "the openb trace is not here: set GPULOOM_DATA to a folder that has openb/openb_node_list_gpu_node.csv and its pod lists"
        );
    };
    let folder = nodes.parent().context("a folder")?;
    let nodes = read(&nodes)?;
    let published = data("openb_published_unallocated_pct.csv");
    let published = published.map(|p| read(&p)).transpose()?.unwrap_or_default();
    let seeds = if quick { 2 } else { 10 };
    let mut rows = Vec::new();
    for list in lists(folder)? {
        let pods = read(&folder.join(format!("openb_pod_list_{list}.csv")))?;
        let trace = Trace::read(&nodes, &pods)?;
        let runs: Vec<_> = (FIRST_SEED..FIRST_SEED + seeds)
            .map(|seed| trace.run(Scoring::FragmentationAware, seed))
            .collect();
        for (mark, (mean, sd)) in MARKS.iter().zip(summary(&runs)) {
            let name = format!("openb {list} unallocated @{mark}%");
            let inputs = format!("{seeds} seeds from {FIRST_SEED}, sd {sd:.2}");
            let fgd = published_fgd(&published, &list, *mark);
            let goal = DEFAULT_GOALS.iter().find(|(m, _)| m == mark);
            let row = match (goal, fgd) {
                (Some((_, goal)), _) if list == "default" => Row::at_most(name, mean, "%", *goal),
                (Some(_), Some(fgd)) => Row::at_most(name, mean, "%", 1.0).beside(fgd),
                _ => continue,
            };
            let against = fgd.map(|f| format!(", FGD published {f:.2}"));
            rows.push(row.with(inputs + &against.unwrap_or_default()));
        }
    }
    Ok(rows)
}

/// The pod lists of the folder, the default one first.
fn lists(folder: &Path) -> Result<Vec<String>> {
    let mut lists = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let list = name.strip_prefix("openb_pod_list_");
        if let Some(list) = list.and_then(|l| l.strip_suffix(".csv")) {
            lists.push(list.to_owned());
        }
    }
    lists.sort_by_key(|l| (l != "default", l.clone()));
    Ok(lists)
}

fn published_fgd(table: &str, list: &str, mark: u32) -> Option<f64> {
    let start = format!("openb_pod_list_{list},06-FGD,{mark},");
    let line = table.lines().find_map(|l| l.strip_prefix(&start))?;
    line.split(',').next()?.parse().ok()
}
