//! Moves of running work, only where what is gained is worth more than the moves cost.

use super::{Held, Holders};
use crate::place::{Placement, Placer, Shape};

/// Most moves of one plan.
pub const MAX_MOVES: usize = 1_000;

/// What the moves are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Nodes that hold nothing: they can be turned off, or given to work that needs a whole one.
    EmptyNodes,
    /// Room for so many pieces of a shape that do not fit now.
    RoomFor {
        /// What each piece takes.
        shape: Shape,
        /// How many, all or none.
        pieces: usize,
    },
    /// Less room that typical work cannot use.
    Defragment,
}

/// When moving pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// How long what is gained lasts, in milliseconds: until the next moves, or the fleet's own churn.
    pub lasts_ms: u64,
    /// The gain has to be so many thousandths of the cost; below 1000 counts as 1000.
    pub hysteresis_milli: u64,
    /// Most moves of one plan, at most [`MAX_MOVES`].
    pub moves: usize,
    /// Work that was moved is left alone for so long, in milliseconds.
    pub rest_ms: u64,
}

/// One piece of work goes elsewhere. Moves are carried out in order: later ones may use room that
/// earlier ones freed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub id: u64,
    /// Where it runs.
    pub from: Placement,
    /// Where it will.
    pub to: Placement,
}

/// Moves and what they bring, in thousandths of a GPU times milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gain {
    /// In order.
    pub moves: Vec<Move>,
    /// What is gained as long as it lasts.
    pub gain: u128,
    /// GPUs x (checkpoint + restart), and lost work of those that cannot save it.
    pub cost: u128,
}

/// Why nothing is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stay {
    /// No moves reach the goal.
    #[error("no {moves} moves reach the goal: allow more, or let more work be disrupted")]
    NoWay {
        /// Moves allowed.
        moves: usize,
    },
    /// It costs more than it brings.
    #[error(
        "the moves would cost {cost} and bring {gain} thousandths of a GPU x ms, which is too little: wait until the gain lasts longer"
    )]
    NotWorth {
        /// What they would bring.
        gain: u128,
        /// What they would cost.
        cost: u128,
    },
    /// There is nothing to reach.
    #[error("the goal is reached already")]
    Reached,
}

struct Trial<'a> {
    placer: Placer,
    holders: &'a Holders,
    balance: Balance,
    now_ms: u64,
    /// Where work is by now, where that is not where it runs.
    moves: Vec<Move>,
    cost: u128,
}

/// Moves that reach `goal` and are worth it: the gain is above the cost by the hysteresis. The placer
/// and the holders stay as they are. Gangs, work before its minimum runtime, work that was moved a
/// short while ago and work that was disrupted as often as it may be are not moved.
///
/// # Errors
/// [`Stay`] says why everything stays where it is.
pub fn rebalance(
    placer: &Placer,
    holders: &Holders,
    goal: Goal,
    balance: Balance,
    now_ms: u64,
) -> Result<Gain, Stay> {
    let trial = Trial {
        placer: placer.clone(),
        holders,
        balance: Balance {
            moves: balance.moves.min(MAX_MOVES),
            ..balance
        },
        now_ms,
        moves: Vec::new(),
        cost: 0,
    };
    match goal {
        Goal::EmptyNodes => trial.empty_nodes(),
        Goal::RoomFor { shape, pieces } => trial.room_for(&shape, pieces),
        Goal::Defragment => trial.defragment(),
    }
}

// === impl Balance ===

impl Balance {
    fn worth(&self, gain: u128, cost: u128) -> bool {
        let wanted = cost.saturating_mul(u128::from(self.hysteresis_milli.max(1000)));
        gain.saturating_mul(1000) > wanted
    }
}

// === impl Trial ===

