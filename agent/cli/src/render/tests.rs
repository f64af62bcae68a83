use super::sample::{self, *};
use super::*;
use crate::output::Style;
use serde_json::Value;

/// Compares as a whole, and shows both when they differ.
fn same(found: &str, expected: &str) {
    let expected = expected.strip_prefix('\n').unwrap_or(expected);
    assert!(found == expected, "found:\n{found}\nexpected:\n{expected}");
}

#[test]
fn jobs_tell_where_they_run_or_why_they_wait() {
    same(
        &jobs::list(&sample::jobs(), true, STYLE),
        "
JOB  NAME         TENANT    STATE    GPUS  SINCE    WHERE / WHY
 17  train        research  pending     4  3m ago   needs 4 free GPUs on one node, the most free is 2
 12  serve-llama  serving   active    0.5  2h ago   t4-0a1b2c3d
9.3  serve-llama  serving   failed    0.5  25h ago  used more memory than it holds
... and more: raise --limit, or narrow it with --state, --tenant or --label
",
    );
    assert_eq!(jobs::list(&[], false, STYLE), "no jobs\n");
}

#[test]
fn the_queue_is_told_in_the_order_it_starts() {
    same(
        &jobs::queue(&[waiting()], 1, 1, STYLE),
        "
PLACE  JOB  NAME   TENANT    PRIORITY  GPUS  WAITING  WHY
    1   17  train  research         0     4       3m  needs 4 free GPUs on one node, the most free is 2
1 pending, 1 active
",
    );
}

#[test]
fn why_says_what_a_pending_job_waits_for() {
    same(
        &jobs::why(&waiting(), STYLE),
        "
job 17 (train): pending, since 3m ago
  needs 4 free GPUs on one node, the most free is 2
  starts when job 12 ends, or when pool t4 grows
  place 1 in the queue
  tenant     research
  priority   normal (0)
  submitted  3m ago
  gpus       4
  command    python train.py
",
    );
}

#[test]
fn why_says_how_an_ended_job_ended() {
    same(
        &jobs::why(&ended(), STYLE),
        "
job 9.3 (serve-llama): failed, since 25h ago
  used more memory than it holds
  tenant     serving
  priority   normal (1000)
  submitted  25h ago
  gpus       0.5
  failures   1, of 0 allowed
  command    python train.py
ATTEMPT  NODE         STATE  STARTED  RAN  END
      1  t4-0a1b2c3d  ended  25h ago  1m   signal 9: used 9GiB of memory on GPU-1, above its limit of 8GiB
         GPU-1 (0.5, 8GiB)
",
    );
}

#[test]
fn a_node_tells_its_gpus_and_why_it_is_not_ready() {
    same(
        &devices::nodes(&nodes(), STYLE),
        "
NODE         POOL  STATE    GPUS    HELD  BACKEND    SEEN     REASON
t4-0a1b2c3d  t4    ready    2 x T4   0.5  simulated  now      -
t4-ffffffff  t4    suspect  -          0  simulated  12s ago  silent for 12s
",
    );
}

#[test]
fn a_gpu_that_was_not_read_shows_dashes_and_no_zeros() {
    same(
        &devices::devices(&nodes(), STYLE),
        "
NODE         #  MODEL  HEALTH   HELD  UTIL        MEMORY  TEMP  POWER  JOBS  DEVICE
t4-0a1b2c3d  0  T4     healthy     0     -       -/16GiB     -      -  -     GPU-0
t4-0a1b2c3d  1  T4     healthy   0.5   63%  9.5GiB/16GiB   61C    55W  12    GPU-1
",
    );
    let readings = nodes()[0].devices[1].reading.clone();
    let reply = gpuloom_api::proto::GetHistoryReply {
        readings: readings.into_iter().collect(),
        capacity: 100,
    };
    same(
        &devices::history(&reply, STYLE),
        "
AT                        UTIL        MEMORY  TEMP  POWER    CLOCK  ECC
2026-11-18T11:06:39.500Z   63%  9.5GiB/16GiB   61C    55W  1590MHz    -
",
    );
}

#[test]
fn usage_is_told_beside_what_is_guaranteed_and_allowed() {
    same(
        &usage::usage(&sample::usage(), STYLE),
        "
TENANT    POOL  GPUS  GUARANTEED  SOFT  LIMIT  MEMORY  MEMORY LIMIT  ACTIVE  PENDING
research  all      4           2     -      4   64GiB        128GiB       2        1
serving   t4     0.5           -     -      -      0B             -       0        0
",
    );
}

#[test]
fn pools_and_objects_are_told_in_rows() {
    same(
        &objects::pools(&[pool()], STYLE),
        "
POOL  GPUS PER NODE  READY  BOUNDS   PHASE     JOBS  SHORTFALL
t4    2 x T4         1/2    1 to 10  degraded     1  node t4-ffffffff is silent
",
    );
    same(
        &objects::objects(&[pool()], STYLE),
        "
KIND  NAME  GENERATION  OWNER      DECLARED
pool  t4             3  terraform  1h ago
",
    );
    let view = pool().pool.expect("a pool has a view");
    assert_eq!(
        objects::progress("t4", &view),
        "t4: 1/2 nodes ready, 1 starting (node t4-ffffffff is silent)"
    );
}

