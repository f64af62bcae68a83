//! Logs: the lead asks the node that has them.

use super::stream::{Replies, fed};
use crate::lead::core::Core;
use gpuloom_api::tls::{CaPin, KeyAndCertificate};
use gpuloom_api::{CallError, Endpoints, NodeLogClient, Refusal, proto};
use gpuloom_fleet::{AttemptId, JobId, NodeId, TenantName};

/// Where an attempt's logs are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    attempt: AttemptId,
    node: NodeId,
    endpoint: String,
}

enum Found {
    At(Place),
    /// Nothing has started yet.
    NotYet,
}

/// What a job wrote; `tenant` restricts whose.
pub(super) async fn read(
    core: Core,
    own: KeyAndCertificate,
    pin: CaPin,
    id: JobId,
    tenant: Option<TenantName>,
    request: proto::ReadLogsRequest,
) -> Result<Replies<proto::LogChunk>, Refusal> {
    let place = place(&core, id, tenant, &request).await?;
    let asked = proto::ReadNodeLogRequest {
        attempt: place.attempt.to_string(),
        follow: request.follow,
        stream: request.stream,
        tail_bytes: request.tail_bytes,
    };
    let endpoint: Endpoints = place.endpoint.parse().map_err(|_| {
        let message = format!("node {} has not said where it serves logs", place.node);
        Refusal::unavailable(message, "try again when it has reported")
    })?;
    let node = place.node.clone();
    let failed = |e: CallError| match e {
        CallError::Refused(refusal) => refusal,
        other => {
            let message = format!("node {} does not give the logs: {other}", place.node);
            Refusal::unavailable(
                message,
                "try again when the node is ready, see `gpuloom nodes`",
            )
        }
    };
    let client = NodeLogClient::connect(endpoint, pin, own, node)
        .await
        .map_err(failed)?;
    let mut chunks = client.read_log(asked).await.map_err(failed)?;
    Ok(fed(move |tx| async move {
        loop {
            let next = tokio::select! {
                next = chunks.next() => next,
                () = tx.closed() => return,
            };
            let message = match next {
                Ok(Some(chunk)) => Ok(chunk),
                Ok(None) => return,
                Err(CallError::Refused(refusal)) => Err(refusal.into()),
                Err(e) => Err(Refusal::unavailable(e.to_string(), "try again").into()),
            };
            let ends = message.is_err();
            if tx.send(message).await.is_err() || ends {
                return;
            }
        }
    }))
}

/// Waits, when following, until there is something to read.
async fn place(
    core: &Core,
    id: JobId,
    tenant: Option<TenantName>,
    request: &proto::ReadLogsRequest,
) -> Result<Place, Refusal> {
    let mut changes = core.changes();
    let number = request.attempt;
    loop {
        changes.mark_unchanged();
        let tenant = tenant.clone();
        match core
            .read(move |s, _| find(s, id, tenant.as_ref(), number))
            .await??
        {
            Found::At(place) => return Ok(place),
            Found::NotYet if request.follow => {
                let gone = || Refusal::unavailable("the lead is stopping", "try again");
                changes.changed().await.map_err(|_| gone())?;
            }
            Found::NotYet => {
                let fix = format!("see `gpuloom why {id}`, or follow with `gpuloom logs -f {id}`");
                let message = format!("job {id} has not started");
                return Err(Refusal::unavailable(message, fix));
            }
        }
    }
}

fn find(
    state: &crate::lead::state::State,
    id: JobId,
    tenant: Option<&TenantName>,
    number: u32,
) -> Result<Found, Refusal> {
    let ids = state.visible(id, tenant)?;
    let [only] = ids.as_slice() else {
        let fix = format!(
            "name one element, {}.0 to {}.{}",
            id.number,
            id.number,
            ids.len() - 1
        );
        let message = format!("job {id} is an array of {} jobs", ids.len());
        return Err(Refusal::invalid_field("id", id, message, fix));
    };
    let record = &state.jobs[only];
    let attempts = &record.job.attempts;
    let attempt = match number {
        0 => attempts.last(),
        n => attempts.iter().find(|a| a.number == n),
    };
    let Some(attempt) = attempt else {
        if number == 0 && !record.job.state.is_final() {
            return Ok(Found::NotYet);
        }
        let fix = "leave the attempt out to read the last one";
        let what = format!("attempt of job {id}");
        return Err(Refusal::not_found(what, number, fix));
    };
    let endpoint = state.nodes.get(&attempt.node).map(|n| n.endpoint.clone());
    let Some(endpoint) = endpoint else {
        let message = format!("node {} and its logs are gone", attempt.node);
        return Err(Refusal::unavailable(
            message,
            "write what must stay to a shared directory",
        ));
    };
    Ok(Found::At(Place {
        attempt: AttemptId {
            job: *only,
            number: attempt.number,
        },
        node: attempt.node.clone(),
        endpoint,
    }))
}
