//! Jobs: the list, and the story of one.

use crate::output::{Style, Table, Tone, cut, dash, gpus, or_dash, plain, size, span, wrap};
use gpuloom_api::proto::{AttemptView, JobSpec, JobView};

/// Of a name in a list: where lines are short, why a job waits needs the room more.
const NAME_CHARS: usize = 24;
const SHORT_NAME_CHARS: usize = 12;
const SHORT_LINE: usize = 120;
const COMMAND_CHARS: usize = 200;

/// How a state looks.
pub(crate) fn tone(state: &str) -> Tone {
    match state {
        "succeeded" | "ready" | "healthy" => Tone::Good,
        "pending" | "provisioning" | "joining" | "draining" | "cordoned" | "degraded" => {
            Tone::Waiting
        }
        "active" | "running" => Tone::Busy,
        "failed" | "timed_out" | "suspect" | "driver_unresponsive" => Tone::Bad,
        "cancelled" => Tone::Faint,
        _ => Tone::Plain,
    }
}

/// Jobs in rows. Pending ones tell why they wait, others where they ran.
pub(crate) fn list(jobs: &[JobView], more: bool, style: Style) -> String {
    let heads = [
        "JOB",
        "NAME",
        "TENANT",
        "STATE",
        "GPUS",
        "SINCE",
        "WHERE / WHY",
    ];
    let mut table = Table::new(&heads).right(&[0, 4]).cut_last();
    let unstated = JobSpec::default();
    for job in jobs {
        let spec = job.spec.as_ref().unwrap_or(&unstated);
        table.row(vec![
            plain(&job.id),
            plain(name(spec, style)),
            plain(&spec.tenant),
            (job.state.clone(), tone(&job.state)),
            plain(asked_gpus(spec)),
            plain(style.ago(job.state_since_ms)),
            plain(where_or_why(job)),
        ]);
    }
    let mut text = table.show_or(style, "no jobs");
    if more {
        text += "... and more: raise --limit, or narrow it with --state, --tenant or --label\n";
    }
    text
}

/// The queue in rows, in the order jobs will start.
pub(crate) fn queue(jobs: &[JobView], pending: u64, active: u64, style: Style) -> String {
    let heads = [
        "PLACE", "JOB", "NAME", "TENANT", "PRIORITY", "GPUS", "WAITING", "WHY",
    ];
    let mut table = Table::new(&heads).right(&[0, 1, 4, 5, 6]).cut_last();
    let unstated = JobSpec::default();
    for job in jobs {
        let spec = job.spec.as_ref().unwrap_or(&unstated);
        table.row(vec![
            plain(or_dash(job.position, |p| p.to_string())),
            plain(&job.id),
            plain(name(spec, style)),
            plain(&spec.tenant),
            plain(job.priority.to_string()),
            plain(asked_gpus(spec)),
            plain(span(style.now_ms.saturating_sub(job.state_since_ms))),
            plain(where_or_why(job)),
        ]);
    }
    let rows = table.show_or(style, "nothing waits");
    format!("{rows}{pending} pending, {active} active\n")
}

fn name(spec: &JobSpec, style: Style) -> String {
    let short = style.columns.is_some_and(|c| c < SHORT_LINE);
    cut(
        &spec.name,
        if short { SHORT_NAME_CHARS } else { NAME_CHARS },
    )
}

fn asked_gpus(spec: &JobSpec) -> String {
    or_dash(spec.gpus_milli, gpus)
}

fn where_or_why(job: &JobView) -> String {
    let last = job.attempts.last();
    if job.state == "active" {
        return or_dash(last, |a| {
            if a.reason.is_empty() {
                a.node.clone()
            } else {
                format!("{}: {} ({})", a.node, a.state, a.reason)
            }
        });
    }
    match job.why.first() {
        Some(why) => why.clone(),
        None => or_dash(last, |a| a.node.clone()),
    }
}

