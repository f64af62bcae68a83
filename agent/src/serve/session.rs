//! The session with a node: its reports in, its orders out, each stating everything.

use super::stream::Replies;
use crate::lead::core::Core;
use crate::lead::state::{AttemptSaid, CloudNotice, NodeSaid, SaidPhase};
use gpuloom_api::Refusal;
use gpuloom_api::proto::{self, node_server::Node};
use gpuloom_fleet::{
    AttemptEnd, Bytes, Device, DeviceHealth, DeviceId, EndCause, Exit, Millis, StopCause,
};
use gpuloom_watch::{ProcessUse, Reading};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

/// Devices believed of one report.
const MAX_DEVICES: usize = gpuloom_fleet::MAX_GPUS_PER_NODE as usize;
/// Capabilities believed of one report.
const MAX_CAPABILITIES: usize = 64;
/// Bytes believed of an id, a version, an address or another word of a report.
const MAX_WORD_BYTES: usize = 256;
/// Bytes believed of a sentence of a report. What is stored of a node or a job has to fit into a
/// record of the store: the lead ends when one does not.
const MAX_TEXT_BYTES: usize = 2_048;

/// What the lead serves to nodes.
#[derive(Debug, Clone)]
pub(crate) struct NodeService {
    core: Core,
    sessions: Arc<AtomicU64>,
}

// === impl NodeService ===

impl NodeService {
    pub(crate) fn new(core: Core) -> Self {
        Self {
            core,
            sessions: Arc::new(AtomicU64::new(1)),
        }
    }
}

#[tonic::async_trait]
impl Node for NodeService {
    type SessionStream = Replies<proto::NodeOrders>;

    async fn session(
        &self,
        request: Request<Streaming<proto::NodeReport>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let from = super::membership::presented(&request)?;
        let node = from.node.clone();
        self.core
            .read(move |s, now| s.member(&from, now).map(drop))
            .await??;
        let session = self.sessions.fetch_add(1, Ordering::Relaxed);
        let mut orders = self.core.connect(node.clone(), session).await?;
        // What was wanted before is wanted still: a node that ended before it noted an order asks by coming back.
        orders.mark_changed();
        let core = self.core.clone();
        let mut reports = request.into_inner();
        let stream = super::stream::fed(move |tx| async move {
            loop {
                tokio::select! {
                    report = reports.next() => {
                        let Some(Ok(report)) = report else { return };
                        match core.report(node.clone(), session, read(report)).await {
                            Ok(true) => {}
                            Ok(false) => {
                                let refusal = Refusal::unavailable("another session has taken over", "");
                                let _ = tx.send(Err(refusal.into())).await;
                                return;
                            }
                            Err(refusal) => {
                                let _ = tx.send(Err(refusal.into())).await;
                                return;
                            }
                        }
                    }
                    changed = orders.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let now = orders.borrow_and_update().clone();
                        // 0: nothing is known before the first report.
                        if now.seq > 0 && tx.send(Ok(now)).await.is_err() {
                            return;
                        }
                    }
                    () = tx.closed() => return,
                }
            }
        });
        Ok(Response::new(stream))
    }
}

/// A report as the writer takes it; what does not read is left out and logged.
fn read(report: proto::NodeReport) -> NodeSaid {
    let devices: Vec<Device> = report
        .devices
        .into_iter()
        .take(MAX_DEVICES)
        .filter_map(|d| Device::try_from(d).map_err(left_out).ok())
        .map(|d| Device {
            product: word(d.product),
            compute_capability: d.compute_capability.map(word),
            pci: d.pci.map(word),
            ..d
        })
        .collect();
    let mut foreign: BTreeMap<DeviceId, Bytes> = BTreeMap::new();
    let mut readings = Vec::new();
    for r in report.readings.into_iter().take(MAX_DEVICES) {
        let Ok(device) = DeviceId::new(r.device.clone()) else {
            continue;
        };
        let used = foreign_use(&r);
        if used > 0 {
            foreign.insert(device.clone(), Bytes(used));
        }
        readings.push(reading(device, r));
    }
    NodeSaid {
        boot_id: word(report.boot_id),
        agent_version: word(report.agent_version),
        endpoint: word(report.endpoint),
        simulated: report.backend == "simulated",
        driver_problem: cut(report.driver_problem, MAX_TEXT_BYTES),
        devices,
        readings,
        foreign,
        attempts: report.attempts.into_iter().filter_map(attempt).collect(),
        capabilities: report
            .capabilities
            .into_iter()
            .take(MAX_CAPABILITIES)
            .map(|(key, value)| (word(key), cut(value, MAX_TEXT_BYTES)))
            .collect(),
        health: report
            .health
            .into_iter()
            .take(MAX_DEVICES)
            .filter_map(health)
            .collect(),
        notice: report.notice.map(|n| CloudNotice {
            kind: word(n.kind),
            at: n.at_ms.map(Millis),
        }),
    }
}

