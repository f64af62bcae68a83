//! Members by their cloud's word, and certificates: which are good, and who gets a fresh one.

use super::draft::{Change, Draft};
use super::nodes::MAX_NODES;
use super::{Join, State};
use crate::lead::record::{Membership, NodeRecord, Piece};
use gpuloom_api::Refusal;
use gpuloom_api::tls::NODE_LIFETIME;
use gpuloom_cloud::LaunchState;
use gpuloom_cloud_attest::Known;
use gpuloom_fleet::{Millis, NodeId, PoolName};

/// How long after its certificate was given a node that joined by token may come back with its key
/// alone: it was switched off, or the lead was away.
pub(crate) const COME_BACK_MS: u64 = 30 * 24 * 3600 * 1000;
/// How much longer than its lifetime a certificate may live by the lead's clock.
const SLACK_MS: u64 = 3600 * 1000;

const GONE_FIX: &str = "end the agent; to join again, remove its identity and use a new join token";

/// An instance whose proof was judged good.
#[derive(Debug, Clone)]
pub(crate) struct InstanceJoin {
    pub(crate) node: NodeId,
    pub(crate) pool: PoolName,
    /// Hex of SHA-256 of its public key.
    pub(crate) key: String,
    pub(crate) agent_version: String,
}

/// The certificate behind a node's call.
#[derive(Debug, Clone)]
pub(crate) struct Presented {
    pub(crate) node: NodeId,
    /// Hex of SHA-256 of its public key.
    pub(crate) key: String,
    /// When it ends.
    pub(crate) not_after: Millis,
}

// === impl State ===

impl State {
    /// The instance that was launched for `pool` and is called `node`, as far as the lead's book knows; and
    /// whether a launch of the pool is under way whose instance is not known.
    pub(crate) fn launched(&self, pool: &PoolName, node: &NodeId) -> (Option<Known>, bool) {
        let of_pool = || self.launches.values().filter(|l| l.pool == *pool);
        let known = of_pool().find_map(|l| match &l.state {
            LaunchState::Launched { instance } if instance.as_str() == node.as_str() => {
                let record = self.nodes.get(node).filter(|n| n.membership.by_instance);
                Some(Known {
                    instance: node.to_string(),
                    vm_id: None,
                    launched_at: l.at,
                    joined_with: record.and_then(|n| n.membership.key.clone()),
                })
            }
            _ => None,
        });
        let launching = of_pool().any(|l| matches!(l.state, LaunchState::Sent));
        (known, launching)
    }

    /// Lets in an instance that proved which it is. What was judged is looked at once more: another may
    /// have joined under its name meanwhile, or its launch been given up.
    pub(crate) fn join_instance(
        &self,
        ask: &InstanceJoin,
        now: Millis,
    ) -> Result<(Change, ()), Refusal> {
        if self.pool(&ask.pool).is_none_or(|(_, r)| r.withdrawing) {
            let message = format!("pool {} is being destroyed", ask.pool);
            return Err(Refusal::in_use(message, "end the agent"));
        }
        if self.launched(&ask.pool, &ask.node).0.is_none() {
            let refusal = gpuloom_cloud_attest::Refusal::NotLaunched {
                instance: ask.node.to_string(),
            };
            return Err(Refusal::denied(refusal.to_string(), refusal.fix()));
        }
        match self.nodes.get(&ask.node) {
            Some(old) if old.membership.key.as_ref() != Some(&ask.key) => {
                let refusal = gpuloom_cloud_attest::Refusal::SecondJoin {
                    instance: ask.node.to_string(),
                };
                return Err(Refusal::denied(refusal.to_string(), refusal.fix()));
            }
            None if self.nodes.len() >= MAX_NODES => {
                return Err(Refusal::limit("the number of nodes", MAX_NODES, ""));
            }
            _ => {}
        }
        let membership = Membership {
            key: Some(ask.key.clone()),
            by_instance: true,
            certified_at: Some(now),
        };
        let mut draft = Draft::new(self);
        self.admit(
            &mut draft,
            &ask.node,
            &ask.pool,
            &ask.agent_version,
            membership,
            now,
        );
        Ok((draft.finish(), ()))
    }

