//! The workload distributor: how many of n equal tasks each device gets.

use gpuloom_fleet::DeviceId;

/// A device that takes tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Which.
    pub device: DeviceId,
    /// Relative capacity; 0 takes nothing when spread by capacity.
    pub capacity: u64,
    /// Most tasks it takes; `None` means any number.
    pub limit: Option<u64>,
}

/// How tasks are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// As evenly as limits allow: counts differ by at most one between devices below their limit.
    Uniform,
    /// In proportion to capacity, by largest remainder.
    ByCapacity,
}

/// Tasks that no device could take: never dropped in silence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{unplaced} of {tasks} tasks found no device: all are at their limit or have no capacity; raise a limit or add devices"
)]
pub struct Unplaced {
    /// Asked for.
    pub tasks: u64,
    /// Left over.
    pub unplaced: u64,
    /// What was placed, in the workers' order.
    pub placed: Vec<u64>,
}

/// Tasks for each worker, in their order; the sum is `tasks`. With more tasks than limits allow,
/// the error holds what could be placed.
pub fn distribute(tasks: u64, workers: &[Worker], spread: Spread) -> Result<Vec<u64>, Unplaced> {
    let weight = |w: &Worker| match spread {
        Spread::Uniform => 1,
        Spread::ByCapacity => w.capacity,
    };
    let mut placed = vec![0u64; workers.len()];
    let mut left = tasks;
    // Each round fills at least one worker to its limit or places all that is left.
    while left > 0 {
        let open: Vec<usize> = (0..workers.len())
            .filter(|i| weight(&workers[*i]) > 0)
            .filter(|i| workers[*i].limit.is_none_or(|l| placed[*i] < l))
            .collect();
        if open.is_empty() {
            return Err(Unplaced {
                tasks,
                unplaced: left,
                placed,
            });
        }
        let shares = largest_remainder(left, &open, |i| weight(&workers[i]));
        let before = left;
        for (i, share) in open.iter().zip(shares) {
            let room = workers[*i]
                .limit
                .map_or(share, |l| share.min(l - placed[*i]));
            placed[*i] += room;
            left -= room;
        }
        debug_assert!(left < before, "each round places something");
    }
    Ok(placed)
}

fn largest_remainder(tasks: u64, open: &[usize], weight: impl Fn(usize) -> u64) -> Vec<u64> {
    let total: u128 = open.iter().map(|i| u128::from(weight(*i))).sum();
    let exact = |i: usize| u128::from(tasks) * u128::from(weight(i));
    let floor = |i: usize| u64::try_from(exact(i) / total).unwrap_or(u64::MAX);
    let mut shares: Vec<u64> = open.iter().map(|i| floor(*i)).collect();
    let mut by_rest: Vec<usize> = (0..open.len()).collect();
    by_rest.sort_by_key(|k| std::cmp::Reverse(exact(open[*k]) % total));
    let mut rest = tasks - shares.iter().sum::<u64>();
    for k in by_rest {
        if rest == 0 {
            break;
        }
        shares[k] += 1;
        rest -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn workers(spec: &[(u64, Option<u64>)]) -> Vec<Worker> {
        let worker = |(i, (capacity, limit)): (usize, &(u64, Option<u64>))| Worker {
            device: DeviceId::new(format!("g{i}")).expect("an id"),
            capacity: *capacity,
            limit: *limit,
        };
        spec.iter().enumerate().map(worker).collect()
    }

    #[test]
    fn tasks_spread_evenly_and_by_capacity_and_none_is_dropped() {
        let eight = workers(&[(1, None); 8]);
        assert_eq!(
            distribute(15, &eight, Spread::Uniform),
            Ok(vec![2, 2, 2, 2, 2, 2, 2, 1])
        );
        let mixed = workers(&[(80, None), (16, None), (0, None)]);
        assert_eq!(distribute(6, &mixed, Spread::ByCapacity), Ok(vec![5, 1, 0]));
        let limited = workers(&[(1, Some(2)), (1, None)]);
        assert_eq!(distribute(10, &limited, Spread::Uniform), Ok(vec![2, 8]));
        let full = workers(&[(1, Some(2)), (1, Some(2))]);
        let error = distribute(10, &full, Spread::Uniform).expect_err("only 4 fit");
        assert_eq!((error.unplaced, error.placed), (6, vec![2, 2]));
        assert!(distribute(1, &[], Spread::Uniform).is_err());
        assert_eq!(distribute(0, &[], Spread::Uniform), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn every_task_is_placed_or_told_of_and_no_limit_is_passed(
            tasks in 0u64..10_000,
            spec in prop::collection::vec((0u64..100, prop::option::of(0u64..500)), 0..20),
            by_capacity: bool,
        ) {
            let workers = workers(&spec);
            let spread = if by_capacity { Spread::ByCapacity } else { Spread::Uniform };
            let (placed, unplaced) = match distribute(tasks, &workers, spread) {
                Ok(placed) => (placed, 0),
                Err(e) => (e.placed, e.unplaced),
            };
            prop_assert_eq!(placed.iter().sum::<u64>() + unplaced, tasks);
            for (w, n) in workers.iter().zip(&placed) {
                prop_assert!(w.limit.is_none_or(|l| *n <= l));
                prop_assert!(!by_capacity || w.capacity > 0 || *n == 0);
            }
        }
    }
}
