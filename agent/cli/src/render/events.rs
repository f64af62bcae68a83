//! The audit trail in sentences.

use crate::output::instant;
use gpuloom_api::proto::Event as WireEvent;
use gpuloom_fleet::{EndCause, Event, EventKind, Exit};

/// One line: when, and what happened. An event of a newer fleet is shown as it was stored.
pub(crate) fn line(event: &WireEvent) -> String {
    let what = match serde_json::from_str::<Event>(&event.json) {
        Ok(read) => sentence(&read.what),
        Err(_) => event.json.clone(),
    };
    format!("{:>6}  {}  {what}\n", event.seq, instant(event.at_ms))
}

fn sentence(what: &EventKind) -> String {
    match what {
        EventKind::Declared {
            kind,
            name,
            generation,
            by,
        } => format!("{kind} {name} declared by {by} (generation {generation})"),
        EventKind::Withdrawn { kind, name, by } => format!("{kind} {name} withdrawn by {by}"),
        EventKind::Submitted { job, tenant, by } => {
            format!("job {job} of {tenant} submitted by {by}")
        }
        EventKind::Granted {
            attempt,
            tenant,
            node,
            grants,
            ..
        } => {
            let devices: Vec<_> = grants
                .iter()
                .map(|g| format!("{} of {}", g.share, g.device))
                .collect();
            format!(
                "attempt {attempt} of {tenant} granted {} on {node}",
                devices.join(", ")
            )
        }
        EventKind::Started { attempt } => format!("attempt {attempt} started"),
        EventKind::Stopping { attempt, cause, .. } => {
            format!("attempt {attempt} told to stop: {cause}")
        }
        EventKind::Ended { attempt, exit, end } => ended(&attempt.to_string(), *exit, end),
        EventKind::Finished { job, state } => format!("job {job} {}", state.as_str()),
        EventKind::NodeJoined { node, pool } => format!("node {node} joined pool {pool}"),
        EventKind::NodeChanged {
            node,
            state,
            reason,
        } if reason.is_empty() => format!("node {node} is {state}"),
        EventKind::NodeChanged {
            node,
            state,
            reason,
        } => format!("node {node} is {state}: {reason}"),
        EventKind::NodeLeft { node, pool } => format!("node {node} left pool {pool}"),
        EventKind::PoolResized {
            pool,
            from,
            to,
            reason,
        } => format!("pool {pool} goes from {from} to {to} nodes: {reason}"),
    }
}

fn ended(attempt: &str, exit: Option<Exit>, end: &EndCause) -> String {
    let how = match exit {
        Some(Exit::Code(code)) => format!(" with exit {code}"),
        Some(Exit::Signal(signal)) => format!(" by signal {signal}"),
        None => String::new(),
    };
    match end {
        EndCause::Exited => format!("attempt {attempt} ended{how}"),
        EndCause::Stopped { why } => format!("attempt {attempt} stopped{how}: {why}"),
        EndCause::LaunchFailed { message } => {
            format!("attempt {attempt} could not be started: {message}")
        }
        EndCause::Lost { message } => format!("attempt {attempt} was lost: {message}"),
    }
}
