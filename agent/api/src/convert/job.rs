//! Jobs, attempts and grants.

use super::{Fields, sorted, unsorted};
use crate::proto;
use gpuloom_fleet::{
    Attempt, AttemptState, Bytes, Dependency, DependencyCondition, DeviceGrant, EndCause, Exit,
    GpuRequest, Job, JobSpec, JobState, MilliGpu, Problems, Seconds,
};
use proto::dependency::Condition;

/// What the lead knows of a job beyond its record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobExtras {
    /// The value of its priority class.
    pub priority: i32,
    /// Pending: why it waits and what would unblock it. Ended: why. Most telling first.
    pub why: Vec<String>,
    /// Pending: its place in the queue, from 1.
    pub position: Option<u64>,
    /// Device memory its processes use now; `None` when nobody knows.
    pub memory_used: Option<Bytes>,
}

// === JobSpec ===

impl From<&JobSpec> for proto::JobSpec {
    fn from(s: &JobSpec) -> Self {
        Self {
            name: s.name.clone(),
            tenant: s.tenant.to_string(),
            priority_class: s.priority_class.as_ref().map(ToString::to_string),
            pool: s.pool.as_ref().map(ToString::to_string),
            command: s.command.clone(),
            env: unsorted(&s.env),
            workdir: s.workdir.clone(),
            gpus_milli: s.request.gpus.map(|g| g.0),
            memory_per_gpu_bytes: s.request.memory_per_gpu.map(|b| b.0),
            gpu_model: s.request.model.as_ref().map(ToString::to_string),
            walltime_s: s.walltime.map(|w| w.0),
            retries: s.retries,
            array: s.array,
            depends_on: s.depends_on.iter().map(Into::into).collect(),
            labels: unsorted(&s.labels),
            grace_s: s.grace.map(|g| g.0),
        }
    }
}

impl TryFrom<proto::JobSpec> for JobSpec {
    type Error = Problems;

    fn try_from(s: proto::JobSpec) -> Result<Self, Problems> {
        let mut f = Fields::default();
        let tenant = f.id("tenant", &s.tenant);
        let priority_class = f.optional_id("priority_class", s.priority_class.as_deref());
        let pool = f.optional_id("pool", s.pool.as_deref());
        let model = f.optional_id("gpu_model", s.gpu_model.as_deref());
        let mut depends_on = Vec::with_capacity(s.depends_on.len());
        for (i, d) in s.depends_on.into_iter().enumerate() {
            let job = f.id(&format!("depends_on[{i}].job"), &d.job);
            let field = format!("depends_on[{i}].condition");
            let condition = f.choice(&field, d.condition, |c| match c {
                Condition::Unspecified => None,
                Condition::Succeeded => Some(DependencyCondition::Succeeded),
                Condition::Failed => Some(DependencyCondition::Failed),
                Condition::Ended => Some(DependencyCondition::Ended),
            });
            if let (Some(job), Some(condition)) = (job, condition) {
                depends_on.push(Dependency { job, condition });
            }
        }
        let spec = (|| {
            Some(Self {
                name: s.name,
                tenant: tenant?,
                priority_class: priority_class?,
                pool: pool?,
                command: s.command,
                env: sorted(s.env),
                workdir: s.workdir,
                request: GpuRequest {
                    gpus: s.gpus_milli.map(MilliGpu),
                    memory_per_gpu: s.memory_per_gpu_bytes.map(Bytes),
                    model: model?,
                },
                walltime: s.walltime_s.map(Seconds),
                retries: s.retries,
                array: s.array,
                depends_on,
                labels: sorted(s.labels),
                grace: s.grace_s.map(Seconds),
            })
        })();
        f.finish(spec)
    }
}

impl From<&Dependency> for proto::Dependency {
    fn from(d: &Dependency) -> Self {
        Self {
            job: d.job.to_string(),
            condition: match d.condition {
                DependencyCondition::Succeeded => Condition::Succeeded,
                DependencyCondition::Failed => Condition::Failed,
                DependencyCondition::Ended => Condition::Ended,
            }
            .into(),
        }
    }
}

// === DeviceGrant ===

impl From<&DeviceGrant> for proto::DeviceGrant {
    fn from(g: &DeviceGrant) -> Self {
        Self {
            device: g.device.to_string(),
            share_milli: g.share.0,
            memory_bytes: g.memory.0,
        }
    }
}

impl TryFrom<proto::DeviceGrant> for DeviceGrant {
    type Error = Problems;

    fn try_from(g: proto::DeviceGrant) -> Result<Self, Problems> {
        let mut f = Fields::default();
        let grant = f.id("device", &g.device).map(|device| Self {
            device,
            share: MilliGpu(g.share_milli),
            memory: Bytes(g.memory_bytes),
        });
        f.finish(grant)
    }
}

// === Attempt ===

impl From<&Attempt> for proto::AttemptView {
    fn from(a: &Attempt) -> Self {
        let mut view = Self {
            number: a.number,
            node: a.node.to_string(),
            grants: a.grants.iter().map(Into::into).collect(),
            granted_at_ms: a.granted_at.0,
            state: String::new(),
            started_at_ms: None,
            ended_at_ms: None,
            exit_code: None,
            signal: None,
            reason: String::new(),
        };
        let word = match &a.state {
            AttemptState::Granted => "granted",
            AttemptState::Starting => "starting",
            AttemptState::Running { since } => {
                view.started_at_ms = Some(since.0);
                "running"
            }
            AttemptState::Stopping { since, cause, .. } => {
                view.started_at_ms = since.map(|s| s.0);
                view.reason = cause.to_string();
                "stopping"
            }
            AttemptState::Ended(end) => {
                view.started_at_ms = end.started_at.map(|s| s.0);
                view.ended_at_ms = Some(end.ended_at.0);
                match end.exit {
                    Some(Exit::Code(code)) => view.exit_code = Some(code),
                    Some(Exit::Signal(signal)) => view.signal = Some(signal),
                    None => {}
                }
                view.reason = end_reason(&end.cause);
                "ended"
            }
        };
        view.state = word.to_owned();
        view
    }
}

fn end_reason(cause: &EndCause) -> String {
    match cause {
        EndCause::Exited => String::new(),
        EndCause::Stopped { why } => why.to_string(),
        EndCause::LaunchFailed { message } => format!("could not be started: {message}"),
        EndCause::Lost { message } => format!("lost: {message}"),
    }
}

// === Job ===

/// The view of a job, from its record and what the lead knows beyond it. A pending job's state is
/// since its submission or its last attempt's end, an active one's since its last grant.
pub fn job_view(job: &Job, extras: JobExtras) -> proto::JobView {
    let since = match job.state {
        JobState::Pending { since } => since,
        JobState::Active { .. } => job
            .attempts
            .last()
            .map_or(job.submitted_at, |a| a.granted_at),
        JobState::Succeeded { at }
        | JobState::Failed { at }
        | JobState::TimedOut { at }
        | JobState::Cancelled { at } => at,
    };
    proto::JobView {
        id: job.id.to_string(),
        spec: Some((&job.spec).into()),
        submitted_at_ms: job.submitted_at.0,
        state: job.state.as_str().to_owned(),
        state_since_ms: since.0,
        priority: extras.priority,
        failures: job.failures,
        preemptions: job.preemptions,
        attempts: job.attempts.iter().map(Into::into).collect(),
        why: extras.why,
        position: extras.position,
        memory_used_bytes: extras.memory_used.map(|b| b.0),
    }
}
