//! A fleet with jobs on it, and what must hold once it has been brought back.

use crate::stage::{Block, FLEET, Stage};
use gpuloom_tests::{Audit, Fleet, LONG, SHORT, is_alive, mentioning, until};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

/// The machine: nodes of the pool take two GPUs each.
const MACHINE: &str = "6xT4";
/// How long a command line may go on after its lead is back.
const COMMAND_END: Duration = Duration::from_secs(60);

/// A stage with a tenant, a pool and jobs.
pub(crate) struct Life {
    pub(crate) stage: Stage,
    pub(crate) api: Fleet,
    /// Every id that `submit` has returned.
    pub(crate) acknowledged: Vec<String>,
    /// The job that holds a GPU all the time, and its process.
    pub(crate) long: (String, i32),
    running: Vec<(Child, bool)>,
    started: usize,
}

// === impl Life ===

impl Life {
    /// One node; one job that runs on one of its GPUs; one that waits for both.
    pub(crate) fn new() -> Self {
        let mut stage = Stage::new(MACHINE);
        stage.blocks = vec![Block::tenant("a", 1), Block::pool("t4", 2, 1, 1)];
        stage.apply().expect("the fleet comes up");
        let api = stage.rig.fleet(FLEET);
        let mut life = Self {
            stage,
            api,
            acknowledged: Vec::new(),
            long: (String::new(), 0),
            running: Vec::new(),
            started: 0,
        };
        let workload = life.stage.rig.workload();
        let long = life.submit(&["--", &workload, "--gpu-memory", "2GiB"]);
        life.api.runs(&long, LONG);
        let pid = until("the long job's process", SHORT, || {
            life.on_gpus()
                .first()
                .map(|(_, pid)| *pid)
                .ok_or_else(|| "none".to_owned())
        });
        life.long = (long, pid);
        life.submit(&["--gpus", "2", "--", "true"]);
        // Nothing of the beginning is still to be confirmed.
        life.stage.plan_is_empty();
        life
    }

    /// A job of tenant `a` that `submit` has acknowledged.
    #[track_caller]
    pub(crate) fn submit(&mut self, args: &[&str]) -> String {
        let job = self.api.submit(&[&["--tenant", "a"], args].concat());
        self.acknowledged.push(job.clone());
        job
    }

    /// A script that says in `trace-<n>` that it starts, and `double` when another of it lives; then does `rest`.
    pub(crate) fn traced(&mut self, rest: &str) -> (String, PathBuf) {
        self.started += 1;
        let file = |what: &str| {
            self.stage
                .rig
                .dir()
                .join(format!("{what}-{}", self.started))
        };
        let (trace, lock) = (file("trace"), file("lock"));
        for path in [&trace, &lock] {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::write(path, "").expect("the folder is ours");
            // The job runs as nobody.
            let all = std::fs::Permissions::from_mode(0o666);
            std::fs::set_permissions(path, all).expect("the file is ours");
        }
        let script = format!(
            "exec 9>>{lock}; flock -n 9 || echo double >>{trace}; echo $$ >>{trace}; {rest}",
            lock = lock.display(),
            trace = trace.display()
        );
        (script, trace)
    }

    /// Starts a command that may lose its lead; `acknowledges` when what it prints is a job's id.
    pub(crate) fn start(&mut self, args: &[&str], acknowledges: bool) {
        let child = self.api.start(args);
        self.running.push((child, acknowledges));
    }

    /// What is on the simulated GPUs: device and process.
    pub(crate) fn on_gpus(&self) -> Vec<(String, i32)> {
        let devices = self
            .stage
            .rig
            .machine(FLEET)
            .devices()
            .expect("the machine's devices");
        let of = |d: gpuloom_nvml_sim::DeviceSnapshot| {
            let pid = |pid: u32| i32::try_from(pid).expect("a pid");
            let pids: Vec<_> = d.processes.iter().map(|p| pid(p.pid)).collect();
            pids.into_iter().map(move |pid| (d.uuid.clone(), pid))
        };
        devices.into_iter().flat_map(of).collect()
    }

    /// Waits for the commands that were started; what they acknowledged counts from now on.
    pub(crate) fn collect(&mut self) {
        for (mut child, acknowledges) in std::mem::take(&mut self.running) {
            let ended = until("a command ends", COMMAND_END, || match child.try_wait() {
                Ok(Some(status)) => Ok(status),
                other => Err(format!("{other:?}")),
            });
            if acknowledges && ended.success() {
                let mut said = String::new();
                let stdout = child.stdout.as_mut().expect("it is piped");
                std::io::Read::read_to_string(stdout, &mut said).expect("it reads");
                self.acknowledged.push(said.trim().to_owned());
            }
        }
    }

