//! `run`: a job from its submission to its end, as if it ran here.

use super::Session;
use super::jobs::{submitted, write_chunk};
use crate::args::OutputFormat;
use crate::exit::{CliError, Exit};
use crate::output::note;
use crate::render::jobs::ending;
use crate::submit::SubmitArgs;
use gpuloom_api::proto::{AttemptView, JobView, LogChunk, ReadLogsRequest};
use gpuloom_api::{CallError, Updates};
use gpuloom_fleet::JobId;
use std::time::Duration;

/// How often a lost connection is tried again, one second apart, before `run` gives up.
const MAX_RECONNECTS: u32 = 60;
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
/// How often output that cannot be read is asked for again.
const MAX_LOG_FAILURES: u32 = 5;
/// How long what the job wrote last may take to arrive after its end.
const LAST_OUTPUT: Duration = Duration::from_secs(10);

/// A job being followed.
struct Follow<'a> {
    s: &'a Session,
    id: JobId,
    /// What was last said about the job.
    said: String,
    log: Option<Log>,
    /// The attempt whose output was shown last.
    shown: u32,
    /// How often in a row its output could not be read.
    log_failures: u32,
    cancelled: bool,
    last: Option<JobView>,
    /// How long to wait before a lost connection is tried again.
    pause: Duration,
}

/// The output of one attempt.
struct Log {
    updates: Updates<LogChunk>,
    attempt: u32,
    place: Place,
}

/// How far an attempt's output was shown, in bytes of stdout and stderr.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    /// Received since the stream was opened.
    received: [usize; 2],
    /// Still to skip: shown before the stream was opened anew.
    skip: [usize; 2],
}

pub(super) async fn run(s: &Session, args: &SubmitArgs) -> Result<Exit, CliError> {
    run_with(s, args, RECONNECT_AFTER).await
}

/// As [`run`], with another pause before a lost connection is tried again.
pub(super) async fn run_with(
    s: &Session,
    args: &SubmitArgs,
    pause: Duration,
) -> Result<Exit, CliError> {
    if args.array.is_some() {
        return Err(CliError::Usage(
            "`run` follows one job: use `submit` for an array".to_owned(),
        ));
    }
    let ids = submitted(s, args).await?;
    let id = *ids
        .first()
        .ok_or_else(|| CliError::Failed("the fleet accepted no job".to_owned()))?;
    note(&format!("job {id} submitted"));
    let mut follow = Follow {
        s,
        id,
        said: String::new(),
        log: None,
        shown: 0,
        log_failures: 0,
        cancelled: false,
        last: None,
        pause,
    };
    follow.until_it_ends().await
}

// === impl Follow ===

