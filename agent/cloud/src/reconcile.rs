//! What has to be launched, adopted and ended so that a pool has the nodes it wants.

mod balance;
mod grow;

use std::collections::{BTreeMap, BTreeSet};

use gpuloom_fleet::{InstanceId, Market, Millis, PoolSpec, Seconds};

use crate::instance::{Instance, InstanceState};
use crate::launch::{LaunchId, LaunchRecord, LaunchState, Outages, Token};
use crate::offering::Offering;

/// What is known of a pool's nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// Nodes wanted now; 0 when the pool is withdrawn. Cut to the pool's `max`.
    pub wanted: u32,
    /// The instances that carry the pool's tags; `None` when the cloud could not be asked (not: there are none).
    pub listed: Option<Vec<Instance>>,
    /// Every stored launch of the pool.
    pub launches: Vec<LaunchRecord>,
    /// Instances that run jobs: drained before they are ended by a scale-in.
    pub busy: BTreeSet<InstanceId>,
    /// What is known of the instances whose agent has joined.
    pub nodes: BTreeMap<InstanceId, MemberNode>,
    /// What nodes may be made of, best first.
    pub offerings: Vec<Offering>,
    /// Why there are no offerings, in words for the pool's owner; empty when there are.
    pub no_offerings: String,
    /// The first launch number never used in the fleet.
    pub next_launch: LaunchId,
    /// Random, of the fleet: see [`Token::of`].
    pub salt: String,
    /// How long an instance may exist before the cloud lists it; 0 for `local`.
    pub listing_lag: Seconds,
}

/// What the lead knows of a member whose agent has joined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemberNode {
    /// It was heard of just now: it exists, listed or not.
    pub reporting: bool,
    /// It takes jobs, or would if it were not cordoned.
    pub ready: bool,
    /// Its cloud has said that it ends it soon: it is replaced ahead.
    pub leaving: bool,
    /// Cordoned because a plan drains it.
    pub cordoned: bool,
}

/// What is to be done, in this order: adoptions, forgets, then terminations, starts and launches side by side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// To send; each record is stored first.
    pub launches: Vec<Launch>,
    /// To end.
    pub terminations: Vec<Termination>,
    /// Instances that exist and whose record does not say so yet.
    pub adoptions: Vec<Adoption>,
    /// Give no new job to these; they are ended, for this reason, when they are no longer busy.
    pub drains: Vec<Termination>,
    /// Stopped instances to bring back.
    pub starts: Vec<InstanceId>,
    /// Records of launches that nothing is left of.
    pub forgets: Vec<LaunchId>,
    /// Why this plan does not reach the wanted size, if it does not.
    pub shortfall: Option<Shortfall>,
}

/// A launch to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// To be stored as it is, before it is sent.
    pub record: LaunchRecord,
    /// It was stored (and perhaps sent) before, with the same token.
    pub again: bool,
}

/// An instance that becomes a member by being found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// To be stored as it is; its state names the instance.
    pub record: LaunchRecord,
    /// No record knew its token: the store is older than the cloud, or lost it.
    pub unrecorded: bool,
}

/// An instance to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    /// Which.
    pub instance: InstanceId,
    /// Why.
    pub why: Why,
}

/// Why an instance is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// More nodes than wanted.
    Surplus,
    /// The same token launched another one: a cloud that ignores tokens.
    Duplicate,
    /// Its end was begun and not seen through.
    Unfinished,
    /// Its cloud takes it back soon, and its jobs have ended.
    Notice,
    /// It is made of something else than the pool is now.
    Outdated,
    /// The pool's share of spot nodes is to be restored.
    Market,
}

/// Nodes that are missing and that nothing in the plan brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// How many.
    pub missing: u32,
    /// Why, in words for the pool's owner.
    pub reason: String,
    /// When it is worth trying again; `None`: not before something changes.
    pub retry_at: Option<Millis>,
}

/// The work of one call.
struct Reconciling<'a> {
    spec: &'a PoolSpec,
    members: &'a Members,
    outages: &'a Outages,
    now: Millis,
    revision: String,
    next_launch: u64,
    plan: Plan,
}

