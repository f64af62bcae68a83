//! The pool loop: makes what exists equal to what is wanted, pool by pool, through the one door to clouds.

mod autoscale;
mod book;
mod clouds;
mod inventory;
mod offerings;

pub(crate) use book::{Book, NodeTemplate};
pub(crate) use clouds::Clouds;
pub(crate) use clouds::open as open_cloud;
pub(crate) use inventory::Inventory;
pub use inventory::InventoryError;
pub(crate) use offerings::Offerings;

use super::core::Core;
use super::record::NodeRecord;
use super::state::{PoolSeen, State};
use autoscale::Autoscaler;
use gpuloom_cloud::{
    Cloud, FailureClass, Instance, InstanceState, LaunchBook as _, LaunchRecord, LaunchState,
    MemberNode, Members, Outages, Outcome, Plan, Tags, Why, carry_out, reconcile,
};
use gpuloom_fleet::{
    FleetName, InstanceId, Millis, NodeId, NodeState, PoolName, PoolPlace, PoolSpec, Seconds,
};
use offerings::Ranked;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How often pools are looked at when nothing changes.
const TURN: Duration = Duration::from_secs(1);
/// Changes are looked at together when they come this close.
const GATHER: Duration = Duration::from_millis(50);
/// How long a local refusal is believed: other pools give GPUs back at any time.
const LOCAL_OUTAGE_MS: u64 = 5_000;
/// How long a cloud may take to list a new instance.
const LISTING_LAG: Seconds = Seconds(60);
/// After its start the lead takes nodes that have not reported yet for alive, so long.
const RECONNECT: Seconds = Seconds(20);
/// Why the lead cordons a node by itself; such a cordon is taken back when the node stays.
const SCALE_IN: &str = "the pool shrinks";
const REPLACED: &str = "the pool is updated: this node is replaced";
const TAKEN_BACK: &str = "its cloud takes it back";
const OURS: [&str; 3] = [SCALE_IN, REPLACED, TAKEN_BACK];

/// What provisioning needs.
#[derive(Clone)]
pub(crate) struct Provisioner {
    pub(crate) core: Core,
    pub(crate) clouds: Arc<Clouds>,
    pub(crate) offerings: Arc<Offerings>,
    pub(crate) book: Arc<Book>,
    pub(crate) fleet: FleetName,
    pub(crate) fleet_id: String,
    /// Why there are no GPUs to give away; empty when there are.
    pub(crate) no_gpus: String,
    /// Held while launch numbers are given out.
    pub(crate) numbers: Arc<Mutex<()>>,
}

/// One pool as a turn begins.
struct PoolNow {
    spec: PoolSpec,
    wanted: u32,
    withdrawing: bool,
    provisioned: u32,
    busy: BTreeSet<InstanceId>,
    /// Nodes with a record.
    nodes: BTreeMap<NodeId, Seen>,
}

/// A node as a turn begins.
struct Seen {
    /// Why it is cordoned.
    cordon: Option<String>,
    member: MemberNode,
}

/// What cannot be had in a pool, and since when that is known.
type Known = (Outages, Millis);

// === impl Provisioner ===

