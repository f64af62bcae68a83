//! The lead, killed at every step that it stores, launches or ends, with jobs running; then `apply` again.

use crate::Case;
use crate::life::Life;
use crate::stage::{Block, Stage};
use gpuloom_tests::LONG;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// What brings a lead to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    /// A tenant is declared.
    Declare,
    /// A tenant is destroyed.
    Withdraw,
    /// What was declared is read back for the first time.
    Confirm,
    /// A job that can start at once.
    Submit,
    /// A job that waits is cancelled.
    Cancel,
    /// A job's walltime is over and its node does nothing about it.
    Walltime,
    TokenMade,
    TokenRevoked,
    Cordon,
    /// The pool is declared larger.
    Grow,
    /// The pool grows by itself for a job that waits.
    Resize,
    /// A pool with a node is destroyed.
    PoolDestroyed,
    /// A lead that died before stored what it had launched comes back.
    Adopt,
    /// The lead's first start.
    Found,
}

// === impl Trigger ===

impl Trigger {
    const ALL: [Self; 14] = [
        Self::Declare,
        Self::Withdraw,
        Self::Confirm,
        Self::Submit,
        Self::Cancel,
        Self::Walltime,
        Self::TokenMade,
        Self::TokenRevoked,
        Self::Cordon,
        Self::Grow,
        Self::Resize,
        Self::PoolDestroyed,
        Self::Adopt,
        Self::Found,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Declare => "declare",
            Self::Withdraw => "withdraw",
            Self::Confirm => "confirm",
            Self::Submit => "submit",
            Self::Cancel => "cancel",
            Self::Walltime => "walltime",
            Self::TokenMade => "token",
            Self::TokenRevoked => "revoke",
            Self::Cordon => "cordon",
            Self::Grow => "grow",
            Self::Resize => "resize",
            Self::PoolDestroyed => "destroy_pool",
            Self::Adopt => "adopt",
            Self::Found => "found",
        }
    }

    fn places(self) -> &'static [&'static str] {
        match self {
            Self::Declare => &["lead.declare.before", "lead.declare.after"],
            Self::Withdraw => &["lead.withdraw.before", "lead.withdraw.after"],
            Self::Confirm => &["lead.confirm.before", "lead.confirm.after"],
            Self::Submit => &[
                "lead.submit.before",
                "lead.submit.after",
                "lead.decide.before",
                "lead.decide.after",
                "lead.report.before",
                "lead.report.after",
                "store.commit.before",
                "store.commit.after",
                "store.acked.after",
            ],
            Self::Cancel => &["lead.cancel.before", "lead.cancel.after"],
            Self::Walltime => &["lead.tick.before", "lead.tick.after"],
            Self::TokenMade => &["lead.token.before", "lead.token.after"],
            Self::TokenRevoked => &["lead.revoke.before", "lead.revoke.after"],
            Self::Cordon => &["lead.cordon.before", "lead.cordon.after"],
            Self::Grow => &[
                "lead.launch.before",
                "lead.launch.after",
                "cloud.store_launch.before",
                "cloud.store_launch.after",
                "local.stage.before",
                "local.stage.after",
                "local.publish.after",
                "local.spawn.after",
                "local.alive.after",
                "cloud.send_launch.after",
                "cloud.store_answer.after",
                "lead.see_pool.before",
                "lead.see_pool.after",
                "lead.join.before",
                "lead.join.after",
            ],
            Self::Resize => &["lead.resize.before", "lead.resize.after"],
            Self::PoolDestroyed => &[
                "cloud.terminate.before",
                "local.mark.before",
                "local.mark.after",
                "local.stop.after",
                "local.sweep.after",
                "local.retire.after",
                "local.remove.after",
                "cloud.terminate.after",
                "lead.node_gone.before",
                "lead.node_gone.after",
                "lead.forget_launch.before",
                "lead.forget_launch.after",
                "cloud.forget.after",
                "lead.end_pool.before",
                "lead.end_pool.after",
            ],
            Self::Adopt => &["cloud.adopt.before", "cloud.adopt.after"],
            Self::Found => &["lead.found.before", "lead.found.after"],
        }
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let of = |trigger: Trigger| {
        let places = trigger.places().iter();
        places
            .map(move |place| Case::new("lead", trigger.name(), place, move || run(trigger, place)))
    };
    Trigger::ALL.into_iter().flat_map(of).collect()
}

fn run(trigger: Trigger, place: &'static str) {
    if trigger == Trigger::Found {
        return found(place);
    }
    let mut life = Life::new();
    prepare(trigger, &mut life);
    let lead = life.stage.lead_pid();
    if trigger == Trigger::Adopt {
        life.stage
            .arm("cloud.send_launch.after", "kill", Some(lead));
        pull(trigger, &mut life);
        life.stage.died_at("cloud.send_launch.after");
        // The next lead dies as soon as it adopts.
        life.stage.arm(place, "kill", None);
        let started = life.stage.apply();
        life.stage.died_at(place);
        drop(started);
    } else {
        life.stage.arm(place, "kill", Some(lead));
        pull(trigger, &mut life);
        assert_eq!(life.stage.died_at(place), lead);
    }
    recover(trigger, &mut life);
    let nodes = match trigger {
        Trigger::Grow | Trigger::Adopt => 2..=2,
        // The pool may have grown for the job that waits, up to its max.
        Trigger::Resize => 1..=2,
        _ => 1..=1,
    };
    life.is_whole(nodes);
    life.end();
}

