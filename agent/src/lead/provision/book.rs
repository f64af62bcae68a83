//! Launches in the lead's store, and what each instance starts with.

use crate::lead::core::Core;
use crate::lead::record::TokenPurpose;
use crate::lead::state::{NewToken, State};
use async_trait::async_trait;
use gpuloom_api::BearerToken;
use gpuloom_cloud::boot::{Boot, BootError};
use gpuloom_cloud::{LaunchBook, LaunchId, LaunchRecord, LaunchRequest, Role, Tags, UserData};
use gpuloom_fleet::{Backend, FleetName, PoolName, PoolSpec, Seconds};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Where a cloud's nodes serve logs to the lead, on their private address: security groups name a port.
const NODE_PORT: u16 = 7443;
/// How long a launched instance may take until it joins.
const JOIN_TTL_S: u64 = 24 * 3600;
/// A launch that is sent again keeps its token while that lives at least this long.
const JOIN_TTL_LEFT: Seconds = Seconds(JOIN_TTL_S / 2);

type Failed = Box<dyn Error + Send + Sync>;

/// What every node of the fleet is told.
#[derive(Debug, Clone)]
pub(crate) struct NodeTemplate {
    pub(crate) fleet: FleetName,
    pub(crate) fleet_id: String,
    /// Where nodes reach the lead.
    pub(crate) endpoint: String,
    pub(crate) ca_pin: String,
    pub(crate) backend: Backend,
    pub(crate) sim_state: Option<PathBuf>,
}

/// The lead's launches.
pub(crate) struct Book {
    core: Core,
    template: NodeTemplate,
    /// The unused token of each launch that this lead sent: one that is refused is sent again every
    /// few seconds for as long as its pool is short, and tokens are not without number.
    tokens: Mutex<BTreeMap<LaunchId, BearerToken>>,
}

// === impl NodeTemplate ===

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

impl NodeTemplate {
    /// The agent's configuration; the driver fills in the instance's own id, directory and GPUs.
    fn config(&self, pool: &PoolSpec) -> String {
        let mut text = format!(
            "instance_id = {{{{instance_id}}}}\ndata_dir = {{{{data_dir}}}}\nlisten = \"127.0.0.1:0\"\n\n\
             [fleet]\nname = {}\n\n[node]\nfleet_endpoints = [{}]\nca_pin = {}\npool = {}\n\
             gpus = {{{{gpus}}}}\n",
            quoted(self.fleet.as_str()),
            quoted(&self.endpoint),
            quoted(&self.ca_pin),
            quoted(pool.name.as_str()),
        );
        let backend = match self.backend {
            Backend::Nvml => "nvml",
            Backend::Simulated => "simulated",
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "backend = \"{backend}\"");
        if let Some(state) = &self.sim_state {
            let _ = writeln!(text, "sim_state = {}", quoted(&state.display().to_string()));
        }
        put_labels(&mut text, pool);
        text
    }
}

impl NodeTemplate {
    /// What a cloud's instance starts with: where the lead is and how to know it. It proves which instance it is
    /// when it joins; nothing here is secret.
    fn boot(&self, pool: &PoolSpec) -> Result<UserData, BootError> {
        let mut config = format!(
            "data_dir = \"/var/lib/gpuloom\"\nlisten = \"private:{NODE_PORT}\"\n\n\
             [instance]\ncloud = \"{}\"\n\n[fleet]\nname = {}\n\n\
             [node]\njoin = \"instance\"\nfleet_endpoints = [{}]\nca_pin = {}\npool = {}\n\
             backend = \"nvml\"\n",
            pool.place.kind(),
            quoted(self.fleet.as_str()),
            quoted(&self.endpoint),
            quoted(&self.ca_pin),
            quoted(pool.name.as_str()),
        );
        put_labels(&mut config, pool);
        let boot = Boot {
            role: Role::Node,
            config,
            agent: pool.place.agent().clone(),
            data_disk: false,
        };
        Ok(UserData {
            script: boot.script()?,
            ..UserData::default()
        })
    }
}

fn put_labels(text: &mut String, pool: &PoolSpec) {
    if !pool.labels.is_empty() {
        text.push_str("\n[node.labels]\n");
    }
    for (key, value) in &pool.labels {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{} = {}", quoted(key), quoted(value));
    }
}

// === impl Book ===

impl Book {
    pub(crate) fn new(core: Core, template: NodeTemplate) -> Self {
        Self {
            core,
            template,
            tokens: Mutex::default(),
        }
    }