impl Provisioner {
    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut changes = self.core.changes();
        let mut turns: BTreeMap<PoolName, JoinHandle<Outages>> = BTreeMap::new();
        let mut outages: BTreeMap<PoolName, Known> = BTreeMap::new();
        let mut scaler = Autoscaler::default();
        let mut started = None;
        loop {
            let (pools, now) = match self.core.read(pool_names).await {
                Ok(found) => found,
                Err(_) => return,
            };
            let started = *started.get_or_insert(now);
            turns = collect(turns, &mut outages, now).await;
            outages.retain(|name, _| pools.contains(name));
            self.offerings.retain(&pools);
            for pool in pools {
                if turns.contains_key(&pool) {
                    continue;
                }
                let known = outages.get(&pool).cloned().unwrap_or_default();
                let this = self.clone();
                let name = pool.clone();
                let turn = async move { this.turn(name, known, started).await };
                turns.insert(pool, tokio::spawn(turn));
            }
            scaler.turn(&self.core).await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TURN) => {}
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(GATHER).await;
                    changes.mark_unchanged();
                }
            }
        }
    }

    /// One pool's turn; answers with what cannot be had for a while.
    async fn turn(&self, pool: PoolName, known: Known, started: Millis) -> Outages {
        let (mut outages, at) = known;
        let name = pool.clone();
        let read = move |s: &State, now| (pool_now(s, &name, started, now), now);
        let Ok((Some(seen), now)) = self.core.read(read).await else {
            return outages;
        };
        if seen.spec.place == PoolPlace::Existing {
            self.existing(&pool, &seen).await;
            return outages;
        }
        if seen.spec.place == PoolPlace::Local && now.since_ms(at) >= LOCAL_OUTAGE_MS {
            outages = Outages::default();
        }
        let cloud = match self.clouds.of(&seen.spec.place).await {
            Ok(cloud) => cloud,
            Err(error) => {
                tracing::warn!(%pool, %error, "the pool's place cannot be reached");
                let why = format!("its place cannot be reached: {error}");
                self.see(
                    &pool,
                    seen.provisioned,
                    short_of(&seen, seen.provisioned, &why),
                )
                .await;
                return outages;
            }
        };
        if let Err(error) = self
            .launched(&pool, &seen, cloud.as_ref(), &mut outages)
            .await
        {
            tracing::warn!(%pool, %error, "the pool's turn was not finished");
        }
        outages
    }

    /// A pool of machines that exist: nothing to launch.
    async fn existing(&self, pool: &PoolName, seen: &PoolNow) {
        let nodes = u32::try_from(seen.nodes.len()).unwrap_or(u32::MAX);
        let reason = "its machines exist already: start the agent on them with a join token";
        self.see(pool, nodes, short_of(seen, nodes, reason)).await;
        if seen.withdrawing {
            self.finish(pool).await;
        }
    }

    /// A pool whose nodes the lead launches.
    async fn launched(
        &self,
        pool: &PoolName,
        seen: &PoolNow,
        cloud: &dyn Cloud,
        outages: &mut Outages,
    ) -> Result<(), gpuloom_api::Refusal> {
        let tags = Tags::of_pool(&self.fleet, pool);
        let tags = match seen.spec.place.is_cloud() {
            true => tags.with_fleet_id(&self.fleet_id),
            // One root is one fleet of a name; instances of the first release carry no id.
            false => tags,
        };
        let listed = match cloud.list(&tags).await {
            Ok(listed) => Some(listed),
            Err(error) => {
                tracing::warn!(%pool, %error, "instances cannot be listed");
                None
            }
        };
        self.bury(seen, listed.as_deref(), cloud).await?;
        let (mut plan, now) = self
            .plan(pool, seen, listed.clone(), cloud, outages)
            .await?;
        self.cordon(seen, &mut plan).await?;
        let outcomes = carry_out(&plan, cloud, self.book.as_ref(), now).await;
        // Unknown is not zero.
        let mut exists = listed.as_deref().map_or(seen.provisioned, alive);
        for outcome in outcomes {
            self.note(&plan, outcome, outages, &mut exists, now).await?;
        }
        let shortfall = self.shortfall(seen, exists, &plan, outages, now);
        self.see(pool, exists, shortfall).await;
        if seen.withdrawing && listed.as_ref().is_some_and(Vec::is_empty) {
            self.finish_when_settled(pool, &seen.spec).await?;
        }
        Ok(())
    }

    /// Nodes whose instance is verified gone are gone with their attempts. One that is not listed may
    /// have lost no more than what it is listed by: it is ended first. A cloud's listing lags: there, one that
    /// still reports is left alone.
    async fn bury(
        &self,
        seen: &PoolNow,
        listed: Option<&[Instance]>,
        cloud: &dyn Cloud,
    ) -> Result<(), gpuloom_api::Refusal> {
        let Some(listed) = listed else { return Ok(()) };
        for (node, now) in &seen.nodes {
            let spared = seen.spec.place.is_cloud() && now.member.reporting;
            if !spared && listed.iter().all(|i| i.id.as_str() != node.as_str()) {
                let Ok(instance) = InstanceId::new(node.as_str()) else {
                    continue;
                };
                if let Err(error) = cloud.terminate(&instance).await {
                    tracing::warn!(%node, %error, "its instance is not listed and not known to be gone");
                    continue;
                }
                self.forget(&instance).await?;
                self.gone(node.clone(), "its instance is gone").await?;
            }
        }
        Ok(())
    }

    /// The launch of an instance that is verified gone: nothing waits for it to be listed.
    async fn forget(&self, instance: &InstanceId) -> Result<(), gpuloom_api::Refusal> {
        let gone = instance.clone();
        let of = move |s: &State, _| {
            let is = |l: &LaunchRecord| matches!(&l.state, LaunchState::Launched { instance } if *instance == gone);
            let found = s.launches.values().filter(|l| is(l)).map(|l| l.id);
            found.collect::<Vec<_>>()
        };
        for launch in self.core.read(of).await? {
            if let Err(error) = self.book.forget(launch).await {
                tracing::warn!(%launch, %error, "not forgotten");
            }
            gpuloom_cloud::failpoint::hit("cloud.forget.after");
        }
        Ok(())
    }

    async fn gone(&self, node: NodeId, why: &'static str) -> Result<(), gpuloom_api::Refusal> {
        let gone = move |s: &State, now| Ok((s.node_gone(&node, why, now), ()));
        self.core.write("node_gone", gone).await
    }

    /// Decides, and stores new launches before anybody else takes their numbers.
    async fn plan(
        &self,
        pool: &PoolName,
        seen: &PoolNow,
        listed: Option<Vec<Instance>>,
        cloud: &dyn Cloud,
        outages: &Outages,
    ) -> Result<(Plan, Millis), gpuloom_api::Refusal> {
        let ranked = match seen.withdrawing {
            true => Ranked::default(),
            false => {
                let now = self.core.read(|_, now| now).await?;
                self.offerings.ranked(cloud, &seen.spec, now).await
            }
        };
        let _numbers = self.numbers.lock().await;
        let name = pool.clone();
        let read = move |s: &State, now| {
            let mine = s.launches.values().filter(|l| l.pool == name);
            let next = gpuloom_cloud::LaunchId(s.next_launch);
            (mine.cloned().collect::<Vec<_>>(), next, now)
        };
        let (launches, next_launch, now) = self.core.read(read).await?;
        let members = Members {
            wanted: if seen.withdrawing { 0 } else { seen.wanted },
            listed,
            launches,
            busy: seen.busy.clone(),
            nodes: members(seen),
            offerings: ranked.offerings,
            no_offerings: ranked.problem,
            next_launch,
            salt: self.fleet_id.clone(),
            listing_lag: match seen.spec.place.is_cloud() {
                true => LISTING_LAG,
                false => Seconds(0),
            },
        };
        let plan = reconcile(&seen.spec, &members, outages, now);
        let mut records: Vec<_> = plan.launches.iter().map(|l| l.record.clone()).collect();
        records.extend(plan.adoptions.iter().map(|a| a.record.clone()));
        let new: Vec<_> = records
            .into_iter()
            .filter(|r| r.id >= next_launch)
            .collect();
        if !new.is_empty() {
            let store = move |s: &State, _| Ok((s.store_launches(&new), ()));
            self.core.write("launch", store).await?;
        }
        Ok((plan, now))
    }

    /// Nodes that are to end, or that their cloud takes back, get no new jobs; those that got one meanwhile are
    /// spared this time.
    async fn cordon(&self, seen: &PoolNow, plan: &mut Plan) -> Result<(), gpuloom_api::Refusal> {
        let mut leaving: BTreeMap<NodeId, &str> = BTreeMap::new();
        for t in plan.terminations.iter().chain(&plan.drains) {
            if let Ok(node) = NodeId::new(t.instance.as_str()) {
                let replaced = matches!(t.why, Why::Outdated | Why::Market);
                leaving.insert(node, if replaced { REPLACED } else { SCALE_IN });
            }
        }
        for (node, now) in &seen.nodes {
            if now.member.leaving {
                leaving.insert(node.clone(), TAKEN_BACK);
            }
            let ours = now.cordon.as_deref().is_some_and(|c| OURS.contains(&c));
            match leaving.get(node) {
                Some(why) if now.cordon.is_none() => self.set_schedulable(node, false, why).await?,
                None if ours => self.set_schedulable(node, true, SCALE_IN).await?,
                _ => {}
            }
        }
        let busy = self
            .core
            .read(|s, _| s.on_node.keys().cloned().collect::<Vec<_>>())
            .await?;
        // One whose end was begun runs nothing for long: what the ledger still counts on it is lost with it.
        plan.terminations.retain(|t| {
            t.why == Why::Unfinished || busy.iter().all(|n| n.as_str() != t.instance.as_str())
        });
        Ok(())
    }

    async fn set_schedulable(
        &self,
        node: &NodeId,
        schedulable: bool,
        why: &str,
    ) -> Result<(), gpuloom_api::Refusal> {
        let (node, why) = (node.clone(), why.to_owned());
        let set = move |s: &State, _| match s.set_schedulable(&node, schedulable, true, &why) {
            Ok((change, _)) => Ok((change, ())),
            // It left meanwhile.
            Err(_) => Ok((super::state::Change::default(), ())),
        };
        self.core.write("cordon", set).await
    }

    async fn note(
        &self,
        plan: &Plan,
        outcome: Outcome,
        outages: &mut Outages,
        exists: &mut u32,
        now: Millis,
    ) -> Result<(), gpuloom_api::Refusal> {
        match outcome {
            Outcome::Launched {
                launch,
                instance,
                failed,
            } => {
                outages.note_each(&failed, now);
                tracing::info!(%launch, instance = %instance.id, "launched");
                *exists += 1;
            }
            Outcome::Refused {
                launch,
                offerings,
                error,
            } => {
                tracing::info!(%launch, ?offerings, %error, "not launched");
                outages.note_refusal(&offerings, &error, now);
            }
            Outcome::Terminated { instance } => {
                tracing::info!(%instance, "terminated");
                let finished = plan
                    .terminations
                    .iter()
                    .any(|t| t.instance == instance && t.why == Why::Unfinished);
                *exists = exists.saturating_sub(u32::from(!finished));
                self.forget(&instance).await?;
                if let Ok(node) = NodeId::new(instance.as_str()) {
                    self.gone(node, "its instance was terminated").await?;
                }
            }
            Outcome::Started { instance } => tracing::info!(%instance, "started again"),
            Outcome::Adopted { launch } => tracing::info!(%launch, "adopted"),
            Outcome::NotTerminated { instance, error } => {
                tracing::warn!(%instance, %error, "not terminated");
            }
            Outcome::NotStarted { instance, error } => {
                tracing::warn!(%instance, %error, "not started again");
            }
            Outcome::NotStored { launch, error } => {
                tracing::warn!(%launch, %error, "not stored");
            }
        }
        Ok(())
    }

    /// Why there are fewer instances than wanted, with what would help.
    fn shortfall(
        &self,
        seen: &PoolNow,
        exists: u32,
        plan: &Plan,
        outages: &Outages,
        now: Millis,
    ) -> String {
        if seen.spec.place.is_cloud() {
            // What is worth trying again at once is no reason to give up.
            let lasting = plan.shortfall.as_ref().filter(|s| {
                let throttled = outages.of_place(now);
                s.retry_at != Some(now)
                    && throttled.is_none_or(|o| o.class != FailureClass::Throttled)
            });
            let why = lasting.map_or("", |s| s.reason.as_str());
            return short_of(seen, exists, why);
        }
        let offerings = gpuloom_cloud::Offering::of_pool(&seen.spec);
        let said = offerings.iter().find_map(|o| outages.of(o, now));
        let reason = match (said, &plan.shortfall) {
            _ if !self.no_gpus.is_empty() => self.no_gpus.clone(),
            (Some(outage), _) => outage.message.clone(),
            (None, Some(shortfall)) => shortfall.reason.clone(),
            (None, None) => return String::new(),
        };
        short_of(seen, exists, &reason)
    }

    async fn see(&self, pool: &PoolName, provisioned: u32, shortfall: String) {
        let pool = pool.clone();
        let seen = PoolSeen {
            provisioned,
            shortfall,
        };
        let see = move |s: &State, _| Ok((s.see_pool(&pool, &seen), ()));
        // It fails only when the lead stops.
        let _ = self.core.write("see_pool", see).await;
    }

    /// A launch that was sent and not answered may still make an instance: a cloud's pool ends when none is open.
    async fn finish_when_settled(
        &self,
        pool: &PoolName,
        spec: &PoolSpec,
    ) -> Result<(), gpuloom_api::Refusal> {
        let name = pool.clone();
        let open = move |s: &State, _| s.launches.values().any(|l| l.pool == name);
        if !spec.place.is_cloud() || !self.core.read(open).await? {
            self.finish(pool).await;
        }
        Ok(())
    }

    async fn finish(&self, pool: &PoolName) {
        let pool = pool.clone();
        let end = move |s: &State, _| Ok((s.finish_pool(&pool), ()));
        let _ = self.core.write("end_pool", end).await;
    }
}

