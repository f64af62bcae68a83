use super::rig::{Rig, in_time, this_program};
use gpuloom_agent::instance::InstanceConfig;
use gpuloom_api::proto::ReadNodeLogRequest;
use gpuloom_api::proto::read_logs_request::Stream;
use gpuloom_api::tls::KeyAndCertificate;
use gpuloom_api::{Endpoints, NodeLogClient};
use gpuloom_cloud_imds::Dialect;
use gpuloom_doubles::clock::Clock;
use gpuloom_doubles::imds::{
    Announcement, Authority, Dialect as PlaysDialect, Double, Instance, Options,
};
use gpuloom_fleet::{Bytes, EndCause, StopCause};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

type Case = fn() -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), || Box::pin($name()))),*]
    };
}

pub(crate) const ALL: &[(&str, Case)] = cases![
    a_job_runs_ends_and_is_forgotten,
    a_job_over_its_memory_dies_and_its_neighbour_does_not,
    a_device_that_was_not_granted_may_not_be_used,
    what_the_lead_stops_or_does_not_know_is_stopped,
    a_job_whose_walltime_is_over_is_stopped,
    nothing_is_given_twice_whatever_the_lead_says,
    jobs_outlive_their_agent_and_are_adopted,
    a_silent_driver_is_told_and_orders_wait_for_it,
    a_foreign_process_and_an_xid_are_told,
    logs_are_for_the_lead_alone,
    a_node_that_is_taken_back_is_empty_in_time_and_says_so,
];

async fn a_node_that_is_taken_back_is_empty_in_time_and_says_so() {
    let clock = Clock::default();
    let options = Options {
        dialect: PlaysDialect::Azure,
        instance: Instance {
            id: "vm-1".to_owned(),
            vm_id: "v".to_owned(),
            account: "s".to_owned(),
            region: "eastus".to_owned(),
            zone: String::new(),
            instance_type: "Standard_NC4as_T4_v3".to_owned(),
            private_address: "127.0.0.1".to_owned(),
            public_address: String::new(),
            identity: false,
        },
        authority: Authority::start(clock.clone()).await.expect("keys"),
        clock,
        listen: ([127, 0, 0, 1], 0).into(),
    };
    let cloud = Double::start(options).await.expect("a metadata service");
    let mut rig = Rig::start().await;
    rig.stop_node().await;
    rig.config.instance = Some(InstanceConfig {
        dialect: Dialect::Azure,
        metadata: Some(cloud.endpoint()),
        endpoint: None,
        resource_group: None,
    });
    rig.start_node().await;
    // One that takes SIGTERM, and one that does not and asks for a minute of grace.
    rig.want("1#1", &["sleep", "600"], 0, 1);
    rig.want("2#1", &["sh", "-c", "trap '' TERM; sleep 600"], 1, 1);
    rig.change("2#1", |order| {
        if let Some(spec) = &mut order.spec {
            spec.grace_s = Some(60);
        }
    });
    rig.attempt("1#1", "running").await;
    rig.attempt("2#1", "running").await;
    let begun = Instant::now();
    cloud.announce(Announcement::OfAnother { in_ms: 14_000 });
    cloud.announce(Announcement::Preempt { in_ms: 14_000 });
    let report = rig.report("the notice", |r| r.notice.is_some()).await;
    let notice = report.notice.expect("was just there");
    assert_eq!(notice.kind, "preempt");
    // What comes now goes to another node.
    rig.want("3#1", &["true"], 0, 1);
    let drained = EndCause::Stopped {
        why: StopCause::Drained,
    };
    let (refused, cause) = rig.end("3#1").await;
    assert_eq!((refused.started_at_ms, cause), (None, drained.clone()));
    assert_eq!(rig.end("1#1").await.1, drained);
    assert_eq!(rig.end("2#1").await.1, drained);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(14 - 5), "{took:?}");
    // The event may begin once the lead has stored how everything ended, and no sooner.
    assert!(cloud.acknowledged().is_empty());
    rig.lead.orders.send_modify(|o| {
        o.forget = o.attempts.iter().map(|a| a.attempt.clone()).collect();
        o.attempts.clear();
    });
    rig.report("an empty node", |r| r.attempts.is_empty()).await;
    while cloud.acknowledged().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(cloud.acknowledged(), [notice.id]);
    rig.finish().await;
}

