//! One fleet that dies on command: the provider as core drives it, places armed in running processes, and what was acknowledged.

use gpuloom_tests::{LONG, Rig, SHORT, is_alive, kill, until};
use serde_json::{Value as Json, json};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::Duration;
use tfplug_host::{Host, SpawnOptions, State};
use tokio::runtime::Runtime;

/// The fleet of every case.
pub(crate) const FLEET: &str = "f";
const END: Duration = Duration::from_secs(20);

/// One block of configuration and what core holds of it.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) kind: &'static str,
    /// Without its `fleet`, which is filled in from the fleet's state.
    pub(crate) config: Json,
    pub(crate) state: Option<State>,
}

pub(crate) struct Stage {
    pub(crate) rig: Rig,
    runtime: Runtime,
    host: Option<Host>,
    pub(crate) fleet: Block,
    /// What the fleet holds, in the order of its creation.
    pub(crate) blocks: Vec<Block>,
}

// === impl Block ===

impl Block {
    pub(crate) fn new(kind: &'static str, config: Json) -> Self {
        Self {
            kind,
            config,
            state: None,
        }
    }

    pub(crate) fn tenant(name: &str, weight: u32) -> Self {
        Self::new("gpuloom_tenant", json!({"name": name, "weight": weight}))
    }

    /// A pool of nodes with `gpus` T4 each; destroying it ends its jobs.
    pub(crate) fn pool(name: &str, gpus: u32, min: u32, max: u32) -> Self {
        let config = json!({
            "name": name, "gpu": {"model": "T4", "per_node": gpus}, "local": {}, "on_destroy": "kill",
            "autoscaling": {"min": min, "max": max}
        });
        Self::new("gpuloom_pool", config)
    }
}

// === impl Stage ===

impl Stage {
    /// Nothing is declared yet; `simulate` is the machine.
    pub(crate) fn new(simulate: &str) -> Self {
        let rig = Rig::new();
        std::fs::create_dir(rig.dir().join("failpoints")).expect("the folder is ours");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let options = SpawnOptions::default()
            .env("GPULOOM_LOCAL_ROOT", rig.root())
            .env("GPULOOM_ADMIN_KEY", rig.key("admin.pem"))
            .env("GPULOOM_FAILPOINTS", rig.dir().join("failpoints"));
        let host = runtime.block_on(Host::spawn(&rig.built.provider, options));
        let config = json!({"name": FLEET, "local": {"simulate": simulate}});
        let mut stage = Self {
            rig,
            runtime,
            host: Some(host.expect("the provider starts")),
            fleet: Block::new("gpuloom_fleet", config),
            blocks: Vec::new(),
        };
        stage.configure(&json!({}));
        stage
    }

    fn host(&self) -> &Host {
        self.host.as_ref().expect("a provider runs")
    }

    /// Configures the provider of this walk, and so of those to come.
    pub(crate) fn configure(&mut self, config: &Json) {
        let host = self.host.as_mut().expect("a provider runs");
        let configured = self.runtime.block_on(host.configure(config));
        configured.expect("the provider takes its configuration");
    }

    /// The next graph walk: another provider process.
    pub(crate) fn walk(&mut self) {
        let host = self.host.as_mut().expect("a provider runs");
        self.runtime
            .block_on(host.restart())
            .expect("the provider starts again");
    }

    /// The provider has been killed by SIGKILL; another one takes its place.
    #[track_caller]
    pub(crate) fn walk_after_kill(&mut self) {
        let host = self.host.as_mut().expect("a provider runs");
        let ended = self.runtime.block_on(host.process_mut().wait(END));
        assert_eq!(ended.expect("it has ended").signal(), Some(9), "by SIGKILL");
        let again = self.runtime.block_on(host.kill_and_restart());
        again.expect("the provider starts again");
    }

    pub(crate) fn provider_pid(&self) -> i32 {
        self.host().process().pid()
    }

    #[track_caller]
    pub(crate) fn lead_pid(&self) -> i32 {
        self.pid_of(&format!("lead-{FLEET}"))
    }

    #[track_caller]
    pub(crate) fn pid_of(&self, instance: &str) -> i32 {
        let pid = self.rig.agent_pid(instance);
        pid.unwrap_or_else(|| panic!("the agent of {instance} does not run"))
    }

    /// The nodes of the pools that exist.
    pub(crate) fn nodes(&self) -> Vec<String> {
        let all = self.rig.instances().into_iter();
        all.filter(|id| !id.starts_with("lead-")).collect()
    }

    /// Arms a place, in one process or in whichever comes there first.
    pub(crate) fn arm(&self, place: &str, action: &str, pid: Option<i32>) {
        let folder = self.rig.dir().join("failpoints");
        let pid = pid.map(|p| p.to_string()).unwrap_or_default();
        // Whole or not at all, for whoever looks right now.
        let draft = folder.join(".draft");
        std::fs::write(&draft, format!("{action} {pid}")).expect("the folder is ours");
        std::fs::rename(draft, folder.join(place)).expect("the folder is ours");
    }

    /// Who came to an armed place, if anybody has.
    pub(crate) fn struck(&self, place: &str) -> Option<i32> {
        let folder: PathBuf = self.rig.dir().join("failpoints");
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let start = format!("{place}.hit.");
        names
            .filter_map(|e| e.file_name().into_string().ok())
            .find_map(|name| name.strip_prefix(&start)?.parse().ok())
    }