fn alive(listed: &[Instance]) -> u32 {
    let alive = listed
        .iter()
        .filter(|i| i.state != InstanceState::Terminating);
    u32::try_from(alive.count()).unwrap_or(u32::MAX)
}

fn pool_names(state: &State, now: Millis) -> (Vec<PoolName>, Millis) {
    (state.pools.keys().cloned().collect(), now)
}

fn pool_now(state: &State, name: &PoolName, started: Millis, now: Millis) -> Option<PoolNow> {
    let (spec, record) = state.pool(name)?;
    let nodes = state.nodes.values().filter(|n| n.pool == *name);
    let busy = nodes.clone().filter(|n| state.on_node.contains_key(&n.id));
    let seen = |n: &NodeRecord| Seen {
        cordon: n.cordon.clone(),
        member: member(state, n, started, now),
    };
    Some(PoolNow {
        spec: spec.clone(),
        wanted: state.pools.get(name).map_or(0, |s| s.wanted),
        withdrawing: record.withdrawing,
        provisioned: state.pools.get(name).map_or(0, |s| s.provisioned),
        busy: busy
            .filter_map(|n| InstanceId::new(n.id.as_str()).ok())
            .collect(),
        nodes: nodes.map(|n| (n.id.clone(), seen(n))).collect(),
    })
}

