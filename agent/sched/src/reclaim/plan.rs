//! The cheapest way to make room for an ask, simulated before anybody is stopped.

use super::gang::spread;
use super::on_node::{Candidate, options};
use super::{Held, Holders, NotVictims};
use crate::place::{Placement, Placer, Racks, Room, Shape, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Most pieces of one ask.
pub const MAX_PIECES: usize = 10_000;
/// Most gangs whose end on several nodes is tried as a whole.
const MAX_SPANNING: usize = 24;

/// Work that wants room, now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Which job.
    pub job: u64,
    /// Work of smaller priority may be stopped for it.
    pub priority: i32,
    /// What each piece takes.
    pub shape: Shape,
    /// How many, all or none.
    pub pieces: usize,
    /// How near to each other.
    pub within: Within,
}

/// How near the pieces of a gang have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// Anywhere.
    Fleet,
    /// All in one rack.
    Rack,
}

/// Who is stopped, and where the pieces run then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The job it is for.
    pub job: u64,
    /// What each piece takes.
    pub shape: Shape,
    /// Work to stop, by id; empty when there is room already.
    pub victims: Vec<u64>,
    /// What stopping them costs, in thousandths of a GPU times milliseconds.
    pub cost: u128,
    /// Where each piece will run.
    pub placements: Vec<Placement>,
    /// Whether no cheaper plan exists. `false`: too many combinations, or gangs over several nodes.
    pub exact: bool,
}

/// Why no plan makes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortfall {
    /// Pieces asked for; 0 or above [`MAX_PIECES`] never fit.
    pub pieces: usize,
    /// Pieces that fit now, in the rack with most room where one rack is asked for.
    pub fit_now: usize,
    /// Pieces that would fit if everybody who may be stopped were.
    pub fit_then: usize,
    /// What each rule keeps.
    pub kept: NotVictims,
    /// What nodes lack for one piece now.
    pub verdict: Verdict,
}

/// One group of nodes in which all pieces have to be.
struct Group<'a> {
    ask: &'a Ask,
    now_ms: u64,
    nodes: Vec<(usize, &'a Room, Vec<&'a Held>)>,
}

struct Attempt {
    victims: BTreeSet<u64>,
    cost: u128,
    exact: bool,
}

