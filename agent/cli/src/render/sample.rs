//! A small fleet, fixed in time.

use crate::output::Style;
use gpuloom_api::ObjectView;
use gpuloom_api::proto::*;
use gpuloom_fleet as fleet;

pub(super) const NOW: u64 = 1_795_000_000_000;
pub(super) const STYLE: Style = Style {
    colour: false,
    now_ms: NOW,
    columns: None,
};
const GIB: u64 = 1 << 30;

pub(super) fn jobs() -> Vec<JobView> {
    vec![waiting(), running(), ended()]
}

fn spec(name: &str, tenant: &str, gpus_milli: u64) -> Option<JobSpec> {
    Some(JobSpec {
        name: name.into(),
        tenant: tenant.into(),
        command: vec!["python".into(), "train.py".into()],
        gpus_milli: Some(gpus_milli),
        ..Default::default()
    })
}

pub(super) fn waiting() -> JobView {
    JobView {
        id: "17".into(),
        spec: spec("train", "research", 4000),
        submitted_at_ms: NOW - 180_000,
        state: "pending".into(),
        state_since_ms: NOW - 180_000,
        why: vec![
            "needs 4 free GPUs on one node, the most free is 2".into(),
            "starts when job 12 ends, or when pool t4 grows".into(),
        ],
        position: Some(1),
        ..Default::default()
    }
}

pub(super) fn running() -> JobView {
    JobView {
        id: "12".into(),
        spec: spec("serve-llama", "serving", 500),
        submitted_at_ms: NOW - 7_300_000,
        state: "active".into(),
        state_since_ms: NOW - 7_200_000,
        priority: 1000,
        memory_used_bytes: Some(9 * GIB),
        attempts: vec![AttemptView {
            number: 1,
            node: "t4-0a1b2c3d".into(),
            state: "running".into(),
            started_at_ms: Some(NOW - 7_200_000),
            granted_at_ms: NOW - 7_201_000,
            grants: vec![DeviceGrant {
                device: "GPU-1".into(),
                share_milli: 500,
                memory_bytes: 8 * GIB,
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(super) fn ended() -> JobView {
    let mut job = running();
    job.id = "9.3".into();
    job.state = "failed".into();
    job.state_since_ms = NOW - 90_000_000;
    job.why = vec!["used more memory than it holds".into()];
    job.submitted_at_ms = NOW - 91_000_000;
    job.failures = 1;
    job.memory_used_bytes = None;
    let attempt = &mut job.attempts[0];
    attempt.state = "ended".into();
    attempt.ended_at_ms = Some(NOW - 90_000_000);
    attempt.started_at_ms = Some(NOW - 90_060_000);
    attempt.signal = Some(9);
    attempt.reason = "used 9GiB of memory on GPU-1, above its limit of 8GiB".into();
    job
}

pub(super) fn nodes() -> Vec<NodeView> {
    let device = |index: u32, reading: Option<Reading>| DeviceView {
        device: Some(Device {
            id: format!("GPU-{index}"),
            index,
            model: "T4".into(),
            product: "Tesla T4".into(),
            memory_bytes: 16 * GIB,
            ..Default::default()
        }),
        node: "t4-0a1b2c3d".into(),
        health: "healthy".into(),
        reading,
        ..Default::default()
    };
    let reading = Reading {
        device: "GPU-1".into(),
        at_ms: NOW - 500,
        utilization_milli: Some(634),
        memory_used_bytes: Some(9 * GIB + GIB / 2),
        memory_total_bytes: Some(16 * GIB),
        temperature_c: Some(61),
        power_mw: Some(54_600),
        sm_clock_mhz: Some(1590),
        ..Default::default()
    };
    let mut busy = device(1, Some(reading));
    busy.share_held_milli = 500;
    busy.memory_held_bytes = 8 * GIB;
    busy.attempts = vec!["12#1".into()];
    vec![
        NodeView {
            id: "t4-0a1b2c3d".into(),
            pool: "t4".into(),
            state: "ready".into(),
            backend: "simulated".into(),
            devices: vec![device(0, None), busy],
            last_seen_ms: Some(NOW - 400),
            ..Default::default()
        },
        NodeView {
            id: "t4-ffffffff".into(),
            pool: "t4".into(),
            state: "suspect".into(),
            reason: "silent for 12s".into(),
            backend: "simulated".into(),
            last_seen_ms: Some(NOW - 12_000),
            ..Default::default()
        },
    ]
}

pub(super) fn usage() -> Vec<Usage> {
    let gpus = |milli| {
        Some(Resources {
            gpus_milli: Some(milli),
            gpu_memory_bytes: None,
        })
    };
    vec![
        Usage {
            tenant: "research".into(),
            gpus_milli: 4000,
            gpu_memory_bytes: 64 * GIB,
            pending: 1,
            active: 2,
            guaranteed: gpus(2000),
            limit: Some(Resources {
                gpus_milli: Some(4000),
                gpu_memory_bytes: Some(128 * GIB),
            }),
            ..Default::default()
        },
        Usage {
            tenant: "serving".into(),
            pool: Some("t4".into()),
            gpus_milli: 500,
            ..Default::default()
        },
    ]
}

pub(super) fn top() -> Top {
    Top {
        fleet: "ml".into(),
        at_ms: NOW,
        nodes: nodes(),
        jobs_pending: 1,
        jobs_active: 1,
        gpus_total: 2,
        gpus_held_milli: 500,
        utilization_mean_milli: Some(317),
        memory_total_bytes: 32 * GIB,
        memory_held_bytes: 8 * GIB,
        memory_used_bytes: Some(9 * GIB + GIB / 2),
        usage: usage(),
        temperature_max_c: Some(61),
        power_total_mw: None,
    }
}

pub(super) fn pool() -> ObjectView {
    let object = Object {
        spec: Some(object::Spec::Pool(PoolSpec {
            name: "t4".into(),
            gpu_model: "T4".into(),
            gpus_per_node: 2,
            place: pool_spec::Place::Local.into(),
            min: 1,
            max: 10,
            on_shortfall: pool_spec::OnShortfall::Degrade.into(),
            max_wait_s: 600,
            on_destroy: pool_spec::OnDestroy::Drain.into(),
            ..Default::default()
        })),
    };
    ObjectView {
        object: object.try_into().expect("a pool"),
        generation: 3,
        owner: "terraform".into(),
        withdrawing: false,
        builtin: false,
        declared_at: fleet::Millis(NOW - 3_600_000),
        pool: Some(PoolView {
            wanted: 2,
            provisioned: 2,
            ready: 1,
            phase: pool_view::Phase::Degraded.into(),
            shortfall: "node t4-ffffffff is silent".into(),
            running_jobs: 1,
            ..Default::default()
        }),
    }
}
