//! Submission: defaults filled in from limit ranges, and a refusal with its reason where a job
//! could never run.

use super::draft::{Change, Draft};
use super::queue::Waits;
use super::{MAX_LIVE_JOBS, State};
use crate::lead::record::{ArrayRecord, JobRecord, Piece};
use gpuloom_api::Refusal;
use gpuloom_fleet::{
    Bytes, EventKind, Job, JobId, JobSpec, JobState, Kind, LimitRangeSpec, MilliGpu, Millis,
    PoolSpec, Problems, Resources,
};

/// Bytes of a job as stored that a store's record surely holds.
const MAX_SPEC_BYTES: usize = 512 * 1024;
/// Bytes of an array's elements together as the lead holds them in memory.
const MAX_ARRAY_BYTES: usize = 64 << 20;

/// What is submitted.
#[derive(Debug, Clone)]
pub(crate) struct Submit {
    pub(crate) spec: JobSpec,
    /// Repeating it gives the first one's jobs; 1 to 64 bytes.
    pub(crate) request_id: String,
}

// === impl State ===

impl State {
    /// Accepts a job, or an array of jobs, and answers with the ids.
    pub(crate) fn submit(
        &self,
        ask: &Submit,
        by: &str,
        now: Millis,
    ) -> Result<(Change, Vec<JobId>), Refusal> {
        let id = &ask.request_id;
        if id.is_empty() || id.len() > 64 || id.chars().any(char::is_control) {
            let fix = "give 1 to 64 bytes without control characters";
            return Err(Refusal::invalid_field(
                "request_id",
                id,
                "is not usable",
                fix,
            ));
        }
        let key = (ask.spec.tenant.clone(), id.clone());
        if let Some(number) = self.requests.get(&key) {
            let ids = self.job_numbered(*number).map(|r| r.job.id).collect();
            return Ok((Change::default(), ids));
        }
        let what = "the job";
        ask.spec.check().map_err(|p| Refusal::invalid(what, p))?;
        let mut spec = ask.spec.clone();
        let mut problems = self.unknown_names(&spec);
        if problems.0.is_empty() {
            self.apply_limit_ranges(&mut spec, &mut problems);
            self.check_quotas(&spec, &mut problems);
            self.check_pools(&spec, &mut problems);
            self.check_dependencies(&spec, &mut problems);
        }
        problems
            .into_result()
            .map_err(|p| Refusal::invalid(what, p))?;
        let count = spec.array.unwrap_or(1) as usize;
        if self.pending.len() + self.active.len() + count > MAX_LIVE_JOBS {
            let fix = "wait until some have ended";
            return Err(Refusal::limit(
                "the number of live jobs",
                MAX_LIVE_JOBS,
                fix,
            ));
        }
        let bytes = serde_json::to_vec(&spec).map_or(usize::MAX, |v| v.len());
        if bytes > MAX_SPEC_BYTES {
            let limit = format!("{MAX_SPEC_BYTES} bytes as JSON");
            return Err(Refusal::limit(
                "a job",
                limit,
                "shorten its command or environment",
            ));
        }
        if bytes.saturating_mul(count) > MAX_ARRAY_BYTES {
            let limit = format!("{MAX_ARRAY_BYTES} bytes over all its elements");
            let fix = "shorten its command or environment, or submit fewer elements at a time";
            return Err(Refusal::limit("an array", limit, fix));
        }
        Ok(self.accept(spec, id, by, now))
    }

    fn accept(
        &self,
        spec: JobSpec,
        request_id: &str,
        by: &str,
        now: Millis,
    ) -> (Change, Vec<JobId>) {
        let mut draft = Draft::new(self);
        let number = self.next_job;
        let (array, tenant) = (spec.array, spec.tenant.clone());
        let template = JobRecord {
            job: Job {
                id: JobId {
                    number,
                    index: None,
                },
                spec,
                submitted_at: now,
                state: JobState::Pending { since: now },
                failures: 0,
                preemptions: 0,
                attempts: Vec::new(),
                attempts_made: 0,
            },
            by: by.to_owned(),
            request_id: request_id.to_owned(),
            note: String::new(),
        };
        draft.put(Piece::NextJob(number + 1));
        let ids: Vec<JobId> = match array {
            None => vec![template.job.id],
            Some(count) => (0..count)
                .map(|i| JobId {
                    number,
                    index: Some(i),
                })
                .collect(),
        };
        match array {
            None => draft.put(Piece::Job(template)),
            Some(count) => draft.put(Piece::Array(ArrayRecord {
                number,
                count,
                template,
            })),
        }
        draft.event(EventKind::Submitted {
            job: JobId {
                number,
                index: None,
            },
            tenant,
            by: by.to_owned(),
        });
        (draft.finish(), ids)
    }