impl Follow<'_> {
    async fn until_it_ends(&mut self) -> Result<Exit, CliError> {
        let mut failures = 0;
        loop {
            let error = match self.watch(&mut failures).await {
                Ok(exit) => return Ok(exit),
                Err(CliError::Call(error)) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            failures += 1;
            if failures > MAX_RECONNECTS {
                let id = self.id;
                note(&format!(
                    "job {id} goes on: `gpuloom logs -f {id}` shows more"
                ));
                return Err(error.into());
            }
            if failures == 1 {
                note(&format!("{error}; trying again"));
            }
            tokio::select! {
                () = tokio::time::sleep(self.pause) => {}
                _ = tokio::signal::ctrl_c() => return Ok(self.leave()),
            }
        }
    }

    /// Follows until the job has ended and its output is shown, or the connection breaks.
    async fn watch(&mut self, failures: &mut u32) -> Result<Exit, CliError> {
        let mut views = self.s.client.watch_job(self.id).await?;
        if let Some(log) = &self.log {
            self.open_log(log.attempt, log.place.again()).await?;
        }
        loop {
            tokio::select! {
                view = views.next() => match view? {
                    Some(view) => {
                        *failures = 0;
                        self.see(view).await?;
                    }
                    None => break,
                },
                chunk = next_chunk(&mut self.log) => self.write(chunk).await?,
                _ = tokio::signal::ctrl_c() => {
                    if self.interrupted().await? {
                        return Ok(Exit::INTERRUPTED);
                    }
                }
            }
        }
        let drained = async {
            while self.log.is_some() {
                let chunk = next_chunk(&mut self.log).await;
                self.write(chunk).await?;
            }
            Ok::<(), CliError>(())
        };
        if let Ok(written) = tokio::time::timeout(LAST_OUTPUT, drained).await {
            written?;
        }
        match &self.last {
            Some(view) => Ok(self.finish(view)),
            None => Err(CallError::NoAnswer {
                why: "the fleet ended the watch without a word".to_owned(),
            }
            .into()),
        }
    }

    /// The first Ctrl-C cancels, the second leaves: true.
    async fn interrupted(&mut self) -> Result<bool, CliError> {
        if self.cancelled {
            self.leave();
            return Ok(true);
        }
        note(&format!(
            "cancelling job {}; Ctrl-C again leaves it to itself",
            self.id
        ));
        self.s.client.cancel(self.id).await?;
        self.cancelled = true;
        Ok(false)
    }

    fn leave(&self) -> Exit {
        note(&format!(
            "left; `gpuloom why {}` tells how it goes on",
            self.id
        ));
        Exit::INTERRUPTED
    }

    async fn see(&mut self, view: JobView) -> Result<(), CliError> {
        let now = standing(&view);
        if now != self.said {
            note(&format!("job {}: {now}", self.id));
            self.said = now;
        }
        self.last = Some(view);
        self.open_next().await
    }

    /// Opens the output of the next attempt that has begun, unless one is being shown.
    async fn open_next(&mut self) -> Result<(), CliError> {
        let next = self.last.as_ref().and_then(|v| to_show(v, self.shown));
        match next {
            Some(attempt) if self.log.is_none() => self.open_log(attempt, Place::default()).await,
            _ => Ok(()),
        }
    }

    async fn open_log(&mut self, attempt: u32, place: Place) -> Result<(), CliError> {
        let request = ReadLogsRequest {
            id: self.id.to_string(),
            follow: true,
            attempt,
            ..ReadLogsRequest::default()
        };
        let updates = match self.s.client.logs(request).await {
            Ok(updates) => updates,
            Err(error) => return self.log_trouble(attempt, error),
        };
        self.shown = attempt;
        self.log = Some(Log {
            updates,
            attempt,
            place,
        });
        Ok(())
    }

    async fn write(&mut self, chunk: Result<Option<LogChunk>, CallError>) -> Result<(), CliError> {
        let mut chunk = match chunk {
            Ok(Some(chunk)) => chunk,
            Ok(None) => {
                self.log = None;
                return self.open_next().await;
            }
            Err(error) => return self.log_trouble(self.shown, error),
        };
        self.log_failures = 0;
        if let Some(log) = &mut self.log {
            log.place.pass(&mut chunk);
        }
        write_chunk(&chunk, self.s.output)
    }

    /// Output that cannot be read (its node is gone, say) must not keep `run` from the job's end:
    /// what may pass is tried again a few times, then the attempt's output is given up.
    fn log_trouble(&mut self, attempt: u32, error: CallError) -> Result<(), CliError> {
        self.log_failures += 1;
        if error.is_transient() && self.log_failures <= MAX_LOG_FAILURES {
            return Err(error.into());
        }
        note(&format!(
            "the output of attempt {attempt} cannot be read: {error}"
        ));
        self.log_failures = 0;
        self.shown = attempt;
        self.log = None;
        Ok(())
    }

    fn finish(&self, view: &JobView) -> Exit {
        if self.s.output == OutputFormat::Table && view.state != "succeeded" {
            for why in &view.why {
                note(&format!("job {}: {why}", self.id));
            }
        }
        if self.cancelled && view.state == "cancelled" {
            return Exit::INTERRUPTED;
        }
        end_of(view)
    }
}

// === impl Place ===

impl Place {
    /// Where to go on when the output is read from its beginning again.
    fn again(self) -> Self {
        Self {
            received: [0, 0],
            skip: [0, 1].map(|i| self.received[i] + self.skip[i]),
        }
    }

    /// Counts a chunk, and leaves in it what was not shown yet.
    fn pass(&mut self, chunk: &mut LogChunk) {
        let stream = usize::from(chunk.stderr);
        let old = self.skip[stream].min(chunk.data.len());
        self.received[stream] += chunk.data.len();
        self.skip[stream] -= old;
        chunk.data.drain(..old);
    }
}

