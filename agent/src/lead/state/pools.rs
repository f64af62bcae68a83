//! Pool sizes and launches as they are stored.

use super::State;
use super::draft::{Change, Draft};
use crate::lead::record::Piece;
use gpuloom_cloud::{LaunchId, LaunchRecord};
use gpuloom_fleet::{EventKind, Millis, NodeState, PoolName, PoolPhase, PoolStatus};

/// How many instances a pool has and lacks, as its cloud says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolSeen {
    pub(crate) provisioned: u32,
    /// Why there are fewer than wanted; empty when there are enough.
    pub(crate) shortfall: String,
}

// === impl State ===

impl State {
    /// Stores launches; the number of the next one goes along.
    pub(crate) fn store_launches(&self, records: &[LaunchRecord]) -> Change {
        let mut draft = Draft::new(self);
        let next = records.iter().map(|r| r.id.0 + 1).max().unwrap_or(0);
        if next > self.next_launch {
            draft.put(Piece::NextLaunch(next));
        }
        // The number is stored no later than the records that use it; those may be more than one transaction takes.
        for record in records {
            if self.launches.get(&record.id) != Some(record) {
                draft.put(Piece::Launch(record.clone()));
                draft.next_part();
            }
        }
        draft.finish()
    }

    /// Forgets a launch whose instance is verified gone.
    pub(crate) fn forget_launch(&self, id: LaunchId) -> Change {
        let mut draft = Draft::new(self);
        if self.launches.contains_key(&id) {
            draft.put(Piece::NoLaunch(id));
        }
        draft.finish()
    }

    /// Moves a pool's wanted size within its bounds.
    pub(crate) fn resize_pool(
        &self,
        pool: &PoolName,
        to: u32,
        reason: &str,
        now: Millis,
    ) -> Change {
        let mut draft = Draft::new(self);
        let (Some((spec, record)), Some(old)) = (self.pool(pool), self.pools.get(pool)) else {
            return draft.finish();
        };
        let to = to.clamp(spec.min, spec.max);
        if record.withdrawing || to == old.wanted {
            return draft.finish();
        }
        draft.put(Piece::Pool(
            pool.clone(),
            PoolStatus {
                wanted: to,
                changed_at: now,
                change_reason: reason.to_owned(),
                ..old.clone()
            },
        ));
        draft.event(EventKind::PoolResized {
            pool: pool.clone(),
            from: old.wanted,
            to,
            reason: reason.to_owned(),
        });
        draft.finish()
    }

    /// Nodes of a pool that are joined and take jobs.
    pub(crate) fn ready_nodes(&self, pool: &PoolName) -> u32 {
        let ready = self.nodes.values().filter(|n| n.pool == *pool).filter(|n| {
            matches!(
                self.node_state(&n.id).0,
                NodeState::Ready | NodeState::Cordoned
            )
        });
        u32::try_from(ready.count()).unwrap_or(u32::MAX)
    }

    /// Writes down what is seen of a pool.
    pub(crate) fn see_pool(&self, pool: &PoolName, seen: &PoolSeen) -> Change {
        let mut draft = Draft::new(self);
        let (Some((_, record)), Some(old)) = (self.pool(pool), self.pools.get(pool)) else {
            return draft.finish();
        };
        let ready = self.ready_nodes(pool);
        let enough = ready >= old.wanted;
        let phase = match old.phase {
            _ if record.withdrawing => PoolPhase::Draining,
            _ if enough => PoolPhase::Ready,
            PoolPhase::Provisioning if seen.shortfall.is_empty() => PoolPhase::Provisioning,
            // Lately grown, or a node restarts: nothing says it cannot be had.
            PoolPhase::Ready if seen.shortfall.is_empty() && seen.provisioned >= old.wanted => {
                PoolPhase::Ready
            }
            _ => PoolPhase::Degraded,
        };
        let new = PoolStatus {
            provisioned: seen.provisioned,
            ready,
            phase,
            shortfall: if enough {
                String::new()
            } else {
                seen.shortfall.clone()
            },
            ..old.clone()
        };
        if new != *old {
            draft.put(Piece::Pool(pool.clone(), new));
        }
        draft.finish()
    }
}
