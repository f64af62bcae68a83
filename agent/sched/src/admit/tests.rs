use super::*;
use proptest::prelude::*;

fn gang(id: u64, gpus: u64, runtime: u64, release: u64, deadline: u64) -> Gang {
    Gang {
        id,
        gpus,
        runtime_ms: runtime,
        release_ms: release,
        deadline_ms: deadline,
    }
}

#[test]
fn a_gang_is_let_in_while_every_promise_can_be_kept() {
    let mut book = Book::new(Profile::new(4));
    let first = book.ask(gang(1, 4, 10, 0, 20), 0).expect("alone");
    assert_eq!((first.at_ms, first.end_ms), (0, 10));
    // Due earlier: it goes first, the other still has time.
    assert_eq!(book.ask(gang(2, 2, 10, 0, 10), 0).expect("urgent").at_ms, 0);
    assert_eq!(book.starts()[0].at_ms, 10);
    let refused = book.ask(gang(3, 3, 10, 0, 29), 0);
    assert_eq!(
        refused,
        Err(Refused::Promised {
            promised: 2,
            end_ms: 30
        })
    );
    assert_eq!(
        book.ask(gang(3, 3, 10, 0, 30), 0).expect("later").end_ms,
        30
    );
    assert_eq!(
        book.ask(gang(4, 5, 1, 0, 99), 0),
        Err(Refused::TooWide { gpus: 5, most: 4 })
    );
    assert_eq!(
        book.ask(gang(4, 1, 20, 0, 19), 0),
        Err(Refused::TooLate {
            end_ms: 20,
            late_ms: 1
        })
    );
    assert_eq!(
        book.ask(gang(3, 1, 1, 0, 99), 0),
        Err(Refused::Known { id: 3 })
    );
}

#[test]
fn reservations_are_kept_free_and_an_early_end_frees_the_rest() {
    let mut free = Profile::new(8);
    free.take(10, 20, 8).expect("free");
    let mut book = Book::new(free);
    let at = |b: &mut Book, g| b.ask(g, 0).map(|s| s.at_ms);
    assert_eq!(at(&mut book, gang(1, 1, 11, 0, 100)), Ok(20));
    assert_eq!(at(&mut book, gang(2, 8, 10, 0, 10)), Ok(0));
    assert!(book.started(2, 0));
    assert!(!book.started(2, 0), "it runs already");
    let late = book.ask(gang(3, 4, 3, 0, 10), 0);
    assert!(matches!(late, Err(Refused::TooLate { .. })), "{late:?}");
    book.ended(2, 5);
    assert_eq!(book.ask(gang(3, 4, 3, 0, 10), 5).map(|s| s.at_ms), Ok(5));
    assert!(book.reserve(5, 9, 5, 5).is_err(), "promised to the third");
    assert!(book.reserve(6, 9, 4, 5).is_ok());
    assert!(!book.started(3, 9), "too late for its GPUs");
}

#[test]
fn a_profile_finds_the_first_gap_and_forgets_the_past() {
    let mut p = Profile::new(10);
    p.take(5, 15, 6).expect("free");
    p.take(12, 30, 4).expect("free");
    assert_eq!(p.earliest(4, 10, 0), Some(0));
    assert_eq!(p.earliest(5, 5, 0), Some(0));
    assert_eq!(p.earliest(5, 6, 0), Some(15));
    assert_eq!(p.earliest(7, 6, 1), Some(30));
    assert_eq!(p.earliest(11, 1, 0), None);
    assert_eq!(p.least_free(0, 13), 0);
    let short = p.take(0, 40, 5);
    assert_eq!(
        short,
        Err(Short::Units {
            asked: 5,
            free: 4,
            at_ms: 5
        })
    );
    p.forget_before(14);
    assert_eq!((p.free_at(14), p.free_at(20), p.free_at(30)), (0, 6, 10));
    p.give(12, 30, 4);
    p.give(5, 15, 6);
    assert_eq!(p.free_at(20), 10);
}

