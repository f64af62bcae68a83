//! `gpuloom simulate`: replays a trace on the very code that schedules a fleet, and says what came of it.

use super::CommandError;
use clap::{Args, Subcommand, ValueEnum};
use gpuloom_replay::{openb, philly};
use gpuloom_sched::place::Scoring;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Largest trace that is read, in bytes.
const MAX_TRACE_BYTES: u64 = 1 << 30;
/// Most seeds of one simulation.
const MAX_SEEDS: u64 = 1_000;

/// What to replay.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    #[command(subcommand)]
    trace: Trace,
}

#[derive(Debug, Clone, Subcommand)]
enum Trace {
    /// Pods that arrive on a cluster and stay: how many GPUs cannot be given away? (Weng et al., ATC'23)
    Openb(OpenbArgs),
    /// Training jobs that arrive, run and end on a cluster: how long does each take?
    Philly(PhillyArgs),
}

#[derive(Debug, Clone, Args)]
struct OpenbArgs {
    /// The nodes: a CSV with sn, cpu_milli, memory_mib, gpu, model
    #[arg(long, value_name = "FILE")]
    nodes: PathBuf,
    /// The pods: a CSV with name, cpu_milli, memory_mib, num_gpu, gpu_milli, gpu_spec
    #[arg(long, value_name = "FILE")]
    pods: PathBuf,
    /// How many random orders of arrival
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=MAX_SEEDS))]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 42)]
    first_seed: u64,
    /// How a node is chosen
    #[arg(long, value_enum, default_value_t)]
    placement: Placement,
}

#[derive(Debug, Clone, Args)]
struct PhillyArgs {
    /// The jobs: a CSV with arrival_s, duration_s_v100, gpus
    #[arg(long, value_name = "FILE")]
    jobs: PathBuf,
    /// GPUs of the cluster; jobs that ask for more are left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    gpus: u32,
    /// Who goes first; all of them without it
    #[arg(long, value_enum)]
    policy: Option<Policy>,
    /// Levels of mlfq, in GPU-hours
    #[arg(long, value_delimiter = ',', default_values_t = [1.0, 8.0, 64.0])]
    levels: Vec<f64>,
}

/// How a node is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Placement {
    /// So that the least becomes unusable: fragments, stranded GPUs, scarce models
    #[default]
    FragmentationAware,
    /// By fragments alone, as published
    Fragmentation,
    /// The fullest node
    BestFit,
    /// The emptiest node
    Spread,
}

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// First come, first served
    Fcfs,
    /// The shortest remaining first, knowing every duration: a bound, not a policy
    SrsfOracle,
    /// The least attained first
    Las,
    /// Levels of attained use
    Mlfq,
    /// Learned from finished jobs
    Learned,
}

/// Replays, and prints a table or JSON.
///
/// # Errors
/// [`CommandError::Usage`]: a file that cannot be read, or a trace that is none.
pub fn simulate(
    args: &SimulateArgs,
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let (json, text) = match &args.trace {
        Trace::Openb(args) => replay_openb(args)?,
        Trace::Philly(args) => replay_philly(args)?,
    };
    if as_json {
        writeln!(out, "{json:#}")?;
    } else {
        out.write_all(text.as_bytes())?;
    }
    Ok(())
}

fn replay_openb(args: &OpenbArgs) -> Result<(Value, String), CommandError> {
    let trace = openb::Trace::read(&read(&args.nodes)?, &read(&args.pods)?);
    let trace = trace.map_err(|e| CommandError::Usage(e.to_string()))?;
    let scoring = args.placement.scoring();
    let seeds = args.first_seed..args.first_seed.saturating_add(args.seeds);
    let runs: Vec<_> = seeds.map(|seed| trace.run(scoring, seed)).collect();
    let mut marks = Vec::new();
    let mut text = format!(
        "{} nodes with {} GPUs, {} pods, {} orders of arrival\n\n{:>12}  {:>14}  {:>5}\n",
        trace.nodes.len(),
        trace.capacity_milli() / 1000,
        trace.pods.len(),
        runs.len(),
        "ARRIVED",
        "UNALLOCATED",
        "SD",
    );
    for (mark, (mean, sd)) in openb::MARKS.iter().zip(openb::summary(&runs)) {
        marks.push(json!({
            "arrived_pct": mark, "unallocated_gpu_pct_mean": mean, "unallocated_gpu_pct_sd": sd,
        }));
        text.push_str(&format!("{mark:>11}%  {mean:>13.2}%  {sd:>5.2}\n"));
    }
    let json = json!({
        "trace": "openb", "placement": args.placement.name(), "seeds": args.seeds,
        "first_seed": args.first_seed, "summary": marks, "runs": runs,
    });
    Ok((json, text))
}

