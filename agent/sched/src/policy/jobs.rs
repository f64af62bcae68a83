//! Orders over jobs: first come, shortest, earliest deadline, priority with aging.

use super::Job;
use super::ladder::Ladder;
use std::collections::{BTreeMap, VecDeque};

/// First come, first served: (arrival, id).
#[derive(Debug, Clone, Default)]
pub(super) struct Fcfs {
    /// In order of arrival, which is how jobs come.
    line: VecDeque<Job>,
    /// Jobs that came out of order (put back, or late news); rare.
    back: Option<Box<Back>>,
}

#[derive(Debug, Clone, Default)]
struct Back {
    jobs: Ladder<(u64, u64, Packed)>,
    /// The least of them, taken out to be looked at.
    head: Option<Job>,
}

/// Shortest predicted job first; one that waited `bound_ms` goes before all others.
#[derive(Debug, Clone)]
pub(super) struct Sjf {
    by_cost: Ladder<(u64, u64, Slot)>,
    by_arrival: VecDeque<Slot>,
    /// Each waiting job, listed in both; the stamp tells a slot's former jobs from its present one.
    slots: Vec<(u32, Option<Job>)>,
    free: Vec<u32>,
    aging_milli: u64,
    bound_ms: u64,
}

/// A place and the stamp of the job that was put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot(u32, u32);

/// Earliest deadline first; what can no longer be met goes last, in order of arrival.
#[derive(Debug, Clone, Default)]
pub(super) struct Edf {
    by_deadline: Ladder<(u64, u64, Packed)>,
    late: VecDeque<Job>,
}

/// Larger priority first, older first among equals; `step_ms` of waiting lift a job by one, by at most `cap`.
#[derive(Debug, Clone)]
pub(super) struct Priority {
    lines: BTreeMap<i32, Fcfs>,
    step_ms: u64,
    cap: i32,
}

/// A job in a key: compared by its id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed(pub(super) Job);

// === impl Packed ===

impl Ord for Packed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

impl PartialOrd for Packed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Packed {}

// === impl Fcfs ===

impl Fcfs {
    pub(super) fn push(&mut self, job: Job) {
        let after = |last: &Job| (last.arrival_ms, last.id) <= (job.arrival_ms, job.id);
        if self.line.back().is_none_or(after) {
            self.line.push_back(job);
        } else {
            self.back.get_or_insert_default().push(job);
        }
    }

    /// Who is next, without taking it out.
    pub(super) fn peek(&mut self) -> Option<&Job> {
        let front = self.line.front();
        let Some(head) = self.back.as_mut().and_then(|b| b.peek()) else {
            return front;
        };
        match front {
            Some(l) if (l.arrival_ms, l.id) < (head.arrival_ms, head.id) => front,
            _ => Some(head),
        }
    }

    pub(super) fn pick(&mut self) -> Option<Job> {
        if self.back.is_none() {
            return self.line.pop_front();
        }
        let id = self.peek()?.id;
        let back = self.back.as_mut()?;
        if back.head.is_some_and(|h| h.id == id) {
            let job = back.head.take();
            if back.jobs.len() == 0 {
                self.back = None;
            }
            return job;
        }
        self.line.pop_front()
    }

    pub(super) fn len(&self) -> usize {
        let back = self.back.as_ref().map_or(0, |b| b.len());
        self.line.len() + back
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty() && self.back.is_none()
    }
}

// === impl Back ===

impl Back {
    fn push(&mut self, job: Job) {
        if let Some(head) = self.head.take() {
            self.jobs.push((head.arrival_ms, head.id, Packed(head)));
        }
        self.jobs.push((job.arrival_ms, job.id, Packed(job)));
    }

    fn peek(&mut self) -> Option<&Job> {
        if self.head.is_none() {
            self.head = self.jobs.pop().map(|(_, _, p)| p.0);
        }
        self.head.as_ref()
    }

