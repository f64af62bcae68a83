//! Jobs from submission to their end.

use super::*;
use gpuloom_fleet::{Dependency, DependencyCondition, LimitRangeSpec, StopCause};

fn exit(code: i32) -> (Option<Exit>, EndCause) {
    (Some(Exit::Code(code)), EndCause::Exited)
}

fn gpus(of: &str, milli: u64) -> JobSpec {
    let mut s = spec(of);
    s.request.gpus = Some(MilliGpu(milli));
    s
}

#[test]
fn what_becomes_of_a_job_when_its_attempt_ends() {
    let stopped = |why| EndCause::Stopped { why };
    let lost = EndCause::Lost {
        message: "gone".to_owned(),
    };
    let failed = EndCause::LaunchFailed {
        message: "no such program".to_owned(),
    };
    for (retries, exit, cause, word, failures) in [
        (0, Some(Exit::Code(0)), EndCause::Exited, "succeeded", 0),
        (0, Some(Exit::Code(3)), EndCause::Exited, "failed", 1),
        (1, Some(Exit::Code(3)), EndCause::Exited, "pending", 1),
        (0, Some(Exit::Signal(9)), EndCause::Exited, "failed", 1),
        (0, None, lost.clone(), "failed", 1),
        (2, None, lost, "pending", 1),
        (0, None, failed, "failed", 1),
        (0, None, stopped(StopCause::Walltime), "timed_out", 0),
        (0, None, stopped(StopCause::Drained), "pending", 0),
        (
            0,
            None,
            stopped(StopCause::Preempted { by: job("9") }),
            "pending",
            0,
        ),
    ] {
        let mut w = World::small();
        let mut s = spec("a");
        s.retries = retries;
        w.submit(s).expect("a job");
        w.decide();
        w.end(job("1"), exit, cause.clone());
        assert_eq!(w.word("1"), word, "{cause:?}");
        assert_eq!(w.state.jobs[&job("1")].job.failures, failures, "{cause:?}");
    }
}

#[test]
fn retries_are_counted_wait_longer_each_time_and_end() {
    let mut w = World::small();
    let mut s = spec("a");
    s.retries = 2;
    w.submit(s).expect("a job");
    for wait in [1, 2] {
        w.decide();
        let (e, c) = exit(1);
        w.end(job("1"), e, c);
        w.decide();
        assert_eq!(w.word("1"), "pending", "not before its backoff");
        w.tick(wait);
    }
    w.decide();
    let (e, c) = exit(1);
    w.end(job("1"), e, c);
    assert_eq!(w.word("1"), "failed");
    assert_eq!(w.state.jobs[&job("1")].job.attempts_made, 3);
}

#[test]
fn a_request_repeated_gives_the_same_jobs() {
    let mut w = World::small();
    let mut s = spec("a");
    s.array = Some(3);
    let ask = Submit {
        spec: s,
        request_id: "once".to_owned(),
    };
    let (change, ids) = w.state.submit(&ask, "admin", w.now).expect("jobs");
    w.absorb(change);
    assert_eq!(
        ids.iter().map(JobId::to_string).collect::<Vec<_>>(),
        ["1.0", "1.1", "1.2"]
    );
    let (change, again) = w.state.submit(&ask, "admin", w.now).expect("the same");
    assert!(change.is_empty() && again == ids);
    // Another tenant's request of the same id is another request.
    let other = Submit {
        spec: spec("b"),
        request_id: "once".to_owned(),
    };
    let (change, ids) = w.state.submit(&other, "admin", w.now).expect("a job");
    w.absorb(change);
    assert_eq!(ids, [job("2")]);
    // Elements have lives of their own, and survive a restart in them.
    w.decide();
    let (e, c) = exit(1);
    w.end(job("1.0"), e, c);
    assert_eq!((w.word("1.0"), w.word("1.1")), ("failed", "active"));
    assert_eq!(w.replayed().jobs.len(), 4);
}

