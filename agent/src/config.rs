//! What an agent is told at its start: one TOML file, checked whole, every unknown key refused by name.

use gpuloom_fleet::{Backend, DeviceId, FleetName, NodeId, PoolName};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The whole configuration of one agent: at least one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// The id of the instance this agent runs on.
    pub instance_id: NodeId,
    /// Where everything of this agent lives; mode 0700.
    pub data_dir: PathBuf,
    /// Where `/healthz` and `/metrics` are served.
    pub metrics_listen: SocketAddr,
    /// The lead's part, when this agent is one.
    pub lead: Option<LeadConfig>,
    /// The node's part, when this agent is one.
    pub node: Option<NodeConfig>,
}

/// What a lead needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadConfig {
    /// The fleet's name.
    pub fleet: FleetName,
    /// See [`AgentConfig::instance_id`].
    pub instance_id: NodeId,
    /// See [`AgentConfig::data_dir`].
    pub data_dir: PathBuf,
    /// Where the API is served; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The admin's public key: SubjectPublicKeyInfo, DER, base64.
    pub admin_public_key: String,
    /// The layout of a simulated machine; `None` means the machine's real GPUs.
    pub simulate: Option<String>,
    /// Where local instances live.
    pub local_root: PathBuf,
    /// GPUs that local pools may use; `None` means all.
    pub gpus: Option<Vec<DeviceId>>,
    /// A node silent for this long is suspect, 2 to 3,600 seconds.
    pub node_timeout_s: u64,
    /// Finished jobs kept, 1 to 1,000,000.
    pub jobs_kept: usize,
    /// Events kept in the store, 1,000 to 10,000,000.
    pub events_kept: u64,
    /// Readings kept for each device, 1 to 10,000.
    pub history: usize,
}

/// What a node needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The node's id: that of its instance.
    pub instance_id: NodeId,
    /// See [`AgentConfig::data_dir`].
    pub data_dir: PathBuf,
    /// Where logs are served to the lead; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The fleet's name.
    pub fleet: FleetName,
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
    /// Seconds between readings, 1 to 60.
    pub poll_s: u64,
    /// Seconds between SIGTERM and SIGKILL where an order says nothing, 0 to 3,600.
    pub grace_s: u64,
    /// The unprivileged user jobs run as.
    pub job_user: String,
    /// Where `gpuloom jobs-holder` starts and ends jobs; `None`: the agent itself does.
    pub jobs_socket: Option<PathBuf>,
}

