//! Nodes that are replaced although their number is right: those of an older revision, and those of the wrong market.

use gpuloom_fleet::{Market, Millis, Seconds};

use super::{Reconciling, Sorted, Why, count};
use crate::instance::Instance;
use crate::launch::{LaunchRecord, LaunchState};

/// A market that was out counts as back only after so long without a refusal when a node has to end first to try it.
const REST: Seconds = Seconds(600);

// === impl Reconciling ===

impl Reconciling<'_> {
    /// Replaces nodes of an older revision, so many at a time that at most `max_unavailable` of `wanted` are away.
    /// Those that do not work anyway go first and cost nothing.
    pub(super) fn update(&mut self, stay: &[&Instance], wanted: u32) {
        let ready = stay.iter().filter(|i| self.node(i).ready).count();
        let away = wanted.saturating_sub(count(ready));
        let mut may_leave = self.spec.update.max_unavailable.saturating_sub(away);
        let mut old: Vec<_> = stay.iter().filter(|i| self.outdated(i)).collect();
        old.sort_by_key(|i| {
            let node = self.node(i);
            (
                node.ready,
                !node.cordoned,
                self.busy(i),
                i.launched_at,
                &i.id,
            )
        });
        for i in old {
            if self.node(i).ready {
                if may_leave == 0 {
                    continue;
                }
                may_leave -= 1;
            }
            self.drain_or_end(i, Why::Outdated);
        }
    }

    /// Moves one idle node to the market that has too few, when the pool is whole and at rest: launches the new one
    /// first where the pool's `max` has room, and else ends the old one first.
    pub(super) fn balance(&mut self, sorted: &Sorted<'_>, wanted: u32) {
        let at_rest = self.plan.launches.is_empty()
            && self.plan.terminations.is_empty()
            && self.plan.drains.is_empty()
            && self.plan.starts.is_empty()
            && sorted.unseen.is_empty()
            && sorted.leaving.is_empty()
            && count(sorted.stay.len()) == wanted
            && sorted.stay.iter().all(|i| self.node(i).ready);
        if !at_rest || self.unanswered(sorted) {
            return;
        }
        let spot = self.markets(sorted).filter(|m| *m == Market::Spot);
        let spot = count(spot.count());
        let spot_wanted = self.spec.capacity.spot_of(wanted);
        let (from, to) = match spot.cmp(&spot_wanted) {
            std::cmp::Ordering::Equal => return,
            std::cmp::Ordering::Less => (Market::OnDemand, Market::Spot),
            std::cmp::Ordering::Greater => (Market::Spot, Market::OnDemand),
        };
        let idle = sorted.stay.iter();
        let idle = idle.filter(|i| i.offering.market() == from && !self.busy(i));
        let Some(victim) = idle.min_by_key(|i| (i.launched_at, &i.id)) else {
            return;
        };
        let offerings = self.available(to);
        if offerings.is_empty() {
            return;
        }
        if self.room(sorted) > 0 {
            let id = self.next();
            self.launch(id, 1, offerings);
        } else if offerings.iter().any(|o| self.rested(o)) {
            self.end(victim, Why::Market);
        }
    }

    fn rested(&self, offering: &crate::Offering) -> bool {
        let before = Millis(self.now.0.saturating_sub(REST.0 * 1000));
        self.outages.of(offering, before).is_none()
    }

    /// A launch that may exist is not accounted for.
    fn unanswered(&self, sorted: &Sorted<'_>) -> bool {
        let listed = |r: &LaunchRecord| sorted.stay.iter().any(|i| i.token == r.token);
        let mut launches = self.members.launches.iter();
        launches.any(|r| r.state == LaunchState::Sent && !listed(r))
    }
}
