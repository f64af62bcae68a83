//! The double's process: faults, the driver's process and its deaths, and what is left in the end.

use crate::faults;
use crate::journal::Journal;
use crate::places::{Double, Which};
use gpuloom_doubles::faults::Chance;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// One run.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) cloud: Which,
    pub(crate) operations: u64,
    pub(crate) kills: u32,
    pub(crate) seed: u64,
    pub(crate) within_s: u64,
}

/// The figures so far.
#[derive(Debug, Default)]
struct Rows {
    name: &'static str,
    inputs: String,
    rows: Vec<Value>,
    short: bool,
}

// === impl Play ===

impl Play {
    /// Prints the figures; false when one is short of its goal.
    pub(crate) async fn run(&self) -> Result<bool, String> {
        let started = Instant::now();
        let deadline = started + Duration::from_secs(self.within_s);
        let double = self.cloud.play().await?;
        faults::inject(&double.control().faults, self.cloud.creates(), self.seed)?;
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let path = dir.path().join("journal");
        self.drive(&double, &path, deadline).await?;
        let seconds = started.elapsed().as_secs_f64();
        let journal = Journal::read(&path).map_err(|e| e.to_string())?;
        let mutations = double.control().mutations();
        let share = fault_share(&double);
        let mut rows = self.rows(seconds);
        rows.add("orphans", orphans(&double, &journal), "count", Some(0.0));
        rows.add(
            "duplicates",
            duplicates(&double, &journal),
            "count",
            Some(0.0),
        );
        let missing = missing(&double, &journal);
        rows.add("instances missing", missing, "count", Some(0.0));
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let per = mutations as f64 / journal.done.max(1) as f64;
        rows.add("mutating calls per operation", per, "calls", Some(3.0));
        if per > 3.0 {
            eprintln!("changes asked for: {}", changes(&double));
        }
        rows.add("calls with a fault", share * 100.0, "%", None);
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let rate = journal.done as f64 / seconds;
        rows.add("operations per second", rate, "1/s", None);

        // To zero, faults and all.
        self.process(&double, &path, 0, deadline).await?;
        rows.add(
            "left after the end",
            count(&double.living()),
            "count",
            Some(0.0),
        );
        let violations = double.control().violations();
        rows.add(
            "contract violations",
            count(&violations),
            "count",
            Some(0.0),
        );
        for violation in violations.iter().take(5) {
            eprintln!("violation: {violation}");
        }
        println!("{}", json!(rows.rows));
        Ok(!rows.short)
    }

    fn rows(&self, seconds: f64) -> Rows {
        let Self {
            operations,
            kills,
            seed,
            ..
        } = self;
        Rows {
            name: self.cloud.name(),
            inputs: format!(
                "{operations} operations, {kills} kills -9 of the driver's process, {:.0}% of calls fail, seed {seed}, \
                 {seconds:.0} s",
                faults::SHARE * 100.0
            ),
            ..Rows::default()
        }
    }

