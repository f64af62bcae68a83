//! Allocation for a thousand tenants on ten thousand nodes: whose turn it is, where it goes, and what that changes.

use super::gang_reclaim::fleet;
use crate::row::Row;
use anyhow::{Context as _, Result};
use gpuloom_replay::Chance;
use gpuloom_sched::place::{Models, Placement, Placer, Shape, WHOLE};
use gpuloom_sched::share::{Node, Order, Tree};
use std::time::Instant;

const TENANTS: usize = 1_000;
const LARGE: usize = 10_000;

struct Churn {
    placer: Placer,
    order: Order,
    leaves: Vec<(usize, Shape)>,
    /// Whose leaf number by tenant.
    leaf_of: Vec<usize>,
    running: Vec<(usize, Placement)>,
    parked: Vec<usize>,
}

/// 5 x 5 x 5 x 8 tenants below one root; each leaf has work of one of 24 shapes, without end.
fn churn() -> Result<Churn> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut level: Vec<Option<usize>> = vec![None];
    let mut chance = Chance::new(8);
    for width in [5, 5, 5, 8] {
        let mut next = Vec::new();
        for parent in level {
            for _ in 0..width {
                next.push(Some(nodes.len()));
                nodes.push(Node {
                    parent,
                    weight: 1 + chance.bits() % 4,
                    task: Vec::new(),
                    tasks: 0,
                });
            }
        }
        level = next;
    }
    let mut shapes = Vec::new();
    for (gpus, share) in [
        (1, 250),
        (1, 500),
        (1, WHOLE),
        (2, WHOLE),
        (4, WHOLE),
        (8, WHOLE),
    ] {
        for per_gpu in [2_000, 4_000, 8_000, 12_000] {
            shapes.push(Shape {
                cpu_milli: u32::from(gpus) * per_gpu * u32::from(share) / 1000,
                memory_mib: u32::from(gpus) * per_gpu * 4,
                gpus,
                share_milli: share,
                models: Models::ANY,
            });
        }
    }
    let work = shapes.iter().map(|s| (*s, 1)).collect();
    let tree = Tree::new(nodes)?;
    let capacity = [
        96_000 * LARGE as u64,
        1_048_576 * LARGE as u64,
        8_000 * LARGE as u64,
    ];
    let mut order = Order::new(&tree, &capacity);
    let mut leaf_of = vec![usize::MAX; 2 * TENANTS];
    let mut leaves = Vec::new();
    for leaf in level.into_iter().flatten() {
        leaf_of[leaf] = leaves.len();
        leaves.push((leaf, shapes[chance.below(shapes.len())]));
        order.set_waiting(leaf, true);
    }
    Ok(Churn {
        placer: fleet(LARGE, &work)?,
        order,
        leaves,
        leaf_of,
        running: Vec::new(),
        parked: Vec::new(),
    })
}

fn units(shape: &Shape) -> [u64; 3] {
    [shape.cpu_milli, shape.memory_mib, shape.gpu_milli()].map(u64::from)
}

impl Churn {
    /// One task to the tenant whose turn it is; one whose task fits nowhere is parked. `None`: all are.
    fn allocate(&mut self) -> Option<bool> {
        let leaf = self.order.next()?;
        let i = self.leaf_of[leaf];
        let shape = self.leaves[i].1;
        let Some(at) = self.placer.place(&shape) else {
            self.order.set_waiting(leaf, false);
            self.parked.push(leaf);
            return Some(false);
        };
        self.order.took(leaf, &units(&shape));
        self.running.push((i, at));
        Some(true)
    }

    /// A task ends, and those parked look again.
    fn end(&mut self, which: usize) {
        let (i, at) = self.running.swap_remove(which);
        let (leaf, shape) = self.leaves[i];
        self.placer.give(&shape, &at);
        self.order.gave_back(leaf, &units(&shape));
        for leaf in self.parked.drain(..) {
            self.order.set_waiting(leaf, true);
        }
    }
}

/// Changes looked at after each end of a task.
const UPKEEP: usize = 64;

struct Times {
    filling: Vec<f64>,
    allocate: Vec<f64>,
    end: Vec<f64>,
    settle: Vec<f64>,
}

fn us(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

/// Fills nine tenths of the GPUs, then a task ends and one starts, `steps` times.
fn churned(steps: usize, upkeep: usize) -> Result<Times> {
    let mut churn = churn()?;
    let mut times = Times {
        filling: Vec::new(),
        allocate: Vec::new(),
        end: Vec::new(),
        settle: Vec::new(),
    };
    let mut taken = 0u64;
    while taken < 8_000 * LARGE as u64 * 9 / 10 {
        let start = Instant::now();
        let got = churn.allocate().context("the fleet is not full")?;
        times.filling.push(us(start));
        if let Some((i, _)) = churn.running.last().filter(|_| got) {
            taken += u64::from(churn.leaves[*i].1.gpu_milli());
        }
    }
    let mut chance = Chance::new(9);
    for _ in 0..steps {
        let which = chance.below(churn.running.len());
        let start = Instant::now();
        churn.end(which);
        times.end.push(us(start));
        let start = Instant::now();
        churn.placer.settle(upkeep);
        times.settle.push(us(start));
        let start = Instant::now();
        churn.allocate();
        times.allocate.push(us(start));
    }
    Ok(times)
}

/// How long one allocation takes, and what it costs to keep it that short.
pub(super) fn rows(steps: usize) -> Result<Vec<Row>> {
    let mut lazy = churned(steps, 0)?;
    let mut kept = churned(steps, UPKEEP)?;
    let inputs =
        format!("{LARGE} nodes x 8 GPUs, {TENANTS} tenants in a tree of depth 4, 24 shapes");
    let part = |times: &mut Vec<f64>, pct: usize| {
        times.sort_by(f64::total_cmp);
        let at = times.get(times.len() * pct / 100);
        at.copied().unwrap_or(f64::NAN)
    };
    let fills = format!("{inputs}, {} until 90% are taken", lazy.filling.len());
    let at_90 = format!("{inputs}, {steps} at 90% taken");
    let idle = format!("{at_90}, {UPKEEP} changes looked at between allocations");
    let name = |what: &str| format!("gang-reclaim {what}");
    let mut both: Vec<f64> = kept
        .allocate
        .iter()
        .zip(&kept.settle)
        .map(|(a, s)| a + s)
        .collect();
    let report = |what: &str, times: &mut Vec<f64>, pct: usize, inputs: &str| {
        Row::report(name(what), part(times, pct), "us").with(inputs)
    };
    let most = |what: &str, times: &mut Vec<f64>, inputs: &str| {
        Row::at_most(name(what), part(times, 99), "us", 20.0).with(inputs)
    };
    Ok(vec![
        most("allocation p99, filling", &mut lazy.filling, &fills),
        most("allocation and upkeep p99, churning", &mut both, &idle),
        most("allocation p99, churning", &mut kept.allocate, &idle),
        report("allocation p50, churning", &mut kept.allocate, 50, &idle),
        report(
            "allocation p99, without upkeep",
            &mut lazy.allocate,
            99,
            &at_90,
        ),
        report("end of a task p99", &mut kept.end, 99, &at_90),
    ])
}
