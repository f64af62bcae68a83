//! The lead's one writer: commands in, transactions out, then everybody is told.

use super::batch::Batch;
use super::orders::orders;
use super::record::{TokenPurpose, event_key};
use super::snapshot::snapshot;
use super::state::{Change, NodeSaid, State};
use gpuloom_api::{Refusal, proto};
use gpuloom_cloud::failpoint;
use gpuloom_fleet::{Millis, NodeId, TenantName};
use gpuloom_store::{Store, StoreError, Txn};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Commands waiting for the writer; the next caller waits outside.
const QUEUE: usize = 1_024;
/// Commands decided before their transactions are written.
const AT_ONCE: usize = 256;
/// How often time alone is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Batches of events removed in one turn.
const EVENT_BATCHES_AT_ONCE: usize = 100;

/// Places at which a test can end the process: before and after each step is written.
pub const FAILPOINTS: &[&str] = &[
    "lead.declare.before",
    "lead.declare.after",
    "lead.withdraw.before",
    "lead.withdraw.after",
    "lead.confirm.before",
    "lead.confirm.after",
    "lead.submit.before",
    "lead.submit.after",
    "lead.cancel.before",
    "lead.cancel.after",
    "lead.decide.before",
    "lead.decide.after",
    "lead.report.before",
    "lead.report.after",
    "lead.tick.before",
    "lead.tick.after",
    "lead.token.before",
    "lead.token.after",
    "lead.revoke.before",
    "lead.revoke.after",
    "lead.join.before",
    "lead.join.after",
    "lead.cordon.before",
    "lead.cordon.after",
    "lead.launch.before",
    "lead.launch.after",
    "lead.forget_launch.before",
    "lead.forget_launch.after",
    "lead.node_gone.before",
    "lead.node_gone.after",
    "lead.resize.before",
    "lead.resize.after",
    "lead.see_pool.before",
    "lead.see_pool.after",
    "lead.end_pool.before",
    "lead.end_pool.after",
    "lead.found.before",
    "lead.found.after",
];

/// Milliseconds since the epoch; never runs backwards.
pub(crate) type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

type Reply = Box<dyn FnOnce() + Send>;
type See = Box<dyn FnOnce(&State, Millis) + Send>;
type Decide = Box<dyn FnOnce(&State, Millis) -> (Change, Reply) + Send>;

enum Ask {
    Write {
        step: &'static str,
        decide: Decide,
    },
    Read(See),
    Connected {
        node: NodeId,
        session: u64,
        orders: oneshot::Sender<watch::Receiver<proto::NodeOrders>>,
    },
    Report {
        node: NodeId,
        session: u64,
        said: Box<NodeSaid>,
        done: oneshot::Sender<bool>,
    },
}

/// The way to the writer; cloning shares it.
#[derive(Clone)]
pub(crate) struct Core {
    asks: mpsc::Sender<Ask>,
    revision: watch::Receiver<u64>,
    tokens: Tokens,
    pub(crate) store: Arc<dyn Store>,
}

/// Tenants' tokens as they are stored, for callers' proofs.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    known: Arc<RwLock<BTreeMap<String, (TenantName, Millis)>>>,
    clock: ClockOf,
}

#[derive(Clone)]
struct ClockOf(Clock);

/// The writer itself.
struct Writer {
    tokens: Tokens,
    state: State,
    store: Arc<dyn Store>,
    clock: Clock,
    asks: mpsc::Receiver<Ask>,
    revision: watch::Sender<u64>,
    nodes: BTreeMap<NodeId, watch::Sender<proto::NodeOrders>>,
    order_seq: u64,
    /// Whether something changed that the scheduler looks at.
    dirty: bool,
    wake_at: Option<Millis>,
}

/// What one turn has to do once its transactions are written.
#[derive(Default)]
struct Turn {
    batch: Batch,
    steps: BTreeSet<&'static str>,
    replies: Vec<Reply>,
    /// Reads that came after a change of this turn.
    later: Vec<See>,
    reported: BTreeSet<NodeId>,
}

// === impl Core ===

impl Core {
    /// Starts the writer on `state`. The task ends with `stop`, or with an error of the store: then
    /// nothing more is decided, and only a restart knows what was written.
    pub(crate) fn start(
        state: State,
        store: Arc<dyn Store>,
        clock: Clock,
        stop: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<Result<(), StoreError>>) {
        let (asks_in, asks) = mpsc::channel(QUEUE);
        let (revision, seen) = watch::channel(0);
        let tokens = Tokens {
            known: Arc::default(),
            clock: ClockOf(clock.clone()),
        };
        tokens.refresh(&state);
        let writer = Writer {
            tokens: tokens.clone(),
            state,
            store: store.clone(),
            clock,
            asks,
            revision,
            nodes: BTreeMap::new(),
            order_seq: 0,
            dirty: true,
            wake_at: None,
        };
        let task = tokio::spawn(writer.run(stop));
        let core = Self {
            asks: asks_in,
            revision: seen,
            tokens,
            store,
        };
        (core, task)
    }

