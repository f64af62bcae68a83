use super::*;
use proptest::prelude::*;

const KV: u64 = 100_000;
const COST: Cost = Cost {
    fixed_us: 28_000,
    token_ns: 60_000,
    sequence_ns: 50_000,
};
const ROOM: Room = Room {
    sequences: 64,
    tokens: 8_192,
    kv_tokens: KV,
};
const WAIT: u64 = 50_000;

fn request(id: u64, arrival_us: u64, prompt: u32) -> Request {
    Request {
        id,
        arrival_us,
        prompt,
        expected_output: 10,
        deadline_us: Some(arrival_us + 1_000_000 + 500 * u64::from(prompt)),
        prefix: Vec::new(),
    }
}

fn batcher(former: &Former) -> Batcher {
    Batcher::new(former.clone(), Limits { kv_tokens: KV })
}

fn ids(batch: Option<Batch>) -> Vec<u64> {
    batch.map_or_else(Vec::new, |b| b.parts.iter().map(|p| p.id).collect())
}

fn budget(order: Order, chunked: bool) -> Former {
    Former::TokenBudget { order, chunked }
}

fn formers() -> Vec<Former> {
    let max_wait_us = WAIT;
    let (size, window) = (8, 64);
    let bound_us = WAIT;
    let token_ns = 84_000;
    vec![
        Former::Fixed { size, max_wait_us },
        Former::DelayWindow {
            preferred: vec![4, 8, 16],
            max_wait_us,
        },
        Former::Bucketed {
            window,
            size,
            efficiency_permille: 950,
            max_wait_us,
        },
        Former::Slack {
            cost: COST,
            size,
            margin_us: 5_000,
            max_wait_us,
        },
        Former::PrefixAffinity {
            window,
            size,
            block: 512,
            max_wait_us,
        },
        budget(Order::Fcfs, true),
        budget(Order::Fcfs, false),
        budget(Order::Edf { token_ns }, true),
        budget(Order::Shortest { bound_us }, true),
        budget(Order::Shortest { bound_us }, false),
        budget(Order::OnTime { bound_us, token_ns }, true),
    ]
}

#[test]
fn a_fixed_batch_waits_for_its_size_or_for_the_oldest_ones_patience() {
    let former = Former::Fixed {
        size: 3,
        max_wait_us: WAIT,
    };
    let mut b = batcher(&former);
    for id in 0..2 {
        b.push(request(id, 1_000 * id, 100)).expect("fits");
    }
    assert_eq!(b.form(2_000, ROOM), None);
    assert_eq!(b.due_us(), Some(WAIT));
    assert_eq!(ids(b.form(WAIT, ROOM)), [0, 1]);
    for id in 2..6 {
        b.push(request(id, WAIT + id, 100)).expect("fits");
    }
    assert_eq!(ids(b.form(WAIT + 6, ROOM)), [2, 3, 4]);
    assert_eq!(b.len(), 1);
}

#[test]
fn a_delay_window_takes_the_largest_preferred_size_at_once() {
    let former = Former::DelayWindow {
        preferred: vec![2, 4],
        max_wait_us: WAIT,
    };
    let mut b = batcher(&former);
    for id in 0..5 {
        b.push(request(id, id, 100)).expect("fits");
    }
    assert_eq!(ids(b.form(5, ROOM)), [0, 1, 2, 3]);
    assert_eq!(b.form(5, ROOM), None);
    assert_eq!(ids(b.form(4 + WAIT, ROOM)), [4]);
}

#[test]
fn a_bucket_holds_like_lengths_and_keeps_its_efficiency() {
    let former = Former::Bucketed {
        window: 16,
        size: 3,
        efficiency_permille: 950,
        max_wait_us: WAIT,
    };
    let mut b = batcher(&former);
    for (id, prompt) in [(0, 1_000), (1, 100), (2, 102), (3, 98), (4, 980)] {
        b.push(request(id, id, prompt)).expect("fits");
    }
    let batch = b.form(5, ROOM).expect("enough wait");
    assert_eq!(batch.report.real_tokens, 300);
    assert_eq!(batch.report.padded_tokens, 306);
    // The oldest is overdue: it and what is like it.
    assert_eq!(ids(b.form(WAIT, ROOM)), [4, 0]);
}

