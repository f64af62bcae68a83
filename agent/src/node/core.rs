//! The node's state and what follows from each message: the one place that starts attempts.
//!
//! ```text
//! order -> waiting (driver in trouble) -> Starting -> Running -> Stopping -> Ended -> forgotten
//!     \--> refusing (put on disk) -> refused, reported as ended ------------------/
//! ```

use super::attempt::{Begin, Event, Held, Stop, Task};
use super::config::NodeConfig;
use super::door::{self, Seen};
use super::error::NodeError;
use super::gpus::Gpus;
use super::ledger;
use super::notice;
use super::watch::{Use, excess};
use crate::launch::{Adopted, Found, Launcher, Order, now};
use gpuloom_api::proto;
use gpuloom_cloud_imds::Notice;
use gpuloom_fleet::{
    AttemptEnd, AttemptId, Backend, Bytes, DeviceGrant, EndCause, JobSpec, Millis, StopCause,
};
use gpuloom_watch::XidEvent;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// How long an order waits for a driver that does not answer before it is refused.
const DRIVER_PATIENCE: Duration = Duration::from_secs(10);

/// What the core is told.
#[derive(Debug)]
pub(crate) enum Inbox {
    Orders(proto::NodeOrders),
    Attempt(AttemptId, Event),
    Seen(Seen),
    Xid(XidEvent),
    /// The refusal is on disk: the attempt will never start.
    Refused(AttemptId, AttemptEnd),
    Forgotten(Vec<AttemptId>),
    /// What the cloud announces, told again as time passes; `None`: nothing any more.
    Notice(Option<Notice>),
}

/// Where an attempt stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    Running(Millis),
    Stopping(Option<Millis>, StopCause),
    Ended(AttemptEnd),
}

#[derive(Debug)]
pub(crate) struct Tracked {
    pub(super) grants: Vec<DeviceGrant>,
    pub(super) grace: Option<Duration>,
    /// Whether its order is on disk. Until then it is not told: what the lead has been told of once
    /// counts as lost when a node comes back without it.
    pub(super) recorded: bool,
    pub(super) state: State,
    pub(super) memory_used: Option<Bytes>,
    /// The announced moment it was told to end before: once for each.
    leaves_before: Option<Millis>,
    stop: watch::Sender<Option<Stop>>,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(super) launcher: Launcher,
    pub(super) endpoint: String,
    pub(super) backend: Backend,
    pub(super) capabilities: BTreeMap<String, String>,
    pub(super) gpus: Gpus,
    pub(super) tracked: BTreeMap<AttemptId, Tracked>,
    /// Orders that wait for the driver.
    waiting: BTreeMap<AttemptId, (Order, Instant)>,
    refusing: BTreeSet<AttemptId>,
    pub(super) refused: BTreeMap<AttemptId, AttemptEnd>,
    forgetting: BTreeSet<AttemptId>,
    /// While there is one the node takes no more jobs.
    pub(super) notice: Option<Notice>,
    grace: Duration,
    inbox: mpsc::Sender<Inbox>,
    door: door::Handle,
    held: watch::Sender<Arc<Held>>,
    reports: watch::Sender<Arc<proto::NodeReport>>,
}

fn read_order(order: proto::AttemptOrder) -> Result<Order, String> {
    let attempt = order.attempt.parse().map_err(|e| format!("{e}"))?;
    let spec = order.spec.unwrap_or_default();
    let spec = JobSpec::try_from(spec).map_err(|e| format!("the job does not read: {e}"))?;
    let grants: Result<Vec<DeviceGrant>, _> =
        order.grants.into_iter().map(TryInto::try_into).collect();
    let grants = grants.map_err(|e| format!("the grants do not read: {e}"))?;
    Ok(Order {
        attempt,
        spec,
        grants,
    })
}

fn read_stop(stop: &proto::attempt_order::Stop) -> Stop {
    let cause = serde_json::from_str(&stop.cause_json).unwrap_or_else(|error| {
        tracing::warn!(%error, json = stop.cause_json, "the cause of a stop does not read");
        StopCause::Cancelled {
            by: "the lead".to_owned(),
        }
    });
    Stop {
        cause,
        grace: Duration::from_secs(stop.grace_s),
    }
}

fn not_started(cause: EndCause) -> AttemptEnd {
    AttemptEnd {
        started_at: None,
        ended_at: now(),
        exit: None,
        cause,
    }
}

// === impl Tracked ===