/// A configuration that does not read; the text names the file, the key and the fix.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file itself.
    #[error("cannot read the configuration {path}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{path} does not read as an agent's configuration: {message}", path = path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A value that cannot be used.
    #[error("{path}: {key} = {value:?}: {message}", path = path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// The dotted key.
        key: &'static str,
        /// What it holds.
        value: String,
        /// What is accepted.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    instance_id: NodeId,
    data_dir: PathBuf,
    listen: SocketAddr,
    #[serde(default = "loopback")]
    metrics_listen: SocketAddr,
    fleet: FleetTable,
    lead: Option<LeadTable>,
    node: Option<NodeTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetTable {
    name: FleetName,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeadTable {
    admin_public_key: String,
    simulate: Option<String>,
    local_root: PathBuf,
    gpus: Option<Vec<DeviceId>>,
    #[serde(default = "node_timeout")]
    node_timeout_s: u64,
    #[serde(default = "jobs_kept")]
    jobs_kept: usize,
    #[serde(default = "events_kept")]
    events_kept: u64,
    #[serde(default = "history")]
    history: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeTable {
    fleet_endpoints: Vec<String>,
    ca_pin: String,
    pool: PoolName,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    gpus: Vec<DeviceId>,
    backend: Backend,
    sim_state: Option<PathBuf>,
    #[serde(default = "poll")]
    poll_s: u64,
    #[serde(default = "grace")]
    grace_s: u64,
    #[serde(default = "job_user")]
    job_user: String,
    jobs_socket: Option<PathBuf>,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
fn node_timeout() -> u64 {
    10
}
fn jobs_kept() -> usize {
    10_000
}
fn events_kept() -> u64 {
    100_000
}
fn history() -> usize {
    100
}
fn poll() -> u64 {
    1
}
fn grace() -> u64 {
    30
}
fn job_user() -> String {
    "nobody".to_owned()
}

// === impl AgentConfig ===

impl AgentConfig {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|e| ConfigError::Parse {
            path: path.to_owned(),
            message: e.to_string(),
        })?;
        file.check()
            .map_err(|(key, value, message)| ConfigError::Value {
                path: path.to_owned(),
                key,
                value,
                message,
            })?;
        let (id, dir, listen, fleet) = (
            file.instance_id,
            file.data_dir,
            file.listen,
            file.fleet.name,
        );
        let lead = file.lead.map(|t| LeadConfig {
            fleet: fleet.clone(),
            instance_id: id.clone(),
            data_dir: dir.clone(),
            listen,
            admin_public_key: t.admin_public_key,
            simulate: t.simulate,
            local_root: t.local_root,
            gpus: t.gpus,
            node_timeout_s: t.node_timeout_s,
            jobs_kept: t.jobs_kept,
            events_kept: t.events_kept,
            history: t.history,
        });
        let node = file.node.map(|t| NodeConfig {
            instance_id: id.clone(),
            data_dir: dir.clone(),
            listen,
            fleet,
            fleet_endpoints: t.fleet_endpoints,
            ca_pin: t.ca_pin,
            pool: t.pool,
            labels: t.labels,
            gpus: t.gpus,
            backend: t.backend,
            sim_state: t.sim_state,
            poll_s: t.poll_s,
            grace_s: t.grace_s,
            job_user: t.job_user,
            jobs_socket: t.jobs_socket,
        });
        Ok(Self {
            instance_id: id,
            data_dir: dir,
            metrics_listen: file.metrics_listen,
            lead,
            node,
        })
    }
}

// === impl File ===

type Bad = (&'static str, String, String);

fn within(key: &'static str, value: u64, low: u64, high: u64) -> Result<(), Bad> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err((key, value.to_string(), format!("use {low} to {high}")))
}

fn require(good: bool, key: &'static str, value: &str, message: &str) -> Result<(), Bad> {
    if good {
        return Ok(());
    }
    Err((key, value.to_owned(), message.to_owned()))
}

impl File {
    fn check(&self) -> Result<(), Bad> {
        let dir = self.data_dir.display().to_string();
        require(
            self.data_dir.is_absolute(),
            "data_dir",
            &dir,
            "use an absolute path",
        )?;
        require(
            self.lead.is_some() != self.node.is_some(),
            "lead",
            "",
            "state exactly one of the tables [lead] and [node]; a machine that is both runs one agent for each",
        )?;
        if let Some(lead) = &self.lead {
            lead.check()?;
        }
        if let Some(node) = &self.node {
            node.check()?;
        }
        Ok(())
    }
}

// === impl LeadTable ===

impl LeadTable {
    fn check(&self) -> Result<(), Bad> {
        use base64::Engine as _;
        let key = &self.admin_public_key;
        let reads = base64::engine::general_purpose::STANDARD.decode(key);
        require(
            reads.is_ok_and(|der| der.len() > 26),
            "lead.admin_public_key",
            key,
            "is not base64 of a public key; `gpuloom keygen` prints one",
        )?;
        if let Some(layout) = &self.simulate {
            gpuloom_fleet::parse_layout(layout).map_err(|e| {
                (
                    "lead.simulate",
                    layout.clone(),
                    format!("use {}", e.expected),
                )
            })?;
        }
        let root = self.local_root.display().to_string();
        require(
            self.local_root.is_absolute(),
            "lead.local_root",
            &root,
            "use an absolute path",
        )?;
        within("lead.node_timeout_s", self.node_timeout_s, 2, 3_600)?;
        within("lead.jobs_kept", self.jobs_kept as u64, 1, 1_000_000)?;
        within("lead.events_kept", self.events_kept, 1_000, 10_000_000)?;
        within("lead.history", self.history as u64, 1, 10_000)
    }
}

// === impl NodeTable ===

impl NodeTable {
    fn check(&self) -> Result<(), Bad> {
        require(
            !self.fleet_endpoints.is_empty() && self.fleet_endpoints.len() <= 16,
            "node.fleet_endpoints",
            &self.fleet_endpoints.join(","),
            "name 1 to 16 leads as host:port",
        )?;
        let pin = self.ca_pin.strip_prefix("sha256:");
        let hex = |t: &str| t.len() == 64 && t.bytes().all(|b| b.is_ascii_hexdigit());
        require(
            pin.is_some_and(hex),
            "node.ca_pin",
            &self.ca_pin,
            "use sha256: and 64 hex digits, as the fleet's `connection` has it",
        )?;
        let simulated = self.backend == Backend::Simulated;
        require(
            simulated == self.sim_state.is_some(),
            "node.sim_state",
            "",
            "goes with backend = \"simulated\" and with that alone",
        )?;
        require(
            !self.job_user.is_empty() && self.job_user != "root",
            "node.job_user",
            &self.job_user,
            "name an unprivileged user",
        )?;
        if let Some(socket) = &self.jobs_socket {
            // The kernel takes no longer a path for a socket.
            require(
                socket.is_absolute() && socket.as_os_str().len() < 108,
                "node.jobs_socket",
                &socket.display().to_string(),
                "use an absolute path of at most 107 bytes, as `gpuloom jobs-holder --socket` has it",
            )?;
        }
        within("node.poll_s", self.poll_s, 1, 60)?;
        within("node.grace_s", self.grace_s, 0, 3_600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn node_file(extra: &str) -> String {
        format!(
            "instance_id = \"t4-1\"\ndata_dir = \"/d\"\nlisten = \"127.0.0.1:0\"\n[fleet]\nname = \"ml\"\n\
             [node]\nfleet_endpoints = [\"127.0.0.1:7443\"]\nca_pin = \"{PIN}\"\npool = \"t4\"\n{extra}"
        )
    }

    fn parse(text: &str) -> Result<AgentConfig, String> {
        AgentConfig::parse(Path::new("agent.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_node_needs_little_and_the_rest_has_defaults() {
        let config = parse(&node_file("backend = \"nvml\"")).expect("reads");
        let node = config.node.expect("a node");
        assert_eq!(
            (node.poll_s, node.grace_s, node.job_user.as_str()),
            (1, 30, "nobody")
        );
        assert_eq!(config.metrics_listen, loopback());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (extra, names) in [
            ("backend = \"nvml\"\nbackned = 1", "backned"),
            ("backend = \"mock\"", "mock"),
            ("backend = \"simulated\"", "node.sim_state"),
            ("backend = \"nvml\"\nsim_state = \"/s\"", "node.sim_state"),
            ("backend = \"nvml\"\npoll_s = 0", "node.poll_s"),
            ("backend = \"nvml\"\npoll_s = 61", "node.poll_s"),
            ("backend = \"nvml\"\njob_user = \"root\"", "node.job_user"),
            (
                "backend = \"nvml\"\njobs_socket = \"jobs.sock\"",
                "node.jobs_socket",
            ),
            (
                "backend = \"nvml\"\n[lead]\nadmin_public_key = \"\"\nlocal_root = \"/\"",
                "exactly one",
            ),
        ] {
            let error = parse(&node_file(extra)).expect_err(extra);
            assert!(error.contains(names), "{extra}: {error}");
        }
    }

    #[test]
    fn a_leads_layout_and_key_are_checked_before_anything_starts() {
        let file = |rest: &str| {
            format!(
                "instance_id = \"lead-ml\"\ndata_dir = \"/d\"\nlisten = \"127.0.0.1:7443\"\n[fleet]\nname = \"ml\"\n\
                 [lead]\nlocal_root = \"/r\"\n{rest}"
            )
        };
        let key = "A".repeat(120);
        assert!(parse(&file(&format!("admin_public_key = \"{key}\""))).is_ok());
        let error = parse(&file(&format!(
            "admin_public_key = \"{key}\"\nsimulate = \"9xK9\""
        )));
        assert!(error.expect_err("bad layout").contains("lead.simulate"));
        let error = parse(&file("admin_public_key = \"%\""));
        assert!(error.expect_err("bad key").contains("gpuloom keygen"));
    }

    /// The fields of each table that is read from the file, from this very source.
    fn keys() -> Vec<(&'static str, &'static str)> {
        let tables = [
            ("File", ""),
            ("FleetTable", "fleet"),
            ("LeadTable", ""),
            ("NodeTable", ""),
        ];
        let mut keys = Vec::new();
        for (table, prefix) in tables {
            let text = include_str!("config.rs");
            let (_, text) = text
                .split_once(&format!("\nstruct {table} {{\n"))
                .expect("it is here");
            let (text, _) = text.split_once("\n}").expect("it ends");
            for line in text
                .lines()
                .filter(|line| !line.trim_start().starts_with('#'))
            {
                let (key, _) = line.trim().split_once(':').expect("a field");
                keys.push((prefix, key));
            }
        }
        keys
    }

    #[test]
    fn every_key_is_in_the_guide() {
        let guide = include_str!("../../docs/guides/agent-config.md");
        let keys = keys();
        assert!(keys.len() > 20, "{keys:?}");
        for (prefix, key) in keys {
            let named = match (prefix, key) {
                ("", "lead" | "node") => format!("## `[{key}]`"),
                ("", "fleet") => continue,
                ("", key) => format!("| `{key}` |"),
                (prefix, key) => format!("| `{prefix}.{key}` |"),
            };
            assert!(
                guide.contains(&named),
                "agent-config.md does not tell of {named}"
            );
        }
    }

    #[test]
    fn the_guides_examples_read() {
        let guide = include_str!("../../docs/guides/agent-config.md");
        let examples: Vec<_> = guide.split("```toml\n").skip(1).collect();
        assert_eq!(examples.len(), 2);
        for example in examples {
            let (text, _) = example.split_once("```").expect("it ends");
            let text = text.replace("...", &"A".repeat(88));
            let read = parse(&text);
            assert!(read.is_ok(), "{read:?}");
        }
    }
}