fn exit_code(report: &gpuloom_api::proto::AttemptReport) -> Option<i32> {
    report.exit_code
}

async fn a_job_runs_ends_and_is_forgotten() {
    let rig = Rig::start().await;
    assert!(
        !rig.dir.path().join("join-token").exists(),
        "the token is used up"
    );
    let ready = rig.report("a reading", |r| r.readings.len() == 2).await;
    assert_eq!(ready.backend, "simulated");
    let noted = rig.dir.path().join("attributes/cgroup");
    let has_cgroups = ready.capabilities["cgroup_v2"] == "yes";
    assert_eq!(noted.exists(), has_cgroups, "where its jobs are is noted");
    if has_cgroups {
        let noted = std::fs::read_to_string(noted).expect("reads");
        assert!(
            noted.ends_with(&format!("gpuloom/{}", rig.config.instance_id)),
            "{noted}"
        );
    }
    assert!(
        ready.health.iter().all(|h| h.health == "healthy"),
        "{:?}",
        ready.health
    );
    rig.want("1#1", &["sh", "-c", "exit 3"], 0, 1);
    let (report, cause) = rig.end("1#1").await;
    assert_eq!((exit_code(&report), cause), (Some(3), EndCause::Exited));
    assert!(report.started_at_ms <= report.ended_at_ms && report.started_at_ms.is_some());
    // It is reported until the lead has it, and never started again.
    rig.lead.orders.send_modify(|o| {
        o.attempts.clear();
        o.forget.push("1#1".to_owned());
    });
    rig.report("forgotten", |r| r.attempts.is_empty()).await;
    assert!(!rig.dir.path().join("attempts/1-1").exists());
    rig.lead.orders.send_modify(|o| o.forget.clear());
    rig.want("1#1", &["sh", "-c", "exit 3"], 0, 1);
    let (report, cause) = rig.end("1#1").await;
    assert_eq!(report.started_at_ms, None);
    assert!(matches!(cause, EndCause::Lost { .. }), "{cause:?}");
    rig.finish().await;
}

async fn a_job_over_its_memory_dies_and_its_neighbour_does_not() {
    let rig = Rig::start().await;
    let workload = this_program();
    rig.want("1#1", &[&workload, "workload", "granted", "3GiB"], 0, 4);
    let holding = |r: &gpuloom_api::proto::NodeReport| {
        r.attempts
            .iter()
            .any(|a| a.memory_used_bytes == Some(3 << 30))
    };
    rig.report("the neighbour's memory", holding).await;
    rig.want("2#1", &[&workload, "workload", "granted", "5GiB"], 0, 4);
    let (report, cause) = rig.end("2#1").await;
    assert_eq!(report.signal, Some(9));
    match cause {
        EndCause::Stopped {
            why:
                StopCause::MemoryExceeded {
                    device,
                    used,
                    limit,
                },
        } => {
            assert_eq!(
                device.as_str(),
                rig.machine.device(0).expect("a device").uuid
            );
            assert_eq!((used, limit), (Bytes::gib(5), Bytes::gib(4)));
        }
        other => panic!("{other:?}"),
    }
    // Its memory is back before it is reported as ended.
    let processes = rig.machine.device(0).expect("a device").processes;
    assert_eq!(processes.len(), 1);
    let still = rig.report("the neighbour", holding).await;
    let state = still
        .attempts
        .iter()
        .find(|a| a.attempt == "1#1")
        .map(|a| &a.state);
    assert_eq!(state.map(String::as_str), Some("running"));
    rig.finish().await;
}

async fn a_device_that_was_not_granted_may_not_be_used() {
    let rig = Rig::start().await;
    let workload = this_program();
    rig.want("1#1", &[&workload, "workload", "1", "1GiB"], 0, 4);
    let (_, cause) = rig.end("1#1").await;
    let EndCause::Stopped { why } = cause else {
        panic!("{cause:?}");
    };
    assert!(
        matches!(
            why,
            StopCause::MemoryExceeded {
                limit: Bytes(0),
                ..
            }
        ),
        "{why:?}"
    );
    rig.finish().await;
}