    /// Everything that must hold: `nodes` of each pool, jobs adopted, the ledger true.
    #[track_caller]
    pub(crate) fn is_whole(&mut self, nodes: std::ops::RangeInclusive<usize>) {
        self.collect();
        until(
            "exactly the declared nodes, all of them ready",
            LONG,
            || {
                let instances = self.stage.nodes();
                let seen = self.api.json(&["nodes"]);
                let all = seen["nodes"].as_array().cloned().unwrap_or_default();
                let ready = all.iter().filter(|n| n["state"] == "ready").count();
                let whole = nodes.contains(&instances.len())
                    && ready == instances.len()
                    && all.len() == ready;
                whole.then_some(()).ok_or(format!("{instances:?} {seen}"))
            },
        );
        let (long, pid) = self.long.clone();
        let attempt = self.api.runs(&long, LONG);
        assert_eq!(attempt["number"], 1, "{long} was started again");
        assert!(is_alive(pid), "{long} lost its process");
        let on_gpus = self.on_gpus();
        assert_eq!(
            on_gpus.iter().filter(|(_, p)| *p == pid).count(),
            1,
            "{on_gpus:?}"
        );
        self.ledger_is_true();
    }

    /// What devices hold is the sum of what attempts were granted, and what the machine shows is on them.
    #[track_caller]
    pub(crate) fn ledger_is_true(&self) {
        until("ledger = reservations = what the GPUs show", LONG, || {
            let shares = |all: &[Json], key: &str| {
                let mut sums: BTreeMap<String, u64> = BTreeMap::new();
                for one in all {
                    let share = one[key].as_u64().unwrap_or(u64::MAX / 2);
                    *sums
                        .entry(
                            one["device"]
                                .as_str()
                                .or(one["id"].as_str())
                                .unwrap_or_default()
                                .to_owned(),
                        )
                        .or_default() += share;
                }
                sums.retain(|_, share| *share > 0);
                sums
            };
            let devices = self.api.json(&["devices"])["devices"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let held = shares(&devices, "share_held_milli");
            let jobs = self.api.json(&["jobs"])["jobs"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let mut grants = Vec::new();
            for job in jobs.iter().filter(|j| j["state"] == "active") {
                let attempts =
                    self.api.job(job["id"].as_str().unwrap_or_default())["attempts"].clone();
                let last = attempts
                    .as_array()
                    .and_then(|a| a.last())
                    .cloned()
                    .unwrap_or_default();
                grants.extend(last["grants"].as_array().cloned().unwrap_or_default());
            }
            let granted = shares(&grants, "share_milli");
            let shown: Vec<_> = self
                .on_gpus()
                .into_iter()
                .map(|(device, _)| device)
                .collect();
            // Jobs without memory on a GPU hold it all the same: everything that shows is held.
            let true_ = held == granted && shown.iter().all(|d| held.contains_key(d));
            true_
                .then_some(())
                .ok_or(format!("held {held:?} granted {granted:?} shown {shown:?}"))
        });
    }

    /// The jobs come to their ends: none is lost, none ran twice, and then everything is destroyed.
    #[track_caller]
    pub(crate) fn end(mut self) {
        self.collect();
        let (long, pid) = self.long.clone();
        self.api.ok(&["cancel", &long]);
        self.api.state_is(&long, "cancelled", SHORT);
        until("its process is gone", SHORT, || {
            (!is_alive(pid))
                .then_some(())
                .ok_or_else(|| pid.to_string())
        });
        for job in &self.acknowledged {
            let job = self.api.job_is(job, "ends", LONG, |j| {
                !["pending", "active"].contains(&j["state"].as_str().unwrap_or_default())
            });
            let retries = job["spec"]["retries"].as_u64().unwrap_or(0);
            let attempts = job["attempts"].as_array().map_or(0, Vec::len) as u64;
            let preemptions = job["preemptions"].as_u64().unwrap_or(0);
            assert!(
                attempts <= 1 + retries + preemptions,
                "more attempts than its policy: {job}"
            );
        }
        let jobs = self.api.json(&["jobs"])["jobs"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for job in jobs {
            // A submission whose answer was lost may have been taken; it ends like the others.
            self.api
                .job_is(job["id"].as_str().expect("an id"), "ends", LONG, |j| {
                    !["pending", "active"].contains(&j["state"].as_str().unwrap_or_default())
                });
        }
        Audit::of(&self.api.events(), &[]).holds();
        for n in 1..=self.started {
            let trace = self.stage.rig.dir().join(format!("trace-{n}"));
            let said = std::fs::read_to_string(trace).expect("the file is ours");
            assert!(
                !said.contains("double"),
                "two live attempts of one job: {said}"
            );
        }
        self.ledger_is_true();
        assert_eq!(self.on_gpus(), [], "GPUs are in use without a job");
        until("no process of a job is left", SHORT, || {
            let left: Vec<_> = mentioning(self.stage.rig.dir())
                .into_iter()
                .filter(|(_, line)| !line.contains("gpuloom"))
                .collect();
            left.is_empty().then_some(()).ok_or(format!("{left:?}"))
        });
        self.stage.end();
    }
}