impl Tracked {
    fn is_live(&self) -> bool {
        !matches!(self.state, State::Ended(_))
    }

    /// Tells its task to stop; one that stops already only ever gets less time.
    fn stop(&self, order: Stop) {
        self.stop.send_if_modified(|present| {
            let sooner = present.as_ref().is_none_or(|p| order.grace < p.grace);
            if sooner && self.is_live() {
                *present = Some(order);
                return true;
            }
            false
        });
    }
}

// === impl Core ===

impl Core {
    pub(crate) fn new(
        config: &NodeConfig,
        launcher: Launcher,
        endpoint: String,
        inbox: mpsc::Sender<Inbox>,
        door: door::Handle,
    ) -> Self {
        Self {
            capabilities: launcher.capabilities(),
            launcher,
            endpoint,
            backend: config.backend,
            gpus: Gpus::new(now()),
            tracked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            refusing: BTreeSet::new(),
            refused: BTreeMap::new(),
            forgetting: BTreeSet::new(),
            notice: None,
            grace: Duration::from_secs(config.grace_s),
            inbox,
            door,
            held: watch::Sender::new(Arc::new(Held::default())),
            reports: watch::Sender::new(Arc::new(proto::NodeReport::default())),
        }
    }

    /// The newest report, whenever it changes.
    pub(crate) fn reports(&self) -> watch::Receiver<Arc<proto::NodeReport>> {
        self.reports.subscribe()
    }

    /// Takes over what an earlier agent left.
    pub(crate) fn adopt(&mut self, found: Vec<Adopted>) {
        for adopted in found {
            let Adopted {
                record,
                stop,
                found,
                started,
            } = adopted;
            let since = started.map(|s| s.at);
            tracing::info!(attempt = %record.attempt, ?found, "adopted");
            let order = Order {
                attempt: record.attempt,
                spec: record.spec.clone(),
                grants: record.grants.clone(),
            };
            let cause = stop.as_ref().map(|s| s.cause.clone());
            let (state, begin) = match (found, since) {
                (Found::Ended(end), _) => (State::Ended(end), None),
                (Found::Gone(gone), since) => {
                    let begin = Begin::Gone(record, since, gone, stop);
                    (State::Starting, Some(begin))
                }
                (Found::Running { .. }, Some(since)) => {
                    let state = cause.map_or(State::Running(since), |cause| {
                        State::Stopping(Some(since), cause)
                    });
                    (state, Some(Begin::Running(record, since, stop)))
                }
                // An orphan whose shim died before it could record the start runs all the same.
                (Found::Running { orphan: true }, None) => {
                    let since = record.received_at;
                    (
                        State::Running(since),
                        Some(Begin::Running(record, since, stop)),
                    )
                }
                (Found::Starting | Found::Running { .. }, None) | (Found::Starting, Some(_)) => {
                    (State::Starting, Some(Begin::Starting(record, stop)))
                }
            };
            self.track(&order, state, begin);
        }
        self.publish();
    }

    fn track(&mut self, order: &Order, state: State, begin: Option<Begin>) {
        let stop = watch::Sender::new(None);
        let recorded = !matches!(begin, Some(Begin::Order(_)));
        if let Some(begin) = begin {
            let task = Task {
                id: order.attempt,
                launcher: self.launcher.clone(),
                core: self.inbox.clone(),
                stops: stop.subscribe(),
                held: self.held.subscribe(),
                door: self.door.clone(),
                grace: self.grace,
            };
            tokio::spawn(task.run(begin));
        }
        let tracked = Tracked {
            grants: order.grants.clone(),
            grace: order.spec.grace.map(|g| Duration::from_secs(g.0)),
            recorded,
            state,
            memory_used: None,
            leaves_before: None,
            stop,
        };
        self.tracked.insert(order.attempt, tracked);
    }

    /// Handles messages until every sender is gone.
    pub(crate) async fn run(
        &mut self,
        mut messages: mpsc::Receiver<Inbox>,
    ) -> Result<(), NodeError> {
        while let Some(message) = messages.recv().await {
            self.handle(message);
            // What came in meanwhile goes into the same report.
            while let Ok(message) = messages.try_recv() {
                self.handle(message);
            }
            self.publish();
        }
        Err(NodeError::CoreEnded)
    }

    fn publish(&self) {
        let report = self.report();
        self.reports.send_if_modified(|present| {
            let changed = **present != report;
            if changed {
                *present = Arc::new(report);
            }
            changed
        });
    }