#[test]
fn qpa_knows_the_classic_cases() {
    let task = |work_ms, deadline_ms, period_ms| Periodic {
        work_ms,
        deadline_ms,
        period_ms,
    };
    let full = [task(1, 2, 2), task(1, 3, 3), task(1, 6, 6)];
    assert_eq!(feasible(&full, Preemptible::Yes), PeriodicVerdict::Feasible);
    assert_eq!(feasible(&full, Preemptible::No), PeriodicVerdict::Feasible);
    let over = [task(1, 2, 2), task(1, 3, 3), task(2, 6, 6)];
    assert_eq!(
        feasible(&over, Preemptible::Yes),
        PeriodicVerdict::Overloaded
    );
    let tight = [task(2, 3, 6), task(2, 3, 6)];
    assert_eq!(
        feasible(&tight, Preemptible::Yes),
        PeriodicVerdict::Misses {
            within_ms: 3,
            demand_ms: 4
        }
    );
    // A long batch with a late deadline blocks the short one.
    let blocked = [task(1, 4, 10), task(5, 50, 50)];
    assert_eq!(
        feasible(&blocked, Preemptible::Yes),
        PeriodicVerdict::Feasible
    );
    assert_eq!(
        feasible(&blocked, Preemptible::No),
        PeriodicVerdict::Misses {
            within_ms: 4,
            demand_ms: 6
        }
    );
    assert_eq!(feasible(&[], Preemptible::No), PeriodicVerdict::Feasible);
    assert!(global_edf_suffices(&[task(1, 2, 2); 3], 2));
    assert!(!global_edf_suffices(
        &[task(9, 10, 10), task(9, 10, 10), task(9, 10, 10)],
        2
    ));
}

#[test]
fn what_is_lent_comes_back_before_a_guarantee_is_granted() {
    let terms = Terms {
        z_milli: Z_P99,
        correlation_milli: 0,
    };
    let mut book = Overbook::new(100, terms);
    let holder = |guaranteed, limit, mean, deviation, evictable| Holder {
        guaranteed,
        limit,
        mean,
        deviation,
        evictable,
        priority: 0,
    };
    book.admit(1, holder(60, 60, 40, 5, false)).expect("fits");
    book.admit(2, holder(20, 90, 30, 5, true)).expect("fits");
    assert_eq!(
        book.admit(3, holder(0, 10, 1, 1, false)),
        Err(OverbookError::NotEvictable {
            limit: 10,
            guaranteed: 0
        })
    );
    assert!(matches!(
        book.admit(3, holder(21, 21, 1, 1, false)),
        Err(OverbookError::Guarantees {
            sum: 101,
            capacity: 100
        })
    ));
    // 70 + 10 on average; 2.326 * sqrt(25 + 25 + 64) = 24.8 does not fit into 20.
    let chance = book.admit(3, holder(0, 20, 10, 8, true));
    assert!(
        matches!(
            chance,
            Err(OverbookError::Chance {
                mean: 80,
                deviation: 25,
                ..
            })
        ),
        "{chance:?}"
    );
    assert_eq!(book.claim(2, 90), Ok(Claim::Granted));
    assert_eq!(
        book.claim(2, 1),
        Err(OverbookError::AboveLimit {
            asked: 91,
            limit: 90
        })
    );
    assert_eq!(book.claim(1, 60), Ok(Claim::AfterEviction(vec![(2, 50)])));
    assert_eq!(book.used_by(1), 0, "not before the memory is free");
    assert_eq!(book.gave_back(2, 49), [] as [u64; 0]);
    assert_eq!(book.gave_back(2, 1), [1]);
    assert_eq!(
        (book.used_by(1), book.used_by(2), book.used()),
        (60, 40, 100)
    );
    assert_eq!(book.ratio_milli(), 1500);
    book.observed(2, 60, 5).expect("known");
    assert!(!book.within_chance());
}

