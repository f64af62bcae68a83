//! The provider, killed at every place it passes on its way through creating, reading, changing and destroying.

use crate::stage::{Block, Stage};
use crate::{Case, tools};
use gpuloom_tests::{LONG, until};
use serde_json::json;

/// What is under way when the provider dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    FleetCreate,
    FleetCreateFails,
    FleetRefresh,
    FleetStart,
    FleetUpgrade,
    FleetDestroy,
    /// Destroying is interrupted and then, instead, everything is applied again.
    FleetDestroyUndone,
    PoolCreate,
    PoolCreateFails,
    PoolUpdate,
    PoolDestroy,
    PoolDestroyWithoutLead,
    TenantCreate,
    TenantUpdate,
    TenantDestroy,
}

const LAUNCH: [&str; 5] = [
    "local.stage.before",
    "local.stage.after",
    "local.publish.after",
    "local.spawn.after",
    "local.alive.after",
];
const TERMINATE: [&str; 8] = [
    "provider.terminate.before",
    "local.mark.before",
    "local.mark.after",
    "local.stop.after",
    "local.sweep.after",
    "local.retire.after",
    "local.remove.after",
    "provider.terminate.after",
];
const START: [&str; 5] = [
    "provider.fleet.start.before",
    "local.spawn.after",
    "local.alive.after",
    "provider.fleet.start.after",
    "provider.fleet.answer.after",
];

// === impl Op ===

impl Op {
    const ALL: [Self; 15] = [
        Self::FleetCreate,
        Self::FleetCreateFails,
        Self::FleetRefresh,
        Self::FleetStart,
        Self::FleetUpgrade,
        Self::FleetDestroy,
        Self::FleetDestroyUndone,
        Self::PoolCreate,
        Self::PoolCreateFails,
        Self::PoolUpdate,
        Self::PoolDestroy,
        Self::PoolDestroyWithoutLead,
        Self::TenantCreate,
        Self::TenantUpdate,
        Self::TenantDestroy,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::FleetCreate => "create_fleet",
            Self::FleetCreateFails => "create_fleet_in_vain",
            Self::FleetRefresh => "refresh_fleet",
            Self::FleetStart => "start_fleet",
            Self::FleetUpgrade => "upgrade_fleet",
            Self::FleetDestroy => "destroy_fleet",
            Self::FleetDestroyUndone => "destroy_fleet_and_apply",
            Self::PoolCreate => "create_pool",
            Self::PoolCreateFails => "create_pool_in_vain",
            Self::PoolUpdate => "update_pool",
            Self::PoolDestroy => "destroy_pool",
            Self::PoolDestroyWithoutLead => "destroy_pool_without_lead",
            Self::TenantCreate => "create_tenant",
            Self::TenantUpdate => "update_tenant",
            Self::TenantDestroy => "destroy_tenant",
        }
    }

    /// The places it passes, in their order.
    fn places(self) -> Vec<&'static str> {
        let declare = ["provider.declare.before", "provider.declare.after"];
        let withdraw = ["provider.withdraw.before", "provider.withdraw.after"];
        let stop = ["provider.fleet.stop.before", "provider.fleet.stop.after"];
        match self {
            Self::FleetCreate => [
                &["provider.fleet.note.before", "provider.fleet.note.after"][..],
                &["provider.fleet.launch.before"],
                &LAUNCH,
                &["provider.fleet.launch.after", "provider.fleet.answer.after"],
            ]
            .concat(),
            Self::FleetRefresh => vec![
                "provider.fleet.confirm.before",
                "provider.fleet.confirm.after",
                "provider.fleet.answer.after",
            ],
            Self::FleetStart => START.to_vec(),
            Self::FleetUpgrade => [&stop[..], &START].concat(),
            Self::FleetCreateFails
            | Self::FleetDestroy
            | Self::FleetDestroyUndone
            | Self::PoolDestroyWithoutLead => TERMINATE.to_vec(),
            Self::PoolCreate => {
                let wait = ["provider.pool.wait.before", "provider.pool.wait.after"];
                [&declare[..], &wait].concat()
            }
            Self::PoolCreateFails => {
                vec![
                    "provider.pool.abandon.before",
                    "provider.pool.abandon.after",
                ]
            }
            Self::PoolUpdate | Self::TenantCreate | Self::TenantUpdate => declare.to_vec(),
            Self::PoolDestroy | Self::TenantDestroy => withdraw.to_vec(),
        }
    }

    /// The block that is worked on; `None` is the fleet itself.
    fn block(self) -> Option<Block> {
        match self {
            Self::PoolCreate
            | Self::PoolUpdate
            | Self::PoolDestroy
            | Self::PoolDestroyWithoutLead => Some(Block::pool("t4", 1, 1, 1)),
            Self::PoolCreateFails => {
                let mut pool = Block::pool("t4", 1, 4, 4);
                pool.config["capacity"] = json!({"on_shortfall": "fail", "max_wait": "2s"});
                Some(pool)
            }
            Self::TenantCreate | Self::TenantUpdate | Self::TenantDestroy => {
                Some(Block::tenant("a", 1))
            }
            _ => None,
        }
    }
}

/// Every operation at every place it passes.
pub(crate) fn cases() -> Vec<Case> {
    let of = |op: Op| {
        let places = op.places().into_iter();
        places.map(move |place| Case::new("provider", op.name(), place, move || run(op, place)))
    };
    Op::ALL.into_iter().flat_map(of).collect()
}

