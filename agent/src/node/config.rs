//! What a node is told, with the limits of each value.

use super::error::NodeError;
use crate::config::JoinBy;
use crate::instance::InstanceConfig;
use crate::launch::{HostLimits, LOG_FILE_BYTES, LOG_FILES, LaunchConfig};
use gpuloom_api::Endpoints;
use gpuloom_api::tls::CaPin;
use gpuloom_fleet::{Backend, DeviceId, NodeId, PoolName};
use gpuloom_gpu::ProbeOptions;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Shortest time between two readings.
pub const MIN_POLL_MS: u64 = 100;
/// Longest time between two readings.
pub const MAX_POLL_MS: u64 = 60_000;

/// What a node needs to know.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The node's id: that of its instance.
    pub instance_id: NodeId,
    /// Holds `identity/`, `join-token` and `attempts/`.
    pub data_dir: PathBuf,
    /// Where logs are served to the lead; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// `host:port` of every lead.
    pub fleet_endpoints: Vec<String>,
    /// `sha256:<64 hex>` of the fleet CA's public key.
    pub ca_pin: String,
    /// The pool the node belongs to.
    pub pool: PoolName,
    /// Labels of the pool, for metrics.
    pub labels: BTreeMap<String, String>,
    /// The GPUs of this node; empty means all of the machine.
    pub gpus: Vec<DeviceId>,
    /// Where readings come from.
    pub backend: Backend,
    /// The simulated machine's state file; only with the simulated backend.
    pub sim_state: Option<PathBuf>,
    /// Milliseconds between readings, [`MIN_POLL_MS`] to [`MAX_POLL_MS`]; the lead may change it.
    pub poll_ms: u64,
    /// Seconds between SIGTERM and SIGKILL where neither an order nor the job says.
    pub grace_s: u64,
    /// The unprivileged user jobs run as.
    pub job_user: String,
    /// Where `gpuloom jobs-holder` starts and ends jobs; `None`: this process does.
    pub jobs_socket: Option<PathBuf>,
    /// How it gets its certificate.
    pub join: JoinBy,
    /// The cloud it is an instance of; `None` on any other machine.
    pub instance: Option<InstanceConfig>,
    /// A delegated cgroup v2 directory; `None`: where cgroup v2 is mounted.
    pub cgroup_parent: Option<PathBuf>,
    /// What each job may use of the host.
    pub job_limits: HostLimits,
    /// Bytes of one log file of a job.
    pub log_file_bytes: u64,
    /// Log files kept for each stream of a job.
    pub log_files: u32,
    /// Program and first arguments of shims; `None`: this program's `shim`.
    pub shim: Option<Vec<OsString>>,
    /// The program that is the GPU probe; `None`: this one.
    pub probe_program: Option<PathBuf>,
}

// === impl NodeConfig ===

impl From<crate::config::NodeConfig> for NodeConfig {
    fn from(c: crate::config::NodeConfig) -> Self {
        Self {
            instance_id: c.instance_id,
            data_dir: c.data_dir,
            listen: c.listen,
            fleet_endpoints: c.fleet_endpoints,
            ca_pin: c.ca_pin,
            pool: c.pool,
            labels: c.labels,
            gpus: c.gpus,
            backend: c.backend,
            sim_state: c.sim_state,
            poll_ms: c.poll_s.saturating_mul(1000),
            grace_s: c.grace_s,
            job_user: c.job_user,
            jobs_socket: c.jobs_socket,
            join: c.join,
            instance: c.instance,
            cgroup_parent: None,
            job_limits: HostLimits::default(),
            log_file_bytes: LOG_FILE_BYTES,
            log_files: LOG_FILES,
            shim: None,
            probe_program: None,
        }
    }
}

impl NodeConfig {
    /// Refuses values that cannot be used, naming each.
    pub(crate) fn check(&self) -> Result<(), NodeError> {
        self.endpoints()?;
        self.pin()?;
        let refuse = |key, value: String, fix: &str| {
            Err(NodeError::Config {
                key,
                value,
                fix: fix.to_owned(),
            })
        };
        if !(MIN_POLL_MS..=MAX_POLL_MS).contains(&self.poll_ms) {
            let fix = format!("use {MIN_POLL_MS} to {MAX_POLL_MS}");
            return refuse("poll_ms", self.poll_ms.to_string(), &fix);
        }
        match (self.backend, &self.sim_state) {
            (Backend::Simulated, None) => refuse(
                "sim_state",
                String::new(),
                "the simulated backend needs the simulated machine's state file",
            ),
            (Backend::Nvml, Some(path)) => refuse(
                "sim_state",
                path.display().to_string(),
                "leave it out, or use backend = \"simulated\"",
            ),
            _ => Ok(()),
        }
    }

    pub(crate) fn endpoints(&self) -> Result<Endpoints, NodeError> {
        let endpoints = Endpoints::new(self.fleet_endpoints.iter().cloned());
        endpoints.map_err(|e| NodeError::Config {
            key: "fleet_endpoints",
            value: self.fleet_endpoints.join(","),
            fix: e.to_string(),
        })
    }

    pub(crate) fn pin(&self) -> Result<CaPin, NodeError> {
        self.ca_pin.parse().map_err(|e| NodeError::Config {
            key: "ca_pin",
            value: self.ca_pin.clone(),
            fix: format!("{e}"),
        })
    }

    pub(crate) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    pub(crate) fn launch(&self) -> Result<LaunchConfig, NodeError> {
        let dir = self.data_dir.join("attempts");
        let made = LaunchConfig::new(dir.clone(), self.instance_id.clone());
        let mut launch = made.map_err(|source| NodeError::File {
            what: "find the program of",
            path: dir,
            source,
        })?;
        if let Some(shim) = &self.shim {
            launch.shim.clone_from(shim);
        }
        launch.job_user.clone_from(&self.job_user);
        launch.cgroup_parent.clone_from(&self.cgroup_parent);
        launch.limits = self.job_limits;
        launch.log_file_bytes = self.log_file_bytes;
        launch.log_files = self.log_files;
        launch.jobs_socket.clone_from(&self.jobs_socket);
        launch.sim_state.clone_from(&self.sim_state);
        Ok(launch)
    }

    pub(crate) fn probe(&self) -> ProbeOptions {
        ProbeOptions {
            program: self.probe_program.clone(),
            backend: self.backend,
            sim_state: self.sim_state.clone(),
            share: (!self.gpus.is_empty()).then(|| self.gpus.clone()),
            ..ProbeOptions::nvml()
        }
    }
}
