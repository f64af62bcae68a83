//! What each node is to run: the whole of it, every time.

use super::state::{State, live_attempt};
use gpuloom_api::proto;
use gpuloom_fleet::{AttemptId, AttemptState, JobSpec, NodeId, Seconds, StopCause};

/// Milliseconds between a node's reports.
const POLL_MS: u64 = 1_000;

/// The orders of one node; `seq` is left at 0.
pub(crate) fn orders(state: &State, node: &NodeId) -> proto::NodeOrders {
    let jobs = state.on_node.get(node).into_iter().flatten();
    let attempts = jobs.filter_map(|id| {
        let record = state.jobs.get(id)?;
        let attempt = live_attempt(record)?;
        let stop = match &attempt.state {
            AttemptState::Stopping { cause, .. } => {
                Some(stop(cause, grace(state, &record.job.spec)))
            }
            _ => None,
        };
        let name = AttemptId {
            job: *id,
            number: attempt.number,
        };
        Some(proto::AttemptOrder {
            attempt: name.to_string(),
            spec: Some((&record.job.spec).into()),
            grants: attempt.grants.iter().map(Into::into).collect(),
            stop,
        })
    });
    proto::NodeOrders {
        seq: 0,
        attempts: attempts.collect(),
        forget: state
            .to_forget(node)
            .iter()
            .map(AttemptId::to_string)
            .collect(),
        poll_ms: POLL_MS,
    }
}

fn grace(state: &State, spec: &JobSpec) -> Seconds {
    spec.grace.unwrap_or_else(|| {
        let class = state.priority_class(spec.priority_class.as_ref());
        class.map_or(Seconds(30), |c| c.grace)
    })
}

fn stop(cause: &StopCause, grace: Seconds) -> proto::attempt_order::Stop {
    proto::attempt_order::Stop {
        grace_s: grace.0,
        cause_json: serde_json::to_string(cause).unwrap_or_default(),
    }
}