    fn unknown_names(&self, spec: &JobSpec) -> Problems {
        let mut p = Problems::default();
        match self.object(Kind::Tenant, spec.tenant.as_str()) {
            None => {
                let fix = "declare it with a gpuloom_tenant, or see `gpuloom quota`";
                p.add("tenant", &spec.tenant, "there is no such tenant", fix);
            }
            Some(record) if record.withdrawing => {
                let fix = "submit as another tenant";
                p.add("tenant", &spec.tenant, "is being destroyed", fix);
            }
            Some(_) => {}
        }
        if let Some(class) = &spec.priority_class
            && self.priority_class(Some(class)).is_none()
        {
            let fix = "use urgent, normal, background or a declared class";
            p.add(
                "priority_class",
                class,
                "there is no such priority class",
                fix,
            );
        }
        if let Some(name) = &spec.pool {
            match self.pool(name) {
                None => {
                    let names: Vec<_> = self.pool_specs().map(|(s, _)| s.name.as_str()).collect();
                    let fix = match names.len() {
                        0 => "no pool is declared yet".to_owned(),
                        _ => format!("there are: {}", names.join(", ")),
                    };
                    p.add("pool", name, "there is no such pool", fix);
                }
                Some((_, r)) if r.withdrawing => {
                    p.add("pool", name, "is being destroyed", "choose another pool");
                }
                Some(_) => {}
            }
        }
        p
    }

    fn limit_ranges_of<'a>(
        &'a self,
        spec: &'a JobSpec,
    ) -> impl Iterator<Item = &'a LimitRangeSpec> {
        let line = self.lineage(&spec.tenant);
        self.limit_ranges().filter(move |range| {
            let tenant = range.tenant.as_ref().is_none_or(|t| line.contains(&t));
            let pool = range.pool.is_none() || range.pool == spec.pool;
            tenant && pool
        })
    }

    /// Fills in defaults, the most specific range first, then holds the job against every range.
    fn apply_limit_ranges(&self, spec: &mut JobSpec, p: &mut Problems) {
        let asked = spec.clone();
        let mut ranges: Vec<&LimitRangeSpec> = self.limit_ranges_of(&asked).collect();
        ranges.sort_by_key(|r| {
            let tenant = r
                .tenant
                .as_ref()
                .map_or(0, |t| 2 + u8::from(*t == asked.tenant));
            (
                std::cmp::Reverse(tenant + u8::from(r.pool.is_some())),
                &r.name,
            )
        });
        for range in &ranges {
            let request = &mut spec.request;
            request.gpus = request.gpus.or(range.default.gpus);
            spec.walltime = spec.walltime.or(range.default_walltime);
        }
        for range in &ranges {
            let total = range.default.gpu_memory;
            let devices = spec.request.devices().max(1);
            let each = total.map(|t| Bytes(t.0 / devices));
            let request = &mut spec.request;
            request.memory_per_gpu = request.memory_per_gpu.or(each);
        }
        for range in ranges {
            check_range(spec, range, p);
        }
    }

    /// A request above a hard limit can never start.
    fn check_quotas(&self, spec: &JobSpec, p: &mut Problems) {
        let line = self.lineage(&spec.tenant);
        let ask = least_use(spec, self.least_memory(spec));
        for quota in self.quotas().filter(|q| line.contains(&&q.tenant)) {
            if quota.pool.is_some() && quota.pool != spec.pool {
                continue;
            }
            let fix = format!("ask for less, or raise limit of quota {}", quota.name);
            if let (Some(limit), Some(asked)) = (quota.limit.gpus, ask.gpus)
                && asked > limit
            {
                let message = format!(
                    "is above what quota {} lets tenant {} hold ({limit} GPUs)",
                    quota.name, quota.tenant
                );
                p.add("gpus", asked, message, fix.clone());
            }
            if let (Some(limit), Some(asked)) = (quota.limit.gpu_memory, ask.gpu_memory)
                && asked > limit
            {
                let message = format!(
                    "is above what quota {} lets tenant {} hold ({limit} of GPU memory)",
                    quota.name, quota.tenant
                );
                p.add("gpu_memory", asked, message, fix);
            }
        }
    }

    /// The least memory one device would give the job; `None` when no model is known.
    fn least_memory(&self, spec: &JobSpec) -> Option<Bytes> {
        if spec.request.memory_per_gpu.is_some() {
            return spec.request.memory_per_gpu;
        }
        self.pool_specs()
            .filter(|(s, _)| misfit(spec, s).is_none())
            .map(|(s, _)| s.gpu.model.memory().map(|m| spec.request.memory_on(m)))
            .min()
            .flatten()
    }

    /// Refuses what no declared pool could ever hold; a fleet without pools refuses nothing.
    fn check_pools(&self, spec: &JobSpec, p: &mut Problems) {
        let named = |s: &PoolSpec| spec.pool.as_ref().is_none_or(|n| *n == s.name);
        let misfits: Vec<(&PoolSpec, Option<Misfit>)> = self
            .pool_specs()
            .filter(|(s, r)| named(s) && !r.withdrawing)
            .map(|(s, _)| (s, misfit(spec, s)))
            .collect();
        if misfits.is_empty() || misfits.iter().any(|(_, m)| m.is_none()) {
            return;
        }
        let Some((pool, Some(why))) = misfits
            .into_iter()
            .max_by_key(|(_, m)| m.as_ref().map_or(0, |m| m.closeness))
        else {
            return;
        };
        let message = match spec.pool {
            Some(_) => format!("can never run in pool {}: {}", pool.name, why.message),
            None => format!(
                "can never run in any pool; nearest is {}: {}",
                pool.name, why.message
            ),
        };
        p.add(why.field, why.value, message, why.fix);
    }

    fn check_dependencies(&self, spec: &JobSpec, p: &mut Problems) {
        for dep in &spec.depends_on {
            let found = match dep.job.index {
                Some(_) => self.jobs.get(&dep.job),
                None => self.job_numbered(dep.job.number).next(),
            };
            let visible = found.is_some_and(|r| r.job.spec.tenant == spec.tenant);
            if !visible {
                let message = format!("tenant {} has no such job", spec.tenant);
                let fix =
                    "name a job of the same tenant; finished jobs are forgotten after a while";
                p.add("depends_on", dep.job, message, fix);
            }
        }
        if !p.0.is_empty() || spec.depends_on.is_empty() {
            return;
        }
        if let Waits::Never(why) = self.waits_of(&spec.depends_on) {
            p.add(
                "depends_on",
                "",
                format!("can never be met: {why}"),
                "leave it out",
            );
        }
    }

    fn waits_of(&self, deps: &[gpuloom_fleet::Dependency]) -> Waits {
        super::queue::waits(deps, |id| match id.index {
            Some(_) => self.jobs.get(&id).into_iter().collect(),
            None => self.job_numbered(id.number).collect(),
        })
    }
}