/// As much of a word as is believed.
pub(super) fn word(text: String) -> String {
    cut(text, MAX_WORD_BYTES)
}

/// The first `most` bytes of `text`, less what would split a character.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
    }
    text
}

/// As [`cut`], of what a cause says.
fn cut_stop(cause: StopCause) -> StopCause {
    match cause {
        StopCause::Cancelled { by } => StopCause::Cancelled { by: word(by) },
        other => other,
    }
}

fn cut_end(cause: EndCause) -> EndCause {
    match cause {
        EndCause::Stopped { why } => EndCause::Stopped { why: cut_stop(why) },
        EndCause::LaunchFailed { message } => EndCause::LaunchFailed {
            message: cut(message, MAX_TEXT_BYTES),
        },
        EndCause::Lost { message } => EndCause::Lost {
            message: cut(message, MAX_TEXT_BYTES),
        },
        EndCause::Exited => EndCause::Exited,
    }
}

/// Bytes of a device that processes of none of the node's jobs use. Of one whose use the driver
/// does not tell: all that is in use and not known to be a job's.
fn foreign_use(r: &proto::Reading) -> u64 {
    let of = |foreign: bool| {
        let all = r.processes.iter();
        all.filter(move |p| p.attempt.is_empty() == foreign)
            .map(|p| p.memory_bytes)
    };
    let told = of(true).flatten().fold(0, u64::saturating_add);
    if of(true).all(|bytes| bytes.is_some()) {
        return told;
    }
    let of_jobs = of(false).try_fold(0u64, |sum, bytes| Some(sum.saturating_add(bytes?)));
    let rest = r.memory_used_bytes.zip(of_jobs);
    rest.map_or(told, |(used, of_jobs)| {
        used.saturating_sub(of_jobs).max(told)
    })
}

fn left_out(problems: gpuloom_fleet::Problems) {
    tracing::warn!(%problems, "part of a report does not read and is left out");
}

fn reading(device: DeviceId, r: proto::Reading) -> Reading {
    Reading {
        utilization_milli: r.utilization_milli,
        memory_used: r.memory_used_bytes.map(Bytes),
        memory_total: r.memory_total_bytes.map(Bytes),
        temperature_c: r.temperature_c,
        power_mw: r.power_mw,
        power_limit_mw: r.power_limit_mw,
        sm_clock_mhz: r.sm_clock_mhz,
        ecc_uncorrected: r.ecc_uncorrected,
        processes: Some(
            r.processes
                .iter()
                .map(|p| ProcessUse {
                    pid: p.pid,
                    memory: p.memory_bytes.map(Bytes),
                })
                .collect(),
        ),
        lost: r.lost,
        ..Reading::unanswered(device, Millis(r.at_ms))
    }
}

fn health(h: proto::HealthReport) -> Option<(DeviceId, (DeviceHealth, String))> {
    let device = DeviceId::new(h.device).ok()?;
    let health = match h.health.as_str() {
        "healthy" => DeviceHealth::Healthy,
        "degraded" => DeviceHealth::Degraded,
        "failed" => DeviceHealth::Failed,
        // A word of a later gpuloom: nothing is given on a device of which it is not known to be well.
        _ => DeviceHealth::Failed,
    };
    Some((device, (health, cut(h.reason, MAX_TEXT_BYTES))))
}