#[test]
fn what_can_never_run_is_refused_with_its_reason() {
    let mut w = World::small();
    w.declare(Object::Quota(quota("q", "a", 1000)), 0)
        .expect("a quota");
    let mut wrong_model = spec("b");
    wrong_model.request.model = Some(GpuModel::new("H100").expect("a model"));
    let mut too_much = spec("b");
    too_much.request.memory_per_gpu = Some(Bytes::gib(17));
    let mut nowhere = spec("b");
    nowhere.pool = Some(pool_name("x"));
    for (spec, field, says) in [
        (spec("nobody"), "tenant", "no such tenant"),
        (gpus("a", 2000), "gpus", "quota q"),
        (gpus("b", 3000), "gpus", "2 GPUs each"),
        (wrong_model, "gpu_model", "T4"),
        (too_much, "gpu_memory", "16GiB"),
        (nowhere, "pool", "no such pool"),
    ] {
        let refused = w.submit(spec).expect_err(field);
        assert_eq!(refused.problems.0[0].field, field, "{refused}");
        assert!(refused.problems.0[0].message.contains(says), "{refused}");
    }
    assert!(w.submit(gpus("b", 2000)).is_ok());
}

#[test]
fn limit_ranges_fill_in_and_bound() {
    let mut w = World::small();
    let range = LimitRangeSpec {
        name: gpuloom_fleet::LimitRangeName::new("small").expect("a name"),
        tenant: Some(tenant("a")),
        pool: None,
        default: Resources {
            gpus: Some(MilliGpu(500)),
            gpu_memory: Some(Bytes::gib(4)),
        },
        default_walltime: Some(Seconds(60)),
        min: Resources {
            gpus: Some(MilliGpu(100)),
            gpu_memory: None,
        },
        max: Resources {
            gpus: Some(MilliGpu(1000)),
            gpu_memory: Some(Bytes::gib(8)),
        },
        max_walltime: Some(Seconds(120)),
    };
    w.declare(Object::LimitRange(range), 0).expect("a range");
    w.submit(spec("a")).expect("filled in");
    let filled = &w.state.jobs[&job("1")].job.spec;
    assert_eq!(filled.request.gpus, Some(MilliGpu(500)));
    assert_eq!(filled.request.memory_per_gpu, Some(Bytes::gib(4)));
    assert_eq!(filled.walltime, Some(Seconds(60)));
    let mut long = spec("a");
    long.walltime = Some(Seconds(121));
    for (spec, field) in [
        (gpus("a", 50), "gpus"),
        (gpus("a", 2000), "gpus"),
        (long, "walltime"),
    ] {
        let refused = w.submit(spec).expect_err(field);
        assert_eq!(refused.problems.0[0].field, field, "{refused}");
    }
    assert_eq!(
        w.submit(spec("b")).map(|ids| ids.len()),
        Ok(1),
        "another tenant is not bound"
    );
}

#[test]
fn dependencies_hold_back_and_pass_failure_on() {
    let after = |id: &str, condition| Dependency {
        job: job(id),
        condition,
    };
    for (code, succeeded, failed, ended) in [
        (0, "active", "cancelled", "active"),
        (1, "cancelled", "active", "active"),
    ] {
        let mut w = World::small();
        w.submit(gpus("a", 250)).expect("1");
        for condition in [
            DependencyCondition::Succeeded,
            DependencyCondition::Failed,
            DependencyCondition::Ended,
        ] {
            let mut s = gpus("a", 250);
            s.depends_on = vec![after("1", condition)];
            w.submit(s).expect("2, 3, 4");
        }
        let mut last = gpus("a", 250);
        last.depends_on = vec![after("2", DependencyCondition::Succeeded)];
        w.submit(last).expect("5");
        w.decide();
        assert_eq!(
            (w.word("1"), w.word("2"), w.word("4")),
            ("active", "pending", "pending")
        );
        let (e, c) = exit(code);
        w.end(job("1"), e, c);
        w.decide();
        assert_eq!(
            (w.word("2"), w.word("3"), w.word("4")),
            (succeeded, failed, ended)
        );
        let passed_on = if succeeded == "cancelled" {
            "cancelled"
        } else {
            "pending"
        };
        assert_eq!(w.word("5"), passed_on);
    }
    let mut w = World::small();
    let mut s = spec("a");
    s.depends_on = vec![after("7", DependencyCondition::Ended)];
    assert!(w.submit(s).is_err(), "a job that is not there");
}