/// The members, sorted.
struct Sorted<'i> {
    /// Listed, one per token, not being ended and not about to be taken back.
    stay: Vec<&'i Instance>,
    /// Listed and about to be taken back by their cloud.
    leaving: Vec<&'i Instance>,
    /// Launched and not listed yet, or sent under an older revision and not known to exist: a market each.
    unseen: Vec<Market>,
}

/// Decides what brings the pool to its wanted size. Never launches twice for one launch record: what was sent and
/// not answered is adopted by its token, or sent again with the same token. Never has more than the pool's `max`
/// instances that are not being ended. When the cloud could not be asked the plan is empty but for its shortfall.
#[must_use]
pub fn reconcile(spec: &PoolSpec, members: &Members, outages: &Outages, now: Millis) -> Plan {
    let Some(listed) = &members.listed else {
        let reason = "the place of the pool cannot be asked which nodes exist".to_owned();
        let shortfall = Shortfall {
            missing: 0,
            reason,
            retry_at: Some(now),
        };
        return Plan {
            shortfall: Some(shortfall),
            ..Plan::default()
        };
    };
    let mut r = Reconciling {
        spec,
        members,
        outages,
        now,
        revision: spec.revision(),
        next_launch: members.next_launch.0,
        plan: Plan::default(),
    };
    let alive = r.sort_out(listed);
    let unseen = r.settle(listed);
    let (leaving, stay) = alive.iter().partition(|i| r.node(i).leaving);
    let sorted = Sorted {
        stay,
        leaving,
        unseen,
    };
    let wanted = members.wanted.min(spec.max);
    r.leave(&sorted.leaving);
    let have = count(sorted.stay.len() + sorted.unseen.len());
    if have > wanted {
        r.shrink(&sorted, wanted, have - wanted);
    } else {
        r.update(&sorted.stay, wanted);
    }
    r.revive(&sorted.stay, wanted);
    r.grow(&sorted, wanted, listed);
    r.balance(&sorted, wanted);
    r.plan
}

// === impl Reconciling ===

