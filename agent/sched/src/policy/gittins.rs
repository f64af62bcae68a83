//! Who is likely to be done soon, judged by how long finished work took: the Gittins index, learned online.

/// Buckets of a doubling of use.
const PER_DOUBLING: usize = 8;
/// Use up to 2^40 GPU-milliseconds (about 35 GPU-years); more counts as that.
const DOUBLINGS: usize = 40;
const BUCKETS: usize = PER_DOUBLING * DOUBLINGS;
/// Finished jobs known before the history is believed; until then least attained use goes first.
const ENOUGH: u64 = 20;

/// A history of what finished jobs used, and from it the rank of a job that attained so much.
///
/// The rank is the inverse of the index: the least expected use for each job finished, over all ways to
/// serve it a while longer. Source: Gittins, "Bandit Processes and Dynamic Allocation Indices" (1979);
/// for clusters Gu et al., "Tiresias" (NSDI'19), 3.2.2.
#[derive(Debug, Clone)]
pub struct Gittins {
    finished: Vec<u64>,
    total: u64,
    /// Rank at each bucket's lower edge; recomputed when the history has grown by a 32nd.
    ranks: Vec<f64>,
    computed_at: u64,
}

// === impl Gittins ===

impl Default for Gittins {
    fn default() -> Self {
        Self {
            finished: vec![0; BUCKETS],
            total: 0,
            ranks: Vec::new(),
            computed_at: 0,
        }
    }
}

impl Gittins {
    /// A job finished after `used` GPU-milliseconds.
    pub fn finished(&mut self, used: u64) {
        self.finished[bucket(used)] += 1;
        self.total += 1;
        if self.total >= ENOUGH && self.total >= self.computed_at + 1 + self.computed_at / 32 {
            self.compute();
        }
    }

    /// The rank of a job that attained so much, in GPU-milliseconds: less goes first. With little
    /// history, or beyond everything that finished, it is twice what was attained.
    #[must_use]
    pub fn rank(&self, attained: u64) -> f64 {
        let b = bucket(attained);
        match self.ranks.get(b) {
            Some(rank) if rank.is_finite() => *rank,
            // As much again as it had: Lindy's law, for lack of better knowledge.
            _ => 2.0 * edge(b).max(edge(PER_DOUBLING * 20)),
        }
    }

    fn compute(&mut self) {
        self.computed_at = self.total;
        let mut longer = vec![0u64; BUCKETS + 1];
        for b in (0..BUCKETS).rev() {
            longer[b] = longer[b + 1] + self.finished[b];
        }
        self.ranks = (0..BUCKETS)
            .map(|from| {
                if longer[from] < ENOUGH {
                    return f64::INFINITY;
                }
                let (mut used, mut done, mut best) = (0.0, 0u64, f64::INFINITY);
                for to in from..BUCKETS {
                    // All that are still there use the bucket's width; those that end in it half of it.
                    let width = edge(to + 1) - edge(to);
                    let here = self.finished[to];
                    used += width * (number(longer[to + 1]) + number(here) / 2.0);
                    done += here;
                    if done > 0 {
                        best = best.min(used / number(done));
                    }
                }
                best
            })
            .collect();
    }
}

fn bucket(used: u64) -> usize {
    let used = used.max(1);
    let doubling = usize::try_from(used.ilog2()).unwrap_or(0);
    // The next three bits divide the doubling.
    let part = if doubling >= 3 {
        usize::try_from(used >> (doubling - 3) & 7).unwrap_or(0)
    } else {
        0
    };
    (doubling * PER_DOUBLING + part).min(BUCKETS - 1)
}

/// Where a bucket begins, in GPU-milliseconds.
fn edge(bucket: usize) -> f64 {
    let doubling = i32::try_from(bucket / PER_DOUBLING).unwrap_or(i32::MAX);
    let part = number(bucket as u64 % PER_DOUBLING as u64) / number(PER_DOUBLING as u64);
    2f64.powi(doubling) * (1.0 + part)
}

fn number(n: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of jobs")]
    let n = n as f64;
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    #[test]
    fn without_history_least_attained_goes_first() {
        let g = Gittins::default();
        assert!(g.rank(100 * MINUTE) < g.rank(1_000 * MINUTE));
    }

    #[test]
    fn a_job_near_the_usual_end_goes_before_one_that_passed_it() {
        let mut g = Gittins::default();
        for i in 0..1_000 {
            g.finished(60 * MINUTE + i * 1_000);
            if i % 10 == 0 {
                g.finished(6_000 * MINUTE);
            }
        }
        // At 50 minutes most end within some more; at 200 minutes only those that take 100 hours are left.
        assert!(g.rank(50 * MINUTE) < g.rank(MINUTE));
        assert!(g.rank(50 * MINUTE) < g.rank(200 * MINUTE));
        assert!(g.rank(5_900 * MINUTE) < g.rank(200 * MINUTE));
    }

    #[test]
    fn buckets_ascend_and_hold_what_lies_between_their_edges() {
        let mut last = 0;
        for used in (2..40).flat_map(|d| (0..8).map(move |i| (1u64 << d) + (1u64 << d) / 8 * i)) {
            let b = bucket(used);
            assert!(b >= last);
            let (low, high) = (edge(b), edge(b + 1));
            assert!(
                (low..high).contains(&number(used)) || b == BUCKETS - 1,
                "{used}"
            );
            last = b;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }
}