#[test]
fn cancelling_ends_waiting_jobs_at_once_and_running_ones_when_they_are_gone() {
    let mut w = World::small();
    w.submit(gpus("a", 2000)).expect("1");
    w.decide();
    let mut array = gpus("a", 2000);
    array.array = Some(200);
    w.submit(array).expect("2");
    assert_eq!(w.cancel(job("2")), (200, 0));
    assert_eq!(w.cancel(job("2")), (0, 200));
    assert_eq!(w.cancel(job("1")), (1, 0));
    assert_eq!(w.word("1"), "active", "its processes are not gone yet");
    w.end(job("1"), Some(Exit::Signal(15)), EndCause::Exited);
    assert_eq!(w.word("1"), "cancelled");
    let hidden = w
        .state
        .cancel(job("1"), Some(&tenant("b")), "tenant:b", w.now);
    assert_eq!(
        hidden.expect_err("another's").code,
        gpuloom_api::RefusalCode::NotFound
    );
}

#[test]
fn a_nodes_clock_that_is_wrong_neither_shortens_nor_stretches_a_walltime() {
    for since in [Millis(1), Millis(900_000_000)] {
        let mut w = World::small();
        let mut s = spec("a");
        s.walltime = Some(Seconds(10));
        w.submit(s).expect("a job");
        w.decide();
        let (attempt, node) = w.live(job("1")).expect("a live attempt");
        w.report(node.as_str(), &[(attempt, SaidPhase::Running { since })]);
        w.tick(9);
        let stopping = |w: &World| live_attempt(&w.state.jobs[&job("1")]).map(Attempt::is_stopping);
        assert_eq!(stopping(&w), Some(false), "{since:?}");
        w.tick(1);
        assert_eq!(stopping(&w), Some(true), "{since:?}");
    }
}

#[test]
fn a_walltime_stops_what_runs_too_long() {
    let mut w = World::small();
    let mut s = spec("a");
    s.walltime = Some(Seconds(10));
    w.submit(s).expect("a job");
    w.decide();
    w.tick(20);
    let (attempt, node) = w.live(job("1")).expect("live");
    assert!(
        !live_attempt(&w.state.jobs[&job("1")])
            .expect("live")
            .is_stopping(),
        "not running yet"
    );
    let since = w.now;
    w.report(node.as_str(), &[(attempt, SaidPhase::Running { since })]);
    w.tick(9);
    assert!(
        !live_attempt(&w.state.jobs[&job("1")])
            .expect("live")
            .is_stopping()
    );
    w.tick(1);
    assert!(
        live_attempt(&w.state.jobs[&job("1")])
            .expect("live")
            .is_stopping()
    );
    w.end(job("1"), Some(Exit::Signal(15)), EndCause::Exited);
    assert_eq!(w.word("1"), "timed_out");
}

#[test]
fn a_silent_nodes_jobs_wait_for_it_until_it_is_verified_gone() {
    let mut w = World::small();
    let mut s = spec("a");
    s.retries = 1;
    w.submit(s).expect("a job");
    w.decide();
    let (attempt, node) = w.live(job("1")).expect("live");
    w.report(
        node.as_str(),
        &[(attempt, SaidPhase::Running { since: w.now })],
    );
    w.tick(11);
    assert_eq!(
        w.state.node_state(&node).0,
        gpuloom_fleet::NodeState::Suspect
    );
    assert_eq!(w.word("1"), "active");
    w.submit(gpus("a", 2000)).expect("2");
    w.decide();
    assert_eq!(w.word("2"), "pending", "a silent node gets nothing new");
    w.report(
        node.as_str(),
        &[(attempt, SaidPhase::Running { since: w.now })],
    );
    assert_eq!(w.word("1"), "active", "it came back with its job");
    let change = w.state.node_gone(&node, "its instance is gone", w.now);
    w.absorb(change);
    assert_eq!(w.word("1"), "pending", "lost, and retried by its policy");
    assert!(!w.state.nodes.contains_key(&node));
}

#[test]
fn a_node_that_forgot_an_attempt_it_had_confirmed_has_lost_it() {
    let mut w = World::small();
    w.submit(spec("a")).expect("a job");
    w.decide();
    let (attempt, node) = w.live(job("1")).expect("live");
    w.report(node.as_str(), &[]);
    assert_eq!(w.word("1"), "active", "the order may not have arrived yet");
    w.report(node.as_str(), &[(attempt, SaidPhase::Starting)]);
    w.report(node.as_str(), &[]);
    assert_eq!(w.word("1"), "failed");
}

