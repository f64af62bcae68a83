//! Training jobs on a cluster of equal GPUs: gangs that arrive, run, are preempted and resume. How long does each take?
//!
//! Model (the same for every order): a job runs on all its GPUs or not at all; jobs are chosen in the
//! order's sequence as long as they fit; a choice is made when a job comes, ends or crosses a level, and
//! at least every quantum where the order asks for it; a job that resumes loses [`RESUME_S`] seconds.

use crate::table::{Table, TraceError};
use gpuloom_sched::policy::Gittins;
use serde::Serialize;

/// What resuming from a checkpoint costs, in seconds.
pub const RESUME_S: f64 = 30.0;
/// Longest time between two choices of orders that look at remaining or attained use, in seconds.
pub const QUANTUM_S: f64 = 360.0;
/// A running job keeps its place against one whose rank is better by less than this.
const HYSTERESIS: f64 = 1.5;
/// A job that never ran goes first after waiting so long, in seconds.
const STARVED_S: f64 = 3.5 * 3600.0;

/// One job of a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Job {
    /// Seconds from the trace's start.
    pub arrival_s: f64,
    /// Seconds it runs on all its GPUs. Orders that are blind never look at it.
    pub duration_s: f64,
    /// GPUs, all at once.
    pub gpus: u32,
}

/// Who goes first.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// First come, first served; one that does not fit does not block those behind it.
    Fcfs,
    /// Shortest remaining service (seconds times GPUs) first; knows durations.
    SrsfOracle,
    /// Least attained service first.
    Las,
    /// Levels of attained service, in GPU-hours; those that run go first within a level.
    Mlfq(Vec<f64>),
    /// Learned from finished jobs ([`Gittins`]); knows no durations.
    Learned,
}

/// What came of it. Hours.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Jobs that were replayed: those that fit the cluster.
    pub jobs: usize,
    /// Mean time from arrival to end.
    pub mean_jct_h: f64,
    /// Mean time from arrival to the first start.
    pub mean_queueing_h: f64,
    /// 99.9th percentile of the same.
    pub p999_queueing_h: f64,
    /// From the first arrival to the last end.
    pub makespan_h: f64,
    /// Preemptions for each job.
    pub preemptions_per_job: f64,
    /// Part of the GPUs that was busy while jobs waited, 0 to 1.
    pub busy_while_backlogged: f64,
}

#[derive(Debug, Clone)]
struct Live {
    job: usize,
    left_s: f64,
    attained_s: f64,
    resume_s: f64,
    running: bool,
    started: Option<f64>,
}

struct Cluster<'a> {
    jobs: &'a [Job],
    gpus: u32,
    order: &'a Order,
    now: f64,
    live: Vec<Live>,
    history: Gittins,
    sum: Sum,
}

#[derive(Default)]
struct Sum {
    jct: f64,
    queueing: Vec<f64>,
    preemptions: u32,
    busy: f64,
    backlogged: f64,
    end: f64,
}

/// Reads a trace in its published layout: `arrival_s,duration_s_v100,gpus` and whatever else.
///
/// # Errors
/// [`TraceError`] names the column or the line that does not read.
pub fn read(text: &str) -> Result<Vec<Job>, TraceError> {
    let table = Table::read("jobs", text)?;
    let arrival = table.column("arrival_s")?;
    let duration = table.column("duration_s_v100")?;
    let gpus = table.column("gpus")?;
    let mut jobs = Vec::with_capacity(table.rows.len());
    for row in 0..table.rows.len() {
        let job = Job {
            arrival_s: table.number(row, arrival, "arrival_s")?,
            duration_s: table.number(row, duration, "duration_s_v100")?,
            gpus: table.number(row, gpus, "gpus")?,
        };
        let wrong = |column, at, expected| TraceError::Value {
            table: "jobs",
            line: row + 2,
            column,
            value: table.text(row, at).to_owned(),
            expected,
        };
        if !(0.0..1e12).contains(&job.arrival_s) {
            return Err(wrong("arrival_s", arrival, "seconds from 0"));
        }
        if !(0.0..1e12).contains(&job.duration_s) {
            return Err(wrong("duration_s_v100", duration, "seconds from 0"));
        }
        if job.gpus == 0 {
            return Err(wrong("gpus", gpus, "at least 1"));
        }
        jobs.push(job);
    }
    jobs.sort_by(|a, b| a.arrival_s.total_cmp(&b.arrival_s));
    Ok(jobs)
}

