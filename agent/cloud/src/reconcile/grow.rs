//! More nodes: which launches are sent again, which offerings the others try, and why that is not enough.

use std::collections::BTreeMap;

use gpuloom_fleet::{Market, PoolPlace};

use super::{Launch, Reconciling, Shortfall, Sorted, count};
use crate::cloud::FailureClass;
use crate::instance::Instance;
use crate::launch::{LaunchId, LaunchRecord, LaunchState, Token};
use crate::offering::Offering;

/// Most launches in one plan; the rest follow in the next.
pub(super) const LAUNCHES_AT_ONCE: usize = 64;

// === impl Reconciling ===

impl Reconciling<'_> {
    /// Brings what is missing of `wanted`: first by sending again what was not answered, then by trying again what
    /// failed, then anew. Never more than the pool's `max` with those that leave.
    pub(super) fn grow(&mut self, sorted: &Sorted<'_>, wanted: u32, listed: &[Instance]) {
        let have = count(sorted.stay.len() + sorted.unseen.len());
        let missing = wanted.saturating_sub(have);
        let room = self.room(sorted);
        let blocked = self.outages.of_place(self.now).is_some();
        let mut left = if blocked { 0 } else { missing.min(room) };
        let open = |r: &&LaunchRecord| !listed.iter().any(|i| i.token == r.token);
        let launches = &self.members.launches;
        let mut spot = count(self.markets(sorted).filter(|m| *m == Market::Spot).count());
        let mut sent = 0;
        let resendable = |r: &&LaunchRecord| {
            r.state == LaunchState::Sent && (r.revision == self.revision || r.revision.is_empty())
        };
        for r in launches.iter().filter(open).filter(resendable) {
            if left > 0 && self.plan.launches.len() < LAUNCHES_AT_ONCE {
                left -= 1;
                sent += 1;
                spot += u32::from(r.market() == Market::Spot);
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
        let slots = self.slots(left, wanted, spot);
        let mut slots = slots.into_iter();
        for r in launches.iter().filter(open) {
            if !matches!(r.state, LaunchState::Failed { .. }) {
                continue;
            }
            match slots.next() {
                Some(offerings) => {
                    sent += 1;
                    self.launch(r.id, r.attempt.saturating_add(1), offerings);
                }
                None if missing == 0 => self.plan.forgets.push(r.id),
                None => {}
            }
        }
        for offerings in slots {
            sent += 1;
            let id = self.next();
            self.launch(id, 1, offerings);
        }
        if missing > sent {
            self.plan.shortfall = Some(self.shortfall(missing - sent, room));
        }
    }

    /// What each of `missing` launches asks for; fewer than that when nothing can be had. `spot` nodes are spot
    /// already. On-demand nodes are bought first; a spot node whose offerings are all out is bought on-demand.
    fn slots(&self, missing: u32, wanted: u32, spot: u32) -> Vec<Vec<Offering>> {
        let spot_due = self.spec.capacity.spot_of(wanted).saturating_sub(spot);
        let spot_due = spot_due.min(missing);
        let on_demand = self.available(Market::OnDemand);
        let on_spot = match self.available(Market::Spot) {
            none if none.is_empty() => on_demand.clone(),
            some => some,
        };
        let (missing, spot_due) = (missing as usize, spot_due as usize);
        let room = LAUNCHES_AT_ONCE.saturating_sub(self.plan.launches.len());
        std::iter::repeat_n(on_demand, missing - spot_due)
            .chain(std::iter::repeat_n(on_spot, spot_due))
            .filter(|offerings| !offerings.is_empty())
            .take(room)
            .collect()
    }

    /// The offerings of `market` that may be had now, best first, as many as one call takes.
    pub(super) fn available(&self, market: Market) -> Vec<Offering> {
        let offerings = self.members.offerings.iter();
        let mut found: Vec<_> = offerings
            .filter(|o| o.market() == market && self.outages.of(o, self.now).is_none())
            .cloned()
            .collect();
        found.truncate(Offering::together(&found));
        found
    }

    /// How many more instances the pool's `max` allows.
    pub(super) fn room(&self, sorted: &Sorted<'_>) -> u32 {
        let there = sorted.stay.len() + sorted.leaving.len() + sorted.unseen.len();
        self.spec.max.saturating_sub(count(there))
    }

    pub(super) fn launch(&mut self, id: LaunchId, attempt: u32, offerings: Vec<Offering>) {
        let record = LaunchRecord {
            id,
            pool: self.spec.name.clone(),
            attempt,
            offerings,
            token: Token::of(&self.members.salt, id, attempt),
            revision: self.revision.clone(),
            state: LaunchState::Sent,
            at: self.now,
        };
        self.plan.launches.push(Launch {
            record,
            again: false,
        });
    }

    fn shortfall(&self, missing: u32, room: u32) -> Shortfall {
        let soon = |reason: String| Shortfall {
            missing,
            reason,
            retry_at: Some(self.now),
        };
        if let Some(outage) = self.outages.of_place(self.now) {
            return Shortfall {
                missing,
                reason: format!("{}: {}", outage.class, outage.message),
                retry_at: Some(outage.until),
            };
        }
        if self.plan.launches.len() >= LAUNCHES_AT_ONCE {
            return soon(format!(
                "{LAUNCHES_AT_ONCE} launches are sent at a time, the others follow"
            ));
        }
        let offerings = &self.members.offerings;
        if offerings.is_empty() {
            let reason = match (&self.spec.place, self.members.no_offerings.as_str()) {
                (PoolPlace::Existing, _) => {
                    "its machines exist already: start the agent on them with a join token"
                }
                (_, "") => "nothing that its place offers has the pool's GPUs",
                (_, why) => why,
            };
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
        if outages.is_empty() && room < missing {
            return soon("nodes that leave make room first: max is reached".to_owned());
        }
        let mut said: Vec<((FailureClass, &str), Vec<&str>)> = Vec::new();
        let mut known: BTreeMap<(FailureClass, &str), usize> = BTreeMap::new();
        for (o, outage) in &outages {
            let key = (outage.class, outage.message.as_str());
            let at = *known.entry(key).or_insert(said.len());
            if at == said.len() {
                said.push((key, Vec::new()));
            }
            said[at].1.push(&o.0);
        }
        let said: Vec<_> = said
            .into_iter()
            .map(|((class, message), of)| format!("{}: {class}: {message}", of.join(", ")))
            .collect();
        Shortfall {
            missing,
            reason: said.join("; "),
            retry_at: outages.iter().map(|(_, out)| out.until).min(),
        }
    }
}
