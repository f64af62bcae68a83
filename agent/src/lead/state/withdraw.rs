//! Withdrawing: an object goes when nothing needs it; a pool goes when its instances are gone.

use super::draft::{Change, Draft};
use super::{State, references};
use crate::lead::record::{Piece, TokenPurpose, TokenRecord};
use gpuloom_api::Refusal;
use gpuloom_fleet::{
    EventKind, JobId, Kind, Millis, Object, ObjectRecord, OnDestroy, OnTenantDestroy, PoolName,
    PoolPhase, StopCause,
};

/// Most names listed in a refusal.
const NAMED: usize = 5;

/// What is withdrawn.
#[derive(Debug, Clone)]
pub(crate) struct Withdraw {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// 0: whatever it is.
    pub(crate) expected_generation: u64,
    /// Pools: without regard for jobs.
    pub(crate) abandon: bool,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Withdrawn {
    pub(crate) existed: bool,
    /// Whether nothing is left to wait for.
    pub(crate) gone: bool,
}

// === impl State ===

impl State {
    /// Withdraws an object; withdrawing what is not there succeeds.
    pub(crate) fn withdraw(
        &self,
        ask: &Withdraw,
        by: &str,
        now: Millis,
    ) -> Result<(Change, Withdrawn), Refusal> {
        let (kind, name) = (ask.kind, ask.name.as_str());
        let Some(old) = self.object(kind, name) else {
            let answer = Withdrawn {
                existed: false,
                gone: true,
            };
            return Ok((Change::default(), answer));
        };
        if ask.expected_generation > 0 && ask.expected_generation != old.generation {
            let (have, got) = (old.generation, ask.expected_generation);
            return Err(Refusal::stale_generation(kind, name, have, got));
        }
        if let Some(cancelled) = self.end_tenants_jobs(old, by, now)? {
            return Ok((
                cancelled,
                Withdrawn {
                    existed: true,
                    gone: false,
                },
            ));
        }
        if !(ask.abandon && kind == Kind::Pool) {
            self.refuse_if_used(kind, name)?;
        }
        let mut draft = Draft::new(self);
        if kind == Kind::Pool {
            let pool = PoolName::new(name)
                .map_err(|e| Refusal::invalid_field("name", name, e.to_string(), ""))?;
            let gone = self.withdraw_pool(&mut draft, &pool, old, ask.abandon, by, now)?;
            return Ok((
                draft.finish(),
                Withdrawn {
                    existed: true,
                    gone,
                },
            ));
        }
        if kind == Kind::Tenant {
            // A later tenant of the same name must not inherit them: they go first, each by itself,
            // since there may be more than one transaction takes.
            let theirs = |t: &&TokenRecord| matches!(&t.purpose, TokenPurpose::Submit { tenant } if tenant.as_str() == name);
            for token in self.tokens.values().filter(theirs) {
                draft.next_part();
                draft.put(Piece::NoToken(token.hash.clone()));
            }
            draft.next_part();
        }
        draft.put(Piece::NoObject(kind, name.to_owned()));
        draft.event(EventKind::Withdrawn {
            kind,
            name: name.to_owned(),
            by: by.to_owned(),
        });
        let answer = Withdrawn {
            existed: true,
            gone: true,
        };
        Ok((draft.finish(), answer))
    }

    /// Cancels the live jobs of a tenant that says so; `None` when there is nothing to wait for.
    fn end_tenants_jobs(
        &self,
        old: &ObjectRecord,
        by: &str,
        now: Millis,
    ) -> Result<Option<Change>, Refusal> {
        let Object::Tenant(spec) = &old.object else {
            return Ok(None);
        };
        let theirs = |id: &&JobId| {
            self.jobs
                .get(id)
                .is_some_and(|r| r.job.spec.tenant == spec.name)
        };
        let live: Vec<JobId> = self
            .pending
            .iter()
            .chain(&self.active)
            .filter(theirs)
            .copied()
            .collect();
        let users = references::users(self, Kind::Tenant, spec.name.as_str());
        if live.is_empty() || spec.on_destroy == OnTenantDestroy::Refuse || !users.is_empty() {
            return Ok(None);
        }
        let mut draft = Draft::new(self);
        draft.put(Piece::Object(ObjectRecord {
            withdrawing: true,
            ..old.clone()
        }));
        for id in live {
            draft.cancel(id, by, now);
        }
        Ok(Some(draft.finish()))
    }