fn attempt(a: proto::AttemptReport) -> Option<AttemptSaid> {
    let id = a.attempt.parse().ok()?;
    let since = a.started_at_ms.map(Millis);
    let phase = match (a.state.as_str(), since) {
        ("starting", _) => SaidPhase::Starting,
        ("running", Some(since)) => SaidPhase::Running { since },
        ("stopping", _) => SaidPhase::Stopping {
            since,
            cause: serde_json::from_str::<StopCause>(&a.cause_json)
                .ok()
                .map(cut_stop),
        },
        ("ended", _) => SaidPhase::Ended(AttemptEnd {
            started_at: since,
            ended_at: Millis(a.ended_at_ms?),
            exit: match (a.exit_code, a.signal) {
                (Some(code), _) => Some(Exit::Code(code)),
                (None, Some(signal)) => Some(Exit::Signal(signal)),
                (None, None) => None,
            },
            cause: serde_json::from_str::<EndCause>(&a.cause_json).map_or_else(
                |_| EndCause::Lost {
                    message: "its node did not say how it ended".to_owned(),
                },
                cut_end,
            ),
        }),
        // It is there, whatever it does: left out, it would count as lost and be started again elsewhere.
        (other, _) => {
            tracing::warn!(attempt = %a.attempt, state = other, "an attempt's state is unknown");
            SaidPhase::Starting
        }
    };
    Some(AttemptSaid {
        id,
        phase,
        memory_used: a.memory_used_bytes.map(Bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(state: &str, started_at_ms: Option<u64>, cause_json: &str) -> Option<SaidPhase> {
        let report = proto::AttemptReport {
            attempt: "1#1".to_owned(),
            state: state.to_owned(),
            started_at_ms,
            ended_at_ms: Some(9),
            cause_json: cause_json.to_owned(),
            ..proto::AttemptReport::default()
        };
        attempt(report).map(|a| a.phase)
    }

    #[test]
    fn an_attempt_that_does_something_unknown_is_there_all_the_same() {
        assert_eq!(said("checkpointing", None, ""), Some(SaidPhase::Starting));
        assert_eq!(said("running", None, ""), Some(SaidPhase::Starting));
        let since = Millis(7);
        assert_eq!(
            said("running", Some(7), ""),
            Some(SaidPhase::Running { since })
        );
    }

    #[test]
    fn what_a_node_says_is_cut_to_what_a_record_holds() {
        let long = "é".repeat(1 << 20);
        let cause = EndCause::LaunchFailed {
            message: long.clone(),
        };
        let cause = serde_json::to_string(&cause).expect("plain data");
        let Some(SaidPhase::Ended(end)) = said("ended", None, &cause) else {
            panic!("it has ended");
        };
        let EndCause::LaunchFailed { message } = end.cause else {
            panic!("{:?}", end.cause);
        };
        assert_eq!(message.len(), MAX_TEXT_BYTES);
        let report = proto::NodeReport {
            endpoint: long.clone(),
            driver_problem: long.clone(),
            capabilities: (0..100).map(|n| (format!("{n}"), long.clone())).collect(),
            ..proto::NodeReport::default()
        };
        let said = read(report);
        let texts = said.capabilities.values().map(String::len).sum::<usize>();
        assert!(texts <= MAX_CAPABILITIES * MAX_TEXT_BYTES);
        assert!(said.endpoint.len() + said.driver_problem.len() < 4_096);
    }

    #[test]
    fn foreign_use_that_is_not_told_is_what_remains() {
        let use_of = |attempt: &str, memory_bytes: Option<u64>| proto::ProcessUse {
            pid: 1,
            memory_bytes,
            attempt: attempt.to_owned(),
        };
        let foreign = |processes: Vec<proto::ProcessUse>| {
            foreign_use(&proto::Reading {
                memory_used_bytes: Some(100),
                processes,
                ..proto::Reading::default()
            })
        };
        let job = || use_of("1#1", Some(60));
        assert_eq!(foreign(vec![job()]), 0);
        assert_eq!(foreign(vec![job(), use_of("", Some(7))]), 7);
        assert_eq!(foreign(vec![job(), use_of("", None)]), 40);
        // Whose the rest is cannot be said: only what is told counts.
        let unknown = || use_of("1#1", None);
        assert_eq!(foreign(vec![unknown(), use_of("", None)]), 0);
    }

    #[test]
    fn a_device_of_unknown_health_is_given_to_nobody() {
        let report = |word: &str| proto::HealthReport {
            device: "g0".to_owned(),
            health: word.to_owned(),
            reason: String::new(),
        };
        let of = |word: &str| health(report(word)).map(|(_, (health, _))| health);
        assert_eq!(of("healthy"), Some(DeviceHealth::Healthy));
        assert_eq!(of("worn"), Some(DeviceHealth::Failed));
    }
}