#[test]
fn a_slack_batch_closes_just_in_time_for_its_tightest_deadline() {
    let former = Former::Slack {
        cost: COST,
        size: 8,
        margin_us: 1_000,
        max_wait_us: 10_000_000,
    };
    let mut b = batcher(&former);
    let mut tight = request(1, 0, 100);
    tight.deadline_us = Some(200_000);
    b.push(request(0, 0, 100)).expect("fits");
    b.push(tight).expect("fits");
    // Two of 100 tokens take 28 + 12 ms.
    assert_eq!(b.due_us(), Some(200_000 - 40_000 - 1_000));
    assert_eq!(b.form(158_999, ROOM), None);
    assert_eq!(ids(b.form(159_000, ROOM)), [1, 0]);
}

#[test]
fn what_begins_alike_is_computed_once() {
    let former = Former::PrefixAffinity {
        window: 16,
        size: 2,
        block: 512,
        max_wait_us: WAIT,
    };
    let mut b = batcher(&former);
    for (id, prefix) in [
        (0, vec![1, 2]),
        (1, vec![7, 8, 9]),
        (2, vec![7, 8, 5]),
        (3, vec![]),
    ] {
        let mut r = request(id, id, 2_000);
        r.prefix = prefix;
        b.push(r).expect("fits");
    }
    let batch = b.form(4, ROOM).expect("two are alike");
    assert_eq!(batch.report.shared_tokens, 1_024);
    assert_eq!(batch.report.real_tokens, 4_000 - 1_024);
    assert_eq!(ids(Some(batch)), [1, 2]);
}

#[test]
fn a_budget_is_filled_with_chunks_to_the_last_token() {
    let mut b = batcher(&budget(Order::Fcfs, true));
    for id in 0..3 {
        b.push(request(id, id, 5_000)).expect("fits");
    }
    let first = b.form(3, ROOM).expect("work waits");
    assert_eq!(first.parts[1].tokens, 3_192);
    assert!(!first.parts[1].last);
    let second = b.form(3, ROOM).expect("work waits");
    assert_eq!(second.parts[0].from, 3_192);
    assert_eq!(second.report.started, 1);
    assert_eq!(second.report.real_tokens, 6_808);
}

#[test]
fn whole_prompts_fill_a_budget_from_those_behind() {
    let mut b = batcher(&budget(Order::Fcfs, false));
    for (id, prompt) in [(0, 5_000), (1, 4_000), (2, 1_000), (3, 3_192), (4, 20_000)] {
        b.push(request(id, id, prompt)).expect("fits");
    }
    assert_eq!(ids(b.form(9, ROOM)), [0, 3]);
    // One that is longer than any budget takes what is left, is cut, and goes on first.
    assert_eq!(ids(b.form(9, ROOM)), [1, 2, 4]);
    let cut = b.form(9, ROOM).expect("work waits");
    assert_eq!((cut.parts[0].from, cut.parts[0].tokens), (3_192, 8_192));
    assert!(!cut.parts[0].last);
    b.push(request(5, 5, 10)).expect("fits");
    assert_eq!(ids(b.form(9, ROOM)), [4]);
    assert_eq!(ids(b.form(9, ROOM)), [4, 5]);
}

#[test]
fn late_requests_go_behind_those_that_can_be_on_time_until_their_bound_presses() {
    let order = Order::OnTime {
        bound_us: 30_000_000,
        token_ns: 84_000,
    };
    let mut b = batcher(&budget(order, true));
    b.push(request(0, 0, 4_000)).expect("fits");
    b.push(request(1, 9_000_000, 4_000)).expect("fits");
    b.push(request(2, 9_000_000, 1_000)).expect("fits");
    let small = Room { tokens: 10, ..ROOM };
    // At 9 s the first is late: shorter and still on time goes first.
    assert_eq!(ids(b.clone().form(9_000_000, small)), [2]);
    // It needs 0.34 s: at 29.7 s there is no more time to lose.
    b.push(request(3, 29_700_000, 10)).expect("fits");
    assert_eq!(ids(b.clone().form(29_650_000, small)), [3]);
    assert_eq!(ids(b.form(29_700_000, small)), [0]);
}

