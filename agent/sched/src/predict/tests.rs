use super::*;
use proptest::prelude::*;

/// SplitMix64, uniform in [0, 1).
fn unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    f64::from(u32::try_from((z ^ (z >> 31)) >> 32).expect("32 bits")) / 4_294_967_296.0
}

/// An iteration's features and time in microseconds: noise of 10% either way.
fn iteration(state: &mut u64, factor: f64) -> ([f64; 2], f64) {
    let x = [unit(state), unit(state)];
    let mean = 28.0 + factor * 120.0 * x[0] + 10.0 * x[1];
    (x, 1000.0 * mean * (0.9 + 0.2 * unit(state)))
}

fn predictor() -> Predictor {
    Predictor::new(2, PredictorSettings::default()).expect("in range")
}

#[test]
fn least_squares_finds_the_weights_and_follows_them() {
    let mut model = Rls::new(3, 0.98, 1e4).expect("in range");
    let mut s = 1;
    for (a, b) in [(2.0, 5.0), (7.0, -1.0)] {
        for _ in 0..600 {
            let (x, y) = (unit(&mut s), unit(&mut s));
            model.learn(
                &[1.0, x, y],
                3.0 + a * x + b * y + (unit(&mut s) - 0.5) * 0.01,
                1.0,
            );
        }
        for (w, truth) in model.weights().iter().zip([3.0, a, b]) {
            assert!((w - truth).abs() < 0.02, "{:?}", model.weights());
        }
    }
}

#[test]
fn out_of_range_settings_are_refused_and_senseless_observations_ignored() {
    assert!(Rls::new(0, 0.9, 1.0).is_none() && Rls::new(MAX_FEATURES + 1, 0.9, 1.0).is_none());
    assert!(Rls::new(2, 0.0, 1.0).is_none() && Rls::new(2, 1.1, 1.0).is_none());
    assert!(Conformal::new(0.0, 10, 0.1).is_none() && Conformal::new(0.1, 0, 0.1).is_none());
    let mut p = predictor();
    p.observe(&[f64::NAN, 1.0], 10.0);
    p.observe(&[1.0, 1.0], f64::INFINITY);
    p.observe(&[1.0, 1.0], -3.0);
    assert!(p.expect(&[0.5, 0.5]).mean.is_finite());
    assert_eq!(p.expect(&[0.5, 0.5]).interval, None);
}

#[test]
fn covariance_does_not_wind_up_while_nothing_new_is_seen() {
    let mut model = Rls::new(2, 0.9, 100.0).expect("in range");
    for _ in 0..5_000 {
        model.learn(&[1.0, 0.0], 4.0, 1.0);
    }
    model.learn(&[1.0, 1.0], 6.0, 1.0);
    assert!((model.predict(&[1.0, 1.0]) - 6.0).abs() < 0.2);
    assert!((model.predict(&[1.0, 0.0]) - 4.0).abs() < 0.2);
}

#[test]
fn a_change_is_noticed_soon_and_noise_is_not_a_change() {
    let mut c = Cusum::new(0.5, 10.0);
    let mut s = 3;
    let mut normal = || (0..12).map(|_| unit(&mut s)).sum::<f64>() - 6.0;
    let alarms = (0..5_000).filter(|_| c.observe(normal())).count();
    assert_eq!(alarms, 0);
    let after = (1..100).find(|_| c.observe(normal() - 2.0));
    assert!(after.is_some_and(|n| n < 20), "{after:?}");
    assert!(
        !c.observe(f64::NAN) && !c.observe(1e9),
        "one outlier is no change"
    );
}

#[test]
fn after_200_observations_the_error_is_the_noises() {
    let mut p = predictor();
    let mut s = 11;
    let mut off = Vec::new();
    for i in 0..1_200 {
        let (x, took) = iteration(&mut s, 1.0);
        let seen = p.observe(&x, took);
        assert!(!seen.drift, "{i}");
        if i >= 200 {
            off.push((took - seen.expected.mean).abs() / took);
        }
    }
    let mape = off.iter().sum::<f64>() / 1_000.0;
    assert!(mape < 0.06, "{mape}");
}

#[test]
fn a_drift_is_followed_within_50_observations_and_reported_once() {
    let mut p = predictor();
    let mut s = 5;
    for _ in 0..1_000 {
        let (x, took) = iteration(&mut s, 1.0);
        p.observe(&x, took);
    }
    let (mut noticed, mut off) = (Vec::new(), 0.0);
    for i in 0..100 {
        let (x, took) = iteration(&mut s, 2.0);
        let seen = p.observe(&x, took);
        if seen.drift {
            noticed.push(i);
        }
        if i >= 50 {
            off += (took - seen.expected.mean).abs() / took / 50.0;
        }
    }
    assert!(noticed.len() == 1 && noticed[0] < 20, "{noticed:?}");
    assert!(off < 0.10, "{off}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// 95% intervals hold 93 to 97% of the outcomes, a change in the middle included.
    #[test]
    fn intervals_hold_as_often_as_they_say(seed in any::<u64>(), factor in 0.5f64..2.5) {
        let mut p = predictor();
        let mut s = seed;
        let (mut held, mut given) = (0.0, 0.0);
        for i in 0..3_000 {
            let (x, took) = iteration(&mut s, if i < 1_500 { 1.0 } else { factor });
            if let Some((low, high)) = p.observe(&x, took).expected.interval {
                given += 1.0;
                held += if (low..=high).contains(&took) { 1.0 } else { 0.0 };
            }
        }
        let coverage = held / given;
        prop_assert!(given > 2_900.0);
        prop_assert!((0.93..0.97).contains(&coverage), "{coverage}");
    }
}
