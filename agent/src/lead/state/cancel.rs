//! Cancelling: a waiting job ends at once, a running one when its processes are gone.

use super::State;
use super::draft::{Change, Draft};
use gpuloom_api::Refusal;
use gpuloom_fleet::{JobId, JobState, Millis, StopCause, TenantName};

// === impl Draft ===

impl Draft<'_> {
    /// Cancels one job; false when it had ended already or never was.
    pub(super) fn cancel(&mut self, id: JobId, by: &str, now: Millis) -> bool {
        self.next_part();
        let Some(mut record) = self.job(id).cloned() else {
            return false;
        };
        match record.job.state {
            JobState::Pending { .. } => {
                self.end_pending(id, &format!("cancelled by {by}"), now);
                true
            }
            JobState::Active { cancelling } => {
                if !cancelling {
                    record.job.state = JobState::Active { cancelling: true };
                    self.put_job(record);
                    self.stop(id, &StopCause::Cancelled { by: by.to_owned() }, now);
                }
                true
            }
            _ => false,
        }
    }
}

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
            if draft.cancel(id, by, now) {
                cancelled += 1;
            } else {
                ended += 1;
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
