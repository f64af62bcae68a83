//! What an agent is told at its start: one TOML file, checked whole, every unknown key refused by name.

use crate::instance::{AttestConfig, InstanceConfig};
use gpuloom_cloud_imds::{Dialect, Facts};
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
    /// The cloud it is an instance of; `None` on any other machine.
    pub instance: Option<InstanceConfig>,
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
    /// The cloud the lead is an instance of; `None` on any other machine.
    pub instance: Option<InstanceConfig>,
    /// How instances' proofs of identity are checked.
    pub attest: AttestConfig,
}

/// How a node gets its certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinBy {
    /// By the single-use token in `<data_dir>/join-token`.
    #[default]
    Token,
    /// By its cloud's proof of which instance it is.
    Instance,
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
    /// How it gets its certificate.
    pub join: JoinBy,
    /// The cloud it is an instance of; its announcements are watched for. `None` on any other machine.
    pub instance: Option<InstanceConfig>,
}

/// A configuration that reads, and may lack what only the metadata service knows.
#[derive(Debug)]
pub struct Unresolved {
    path: PathBuf,
    file: File,
    instance: Option<InstanceConfig>,
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

/// Where an agent listens.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
enum Listen {
    Address(SocketAddr),
    /// At this port of the instance's private address.
    Private(u16),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    instance_id: Option<NodeId>,
    data_dir: PathBuf,
    listen: Listen,
    #[serde(default = "loopback")]
    metrics_listen: SocketAddr,
    instance: Option<InstanceTable>,
    attest: Option<AttestTable>,
    fleet: FleetTable,
    lead: Option<LeadTable>,
    node: Option<NodeTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InstanceTable {
    cloud: String,
    metadata: Option<String>,
    endpoint: Option<String>,
    resource_group: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttestTable {
    aws_account: Option<String>,
    aws_sts_endpoint: Option<String>,
    google_keys_url: Option<String>,
    azure_roots: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetTable {
    name: FleetName,
}

#[derive(Debug, Deserialize)]
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

#[derive(Debug, Deserialize)]
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
    #[serde(default)]
    join: JoinBy,
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
    pub fn read(path: &Path) -> Result<Unresolved, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Unresolved::parse(path, &text)
    }

    /// A file that needs no metadata service.
    #[cfg(test)]
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Unresolved::parse(path, text)?.resolve(None)
    }
}

// === impl Unresolved ===

impl Unresolved {
    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|e| ConfigError::Parse {
            path: path.to_owned(),
            message: e.to_string(),
        })?;
        let checked = file.check().and_then(|()| file.instance());
        let instance = checked.map_err(bad(path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            instance,
        })
    }

    /// The metadata service that has to be asked before [`Self::resolve`]; `None` when all is stated.
    #[must_use]
    pub fn asks(&self) -> Option<&InstanceConfig> {
        let open =
            self.file.instance_id.is_none() || matches!(self.file.listen, Listen::Private(_));
        self.instance.as_ref().filter(|_| open)
    }

    /// The configuration, with what `facts` say where the file leaves it to them.
    pub fn resolve(self, facts: Option<&Facts>) -> Result<AgentConfig, ConfigError> {
        let Self {
            path,
            file,
            instance,
        } = self;
        let missing = |key, message: &str| (key, String::new(), message.to_owned());
        let id = match (&file.instance_id, facts) {
            (Some(id), _) => Ok(id.clone()),
            (None, Some(facts)) => NodeId::new(facts.id.clone())
                .map_err(|e| ("instance_id", facts.id.clone(), e.to_string())),
            (None, None) => Err(missing("instance_id", NO_ID)),
        };
        let id = id.map_err(bad(&path))?;
        let listen = match (file.listen, facts) {
            (Listen::Address(address), _) => Ok(address),
            (Listen::Private(port), Some(facts)) => {
                Ok(SocketAddr::new(facts.private_address, port))
            }
            (Listen::Private(_), None) => {
                Err(missing("listen", "has no private address to listen on"))
            }
        };
        let listen = listen.map_err(bad(&path))?;
        Ok(file.finish(id, listen, instance))
    }
}

fn bad(path: &Path) -> impl Fn(Bad) -> ConfigError {
    let path = path.to_owned();
    move |(key, value, message)| ConfigError::Value {
        path: path.clone(),
        key,
        value,
        message,
    }
}

// === impl Listen ===

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let read = match text.strip_prefix("private:") {
            Some(port) => port.parse().ok().map(Self::Private),
            None => text.parse().ok().map(Self::Address),
        };
        read.ok_or_else(|| format!("{text:?} is not where to listen: use ip:port or private:port"))
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

const NO_ID: &str = "state it, or state `[instance] cloud` on an instance of a cloud, and it is read from the metadata service";

