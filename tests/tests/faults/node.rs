//! A node and its shims, killed at every step of a job's life; the lead starts the node again.

use crate::Case;
use crate::life::Life;
use gpuloom_tests::{LONG, until};

/// What brings a node to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    /// A job that ends by itself.
    Job,
    /// A running job is cancelled.
    Cancel,
}

const JOB: [&str; 16] = [
    "launch.record.before",
    "launch.record.after",
    "launch.cgroup.before",
    "launch.cgroup.after",
    "launch.spawn.before",
    "launch.spawn.after",
    "shim.claim.before",
    "shim.claim.after",
    "shim.started.before",
    "shim.started.after",
    "shim.exit.before",
    "shim.exit.after",
    "launch.ended.before",
    "launch.ended.after",
    "launch.forget.before",
    "launch.forget.after",
];
const CANCEL: [&str; 2] = ["launch.stop.before", "launch.stop.after"];

pub(crate) fn cases() -> Vec<Case> {
    let of = |trigger: Trigger, name: &'static str, places: &'static [&'static str]| {
        places
            .iter()
            .map(move |place| Case::new("node", name, place, move || run(trigger, place)))
    };
    of(Trigger::Job, "job", &JOB)
        .chain(of(Trigger::Cancel, "cancel", &CANCEL))
        .collect()
}

fn run(trigger: Trigger, place: &'static str) {
    let mut life = Life::new();
    let node = life.stage.nodes().first().cloned().expect("a node");
    let agent = life.stage.pid_of(&node);
    let of_agent = place.starts_with("launch.");
    let (script, _) = life.traced(if trigger == Trigger::Job {
        "sleep 0.2"
    } else {
        "exec sleep 700"
    });
    let job = if trigger == Trigger::Cancel {
        let job = life.submit(&["--retries", "1", "--", "sh", "-c", &script]);
        life.api.runs(&job, LONG);
        life.stage.arm(place, "kill", Some(agent));
        life.api.ok(&["cancel", &job]);
        job
    } else {
        life.stage.arm(place, "kill", of_agent.then_some(agent));
        life.submit(&["--retries", "1", "--", "sh", "-c", &script])
    };
    let dead = life.stage.died_at(place);
    assert_eq!(dead == agent, of_agent);
    until("the node's agent runs", LONG, || {
        let now = life.stage.rig.agent_pid(&node);
        now.filter(|now| (*now == agent) != of_agent)
            .ok_or_else(|| format!("{now:?}"))
    });
    let wanted = match trigger {
        // Whatever was lost on the way, its policy has one more attempt.
        Trigger::Job => "succeeded",
        Trigger::Cancel => "cancelled",
    };
    life.api.state_is(&job, wanted, LONG);
    assert_eq!(life.stage.nodes(), [node], "no other node was launched");
    life.is_whole(1..=1);
    life.stage.plan_is_empty();
    life.end();
}