    /// Lets a member that joined by token come back with its key alone.
    pub(crate) fn come_back(&self, ask: &Join, now: Millis) -> Result<(Change, ()), Refusal> {
        let denied = |message: String| Err(Refusal::denied(message, COME_BACK_FIX));
        let Some(old) = self.nodes.get(&ask.node) else {
            return denied("no proof of identity and no join token was given".to_owned());
        };
        if old.membership.by_instance {
            return denied(format!(
                "node {} has to prove which instance it is",
                ask.node
            ));
        }
        if old.membership.key.as_ref() != Some(&ask.request) {
            return denied(format!("node {} is a member with another key", ask.node));
        }
        let since = old.membership.certified_at.unwrap_or_default();
        if now.0.saturating_sub(since.0) > COME_BACK_MS {
            return denied(format!("node {} was away for more than 30 days", ask.node));
        }
        Ok((self.certified(old, &ask.request, now), ()))
    }

    /// A member with a good certificate gets a fresh one of the same key.
    pub(crate) fn renew(&self, from: &Presented, now: Millis) -> Result<(Change, ()), Refusal> {
        let node = self.member(from, now)?;
        Ok((self.certified(node, &from.key, now), ()))
    }

    /// The member behind a certificate. Refused: a node that is gone, another key than the member's, and
    /// a certificate for ten years once it was replaced.
    pub(crate) fn member(&self, from: &Presented, now: Millis) -> Result<&NodeRecord, Refusal> {
        let Some(node) = self.nodes.get(&from.node) else {
            let message = format!("node {} is no member of the fleet any more", from.node);
            return Err(Refusal::denied(message, GONE_FIX));
        };
        if node
            .membership
            .key
            .as_ref()
            .is_some_and(|key| *key != from.key)
        {
            let message = format!("node {} is a member with another key", from.node);
            return Err(Refusal::denied(message, GONE_FIX));
        }
        let longest = u64::try_from(NODE_LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let left = from.not_after.0.saturating_sub(now.0);
        if node.membership.certified_at.is_some() && left > longest + SLACK_MS {
            let message = format!(
                "node {}'s certificate was replaced by a newer one",
                from.node
            );
            return Err(Refusal::denied(message, "restart its agent"));
        }
        Ok(node)
    }

    fn certified(&self, node: &NodeRecord, key: &str, now: Millis) -> Change {
        let mut draft = Draft::new(self);
        draft.put(Piece::Node(NodeRecord {
            membership: Membership {
                key: Some(key.to_owned()),
                by_instance: node.membership.by_instance,
                certified_at: Some(now),
            },
            ..node.clone()
        }));
        draft.finish()
    }
}

const COME_BACK_FIX: &str = "an instance of a cloud proves which it is (`[instance] cloud`, `[node] join = \"instance\"`); \
     any other machine needs a new join token: `gpuloom token create --join --pool POOL`";

#[cfg(test)]
mod tests {
    use super::super::tests::{World, node_id, pool_name};
    use super::*;
    use gpuloom_cloud::{LaunchId, LaunchRecord, Token};
    use gpuloom_fleet::InstanceId;

    const HOUR: u64 = 3_600_000;

    fn ask(node: &str, key: &str) -> InstanceJoin {
        InstanceJoin {
            node: node_id(node),
            pool: pool_name("t4"),
            key: key.to_owned(),
            agent_version: "1".to_owned(),
        }
    }

    fn presented(node: &str, key: &str, lives: u64, now: Millis) -> Presented {
        Presented {
            node: node_id(node),
            key: key.to_owned(),
            not_after: Millis(now.0 + lives),
        }
    }

    fn back(node: &str, key: &str) -> Join {
        Join {
            token_hash: String::new(),
            node: node_id(node),
            request: key.to_owned(),
            agent_version: "1".to_owned(),
        }
    }

    /// A world whose lead has launched `i-1` for t4, and sent a launch that is not answered yet.
    fn world() -> World {
        let mut w = World::small();
        let record = |id, state| LaunchRecord {
            id: LaunchId(id),
            pool: pool_name("t4"),
            attempt: 1,
            offerings: Vec::new(),
            token: Token::of("x", LaunchId(id), 1),
            revision: String::new(),
            state,
            at: w.now,
        };
        let instance = InstanceId::new("i-1").expect("an id");
        let launches = [
            record(1, LaunchState::Launched { instance }),
            record(2, LaunchState::Sent),
        ];
        let change = w.state.store_launches(&launches);
        w.absorb(change);
        w
    }