#[test]
fn top_shows_the_fleet_at_a_glance_and_says_when_it_is_simulated() {
    same(
        &top::frame(&sample::top(), STYLE, None),
        "
fleet ml  nodes 2  jobs 1 active, 1 pending  simulated GPUs
GPUs 0.5/2 held  load 32%  memory 8GiB/32GiB held, 9.5GiB used  hottest 61C  power -

NODE         #  MODEL  HEALTH   HELD  UTIL        MEMORY  TEMP  POWER  JOBS  DEVICE
t4-0a1b2c3d  0  T4     healthy     0     -       -/16GiB     -      -  -     GPU-0
t4-0a1b2c3d  1  T4     healthy   0.5   63%  9.5GiB/16GiB   61C    55W  12    GPU-1
t4-ffffffff  -  -      suspect

TENANT    POOL  GPUS  GUARANTEED  SOFT  LIMIT  MEMORY  MEMORY LIMIT  ACTIVE  PENDING
research  all      4           2     -      4   64GiB        128GiB       2        1
serving   t4     0.5           -     -      -      0B             -       0        0
",
    );
}

#[test]
fn a_live_picture_fits_its_screen() {
    same(
        &top::frame(&sample::top(), STYLE, Some((24, 5))),
        "
fleet ml  nodes 2  jobs 
GPUs 0.5/2 held  load 32

NODE         #  MODEL  H
... 7 more lines",
    );
    let coloured = Style {
        colour: true,
        ..STYLE
    };
    for line in top::frame(&sample::top(), coloured, Some((20, 40))).lines() {
        let bare: String = strip(line);
        assert!(bare.chars().count() <= 20, "{bare:?}");
        assert!(line == bare || line.ends_with("\x1b[0m"), "{line:?}");
    }
    assert_eq!(top::frame(&sample::top(), STYLE, Some((10, 0))), "");
}

fn strip(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once('m').map_or("", |(_, rest)| rest)
    })
}

#[test]
fn events_are_sentences_and_those_of_a_newer_fleet_are_shown_as_they_are() {
    let event = |json: &str| gpuloom_api::proto::Event {
        seq: 17,
        at_ms: NOW,
        json: json.to_owned(),
    };
    let known = gpuloom_fleet::Event {
        seq: 17,
        at: gpuloom_fleet::Millis(NOW),
        what: gpuloom_fleet::EventKind::Ended {
            attempt: "12#1".parse().expect("an id"),
            exit: Some(gpuloom_fleet::Exit::Signal(9)),
            end: gpuloom_fleet::EndCause::Stopped {
                why: gpuloom_fleet::StopCause::Walltime,
            },
        },
    };
    let json = serde_json::to_string(&known).expect("serializes");
    assert_eq!(
        events::line(&event(&json)),
        "    17  2026-11-18T11:06:40.000Z  attempt 12#1 stopped by signal 9: its walltime was over\n"
    );
    let newer = r#"{"event":"teleported"}"#;
    assert!(events::line(&event(newer)).ends_with("  {\"event\":\"teleported\"}\n"));
}

/// Every key with the kind of its value, in order.
fn shape(value: &Value) -> String {
    let Value::Object(map) = value else {
        return String::new();
    };
    let keys = map.iter().map(|(key, value)| match value {
        Value::Null => format!("{key}=null"),
        Value::Object(_) | Value::Array(_) => format!("{key}.."),
        other => format!("{key}={other}"),
    });
    keys.collect::<Vec<_>>().join(" ")
}

#[test]
fn json_names_its_units_and_keeps_unknown_apart_from_zero() {
    let job = json::job(&running());
    assert_eq!(
        shape(&job),
        "attempts.. failures=0 id=\"12\" memory_used_bytes=9663676416 position=null preemptions=0 \
         priority=1000 spec.. state=\"active\" state_since_ms=1794992800000 \
         submitted_at_ms=1794992700000 why.."
    );
    assert_eq!(
        shape(&job["attempts"][0]),
        "ended_at_ms=null exit_code=null granted_at_ms=1794992799000 grants.. \
         node=\"t4-0a1b2c3d\" number=1 reason=\"\" signal=null started_at_ms=1794992800000 \
         state=\"running\""
    );
    assert_eq!(
        shape(&json::usage(&sample::usage()[1])),
        "active=0 gpu_memory_bytes=0 gpus_milli=500 guaranteed.. limit.. pending=0 pool=\"t4\" \
         soft_limit.. tenant=\"serving\""
    );
    let unread = &json::node(&nodes()[0])["devices"][0];
    assert_eq!(unread["reading"], Value::Null);
    assert_eq!(unread["memory_bytes"], 16u64 << 30);
    assert_eq!(
        shape(&json::object(&pool())["spec"]),
        "gpu_model=\"T4\" gpus_per_node=2 initial_size=null labels.. max=10 max_unavailable=1 \
         max_wait_s=600 min=1 on_demand_base=0 on_destroy=\"drain\" on_shortfall=\"degrade\" \
         place=\"local\" spot_ratio_milli=0"
    );
    assert_eq!(json::top(&sample::top())["power_total_mw"], Value::Null);
}