    /// Drives to the end with so many deaths on the way, each at a random number of operations.
    async fn drive(&self, double: &Double, journal: &Path, end: Instant) -> Result<(), String> {
        let mut chance = Chance::new(self.seed ^ 0x5eed);
        let span = (self.operations / u64::from(self.kills + 1)).max(1);
        for kill in 0..u64::from(self.kills) {
            let at = kill * span + chance.bits() % span;
            let mut child = self.start(double, journal, self.operations)?;
            loop {
                let done = Journal::read(journal).map_err(|e| e.to_string())?.done;
                let over = child.try_wait().map_err(|e| e.to_string())?;
                if let Some(status) = over {
                    if status.success() {
                        break;
                    }
                    return Err(format!("the driver's process ended: {status}"));
                }
                if done >= at {
                    child.kill().await.map_err(|e| e.to_string())?;
                    break;
                }
                if Instant::now() >= end {
                    return Err(format!("only {done} operations in {} s", self.within_s));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.process(double, journal, self.operations, end).await
    }

    async fn process(
        &self,
        double: &Double,
        journal: &Path,
        operations: u64,
        end: Instant,
    ) -> Result<(), String> {
        let mut child = self.start(double, journal, operations)?;
        let left = end.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("the driver's process ended: {status}")),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => {
                let done = Journal::read(journal).map_or(0, |j| j.done);
                Err(format!("only {done} operations in {} s", self.within_s))
            }
        }
    }

    fn start(&self, double: &Double, journal: &Path, operations: u64) -> Result<Child, String> {
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let kept = ["PATH", "HOME", "RUST_BACKTRACE", "GPULOOM_LOG"];
        let kept = kept.iter().filter_map(|k| Some((k, std::env::var_os(k)?)));
        Command::new(program)
            .args(["drive", self.cloud.name()])
            .args(["--endpoint", &double.endpoint()])
            .arg("--journal")
            .arg(journal)
            .args(["--operations", &operations.to_string()])
            .args(["--seed", &self.seed.to_string()])
            .env_clear()
            .envs(kept)
            .envs(double.env())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| e.to_string())
    }
}

// === impl Rows ===

impl Rows {
    fn add(&mut self, what: &str, figure: f64, unit: &'static str, goal: Option<f64>) {
        self.short |= goal.is_some_and(|goal| figure > goal);
        self.rows.push(json!({
            "name": format!("cloud-faults: {} {what}", self.name),
            "figure": figure, "unit": unit, "goal": goal, "inputs": self.inputs,
        }));
    }
}

// === functions ===

fn count<T>(of: &[T]) -> f64 {
    f64::from(u32::try_from(of.len()).unwrap_or(u32::MAX))
}

/// Instances that exist and that the journal does not know.
fn orphans(double: &Double, journal: &Journal) -> f64 {
    let living = double.living();
    let orphans: Vec<_> = living
        .iter()
        .filter(|(id, _)| !journal.live.contains(id))
        .collect();
    if let Some(first) = orphans.first() {
        eprintln!("orphans, e.g. {first:?}");
    }
    count(&orphans)
}

/// Instances that share a token, or a launch.
fn duplicates(double: &Double, journal: &Journal) -> f64 {
    let mut by_token: BTreeMap<String, u32> = BTreeMap::new();
    for (_, token) in double.living() {
        *by_token.entry(token).or_default() += 1;
    }
    let twice = by_token.values().filter(|n| **n > 1).count();
    let nameless = by_token.contains_key("");
    count(&journal.shared)
        + f64::from(u32::try_from(twice).unwrap_or(u32::MAX))
        + f64::from(u8::from(nameless))
}

/// Instances that the journal has and that do not exist.
fn missing(double: &Double, journal: &Journal) -> f64 {
    let living: BTreeSet<String> = double.living().into_iter().map(|(id, _)| id).collect();
    let missing: Vec<_> = journal.live.difference(&living).collect();
    count(&missing)
}

/// How often each change was asked for and what came of it, as far as the log goes back.
fn changes(double: &Double) -> String {
    let mut by_action: BTreeMap<String, u32> = BTreeMap::new();
    for call in double.control().log().into_iter().filter(|c| c.mutating) {
        let fault = call.fault.map(|f| format!(" {f:?}")).unwrap_or_default();
        let status = call
            .status
            .map_or_else(|| "cut".to_owned(), |s| s.to_string());
        let what = format!("{} {status}{fault}", call.action);
        *by_action.entry(what).or_default() += 1;
    }
    let each: Vec<_> = by_action
        .iter()
        .map(|(a, n)| format!("{n} x {a}"))
        .collect();
    each.join("; ")
}

/// The share of the calls so far that something was done to.
fn fault_share(double: &Double) -> f64 {
    let log = double.control().log();
    let hit: Vec<_> = log.iter().filter(|l| l.fault.is_some()).collect();
    count(&hit) / count(&log).max(1.0)
}