    fn handle(&mut self, message: Inbox) {
        match message {
            Inbox::Orders(orders) => self.obey(orders),
            Inbox::Attempt(id, event) => self.happened(id, event),
            Inbox::Seen(seen) => self.see(seen),
            Inbox::Xid(xid) => {
                tracing::warn!(device = %xid.device, xid = ?xid.xid, "Xid");
                self.gpus.xid(xid);
            }
            Inbox::Refused(id, end) => {
                self.refusing.remove(&id);
                self.refused.insert(id, end);
            }
            Inbox::Notice(notice) => {
                self.notice = notice;
                self.start_waiting();
                self.leave();
            }
            Inbox::Forgotten(ids) => {
                for id in ids {
                    self.forgetting.remove(&id);
                    self.tracked.remove(&id);
                    self.refused.remove(&id);
                }
            }
        }
    }

    /// Orders state everything that is wanted: what is not in them is stopped.
    fn obey(&mut self, orders: proto::NodeOrders) {
        self.door.set_poll(orders.poll_ms);
        let mut wanted = BTreeSet::new();
        for mut order in orders.attempts {
            let Ok(id) = order.attempt.parse::<AttemptId>() else {
                tracing::error!(attempt = order.attempt, "an order's attempt does not read");
                continue;
            };
            wanted.insert(id);
            let stop = order.stop.take().as_ref().map(read_stop);
            match (self.tracked.get(&id), stop) {
                (Some(tracked), Some(stop)) => tracked.stop(stop),
                (Some(_), None) => {}
                (None, Some(stop)) => {
                    self.waiting.remove(&id);
                    self.refuse(id, EndCause::Stopped { why: stop.cause });
                }
                (None, None) => self.take(id, order),
            }
        }
        self.waiting.retain(|id, _| wanted.contains(id));
        for (id, tracked) in &self.tracked {
            if !wanted.contains(id) && tracked.is_live() {
                tracing::warn!(attempt = %id, "is not wanted here and is stopped");
                tracked.stop(Stop {
                    cause: StopCause::Cancelled {
                        by: "the lead, which does not know the attempt".to_owned(),
                    },
                    grace: tracked.grace.unwrap_or(self.grace),
                });
            }
        }
        self.forget(&orders.forget);
        self.start_waiting();
    }

    /// Takes an order for an attempt that is not tracked: it waits, or is refused for good.
    fn take(&mut self, id: AttemptId, order: proto::AttemptOrder) {
        let settled = self.refused.contains_key(&id) || self.refusing.contains(&id);
        if settled || self.forgetting.contains(&id) || self.waiting.contains_key(&id) {
            return;
        }
        if self.launcher.has_seen(id) {
            let message = "it ran on this node before, and its end was stored and forgotten";
            let message = message.to_owned();
            return self.refuse(id, EndCause::Lost { message });
        }
        match read_order(order) {
            Ok(order) => {
                self.waiting.insert(id, (order, Instant::now()));
            }
            Err(message) => self.refuse(id, EndCause::LaunchFailed { message }),
        }
    }

    /// Starts what waits, once the driver answers; refuses what does not fit or waits too long.
    fn start_waiting(&mut self) {
        if self.notice.is_some() {
            // The lead gives them to another node.
            let why = StopCause::Drained;
            for (id, _) in std::mem::take(&mut self.waiting) {
                self.refuse(id, EndCause::Stopped { why: why.clone() });
            }
            return;
        }
        let trouble = self.gpus.trouble.as_ref().map(|(why, _)| why.clone());
        for (id, (order, since)) in std::mem::take(&mut self.waiting) {
            if let Some(why) = &trouble {
                if since.elapsed() < DRIVER_PATIENCE {
                    self.waiting.insert(id, (order, since));
                } else {
                    let message = format!("the node's GPU driver does not answer: {why}");
                    self.refuse(id, EndCause::LaunchFailed { message });
                }
                continue;
            }
            let live = self.tracked.values().filter(|t| t.is_live());
            let held: Vec<_> = live.flat_map(|t| t.grants.clone()).collect();
            match ledger::refusal(&self.gpus.devices, &held, &order.grants) {
                Some(message) => self.refuse(id, EndCause::LaunchFailed { message }),
                None => self.track(&order, State::Starting, Some(Begin::Order(order.clone()))),
            }
        }
    }