/// Everything about one job, why it waits or how it ended first.
pub(crate) fn why(job: &JobView, style: Style) -> String {
    let unstated = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&unstated);
    let state = style.paint(&job.state, tone(&job.state));
    let mut text = format!(
        "job {} ({}): {state}, since {}\n",
        job.id,
        dash(&spec.name),
        style.ago(job.state_since_ms)
    );
    let room = style.columns.map_or(usize::MAX, |c| c.saturating_sub(2));
    for line in job.why.iter().flat_map(|why| wrap(why, room)) {
        text += &format!("  {line}\n");
    }
    if let Some(position) = job.position {
        text += &format!("  place {position} in the queue\n");
    }
    let mut facts = Table::default().wrap_last();
    for (name, value) in facts_of(job, spec, style) {
        facts.row(vec![(format!("  {name}"), Tone::Faint), plain(value)]);
    }
    text += &facts.show(style);
    if !job.attempts.is_empty() {
        text += &attempts(&job.attempts, style);
    }
    text
}

fn facts_of(job: &JobView, spec: &JobSpec, style: Style) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("tenant", spec.tenant.clone()),
        ("priority", {
            let class = spec.priority_class.as_deref().unwrap_or("normal");
            format!("{class} ({})", job.priority)
        }),
        ("submitted", style.ago(job.submitted_at_ms)),
    ];
    let mut wants = or_dash(spec.gpus_milli, gpus);
    if let Some(model) = &spec.gpu_model {
        wants += &format!(" x {model}");
    }
    if let Some(memory) = spec.memory_per_gpu_bytes {
        wants += &format!(", {} each", size(memory));
    }
    facts.push(("gpus", wants));
    if let Some(pool) = &spec.pool {
        facts.push(("pool", pool.clone()));
    }
    if let Some(walltime) = spec.walltime_s {
        facts.push(("walltime", gpuloom_fleet::Seconds(walltime).to_string()));
    }
    if let Some(used) = job.memory_used_bytes {
        facts.push(("memory used", size(used)));
    }
    if spec.retries > 0 || job.failures > 0 {
        let counted = format!("{}, of {} allowed", job.failures, spec.retries);
        facts.push(("failures", counted));
    }
    if job.preemptions > 0 {
        facts.push(("preempted", format!("{} times", job.preemptions)));
    }
    facts.push(("command", cut(&spec.command.join(" "), COMMAND_CHARS)));
    facts
}

fn attempts(attempts: &[AttemptView], style: Style) -> String {
    let heads = ["ATTEMPT", "NODE", "STATE", "STARTED", "RAN", "END"];
    let mut table = Table::new(&heads).right(&[0]).wrap_last();
    for a in attempts {
        let until = a.ended_at_ms.unwrap_or(style.now_ms);
        let ran = a.started_at_ms.map(|s| span(until.saturating_sub(s)));
        table.row(vec![
            plain(a.number.to_string()),
            plain(&a.node),
            (a.state.clone(), tone(&a.state)),
            plain(or_dash(a.started_at_ms, |s| style.ago(s))),
            plain(or_dash(ran, |r| r)),
            plain(ending(a)),
        ]);
        for g in &a.grants {
            let (share, memory) = (gpus(g.share_milli), size(g.memory_bytes));
            table.below(format!("         {} ({share}, {memory})", g.device));
        }
    }
    table.show(style)
}

/// How an attempt ended or why it is stopping; a dash while there is nothing to say.
pub(crate) fn ending(a: &AttemptView) -> String {
    let exit = match (a.exit_code, a.signal) {
        (Some(code), _) => Some(format!("exit {code}")),
        (None, Some(signal)) => Some(format!("signal {signal}")),
        (None, None) => None,
    };
    match (exit, a.reason.as_str()) {
        (Some(exit), "") => exit,
        (Some(exit), reason) => format!("{exit}: {reason}"),
        (None, reason) => dash(reason),
    }
}