impl<'a> Trial<'a> {
    /// Empties the nodes that cost least for what they free, one by one, while each is worth it.
    fn empty_nodes(mut self) -> Result<Gain, Stay> {
        let mut nodes: Vec<(u128, usize)> = Vec::new();
        for node in 0..self.placer.len() {
            let cost = self.holders.on(node).map(|h| h.move_cost(self.now_ms));
            let (n, cost) = cost.fold((0u32, 0u128), |(n, sum), c| (n + 1, sum + c));
            if n == 0 {
                // Work is not moved onto nodes that are empty.
                self.placer.set_open(node, false);
            } else if self.placer.is_open(node) && self.all_movable(node) {
                nodes.push((cost / self.size(node).max(1), node));
            }
        }
        nodes.sort_unstable();
        let mut gain = 0;
        let mut least: Option<(u128, u128)> = None;
        for (_, node) in nodes {
            if self.moves.iter().any(|m| m.to.node == node) {
                continue;
            }
            let brings = self.size(node) * u128::from(self.balance.lasts_ms);
            let Some((moves, cost)) = self.clear(node) else {
                continue;
            };
            if self.balance.worth(brings, cost) {
                gain += brings;
                self.cost += cost;
                self.moves.extend(moves);
            } else {
                self.undo(&moves, node);
                least = least.or(Some((brings, cost)));
            }
        }
        self.answer(gain, least)
    }

    /// Clears the cheapest nodes until the pieces fit.
    fn room_for(mut self, shape: &Shape, pieces: usize) -> Result<Gain, Stay> {
        let all = 0..self.placer.len();
        let mut fit = self.placer.times(shape, all);
        if fit >= pieces {
            return Err(Stay::Reached);
        }
        let brings = u128::from(shape.gpu_milli().max(1)) * pieces as u128;
        let brings = brings * u128::from(self.balance.lasts_ms);
        let mut steps: Vec<(u128, u64, usize)> = Vec::new();
        for held in self.holders.iter().filter(|h| self.movable(h)) {
            let node = held.pieces[0].node;
            if self.placer.is_open(node) {
                let milli = u128::from(held.gpu_milli().max(1));
                steps.push((held.move_cost(self.now_ms) / milli, held.id, node));
            }
        }
        steps.sort_unstable();
        // Node by node, the one with the most room first: it needs the fewest moves.
        let mut nodes: Vec<usize> = steps.iter().map(|(_, _, node)| *node).collect();
        nodes.sort_by_key(|n| {
            let free = self.placer.room(*n).map_or(0, |r| r.free_milli());
            (std::cmp::Reverse(free), *n)
        });
        nodes.dedup();
        for node in nodes {
            let before = self.placer.room(node).map_or(0, |r| r.times(shape));
            let cleared = self.enough_on(node, shape, &steps);
            // What moves away may take room from other pieces: only the sum counts.
            let then = self.placer.times(shape, 0..self.placer.len());
            let more = self.placer.room(node).map_or(0, |r| r.times(shape)) > before;
            if more && then > fit {
                fit = then;
                self.cost += cleared.1;
                self.moves.extend(cleared.0);
            } else {
                self.undo(&cleared.0, node);
            }
            if fit >= pieces {
                let cost = self.cost;
                if !self.balance.worth(brings, cost) {
                    return Err(Stay::NotWorth { gain: brings, cost });
                }
                return self.answer(brings, None);
            }
        }
        Err(Stay::NoWay {
            moves: self.balance.moves,
        })
    }

    /// Moves each piece of work where the placer would put it today, where that alone is worth it.
    fn defragment(mut self) -> Result<Gain, Stay> {
        let mut gain = 0u128;
        let mut least: Option<(u128, u128)> = None;
        let mut order: Vec<(u128, u64)> = self
            .holders
            .iter()
            .filter(|h| self.movable(h) && self.placer.is_open(h.pieces[0].node))
            .map(|h| (h.move_cost(self.now_ms), h.id))
            .collect();
        order.sort_unstable();
        for (cost, id) in order {
            let Some(held) = self.holders.get(id) else {
                continue;
            };
            if self.moves.len() >= self.balance.moves {
                break;
            }
            let from = &held.pieces[0];
            self.placer.give(&held.shape, from);
            let to = self.placer.find(&held.shape);
            let to = to.filter(|to| to.node != from.node);
            let saved = to
                .as_ref()
                .map(|to| self.placer.unusable_saved(&held.shape, from, to));
            let brings = saved.and_then(|s| u128::try_from(s).ok()).unwrap_or(0);
            let brings = brings * u128::from(self.balance.lasts_ms);
            match to {
                Some(to) if self.balance.worth(brings, cost) => {
                    self.placer.take(&held.shape, &to);
                    gain += brings;
                    self.cost += cost;
                    let from = from.clone();
                    self.moves.push(Move { id, from, to });
                }
                _ => {
                    self.placer.take(&held.shape, from);
                    if brings > 0 {
                        least = least.or(Some((brings, cost)));
                    }
                }
            }
        }
        self.answer(gain, least)
    }