fn gangs() -> impl Strategy<Value = Vec<Gang>> {
    let one = (1u64..5, 1u64..7, 0u64..5, 0u64..10);
    prop::collection::vec(one, 1..7).prop_map(|all| {
        let all = (0u64..).zip(all);
        all.map(|(id, (gpus, run, release, more))| {
            gang(id, gpus, run, release, release + run + more)
        })
        .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A schedule that is found keeps every promise, and where trying everything finds one, so does the search.
    #[test]
    fn admission_agrees_with_trying_everything(
        gangs in gangs(), units in 4u64..7, from in 0u64..8, long in 0u64..6, less in 0u64..4,
    ) {
        let mut profile = Profile::new(units);
        profile.take(from, from + long, less).expect("free");
        let found = schedule(&profile, &gangs, 0);
        let exact = exact(&profile, &gangs, 0).expect("small");
        prop_assert_eq!(found.is_some(), exact);
        let mut free = profile.clone();
        for (g, s) in gangs.iter().zip(found.iter().flatten()) {
            prop_assert!(s.at_ms >= g.release_ms && s.end_ms <= g.deadline_ms);
            prop_assert_eq!(s.end_ms - s.at_ms, g.runtime_ms);
            prop_assert!(free.take(s.at_ms, s.end_ms, g.gpus).is_ok());
        }
    }

    /// Whatever is asked of the book, its schedule keeps every promise.
    #[test]
    fn the_book_never_promises_more_than_there_is(gangs in gangs(), units in 4u64..6) {
        let mut book = Book::new(Profile::new(units));
        let mut within = Vec::new();
        for (now, g) in (0u64..).zip(&gangs) {
            for s in book.starts().to_vec() {
                if s.at_ms < now {
                    prop_assert!(false, "a start was missed");
                } else if s.at_ms == now {
                    prop_assert!(book.started(s.id, now));
                }
            }
            if book.ask(*g, now).is_ok() {
                within.push(*g);
            }
            for s in book.starts().to_vec().iter().filter(|s| s.at_ms == now) {
                prop_assert!(book.started(s.id, now));
            }
            for s in book.starts() {
                let g = within.iter().find(|g| g.id == s.id).expect("let in");
                prop_assert!(s.end_ms <= g.deadline_ms && s.at_ms >= g.release_ms);
            }
        }
    }

    /// The tree says what adding up says, while work comes, goes and runs.
    #[test]
    fn the_slack_tree_is_the_sum(
        asks in prop::collection::vec((0u64..60, 1u64..12, 0u64..4, any::<bool>()), 1..40),
    ) {
        let mut tree = SlackTree::default();
        let mut plain: Vec<(u64, u64, u64)> = Vec::new();
        let mut now = 0;
        for (id, (within, work, ran, leave)) in (0u64..).zip(asks) {
            let mut with = plain.clone();
            with.push((now + within, id, work));
            with.sort_unstable();
            let mut due = now;
            let fits = with.iter().all(|(d, _, w)| { due += w; due <= *d });
            prop_assert_eq!(tree.ask(id, now + within, work, now).is_ok(), fits);
            if fits {
                plain = with;
            }
            if leave && plain.len() > 2 {
                let (_, gone, work) = plain.remove(1);
                prop_assert_eq!(tree.remove(gone), Some(work));
            }
            let done = tree.ran(ran);
            now += ran;
            let mut left = ran;
            let mut gone = Vec::new();
            while let Some((_, id, work)) = plain.first_mut() {
                if *work > left {
                    *work -= left;
                    break;
                }
                left -= *work;
                gone.push(*id);
                plain.remove(0);
            }
            prop_assert_eq!(done, gone);
            prop_assert_eq!(tree.len(), plain.len());
            let slack = tree.slack(now);
            prop_assert!(slack.is_none_or(|s| s >= 0), "admitted work is never late: {:?}", slack);
        }
    }

    /// QPA says what running the tasks says, all coming together.
    #[test]
    fn qpa_agrees_with_running_the_tasks(
        tasks in prop::collection::vec((1u64..5, 1u64..13, prop::sample::select(vec![2u64, 3, 4, 6, 8, 12])), 1..5),
    ) {
        let tasks: Vec<Periodic> = tasks
            .iter()
            .map(|(w, d, p)| Periodic { work_ms: *w, deadline_ms: *d, period_ms: *p })
            .collect();
        let verdict = feasible(&tasks, Preemptible::Yes);
        prop_assert_ne!(verdict, PeriodicVerdict::Undecided);
        prop_assert_eq!(verdict == PeriodicVerdict::Feasible, runs_in_time(&tasks));
        // What may block only makes it harder.
        if feasible(&tasks, Preemptible::No) == PeriodicVerdict::Feasible {
            prop_assert_eq!(verdict, PeriodicVerdict::Feasible);
        }
        if let PeriodicVerdict::Misses { within_ms, demand_ms } = verdict {
            prop_assert!(demand(&tasks, within_ms) == demand_ms && demand_ms > within_ms);
        }
    }

    /// Guarantees and use never exceed what is there, nobody exceeds a limit, and a guarantee that is
    /// claimed is granted once others gave back what they were told to.
    #[test]
    fn overbooking_keeps_its_invariants(
        holders in prop::collection::vec((0u64..40, 0u64..60, 0u64..40, 0u64..10, any::<bool>(), 0i32..3), 1..8),
        claims in prop::collection::vec((0u64..8, 1u64..50, any::<bool>()), 1..40),
        correlation in 0u32..=1000,
    ) {
        let terms = Terms { z_milli: Z_P95, correlation_milli: correlation };
        let mut book = Overbook::new(100, terms);
        let mut known = std::collections::BTreeMap::new();
        for (id, (guaranteed, more, mean, deviation, evictable, priority)) in (0u64..).zip(holders) {
            let holder = Holder { guaranteed, limit: guaranteed + more, mean, deviation, evictable, priority };
            if book.admit(id, holder).is_ok() {
                prop_assert!(evictable || more == 0);
                prop_assert!(book.within_chance());
                known.insert(id, holder);
            }
        }
        prop_assert!(book.guaranteed() <= 100);
        let mut told: Vec<(u64, u64)> = Vec::new();
        for (id, units, settle) in claims {
            if let Ok(Claim::AfterEviction(evict)) = book.claim(id, units) {
                told.extend(evict);
            }
            if settle {
                for (id, units) in told.drain(..) {
                    book.gave_back(id, units);
                }
                prop_assert!(book.claims_waiting() == 0, "guarantees wait though all was given back");
            }
            prop_assert!(book.used() <= 100);
            for (id, h) in &known {
                prop_assert!(book.used_by(*id) <= h.limit);
            }
        }
    }
}

/// Earliest deadline first, millisecond by millisecond, over three common multiples of the periods.
fn runs_in_time(tasks: &[Periodic]) -> bool {
    // More work than time piles up, at first unseen where deadlines are late.
    if tasks
        .iter()
        .map(|t| t.work_ms * 24 / t.period_ms)
        .sum::<u64>()
        > 24
    {
        return false;
    }
    let mut waiting: Vec<(u64, u64)> = Vec::new();
    for now in 0..72 {
        for t in tasks {
            if now % t.period_ms == 0 {
                waiting.push((now + t.deadline_ms, t.work_ms));
            }
        }
        waiting.sort_unstable();
        if let Some(first) = waiting.first_mut() {
            first.1 -= 1;
            if first.1 == 0 {
                waiting.remove(0);
            }
        }
        if waiting.iter().any(|(deadline, _)| *deadline <= now + 1) {
            return false;
        }
    }
    true
}