impl File {
    fn finish(
        self,
        id: NodeId,
        listen: SocketAddr,
        instance: Option<InstanceConfig>,
    ) -> AgentConfig {
        let (dir, fleet) = (self.data_dir, self.fleet.name);
        let attest = self.attest.map(|t| AttestConfig {
            aws_account: t.aws_account,
            aws_sts_endpoint: t.aws_sts_endpoint,
            google_keys_url: t.google_keys_url,
            azure_roots: t.azure_roots,
        });
        let lead = self.lead.map(|t| LeadConfig {
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
            instance: instance.clone(),
            attest: attest.unwrap_or_default(),
        });
        let node = self.node.map(|t| NodeConfig {
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
            join: t.join,
            instance: instance.clone(),
        });
        AgentConfig {
            instance_id: id,
            data_dir: dir,
            metrics_listen: self.metrics_listen,
            instance,
            lead,
            node,
        }
    }

    /// The cloud it is an instance of, with what needs one.
    fn instance(&self) -> Result<Option<InstanceConfig>, Bad> {
        let Some(table) = &self.instance else {
            let private = matches!(self.listen, Listen::Private(_));
            let needs = "needs `[instance] cloud = \"aws\" | \"gcp\" | \"azure\"`";
            require(!private, "listen", "private", needs)?;
            let join = self.node.as_ref().map(|n| n.join).unwrap_or_default();
            require(join == JoinBy::Token, "node.join", "instance", needs)?;
            require(self.instance_id.is_some(), "instance_id", "", NO_ID)?;
            return Ok(None);
        };
        let dialect: Dialect = table.cloud.parse().map_err(|_| {
            (
                "instance.cloud",
                table.cloud.clone(),
                "use aws, gcp or azure".to_owned(),
            )
        })?;
        let metadata = table.metadata.clone();
        if let Some(endpoint) = &metadata {
            let rest = endpoint.strip_prefix("http://").unwrap_or_default();
            let good = !rest.is_empty() && !rest.trim_end_matches('/').contains('/');
            require(good, "instance.metadata", endpoint, "use http://host:port")?;
        }
        let group = &table.resource_group;
        let needs = "name the resource group of the lead's instance";
        let missing = dialect == Dialect::Azure && self.lead.is_some() && group.is_none();
        require(!missing, "instance.resource_group", "", needs)?;
        Ok(Some(InstanceConfig {
            dialect,
            metadata,
            endpoint: table.endpoint.clone(),
            resource_group: group.clone(),
        }))
    }

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
    fn an_instance_of_a_cloud_leaves_its_id_and_address_to_the_metadata_service() {
        let file = |instance: &str| {
            format!(
                "data_dir = \"/d\"\nlisten = \"private:7443\"\n{instance}[fleet]\nname = \"ml\"\n\
                 [node]\nfleet_endpoints = [\"10.0.0.5:7443\"]\nca_pin = \"{PIN}\"\npool = \"t4\"\n\
                 backend = \"nvml\"\njoin = \"instance\"\n"
            )
        };
        let read = |text: &str| Unresolved::parse(Path::new("agent.toml"), text);
        let unresolved = read(&file("[instance]\ncloud = \"aws\"\n")).expect("reads");
        assert!(unresolved.asks().is_some());
        let facts = Facts {
            id: "i-0abc".to_owned(),
            vm_id: None,
            account: "1".to_owned(),
            region: "r".to_owned(),
            zone: None,
            instance_type: "t".to_owned(),
            private_address: [10, 0, 0, 7].into(),
            public_address: None,
        };
        let config = unresolved.resolve(Some(&facts)).expect("resolves");
        let node = config.node.expect("a node");
        assert_eq!(node.instance_id.as_str(), "i-0abc");
        assert_eq!(node.listen.to_string(), "10.0.0.7:7443");
        assert_eq!(node.join, JoinBy::Instance);
        for (instance, names) in [
            ("", "listen"),
            ("[instance]\ncloud = \"ibm\"\n", "instance.cloud"),
            (
                "[instance]\ncloud = \"aws\"\nmetadata = \"ftp://x\"\n",
                "instance.metadata",
            ),
            ("[instance]\ncloud = \"aws\"\nregion = \"x\"\n", "region"),
        ] {
            let error = read(&file(instance)).expect_err(instance).to_string();
            assert!(error.contains(names), "{instance}: {error}");
        }
        let token = node_file("backend = \"nvml\"\njoin = \"instance\"");
        assert!(parse(&token).expect_err("no cloud").contains("node.join"));
        let nameless = node_file("backend = \"nvml\"").replace("instance_id = \"t4-1\"\n", "");
        assert!(parse(&nameless).expect_err("no id").contains("instance_id"));
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
            ("InstanceTable", "instance"),
            ("AttestTable", "attest"),
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
                ("", "fleet" | "instance" | "attest") => continue,
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
        assert_eq!(examples.len(), 3);
        for example in examples {
            let (text, _) = example.split_once("```").expect("it ends");
            let text = text.replace("...", &"A".repeat(88));
            let read = Unresolved::parse(Path::new("agent.toml"), &text);
            assert!(read.is_ok(), "{read:?}");
        }
    }
}
