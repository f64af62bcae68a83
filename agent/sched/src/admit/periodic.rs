//! Periodic work on servers of its own: utilization, demand bound, and what blocks.

/// Most periodic tasks of one test.
pub const MAX_TASKS: usize = 10_000;
/// Most points looked at before the answer is [`PeriodicVerdict::Undecided`].
pub const MAX_POINTS: u32 = 100_000;

/// Work that comes again and again, at the earliest a period after it came last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Periodic {
    /// Milliseconds of the server at most (the 99th percentile of its prediction).
    pub work_ms: u64,
    /// Done within so many milliseconds after it came.
    pub deadline_ms: u64,
    /// At least 1; 0 counts as 1.
    pub period_ms: u64,
}

/// Whether what runs is interrupted by what is more urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preemptible {
    /// At any moment, at no cost.
    Yes,
    /// Never: a batch runs to its end and blocks what came meanwhile.
    No,
}

/// Whether periodic work meets its deadlines on one server, earliest deadline first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeriodicVerdict {
    /// All deadlines are met.
    Feasible,
    /// More work than time.
    Overloaded,
    /// Some deadline can be missed: of work that comes together, `demand_ms` are due within `within_ms`.
    Misses {
        /// The span.
        within_ms: u64,
        /// Work due within it, blocking included.
        demand_ms: u64,
    },
    /// Not decided within [`MAX_POINTS`] or [`MAX_TASKS`]: treat as not feasible.
    Undecided,
}

/// Work due within `t_ms` when all tasks come together. Source: Baruah, Rosier, Howell, "Algorithms
/// and Complexity Concerning the Preemptive Scheduling of Periodic, Real-Time Tasks" (1990).
#[must_use]
pub fn demand(tasks: &[Periodic], t_ms: u64) -> u64 {
    let due = tasks.iter().filter_map(|t| {
        let times = (t_ms.checked_sub(t.deadline_ms)? / t.period_ms.max(1)).saturating_add(1);
        Some(times.saturating_mul(t.work_ms))
    });
    due.fold(0, u64::saturating_add)
}

/// Whether `tasks` meet their deadlines on one server, earliest deadline first, however they come.
///
/// Preemptible work: exact, by QPA. Otherwise the longest work with a later deadline blocks first
/// (sufficient; exact up to a millisecond). Sources: Zhang & Burns, "Schedulability Analysis for
/// Real-Time Systems with EDF Scheduling" (IEEE TC 2009); Jeffay, Stanat, Martel (RTSS'91).
#[must_use]
pub fn feasible(tasks: &[Periodic], preemptible: Preemptible) -> PeriodicVerdict {
    if tasks.len() > MAX_TASKS {
        return PeriodicVerdict::Undecided;
    }
    let tasks: Vec<Periodic> = tasks.iter().copied().filter(|t| t.work_ms > 0).collect();
    if overloaded(&tasks) {
        return PeriodicVerdict::Overloaded;
    }
    if preemptible == Preemptible::Yes && tasks.iter().all(|t| t.deadline_ms >= t.period_ms.max(1))
    {
        // Liu & Layland (1973): utilization alone decides.
        return PeriodicVerdict::Feasible;
    }
    let first = tasks.iter().map(|t| t.deadline_ms).min().unwrap_or(0);
    let Some(horizon) = horizon(&tasks, preemptible) else {
        return PeriodicVerdict::Undecided;
    };
    let Some(mut t) = due_before(&tasks, horizon.saturating_add(1)) else {
        return PeriodicVerdict::Feasible;
    };
    for _ in 0..MAX_POINTS {
        let (blocking, stretch_start) = blocking(&tasks, preemptible, t);
        let needed = demand(&tasks, t).saturating_add(blocking);
        if needed > t {
            return PeriodicVerdict::Misses {
                within_ms: t,
                demand_ms: needed,
            };
        }
        if needed <= first && stretch_start <= first {
            return PeriodicVerdict::Feasible;
        }
        // Demand never grows towards the past: between `needed` and `t` nothing is missed, as long
        // as the same work blocks.
        let next = if needed < t && needed >= stretch_start {
            Some(needed)
        } else {
            due_before(&tasks, if needed < t { stretch_start } else { t })
        };
        match next {
            Some(next) if next >= first => t = next,
            _ => return PeriodicVerdict::Feasible,
        }
    }
    PeriodicVerdict::Undecided
}

