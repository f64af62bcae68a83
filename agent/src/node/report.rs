//! The node's report on the wire.

use super::core::{Core, State};
use crate::launch::now;
use gpuloom_api::proto;
use gpuloom_fleet::{AttemptEnd, AttemptId, Backend, Bytes, Exit};
use gpuloom_watch::Reading;
use serde::Serialize;

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| {
        // Every cause is plain data; the lead takes an unreadable one for "unknown".
        tracing::error!(%error, "a cause cannot be written");
        String::new()
    })
}

fn ended(id: AttemptId, end: &AttemptEnd) -> proto::AttemptReport {
    let (exit_code, signal) = match end.exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    proto::AttemptReport {
        attempt: id.to_string(),
        state: "ended".to_owned(),
        started_at_ms: end.started_at.map(|m| m.0),
        ended_at_ms: Some(end.ended_at.0),
        exit_code,
        signal,
        cause_json: json(&end.cause),
        memory_used_bytes: None,
    }
}

fn attempt(id: AttemptId, state: &State, used: Option<Bytes>) -> proto::AttemptReport {
    let (word, since, cause_json) = match state {
        State::Ended(end) => return ended(id, end),
        State::Starting => ("starting", None, String::new()),
        State::Running(since) => ("running", Some(*since), String::new()),
        State::Stopping(since, cause) => ("stopping", *since, json(cause)),
    };
    proto::AttemptReport {
        attempt: id.to_string(),
        state: word.to_owned(),
        started_at_ms: since.map(|m| m.0),
        ended_at_ms: None,
        exit_code: None,
        signal: None,
        cause_json,
        memory_used_bytes: used.map(|b| b.0),
    }
}

fn reading(r: &Reading, of: impl Fn(u32) -> Option<AttemptId>) -> proto::Reading {
    let processes = r.processes.iter().flatten();
    let processes = processes.map(|p| proto::ProcessUse {
        pid: p.pid,
        memory_bytes: p.memory.map(|b| b.0),
        attempt: of(p.pid).map(|a| a.to_string()).unwrap_or_default(),
    });
    proto::Reading {
        device: r.device.to_string(),
        at_ms: r.at.0,
        utilization_milli: r.utilization_milli,
        memory_used_bytes: r.memory_used.map(|b| b.0),
        memory_total_bytes: r.memory_total.map(|b| b.0),
        temperature_c: r.temperature_c,
        power_mw: r.power_mw,
        power_limit_mw: r.power_limit_mw,
        sm_clock_mhz: r.sm_clock_mhz,
        ecc_uncorrected: r.ecc_uncorrected,
        processes: processes.collect(),
        lost: r.lost,
    }
}

// === impl Core ===

impl Core {
    /// Everything the node has and knows.
    pub(super) fn report(&self) -> proto::NodeReport {
        // What waits or is about to be refused has nothing on disk yet: the order stands without it.
        let live = self.tracked.iter().filter(|(_, t)| t.recorded);
        let live = live.map(|(id, t)| attempt(*id, &t.state, t.memory_used));
        let refused = self.refused.iter().map(|(id, end)| ended(*id, end));
        let health = self.gpus.health(now()).into_iter();
        let readings = self.gpus.readings.values();
        proto::NodeReport {
            seq: 0,
            boot_id: self.launcher.boot_id().to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            endpoint: self.endpoint.clone(),
            backend: match self.backend {
                Backend::Nvml => "nvml".to_owned(),
                Backend::Simulated => "simulated".to_owned(),
            },
            driver_problem: self
                .gpus
                .trouble
                .as_ref()
                .map(|(why, _)| why.clone())
                .unwrap_or_default(),
            devices: self.gpus.devices.iter().map(Into::into).collect(),
            readings: readings
                .map(|r| reading(r, |pid| self.gpus.attempt_of(pid)))
                .collect(),
            attempts: live.chain(refused).collect(),
            capabilities: self.capabilities.clone().into_iter().collect(),
            notice: self.notice.as_ref().map(|n| proto::Notice {
                kind: n.kind.to_string(),
                at_ms: n.at.map(|at| at.0),
                id: n.id.clone(),
                source: n.source.to_owned(),
            }),
            health: health
                .map(|(device, health, reason)| proto::HealthReport {
                    device: device.to_string(),
                    health: gpuloom_api::convert::device_health_word(health).to_owned(),
                    reason,
                })
                .collect(),
        }
    }
}