    /// Waits until somebody died at an armed place.
    #[track_caller]
    pub(crate) fn died_at(&self, place: &str) -> i32 {
        let pid = until(&format!("somebody comes to {place}"), LONG, || {
            self.struck(place).ok_or_else(|| "nobody".to_owned())
        });
        until("it is dead", SHORT, || {
            (!is_alive(pid))
                .then_some(())
                .ok_or_else(|| pid.to_string())
        });
        pid
    }

    /// SIGKILL to a process that has to run, and its end.
    #[track_caller]
    pub(crate) fn kill(&self, pid: i32) {
        kill(pid);
        until("it is dead", SHORT, || {
            (!is_alive(pid))
                .then_some(())
                .ok_or_else(|| pid.to_string())
        });
    }

    fn complete(&self, config: &Json, kind: &str) -> Json {
        let mut config = config.clone();
        if kind != "gpuloom_fleet" {
            let fleet = self.fleet.state.as_ref().expect("the fleet was made first");
            let connection = fleet.value.get("connection");
            let text = |name: &str| connection.get(name).as_str().expect("known").to_owned();
            let endpoints = connection.get("endpoints").elements();
            let endpoints: Vec<_> = endpoints.iter().filter_map(|e| e.as_str()).collect();
            config["fleet"] =
                json!({"id": text("id"), "endpoints": endpoints, "ca_pin": text("ca_pin")});
        }
        config
    }

    /// Brings one block to its configuration as core does: created when nothing is stored, else refreshed, planned
    /// and applied. What the provider saved is stored, with an error or without.
    pub(crate) fn apply_one(&self, block: &mut Block) -> Result<(), String> {
        let config = self.complete(&block.config, block.kind);
        let work = async {
            let driver = self.host().resource(block.kind).await.map_err(text)?;
            let applied = match &block.state {
                None => driver.create(&config).await,
                Some(state) => driver
                    .update(state, &config)
                    .await
                    .map(|(_, applied)| applied),
            };
            applied.map_err(text)
        };
        let applied = self.runtime.block_on(work)?;
        let errors: Vec<_> = applied
            .errors()
            .iter()
            .map(|d| format!("{}: {}", d.summary, d.detail))
            .collect();
        block.state = applied.state;
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors.join("\n"))
        }
    }

    /// Destroys one block as core does: refreshed first; one that is not stored is no more.
    pub(crate) fn destroy_one(&self, block: &mut Block) -> Result<(), String> {
        let Some(state) = block.state.clone() else {
            return Ok(());
        };
        let work = async {
            let driver = self.host().resource(block.kind).await.map_err(text)?;
            match driver.refresh(&state).await.map_err(text)? {
                Some(fresh) => driver.destroy(&fresh).await.map_err(text).map(Some),
                None => Ok(None),
            }
        };
        let Some(applied) = self.runtime.block_on(work)? else {
            block.state = None;
            return Ok(());
        };
        let errors: Vec<_> = applied
            .errors()
            .iter()
            .map(|d| format!("{}: {}", d.summary, d.detail))
            .collect();
        block.state = applied.state;
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors.join("\n"))
        }
    }

    /// Refreshes and plans one block, which has to find nothing to do; what was read is stored.
    pub(crate) fn settle_one(&self, block: &mut Block) -> Result<(), String> {
        let config = self.complete(&block.config, block.kind);
        let Some(state) = block.state.clone() else {
            return Err(format!("{} is not stored", block.kind));
        };
        let work = async {
            let driver = self.host().resource(block.kind).await.map_err(text)?;
            driver.settled(&state, &config).await.map_err(text)
        };
        block.state = Some(self.runtime.block_on(work)?);
        Ok(())
    }

    /// Works on the fleet and then on every block, in the order of the graph.
    fn each(
        &mut self,
        work: impl Fn(&Self, &mut Block) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut fleet = std::mem::replace(&mut self.fleet, Block::new("", Json::Null));
        // The others read the fleet's state as it is now.
        let done = work(self, &mut fleet);
        self.fleet = fleet;
        done?;
        let mut blocks = std::mem::take(&mut self.blocks);
        let done = blocks.iter_mut().try_for_each(|block| work(self, block));
        self.blocks = blocks;
        done
    }

    /// Applies everything.
    pub(crate) fn apply(&mut self) -> Result<(), String> {
        self.each(Self::apply_one)
    }

    /// A walk of its own in which a plan finds nothing to do.
    #[track_caller]
    pub(crate) fn plan_is_empty(&mut self) {
        self.walk();
        self.each(Self::settle_one).expect("the plan is empty");
    }

    /// Destroys everything in reverse and demands that nothing is left.
    #[track_caller]
    pub(crate) fn end(mut self) {
        self.walk();
        while let Some(mut block) = self.blocks.pop() {
            self.destroy_one(&mut block).expect("destroyed");
            assert!(block.state.is_none(), "{}", block.kind);
        }
        let mut fleet = std::mem::replace(&mut self.fleet, Block::new("", Json::Null));
        self.destroy_one(&mut fleet).expect("destroyed");
        assert!(fleet.state.is_none());
        if let Some(host) = self.host.take() {
            self.runtime
                .block_on(host.shutdown())
                .expect("the provider ends");
        }
        self.rig.nothing_is_left();
    }
}

fn text(error: tfplug_host::HostError) -> String {
    error.to_string()
}