    fn refuse_if_used(&self, kind: Kind, name: &str) -> Result<(), Refusal> {
        let users = references::users(self, kind, name);
        if !users.is_empty() {
            let message = format!("{kind} {name} is used by {}", list(&users));
            return Err(Refusal::in_use(message, "remove those first"));
        }
        // Live jobs of a class that goes run on with the value 0: they hold nothing of it.
        let live = self.pending.iter().chain(&self.active);
        let uses = |id: &&JobId| {
            kind == Kind::Tenant
                && self
                    .jobs
                    .get(id)
                    .is_some_and(|r| r.job.spec.tenant.as_str() == name)
        };
        let jobs: Vec<String> = live.filter(uses).map(JobId::to_string).collect();
        if !jobs.is_empty() {
            let message = format!("{kind} {name} has live jobs: {}", list(&jobs));
            return Err(Refusal::in_use(
                message,
                "wait for them or cancel them first",
            ));
        }
        Ok(())
    }

    fn withdraw_pool(
        &self,
        draft: &mut Draft<'_>,
        pool: &PoolName,
        old: &ObjectRecord,
        abandon: bool,
        by: &str,
        now: Millis,
    ) -> Result<bool, Refusal> {
        let on_destroy = match self.pool(pool) {
            Some((spec, _)) => spec.on_destroy,
            None => OnDestroy::Drain,
        };
        let running: Vec<JobId> = self.jobs_in_pool(pool).collect();
        if on_destroy == OnDestroy::Refuse && !abandon && !running.is_empty() {
            let names: Vec<String> = running.iter().map(JobId::to_string).collect();
            let message = format!(
                "pool {pool} runs jobs {} and its on_destroy is refuse",
                list(&names)
            );
            let fix = "wait for them, cancel them, or set on_destroy to drain or kill";
            return Err(Refusal::in_use(message, fix));
        }
        if self.pool_is_empty(pool) {
            self.end_pool(draft, pool, by);
            return Ok(true);
        }
        let asked_by = (!old.withdrawing).then_some(by);
        self.start_draining(draft, pool, asked_by, now);
        if on_destroy == OnDestroy::Kill || abandon {
            for id in running {
                draft.next_part();
                draft.stop(id, &StopCause::Drained, now);
            }
        }
        Ok(false)
    }

    fn start_draining(
        &self,
        draft: &mut Draft<'_>,
        pool: &PoolName,
        asked_by: Option<&str>,
        now: Millis,
    ) {
        let Some((_, record)) = self.pool(pool) else {
            return;
        };
        let Some(by) = asked_by else { return };
        draft.put(Piece::Object(ObjectRecord {
            withdrawing: true,
            ..record.clone()
        }));
        let mut status = self.pools.get(pool).cloned().unwrap_or_default();
        let from = status.wanted;
        status.wanted = 0;
        status.phase = PoolPhase::Draining;
        status.shortfall.clear();
        status.changed_at = now;
        status.change_reason = format!("destroyed by {by}");
        let reason = status.change_reason.clone();
        draft.put(Piece::Pool(pool.clone(), status));
        draft.event(EventKind::PoolResized {
            pool: pool.clone(),
            from,
            to: 0,
            reason,
        });
    }

    /// Removes a withdrawn pool that holds nothing any more.
    pub(crate) fn finish_pool(&self, pool: &PoolName) -> Change {
        let mut draft = Draft::new(self);
        let going = self.pool(pool).is_some_and(|(_, r)| r.withdrawing);
        if going && self.pool_is_empty(pool) {
            self.end_pool(&mut draft, pool, "lead");
        }
        draft.finish()
    }

    fn end_pool(&self, draft: &mut Draft<'_>, pool: &PoolName, by: &str) {
        // Each by itself: a pool of machines that exist has more nodes than one transaction takes.
        for node in self.nodes.values().filter(|n| n.pool == *pool) {
            draft.next_part();
            draft.put(Piece::NoNode(node.id.clone()));
            draft.event(EventKind::NodeLeft {
                node: node.id.clone(),
                pool: pool.clone(),
            });
        }
        draft.next_part();
        draft.put(Piece::NoObject(Kind::Pool, pool.to_string()));
        draft.put(Piece::NoPool(pool.clone()));
        draft.event(EventKind::Withdrawn {
            kind: Kind::Pool,
            name: pool.to_string(),
            by: by.to_owned(),
        });
    }

    /// No instance, no launch under way, no live attempt.
    pub(crate) fn pool_is_empty(&self, pool: &PoolName) -> bool {
        self.launches.values().all(|l| l.pool != *pool) && self.jobs_in_pool(pool).next().is_none()
    }

    /// Jobs with a live attempt on a node of the pool.
    pub(crate) fn jobs_in_pool<'a>(
        &'a self,
        pool: &'a PoolName,
    ) -> impl Iterator<Item = JobId> + 'a {
        self.nodes
            .values()
            .filter(move |n| n.pool == *pool)
            .filter_map(|n| self.on_node.get(&n.id))
            .flatten()
            .copied()
    }
}

fn list(names: &[String]) -> String {
    let shown = names
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
