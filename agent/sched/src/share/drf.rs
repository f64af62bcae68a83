//! Dominant resource fairness: each user's largest share of any resource is made equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Most tasks given in one filling.
pub const MAX_TASKS: u64 = 10_000_000;

/// A user and what each of its tasks needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Units of each resource for one task, in the capacities' order; missing ones are 0.
    pub task: Vec<u64>,
    /// Tasks it has; fewer are given when the resources end.
    pub tasks: u64,
    /// In proportion to the others', at least 1; 0 counts as 1.
    pub weight: u64,
}

/// What was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// Tasks of each user, in the users' order.
    pub tasks: Vec<u64>,
    /// Units of each resource that are left.
    pub left: Vec<u64>,
}

/// A dominant share by weight as an exact fraction: units over capacity times weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    units: u128,
    of: u128,
}

/// One task at a time to the user with the least dominant share by weight (equals: the first),
/// until nobody's next task fits. A user whose next task does not fit gets no more; one whose tasks
/// need nothing gets all of them. O(tasks log users). Source: Ghodsi et al., NSDI'11, algorithm 1.
#[must_use]
pub fn progressive_filling(capacity: &[u64], users: &[User]) -> Filled {
    let mut filled = Filled {
        tasks: vec![0; users.len()],
        left: capacity.to_vec(),
    };
    let mut heap = BinaryHeap::new();
    for (i, user) in users.iter().enumerate() {
        if user.task.iter().all(|t| *t == 0) {
            filled.tasks[i] = user.tasks;
        } else if user.tasks > 0 {
            heap.push(Reverse((Share::of(user, 0, capacity), i)));
        }
    }
    let mut given = 0;
    while let Some(Reverse((_, i))) = heap.pop() {
        let user = &users[i];
        if given == MAX_TASKS || !fits(&user.task, &filled.left) {
            continue;
        }
        for (left, t) in filled.left.iter_mut().zip(&user.task) {
            *left -= t;
        }
        filled.tasks[i] += 1;
        given += 1;
        if filled.tasks[i] < user.tasks {
            let share = Share::of(user, filled.tasks[i], capacity);
            heap.push(Reverse((share, i)));
        }
    }
    filled
}

/// A resource nobody has cannot be given: a task that needs it never fits.
pub(crate) fn fits(task: &[u64], left: &[u64]) -> bool {
    let missing = task.get(left.len()..).unwrap_or_default();
    missing.iter().all(|t| *t == 0) && task.iter().zip(left).all(|(t, l)| t <= l)
}

// === impl Share ===

impl Share {
    /// The dominant share of `tasks` tasks, by weight.
    pub(crate) fn of(user: &User, tasks: u64, capacity: &[u64]) -> Self {
        let weight = u128::from(user.weight.max(1));
        let shares = user.task.iter().zip(capacity).filter(|(_, c)| **c > 0);
        let each = shares.map(|(t, c)| Self {
            units: u128::from(*t) * u128::from(tasks),
            of: u128::from(*c) * weight,
        });
        each.max().unwrap_or(Self { units: 0, of: 1 })
    }
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let cross = |a: u128, b: u128| a.checked_mul(b);
        match (cross(self.units, other.of), cross(other.units, self.of)) {
            (Some(a), Some(b)) => a.cmp(&b),
            // Beyond 128 bits, whole parts decide and then remainders do.
            _ => {
                let whole = |s: &Self| (s.units / s.of, s.units % s.of);
                whole(self).cmp(&whole(other))
            }
        }
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Share {}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