impl Reconciling<'_> {
    /// The members among the listed: one per token, not being ended. Adopts those without a matching record.
    fn sort_out<'i>(&mut self, listed: &'i [Instance]) -> Vec<&'i Instance> {
        let mut by_token: BTreeMap<&Token, Vec<&Instance>> = BTreeMap::new();
        for i in listed {
            if i.state == InstanceState::Terminating {
                self.end(i, Why::Unfinished);
            } else {
                by_token.entry(&i.token).or_default().push(i);
            }
        }
        let mut alive = Vec::new();
        for (token, mut same) in by_token {
            let record = self.members.launches.iter().find(|r| r.token == *token);
            let named = record.and_then(|r| match &r.state {
                LaunchState::Launched { instance } => Some(instance),
                _ => None,
            });
            same.sort_by_key(|i| (Some(&i.id) != named, i.launched_at, &i.id));
            for (place, i) in same.into_iter().enumerate() {
                if place > 0 {
                    self.end(i, Why::Duplicate);
                    continue;
                }
                if named != Some(&i.id) {
                    self.adopt(record, i);
                }
                alive.push(i);
            }
        }
        alive
    }

    fn adopt(&mut self, record: Option<&LaunchRecord>, instance: &Instance) {
        let state = LaunchState::Launched {
            instance: instance.id.clone(),
        };
        let adopted = match record {
            Some(r) => LaunchRecord {
                state,
                at: self.now,
                ..r.clone()
            },
            None => LaunchRecord {
                id: self.next(),
                pool: self.spec.name.clone(),
                attempt: 1,
                offerings: vec![instance.offering.clone()],
                token: instance.token.clone(),
                revision: instance.revision().unwrap_or_default().to_owned(),
                state,
                at: self.now,
            },
        };
        self.plan.adoptions.push(Adoption {
            record: adopted,
            unrecorded: record.is_none(),
        });
    }

    /// Forgets records whose instance is gone; returns what is not listed but counts: instances that may be listed
    /// later or that were heard of, and launches whose request cannot be sent again as it was.
    fn settle(&mut self, listed: &[Instance]) -> Vec<Market> {
        let mut unseen = Vec::new();
        for r in &self.members.launches {
            if listed.iter().any(|i| i.token == r.token) {
                continue;
            }
            let counts = match &r.state {
                LaunchState::Launched { instance } => {
                    if listed.iter().any(|i| i.id == *instance) {
                        continue;
                    }
                    // One that has joined was there; what matters is whether it still is.
                    match self.members.nodes.get(instance) {
                        Some(node) => node.reporting,
                        None => self.may_be_unlisted(r),
                    }
                }
                // The same token with another request would be refused: wait until it had to be listed.
                LaunchState::Sent if r.revision != self.revision && !r.revision.is_empty() => {
                    self.may_be_unlisted(r)
                }
                LaunchState::Sent | LaunchState::Failed { .. } => continue,
            };
            if counts {
                unseen.push(r.market());
            } else {
                self.plan.forgets.push(r.id);
            }
        }
        unseen
    }

    fn may_be_unlisted(&self, r: &LaunchRecord) -> bool {
        r.at.plus(self.members.listing_lag) > self.now
    }

    /// Empties what its cloud takes back, then ends it.
    fn leave(&mut self, leaving: &[&Instance]) {
        for i in leaving {
            self.drain_or_end(i, Why::Notice);
        }
    }

    /// Ends `surplus` of the members, of the market that has too many: first those that do nothing, the newest of
    /// them first; busy ones are drained.
    fn shrink(&mut self, sorted: &Sorted<'_>, wanted: u32, surplus: u32) {
        let mut order: Vec<_> = sorted.stay.clone();
        order.sort_by_key(|i| {
            let newest = std::cmp::Reverse((i.launched_at, i.id.clone()));
            let stopped = i.state == InstanceState::Stopped;
            (self.busy(i), !stopped, !self.outdated(i), newest)
        });
        let mut spot = count(self.markets(sorted).filter(|m| *m == Market::Spot).count());
        for _ in 0..surplus {
            let least = match spot > self.spec.capacity.spot_of(wanted) {
                true => Market::Spot,
                false => Market::OnDemand,
            };
            if order.is_empty() {
                return;
            }
            let of_it = order.iter().position(|i| i.offering.market() == least);
            let victim = order.remove(of_it.unwrap_or(0));
            spot -= u32::from(victim.offering.market() == Market::Spot);
            if self.busy(victim) && self.lost(victim) {
                self.end(victim, Why::Surplus);
            } else {
                self.drain_or_end(victim, Why::Surplus);
            }
        }
    }

    /// Brings back what is stopped and stays; never for a pool that is to have none.
    fn revive(&mut self, stay: &[&Instance], wanted: u32) {
        for i in stay {
            let ends = self.plan.terminations.iter().any(|t| t.instance == i.id);
            let wanted = wanted > 0 || !self.spec.place.is_cloud();
            if i.state == InstanceState::Stopped && !ends && wanted {
                self.plan.starts.push(i.id.clone());
            }
        }
    }

    fn drain_or_end(&mut self, instance: &Instance, why: Why) {
        if self.busy(instance) {
            self.plan.drains.push(Termination {
                instance: instance.id.clone(),
                why,
            });
        } else {
            self.end(instance, why);
        }
    }

    fn end(&mut self, instance: &Instance, why: Why) {
        self.plan.terminations.push(Termination {
            instance: instance.id.clone(),
            why,
        });
    }

    fn busy(&self, instance: &Instance) -> bool {
        self.members.busy.contains(&instance.id)
    }

    /// A cloud's machine that is down has taken its jobs with it; a local agent that is down has not.
    fn lost(&self, instance: &Instance) -> bool {
        instance.state == InstanceState::Stopped && self.spec.place.is_cloud()
    }

    /// It was made of something else; one that does not say is taken for good. A local node is made of the machine,
    /// which does not change with its pool's labels.
    fn outdated(&self, instance: &Instance) -> bool {
        let other = instance.revision().is_some_and(|r| r != self.revision);
        other && self.spec.place.is_cloud()
    }

    fn node(&self, instance: &Instance) -> MemberNode {
        let node = self.members.nodes.get(&instance.id);
        node.copied().unwrap_or_default()
    }

    /// The market of each member that counts.
    fn markets(&self, sorted: &Sorted<'_>) -> impl Iterator<Item = Market> {
        let stay: Vec<_> = sorted.stay.iter().map(|i| i.offering.market()).collect();
        stay.into_iter().chain(sorted.unseen.clone())
    }

    fn next(&mut self) -> LaunchId {
        let id = LaunchId(self.next_launch);
        self.next_launch += 1;
        id
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
