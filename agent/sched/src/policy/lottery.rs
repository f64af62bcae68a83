//! Lottery: each tenant with waiting jobs is drawn in proportion to its tickets.

use super::Job;
use super::tenants::Lines;

/// Tickets of weight 1; compensation multiplies them.
const TICKETS: u64 = 1_000;
/// Most that compensation multiplies a tenant's tickets by.
const MAX_COMPENSATION: u64 = 1_000;

/// Draws from a seeded stream: the same calls give the same picks. Source: Waldspurger & Weihl, OSDI'94.
#[derive(Debug, Clone)]
pub(super) struct Lottery {
    lines: Lines,
    /// Tickets of those with waiting jobs, as a Fenwick tree (place i stands for tenant i - 1).
    sums: Vec<u64>,
    tickets: Vec<u64>,
    /// By how much a tenant that used only a part of its quantum is compensated, in thousandths.
    compensation: Vec<u64>,
    quantum: u64,
    stream: u64,
}

// === impl Lottery ===

impl Lottery {
    /// `quantum` in GPU-milliseconds: a tenant that uses a fraction f of it counts 1/f as much until it
    /// is picked again. 0: no compensation.
    pub(super) fn new(seed: u64, quantum: u64) -> Self {
        Self {
            lines: Lines::default(),
            sums: vec![0],
            tickets: Vec::new(),
            compensation: Vec::new(),
            quantum,
            stream: seed,
        }
    }

    pub(super) fn set_weight(&mut self, tenant: u32, weight: u64) {
        self.lines.line(tenant).weight = weight.max(1);
        self.recount(tenant);
    }

    pub(super) fn push(&mut self, job: Job) {
        let tenant = job.tenant;
        if self.lines.push(job) {
            self.recount(tenant);
        }
    }

    pub(super) fn pick(&mut self) -> Option<Job> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let drawn = u64::try_from((u128::from(self.draw()) * u128::from(total)) >> 64).ok()?;
        let tenant = self.holder(drawn);
        let (job, _) = self.lines.pick(tenant)?;
        self.grow(tenant);
        self.compensation[tenant as usize] = 1000;
        self.recount(tenant);
        Some(job)
    }

    pub(super) fn charge(&mut self, tenant: u32, used: u64) {
        self.grow(tenant);
        if self.quantum > 0 && used > 0 && used < self.quantum {
            let times = (self.quantum * 1000 / used).min(MAX_COMPENSATION * 1000);
            self.compensation[tenant as usize] = times;
            self.recount(tenant);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    fn recount(&mut self, tenant: u32) {
        self.grow(tenant);
        let at = tenant as usize;
        let held = if self.lines.waits(tenant) {
            self.lines.line(tenant).weight * TICKETS * self.compensation[at] / 1000
        } else {
            0
        };
        let before = std::mem::replace(&mut self.tickets[at], held);
        if before == held {
            return;
        }
        let mut i = at + 1;
        while i < self.sums.len() {
            self.sums[i] = self.sums[i] + held - before;
            i += i & i.wrapping_neg();
        }
    }

    fn grow(&mut self, tenant: u32) {
        let wanted = tenant as usize + 1;
        if self.tickets.len() >= wanted {
            return;
        }
        let size = wanted.next_power_of_two();
        self.tickets.resize(size, 0);
        self.compensation.resize(size, 1000);
        self.sums = vec![0; size + 1];
        for i in 1..=size {
            self.sums[i] += self.tickets[i - 1];
            let above = i + (i & i.wrapping_neg());
            if above <= size {
                self.sums[above] += self.sums[i];
            }
        }
    }

    fn total(&self) -> u64 {
        // The size is a power of two: its last place sums all.
        self.sums.last().copied().unwrap_or(0)
    }

    /// The tenant that holds the ticket with this number.
    fn holder(&self, ticket: u64) -> u32 {
        let (mut at, mut left) = (0, ticket);
        let mut step = self.sums.len() - 1;
        while step > 0 {
            if let Some(sum) = self.sums.get(at + step)
                && *sum <= left
            {
                at += step;
                left -= sum;
            }
            step /= 2;
        }
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.stream = self.stream.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.stream;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