fn run(op: Op, place: &str) {
    let mut stage = Stage::new("2xT4");
    let mut block = op.block();
    prepare(op, &mut stage, &mut block);
    let pid = stage.provider_pid();
    stage.arm(place, "kill", Some(pid));
    let attempted = attempt(op, &mut stage, &mut block);
    assert!(attempted.is_err(), "the provider survived {place}");
    assert_eq!(stage.struck(place), Some(pid), "{attempted:?}");
    stage.walk_after_kill();
    finish(op, &mut stage, &mut block);
    check(op, stage, block);
}

/// Everything that is there before.
fn prepare(op: Op, stage: &mut Stage, block: &mut Option<Block>) {
    match op {
        Op::FleetCreate => return,
        Op::FleetCreateFails => {
            let broken = tools::script(&stage.rig, "#!/bin/sh\necho no such luck >&2\nexit 3\n");
            stage.configure(&json!({"local": {"agent_binary": broken}}));
            return;
        }
        _ => stage.apply().expect("the fleet comes up"),
    }
    if matches!(
        op,
        Op::PoolUpdate
            | Op::PoolDestroy
            | Op::PoolDestroyWithoutLead
            | Op::TenantUpdate
            | Op::TenantDestroy
    ) {
        let block = block.as_mut().expect("it has one");
        stage.apply_one(block).expect("declared");
    }
    stage.walk();
    match op {
        Op::FleetStart | Op::PoolDestroyWithoutLead => stage.kill(stage.lead_pid()),
        Op::FleetUpgrade => {
            let other = tools::another_build(&stage.rig);
            stage.configure(&json!({"local": {"agent_binary": other}}));
        }
        Op::PoolUpdate => {
            let block = block.as_mut().expect("it has one");
            block.config["autoscaling"] = json!({"min": 2, "max": 2});
        }
        Op::TenantUpdate => block.as_mut().expect("it has one").config["weight"] = json!(7),
        _ => {}
    }
}

/// The operation.
fn attempt(op: Op, stage: &mut Stage, block: &mut Option<Block>) -> Result<(), String> {
    match (op, block.as_mut()) {
        (Op::FleetRefresh, _) => {
            let mut fleet = std::mem::replace(&mut stage.fleet, Block::new("", json!(null)));
            let settled = stage.settle_one(&mut fleet);
            stage.fleet = fleet;
            settled
        }
        (Op::FleetDestroy | Op::FleetDestroyUndone, _) => {
            let mut fleet = std::mem::replace(&mut stage.fleet, Block::new("", json!(null)));
            let destroyed = stage.destroy_one(&mut fleet);
            stage.fleet = fleet;
            destroyed
        }
        (_, None) => stage.apply(),
        (Op::PoolDestroy | Op::PoolDestroyWithoutLead | Op::TenantDestroy, Some(block)) => {
            stage.destroy_one(block)
        }
        (_, Some(block)) => stage.apply_one(block),
    }
}

/// The operation again, as the next `terraform apply` does it.
fn finish(op: Op, stage: &mut Stage, block: &mut Option<Block>) {
    if op == Op::FleetDestroyUndone {
        return stage.apply().expect("the fleet is made anew");
    }
    if op == Op::FleetCreateFails {
        stage.configure(&json!({}));
    }
    let again = attempt(op, stage, block);
    if op == Op::PoolCreateFails {
        let mut said = again.expect_err("there are not as many GPUs");
        // What the killed provider had withdrawn is still going: the lead says to apply again.
        while said.contains("is being destroyed") {
            said = attempt(op, stage, block).expect_err("there are not as many GPUs");
        }
        assert!(said.contains("of 4 nodes"), "{said}");
        return;
    }
    again.expect("the second time it succeeds");
}

/// Exactly what is declared is there, a plan finds nothing to do, and destroying leaves nothing.
fn check(op: Op, mut stage: Stage, block: Option<Block>) {
    let nodes = match op {
        Op::PoolCreate => 1,
        Op::PoolUpdate => 2,
        _ => 0,
    };
    if op == Op::PoolUpdate {
        // The next plan may find the killed provider's change declared: then nobody waits for its nodes.
        until("the lead launches what was declared", LONG, || {
            let there = stage.nodes().len();
            let grown = (there >= nodes).then_some(());
            grown.ok_or_else(|| format!("{there} of {nodes}"))
        });
    }
    assert_eq!(stage.nodes().len(), nodes, "{:?}", stage.rig.instances());
    let leads = stage.rig.instances().len() - nodes;
    assert_eq!(leads, usize::from(op != Op::FleetDestroy));
    if let Some(block) = block.filter(|b| b.state.is_some()) {
        stage.blocks.push(block);
    }
    let kept = matches!(
        op,
        Op::PoolCreate | Op::PoolUpdate | Op::TenantCreate | Op::TenantUpdate
    );
    assert_eq!(stage.blocks.len(), usize::from(kept), "what core holds");
    if op != Op::FleetDestroy && op != Op::PoolDestroyWithoutLead {
        stage.plan_is_empty();
        let listed = stage.rig.fleet(crate::stage::FLEET).json(&["objects"]);
        let objects = listed["objects"]
            .as_array()
            .map_or(0, |all| all.iter().filter(|o| o["builtin"] != true).count());
        assert_eq!(objects, usize::from(kept), "{listed}");
    }
    stage.end();
}