/// The next output; never, while no attempt's output is being read.
async fn next_chunk(log: &mut Option<Log>) -> Result<Option<LogChunk>, CallError> {
    match log {
        Some(log) => log.updates.next().await,
        None => std::future::pending().await,
    }
}

/// The first attempt after `shown` that has begun to run.
fn to_show(view: &JobView, shown: u32) -> Option<u32> {
    let begun = |a: &&AttemptView| a.number > shown && a.started_at_ms.is_some();
    view.attempts.iter().find(begun).map(|a| a.number)
}

/// Where the job stands, in a few words.
fn standing(view: &JobView) -> String {
    let last = view.attempts.last();
    match (view.state.as_str(), last) {
        ("pending", _) => match view.why.first() {
            Some(why) => format!("waiting: {why}"),
            None => "waiting".to_owned(),
        },
        ("active", Some(a)) if a.reason.is_empty() => format!("{} on {}", a.state, a.node),
        ("active", Some(a)) => format!("{} on {}: {}", a.state, a.node, a.reason),
        (state, Some(a)) if a.ended_at_ms.is_some() => format!("{state} ({})", ending(a)),
        (state, _) => state.to_owned(),
    }
}

/// The exit code of a job that has ended: its own, 128 + n for signal n, else 1.
fn end_of(view: &JobView) -> Exit {
    if view.state == "succeeded" {
        return Exit::OK;
    }
    let last = view.attempts.last();
    let code = last.and_then(|a| a.exit_code.or(a.signal.map(|n| n.saturating_add(128))));
    match code.and_then(|c| u8::try_from(c).ok()) {
        Some(0) | None => Exit::FAILED,
        Some(code) => Exit(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(state: &str, exit: Option<i32>, signal: Option<i32>) -> JobView {
        JobView {
            state: state.to_owned(),
            attempts: vec![AttemptView {
                number: 1,
                node: "n1".into(),
                state: "ended".into(),
                started_at_ms: Some(1),
                ended_at_ms: Some(2),
                exit_code: exit,
                signal,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn run_ends_as_its_job_did() {
        for (state, exit, signal, code) in [
            ("succeeded", Some(0), None, 0),
            ("failed", Some(3), None, 3),
            ("failed", Some(255), None, 255),
            ("failed", None, Some(9), 137),
            ("timed_out", None, Some(15), 143),
            ("timed_out", Some(0), None, 1),
            ("cancelled", None, None, 1),
            ("failed", Some(-1), None, 1),
        ] {
            assert_eq!(
                end_of(&view(state, exit, signal)),
                Exit(code),
                "{state} {exit:?} {signal:?}"
            );
        }
        assert_eq!(end_of(&JobView::default()), Exit::FAILED);
    }

    #[test]
    fn the_output_of_an_attempt_is_shown_once_it_runs() {
        let mut job = view("active", None, None);
        assert_eq!(to_show(&job, 0), Some(1));
        assert_eq!(to_show(&job, 1), None);
        job.attempts.push(AttemptView {
            number: 2,
            ..Default::default()
        });
        assert_eq!(to_show(&job, 1), None);
        job.attempts[1].started_at_ms = Some(5);
        assert_eq!(to_show(&job, 1), Some(2));
        assert_eq!(to_show(&job, 0), Some(1));
    }

    #[test]
    fn output_is_shown_once_however_often_it_is_read() {
        let text = b"0123456789";
        let mut shown = Vec::new();
        let mut place = Place::default();
        for upto in [4, 2, 10] {
            for piece in text[..upto].chunks(3) {
                let mut chunk = LogChunk {
                    stderr: true,
                    data: piece.to_vec(),
                };
                place.pass(&mut chunk);
                shown.extend(chunk.data);
            }
            place = place.again();
        }
        assert_eq!(shown, text);
    }

    #[test]
    fn where_a_job_stands_is_told_in_a_few_words() {
        let mut job = view("failed", Some(3), None);
        assert_eq!(standing(&job), "failed (exit 3)");
        job.state = "active".into();
        job.attempts[0].state = "running".into();
        assert_eq!(standing(&job), "running on n1");
        job.state = "pending".into();
        job.why = vec!["no free GPU of model T4".into()];
        assert_eq!(standing(&job), "waiting: no free GPU of model T4");
    }
}
