//! From flags to a job.

use crate::exit::CliError;
use clap::Args;
use gpuloom_fleet::{
    Bytes, Dependency, DependencyCondition, GpuModel, GpuRequest, JobSpec, MilliGpu, PoolName,
    PriorityClassName, Seconds, TenantName,
};

/// A job.
#[derive(Debug, Clone, Args)]
pub struct SubmitArgs {
    /// Whose job it is; a token's own tenant when left out
    #[arg(long)]
    pub tenant: Option<TenantName>,
    /// Whole GPUs (1, 2, ...) or a share of one (0.5); default: the limit range's, or 1
    #[arg(long, value_name = "N")]
    pub gpus: Option<MilliGpu>,
    /// Memory on each GPU, e.g. 16GiB; default: the share's part of it
    #[arg(long, value_name = "SIZE")]
    pub gpu_memory: Option<Bytes>,
    /// Only GPUs of this model, e.g. A100-80G
    #[arg(long)]
    pub model: Option<GpuModel>,
    /// Only in this pool
    #[arg(long)]
    pub pool: Option<PoolName>,
    /// Priority class: urgent, normal, background or a declared one
    #[arg(long, value_name = "CLASS")]
    pub priority: Option<PriorityClassName>,
    /// Stop it when it runs longer, e.g. 1h30m
    #[arg(long, value_name = "DURATION")]
    pub walltime: Option<Seconds>,
    /// More attempts after one that failed or was lost
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub retries: u32,
    /// Submit N jobs, each with its GPULOOM_ARRAY_INDEX from 0
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub array: Option<u32>,
    /// Wait for a job to end well (:ok, the default), badly (:failed) or at all (:any)
    #[arg(long, value_name = "JOB[:ok|failed|any]", value_parser = after)]
    pub after: Vec<Dependency>,
    /// A label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub label: Vec<(String, String)>,
    /// A variable of the job's environment; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
    /// Absolute directory it runs in; default: a fresh one
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// A name for people; default: the program's
    #[arg(long)]
    pub name: Option<String>,
    /// How long it may take to stop after SIGTERM; default: its priority class's
    #[arg(long, value_name = "DURATION")]
    pub grace: Option<Seconds>,
    /// The program and its arguments
    #[arg(last = true, required = true, num_args = 1.., value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `KEY=VALUE`; the value may be empty and hold further equals signs.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("use KEY=VALUE".to_owned()),
    }
}

fn after(text: &str) -> Result<Dependency, String> {
    let (job, how) = text.split_once(':').unwrap_or((text, "ok"));
    let condition = match how {
        "ok" => DependencyCondition::Succeeded,
        "failed" => DependencyCondition::Failed,
        "any" => DependencyCondition::Ended,
        _ => return Err("use JOB:ok, JOB:failed or JOB:any".to_owned()),
    };
    let job = job.parse().map_err(|e| format!("{e}"))?;
    Ok(Dependency { job, condition })
}

// === impl SubmitArgs ===

impl SubmitArgs {
    /// The job these flags describe, checked. `caller` is who the fleet takes this program for: a
    /// token's tenant stands in for a missing `--tenant`.
    pub(crate) fn spec(&self, caller: &str) -> Result<JobSpec, CliError> {
        let own = caller
            .strip_prefix("tenant:")
            .and_then(|name| TenantName::new(name).ok());
        let tenant = self.tenant.clone().or(own).ok_or_else(|| {
            CliError::Usage(
                "whose job is it? add --tenant NAME, or use a tenant's token".to_owned(),
            )
        })?;
        let program = self.command.first().map(String::as_str).unwrap_or_default();
        let base = program.rsplit('/').next().unwrap_or(program);
        let spec = JobSpec {
            name: self.name.clone().unwrap_or_else(|| base.to_owned()),
            tenant,
            priority_class: self.priority.clone(),
            pool: self.pool.clone(),
            command: self.command.clone(),
            env: self.env.iter().cloned().collect(),
            workdir: self.workdir.clone(),
            request: GpuRequest {
                gpus: self.gpus,
                memory_per_gpu: self.gpu_memory,
                model: self.model.clone(),
            },
            walltime: self.walltime,
            retries: self.retries,
            array: self.array,
            depends_on: self.after.clone(),
            labels: self.label.iter().cloned().collect(),
            grace: self.grace,
        };
        spec.check()
            .map_err(|problems| CliError::Usage(format!("the job is not valid: {problems}")))?;
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn read(line: &str) -> SubmitArgs {
        let cli = Cli::try_parse_from(line.split_whitespace()).expect(line);
        match cli.command {
            Command::Submit(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_become_a_job() {
        let args = read(
            "gpuloom submit --tenant a --gpus 0.5 --gpu-memory 8GiB --model T4 --pool p \
             --priority urgent --walltime 1h --retries 3 --array 4 --after 7 --after 8.1:any \
             --label k=v --env A=b=c --workdir /srv --grace 5s -- /usr/bin/python train.py -v",
        );
        let spec = args.spec("admin").expect("valid");
        assert_eq!(spec.name, "python");
        assert_eq!(spec.command, ["/usr/bin/python", "train.py", "-v"]);
        assert_eq!(spec.request.gpus, Some(MilliGpu(500)));
        assert_eq!(spec.request.memory_per_gpu, Some(Bytes::gib(8)));
        assert_eq!(spec.walltime, Some(Seconds(3600)));
        assert_eq!(spec.env.get("A").map(String::as_str), Some("b=c"));
        let conditions: Vec<_> = spec.depends_on.iter().map(|d| d.condition).collect();
        let expected = [DependencyCondition::Succeeded, DependencyCondition::Ended];
        assert_eq!(conditions, expected);
    }

    #[test]
    fn a_token_speaks_for_its_tenant_and_the_admin_must_say_whose_job_it_is() {
        let args = read("gpuloom submit -- true");
        let spec = args.spec("tenant:research").expect("valid");
        assert_eq!(spec.tenant.as_str(), "research");
        let error = args.spec("admin").expect_err("whose").to_string();
        assert_eq!(
            error,
            "whose job is it? add --tenant NAME, or use a tenant's token"
        );
    }

    #[test]
    fn a_job_that_cannot_be_is_refused_before_it_is_sent() {
        for (line, expected) in [
            (
                "gpuloom submit --gpus 1.5 -- a",
                "gpus = \"1.5\": is neither a share of one GPU",
            ),
            (
                "gpuloom submit --gpus 65 -- a",
                "use a value from 0.001 to 64",
            ),
            ("gpuloom submit --workdir here -- a", "start it with /"),
            (
                "gpuloom submit --env CUDA_VISIBLE_DEVICES=0 -- a",
                "is set by the agent",
            ),
            ("gpuloom submit --gpu-memory 0 -- a", "leave it out"),
        ] {
            let error = read(line).spec("tenant:a").expect_err(line);
            assert_eq!(error.exit().0, 2);
            assert!(error.to_string().contains(expected), "{line}: {error}");
        }
    }
}