#[test]
fn the_largest_late_request_is_put_off_for_the_others_but_not_for_ever() {
    let order = Order::OnTime {
        bound_us: 30_000_000,
        token_ns: 84_000,
    };
    let mut b = batcher(&budget(order, true));
    // 125 arrivals allow one to be put off; all but three are gone when it gets tight.
    for id in 0..125 {
        b.push(request(id, 0, 10)).expect("fits");
    }
    while b.form(0, ROOM).is_some() {}
    for (id, prompt) in [(200, 3_000), (201, 30_000), (202, 3_000)] {
        b.push(request(id, 1, prompt)).expect("fits");
    }
    let small = Room { tokens: 10, ..ROOM };
    // Together they need 3.0 s, which is 0.5 s more than is left; without the largest 0.5 s.
    b.push(request(203, 27_500_001, 10)).expect("fits");
    assert_eq!(ids(b.form(27_500_001, small)), [203]);
    assert_eq!(ids(b.form(27_500_001, small)), [200]);
    // The largest waits for them, and for what comes, but ten bounds at most.
    b.push(request(204, 29_000_000, 500)).expect("fits");
    let order: Vec<u64> = ids(b.clone().form(29_000_000, ROOM));
    assert_eq!(order, [204, 200, 202, 201]);
    b.push(request(205, 300_000_001, 10)).expect("fits");
    assert_eq!(ids(b.form(300_000_001, small)), [200]);
    // By then everybody is overdue, and arrival decides again: the largest before its younger.
    let later = Room {
        tokens: 7_000,
        ..ROOM
    };
    assert_eq!(ids(b.form(300_000_001, later)), [200, 201]);
}

#[test]
fn what_cannot_wait_here_is_refused_with_its_reason() {
    let mut b = batcher(&budget(Order::Fcfs, true));
    assert_eq!(b.push(request(1, 0, 0)), Err(PushError::Empty(1)));
    let huge = u32::try_from(KV).expect("small");
    let refused = b.push(request(2, 0, huge)).expect_err("is too large");
    assert!(
        refused
            .to_string()
            .contains("100010 tokens of KV cache, which has 100000")
    );
    b.push(request(3, 0, 5)).expect("fits");
    assert_eq!(b.push(request(3, 1, 5)), Err(PushError::Twice(3)));
    assert!(b.cancel(3) && !b.cancel(3) && b.is_empty());
    for id in 0..MAX_WAITING as u64 {
        b.push(request(id, 0, 1)).expect("fits");
    }
    assert_eq!(b.push(request(u64::MAX, 0, 1)), Err(PushError::Full));
}

#[test]
fn streams_that_are_ahead_lend_time_to_prompts() {
    let pace = Chunk::Paced {
        target_us: 100_000,
        late_us: 150_000,
    };
    let new = |late| Decoding {
        first_us: 1_000_000,
        tokens: 0,
        late,
    };
    // (98.5 - 28 - 0.05) / 0.06
    assert_eq!(pace.tokens(&COST, 1_000_000, &[new(false)]), 1_174);
    assert_eq!(pace.tokens(&COST, 1_000_000, &[]), MAX_CHUNK);
    assert!(pace.tokens(&COST, 1_000_000, &[new(true)]) > 1_900);
    let ahead = Decoding {
        tokens: 9,
        ..new(false)
    };
    assert!(pace.tokens(&COST, 1_300_000, &[ahead]) > MAX_CHUNK - 1);
    assert_eq!(pace.tokens(&COST, 2_000_000, &[ahead]), 0);
    let limit = Chunk::Iteration { limit_us: 97_000 };
    assert_eq!(limit.tokens(&COST, 0, &[new(false)]), 1_149);
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let one = (
        0u64..40_000,
        1u32..12_000,
        0u32..300,
        prop::option::of(0u64..3_000_000),
        prop::collection::vec(0u64..3, 0..4),
    );
    prop::collection::vec(one, 1..60).prop_map(|all| {
        let mut now = 0;
        (0u64..)
            .zip(all)
            .map(|(id, (gap, prompt, expected_output, slack, prefix))| {
                now += gap;
                Request {
                    id,
                    arrival_us: now,
                    prompt,
                    expected_output,
                    deadline_us: slack.map(|s| now + s),
                    prefix,
                }
            })
            .collect()
    })
}