    /// Stops what has to end before the announced moment.
    fn leave(&mut self) {
        let Some(announced) = &self.notice else {
            return;
        };
        let told = |t: &Tracked| t.leaves_before.is_some() && t.leaves_before == announced.at;
        for tracked in self
            .tracked
            .values_mut()
            .filter(|t| t.is_live() && !told(t))
        {
            let asked = tracked.grace.unwrap_or(self.grace);
            if let Some(grace) = notice::stop_within(announced, asked, now()) {
                tracked.leaves_before = announced.at;
                tracked.stop(Stop {
                    cause: StopCause::Drained,
                    grace,
                });
            }
        }
    }

    /// Puts on disk that the attempt never starts here, then reports it as ended.
    fn refuse(&mut self, id: AttemptId, cause: EndCause) {
        if self.refused.contains_key(&id) || !self.refusing.insert(id) {
            return;
        }
        tracing::warn!(attempt = %id, ?cause, "refused");
        let end = not_started(cause);
        let (launcher, inbox) = (self.launcher.clone(), self.inbox.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = launcher.forget(id) {
                tracing::error!(attempt = %id, %error, "the refusal is not on disk");
            }
            if inbox.blocking_send(Inbox::Refused(id, end)).is_err() {
                tracing::debug!(attempt = %id, "the core has ended");
            }
        });
    }

    fn forget(&mut self, ids: &[String]) {
        let ids: Vec<AttemptId> = ids
            .iter()
            .filter_map(|id| id.parse().ok())
            .filter(|id| match self.tracked.get(id) {
                Some(tracked) => !tracked.is_live(),
                None => self.refused.contains_key(id),
            })
            .filter(|id| !self.forgetting.contains(id))
            .collect();
        if ids.is_empty() {
            return;
        }
        self.forgetting.extend(&ids);
        let (launcher, inbox) = (self.launcher.clone(), self.inbox.clone());
        tokio::task::spawn_blocking(move || {
            for id in &ids {
                if let Err(error) = launcher.forget(*id) {
                    tracing::error!(attempt = %id, %error, "cannot be forgotten whole");
                }
            }
            if inbox.blocking_send(Inbox::Forgotten(ids)).is_err() {
                tracing::debug!("the core has ended");
            }
        });
    }

    fn happened(&mut self, id: AttemptId, event: Event) {
        let Some(tracked) = self.tracked.get_mut(&id) else {
            return;
        };
        let since = match &tracked.state {
            State::Running(since) => Some(*since),
            State::Stopping(since, _) => *since,
            State::Starting | State::Ended(_) => None,
        };
        match event {
            Event::Recorded => tracked.recorded = true,
            Event::Started(since) => {
                tracing::info!(attempt = %id, "runs");
                tracked.state = State::Running(since);
            }
            Event::Stopping(record) => {
                tracing::info!(attempt = %id, cause = %record.cause, "is being stopped");
                tracked.state = State::Stopping(since, record.cause);
            }
            Event::Stuck(devices) => {
                tracing::error!(attempt = %id, ?devices, "its GPU memory has not come back");
                self.gpus.stuck(id, devices);
            }
            Event::Ended(end) => {
                tracked.recorded = true;
                tracing::info!(attempt = %id, cause = ?end.cause, exit = ?end.exit, "has ended");
                tracked.memory_used = None;
                tracked.state = State::Ended(end);
                self.start_waiting();
            }
        }
    }

    fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Devices(discovery) => self.gpus.discovered(*discovery, now()),
            Seen::Trouble(why) => self.gpus.troubled(why),
            Seen::Readings { asked, readings } => {
                let find = |pid| self.launcher.attempt_of(i32::try_from(pid).ok()?);
                let used = self.gpus.read(readings, find);
                if let Some(used) = used {
                    self.enforce(&used);
                }
                self.held.send_replace(Arc::new(self.gpus.held(asked)));
            }
        }
        self.start_waiting();
    }

    /// Kills what uses more memory than it holds.
    fn enforce(&mut self, used: &Use) {
        let none = BTreeMap::new();
        for (id, tracked) in &mut self.tracked {
            let mine = used.get(id).unwrap_or(&none);
            let total: Bytes = mine.values().copied().sum();
            tracked.memory_used = tracked.is_live().then_some(total);
            if let Some(cause) = excess(&tracked.grants, mine) {
                tracked.stop(Stop {
                    cause,
                    grace: Duration::ZERO,
                });
            }
        }
    }
}
