//! Multi-level feedback: who has had little goes first, without anybody's durations being known.

use super::Job;
use std::collections::VecDeque;

/// Most levels.
const MAX_LEVELS: usize = 16;

/// Levels by attained use; in order of arrival within a level. Source: Arpaci-Dusseau, "Operating
/// Systems: Three Easy Pieces", ch. 8; in the form of Gu et al., "Tiresias" (NSDI'19).
#[derive(Debug, Clone)]
pub(super) struct Mlfq {
    /// A job whose attained use reaches the i-th sinks below level i.
    thresholds: Vec<u64>,
    levels: Vec<VecDeque<Job>>,
    boost_ms: u64,
    boosted_at: u64,
    len: usize,
}

// === impl Mlfq ===

impl Mlfq {
    /// `thresholds` in GPU-milliseconds, ascending; every `boost_ms` all waiting jobs start at the top
    /// (0: never).
    pub(super) fn new(thresholds: &[u64], boost_ms: u64) -> Self {
        let mut thresholds = thresholds.to_vec();
        thresholds.sort_unstable();
        thresholds.truncate(MAX_LEVELS - 1);
        Self {
            levels: vec![VecDeque::new(); thresholds.len() + 1],
            thresholds,
            boost_ms,
            boosted_at: 0,
            len: 0,
        }
    }

    pub(super) fn push(&mut self, job: Job) {
        let level = self.thresholds.partition_point(|t| *t <= job.attained);
        self.levels[level].push_back(job);
        self.len += 1;
    }

    pub(super) fn pick(&mut self, now_ms: u64) -> Option<Job> {
        if self.boost_ms > 0 && now_ms.saturating_sub(self.boosted_at) >= self.boost_ms {
            self.boosted_at = now_ms;
            let (top, below) = self.levels.split_first_mut()?;
            // Each level behind those above it: nobody overtakes.
            for level in below {
                top.append(level);
            }
        }
        let job = self.levels.iter_mut().find_map(VecDeque::pop_front);
        self.len -= usize::from(job.is_some());
        job
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}
