//! Nodes come by a token, are cordoned by people, and go when their instance is verified gone.

use super::draft::{Change, Draft};
use super::{State, live_attempt};
use crate::lead::record::{JoinUse, Membership, NodeRecord, Piece, TokenPurpose, TokenRecord};
use gpuloom_api::Refusal;
use gpuloom_fleet::{AttemptEnd, Backend, EndCause, EventKind, JobId, Millis, NodeId, PoolName};
use std::collections::BTreeMap;

/// Nodes of one fleet.
pub(crate) const MAX_NODES: usize = 2_000;

/// A node asks to join.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    /// Hex of SHA-256 of the token.
    pub(crate) token_hash: String,
    pub(crate) node: NodeId,
    /// Hex of SHA-256 of the public key in its signing request.
    pub(crate) request: String,
    pub(crate) agent_version: String,
}

// === impl State ===

impl State {
    /// Lets a node in; the same node with the same key may ask again with the same token.
    pub(crate) fn join(&self, ask: &Join, now: Millis) -> Result<(Change, PoolName), Refusal> {
        let fix = "make a new one with `gpuloom token` or a gpuloom_join_token";
        let known = self.tokens.get(&ask.token_hash);
        let Some(token) = known.filter(|t| t.expires_at > now) else {
            return Err(Refusal::denied(
                "the join token is unknown or has ended",
                fix,
            ));
        };
        let TokenPurpose::Join { pool, used_by } = &token.purpose else {
            return Err(Refusal::denied("the token is not one to join with", fix));
        };
        let this = JoinUse {
            node: ask.node.clone(),
            request: ask.request.clone(),
        };
        if used_by.as_ref().is_some_and(|u| *u != this) {
            return Err(Refusal::denied("the join token was used already", fix));
        }
        if self.pool(pool).is_none_or(|(_, r)| r.withdrawing) {
            let message = format!("pool {pool} is being destroyed");
            return Err(Refusal::in_use(message, "join another pool"));
        }
        let old = self.nodes.get(&ask.node);
        if let Some(old) = old.filter(|o| o.pool != *pool) {
            let message = format!("node {} is in pool {} already", ask.node, old.pool);
            return Err(Refusal::in_use(message, "give the node another id"));
        }
        let speaks = self.live.get(&ask.node).is_some_and(|l| !l.suspect);
        if old.is_some() && used_by.is_none() && speaks {
            // Another key for a node that is there would take its name, and its jobs, from it.
            let message = format!("node {} is connected", ask.node);
            let fix = "give this node another id, or end the other agent first";
            return Err(Refusal::in_use(message, fix));
        }
        if old.is_none() && self.nodes.len() >= MAX_NODES {
            return Err(Refusal::limit("the number of nodes", MAX_NODES, ""));
        }
        let mut draft = Draft::new(self);
        if used_by.is_none() {
            draft.put(Piece::Token(TokenRecord {
                purpose: TokenPurpose::Join {
                    pool: pool.clone(),
                    used_by: Some(this),
                },
                ..token.clone()
            }));
        }
        let membership = Membership {
            key: Some(ask.request.clone()),
            by_instance: false,
            certified_at: Some(now),
        };
        self.admit(
            &mut draft,
            &ask.node,
            pool,
            &ask.agent_version,
            membership,
            now,
        );
        Ok((draft.finish(), pool.clone()))
    }

    /// Puts down that `node` is a member with this key: a new one, or the one that was.
    pub(super) fn admit(
        &self,
        draft: &mut Draft<'_>,
        node: &NodeId,
        pool: &PoolName,
        agent_version: &str,
        membership: Membership,
        now: Millis,
    ) {
        if let Some(old) = self.nodes.get(node) {
            draft.put(Piece::Node(NodeRecord {
                membership,
                ..old.clone()
            }));
            return;
        }
        draft.put(Piece::Node(NodeRecord {
            id: node.clone(),
            pool: pool.clone(),
            joined_at: now,
            cordon: None,
            draining: false,
            agent_version: agent_version.to_owned(),
            endpoint: String::new(),
            backend: Backend::Nvml,
            devices: Vec::new(),
            capabilities: BTreeMap::new(),
            membership,
        }));
        draft.event(EventKind::NodeJoined {
            node: node.clone(),
            pool: pool.clone(),
        });
    }

    /// Cordons, drains or opens a node; true when that changes something.
    pub(crate) fn set_schedulable(
        &self,
        node: &NodeId,
        schedulable: bool,
        drain: bool,
        reason: &str,
    ) -> Result<(Change, bool), Refusal> {
        let old = self.nodes.get(node);
        let old = old.ok_or_else(|| Refusal::not_found("node", node, "see `gpuloom nodes`"))?;
        if reason.len() > 256 || reason.chars().any(char::is_control) {
            let fix = "use at most 256 bytes without control characters";
            return Err(Refusal::invalid_field(
                "reason",
                reason,
                "is not a reason",
                fix,
            ));
        }
        let reason = if reason.is_empty() {
            "cordoned by the admin"
        } else {
            reason
        };
        let new = NodeRecord {
            cordon: (!schedulable).then(|| reason.to_owned()),
            draining: !schedulable && drain,
            ..old.clone()
        };
        let mut draft = Draft::new(self);
        let changed = new != *old;
        if changed {
            let state = match (schedulable, drain) {
                (true, _) => "ready",
                (false, true) => "draining",
                (false, false) => "cordoned",
            };
            draft.event(EventKind::NodeChanged {
                node: node.clone(),
                state: state.to_owned(),
                reason: if schedulable {
                    String::new()
                } else {
                    reason.to_owned()
                },
            });
            draft.put(Piece::Node(new));
        }
        Ok((draft.finish(), changed))
    }

    /// The node's instance is verified gone: its attempts are lost, its record ends.
    pub(crate) fn node_gone(&self, node: &NodeId, why: &str, now: Millis) -> Change {
        let mut draft = Draft::new(self);
        for id in self.on_node.get(node).cloned().unwrap_or_default() {
            draft.next_part();
            self.lose(&mut draft, id, why, now);
        }
        if let Some(old) = self.nodes.get(node) {
            draft.next_part();
            draft.put(Piece::NoNode(node.clone()));
            draft.event(EventKind::NodeLeft {
                node: node.clone(),
                pool: old.pool.clone(),
            });
        }
        draft.finish()
    }

    /// A job's live attempt is lost. What was told to stop counts as stopped.
    pub(super) fn lose(&self, draft: &mut Draft<'_>, id: JobId, why: &str, now: Millis) {
        let Some(attempt) = self.jobs.get(&id).and_then(live_attempt) else {
            return;
        };
        let (started_at, cause) = match &attempt.state {
            gpuloom_fleet::AttemptState::Stopping { since, cause, .. } => {
                (*since, EndCause::Stopped { why: cause.clone() })
            }
            gpuloom_fleet::AttemptState::Running { since } => (Some(*since), lost(why)),
            _ => (None, lost(why)),
        };
        let end = AttemptEnd {
            started_at,
            ended_at: now,
            exit: None,
            cause,
        };
        draft.end_attempt(id, end, now);
    }
}

fn lost(why: &str) -> EndCause {
    EndCause::Lost {
        message: why.to_owned(),
    }
}
