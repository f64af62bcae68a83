//! Tables of transitions, on a world that checks every promise after each step.

mod objects;
mod story;
mod walk;

use super::declare::Declared;
use super::withdraw::Withdrawn;
use super::*;
use crate::lead::batch::Batch;
use crate::lead::record::EventBatch;
use gpuloom_api::Refusal;
use gpuloom_fleet::{
    AttemptEnd, AttemptId, Bytes, Capacity, Device, DeviceId, EndCause, EventKind, Exit, GpuModel,
    GpuRequest, GpuShape, JobSpec, MilliGpu, Millis, OnDestroy, OnExcess, OnShortfall, PoolPlace,
    QuotaName, Resources, RollingUpdate, Seconds,
};
use gpuloom_store::Op;

/// A state, the store it writes to, and a clock that a test moves.
pub(super) struct World {
    pub(super) state: State,
    disk: BTreeMap<String, Vec<u8>>,
    pub(super) now: Millis,
    requests: u32,
}

pub(super) fn tenant(name: &str) -> TenantName {
    TenantName::new(name).expect("a name")
}

pub(super) fn pool_name(name: &str) -> PoolName {
    PoolName::new(name).expect("a name")
}

pub(super) fn node_id(name: &str) -> NodeId {
    NodeId::new(name).expect("an id")
}

pub(super) fn job(text: &str) -> JobId {
    text.parse().expect("a job id")
}

pub(crate) fn pool(name: &str) -> PoolSpec {
    PoolSpec {
        name: pool_name(name),
        gpu: GpuShape {
            model: GpuModel::new("T4").expect("a model"),
            per_node: 2,
        },
        place: PoolPlace::Local,
        min: 1,
        max: 4,
        initial_size: None,
        capacity: Capacity {
            on_shortfall: OnShortfall::Fail,
            max_wait: Seconds(60),
            spot_ratio_milli: 0,
            on_demand_base: 0,
        },
        on_destroy: OnDestroy::Drain,
        labels: BTreeMap::new(),
        update: RollingUpdate::default(),
    }
}

pub(super) fn quota(name: &str, of: &str, gpus: u64) -> QuotaSpec {
    QuotaSpec {
        name: QuotaName::new(name).expect("a name"),
        tenant: tenant(of),
        pool: None,
        guaranteed: Resources::default(),
        limit: Resources {
            gpus: Some(MilliGpu(gpus)),
            gpu_memory: None,
        },
        soft_limit: Resources::default(),
        on_excess: OnExcess::Keep,
    }
}

pub(super) fn spec(of: &str) -> JobSpec {
    JobSpec {
        name: String::new(),
        tenant: tenant(of),
        priority_class: None,
        pool: None,
        command: vec!["true".to_owned()],
        env: BTreeMap::new(),
        workdir: None,
        request: GpuRequest::default(),
        walltime: None,
        retries: 0,
        array: None,
        depends_on: Vec::new(),
        labels: BTreeMap::new(),
        grace: None,
    }
}

// === impl World ===

impl World {
    pub(super) fn new() -> Self {
        Self {
            state: State::new(Keep::default()),
            disk: BTreeMap::new(),
            now: Millis(1_000_000),
            requests: 0,
        }
    }

    /// Tenants a and b, pool t4 with nodes n1 and n2 of two T4 each, connected.
    pub(super) fn small() -> Self {
        let mut w = Self::new();
        w.tenant("a", None);
        w.tenant("b", None);
        w.declare(Object::Pool(pool("t4")), 0).expect("a pool");
        w.add_node("n1", "t4");
        w.add_node("n2", "t4");
        w
    }

    pub(super) fn tenant(&mut self, name: &str, parent: Option<&str>) {
        let spec = TenantSpec {
            name: tenant(name),
            parent: parent.map(tenant),
            weight: 1,
            on_destroy: gpuloom_fleet::OnTenantDestroy::Refuse,
        };
        self.declare(Object::Tenant(spec), 0).expect("a tenant");
    }

    /// Writes a change, then checks what must always hold.
    pub(super) fn absorb(&mut self, change: Change) {
        let mut batch = Batch::default();
        batch.absorb(&mut self.state, change, self.now);
        for (txn, _) in batch.into_txns() {
            txn.validate()
                .expect("a transaction within the store's limits");
            for op in txn.ops {
                match op {
                    Op::Put { key, value, .. } => drop(self.disk.insert(key, value)),
                    Op::Delete { key } => drop(self.disk.remove(&key)),
                }
            }
        }
        self.check();
    }