fn member(state: &State, node: &NodeRecord, started: Millis, now: Millis) -> MemberNode {
    let live = state.live.get(&node.id);
    // Right after the lead's start nobody has had the time to report.
    let early = live.is_none() && now < started.plus(RECONNECT);
    MemberNode {
        reporting: early || live.is_some_and(|l| !l.suspect),
        ready: matches!(
            state.node_state(&node.id).0,
            NodeState::Ready | NodeState::Cordoned | NodeState::Draining
        ),
        leaving: live.is_some_and(|l| l.notice.is_some()),
        cordoned: node.cordon.as_deref().is_some_and(|c| OURS.contains(&c)),
    }
}

fn members(seen: &PoolNow) -> BTreeMap<InstanceId, MemberNode> {
    let nodes = seen.nodes.iter();
    nodes
        .filter_map(|(id, n)| Some((InstanceId::new(id.as_str()).ok()?, n.member)))
        .collect()
}

/// The text of a shortfall; empty when there is none, or nothing to say of it.
fn short_of(seen: &PoolNow, exists: u32, why: &str) -> String {
    if seen.withdrawing || exists >= seen.wanted || why.is_empty() {
        return String::new();
    }
    format!("{exists} of {} nodes: {why}", seen.wanted)
}

/// Takes in the turns that are over.
async fn collect(
    turns: BTreeMap<PoolName, JoinHandle<Outages>>,
    outages: &mut BTreeMap<PoolName, Known>,
    now: Millis,
) -> BTreeMap<PoolName, JoinHandle<Outages>> {
    let mut still = BTreeMap::new();
    for (pool, turn) in turns {
        if !turn.is_finished() {
            still.insert(pool, turn);
            continue;
        }
        match turn.await {
            Ok(new) => {
                let at = match outages.remove(&pool) {
                    Some((old, at)) if old == new => at,
                    _ => now,
                };
                outages.insert(pool, (new, at));
            }
            Err(error) => tracing::error!(%pool, %error, "a pool's turn broke off"),
        }
    }
    still
}

#[cfg(test)]
mod tests;