/// What a batch must never exceed, and what it must say.
fn holds(former: &Former, batch: &Batch, room: Room) -> Result<(), TestCaseError> {
    let r = &batch.report;
    prop_assert!(
        r.padded_tokens <= u64::from(room.tokens),
        "{former:?} {batch:?}"
    );
    prop_assert!(r.real_tokens <= r.padded_tokens);
    prop_assert!(r.started <= room.sequences && r.kv_tokens <= room.kv_tokens);
    prop_assert!(!batch.parts.is_empty() && batch.parts.iter().all(|p| p.tokens > 0));
    let handed: u64 = batch.parts.iter().map(|p| u64::from(p.tokens)).sum();
    prop_assert_eq!(handed, r.real_tokens + r.shared_tokens);
    if let Former::Bucketed {
        efficiency_permille,
        ..
    } = former
    {
        prop_assert!(r.real_tokens * 1000 >= r.padded_tokens * u64::from(*efficiency_permille));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every prompt is handed out exactly once, from its first token to its last, within every room.
    #[test]
    fn no_request_is_lost_or_handed_out_twice_and_no_room_is_exceeded(
        requests in requests(), which in 0usize..11, rooms in prop::collection::vec((0u32..6, 0u32..9_000, 0u64..30_000), 60),
    ) {
        let former = &formers()[which];
        let mut b = batcher(former);
        let mut seen: Vec<(u32, bool)> = vec![(0, false); requests.len()];
        let mut take = |batch: Option<Batch>, room: Room| -> Result<bool, TestCaseError> {
            let Some(batch) = batch else { return Ok(false) };
            holds(former, &batch, room)?;
            for p in &batch.parts {
                let s = &mut seen[usize::try_from(p.id).expect("few")];
                prop_assert!(!s.1 && s.0 == p.from, "{p:?} after {s:?}");
                *s = (p.from + p.tokens, p.last);
            }
            Ok(true)
        };
        for (r, (sequences, tokens, kv_tokens)) in requests.iter().zip(rooms) {
            b.push(r.clone()).expect("fits");
            let room = Room { sequences, tokens, kv_tokens };
            take(b.form(r.arrival_us, room), room)?;
        }
        let mut now = requests.last().map_or(0, |r| r.arrival_us);
        for _ in 0..100_000 {
            if b.is_empty() { break; }
            // Formed when due, with all the room there is.
            now = now.max(b.due_us().expect("some wait"));
            prop_assert!(take(b.form(now, ROOM), ROOM)?, "{former:?} stuck at {now}: {}", b.len());
        }
        prop_assert!(b.is_empty());
        for (s, r) in seen.iter().zip(&requests) {
            prop_assert_eq!(*s, (r.prompt, true));
        }
    }

    /// Whoever waited as long as the former allows is in the next batch, before any younger one.
    #[test]
    fn nobody_waits_longer_than_the_bound_while_younger_ones_are_served(
        requests in requests(), which in 0usize..11,
    ) {
        let former = &formers()[which];
        // Earliest deadline first promises deadlines, not waits.
        if matches!(former, Former::TokenBudget { order: Order::Edf { .. }, .. }) { return Ok(()); }
        let mut b = batcher(former);
        for r in &requests {
            b.push(r.clone()).expect("fits");
        }
        // The shadow of first come, first served may have lifted the bound: 60 prompts take at most that.
        let lifted: u64 = requests.iter().map(|r| u64::from(r.prompt) * 84 + 1).sum();
        let now = requests.last().map_or(0, |r| r.arrival_us) + WAIT + lifted;
        let batch = b.form(now, ROOM).expect("overdue requests wait");
        prop_assert!(batch.parts.iter().any(|p| p.id == 0), "{former:?} {batch:?}");
    }

    /// Before it is due no batch leaves a former that waits; then one does.
    #[test]
    fn a_former_says_when_it_will_form(requests in requests(), which in 0usize..5) {
        let former = &formers()[which];
        let mut b = batcher(former);
        for r in &requests {
            b.push(r.clone()).expect("fits");
        }
        let due = b.due_us().expect("some wait");
        if due > 0 {
            prop_assert!(b.clone().form(due - 1, ROOM).is_none(), "{former:?}");
        }
        prop_assert!(b.form(due, ROOM).is_some(), "{former:?}");
    }
}