    /// Decides `f` on the state, writes what it changes, and answers when that is durable.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        step: &'static str,
        f: impl FnOnce(&State, Millis) -> Result<(Change, T), Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (tx, rx) = oneshot::channel();
        let decide: Decide = Box::new(move |state, now| {
            let (change, answer) = match f(state, now) {
                Ok((change, value)) => (change, Ok(value)),
                Err(refusal) => (Change::default(), Err(refusal)),
            };
            // A caller that went away does not undo what was decided.
            let reply: Reply = Box::new(move || drop(tx.send(answer)));
            (change, reply)
        });
        self.ask(Ask::Write { step, decide }).await?;
        rx.await.map_err(|_| stopping())?
    }

    /// What `f` sees in a state that is durable.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&State, Millis) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (tx, rx) = oneshot::channel();
        let read = Box::new(move |state: &State, now| drop(tx.send(f(state, now))));
        self.ask(Ask::Read(read)).await?;
        rx.await.map_err(|_| stopping())
    }

    /// A node is connected: its orders, from its first report on.
    pub(crate) async fn connect(
        &self,
        node: NodeId,
        session: u64,
    ) -> Result<watch::Receiver<proto::NodeOrders>, Refusal> {
        let (orders, rx) = oneshot::channel();
        self.ask(Ask::Connected {
            node,
            session,
            orders,
        })
        .await?;
        rx.await.map_err(|_| stopping())
    }

    /// Takes a report in; false when a newer connection of the node has taken over.
    pub(crate) async fn report(
        &self,
        node: NodeId,
        session: u64,
        said: NodeSaid,
    ) -> Result<bool, Refusal> {
        let (done, rx) = oneshot::channel();
        self.ask(Ask::Report {
            node,
            session,
            said: Box::new(said),
            done,
        })
        .await?;
        rx.await.map_err(|_| stopping())
    }

    /// Changes whenever something was written or a node's state changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.revision.clone()
    }

    /// Tenants' tokens, always as stored.
    pub(crate) fn tokens(&self) -> Tokens {
        self.tokens.clone()
    }

    async fn ask(&self, ask: Ask) -> Result<(), Refusal> {
        self.asks.send(ask).await.map_err(|_| stopping())
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Core")
    }
}

fn stopping() -> Refusal {
    Refusal::unavailable("the lead is stopping", "try again when it is back")
}

/// What the store is asked to hold, before and after: a test may end the process there.
fn pass(steps: &BTreeSet<&'static str>, place: &str) {
    if cfg!(debug_assertions) {
        for step in steps {
            failpoint::hit(&format!("lead.{step}.{place}"));
        }
    }
}

// === impl Tokens ===

impl Tokens {
    /// Whose live token has this hash.
    pub(crate) fn tenant_of(&self, hash: &str) -> Option<TenantName> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (tenant, expires_at) = known.get(hash)?;
        ((self.clock.0)() < *expires_at).then(|| tenant.clone())
    }

    fn refresh(&self, state: &State) {
        let tenants = state.tokens.values().filter_map(|t| match &t.purpose {
            TokenPurpose::Submit { tenant } => {
                Some((t.hash.clone(), (tenant.clone(), t.expires_at)))
            }
            TokenPurpose::Join { .. } => None,
        });
        let new = tenants.collect();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = new;
    }
}

impl fmt::Debug for ClockOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

// === impl Writer ===

