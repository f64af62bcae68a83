//! Submitting, listing, explaining and cancelling jobs, and what they wrote.

use super::Session;
use crate::args::{JobsArgs, LogStream, LogsArgs, OutputFormat};
use crate::exit::{CliError, Exit};
use crate::output::{note, print, print_bytes};
use crate::render::{jobs as render, json};
use crate::submit::SubmitArgs;
use gpuloom_api::proto::read_logs_request::Stream;
use gpuloom_api::proto::{ListJobsRequest, LogChunk, ReadLogsRequest};
use gpuloom_fleet::{JobId, TenantName};
use serde_json::json;
use std::io::{IsTerminal, Write};

/// Submits; the ids come back. A fresh request id makes repeating after a lost answer safe.
pub(super) async fn submitted(s: &Session, args: &SubmitArgs) -> Result<Vec<JobId>, CliError> {
    let spec = args.spec(&s.client.hello().caller)?;
    let mut id = [0u8; 16];
    getrandom::fill(&mut id)
        .map_err(|e| CliError::Failed(format!("the system has no random numbers: {e}")))?;
    let request_id: String = id.iter().map(|b| format!("{b:02x}")).collect();
    Ok(s.client.submit(&spec, &request_id).await?)
}

pub(super) async fn submit(s: &Session, args: &SubmitArgs) -> Result<Exit, CliError> {
    let ids = submitted(s, args).await?;
    let Some(first) = ids.first() else {
        return Err(CliError::Failed("the fleet accepted no job".to_owned()));
    };
    let number = first.number;
    if std::io::stderr().is_terminal() && s.output == OutputFormat::Table {
        let count = ids.len();
        let what = if count == 1 {
            format!("submitted; `gpuloom why {first}` tells where it stands")
        } else {
            format!(
                "submitted {count} jobs, {number}.0 to {number}.{}",
                count - 1
            )
        };
        note(&what);
    }
    let shown = if ids.len() == 1 {
        first.to_string()
    } else {
        number.to_string()
    };
    let all: Vec<_> = ids.iter().map(ToString::to_string).collect();
    s.show(|_| format!("{shown}\n"), || json!({ "ids": all }))
}

pub(super) async fn list(s: &Session, args: JobsArgs) -> Result<Exit, CliError> {
    let filter = ListJobsRequest {
        tenant: args.tenant.map(|t| t.to_string()).unwrap_or_default(),
        states: args.state,
        pool: args.pool.map(|p| p.to_string()).unwrap_or_default(),
        labels: args.label.into_iter().collect(),
        limit: args.limit,
        number: args
            .number
            .map(|j| j.number.to_string())
            .unwrap_or_default(),
    };
    let reply = s.client.jobs(filter).await?;
    s.show(
        |style| render::list(&reply.jobs, reply.more, style),
        || json!({ "jobs": json::list(&reply.jobs, json::job), "more": reply.more }),
    )
}

pub(super) async fn why(s: &Session, job: JobId) -> Result<Exit, CliError> {
    let view = s.client.job(job).await?;
    s.show(|style| render::why(&view, style), || json::job(&view))
}

pub(super) async fn queue(
    s: &Session,
    tenant: Option<TenantName>,
    limit: u64,
) -> Result<Exit, CliError> {
    let reply = s.client.queue(tenant.as_ref(), limit).await?;
    s.show(
        |style| render::queue(&reply.jobs, reply.pending, reply.active, style),
        || {
            json!({
                "jobs": json::list(&reply.jobs, json::job),
                "pending": reply.pending,
                "active": reply.active,
            })
        },
    )
}

pub(super) async fn cancel(s: &Session, jobs: &[JobId]) -> Result<Exit, CliError> {
    let mut replies = Vec::with_capacity(jobs.len());
    for job in jobs {
        replies.push((job, s.client.cancel(*job).await?));
    }
    s.show(
        |_| {
            let line = |(job, r): &(&JobId, gpuloom_api::proto::CancelReply)| match (
                r.cancelled,
                r.already_ended,
            ) {
                (0, _) => format!("job {job} had ended already\n"),
                (1, 0) => format!("job {job} cancelled\n"),
                (n, ended) => format!("job {job}: {n} cancelled, {ended} had ended already\n"),
            };
            replies.iter().map(line).collect()
        },
        || {
            let one = |(job, r): &(&JobId, gpuloom_api::proto::CancelReply)| {
                json!({
                    "id": job.to_string(),
                    "cancelled": r.cancelled,
                    "already_ended": r.already_ended,
                })
            };
            json!({ "jobs": replies.iter().map(one).collect::<Vec<_>>() })
        },
    )
}

pub(super) async fn logs(s: &Session, args: LogsArgs) -> Result<Exit, CliError> {
    let stream = match args.stream {
        None => Stream::Both,
        Some(LogStream::Stdout) => Stream::Stdout,
        Some(LogStream::Stderr) => Stream::Stderr,
    };
    let request = ReadLogsRequest {
        id: args.job.to_string(),
        follow: args.follow,
        attempt: args.attempt.unwrap_or(0),
        stream: stream.into(),
        tail_bytes: args.tail.map_or(0, |b| b.0),
    };
    let mut log = s.client.logs(request).await?;
    while let Some(chunk) = log.next().await? {
        write_chunk(&chunk, s.output)?;
    }
    Ok(Exit::OK)
}

/// What the job wrote, to the stream it wrote it to; for programs a line of JSON on stdout.
pub(super) fn write_chunk(chunk: &LogChunk, output: OutputFormat) -> Result<(), CliError> {
    match output {
        OutputFormat::Json => {
            let stream = if chunk.stderr { "stderr" } else { "stdout" };
            let text = String::from_utf8_lossy(&chunk.data);
            print(&format!("{}\n", json!({ "stream": stream, "text": text })))
        }
        OutputFormat::Table if chunk.stderr => std::io::stderr()
            .lock()
            .write_all(&chunk.data)
            .map_err(CliError::io("cannot write to stderr")),
        OutputFormat::Table => print_bytes(&chunk.data),
    }
}