    pub(super) fn declare(&mut self, object: Object, expected: u64) -> Result<Declared, Refusal> {
        self.requests += 1;
        let session = format!("s{}", self.requests);
        self.declare_in(object, expected, &session)
    }

    pub(super) fn declare_in(
        &mut self,
        object: Object,
        expected_generation: u64,
        session: &str,
    ) -> Result<Declared, Refusal> {
        let ask = Declare {
            object,
            owner: "terraform".to_owned(),
            session: session.to_owned(),
            expected_generation,
        };
        let (change, declared) = self.state.declare(&ask, "admin", self.now)?;
        self.absorb(change);
        Ok(declared)
    }

    pub(super) fn withdraw(&mut self, kind: Kind, name: &str) -> Result<Withdrawn, Refusal> {
        let ask = Withdraw {
            kind,
            name: name.to_owned(),
            expected_generation: 0,
            abandon: false,
        };
        let (change, withdrawn) = self.state.withdraw(&ask, "admin", self.now)?;
        self.absorb(change);
        Ok(withdrawn)
    }

    pub(super) fn submit(&mut self, spec: JobSpec) -> Result<Vec<JobId>, Refusal> {
        self.requests += 1;
        let request_id = format!("r{}", self.requests);
        let ask = Submit { spec, request_id };
        let (change, ids) = self.state.submit(&ask, "admin", self.now)?;
        self.absorb(change);
        Ok(ids)
    }

    pub(super) fn cancel(&mut self, id: JobId) -> (u64, u64) {
        let cancelled = self.state.cancel(id, None, "admin", self.now);
        let (change, counts) = cancelled.expect("a job that is there");
        self.absorb(change);
        counts
    }

    pub(super) fn add_node(&mut self, name: &str, of: &str) {
        let id = node_id(name);
        let record = NodeRecord {
            id: id.clone(),
            pool: pool_name(of),
            joined_at: self.now,
            cordon: None,
            draining: false,
            agent_version: String::new(),
            endpoint: String::new(),
            backend: gpuloom_fleet::Backend::Simulated,
            devices: Vec::new(),
            capabilities: BTreeMap::new(),
            membership: crate::lead::record::Membership::default(),
        };
        let mut draft = Draft::new(&self.state);
        draft.put(Piece::Node(record));
        let change = draft.finish();
        self.absorb(change);
        self.state.node_connected(&id, 1, self.now);
        self.report(name, &[]);
    }

    pub(super) fn devices(node: &str) -> Vec<Device> {
        let device = |index: u32| Device {
            id: DeviceId::new(format!("GPU-{node}-{index}")).expect("an id"),
            index,
            model: GpuModel::new("T4").expect("a model"),
            product: "Tesla T4".to_owned(),
            memory: Bytes::gib(16),
            compute_capability: None,
            pci: None,
            numa: None,
        };
        (0..2).map(device).collect()
    }

    /// The node reports these attempts and no others.
    pub(super) fn report(&mut self, node: &str, attempts: &[(AttemptId, SaidPhase)]) {
        let said = NodeSaid {
            simulated: true,
            devices: Self::devices(node),
            attempts: attempts
                .iter()
                .map(|(id, phase)| AttemptSaid {
                    id: *id,
                    phase: phase.clone(),
                    memory_used: None,
                })
                .collect(),
            ..NodeSaid::default()
        };
        let id = node_id(node);
        let change = self.state.report(&id, &said, self.now);
        self.absorb(change);
        self.state.note_live(&id, said, self.now);
    }

    pub(super) fn decide(&mut self) {
        let snapshot = crate::lead::snapshot::snapshot(&self.state);
        let decision = gpuloom_sched::decide(&snapshot, self.now);
        let started = self.state.carry_out(&decision, self.now);
        assert_eq!(started.refused, Vec::<String>::new());
        self.absorb(started.change);
    }

    pub(super) fn tick(&mut self, seconds: u64) {
        self.now = self.now.plus(Seconds(seconds));
        let change = self.state.tick(self.now);
        self.absorb(change);
        self.state.mark_silent(self.now);
    }