fn replay_philly(args: &PhillyArgs) -> Result<(Value, String), CommandError> {
    let jobs = philly::read(&read(&args.jobs)?);
    let jobs = jobs.map_err(|e| CommandError::Usage(e.to_string()))?;
    if !jobs.iter().any(|j| j.gpus <= args.gpus) {
        return Err(CommandError::Usage(format!(
            "every job of {} asks for more than --gpus {}: state a larger cluster",
            args.jobs.display(),
            args.gpus
        )));
    }
    if args.levels.iter().any(|l| !l.is_finite() || *l <= 0.0) {
        let wrong = "--levels are GPU-hours above 0, such as 1,8,64";
        return Err(CommandError::Usage(wrong.to_owned()));
    }
    let policies = args
        .policy
        .map_or_else(|| Policy::value_variants().to_vec(), |p| vec![p]);
    let mut all = Vec::new();
    let mut text = format!(
        "{} GPUs\n\n{:<12} {:>6} {:>10} {:>12} {:>14} {:>11} {:>13}\n",
        args.gpus,
        "POLICY",
        "JOBS",
        "MEAN JCT",
        "MEAN WAIT",
        "P99.9 WAIT",
        "MAKESPAN",
        "PREEMPTIONS"
    );
    for policy in policies {
        let done = philly::run(&jobs, args.gpus, &policy.order(&args.levels));
        text.push_str(&format!(
            "{:<12} {:>6} {:>8.2} h {:>10.2} h {:>12.2} h {:>9.0} h {:>9.2}/job\n",
            policy.name(),
            done.jobs,
            done.mean_jct_h,
            done.mean_queueing_h,
            done.p999_queueing_h,
            done.makespan_h,
            done.preemptions_per_job
        ));
        all.push(json!({"policy": policy.name(), "figures": done}));
    }
    Ok((
        json!({"trace": "philly", "gpus": args.gpus, "policies": all}),
        text,
    ))
}

fn read(path: &Path) -> Result<String, CommandError> {
    let failed = |error: std::io::Error| {
        CommandError::Usage(format!("cannot read {}: {error}", path.display()))
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_TRACE_BYTES {
        return Err(CommandError::Usage(format!(
            "{} has {size} bytes; at most {MAX_TRACE_BYTES} can be replayed",
            path.display()
        )));
    }
    std::fs::read_to_string(path).map_err(failed)
}

// === impl Placement, Policy ===

fn name_of(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |v| v.get_name().to_owned())
}

impl Placement {
    fn scoring(self) -> Scoring {
        match self {
            Self::FragmentationAware => Scoring::FragmentationAware,
            Self::Fragmentation => Scoring::Fragmentation,
            Self::BestFit => Scoring::BestFit,
            Self::Spread => Scoring::Spread,
        }
    }

    fn name(self) -> String {
        name_of(&self)
    }
}

impl Policy {
    fn order(self, levels: &[f64]) -> philly::Order {
        match self {
            Self::Fcfs => philly::Order::Fcfs,
            Self::SrsfOracle => philly::Order::SrsfOracle,
            Self::Las => philly::Order::Las,
            Self::Mlfq => philly::Order::Mlfq(levels.to_vec()),
            Self::Learned => philly::Order::Learned,
        }
    }

    fn name(self) -> String {
        name_of(&self)
    }
}

#[cfg(test)]
mod tests;
