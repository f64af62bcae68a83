//! Launches in the lead's store, and what each instance starts with.

use crate::lead::core::Core;
use crate::lead::record::TokenPurpose;
use crate::lead::state::{NewToken, State};
use async_trait::async_trait;
use gpuloom_api::BearerToken;
use gpuloom_cloud::{LaunchBook, LaunchId, LaunchRecord, LaunchRequest, Role, Tags, UserData};
use gpuloom_fleet::{Backend, FleetName, PoolSpec};
use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

/// How long a launched instance may take until it joins.
const JOIN_TTL_S: u64 = 24 * 3600;

type Failed = Box<dyn Error + Send + Sync>;

/// What every node of the fleet is told.
#[derive(Debug, Clone)]
pub(crate) struct NodeTemplate {
    pub(crate) fleet: FleetName,
    /// Where nodes reach the lead.
    pub(crate) endpoint: String,
    pub(crate) ca_pin: String,
    pub(crate) backend: Backend,
    pub(crate) sim_state: Option<PathBuf>,
}

/// The lead's launches.
pub(crate) struct Book {
    pub(crate) core: Core,
    pub(crate) template: NodeTemplate,
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
        if !pool.labels.is_empty() {
            text.push_str("\n[node.labels]\n");
        }
        for (key, value) in &pool.labels {
            let _ = writeln!(text, "{} = {}", quoted(key), quoted(value));
        }
        text
    }
}

// === impl Book ===

#[async_trait]
impl LaunchBook for Book {
    async fn store(&self, record: &LaunchRecord) -> Result<(), Failed> {
        let records = [record.clone()];
        let store = move |s: &State, _| Ok((s.store_launches(&records), ()));
        Ok(self.core.write("launch", store).await?)
    }

    async fn forget(&self, launch: LaunchId) -> Result<(), Failed> {
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
        let token = BearerToken::new_join()?;
        let new = NewToken {
            hash: token.sha256(),
            purpose: TokenPurpose::Join {
                pool: spec.name.clone(),
                used_by: None,
            },
            ttl_s: JOIN_TTL_S,
            label: format!("launch {}", record.id),
        };
        self.core
            .write("token", move |s, now| s.create_token(&new, now))
            .await?;
        Ok(LaunchRequest {
            token: record.token.clone(),
            fleet: self.template.fleet.clone(),
            pool: Some(spec.name.clone()),
            role: Role::Node,
            offering: record.offering.clone(),
            gpu: Some(spec.gpu.clone()),
            labels: Tags::default(),
            user_data: UserData {
                config: self.template.config(&spec),
                join_token: Some(token.expose().to_owned()),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AgentConfig;
    use std::path::Path;

    #[test]
    fn what_a_node_is_told_reads_as_its_configuration() {
        let mut pool = crate::lead::state::tests::pool("t4");
        pool.labels
            .insert("team/x".to_owned(), "a \"b\"\\".to_owned());
        let template = NodeTemplate {
            fleet: FleetName::new("ml").expect("a name"),
            endpoint: "127.0.0.1:7443".to_owned(),
            ca_pin: format!("sha256:{}", "0".repeat(64)),
            backend: Backend::Simulated,
            sim_state: Some(PathBuf::from("/s t/machine.state")),
        };
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