async fn what_the_lead_stops_or_does_not_know_is_stopped() {
    let rig = Rig::start().await;
    for id in ["1#1", "2#1", "3#1"] {
        rig.want(
            id,
            &[
                "sh",
                "-c",
                "trap 'exit 9' TERM; while :; do sleep 0.05; done",
            ],
            0,
            1,
        );
        rig.attempt(id, "running").await;
    }
    let cause = StopCause::Cancelled { by: "a".to_owned() };
    rig.stop("1#1", 30, &cause);
    let (report, ended) = rig.end("1#1").await;
    assert_eq!(
        (exit_code(&report), ended),
        (Some(9), EndCause::Stopped { why: cause.clone() })
    );
    rig.stop("2#1", 0, &StopCause::Drained);
    let (report, ended) = rig.end("2#1").await;
    assert_eq!(
        (report.signal, ended),
        (
            Some(9),
            EndCause::Stopped {
                why: StopCause::Drained
            }
        )
    );
    rig.lead
        .orders
        .send_modify(|o| o.attempts.retain(|a| a.attempt != "3#1"));
    let (_, ended) = rig.end("3#1").await;
    assert!(matches!(
        ended,
        EndCause::Stopped {
            why: StopCause::Cancelled { .. }
        }
    ));
    // Stopped before it began: it never runs.
    rig.lead.orders.send_modify(|o| {
        let mut order = o.attempts[0].clone();
        order.attempt = "4#1".to_owned();
        o.attempts.push(order);
    });
    let (report, ended) = rig.end("4#1").await;
    assert_eq!(
        (report.started_at_ms, ended),
        (None, EndCause::Stopped { why: cause })
    );
    rig.finish().await;
}

async fn a_job_whose_walltime_is_over_is_stopped() {
    let rig = Rig::start().await;
    rig.lead.orders.send_modify(|o| o.poll_ms = 100);
    rig.want("1#1", &["sleep", "1000"], 0, 1);
    rig.want("2#1", &["sleep", "1000"], 0, 1);
    rig.attempt("1#1", "running").await;
    let mut limited = rig.lead.orders.borrow().attempts[0].clone();
    limited.attempt = "3#1".to_owned();
    limited.spec.as_mut().expect("a job").walltime_s = Some(1);
    rig.lead.orders.send_modify(|o| o.attempts.push(limited));
    let (report, cause) = rig.end("3#1").await;
    assert_eq!(
        cause,
        EndCause::Stopped {
            why: StopCause::Walltime
        }
    );
    let ran = report
        .ended_at_ms
        .zip(report.started_at_ms)
        .map(|(e, s)| e - s);
    assert!(ran >= Some(1000), "{ran:?}");
    rig.attempt("1#1", "running").await;
    rig.attempt("2#1", "running").await;
    rig.finish().await;
}

async fn nothing_is_given_twice_whatever_the_lead_says() {
    let rig = Rig::start().await;
    rig.want("1#1", &["sleep", "1000"], 0, 10);
    rig.attempt("1#1", "running").await;
    rig.want("2#1", &["true"], 0, 7);
    let (_, cause) = rig.end("2#1").await;
    assert!(
        matches!(&cause, EndCause::LaunchFailed { message } if message.contains("10GiB of 15GiB")),
        "{cause:?}"
    );
    rig.want("3#1", &["true"], 0, 1);
    let (report, _) = rig.end("3#1").await;
    assert_eq!(exit_code(&report), Some(0), "what fits is started");
    // Once the first has ended there is room.
    rig.stop("1#1", 0, &StopCause::Drained);
    rig.end("1#1").await;
    rig.want("4#1", &["true"], 0, 15);
    assert_eq!(exit_code(&rig.end("4#1").await.0), Some(0));
    rig.finish().await;
}

async fn jobs_outlive_their_agent_and_are_adopted() {
    let mut rig = Rig::start().await;
    let go = rig.dir.path().join("go");
    let script = format!(
        "while ! test -e {}; do sleep 0.05; done; exit 5",
        go.display()
    );
    rig.want("1#1", &["sh", "-c", &script], 0, 1);
    rig.want("2#1", &["sh", "-c", "exit 6"], 0, 1);
    let before = rig.attempt("1#1", "running").await;
    rig.end("2#1").await;
    rig.stop_node().await;
    rig.start_node().await;
    let after = rig.attempt("1#1", "running").await;
    assert_eq!(after.started_at_ms, before.started_at_ms);
    assert_eq!(
        exit_code(&rig.end("2#1").await.0),
        Some(6),
        "an end is told until forgotten"
    );
    std::fs::write(go, "").expect("writes");
    assert_eq!(exit_code(&rig.end("1#1").await.0), Some(5));
    rig.finish().await;
}

