//! Job completion times without known durations, beside an oracle that knows them.

use super::{data, read};
use crate::row::Row;
use anyhow::{Result, bail};
use gpuloom_replay::philly::{self, Order};

/// Trace, GPUs and the goal for mean completion time beside the oracle's.
const CLUSTERS: [(&str, u32, f64); 3] = [
    ("6c71a0", 112, 1.10),
    ("b436b2", 80, 1.5),
    ("ee9e8c", 104, 1.2),
];
/// Tiresias' levels on these traces, in GPU-hours.
const LEVELS: [f64; 3] = [1.0, 8.0, 64.0];

pub(super) fn run(quick: bool) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, gpus, goal) in CLUSTERS {
        let Some(path) = data(&format!("philly/{name}.csv")) else {
            bail!(
                "the Philly traces are not here: set GPULOOM_DATA to a folder that has philly/{name}.csv"
            );
        };
        let jobs = philly::read(&read(&path)?)?;
        let oracle = philly::run(&jobs, gpus, &Order::SrsfOracle);
        let learned = philly::run(&jobs, gpus, &Order::Learned);
        let inputs = format!(
            "{} jobs, {gpus} GPUs; peer: SRSF that knows durations",
            learned.jobs
        );
        let of = |what: &str| format!("philly {name} {what}");
        rows.push(
            Row::at_most(of("mean JCT"), learned.mean_jct_h, "h", goal)
                .beside(oracle.mean_jct_h)
                .with(inputs),
        );
        rows.push(Row::at_most(
            of("preemptions a job"),
            learned.preemptions_per_job,
            "",
            2.0,
        ));
        rows.push(Row::at_most(
            of("p99.9 queueing"),
            learned.p999_queueing_h,
            "h",
            4.0,
        ));
        rows.push(Row::at_least(
            of("GPUs busy while jobs wait"),
            learned.busy_while_backlogged * 100.0,
            "%",
            97.0,
        ));
        if !quick {
            let levels = philly::run(&jobs, gpus, &Order::Mlfq(LEVELS.to_vec()));
            let fcfs = philly::run(&jobs, gpus, &Order::Fcfs);
            rows.push(Row::report(
                of("mean JCT, MLFQ 1/8/64 GPU-h"),
                levels.mean_jct_h,
                "h",
            ));
            rows.push(Row::report(of("mean JCT, FCFS"), fcfs.mean_jct_h, "h"));
        }
    }
    Ok(rows)
}