/// The plan that stops the least: first the highest priority stopped is the lowest possible, then the
/// cost is least, then the first in order of nodes. Exact for one piece, and for gangs while nodes
/// have few victims that run on no other node.
///
/// # Errors
/// [`Shortfall`] says how many pieces would fit and what keeps the rest. O(nodes + holders).
pub fn plan(
    placer: &Placer,
    holders: &Holders,
    racks: &Racks,
    ask: &Ask,
    now_ms: u64,
) -> Result<Plan, Shortfall> {
    let mut groups = groups(placer, racks, ask, now_ms);
    let fit_now = groups.iter().map(|g| g.times(None)).max().unwrap_or(0);
    let sound = ask.pieces > 0 && ask.pieces <= MAX_PIECES;
    let levels = fill(&mut groups, placer, holders, ask, now_ms);
    let most = |level: i32| groups.iter().map(|g| g.times(Some(level))).max();
    let fit_then = levels.last().and_then(|l| most(*l)).unwrap_or(fit_now);
    if !sound || fit_then.max(fit_now) < ask.pieces {
        return Err(Shortfall {
            pieces: ask.pieces,
            fit_now,
            fit_then,
            kept: holders.not_victims(ask.priority, now_ms),
            verdict: placer.explain(&ask.shape),
        });
    }
    if fit_now < ask.pieces {
        // The highest level is enough: the lowest that is lies at or below it.
        let too_few = |level: &i32| most(*level).is_none_or(|m| m < ask.pieces);
        let below = &levels[..levels.len() - 1];
        let level = levels[below.partition_point(too_few)];
        for group in &mut groups {
            group.only_up_to(level);
        }
        if groups.len() > 1 {
            groups.retain(|g| g.times(Some(level)) >= ask.pieces);
        }
    } else {
        groups.retain(|g| g.times(None) >= ask.pieces);
    }
    let mut best: Option<(Attempt, &Group<'_>)> = None;
    for group in &groups {
        let below = best.as_ref().map_or(u128::MAX, |(a, _)| a.cost);
        if let Some(attempt) = group.cheapest(below)
            && attempt.cost < below
        {
            best = Some((attempt, group));
        }
    }
    let found = best.and_then(|(attempt, group)| {
        let placements = group.seat(&attempt.victims)?;
        Some(Plan {
            job: ask.job,
            shape: ask.shape,
            victims: attempt.victims.into_iter().collect(),
            cost: attempt.cost,
            placements,
            exact: attempt.exact,
        })
    });
    found.ok_or_else(|| Shortfall {
        pieces: ask.pieces,
        fit_now,
        fit_then,
        kept: holders.not_victims(ask.priority, now_ms),
        verdict: placer.explain(&ask.shape),
    })
}

fn groups<'a>(placer: &'a Placer, racks: &Racks, ask: &'a Ask, now_ms: u64) -> Vec<Group<'a>> {
    let group = |nodes: &mut dyn Iterator<Item = usize>| Group {
        ask,
        now_ms,
        nodes: nodes
            .filter(|n| placer.is_open(*n))
            .filter_map(|n| Some((n, placer.room(n)?, Vec::new())))
            .collect(),
    };
    match ask.within {
        Within::Fleet => vec![group(&mut (0..placer.len()))],
        Within::Rack => racks
            .iter()
            .map(|nodes| group(&mut nodes.iter().copied()))
            .collect(),
    }
}

/// Puts everybody who may be stopped where they run; the priorities there are, ascending.
fn fill<'a>(
    groups: &mut [Group<'a>],
    placer: &Placer,
    holders: &'a Holders,
    ask: &Ask,
    now_ms: u64,
) -> Vec<i32> {
    let mut at = vec![None; placer.len()];
    for (g, group) in groups.iter().enumerate() {
        for (i, (node, ..)) in group.nodes.iter().enumerate() {
            at[*node] = Some((g, i));
        }
    }
    let mut levels = BTreeSet::new();
    for held in holders.iter() {
        if !held.may_stop_for(ask.priority, now_ms) {
            continue;
        }
        levels.insert(held.priority);
        for piece in &held.pieces {
            let Some((g, i)) = at.get(piece.node).copied().flatten() else {
                continue;
            };
            let on = &mut groups[g].nodes[i].2;
            if on.last().is_none_or(|h| h.id != held.id) {
                on.push(held);
            }
        }
    }
    levels.into_iter().collect()
}

// === impl Group ===

impl<'a> Group<'a> {
    /// Pieces that fit when all up to a priority are stopped; `None`: nobody.
    fn times(&self, level: Option<i32>) -> usize {
        let mut scratch: Option<Room> = None;
        let each = self.nodes.iter().map(|(node, room, on)| {
            let Some(level) = level.filter(|_| !on.is_empty()) else {
                return room.times(&self.ask.shape);
            };
            let freed = scratch.get_or_insert_with(|| (*room).clone());
            freed.clone_from(room);
            for held in on.iter().filter(|h| h.priority <= level) {
                give(freed, held, *node);
            }
            freed.times(&self.ask.shape)
        });
        each.fold(0, usize::saturating_add)
    }

    fn only_up_to(&mut self, level: i32) {
        for (_, _, on) in &mut self.nodes {
            on.retain(|h| h.priority <= level);
        }
    }

    /// The cheapest attempt, cheaper than `below`.
    fn cheapest(&self, below: u128) -> Option<Attempt> {
        if self.ask.pieces == 1 {
            return self.one_piece(below);
        }
        let mut forced = BTreeSet::new();
        let mut best = self.attempt(&forced)?;
        let spanning = self.spanning();
        if spanning.is_empty() || best.cost == 0 {
            return Some(best);
        }
        // A gang that runs on several nodes frees them all when it is stopped: each is tried as a
        // given, and the best kept, until none makes it cheaper.
        loop {
            let mut better = None;
            for id in spanning.iter().filter(|id| !forced.contains(*id)) {
                let mut with = forced.clone();
                with.insert(*id);
                if let Some(attempt) = self.attempt(&with)
                    && attempt.cost < best.cost
                {
                    best = attempt;
                    better = Some(*id);
                }
            }
            match better {
                Some(id) => forced.insert(id),
                None => break,
            };
        }
        best.exact = false;
        Some(best)
    }

    /// Those with pieces on several nodes, most GPUs for their cost first.
    fn spanning(&self) -> Vec<u64> {
        let all = self.nodes.iter().flat_map(|(_, _, on)| on);
        let wide = all.filter(|h| h.pieces.iter().any(|p| p.node != h.pieces[0].node));
        let wide: BTreeMap<u64, &Held> = wide.map(|h| (h.id, *h)).collect();
        let mut order: Vec<(u128, u64)> = wide
            .values()
            .map(|h| {
                let freed = u128::from(h.gpu_milli().max(1));
                (h.stop_cost(self.now_ms) / freed, h.id)
            })
            .collect();
        order.sort_unstable();
        order.truncate(MAX_SPANNING);
        order.into_iter().map(|(_, id)| id).collect()
    }

    fn candidates(&self, on: &[&'a Held], forced: &BTreeSet<u64>) -> Vec<Candidate<'a>> {
        let rest = on.iter().filter(|h| !forced.contains(&h.id));
        let mut candidates: Vec<Candidate<'a>> = rest
            .map(|held| Candidate {
                held,
                cost: held.stop_cost(self.now_ms),
            })
            .collect();
        candidates.sort_by_key(|c| (c.cost, c.held.id));
        candidates
    }

    fn one_piece(&self, below: u128) -> Option<Attempt> {
        let mut best: Option<Attempt> = None;
        let mut exact = true;
        for (node, room, on) in &self.nodes {
            let below = best.as_ref().map_or(below, |b| b.cost);
            let least = on.iter().map(|h| h.stop_cost(self.now_ms)).min();
            if room.times(&self.ask.shape) == 0 && least.is_none_or(|l| l >= below) {
                continue;
            }
            let candidates = self.candidates(on, &BTreeSet::new());
            let found = options(*node, room, &self.ask.shape, &candidates, 1, below);
            exact &= found.exact;
            if let Some((cost, mask)) = found.best.get(1).filter(|b| b.0 < below) {
                best = Some(Attempt {
                    victims: chosen(&candidates, *mask).map(|h| h.id).collect(),
                    cost: *cost,
                    exact: true,
                });
            }
        }
        best.map(|b| Attempt { exact, ..b })
    }

    /// The cheapest victims beside those of `forced`, who are stopped anyhow.
    fn attempt(&self, forced: &BTreeSet<u64>) -> Option<Attempt> {
        let mut costs = Vec::with_capacity(self.nodes.len());
        let mut sets = Vec::with_capacity(self.nodes.len());
        let mut exact = true;
        for (node, room, on) in &self.nodes {
            let mut freed = None;
            for held in on.iter().filter(|h| forced.contains(&h.id)) {
                give(freed.get_or_insert_with(|| (*room).clone()), held, *node);
            }
            let room = freed.as_ref().unwrap_or(room);
            let candidates = self.candidates(on, forced);
            let pieces = self.ask.pieces;
            let found = options(*node, room, &self.ask.shape, &candidates, pieces, u128::MAX);
            exact &= found.exact;
            costs.push(found.best.iter().map(|b| b.0).collect::<Vec<_>>());
            sets.push((found.best, candidates));
        }
        let (took, least) = spread(&costs, self.ask.pieces)?;
        let mut victims: BTreeMap<u64, &Held> = BTreeMap::new();
        for ((best, candidates), took) in sets.iter().zip(&took) {
            victims.extend(chosen(candidates, best[*took].1).map(|h| (h.id, h)));
        }
        for (_, _, on) in &self.nodes {
            let forced = on.iter().filter(|h| forced.contains(&h.id));
            victims.extend(forced.map(|h| (h.id, *h)));
        }
        self.spare(&mut victims);
        Some(Attempt {
            cost: victims.values().map(|h| h.stop_cost(self.now_ms)).sum(),
            victims: victims.into_keys().collect(),
            exact: exact && least,
        })
    }

    /// Lets those go whom the pieces do not need after all, the dearest first.
    fn spare(&self, victims: &mut BTreeMap<u64, &'a Held>) {
        let mut freed: BTreeMap<usize, Room> = BTreeMap::new();
        let at: BTreeMap<usize, &Room> = self.nodes.iter().map(|(n, r, _)| (*n, *r)).collect();
        for held in victims.values() {
            for node in nodes_of(held) {
                if let Some(room) = at.get(&node) {
                    let room = freed.entry(node).or_insert_with(|| (*room).clone());
                    give(room, held, node);
                }
            }
        }
        let shape = &self.ask.shape;
        let each = at
            .iter()
            .map(|(n, room)| freed.get(n).unwrap_or(room).times(shape));
        let mut total = each.fold(0, usize::saturating_add);
        let mut order: Vec<&Held> = victims.values().copied().collect();
        order.sort_by_key(|h| (std::cmp::Reverse(h.stop_cost(self.now_ms)), h.id));
        for held in order {
            let mut without = Vec::new();
            let mut then = total;
            for node in nodes_of(held) {
                let Some(room) = freed.get(&node) else {
                    continue;
                };
                let mut room = room.clone();
                then = then.saturating_sub(room.times(shape));
                take(&mut room, held, node);
                then = then.saturating_add(room.times(shape));
                without.push((node, room));
            }
            if then >= self.ask.pieces {
                total = then;
                freed.extend(without);
                victims.remove(&held.id);
            }
        }
    }

    /// Where the pieces go once the victims are gone: on their nodes first.
    fn seat(&self, victims: &BTreeSet<u64>) -> Option<Vec<Placement>> {
        let mut placed = Vec::with_capacity(self.ask.pieces);
        let touched = |on: &[&Held]| on.iter().any(|h| victims.contains(&h.id));
        let (first, then): (Vec<_>, Vec<_>) = self.nodes.iter().partition(|n| touched(&n.2));
        for (node, room, on) in first.into_iter().chain(then) {
            let mut room = (*room).clone();
            for held in on.iter().filter(|h| victims.contains(&h.id)) {
                give(&mut room, held, *node);
            }
            while placed.len() < self.ask.pieces && room.times(&self.ask.shape) > 0 {
                let gpus = seats(&room, &self.ask.shape);
                room.take(&self.ask.shape, &gpus);
                placed.push(Placement { node: *node, gpus });
            }
        }
        (placed.len() == self.ask.pieces).then_some(placed)
    }
}

fn chosen<'c, 'a>(
    candidates: &'c [Candidate<'a>],
    mask: u64,
) -> impl Iterator<Item = &'a Held> + use<'c, 'a> {
    let within = candidates.iter().enumerate();
    within
        .filter(move |(i, _)| {
            mask.checked_shr(u32::try_from(*i).unwrap_or(64))
                .unwrap_or(0)
                & 1
                == 1
        })
        .map(|(_, c)| c.held)
}

fn nodes_of(held: &Held) -> BTreeSet<usize> {
    held.pieces.iter().map(|p| p.node).collect()
}

fn give(room: &mut Room, held: &Held, node: usize) {
    for piece in held.pieces.iter().filter(|p| p.node == node) {
        room.give(&held.shape, &piece.gpus);
    }
}

fn take(room: &mut Room, held: &Held, node: usize) {
    for piece in held.pieces.iter().filter(|p| p.node == node) {
        room.take(&held.shape, &piece.gpus);
    }
}

/// The first GPUs that have room; for a part of one GPU, the fullest that has.
fn seats(room: &Room, shape: &Shape) -> Vec<u8> {
    let mut fitting: Vec<(u16, u8)> = (0u8..)
        .zip(&room.gpus)
        .filter(|(_, free)| **free >= shape.share_milli)
        .map(|(g, free)| (*free, g))
        .collect();
    fitting.sort_unstable();
    let mut gpus: Vec<u8> = fitting
        .iter()
        .take(usize::from(shape.gpus))
        .map(|(_, g)| *g)
        .collect();
    gpus.sort_unstable();
    gpus
}

// === impl Shortfall ===

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pieces == 0 || self.pieces > MAX_PIECES {
            return write!(
                f,
                "{} pieces are asked for: ask for 1 to {MAX_PIECES}",
                self.pieces
            );
        }
        write!(
            f,
            "{} of {} pieces fit now, {} if all work it may stop were stopped",
            self.fit_now, self.pieces, self.fit_then
        )?;
        let parts = [
            (
                self.kept.priority_milli,
                "by work of equal or higher priority",
            ),
            (
                self.kept.min_runtime_milli,
                "by work before its minimum runtime",
            ),
            (
                self.kept.disruptions_milli,
                "by work that was disrupted as often as it may be",
            ),
        ];
        for (milli, who) in parts.into_iter().filter(|(m, _)| *m > 0) {
            write!(
                f,
                "; {}.{:03} GPUs are held {who}",
                milli / 1000,
                milli % 1000
            )?;
        }
        write!(f, "; {}", self.verdict)
    }
}