/// Replays the jobs that fit on a cluster of `gpus`.
#[must_use]
pub fn run(jobs: &[Job], gpus: u32, order: &Order) -> Outcome {
    let jobs: Vec<Job> = jobs.iter().filter(|j| j.gpus <= gpus).copied().collect();
    let mut cluster = Cluster {
        jobs: &jobs,
        gpus,
        order,
        now: jobs.first().map_or(0.0, |j| j.arrival_s),
        live: Vec::new(),
        history: Gittins::default(),
        sum: Sum::default(),
    };
    let mut next = 0;
    while next < jobs.len() || !cluster.live.is_empty() {
        if cluster.live.is_empty() {
            cluster.now = cluster.now.max(jobs[next].arrival_s);
        }
        while next < jobs.len() && jobs[next].arrival_s <= cluster.now {
            cluster.live.push(Live {
                job: next,
                left_s: jobs[next].duration_s,
                attained_s: 0.0,
                resume_s: 0.0,
                running: false,
                started: None,
            });
            next += 1;
        }
        cluster.choose();
        cluster.advance(jobs.get(next).map(|j| j.arrival_s));
    }
    cluster.sum.outcome(&jobs)
}

// === impl Cluster ===

impl Cluster<'_> {
    /// Decides who runs until the next event.
    fn choose(&mut self) {
        let key = |l: &Live| {
            let waited = self.now - self.jobs[l.job].arrival_s;
            let starved = l.started.is_none() && waited > STARVED_S;
            let oracle = matches!(self.order, Order::Fcfs | Order::SrsfOracle);
            (oracle || !starved, self.rank(l), l.job)
        };
        let keys: Vec<_> = self.live.iter().map(key).collect();
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|a, b| {
            let ((a_later, a_rank, a_age), (b_later, b_rank, b_age)) = (&keys[*a], &keys[*b]);
            let rank = || a_rank.0.total_cmp(&b_rank.0).then(a_rank.1.cmp(&b_rank.1));
            a_later.cmp(b_later).then_with(rank).then(a_age.cmp(b_age))
        });
        let mut free = self.gpus;
        let mut chosen = vec![false; self.live.len()];
        for i in order {
            let asked = self.jobs[self.live[i].job].gpus;
            if asked <= free {
                free -= asked;
                chosen[i] = true;
            }
        }
        for (live, runs) in self.live.iter_mut().zip(chosen) {
            if live.running && !runs {
                self.sum.preemptions += 1;
            }
            if runs && !live.running {
                match live.started {
                    None => live.started = Some(self.now),
                    Some(_) => live.resume_s = RESUME_S,
                }
            }
            live.running = runs;
        }
    }

    /// Less goes first; `false` before `true` among equals.
    fn rank(&self, live: &Live) -> (f64, bool) {
        let job = &self.jobs[live.job];
        let gpus = f64::from(job.gpus);
        let attained = live.attained_s * gpus;
        match self.order {
            // Whoever runs goes on: nobody is preempted.
            Order::Fcfs => (if live.running { -1.0 } else { job.arrival_s }, false),
            Order::SrsfOracle => (live.left_s * gpus, false),
            Order::Las => (attained, false),
            Order::Mlfq(thresholds) => {
                let passed = thresholds.iter().filter(|t| **t * 3600.0 <= attained);
                let level = u32::try_from(passed.count()).unwrap_or(u32::MAX);
                (f64::from(level), !live.running)
            }
            Order::Learned => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "milliseconds of use, not negative"
                )]
                let rank = self.history.rank((attained * 1000.0) as u64);
                let held = if live.running {
                    rank / HYSTERESIS
                } else {
                    rank
                };
                (held, false)
            }
        }
    }

    /// Lets time pass until something changes.
    fn advance(&mut self, next_arrival: Option<f64>) {
        let mut step = next_arrival.map_or(f64::INFINITY, |at| at - self.now);
        for live in self.live.iter().filter(|l| l.running) {
            step = step.min(live.left_s + live.resume_s);
            if let Order::Mlfq(thresholds) = self.order {
                let gpus = f64::from(self.jobs[live.job].gpus);
                let attained = live.attained_s * gpus;
                let above = thresholds
                    .iter()
                    .map(|t| t * 3600.0)
                    .find(|t| *t > attained);
                let crosses = above.map(|t| (t - attained) / gpus + live.resume_s);
                step = step.min(crosses.unwrap_or(f64::INFINITY).max(1.0));
            }
        }
        if !matches!(self.order, Order::Fcfs | Order::Mlfq(_)) {
            step = step.min(QUANTUM_S);
        }
        let step = step.max(1e-3);
        self.now += step;
        let mut busy = 0.0;
        for live in self.live.iter_mut().filter(|l| l.running) {
            busy += f64::from(self.jobs[live.job].gpus);
            let lost = live.resume_s.min(step);
            live.resume_s -= lost;
            live.left_s -= step - lost;
            live.attained_s += step - lost;
        }
        if self.live.iter().any(|l| !l.running) {
            self.sum.busy += busy / f64::from(self.gpus) * step;
            self.sum.backlogged += step;
        }
        self.retire();
    }

    fn retire(&mut self) {
        let (jobs, now) = (self.jobs, self.now);
        let (sum, history) = (&mut self.sum, &mut self.history);
        self.live.retain(|live| {
            if live.left_s > 1e-6 {
                return true;
            }
            let job = &jobs[live.job];
            let started = live.started.unwrap_or(now);
            sum.jct += now - job.arrival_s;
            sum.queueing.push(started - job.arrival_s);
            sum.end = sum.end.max(now);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "milliseconds of use, not negative"
            )]
            history.finished((job.duration_s * f64::from(job.gpus) * 1000.0) as u64);
            false
        });
    }
}