async fn a_silent_driver_is_told_and_orders_wait_for_it() {
    let mut rig = Rig::start().await;
    rig.machine.hang_all().expect("hangs");
    rig.report("the driver's silence", |r| !r.driver_problem.is_empty())
        .await;
    rig.want("1#1", &["true"], 0, 1);
    // The end of another shows that the orders were taken.
    rig.want("2#1", &["true"], 1, 1);
    rig.stop("2#1", 0, &StopCause::Drained);
    rig.end("2#1").await;
    assert!(
        !rig.dir.path().join("attempts/1-1").exists(),
        "nothing is begun"
    );
    let report = rig.report("anything", |_| true).await;
    let told: Vec<_> = report.attempts.iter().map(|a| &a.attempt).collect();
    assert_eq!(told, ["2#1"], "what is not on disk is not answered for");
    // So a node that ends before it began loses nothing.
    rig.stop_node().await;
    rig.machine.heal_all().expect("heals");
    rig.start_node().await;
    let (report, _) = rig.end("1#1").await;
    assert_eq!(exit_code(&report), Some(0));
    rig.finish().await;
}

async fn a_foreign_process_and_an_xid_are_told() {
    use gpuloom_nvml_sim::{Owner, ProcessKind};
    let rig = Rig::start().await;
    let health = |index: usize, word: &'static str, part: &'static str| {
        let id = rig.machine.device(index).expect("a device").uuid;
        move |r: &gpuloom_api::proto::NodeReport| {
            let mut all = r.health.iter();
            all.any(|h| h.device == id && h.health == word && h.reason.contains(part))
        }
    };
    // This process is none of the node's jobs.
    let me = Owner::current();
    let claimed = rig.machine.claim(0, me, 1 << 30, 10, ProcessKind::Compute);
    claimed.expect("there is room");
    rig.report("the foreigner", health(0, "degraded", "none of its jobs"))
        .await;
    rig.machine.release(0, me).expect("releases");
    rig.report("health", health(0, "healthy", "")).await;
    rig.machine.post_xid(1, 95).expect("posts");
    rig.report("the Xid", health(1, "failed", "Xid 95")).await;
    rig.finish().await;
}

async fn logs_are_for_the_lead_alone() {
    let rig = Rig::start().await;
    rig.want("1#1", &["sh", "-c", "echo out; echo err >&2; exit 1"], 0, 1);
    rig.end("1#1").await;
    let node = rig.config.instance_id.clone();
    let endpoint = rig
        .report("an endpoint", |r| !r.endpoint.is_empty())
        .await
        .endpoint;
    let client = |own: KeyAndCertificate| {
        let endpoint: Endpoints = endpoint.parse().expect("an endpoint");
        NodeLogClient::connect(endpoint, rig.lead.ca.pin(), own, node.clone())
    };
    let ask = |attempt: &str| ReadNodeLogRequest {
        attempt: attempt.to_owned(),
        follow: true,
        stream: Stream::Both.into(),
        tail_bytes: 0,
    };
    let lead = client(rig.lead.own.clone()).await.expect("connects");
    let mut chunks = lead.read_log(ask("1#1")).await.expect("reads");
    let mut told = [Vec::new(), Vec::new()];
    while let Some(chunk) = chunks.next().await.expect("reads") {
        told[usize::from(chunk.stderr)].extend(chunk.data);
    }
    assert_eq!(told, [b"out\n".to_vec(), b"err\n".to_vec()]);
    let unknown = lead.read_log(ask("9#1")).await.expect_err("is unknown");
    assert!(unknown.to_string().contains("no attempt"), "{unknown}");
    // Another node of the fleet is not the lead.
    let identity = rig.dir.path().join("identity");
    let read = |name: &str| std::fs::read_to_string(identity.join(name)).expect("reads");
    let own = KeyAndCertificate::from_pem(&read("key.pem"), &read("cert.pem"), &read("ca.pem"));
    let other = client(own.expect("reads")).await.expect("connects");
    assert!(other.read_log(ask("1#1")).await.is_err());
    rig.finish().await;
}

/// Nothing of a finished case is left on the machine.
pub(crate) fn run(case: Case) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async { in_time("the case", case()).await });
    runtime.shutdown_timeout(Duration::from_secs(1));
}
