//! Weighted fair by deficit round robin: every turn a tenant may use its weight's quantum, and carries what is left.

use super::Job;
use super::tenants::Lines;
use std::collections::VecDeque;

/// O(1) a pick. Source: Shreedhar & Varghese, SIGCOMM'95.
#[derive(Debug, Clone)]
pub(super) struct WeightedFair {
    lines: Lines,
    /// Tenants with waiting jobs, whose turn comes from the front.
    round: VecDeque<u32>,
    deficit: Vec<u64>,
    quantum: u64,
    /// Whether the one in front has had this turn's quantum.
    opened: bool,
}

// === impl WeightedFair ===

impl WeightedFair {
    /// `quantum` in GPU-milliseconds for weight 1, at least 1; work dearer than that waits for several turns.
    pub(super) fn new(quantum: u64) -> Self {
        Self {
            lines: Lines::default(),
            round: VecDeque::new(),
            deficit: Vec::new(),
            quantum: quantum.max(1),
            opened: false,
        }
    }

    pub(super) fn set_weight(&mut self, tenant: u32, weight: u64) {
        self.lines.line(tenant).weight = weight.max(1);
    }

    pub(super) fn push(&mut self, job: Job) {
        let tenant = job.tenant;
        if self.lines.push(job) {
            self.round.push_back(tenant);
        }
    }

    pub(super) fn pick(&mut self) -> Option<Job> {
        let mut passed = 0;
        loop {
            let tenant = *self.round.front()?;
            let line = self.lines.line(tenant);
            let quantum = self.quantum.saturating_mul(line.weight);
            let cost = line.jobs.peek()?.cost;
            if !self.opened {
                self.opened = true;
                self.credit(tenant, quantum);
            }
            if self.deficit[tenant as usize] >= cost {
                return self.serve(tenant, cost);
            }
            self.opened = false;
            self.round.rotate_left(1);
            passed += 1;
            if passed == self.round.len() {
                passed = 0;
                self.skip_empty_rounds();
            }
        }
    }

    fn serve(&mut self, tenant: u32, cost: u64) -> Option<Job> {
        let deficit = &mut self.deficit[tenant as usize];
        *deficit -= cost;
        let (job, more) = self.lines.pick(tenant)?;
        if !more {
            // Who leaves takes no credit along: idling earns nothing.
            *deficit = 0;
            self.round.pop_front();
            self.opened = false;
        }
        Some(job)
    }

    /// Rounds in which nobody could be served yet are credited at once.
    fn skip_empty_rounds(&mut self) {
        let mut rounds = u64::MAX;
        for i in 0..self.round.len() {
            rounds = rounds.min(self.rounds_until_served(self.round[i]));
        }
        let empty = rounds.saturating_sub(1);
        for i in 0..self.round.len() {
            let tenant = self.round[i];
            let weight = self.lines.line(tenant).weight;
            let quantum = self.quantum.saturating_mul(weight);
            self.credit(tenant, quantum.saturating_mul(empty));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    fn credit(&mut self, tenant: u32, by: u64) {
        let at = tenant as usize;
        if self.deficit.len() <= at {
            self.deficit.resize(at + 1, 0);
        }
        self.deficit[at] = self.deficit[at].saturating_add(by);
    }

    /// In how many rounds the tenant is served, with what it has now.
    fn rounds_until_served(&mut self, tenant: u32) -> u64 {
        let held = self.deficit.get(tenant as usize).copied().unwrap_or(0);
        let line = self.lines.line(tenant);
        let quantum = self.quantum.saturating_mul(line.weight);
        let cost = line.jobs.peek().map_or(0, |j| j.cost);
        cost.saturating_sub(held).div_ceil(quantum)
    }
}
