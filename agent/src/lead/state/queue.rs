//! The end of attempts and jobs, and what follows: retries, dependents, final states.

use super::draft::Draft;
use super::{ATTEMPTS_KEPT, State};
use crate::lead::record::JobRecord;
use gpuloom_fleet::{
    AttemptEnd, AttemptId, AttemptState, DependencyCondition, EndCause, EventKind, Exit, JobId,
    JobState, Millis, Seconds, StopCause,
};

/// Longest wait before a retry.
const MAX_BACKOFF_S: u64 = 60;

/// Where a job's dependencies stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Every one is met.
    Met,
    /// These jobs have to end first.
    For(Vec<JobId>),
    /// One can never be met; the text says which and why.
    Never(String),
}

// === impl Draft ===

impl Draft<'_> {
    /// Tells a job's live attempt to stop; nothing happens when it has none or was told already.
    pub(super) fn stop(&mut self, id: JobId, cause: &StopCause, now: Millis) -> bool {
        let Some(mut record) = self.job(id).cloned() else {
            return false;
        };
        let priority = self.priority(&record);
        let Some(attempt) = record.job.attempts.last_mut().filter(|a| a.is_live()) else {
            return false;
        };
        if attempt.is_stopping() {
            return false;
        }
        let since = match attempt.state {
            AttemptState::Running { since } => Some(since),
            _ => None,
        };
        attempt.state = AttemptState::Stopping {
            since,
            cause: cause.clone(),
            at: now,
        };
        let number = attempt.number;
        let by_priority = match cause {
            StopCause::Preempted { by } | StopCause::Reclaimed { by } => {
                self.job(*by).map(|r| self.priority(r))
            }
            _ => None,
        };
        self.put_job(record);
        self.event(EventKind::Stopping {
            attempt: AttemptId { job: id, number },
            cause: cause.clone(),
            priority,
            by_priority,
        });
        true
    }

    /// The job's priority now.
    pub(super) fn priority(&self, record: &JobRecord) -> i32 {
        let class = record.job.spec.priority_class.as_ref();
        self.state.priority_class(class).map_or(0, |c| c.value)
    }

    /// The job's live attempt has ended: frees what it held and decides what becomes of the job.
    pub(super) fn end_attempt(&mut self, id: JobId, end: AttemptEnd, now: Millis) {
        let Some(mut record) = self.job(id).cloned() else {
            return;
        };
        let JobState::Active { cancelling } = record.job.state else {
            return;
        };
        let Some(attempt) = record.job.attempts.last_mut().filter(|a| a.is_live()) else {
            return;
        };
        attempt.state = AttemptState::Ended(end.clone());
        let number = attempt.number;
        let next = after(&mut record, &end, cancelling, now);
        record.job.state = next;
        let excess = record.job.attempts.len().saturating_sub(ATTEMPTS_KEPT);
        record.job.attempts.drain(..excess);
        self.put_job(record);
        self.event(EventKind::Ended {
            attempt: AttemptId { job: id, number },
            exit: end.exit,
            end: end.cause,
        });
        if next.is_final() {
            self.event(EventKind::Finished {
                job: id,
                state: next,
            });
            self.settle(id, now);
        }
    }

    /// Ends a job that has no live attempt.
    pub(super) fn end_pending(&mut self, id: JobId, note: &str, now: Millis) {
        let Some(mut record) = self.job(id).cloned() else {
            return;
        };
        if !matches!(record.job.state, JobState::Pending { .. }) {
            return;
        }
        let state = JobState::Cancelled { at: now };
        record.job.state = state;
        note.clone_into(&mut record.note);
        self.put_job(record);
        self.event(EventKind::Finished { job: id, state });
        self.settle(id, now);
    }

    /// Cancels, one after the other, every pending job that a final job makes impossible.
    fn settle(&mut self, ended: JobId, now: Millis) {
        let mut work = vec![ended];
        while let Some(done) = work.pop() {
            let Some(waiting) = self.state.dependents.get(&done.number) else {
                continue;
            };
            for id in waiting.clone() {
                let Some(record) = self.job(id) else { continue };
                if !matches!(record.job.state, JobState::Pending { .. }) {
                    continue;
                }
                let Waits::Never(why) = self.waits(record) else {
                    continue;
                };
                let mut record = record.clone();
                let state = JobState::Cancelled { at: now };
                record.job.state = state;
                record.note = why;
                self.next_part();
                self.put_job(record);
                self.event(EventKind::Finished { job: id, state });
                work.push(id);
            }
        }
    }

    fn waits(&self, record: &JobRecord) -> Waits {
        let deps = &record.job.spec.depends_on;
        waits(deps, |id| match id.index {
            Some(_) => self.job(id).into_iter().collect(),
            None => self.job_numbered(id.number),
        })
    }
}