    fn len(&self) -> usize {
        self.jobs.len() + usize::from(self.head.is_some())
    }
}

// === impl Sjf ===

impl Sjf {
    pub(super) fn new(aging_milli: u64, bound_ms: u64) -> Self {
        Self {
            by_cost: Ladder::default(),
            by_arrival: VecDeque::new(),
            slots: Vec::new(),
            free: Vec::new(),
            aging_milli,
            bound_ms,
        }
    }

    pub(super) fn push(&mut self, job: Job) {
        // Everybody ages alike: cost - aging * (now - arrival) orders as cost + aging * arrival does.
        let aged = u128::from(self.aging_milli) * u128::from(job.arrival_ms) / 1000;
        let key = job
            .cost
            .saturating_add(u64::try_from(aged).unwrap_or(u64::MAX));
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let place = &mut self.slots[at as usize];
        place.0 = place.0.wrapping_add(1);
        place.1 = Some(job);
        let slot = Slot(at, place.0);
        self.by_cost.push((key, job.id, slot));
        self.by_arrival.push_back(slot);
    }

    pub(super) fn pick(&mut self, now_ms: u64) -> Option<Job> {
        while let Some(slot) = self.by_arrival.front().copied() {
            let arrival = self.at(slot).map(|j| j.arrival_ms);
            if arrival.is_some_and(|at| now_ms.saturating_sub(at) < self.bound_ms) {
                break;
            }
            self.by_arrival.pop_front();
            if arrival.is_some() {
                return self.take(slot);
            }
        }
        loop {
            let (_, _, slot) = self.by_cost.pop()?;
            if let Some(job) = self.take(slot) {
                return Some(job);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn at(&self, slot: Slot) -> Option<&Job> {
        let (stamp, job) = &self.slots[slot.0 as usize];
        job.as_ref().filter(|_| *stamp == slot.1)
    }

    fn take(&mut self, slot: Slot) -> Option<Job> {
        self.at(slot)?;
        self.free.push(slot.0);
        self.slots[slot.0 as usize].1.take()
    }
}

// === impl Edf ===

impl Edf {
    pub(super) fn push(&mut self, job: Job) {
        let deadline = job.deadline_ms.unwrap_or(u64::MAX);
        self.by_deadline.push((deadline, job.id, Packed(job)));
    }

    pub(super) fn pick(&mut self, now_ms: u64) -> Option<Job> {
        while let Some((deadline, _, Packed(job))) = self.by_deadline.pop() {
            if now_ms.saturating_add(job.cost) <= deadline {
                return Some(job);
            }
            self.late.push_back(job);
        }
        self.late.pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.by_deadline.len() + self.late.len()
    }
}

// === impl Priority ===

impl Priority {
    pub(super) fn new(step_ms: u64, cap: i32) -> Self {
        Self {
            lines: BTreeMap::new(),
            step_ms: step_ms.max(1),
            cap: cap.max(0),
        }
    }

    pub(super) fn push(&mut self, job: Job) {
        self.lines.entry(job.priority).or_default().push(job);
    }

    pub(super) fn pick(&mut self, now_ms: u64) -> Option<Job> {
        let (step, cap) = (self.step_ms, self.cap);
        let heads = self.lines.iter_mut().filter_map(|(priority, line)| {
            let head = line.peek()?;
            let steps = now_ms.saturating_sub(head.arrival_ms) / step;
            let lift = i32::try_from(steps).unwrap_or(i32::MAX).min(cap);
            let age = std::cmp::Reverse((head.arrival_ms, head.id));
            Some((priority.saturating_add(lift), age, *priority))
        });
        let (_, _, priority) = heads.max()?;
        let line = self.lines.get_mut(&priority)?;
        let job = line.pick();
        if line.is_empty() {
            self.lines.remove(&priority);
        }
        job
    }

    pub(super) fn len(&self) -> usize {
        self.lines.values().map(Fcfs::len).sum()
    }
}
