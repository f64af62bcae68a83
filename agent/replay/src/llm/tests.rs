use super::*;
use gpuloom_sched::batch::Room;

/// Bursts of prompts between long silences, with lengths as real ones vary; no chance.
fn burst(count: u32) -> Vec<Row> {
    let mut state = 7u64;
    let mut next = |n: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut now = 0;
    (0..count)
        .map(|i| {
            now += if i % 100 == 0 {
                4_000_000
            } else {
                next(120_000)
            };
            let long = next(8) == 0;
            Row {
                arrival_us: now,
                prompt: u32::try_from(20 + next(if long { 7_000 } else { 1_500 })).expect("small"),
                output: u32::try_from(1 + next(60)).expect("small"),
                prefix: vec![next(4), next(3), i.into()],
            }
        })
        .collect()
}

fn at(former: &str, order: &str) -> Setup {
    Setup::named(former, order, 1.0).expect("is known")
}

#[test]
fn a_lone_request_takes_what_the_model_says() {
    let rows = [Row {
        arrival_us: 5,
        prompt: 1_000,
        output: 3,
        prefix: Vec::new(),
    }];
    let o = run(&rows, &at("token-budget", "fcfs"));
    // 28 + 60 ms, then two iterations of 28.05 ms.
    assert!((o.ttft_p50_s - 0.088).abs() < 1e-9, "{o:?}");
    assert!((o.tpot_p50_ms - 28.05).abs() < 1e-9);
    assert!((o.makespan_s - 0.1441).abs() < 1e-9);
    assert!((o.slo_attainment_pct - 100.0).abs() < 1e-9);
}

#[test]
fn every_former_and_order_serves_every_request() {
    let rows = burst(300);
    for former in FORMERS {
        for order in ORDERS {
            if former != "token-budget" && order != "fcfs" {
                continue;
            }
            let o = run(&rows, &at(former, order));
            assert_eq!((o.requests, o.refused), (300, 0), "{former} {order}");
            assert!(o.ttft_max_s > 0.0 && o.makespan_s > 0.0);
            assert!(o.kv_peak <= 1.0 && o.token_efficiency <= 1.0);
            assert_eq!(o, run(&rows, &at(former, order)), "the same again");
        }
    }
}

#[test]
fn on_time_order_meets_more_than_first_come_and_keeps_its_bound() {
    let rows = burst(1_500);
    let fcfs = run(&rows, &at("token-budget", "fcfs"));
    let ours = run(&rows, &at("token-budget", "on-time"));
    let padded = run(&rows, &at("fixed", "fcfs"));
    assert!(
        ours.slo_attainment_pct > fcfs.slo_attainment_pct + 50.0,
        "{ours:?} {fcfs:?}"
    );
    assert!(
        padded.slo_attainment_pct < fcfs.slo_attainment_pct,
        "{padded:?}"
    );
    assert!(padded.token_efficiency < 0.5);
    // A bound is kept by 99 of 100 where first come, first served would keep it, and still many more
    // are on time.
    let mut bounded = at("token-budget", "on-time");
    let order = Order::OnTime {
        bound_us: 4_500_000,
        token_ns: TOKEN_NS,
    };
    bounded.former = Former::TokenBudget {
        order,
        chunked: true,
    };
    let bounded = run(&rows, &bounded);
    let longest = fcfs.ttft_max_s;
    assert!(bounded.ttft_p99_s <= longest, "{bounded:?} {fcfs:?}");
    assert!(
        bounded.slo_attainment_pct > fcfs.slo_attainment_pct + 20.0,
        "{bounded:?}"
    );
}

#[test]
fn outputs_that_outgrow_the_cache_give_it_back_and_end_all_the_same() {
    let rows: Vec<Row> = (0..40)
        .map(|i| Row {
            arrival_us: i * 1_000,
            prompt: 8_000,
            output: 1_500,
            prefix: Vec::new(),
        })
        .collect();
    let o = run(&rows, &at("token-budget", "fcfs"));
    assert!(o.evictions > 0 && o.kv_peak <= 1.0, "{o:?}");
    assert_eq!(o.refused, 0);
    let mut large = rows;
    large[3].prompt = 299_000;
    assert_eq!(run(&large, &at("token-budget", "fcfs")).refused, 1);
}

#[test]
fn unknown_names_and_loads_are_refused_with_what_there_is() {
    let wrong = Setup::named("best", "fcfs", 1.0).expect_err("is refused");
    assert!(wrong.to_string().contains("prefix-affinity"));
    let wrong = Setup::named("fixed", "best", 1.0).expect_err("is refused");
    assert!(wrong.to_string().contains("on-time"));
    for load in [0.0, -1.0, f64::NAN, 1e9] {
        assert!(Setup::new(load).is_err());
    }
}

#[test]
fn a_backlog_packs_densely_by_budget_and_by_length() {
    let rows = burst(600);
    let room = Room {
        sequences: 256,
        tokens: 8_192,
        kv_tokens: u64::MAX,
    };
    let budget = Former::TokenBudget {
        order: Order::Fcfs,
        chunked: false,
    };
    let packed = pack(&rows, &budget, room, 64);
    assert!(packed.fill > 0.98 && packed.efficiency == 1.0, "{packed:?}");
    let bucketed = Former::Bucketed {
        window: 256,
        size: 8,
        efficiency_permille: 950,
        max_wait_us: 10_000_000,
    };
    let wide = Room {
        tokens: u32::MAX,
        ..room
    };
    let packed = pack(&rows, &bucketed, wide, 256);
    assert!(
        packed.efficiency >= 0.95 && packed.mean_size > 3.0,
        "{packed:?}"
    );
    let plain = Former::Fixed {
        size: 8,
        max_wait_us: 10_000_000,
    };
    assert!(pack(&rows, &plain, wide, 256).efficiency < 0.6);
}

#[test]
fn iterations_are_what_the_model_says() {
    let all = iterations(&burst(50), &at("token-budget", "fcfs"));
    assert!(all.len() > 50);
    for i in all {
        assert_eq!(i.time_us, COST.time_us(i.tokens, i.sequences));
    }
}