// === impl State ===

impl State {
    /// Where the job's dependencies stand.
    pub(crate) fn waits(&self, record: &JobRecord) -> Waits {
        waits(&record.job.spec.depends_on, |id| match id.index {
            Some(_) => self.jobs.get(&id).into_iter().collect(),
            None => self.job_numbered(id.number).collect(),
        })
    }
}

pub(super) fn waits<'a>(
    deps: &[gpuloom_fleet::Dependency],
    jobs: impl Fn(JobId) -> Vec<&'a JobRecord>,
) -> Waits {
    let mut open = Vec::new();
    for dep in deps {
        let found = jobs(dep.job);
        if found.is_empty() {
            return Waits::Never(format!("it waited for job {}, which is gone", dep.job));
        }
        for record in found {
            let job = &record.job;
            let succeeded = matches!(job.state, JobState::Succeeded { .. });
            if !job.state.is_final() {
                open.push(job.id);
                continue;
            }
            let state = job.state.as_str();
            let impossible = match dep.condition {
                DependencyCondition::Succeeded => !succeeded,
                DependencyCondition::Failed => succeeded,
                DependencyCondition::Ended => false,
            };
            if impossible {
                let wanted = match dep.condition {
                    DependencyCondition::Failed => "fail",
                    _ => "succeed",
                };
                let why = format!("it waited for job {} to {wanted}, which {state}", job.id);
                return Waits::Never(why);
            }
        }
    }
    if open.is_empty() {
        Waits::Met
    } else {
        Waits::For(open)
    }
}

/// What becomes of a job when its attempt has ended; counts failures and preemptions.
fn after(record: &mut JobRecord, end: &AttemptEnd, cancelling: bool, now: Millis) -> JobState {
    let job = &mut record.job;
    match &end.cause {
        EndCause::Exited if end.exit == Some(Exit::Code(0)) => JobState::Succeeded { at: now },
        _ if cancelling => JobState::Cancelled { at: now },
        EndCause::Stopped { why } => match why {
            StopCause::Cancelled { .. } => JobState::Cancelled { at: now },
            StopCause::Walltime => JobState::TimedOut { at: now },
            StopCause::Preempted { .. }
            | StopCause::Reclaimed { .. }
            | StopCause::OverQuota { .. }
            | StopCause::Drained => {
                job.preemptions = job.preemptions.saturating_add(1);
                JobState::Pending { since: now }
            }
            StopCause::MemoryExceeded { .. } => failed(job, now),
        },
        EndCause::Exited | EndCause::LaunchFailed { .. } | EndCause::Lost { .. } => {
            failed(job, now)
        }
    }
}

fn failed(job: &mut gpuloom_fleet::Job, now: Millis) -> JobState {
    job.failures = job.failures.saturating_add(1);
    if job.failures <= job.spec.retries {
        JobState::Pending { since: now }
    } else {
        JobState::Failed { at: now }
    }
}

/// When a job that failed may be tried again: 1, 2, 4, ... 60 s after its last failure.
pub(crate) fn not_before(record: &JobRecord) -> Option<Millis> {
    let job = &record.job;
    let JobState::Pending { since } = job.state else {
        return None;
    };
    let AttemptState::Ended(end) = &job.attempts.last()?.state else {
        return None;
    };
    let preempted = match &end.cause {
        EndCause::Stopped { why } => !matches!(why, StopCause::MemoryExceeded { .. }),
        _ => false,
    };
    if preempted || job.failures == 0 {
        return None;
    }
    let exponent = (job.failures - 1).min(6);
    let wait = (1u64 << exponent).min(MAX_BACKOFF_S);
    Some(since.plus(Seconds(wait)))
}
