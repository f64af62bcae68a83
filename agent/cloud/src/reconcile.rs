//! What has to be launched, adopted and ended so that a pool has the nodes it wants.

use std::collections::{BTreeMap, BTreeSet};

use gpuloom_fleet::{InstanceId, Millis, PoolSpec, Seconds};

use crate::instance::{Instance, InstanceState};
use crate::launch::{LaunchId, LaunchRecord, LaunchState, Outages, Token};
use crate::offering::Offering;

/// Most launches in one plan; the rest follow in the next.
const LAUNCHES_AT_ONCE: usize = 64;

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
    /// The first launch number never used in the fleet.
    pub next_launch: LaunchId,
    /// Random, of the fleet: see [`Token::of`].
    pub salt: String,
    /// How long an instance may exist before the cloud lists it; 0 for `local`.
    pub listing_lag: Seconds,
}

/// What is to be done, in this order: adoptions, forgets, terminations, starts, launches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// To send; each record is stored first.
    pub launches: Vec<Launch>,
    /// To end.
    pub terminations: Vec<Termination>,
    /// Instances that exist and whose record does not say so yet.
    pub adoptions: Vec<Adoption>,
    /// Give no new job to these; they are ended when they are no longer busy.
    pub drains: Vec<InstanceId>,
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
    next_launch: u64,
    plan: Plan,
}

/// Decides what brings the pool to its wanted size. Never launches twice for one launch record: what was sent and
/// not answered is adopted by its token, or sent again with the same token. When the cloud could not be asked the
/// plan is empty but for its shortfall.
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
    let next_launch = members.next_launch.0;
    let mut r = Reconciling {
        spec,
        members,
        outages,
        now,
        next_launch,
        plan: Plan::default(),
    };
    let alive = r.sort_out(listed);
    let unseen = r.settle(listed);
    let wanted = members.wanted.min(spec.max);
    let have = count(alive.len()).saturating_add(unseen);
    if have > wanted {
        r.shrink(&alive, have - wanted);
    }
    r.revive(&alive);
    r.grow(wanted.saturating_sub(have), listed);
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
                state,
                at: self.now,
            },
        };
        self.plan.adoptions.push(Adoption {
            record: adopted,
            unrecorded: record.is_none(),
        });
    }

    /// Forgets launched records whose instance is gone; returns how many are only not listed yet.
    fn settle(&mut self, listed: &[Instance]) -> u32 {
        let mut unseen = 0;
        for r in &self.members.launches {
            let LaunchState::Launched { instance } = &r.state else {
                continue;
            };
            if listed
                .iter()
                .any(|i| i.id == *instance || i.token == r.token)
            {
                continue;
            }
            if self.may_be_unlisted(r) {
                unseen += 1;
            } else {
                self.plan.forgets.push(r.id);
            }
        }
        unseen
    }

    fn may_be_unlisted(&self, r: &LaunchRecord) -> bool {
        r.at.plus(self.members.listing_lag) > self.now
    }

    /// Ends `surplus` of the members: first those that do nothing, the newest of them first; busy ones are drained.
    fn shrink(&mut self, alive: &[&Instance], surplus: u32) {
        let mut order: Vec<_> = alive.to_vec();
        let busy = |i: &Instance| self.members.busy.contains(&i.id);
        order.sort_by_key(|i| {
            let newest = std::cmp::Reverse((i.launched_at, i.id.clone()));
            (busy(i), i.state != InstanceState::Stopped, newest)
        });
        let surplus = usize::try_from(surplus).unwrap_or(usize::MAX);
        for i in order.into_iter().take(surplus) {
            if busy(i) {
                self.plan.drains.push(i.id.clone());
            } else {
                self.end(i, Why::Surplus);
            }
        }
    }

    /// Brings back what is stopped and stays.
    fn revive(&mut self, alive: &[&Instance]) {
        for i in alive {
            let ends = self.plan.terminations.iter().any(|t| t.instance == i.id);
            if i.state == InstanceState::Stopped && !ends {
                self.plan.starts.push(i.id.clone());
            }
        }
    }

    /// Brings `missing` nodes: first by sending again what was not answered, then by trying again what failed,
    /// then anew.
    fn grow(&mut self, missing: u32, listed: &[Instance]) {
        let mut missing = missing;
        let launches = &self.members.launches;
        let open = |r: &&LaunchRecord| !listed.iter().any(|i| i.token == r.token);
        for r in launches
            .iter()
            .filter(open)
            .filter(|r| r.state == LaunchState::Sent)
        {
            if missing > 0 && self.room() {
                missing -= 1;
                let record = LaunchRecord {
                    at: self.now,
                    ..r.clone()
                };
                self.plan.launches.push(Launch {
                    record,
                    again: true,
                });
            } else if missing == 0 && !self.may_be_unlisted(r) {
                self.plan.forgets.push(r.id);
            }
        }
        let offerings = Offering::of_pool(self.spec);
        let best = offerings
            .iter()
            .find(|o| self.outages.of(o, self.now).is_none())
            .cloned();
        for r in launches.iter().filter(open) {
            if !matches!(r.state, LaunchState::Failed { .. }) {
                continue;
            }
            match &best {
                Some(offering) if missing > 0 && self.room() => {
                    missing -= 1;
                    self.launch(r.id, r.attempt.saturating_add(1), offering);
                }
                _ if missing == 0 => self.plan.forgets.push(r.id),
                _ => {}
            }
        }
        if let Some(offering) = &best {
            while missing > 0 && self.room() {
                missing -= 1;
                let id = self.next();
                self.launch(id, 1, offering);
            }
        }
        if missing > 0 {
            self.plan.shortfall = Some(self.shortfall(missing, &offerings, best.is_some()));
        }
    }

    fn launch(&mut self, id: LaunchId, attempt: u32, offering: &Offering) {
        let record = LaunchRecord {
            id,
            pool: self.spec.name.clone(),
            attempt,
            offerings: vec![offering.clone()],
            token: Token::of(&self.members.salt, id, attempt),
            state: LaunchState::Sent,
            at: self.now,
        };
        self.plan.launches.push(Launch {
            record,
            again: false,
        });
    }

    fn shortfall(&self, missing: u32, offerings: &[Offering], available: bool) -> Shortfall {
        if available {
            let reason =
                format!("{LAUNCHES_AT_ONCE} launches are sent at a time, the others follow");
            return Shortfall {
                missing,
                reason,
                retry_at: Some(self.now),
            };
        }
        if offerings.is_empty() {
            let reason = "its machines exist already: start the agent on them with a join token";
            return Shortfall {
                missing,
                reason: reason.to_owned(),
                retry_at: None,
            };
        }
        let outages: Vec<_> = offerings
            .iter()
            .filter_map(|o| Some((o, self.outages.of(o, self.now)?)))
            .collect();
        let said: Vec<_> = outages
            .iter()
            .map(|(o, out)| format!("{o}: {}", out.message))
            .collect();
        let retry_at = outages.iter().map(|(_, out)| out.until).min();
        Shortfall {
            missing,
            reason: said.join("; "),
            retry_at,
        }
    }

    fn end(&mut self, instance: &Instance, why: Why) {
        self.plan.terminations.push(Termination {
            instance: instance.id.clone(),
            why,
        });
    }

    fn room(&self) -> bool {
        self.plan.launches.len() < LAUNCHES_AT_ONCE
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