    fn said<T>(result: Result<T, Refusal>) -> String {
        result.err().map(|r| r.to_string()).unwrap_or_default()
    }

    #[test]
    fn an_instance_joins_once_and_again_with_the_same_key_alone() {
        let mut w = world();
        let (known, launching) = w.state.launched(&pool_name("t4"), &node_id("i-1"));
        assert_eq!(known.expect("was launched").joined_with, None);
        assert!(launching);
        let (change, ()) = w
            .state
            .join_instance(&ask("i-1", "k1"), w.now)
            .expect("joins");
        w.absorb(change);
        let known = w.state.launched(&pool_name("t4"), &node_id("i-1")).0;
        assert_eq!(
            known.expect("was launched").joined_with.as_deref(),
            Some("k1")
        );
        assert!(w.state.join_instance(&ask("i-1", "k1"), w.now).is_ok());
        let second = said(w.state.join_instance(&ask("i-1", "k2"), w.now));
        assert!(second.contains("with another key"), "{second}");
        let stranger = said(w.state.join_instance(&ask("i-9", "k1"), w.now));
        assert!(stranger.contains("not launched"), "{stranger}");
        // A name that a node has which joined by token is taken as well.
        let taken = w.state.launched(&pool_name("t4"), &node_id("n1")).0;
        assert_eq!(taken, None);
    }

    #[test]
    fn a_certificate_is_renewed_while_its_node_is_a_member_and_its_key_is_the_members() {
        let mut w = world();
        let (change, ()) = w
            .state
            .join_instance(&ask("i-1", "k1"), w.now)
            .expect("joins");
        w.absorb(change);
        w.now = Millis(w.now.0 + 12 * HOUR);
        let (change, ()) = w
            .state
            .renew(&presented("i-1", "k1", 12 * HOUR, w.now), w.now)
            .expect("renews");
        w.absorb(change);
        assert_eq!(
            w.state.nodes[&node_id("i-1")].membership.certified_at,
            Some(w.now)
        );
        let other = said(
            w.state
                .renew(&presented("i-1", "k2", 12 * HOUR, w.now), w.now),
        );
        assert!(other.contains("another key"), "{other}");
        let change = w.state.node_gone(&node_id("i-1"), "drained", w.now);
        w.absorb(change);
        let gone = said(
            w.state
                .renew(&presented("i-1", "k1", 12 * HOUR, w.now), w.now),
        );
        assert!(gone.contains("no member"), "{gone}");
        assert!(
            w.state
                .member(&presented("i-1", "k1", 12 * HOUR, w.now), w.now)
                .is_err()
        );
    }

    #[test]
    fn a_certificate_of_ten_years_is_good_until_it_is_replaced() {
        let mut w = world();
        let old = presented("n1", "k", 10 * 365 * 24 * HOUR, w.now);
        assert!(w.state.member(&old, w.now).is_ok(), "n1 is of before");
        let (change, ()) = w.state.renew(&old, w.now).expect("renews");
        w.absorb(change);
        let replaced = said(w.state.member(&old, w.now).map(drop));
        assert!(replaced.contains("replaced"), "{replaced}");
        assert!(
            w.state
                .member(&presented("n1", "k", 24 * HOUR, w.now), w.now)
                .is_ok()
        );
    }

    #[test]
    fn who_joined_by_token_comes_back_with_its_key_for_thirty_days_and_an_instance_never() {
        let mut w = world();
        let (change, ()) = w
            .state
            .renew(&presented("n1", "k", HOUR, w.now), w.now)
            .expect("renews");
        w.absorb(change);
        let (change, ()) = w
            .state
            .join_instance(&ask("i-1", "k1"), w.now)
            .expect("joins");
        w.absorb(change);
        let later = Millis(w.now.0 + COME_BACK_MS);
        assert!(w.state.come_back(&back("n1", "k"), later).is_ok());
        for (ask, at, says) in [
            (back("n1", "k"), Millis(later.0 + 1), "30 days"),
            (back("n1", "other"), w.now, "another key"),
            (back("n2", "k"), w.now, "another key"),
            (back("i-1", "k1"), w.now, "prove which instance"),
            (back("n9", "k"), w.now, "no join token"),
        ] {
            let refused = said(w.state.come_back(&ask, at));
            assert!(refused.contains(says), "{says}: {refused}");
        }
    }
}
