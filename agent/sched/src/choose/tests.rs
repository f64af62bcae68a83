use super::*;

fn settings(noise: f64, discount: f64) -> Settings {
    Settings {
        noise,
        discount,
        safety: None,
        seed: 7,
    }
}

fn sampler(arms: usize, features: usize, settings: Settings) -> Thompson {
    Thompson::new(arms, features, settings).expect("in range")
}

#[test]
fn the_best_arm_is_found_from_the_rewards_of_choices_alone() {
    let mut t = sampler(4, 0, settings(0.2, 1.0));
    let rewards = [0.4, 0.5, 0.9, 0.6];
    let mut last = Vec::new();
    for _ in 0..200 {
        let ticket = t.choose(&[]);
        t.credit(&ticket, rewards[ticket.arm]);
        last.push(ticket.arm);
    }
    let best = last[150..].iter().filter(|a| **a == 2).count();
    assert!(best >= 45, "{best} of 50");
}

#[test]
fn the_context_decides_where_arms_differ_by_it() {
    let mut t = sampler(2, 1, settings(0.1, 1.0));
    for i in 0..100 {
        let load = f64::from(i % 2) * 2.0 - 1.0;
        t.observe_all(&[load], &[0.5 + 0.4 * load, 0.5 - 0.4 * load]);
    }
    assert_eq!(t.choose(&[1.0]).arm, 0);
    assert_eq!(t.choose(&[-1.0]).arm, 1);
    assert!((t.expected(0, &[1.0]) - 0.9).abs() < 0.05);
}

#[test]
fn a_discount_follows_a_change_that_full_memory_never_does() {
    let after = |discount| {
        let mut t = sampler(2, 0, settings(0.05, discount));
        for _ in 0..100 {
            t.observe_all(&[], &[0.9, 0.5]);
        }
        (0..40)
            .position(|_| {
                t.observe_all(&[], &[0.5, 0.9]);
                t.choose(&[]).arm == 1
            })
            .unwrap_or(40)
    };
    assert!(after(0.8) <= 6, "{}", after(0.8));
    assert_eq!(after(1.0), 40);
}

#[test]
fn late_rewards_in_any_order_teach_the_same() {
    let mut tickets = Vec::new();
    let mut t = sampler(3, 1, settings(0.1, 1.0));
    for i in 0..30 {
        tickets.push(t.choose(&[f64::from(i % 3) / 3.0]));
    }
    let mut forwards = t.clone();
    let mut backwards = t;
    for k in &tickets {
        forwards.credit(k, 0.1 * f64::from(u32::try_from(k.arm).expect("small")));
    }
    for k in tickets.iter().rev() {
        backwards.credit(k, 0.1 * f64::from(u32::try_from(k.arm).expect("small")));
    }
    for arm in 0..3 {
        let (a, b) = (
            forwards.expected(arm, &[0.5]),
            backwards.expected(arm, &[0.5]),
        );
        assert!((a - b).abs() < 1e-9);
    }
}

#[test]
fn what_would_lose_too_much_is_not_tried() {
    let safe = Settings {
        safety: Some(Safety {
            baseline: 1,
            most_loss: 0.2,
        }),
        noise: 1.0,
        ..settings(1.0, 1.0)
    };
    let mut t = sampler(3, 0, safe);
    for _ in 0..50 {
        t.observe_all(&[], &[0.1, 0.8, 0.75]);
    }
    for _ in 0..200 {
        assert_ne!(t.choose(&[]).arm, 0);
    }
}

#[test]
fn numbers_out_of_range_are_refused_and_nonsense_teaches_nothing() {
    assert!(Thompson::new(0, 0, settings(0.1, 1.0)).is_none());
    assert!(Thompson::new(2, MAX_CONTEXT, settings(0.1, 1.0)).is_none());
    assert!(Thompson::new(2, 0, settings(0.0, 1.0)).is_none());
    assert!(Thompson::new(2, 0, settings(0.1, 1.5)).is_none());
    let mut t = sampler(2, 0, settings(0.1, 1.0));
    let ticket = t.choose(&[]);
    t.credit(&ticket, f64::NAN);
    assert!(t.expected(ticket.arm, &[]).abs() < 1e-12);
}