/// Whether `tasks` with deadlines no later than their periods meet them on `servers` that any of
/// them may move between, by a sufficient test: density at most `m - (m - 1) * largest`. `false` says
/// nothing. Source: Goossens, Funk, Baruah, "Priority-Driven Scheduling of Periodic Task Systems on
/// Multiprocessors" (Real-Time Systems 2003).
#[must_use]
pub fn global_edf_suffices(tasks: &[Periodic], servers: u64) -> bool {
    let mut sum = 0u128;
    let mut most = 0u128;
    for t in tasks.iter().filter(|t| t.work_ms > 0) {
        let within = t.deadline_ms.min(t.period_ms.max(1));
        if within < t.work_ms {
            return false;
        }
        let density = (u128::from(t.work_ms) * ONE).div_ceil(u128::from(within));
        sum += density;
        most = most.max(density);
    }
    let servers = u128::from(servers);
    // Rounded up by less than one part in 2^60 for each task: never too generous.
    servers > 0 && sum + (servers - 1) * most <= servers * ONE
}

/// One server in fixed point.
const ONE: u128 = 1 << 60;

/// Whether more work comes than one server does. Exact while the common denominator fits 128 bits,
/// beyond that rounded up.
fn overloaded(tasks: &[Periodic]) -> bool {
    let exact = tasks.iter().try_fold((0u128, 1u128), |(n, d), t| {
        let (work, period) = (u128::from(t.work_ms), u128::from(t.period_ms.max(1)));
        let common = d.checked_mul(period / gcd(d, period))?;
        let left = n.checked_mul(common / d)?;
        let sum = left.checked_add(work.checked_mul(common / period)?)?;
        let by = gcd(sum, common).max(1);
        Some((sum / by, common / by))
    });
    match exact {
        Some((n, d)) => n > d,
        None => {
            let parts = tasks
                .iter()
                .map(|t| (u128::from(t.work_ms) * ONE).div_ceil(u128::from(t.period_ms.max(1))));
            parts.sum::<u128>() > ONE
        }
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// No deadline after it can be the first that is missed: the longest time the server is busy, and
/// where work may block, all deadlines that may be blocked. `None` when that is not found.
fn horizon(tasks: &[Periodic], preemptible: Preemptible) -> Option<u64> {
    let busy = busy_period(tasks)?;
    let last = tasks.iter().map(|t| t.deadline_ms).max().unwrap_or(0);
    Some(match preemptible {
        Preemptible::Yes => busy,
        Preemptible::No => busy.max(last),
    })
}

fn busy_period(tasks: &[Periodic]) -> Option<u64> {
    let bound = by_utilization(tasks);
    let mut busy = tasks
        .iter()
        .fold(0u64, |sum, t| sum.saturating_add(t.work_ms));
    for _ in 0..MAX_POINTS {
        if bound.is_some_and(|b| busy >= b) {
            return bound;
        }
        let next = tasks.iter().fold(0u64, |sum, t| {
            let times = busy.div_ceil(t.period_ms.max(1));
            sum.saturating_add(times.saturating_mul(t.work_ms))
        });
        if next == busy {
            return Some(busy);
        }
        busy = next;
    }
    bound
}

/// `max(D - T, sum (T - D) U / (1 - U))`, rounded up; `None` at full utilization.
fn by_utilization(tasks: &[Periodic]) -> Option<u64> {
    let (mut free, mut sum) = (1.0f64, 0.0f64);
    let mut later = 0;
    for t in tasks {
        let period = t.period_ms.max(1);
        #[expect(clippy::cast_precision_loss, reason = "a bound, rounded up below")]
        let (work, period_f, deadline) = (t.work_ms as f64, period as f64, t.deadline_ms as f64);
        free -= work / period_f;
        sum += (period_f - deadline) * work / period_f;
        later = later.max(t.deadline_ms.saturating_sub(period));
    }
    if free < 1e-9 {
        return None;
    }
    let bound = sum.max(0.0) / free * (1.0 + 1e-6) + 1.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates at both ends: a larger bound is only slower"
    )]
    let bound = bound.ceil() as u64;
    Some(bound.max(later))
}

/// The last deadline before `t_ms` of any task that comes again and again from 0 on.
fn due_before(tasks: &[Periodic], t_ms: u64) -> Option<u64> {
    let each = tasks.iter().filter_map(|t| {
        let span = t_ms.checked_sub(t.deadline_ms)?.checked_sub(1)?;
        let period = t.period_ms.max(1);
        Some(t.deadline_ms + span / period * period)
    });
    each.max()
}

/// What may block work due within `t_ms`, and from which moment on that is the same.
fn blocking(tasks: &[Periodic], preemptible: Preemptible, t_ms: u64) -> (u64, u64) {
    if preemptible == Preemptible::Yes {
        return (0, 0);
    }
    let later = tasks.iter().filter(|t| t.deadline_ms > t_ms);
    let most = later.map(|t| t.work_ms).max().unwrap_or(0);
    let earlier = tasks.iter().map(|t| t.deadline_ms).filter(|d| *d <= t_ms);
    (most, earlier.max().unwrap_or(0))
}