/// Why a pool can never hold a job.
struct Misfit {
    field: &'static str,
    value: String,
    message: String,
    fix: String,
    /// Larger: nearer to fitting.
    closeness: u8,
}

fn misfit(spec: &JobSpec, pool: &PoolSpec) -> Option<Misfit> {
    let request = &spec.request;
    if let Some(model) = &request.model
        && *model != pool.gpu.model
    {
        return Some(Misfit {
            field: "gpu_model",
            value: model.to_string(),
            message: format!("its GPUs are {}", pool.gpu.model),
            fix: "name a model the fleet has, or leave it out".to_owned(),
            closeness: 1,
        });
    }
    if request.devices() > u64::from(pool.gpu.per_node) {
        return Some(Misfit {
            field: "gpus",
            value: request.gpus_or_one().to_string(),
            message: format!("its nodes have {} GPUs each", pool.gpu.per_node),
            fix: format!(
                "ask for at most {}; a job's GPUs are all on one node",
                pool.gpu.per_node
            ),
            closeness: 2,
        });
    }
    if let (Some(asked), Some(has)) = (request.memory_per_gpu, pool.gpu.model.memory())
        && asked > has
    {
        return Some(Misfit {
            field: "gpu_memory",
            value: asked.to_string(),
            message: format!("a {} has {has}", pool.gpu.model),
            fix: format!("ask for at most {has} on each GPU"),
            closeness: 3,
        });
    }
    None
}

/// What the job holds at least.
fn least_use(spec: &JobSpec, memory: Option<Bytes>) -> Resources {
    let devices = spec.request.devices();
    Resources {
        gpus: Some(spec.request.gpus_or_one()),
        gpu_memory: memory.map(|m| Bytes(m.0.saturating_mul(devices))),
    }
}

fn check_range(spec: &JobSpec, range: &LimitRangeSpec, p: &mut Problems) {
    let name = &range.name;
    let gpus = spec.request.gpus_or_one();
    let out = |what: &str, bound: String| format!("is {what} limit range {name} allows ({bound})");
    bounds(p, "gpus", gpus, range.min.gpus, range.max.gpus, &out);
    let devices = spec.request.devices();
    if let Some(each) = spec.request.memory_per_gpu {
        let total = Bytes(each.0.saturating_mul(devices));
        bounds(
            p,
            "gpu_memory",
            total,
            range.min.gpu_memory,
            range.max.gpu_memory,
            &out,
        );
    } else if range.max.gpu_memory.is_some() && gpus >= MilliGpu::ONE {
        let message = format!("must be stated: limit range {name} bounds it");
        p.add(
            "gpu_memory",
            "",
            message,
            "state the memory the job needs on each GPU",
        );
    }
    if let Some(max) = range.max_walltime {
        match spec.walltime {
            None => {
                let message = format!("must be stated: limit range {name} allows at most {max}");
                p.add("walltime", "", message, "state a walltime");
            }
            Some(asked) if asked > max => {
                let message = out("above what", max.to_string());
                p.add("walltime", asked, message, format!("use at most {max}"));
            }
            Some(_) => {}
        }
    }
}

fn bounds<T: PartialOrd + Copy + std::fmt::Display>(
    p: &mut Problems,
    field: &str,
    value: T,
    min: Option<T>,
    max: Option<T>,
    out: &dyn Fn(&str, String) -> String,
) {
    if let Some(min) = min.filter(|m| value < *m) {
        p.add(
            field,
            value,
            out("below what", min.to_string()),
            format!("ask for at least {min}"),
        );
    }
    if let Some(max) = max.filter(|m| value > *m) {
        p.add(
            field,
            value,
            out("above what", max.to_string()),
            format!("ask for at most {max}"),
        );
    }
}
