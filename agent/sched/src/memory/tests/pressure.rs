use super::super::{Level, Pressure, Sample};

fn at(now_ms: u64, used: u64) -> Sample {
    Sample {
        now_ms,
        used,
        total: 10_000,
        ..Sample::default()
    }
}

/// The levels told for `(time, used)` samples.
fn told(samples: &[(u64, u64)]) -> Vec<(u64, Level)> {
    let mut pressure = Pressure::new(1, 1_000);
    let mut told = Vec::new();
    for (now, used) in samples {
        if let Some(change) = pressure.observe(at(*now, *used)) {
            assert_eq!(change.to, pressure.level());
            told.push((*now, change.to));
        }
    }
    told
}

#[test]
fn a_level_is_entered_at_its_bound_at_once() {
    let slow = [
        (0, 7_999),
        (1 << 30, 8_000),
        (1 << 40, 9_000),
        (1 << 50, 9_700),
    ];
    let want = [
        (1 << 30, Level::Elevated),
        (1 << 40, Level::High),
        (1 << 50, Level::Critical),
    ];
    assert_eq!(told(&slow), want);
}

#[test]
fn a_level_is_left_only_below_its_margin_and_after_it_held() {
    let day = 86_400_000;
    let near: Vec<_> = (0..50).map(|i| (i * day, 8_000 - (i % 2) * 200)).collect();
    assert_eq!(
        told(&near),
        [(0, Level::Elevated)],
        "no flapping at the bound"
    );
    let falls = [(0, 9_100), (100, 7_000), (1_099, 7_000), (1_100, 7_000)];
    assert_eq!(told(&falls), [(0, Level::High), (1_100, Level::Normal)]);
    let again = [
        (0, 9_100),
        (100, 7_000),
        (600, 9_100),
        (1_200, 7_000),
        (2_199, 7_000),
    ];
    assert_eq!(told(&again)[0], (0, Level::High));
    assert!(
        !told(&again).iter().any(|(_, l)| *l < Level::High),
        "it did not hold"
    );
}

#[test]
fn a_device_that_will_be_full_soon_is_one_level_higher() {
    let mut pressure = Pressure::new(1_000, 1_000);
    assert_eq!(pressure.observe(at(0, 7_000)), None);
    assert_eq!(pressure.full_in_ms(), None);
    let change = pressure
        .observe(at(10_000, 8_100))
        .expect("it is elevated and fills up");
    assert_eq!(change.to, Level::High);
    assert!(
        (change.growth_per_s - 110.0).abs() < 1.0,
        "{}",
        change.growth_per_s
    );
    let full = change.full_in_ms.expect("it grows");
    assert!((17_000.0..18_000.0).contains(&full), "{full}");
}

#[test]
fn old_failures_fade() {
    let mut pressure = Pressure::new(1_000, 1_000);
    let failing = Sample {
        requests: 10,
        failed: 10,
        ..at(0, 100)
    };
    assert_eq!(pressure.observe(failing).map(|c| c.to), Some(Level::High));
    let mut now = 0;
    while pressure.level() != Level::Normal {
        now += 1_000;
        let fine = Sample {
            requests: 10,
            ..at(now, 100)
        };
        pressure.observe(fine);
        assert!(now < 20_000, "{}", pressure.failure_rate());
    }
    assert!(pressure.failure_rate() < 0.05);
    assert_eq!(
        pressure.observe(at(0, 9_999)),
        None,
        "a sample from the past"
    );
}
