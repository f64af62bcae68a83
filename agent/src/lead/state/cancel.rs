//! Cancelling: a waiting job ends at once, a running one when its processes are gone.

use super::State;
use super::draft::{Change, Draft};
use gpuloom_api::Refusal;
use gpuloom_fleet::{JobId, JobState, Millis, StopCause, TenantName};

// === impl State ===

impl State {
    /// Cancels a job, or every element of an array. `tenant` restricts whose. Answers how many
    /// were cancelled and how many had ended already.
    pub(crate) fn cancel(
        &self,
        id: JobId,
        tenant: Option<&TenantName>,
        by: &str,
        now: Millis,
    ) -> Result<(Change, (u64, u64)), Refusal> {
        let ids = self.visible(id, tenant)?;
        let mut draft = Draft::new(self);
        let (mut cancelled, mut ended) = (0, 0);
        for id in ids {
            draft.next_part();
            let Some(record) = draft.job(id).cloned() else {
                continue;
            };
            match record.job.state {
                JobState::Pending { .. } => {
                    draft.end_pending(id, &format!("cancelled by {by}"), now);
                    cancelled += 1;
                }
                JobState::Active { cancelling } => {
                    if !cancelling {
                        let mut record = record;
                        record.job.state = JobState::Active { cancelling: true };
                        draft.put_job(record);
                        draft.stop(id, &StopCause::Cancelled { by: by.to_owned() }, now);
                    }
                    cancelled += 1;
                }
                _ => ended += 1,
            }
        }
        Ok((draft.finish(), (cancelled, ended)))
    }

    /// The job, or an array's elements, as far as `tenant` may see them.
    pub(crate) fn visible(
        &self,
        id: JobId,
        tenant: Option<&TenantName>,
    ) -> Result<Vec<JobId>, Refusal> {
        let found: Vec<JobId> = match id.index {
            Some(_) => self.jobs.get(&id).into_iter().collect::<Vec<_>>(),
            None => self.job_numbered(id.number).collect(),
        }
        .into_iter()
        .filter(|r| tenant.is_none_or(|t| r.job.spec.tenant == *t))
        .map(|r| r.job.id)
        .collect();
        if found.is_empty() {
            let fix = "list jobs with `gpuloom jobs`; finished jobs are forgotten after a while";
            return Err(Refusal::not_found("job", id, fix));
        }
        Ok(found)
    }
}
