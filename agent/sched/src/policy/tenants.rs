//! Each tenant's jobs in order of arrival, and who has any.

use super::jobs::Fcfs;
use super::{Job, MAX_TENANTS};

/// The lines of all tenants.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
    len: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) jobs: Fcfs,
    /// In proportion to the others', at least 1.
    pub(super) weight: u64,
}

// === impl Lines ===

impl Lines {
    /// Adds a job; `true` when its tenant had none. Tenants at or above the limit share the last line.
    pub(super) fn push(&mut self, job: Job) -> bool {
        let line = self.line(job.tenant);
        let first = line.jobs.is_empty();
        line.jobs.push(job);
        self.len += 1;
        first
    }

    /// The tenant's next job; `true` when it has more.
    pub(super) fn pick(&mut self, tenant: u32) -> Option<(Job, bool)> {
        let line = self.line(tenant);
        let job = line.jobs.pick()?;
        let more = !line.jobs.is_empty();
        self.len -= 1;
        Some((job, more))
    }

    pub(super) fn line(&mut self, tenant: u32) -> &mut Line {
        let at = (tenant as usize).min(MAX_TENANTS - 1);
        while self.lines.len() <= at {
            self.lines.push(Line {
                jobs: Fcfs::default(),
                weight: 1,
            });
        }
        &mut self.lines[at]
    }

    pub(super) fn waits(&mut self, tenant: u32) -> bool {
        !self.line(tenant).jobs.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}