    fn answer(self, gain: u128, least: Option<(u128, u128)>) -> Result<Gain, Stay> {
        if self.moves.is_empty() {
            return Err(match least {
                Some((gain, cost)) => Stay::NotWorth { gain, cost },
                None => Stay::NoWay {
                    moves: self.balance.moves,
                },
            });
        }
        Ok(Gain {
            moves: self.moves,
            gain,
            cost: self.cost,
        })
    }

    /// Moves everything off the node, which is closed then; `None`, and all as before, where that
    /// does not work.
    fn clear(&mut self, node: usize) -> Option<(Vec<Move>, u128)> {
        self.placer.set_open(node, false);
        let on: Vec<&Held> = self.holders.on(node).collect();
        let room = self.balance.moves - self.moves.len();
        let mut moves = Vec::new();
        let mut cost = 0;
        for held in &on {
            let to = (moves.len() < room).then(|| self.placer.place(&held.shape));
            let Some(to) = to.flatten() else {
                self.undo(&moves, node);
                return None;
            };
            let from = held.pieces[0].clone();
            self.placer.give(&held.shape, &from);
            cost += held.move_cost(self.now_ms);
            moves.push(Move {
                id: held.id,
                from,
                to,
            });
        }
        Some((moves, cost))
    }

    /// Moves work off the node, cheapest first, until one more piece of the shape fits there.
    fn enough_on(
        &mut self,
        node: usize,
        shape: &Shape,
        steps: &[(u128, u64, usize)],
    ) -> (Vec<Move>, u128) {
        let times = |p: &Placer| p.room(node).map_or(0, |r| r.times(shape));
        let before = times(&self.placer);
        self.placer.set_open(node, false);
        let mut moves: Vec<Move> = Vec::new();
        let mut cost = 0;
        for (_, id, _) in steps.iter().filter(|(_, _, at)| *at == node) {
            let left = self.balance.moves - self.moves.len();
            if times(&self.placer) > before || moves.len() >= left {
                break;
            }
            let moved = self.moves.iter().any(|m| m.id == *id);
            let Some(held) = self.holders.get(*id).filter(|_| !moved) else {
                continue;
            };
            if let Some(to) = self.placer.place(&held.shape) {
                let from = held.pieces[0].clone();
                self.placer.give(&held.shape, &from);
                cost += held.move_cost(self.now_ms);
                moves.push(Move { id: *id, from, to });
            }
        }
        self.placer.set_open(node, true);
        (moves, cost)
    }

    fn undo(&mut self, moves: &[Move], node: usize) {
        for m in moves.iter().rev() {
            if let Some(held) = self.holders.get(m.id) {
                self.placer.give(&held.shape, &m.to);
                self.placer.take(&held.shape, &m.from);
            }
        }
        self.placer.set_open(node, true);
    }

    fn all_movable(&self, node: usize) -> bool {
        self.holders.on(node).all(|h| self.movable(h))
    }

    fn movable(&self, held: &Held) -> bool {
        let rests = held
            .moved_ms
            .is_some_and(|at| self.now_ms.saturating_sub(at) < self.balance.rest_ms);
        held.pieces.len() == 1
            && held.disruptions_left > 0
            && held.ran_enough(self.now_ms)
            && !rests
    }

    /// GPUs of the node that work holds or could, in thousandths.
    fn size(&self, node: usize) -> u128 {
        let free = self.placer.room(node).map_or(0, |r| r.free_milli());
        let held = self.holders.on(node).map(|h| {
            let here = h.pieces.iter().filter(|p| p.node == node).count();
            u128::from(h.shape.gpu_milli()) * here as u128
        });
        u128::from(free) + held.sum::<u128>()
    }
}