// === impl Sum ===

impl Sum {
    fn outcome(mut self, jobs: &[Job]) -> Outcome {
        self.queueing.sort_by(f64::total_cmp);
        let count = self.queueing.len();
        let n = f64::from(u32::try_from(count).unwrap_or(u32::MAX)).max(1.0);
        let p999 = self
            .queueing
            .get(count.saturating_sub(1).min(count * 999 / 1000));
        let start = jobs.first().map_or(0.0, |j| j.arrival_s);
        let busy = if self.backlogged > 0.0 {
            self.busy / self.backlogged
        } else {
            1.0
        };
        Outcome {
            jobs: count,
            mean_jct_h: self.jct / n / 3600.0,
            mean_queueing_h: self.queueing.iter().sum::<f64>() / n / 3600.0,
            p999_queueing_h: p999.copied().unwrap_or(0.0) / 3600.0,
            makespan_h: (self.end - start).max(0.0) / 3600.0,
            preemptions_per_job: f64::from(self.preemptions) / n,
            busy_while_backlogged: busy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(arrival_s: f64, duration_s: f64, gpus: u32) -> Job {
        Job {
            arrival_s,
            duration_s,
            gpus,
        }
    }

    #[test]
    fn a_short_job_does_not_wait_for_a_long_one_unless_first_comes_first() {
        let jobs = [job(0.0, 36_000.0, 4), job(100.0, 60.0, 4)];
        let fcfs = run(&jobs, 4, &Order::Fcfs);
        assert!((fcfs.mean_jct_h - (36_000.0 + 35_960.0) / 2.0 / 3600.0).abs() < 0.01);
        for order in [
            Order::SrsfOracle,
            Order::Las,
            Order::Learned,
            Order::Mlfq(vec![0.01]),
        ] {
            let out = run(&jobs, 4, &order);
            assert!(out.mean_jct_h < 5.3, "{order:?}: {out:?}");
            assert!(out.preemptions_per_job >= 0.5, "{order:?}: {out:?}");
        }
    }

    #[test]
    fn every_job_that_fits_ends_and_no_gpu_is_granted_twice() {
        let jobs: Vec<Job> = (0..200)
            .map(|i| {
                job(
                    f64::from(i) * 50.0,
                    f64::from(i % 17) * 400.0 + 1.0,
                    1 + i % 9,
                )
            })
            .collect();
        for order in [Order::Fcfs, Order::SrsfOracle, Order::Las, Order::Learned] {
            let out = run(&jobs, 8, &order);
            assert_eq!(out.jobs, 178, "those that ask for 9 do not fit");
            assert!(out.busy_while_backlogged <= 1.0 + 1e-9, "{out:?}");
            let work: f64 = jobs
                .iter()
                .filter(|j| j.gpus <= 8)
                .map(|j| j.duration_s * f64::from(j.gpus))
                .sum();
            assert!(out.makespan_h >= work / 8.0 / 3600.0 - 1e-6);
        }
    }

    #[test]
    fn the_layout_is_read_by_name_and_nonsense_is_refused() {
        let jobs =
            read("model,gpus,arrival_s,duration_s_v100\nx,2,10,3.5\ny,1,0,7\n").expect("reads");
        assert_eq!(jobs, [job(0.0, 7.0, 1), job(10.0, 3.5, 2)]);
        let zero = read("gpus,arrival_s,duration_s_v100\n0,0,1\n").expect_err("is refused");
        assert_eq!(
            zero.to_string(),
            "line 2 of the jobs: gpus = \"0\" is not at least 1"
        );
        let nan = read("gpus,arrival_s,duration_s_v100\n1,NaN,1\n").expect_err("is refused");
        assert!(nan.to_string().contains("arrival_s = \"NaN\""), "{nan}");
    }
}