    /// The launch's token to join with: the same while it is unused and lives on.
    async fn token(&self, launch: LaunchId, pool: PoolName) -> Result<BearerToken, Failed> {
        let held = self.held().get(&launch).cloned();
        if let Some(token) = held {
            let hash = token.sha256();
            let good = move |s: &State, now: gpuloom_fleet::Millis| {
                s.tokens.get(&hash).is_some_and(|t| {
                    let unused = matches!(t.purpose, TokenPurpose::Join { used_by: None, .. });
                    unused && t.expires_at > now.plus(JOIN_TTL_LEFT)
                })
            };
            if self.core.read(good).await? {
                return Ok(token);
            }
        }
        let token = BearerToken::new_join()?;
        let new = NewToken {
            hash: token.sha256(),
            purpose: TokenPurpose::Join {
                pool,
                used_by: None,
            },
            ttl_s: JOIN_TTL_S,
            label: format!("launch {launch}"),
        };
        self.core
            .write("token", move |s, now| s.create_token(&new, now))
            .await?;
        self.held().insert(launch, token.clone());
        Ok(token)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<LaunchId, BearerToken>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LaunchBook for Book {
    async fn store(&self, record: &LaunchRecord) -> Result<(), Failed> {
        let records = [record.clone()];
        let store = move |s: &State, _| Ok((s.store_launches(&records), ()));
        Ok(self.core.write("launch", store).await?)
    }

    async fn forget(&self, launch: LaunchId) -> Result<(), Failed> {
        let token = self.held().remove(&launch);
        if let Some(hash) = token.map(|t| t.sha256()) {
            let revoke = move |s: &State, _| Ok(s.revoke_token(&hash));
            self.core.write("revoke", revoke).await?;
        }
        let forget = move |s: &State, _| Ok((s.forget_launch(launch), ()));
        Ok(self.core.write("forget_launch", forget).await?)
    }

    async fn request(&self, record: &LaunchRecord) -> Result<LaunchRequest, Failed> {
        let pool = record.pool.clone();
        let spec = self
            .core
            .read(move |s, _| s.pool(&pool).map(|(spec, _)| spec.clone()))
            .await?;
        let Some(spec) = spec else {
            return Err(format!("pool {} is gone", record.pool).into());
        };
        let user_data = match spec.place.is_cloud() {
            true => self.template.boot(&spec)?,
            false => {
                let token = self.token(record.id, spec.name.clone()).await?;
                UserData {
                    config: self.template.config(&spec),
                    join_token: Some(token.expose().to_owned()),
                    script: String::new(),
                }
            }
        };
        Ok(LaunchRequest {
            token: record.token.clone(),
            fleet: self.template.fleet.clone(),
            pool: Some(spec.name.clone()),
            role: Role::Node,
            fleet_id: self.template.fleet_id.clone(),
            offerings: record.offerings.clone(),
            place: spec.place.clone(),
            gpu: Some(spec.gpu.clone()),
            labels: Tags::default(),
            revision: spec.revision(),
            data_disk: None,
            user_data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AgentConfig;
    use crate::lead::state::Keep;
    use crate::lead::state::tests::pool;
    use gpuloom_cloud::{LaunchState, Offering, Token};
    use gpuloom_fleet::{Millis, Object};
    use gpuloom_store::{OpenOptions, SqliteStore};
    use std::path::Path;
    use std::sync::Arc;
    use tokio_util::sync::CancellationToken;

    fn template() -> NodeTemplate {
        NodeTemplate {
            fleet: FleetName::new("ml").expect("a name"),
            fleet_id: "f".to_owned(),
            endpoint: "127.0.0.1:7443".to_owned(),
            ca_pin: format!("sha256:{}", "0".repeat(64)),
            backend: Backend::Simulated,
            sim_state: Some(PathBuf::from("/s t/machine.state")),
        }
    }

    #[tokio::test]
    async fn a_launch_that_is_sent_again_and_again_uses_one_token_and_leaves_none() {
        let store = SqliteStore::in_memory(OpenOptions::default()).expect("a store");
        let clock = Arc::new(|| Millis(1_000_000));
        let state = State::new(Keep::default());
        let (core, _task) = Core::start(state, Arc::new(store), clock, CancellationToken::new());
        let declare = crate::lead::state::Declare {
            object: Object::Pool(pool("t4")),
            owner: "terraform".to_owned(),
            session: "s".to_owned(),
            expected_generation: 0,
        };
        let declare = move |s: &State, now| s.declare(&declare, "admin", now);
        core.write("declare", declare).await.expect("a pool");
        let book = Book::new(core.clone(), template());
        let record = |attempt| LaunchRecord {
            id: LaunchId(7),
            pool: PoolName::new("t4").expect("a name"),
            attempt,
            offerings: vec![Offering("local/T4x2".to_owned())],
            token: Token::of("x", LaunchId(7), attempt),
            revision: String::new(),
            state: LaunchState::Sent,
            at: Millis(0),
        };
        let tokens = || core.read(|s, _| s.tokens.len());
        let first = book.request(&record(1)).await.expect("a request");
        for attempt in 2..20 {
            let again = book.request(&record(attempt)).await.expect("a request");
            assert_eq!(again.user_data.join_token, first.user_data.join_token);
        }
        assert_eq!(tokens().await, Ok(1));
        book.forget(LaunchId(7)).await.expect("is forgotten");
        assert_eq!(tokens().await, Ok(0));
    }

    #[test]
    fn what_a_node_is_told_reads_as_its_configuration() {
        let mut pool = pool("t4");
        pool.labels
            .insert("team/x".to_owned(), "a \"b\"\\".to_owned());
        let template = template();
        let text = template
            .config(&pool)
            .replace("{{instance_id}}", "\"t4-1\"")
            .replace("{{data_dir}}", "\"/d\"")
            .replace("{{gpus}}", "[\"GPU-1\"]");
        let config = AgentConfig::parse(Path::new("agent.toml"), &text).expect("reads");
        let node = config.node.expect("a node");
        assert_eq!(node.labels["team/x"], "a \"b\"\\");
        assert_eq!(node.sim_state, template.sim_state);
        assert_eq!(node.gpus.len(), 1);
    }
}