#[test]
fn an_ended_attempt_is_forgotten_by_its_node_only_when_it_is_stored() {
    let mut w = World::small();
    w.submit(spec("a")).expect("a job");
    w.decide();
    let (attempt, node) = w.live(job("1")).expect("live");
    w.report(
        node.as_str(),
        &[(attempt, SaidPhase::Running { since: w.now })],
    );
    assert_eq!(w.state.to_forget(&node), []);
    let (e, c) = exit(0);
    w.end(job("1"), e, c);
    assert_eq!(w.state.to_forget(&node), [attempt]);
}

#[test]
fn an_urgent_job_preempts_and_the_victim_runs_again() {
    let mut w = World::small();
    for _ in 0..2 {
        w.submit(gpus("a", 2000)).expect("both nodes");
    }
    w.decide();
    let mut urgent = gpus("b", 2000);
    urgent.priority_class = Some(PriorityClassName::new("urgent").expect("a name"));
    w.submit(urgent).expect("3");
    w.decide();
    let victim = [job("1"), job("2")]
        .into_iter()
        .find(|id| live_attempt(&w.state.jobs[id]).is_some_and(Attempt::is_stopping));
    let victim = victim.expect("one is told to stop");
    assert_eq!(w.word("3"), "pending");
    w.end(victim, Some(Exit::Signal(15)), EndCause::Exited);
    w.decide();
    assert_eq!(w.word("3"), "active");
    let record = &w.state.jobs[&victim].job;
    assert_eq!((record.preemptions, record.failures), (1, 0));
    let lowered = w.state.events.iter().all(|e| match &e.what {
        EventKind::Stopping {
            priority,
            by_priority: Some(by),
            ..
        } => by > priority,
        _ => true,
    });
    assert!(lowered, "preemption goes downwards only");
}

#[test]
fn only_the_configured_number_of_finished_jobs_is_kept() {
    let mut w = World::small();
    w.state.keep.jobs = 2;
    let mut array = gpus("a", 250);
    array.array = Some(2);
    w.submit(array).expect("1");
    for _ in 2..=4 {
        w.submit(gpus("a", 250)).expect("2, 3, 4");
    }
    let mut waits = gpus("a", 2000);
    waits.depends_on = vec![Dependency {
        job: job("2"),
        condition: DependencyCondition::Ended,
    }];
    w.submit(waits).expect("5");
    for id in ["1", "2", "3", "4"] {
        w.now = w.now.plus(Seconds(1));
        w.cancel(job(id));
    }
    // 5 may run now but still refers to 2.
    w.tick(1);
    assert_eq!((w.word("1.0"), w.word("1.1")), ("gone", "gone"));
    assert_eq!(
        (w.word("2"), w.word("3"), w.word("4")),
        ("cancelled", "gone", "cancelled")
    );
    assert!(w.state.arrays.is_empty());
    assert_eq!(w.replayed().rubbish(), Change::default());
    w.submit(gpus("a", 250)).expect("numbers go on");
    assert_eq!(w.word("6"), "pending");
}

#[test]
fn a_node_that_is_connected_keeps_its_name_from_another_key() {
    let mut w = World::small();
    let new = NewToken {
        hash: "h".repeat(64),
        purpose: crate::lead::record::TokenPurpose::Join {
            pool: pool_name("t4"),
            used_by: None,
        },
        ttl_s: 600,
        label: String::new(),
    };
    let (change, _) = w.state.create_token(&new, w.now).expect("a token");
    w.absorb(change);
    let ask = Join {
        token_hash: "h".repeat(64),
        node: node_id("n1"),
        request: "other key".to_owned(),
        agent_version: "1".to_owned(),
    };
    let refused = w.state.join(&ask, w.now).expect_err("n1 speaks");
    assert_eq!(refused.code, gpuloom_api::RefusalCode::InUse);
    w.tick(11);
    let (change, _) = w.state.join(&ask, w.now).expect("n1 is silent");
    w.absorb(change);
    assert!(w.state.join(&ask, w.now).is_ok(), "the answer was lost");
}
