use super::lead::Lead;
use gpuloom_agent::launch::{HostLimits, LaunchConfig, Launcher};
use gpuloom_agent::node::{self, NodeConfig, NodeError};
use gpuloom_api::BearerToken;
use gpuloom_api::proto::attempt_order::Stop;
use gpuloom_api::proto::{AttemptOrder, AttemptReport, DeviceGrant, JobSpec, NodeReport};
use gpuloom_fleet::{Backend, EndCause, NodeId, StopCause};
use gpuloom_nvml_sim::{Machine, MachineSpec};
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest a step of a test may take; nothing waits that long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) lead: Lead,
    pub(crate) machine: Machine,
    pub(crate) config: NodeConfig,
    pub(crate) launcher: Launcher,
    pub(crate) dir: tempfile::TempDir,
    running: Option<(CancellationToken, JoinHandle<Result<(), NodeError>>)>,
}

pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{what} takes too long"))
}

pub(crate) fn this_program() -> String {
    let path = std::env::current_exe().expect("a path");
    path.to_str().expect("text").to_owned()
}

impl Rig {
    /// A node with two simulated T4, in session with its lead.
    pub(crate) async fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::tempdir().expect("a directory");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("opens");
        let state = dir.path().join("machine.state");
        let spec: MachineSpec = "2xT4".parse().expect("a layout");
        let machine = Machine::create(&state, &spec, 1).expect("a machine");
        let lead = Lead::start().await;
        let token = BearerToken::new_join().expect("a token");
        std::fs::write(dir.path().join("join-token"), token.expose()).expect("writes");
        let id = NodeId::new(format!("node-{}-{n}", std::process::id())).expect("an id");
        let config = NodeConfig {
            instance_id: id.clone(),
            data_dir: dir.path().to_owned(),
            listen: "127.0.0.1:0".parse().expect("an address"),
            fleet_endpoints: vec![lead.endpoint.clone()],
            ca_pin: lead.ca.pin().to_string(),
            pool: "t4".parse().expect("a name"),
            labels: std::collections::BTreeMap::new(),
            gpus: Vec::new(),
            backend: Backend::Simulated,
            sim_state: Some(state),
            poll_ms: 100,
            grace_s: 5,
            // This very program is the workload, and nobody else may read it where it lies.
            job_user: "root".to_owned(),
            jobs_socket: None,
            join: gpuloom_agent::config::JoinBy::Token,
            instance: None,
            cgroup_parent: None,
            job_limits: HostLimits::default(),
            log_file_bytes: 1 << 20,
            log_files: 2,
            shim: Some(vec![this_program().into(), "shim".into()]),
            probe_program: Some(this_program().into()),
        };
        let launch = LaunchConfig::new(dir.path().join("attempts"), id).expect("a config");
        let mut rig = Self {
            lead,
            machine,
            config,
            launcher: Launcher::open(launch).expect("opens"),
            dir,
            running: None,
        };
        rig.start_node().await;
        rig
    }

    pub(crate) async fn start_node(&mut self) {
        let shutdown = CancellationToken::new();
        let node = node::run(self.config.clone(), shutdown.clone());
        self.running = Some((shutdown, tokio::spawn(node)));
        self.report("is ready", |r| {
            r.devices.len() == 2 && r.driver_problem.is_empty()
        })
        .await;
    }

    /// Ends the agent, not its jobs.
    pub(crate) async fn stop_node(&mut self) {
        let (shutdown, node) = self.running.take().expect("runs");
        shutdown.cancel();
        let ended = in_time("the node's end", node).await;
        ended.expect("does not panic").expect("ends well");
        self.report("the session's end", |r| r.boot_id.is_empty())
            .await;
    }

    pub(crate) async fn finish(mut self) {
        self.stop_node().await;
        self.launcher.purge().await.expect("nothing is left");
        self.lead.stop.cancel();
    }

    /// The first report, from the present one on, that satisfies `good`.
    pub(crate) async fn report(
        &self,
        what: &str,
        good: impl Fn(&NodeReport) -> bool,
    ) -> NodeReport {
        let mut reports = self.lead.reports.clone();
        let found = in_time(what, reports.wait_for(|r| good(r))).await;
        found.expect("the lead runs").clone()
    }

    /// The attempt's report once it is in `state`.
    pub(crate) async fn attempt(&self, id: &str, state: &str) -> AttemptReport {
        let of = |r: &NodeReport| {
            let mut all = r.attempts.iter();
            all.find(|a| a.attempt == id && a.state == state).cloned()
        };
        let what = format!("{id} {state}");
        let report = self.report(&what, |r| of(r).is_some()).await;
        of(&report).expect("was just there")
    }

    /// How the attempt ended.
    pub(crate) async fn end(&self, id: &str) -> (AttemptReport, EndCause) {
        let report = self.attempt(id, "ended").await;
        let cause = serde_json::from_str(&report.cause_json).expect("a cause");
        (report, cause)
    }

    /// Wants one more attempt: `command` with `gib` of the device `index`.
    pub(crate) fn want(&self, id: &str, command: &[&str], index: usize, gib: u64) {
        let device = self.machine.device(index).expect("a device").uuid;
        let order = AttemptOrder {
            attempt: id.to_owned(),
            spec: Some(JobSpec {
                name: "test".to_owned(),
                tenant: "research".to_owned(),
                command: command.iter().map(|s| (*s).to_owned()).collect(),
                ..JobSpec::default()
            }),
            grants: vec![DeviceGrant {
                device,
                share_milli: 250,
                memory_bytes: gib << 30,
            }],
            stop: None,
        };
        self.lead.orders.send_modify(|o| o.attempts.push(order));
    }

    pub(crate) fn change(&self, id: &str, change: impl Fn(&mut AttemptOrder)) {
        self.lead.orders.send_modify(|o| {
            o.attempts
                .iter_mut()
                .filter(|a| a.attempt == id)
                .for_each(&change);
        });
    }

    pub(crate) fn stop(&self, id: &str, grace_s: u64, cause: &StopCause) {
        let cause_json = serde_json::to_string(cause).expect("JSON");
        self.change(id, |order| {
            order.stop = Some(Stop {
                grace_s,
                cause_json: cause_json.clone(),
            });
        });
    }
}