    pub(super) fn live(&self, id: JobId) -> Option<(AttemptId, NodeId)> {
        let attempt = live_attempt(self.state.jobs.get(&id)?)?;
        let number = attempt.number;
        Some((AttemptId { job: id, number }, attempt.node.clone()))
    }

    /// The job's live attempt is reported as ended.
    pub(super) fn end(&mut self, id: JobId, exit: Option<Exit>, cause: EndCause) {
        let (attempt, node) = self.live(id).expect("a live attempt");
        let end = AttemptEnd {
            started_at: None,
            ended_at: self.now,
            exit,
            cause,
        };
        let rest = self.attempts_on(&node, Some(id));
        let mut all = rest;
        all.push((attempt, SaidPhase::Ended(end)));
        self.report(node.as_str(), &all);
    }

    /// Everything live on a node, running, but for one job.
    pub(super) fn attempts_on(
        &self,
        node: &NodeId,
        but: Option<JobId>,
    ) -> Vec<(AttemptId, SaidPhase)> {
        let jobs = self.state.on_node.get(node).into_iter().flatten();
        jobs.filter(|id| Some(**id) != but)
            .filter_map(|id| self.live(*id))
            .map(|(attempt, _)| (attempt, SaidPhase::Running { since: self.now }))
            .collect()
    }

    pub(super) fn word(&self, id: &str) -> &'static str {
        self.state
            .jobs
            .get(&job(id))
            .map_or("gone", |r| r.job.state.as_str())
    }

    /// The state read back from the disk.
    pub(super) fn replayed(&self) -> State {
        let mut state = State::new(self.state.keep);
        for (key, value) in &self.disk {
            if let Some(piece) = Piece::read(key, value).expect("a record that reads") {
                state.absorb(piece);
            }
        }
        for (key, value) in self.disk.range("/events/".to_owned()..) {
            if !key.starts_with("/events/") {
                break;
            }
            let batch: EventBatch =
                crate::lead::record::decode(key, value).expect("a batch that reads");
            batch.events.into_iter().for_each(|e| state.absorb_event(e));
        }
        state
    }

    fn check(&self) {
        let again = self.replayed();
        let s = &self.state;
        assert_eq!(again.jobs, s.jobs);
        assert_eq!(again.objects, s.objects);
        assert_eq!((&again.nodes, &again.pools), (&s.nodes, &s.pools));
        assert_eq!((&again.tokens, &again.launches), (&s.tokens, &s.launches));
        assert_eq!((&again.pending, &again.active), (&s.pending, &s.active));
        assert_eq!((&again.ended, &again.on_node), (&s.ended, &s.on_node));
        assert_eq!(
            (&again.dependents, &again.live_of),
            (&s.dependents, &s.live_of)
        );
        assert_eq!(
            (again.next_job, again.next_event),
            (s.next_job, s.next_event)
        );
        assert_eq!(again.events, s.events);
        for (i, event) in s.events.iter().enumerate() {
            assert_eq!(event.seq, i as u64 + 1, "events count up without gaps");
        }
        self.check_ledger();
    }

    /// No device oversubscribed, at most one live attempt a job, and the ledger is their sum.
    fn check_ledger(&self) {
        let mut sums: BTreeMap<DeviceId, (MilliGpu, Bytes)> = BTreeMap::new();
        for record in self.state.jobs.values() {
            let live: Vec<&Attempt> = record.job.attempts.iter().filter(|a| a.is_live()).collect();
            let active = matches!(record.job.state, JobState::Active { .. });
            assert_eq!(live.len(), usize::from(active), "job {}", record.job.id);
            for grant in live.iter().flat_map(|a| &a.grants) {
                let sum = sums.entry(grant.device.clone()).or_default();
                sum.0 += grant.share;
                sum.1 += grant.memory;
            }
        }
        let ledger = self.state.ledger();
        assert_eq!(ledger.len(), sums.len());
        for (device, (share, memory)) in sums {
            assert!(
                share <= MilliGpu::ONE && memory <= Bytes::gib(16),
                "{device}"
            );
            assert_eq!(
                (ledger[&device].share, ledger[&device].memory),
                (share, memory)
            );
        }
    }
}