/// What has to be there before the place is armed.
fn prepare(trigger: Trigger, life: &mut Life) {
    match trigger {
        Trigger::Withdraw | Trigger::Confirm => {
            life.stage.blocks.push(Block::tenant("b", 1));
            life.stage.apply().expect("declared");
            if trigger == Trigger::Withdraw {
                life.stage.plan_is_empty();
            }
        }
        Trigger::TokenRevoked => {
            life.api.token("a");
        }
        Trigger::PoolDestroyed => {
            life.stage.blocks.push(Block::pool("spare", 2, 1, 1));
            life.stage.apply().expect("declared");
            life.stage.plan_is_empty();
        }
        _ => {}
    }
}

/// Brings the lead to the place. What fails for want of a lead is what is tested.
fn pull(trigger: Trigger, life: &mut Life) {
    match trigger {
        Trigger::Declare => {
            life.stage.blocks.push(Block::tenant("b", 1));
            drop(life.stage.apply());
        }
        Trigger::Confirm => {
            life.stage.walk();
            drop(life.stage.apply());
        }
        Trigger::Withdraw | Trigger::PoolDestroyed => {
            let mut block = life.stage.blocks.pop().expect("it was pushed");
            drop(life.stage.destroy_one(&mut block));
            if block.state.is_some() {
                life.stage.blocks.push(block);
            }
        }
        Trigger::Submit => {
            let (script, _) = life.traced("exit 0");
            life.start(
                &["submit", "--tenant", "a", "--", "sh", "-c", &script],
                true,
            );
        }
        Trigger::Cancel => {
            let waits = life.acknowledged[1].clone();
            life.start(&["cancel", &waits], false);
        }
        Trigger::Walltime => {
            let (script, _) = life.traced("exec sleep 700");
            let job = life.submit(&["--walltime", "3s", "--", "sh", "-c", &script]);
            life.api.runs(&job, LONG);
            signal_node(life, Signal::STOP);
        }
        Trigger::TokenMade => {
            life.start(&["token", "create", "--tenant", "a", "--ttl", "1h"], false);
        }
        Trigger::TokenRevoked => {
            let made = life
                .api
                .json(&["token", "create", "--tenant", "a", "--ttl", "1h"]);
            let id = made["id"].as_str().expect("a token has an id").to_owned();
            life.start(&["token", "revoke", &id], false);
        }
        Trigger::Cordon => {
            let node = life.stage.nodes().first().cloned().expect("a node");
            life.start(&["cordon", &node], false);
        }
        Trigger::Grow | Trigger::Adopt => {
            life.stage.blocks[1].config["autoscaling"] = json!({"min": 2, "max": 2});
            drop(life.stage.apply());
        }
        Trigger::Resize => {
            let policy =
                json!({"name": "t4", "pool": "t4", "window": "10s", "grow_cooldown": "0s"});
            life.stage
                .blocks
                .push(Block::new("gpuloom_autoscaling_policy", policy));
            life.stage.blocks[1].config["autoscaling"] = json!({"min": 1, "max": 2});
            drop(life.stage.apply());
        }
        Trigger::Found => {}
    }
}

/// `apply` again: a fresh provider starts the lead, and everything is as declared.
fn recover(trigger: Trigger, life: &mut Life) {
    signal_node(life, Signal::CONT);
    life.stage.walk();
    life.stage.apply().expect("apply brings everything back");
    // A pool whose destruction was cut off is destroyed to its end.
    while life.stage.blocks.len() > 2 && life.stage.blocks[2].config["name"] == "spare" {
        let mut block = life.stage.blocks.remove(2);
        life.stage.destroy_one(&mut block).expect("destroyed");
        assert!(block.state.is_none());
    }
    if trigger == Trigger::Cordon {
        for node in life.stage.nodes() {
            life.api.ok(&["uncordon", &node]);
        }
    }
    life.stage.plan_is_empty();
}

fn signal_node(life: &Life, signal: Signal) {
    let node = life.stage.nodes().first().cloned().expect("a node");
    if let Some(pid) = life.stage.rig.agent_pid(&node).and_then(Pid::from_raw) {
        kill_process(pid, signal).expect("it is ours");
    }
}

/// A lead that dies while it founds its fleet: the creation fails whole, and the next one succeeds.
fn found(place: &'static str) {
    let mut stage = Stage::new("2xT4");
    stage.arm(place, "kill", None);
    let attempted = stage.apply();
    stage.died_at(place);
    assert!(attempted.is_err());
    assert!(
        stage.fleet.state.is_none(),
        "nothing came up, nothing is stored"
    );
    assert_eq!(stage.rig.instances(), Vec::<String>::new());
    stage.walk();
    stage.apply().expect("the second time it comes up");
    stage.plan_is_empty();
    assert_eq!(stage.rig.instances(), ["lead-f"]);
    stage.end();
}
