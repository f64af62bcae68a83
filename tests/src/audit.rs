//! What must hold at every instant of a fleet's life, read from its audit trail alone.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A bound on what one tenant holds.
#[derive(Debug, Clone)]
pub struct LimitOf {
    /// Whose.
    pub tenant: &'static str,
    /// GPUs, in thousandths.
    pub gpus_milli: u64,
}

/// What one attempt holds.
#[derive(Debug, Clone)]
struct Held {
    tenant: String,
    node: String,
    grants: Vec<(String, u64, u64)>,
}

/// The audit trail being read, event by event.
#[derive(Debug, Default)]
pub struct Audit {
    last_seq: u64,
    live: BTreeMap<String, Held>,
    started: BTreeSet<String>,
    ended: BTreeSet<String>,
    submitted: BTreeSet<String>,
    finished: BTreeMap<String, String>,
    /// The most GPUs each tenant held at one instant, in thousandths.
    pub most: BTreeMap<String, u64>,
    /// The most GPUs held at one instant, in thousandths.
    pub most_in_all: u64,
    /// Preemptions by priority.
    pub preemptions: usize,
    /// What was violated, each with the event that did.
    pub violations: Vec<String>,
}

// === impl Audit ===

impl Audit {
    /// Reads the whole trail.
    #[must_use]
    pub fn of(events: &[Value], limits: &[LimitOf]) -> Self {
        let mut audit = Self::default();
        for event in events {
            audit.take(event, limits);
        }
        audit
    }

    /// Demands that nothing was violated and every job submitted has ended.
    ///
    /// # Panics
    /// With the first violations.
    #[track_caller]
    pub fn holds(&self) {
        let first: Vec<_> = self.violations.iter().take(20).collect();
        assert!(
            first.is_empty(),
            "{} violations: {first:#?}",
            self.violations.len()
        );
        // An array is submitted as one and ends element by element.
        let ended = |job: &&String| {
            let element = format!("{job}.");
            let of_it = |f: &String| f == *job || f.starts_with(&element);
            self.finished.keys().any(of_it)
        };
        let open: Vec<_> = self
            .submitted
            .iter()
            .filter(|j| !ended(j))
            .take(20)
            .collect();
        assert!(open.is_empty(), "jobs without an end: {open:?}");
        assert!(
            self.live.is_empty(),
            "attempts without an end: {:?}",
            self.live.keys()
        );
    }

    /// How many jobs ended in `state`.
    #[must_use]
    pub fn finished_as(&self, state: &str) -> usize {
        self.finished.values().filter(|s| *s == state).count()
    }

    fn take(&mut self, event: &Value, limits: &[LimitOf]) {
        let seq = event["seq"].as_u64().unwrap_or(0);
        if seq != self.last_seq + 1 {
            let gap = format!("event {seq} follows event {}", self.last_seq);
            self.violations.push(gap);
        }
        self.last_seq = seq;
        let what = &event["what"];
        let text = |field: &str| what[field].as_str().unwrap_or_default().to_owned();
        match what["event"].as_str().unwrap_or_default() {
            "submitted" if !self.submitted.insert(text("job")) => {
                self.broke(event, "the job was submitted twice");
            }
            "granted" => self.granted(event, limits),
            "started" => {
                if !self.live.contains_key(&text("attempt")) {
                    self.broke(event, "it started without a grant");
                }
                if !self.started.insert(text("attempt")) {
                    self.broke(event, "it started twice");
                }
            }
            "stopping" => self.stopping(event),
            "ended" => {
                if self.live.remove(&text("attempt")).is_none() {
                    self.broke(event, "it ended and was not live");
                }
                self.ended.insert(text("attempt"));
            }
            "finished" => {
                let state = match &what["state"] {
                    Value::String(word) => word.clone(),
                    other => other["state"].as_str().unwrap_or_default().to_owned(),
                };
                if self.finished.insert(text("job"), state).is_some() {
                    self.broke(event, "the job finished twice");
                }
            }
            _ => {}
        }
    }

    fn granted(&mut self, event: &Value, limits: &[LimitOf]) {
        let what = &event["what"];
        let attempt = what["attempt"].as_str().unwrap_or_default().to_owned();
        let job = job_of(&attempt);
        if self.ended.contains(&attempt) || self.live.contains_key(&attempt) {
            self.broke(event, "the attempt was granted before");
        }
        if self.live.keys().any(|other| job_of(other) == job) {
            self.broke(event, "another attempt of the job is live");
        }
        if self.finished.contains_key(job) {
            self.broke(event, "the job has finished");
        }
        let grants = what["grants"].as_array().cloned().unwrap_or_default();
        let number = |v: &Value| v.as_u64().unwrap_or(u64::MAX / 1_000_000);
        let held = Held {
            tenant: what["tenant"].as_str().unwrap_or_default().to_owned(),
            node: what["node"].as_str().unwrap_or_default().to_owned(),
            grants: grants
                .iter()
                .map(|g| {
                    let device = g["device"].as_str().unwrap_or_default().to_owned();
                    (device, number(&g["share"]), number(&g["memory"]))
                })
                .collect(),
        };
        let (tenant, devices) = (held.tenant.clone(), held.grants.clone());
        self.live.insert(attempt, held);
        for (device, _, _) in &devices {
            let share = self.sum(|h| {
                h.grants
                    .iter()
                    .filter(|g| g.0 == *device)
                    .map(|g| g.1)
                    .sum()
            });
            if share > 1000 {
                self.broke(
                    event,
                    &format!("{device} is shared out at {share} thousandths"),
                );
            }
            let nodes: BTreeSet<_> = self
                .live
                .values()
                .filter(|h| h.grants.iter().any(|g| g.0 == *device))
                .map(|h| h.node.clone())
                .collect();
            if nodes.len() > 1 {
                self.broke(event, &format!("{device} is on {nodes:?}"));
            }
        }
        let all = self.sum(|h| h.grants.iter().map(|g| g.1).sum());
        self.most_in_all = self.most_in_all.max(all);
        let of = self.sum(|h| {
            let mine = h.tenant == tenant;
            h.grants.iter().filter(|_| mine).map(|g| g.1).sum()
        });
        let most = self.most.entry(tenant.clone()).or_default();
        *most = of.max(*most);
        for limit in limits.iter().filter(|l| l.tenant == tenant) {
            if of > limit.gpus_milli {
                self.broke(
                    event,
                    &format!("{tenant} holds {of} of {}", limit.gpus_milli),
                );
            }
        }
    }

    fn stopping(&mut self, event: &Value) {
        let what = &event["what"];
        let attempt = what["attempt"].as_str().unwrap_or_default();
        if !self.live.contains_key(attempt) {
            self.broke(event, "it was told to stop and was not live");
        }
        if what["cause"]["cause"] == "preempted" {
            self.preemptions += 1;
            let (victim, by) = (what["priority"].as_i64(), what["by_priority"].as_i64());
            if victim.zip(by).is_none_or(|(victim, by)| by <= victim) {
                self.broke(event, "a preemption that does not go down in priority");
            }
        }
    }

    fn sum(&self, of: impl Fn(&Held) -> u64) -> u64 {
        self.live.values().map(of).sum()
    }

    fn broke(&mut self, event: &Value, rule: &str) {
        self.violations.push(format!("{rule}: {event}"));
    }
}

/// The job of an attempt's id: `17.3` of `17.3#1`.
fn job_of(attempt: &str) -> &str {
    attempt.split_once('#').map_or(attempt, |(job, _)| job)
}