impl Writer {
    async fn run(mut self, stop: CancellationToken) -> Result<(), StoreError> {
        let mut tick = Instant::now() + TICK;
        loop {
            let wake = self.next_wake(tick);
            let mut turn = Turn::default();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.take(ask, &mut turn),
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(wake) => {}
            }
            for _ in 1..AT_ONCE {
                let Ok(ask) = self.asks.try_recv() else { break };
                self.take(ask, &mut turn);
            }
            let now = (self.clock)();
            if Instant::now() >= tick {
                tick = Instant::now() + TICK;
                self.tick(&mut turn, now);
            }
            if self.wake_at.is_some_and(|at| now >= at) {
                self.dirty = true;
            }
            if self.dirty {
                self.decide(&mut turn, now);
            }
            self.finish(turn).await?;
        }
    }

    fn next_wake(&self, tick: Instant) -> Instant {
        let Some(at) = self.wake_at else { return tick };
        let wait = at.0.saturating_sub((self.clock)().0);
        tick.min(Instant::now() + Duration::from_millis(wait))
    }

    fn take(&mut self, ask: Ask, turn: &mut Turn) {
        let now = (self.clock)();
        match ask {
            Ask::Write { step, decide } => {
                let (change, reply) = decide(&self.state, now);
                self.absorb(turn, step, change, now);
                turn.replies.push(reply);
            }
            // Read when this turn is durable.
            Ask::Read(read) if turn.batch.is_empty() => read(&self.state, now),
            Ask::Read(read) => {
                // What is decided but not yet written must not be seen: the read waits its turn.
                turn.later.push(read);
            }
            Ask::Connected {
                node,
                session,
                orders,
            } => {
                self.state.node_connected(&node, session, now);
                let sender = self.nodes.entry(node).or_default();
                drop(orders.send(sender.subscribe()));
            }
            Ask::Report {
                node,
                session,
                said,
                done,
            } => {
                let current = self.state.live.get(&node).map(|l| l.session) == Some(session);
                let known = self.state.nodes.contains_key(&node);
                if current && known {
                    self.report(turn, node, *said, now);
                }
                let _ = done.send(current && known);
            }
        }
    }

    fn report(&mut self, turn: &mut Turn, node: NodeId, said: NodeSaid, now: Millis) {
        let change = self.state.report(&node, &said, now);
        let before = self.state.node_state(&node).0;
        self.absorb(turn, "report", change, now);
        self.state.note_live(&node, said, now);
        if self.state.node_state(&node).0 != before {
            self.dirty = true;
            self.revision.send_modify(|r| *r += 1);
        }
        turn.reported.insert(node);
    }

    fn tick(&mut self, turn: &mut Turn, now: Millis) {
        let change = self.state.tick(now);
        self.absorb(turn, "tick", change, now);
        self.state.mark_silent(now);
        self.nodes.retain(|id, _| self.state.nodes.contains_key(id));
        // What readings say may let a waiting job in.
        self.dirty |= !self.state.pending.is_empty();
    }

    fn decide(&mut self, turn: &mut Turn, now: Millis) {
        self.dirty = false;
        if self.state.pending.is_empty() && self.state.quotas().next().is_none() {
            self.state.reasons.clear();
            self.wake_at = None;
            return;
        }
        let decision = gpuloom_sched::decide(&snapshot(&self.state), now);
        let started = self.state.carry_out(&decision, now);
        for why in &started.refused {
            tracing::error!(%why, "a grant was not carried out");
        }
        self.wake_at = decision.wake_at;
        self.state.reasons = decision
            .refusals
            .into_iter()
            .zip(1..)
            .map(|(r, place)| (r.job, (place, r.reason)))
            .collect();
        self.absorb(turn, "decide", started.change, now);
        self.dirty = false;
    }

    fn absorb(&mut self, turn: &mut Turn, step: &'static str, change: Change, now: Millis) {
        if change.is_empty() {
            return;
        }
        debug_assert!(
            FAILPOINTS.contains(&format!("lead.{step}.before").as_str()),
            "{step} is not in FAILPOINTS"
        );
        self.dirty = true;
        turn.steps.insert(step);
        turn.batch.absorb(&mut self.state, change, now);
    }

    /// Writes the turn, then tells everybody: nothing is seen before it is durable.
    async fn finish(&mut self, turn: Turn) -> Result<(), StoreError> {
        let changed = !turn.batch.is_empty();
        let mut touched = turn.batch.touched.clone();
        touched.extend(turn.reported);
        if changed {
            pass(&turn.steps, "before");
            for (txn, first_event) in turn.batch.into_txns() {
                self.store.txn(txn).await?;
                self.state.event_batches.extend(first_event);
            }
            pass(&turn.steps, "after");
            if ["token", "revoke", "tick", "withdraw"]
                .iter()
                .any(|s| turn.steps.contains(s))
            {
                self.tokens.refresh(&self.state);
            }
            self.forget_events().await?;
        }
        for node in touched {
            self.publish_orders(&node);
        }
        if changed {
            self.revision.send_modify(|r| *r += 1);
        }
        for reply in turn.replies {
            reply();
        }
        let now = (self.clock)();
        for read in turn.later {
            read(&self.state, now);
        }
        Ok(())
    }

    fn publish_orders(&mut self, node: &NodeId) {
        let Some(sender) = self.nodes.get(node) else {
            return;
        };
        let mut new = orders(&self.state, node);
        let seq = self.order_seq + 1;
        let sent = sender.send_if_modified(|old| {
            new.seq = old.seq;
            let same = old.seq > 0 && new == *old;
            if !same {
                new.seq = seq;
                *old = new;
            }
            !same
        });
        if sent {
            self.order_seq = seq;
        }
    }

    async fn forget_events(&mut self) -> Result<(), StoreError> {
        let keep_from = self.state.next_event.saturating_sub(self.state.keep.events);
        let batches = &mut self.state.event_batches;
        let mut txn = Txn::new();
        while txn.ops.len() < EVENT_BATCHES_AT_ONCE
            && batches.get(1).is_some_and(|next| *next <= keep_from)
        {
            if let Some(first) = batches.pop_front() {
                txn = txn.delete(event_key(first));
            }
        }
        if !txn.ops.is_empty() {
            self.store.txn(txn).await?;
        }
        Ok(())
    }
}
