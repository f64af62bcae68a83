//! A provider with a place of its own, and the stand-in lead.

use std::path::{Path, PathBuf};

use gpuloom_api::tls::SecretKey;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tfplug_host::{Applied, Host, SpawnOptions, State};

pub(crate) struct Rig {
    pub(crate) host: Host,
    pub(crate) dir: TempDir,
}

fn standin() -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("deps lies in the profile's directory");
    let path = profile.join("examples/standin-lead");
    assert!(
        path.is_file(),
        "{} is missing: `cargo build -p gpuloom-provider --examples`",
        path.display()
    );
    path
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let key = SecretKey::generate().expect("a key").to_pem();
        std::fs::write(dir.path().join("admin.pem"), key).expect("written");
        std::fs::copy(standin(), dir.path().join("gpuloom")).expect("a program of our own");
        let options =
            SpawnOptions::default().env("GPULOOM_ADMIN_KEY", dir.path().join("admin.pem"));
        let options = env.iter().fold(options, |o, (k, v)| o.env(*k, *v));
        let binary = Path::new(env!("CARGO_BIN_EXE_terraform-provider-gpuloom"));
        let host = Host::spawn(binary, options)
            .await
            .expect("the provider starts");
        let mut rig = Self { host, dir };
        rig.configure().await;
        rig
    }

    async fn configure(&mut self) {
        let local = json!({"root": self.root(), "agent_binary": self.dir.path().join("gpuloom")});
        self.host
            .configure(&json!({"local": local}))
            .await
            .expect("configured");
    }

    /// The next graph walk: another process.
    pub(crate) async fn walk(&mut self) {
        self.host
            .restart()
            .await
            .expect("the provider starts again");
        self.configure().await;
    }

    /// As [`Rig::walk`] after a process that was killed.
    pub(crate) async fn walk_after_kill(&mut self, env: (&str, &str)) {
        self.host.set_env(env.0, env.1);
        self.host
            .kill_and_restart()
            .await
            .expect("the provider starts again");
        self.configure().await;
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Instances and notes in the root, by name.
    pub(crate) fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root())
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<_> = entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.retain(|name| name != ".machine");
        names.sort();
        names
    }

    /// The process of a fleet's lead.
    pub(crate) fn pid(&self, fleet: &str) -> i32 {
        let lock = self.root().join(format!("lead-{fleet}/lock"));
        let text = std::fs::read_to_string(lock).expect("the lead's lock");
        text.split(' ')
            .next()
            .and_then(|pid| pid.parse().ok())
            .expect("a pid")
    }

    /// SIGKILL to the lead, and a wait until its lock is free.
    pub(crate) fn kill_lead(&self, fleet: &str) {
        let pid = rustix::process::Pid::from_raw(self.pid(fleet)).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it ran");
        let lock =
            std::fs::File::open(self.root().join(format!("lead-{fleet}/lock"))).expect("its lock");
        lock.lock_shared().expect("free once it has ended");
    }

    pub(crate) async fn create(&self, kind: &str, config: &Json) -> Applied {
        let driver = self.host.resource(kind).await.expect("declared");
        driver.create(config).await.expect("the provider answers")
    }

    pub(crate) async fn made(&self, kind: &str, config: &Json) -> State {
        self.create(kind, config).await.state().expect("created")
    }

    pub(crate) async fn destroy(&self, kind: &str, state: &State) -> Applied {
        let driver = self.host.resource(kind).await.expect("declared");
        driver.destroy(state).await.expect("the provider answers")
    }

    /// Refresh, then plan: nothing to do.
    pub(crate) async fn settled(&self, kind: &str, state: &State, config: &Json) -> State {
        let driver = self.host.resource(kind).await.expect("declared");
        driver.settled(state, config).await.expect("settled")
    }

    pub(crate) async fn fleet(&self) -> State {
        self.made("gpuloom_fleet", &fleet_config()).await
    }

    /// Destroys a fleet so that no process outlives the test.
    pub(crate) async fn end(&self, fleet: &State) {
        self.destroy("gpuloom_fleet", fleet)
            .await
            .ok()
            .expect("destroyed");
        assert_eq!(self.left(), Vec::<String>::new());
    }
}

pub(crate) fn fleet_config() -> Json {
    json!({"name": "ml", "local": {"simulate": "4xT4"}})
}

/// A fleet's connection as another resource writes it.
pub(crate) fn connection(fleet: &State) -> Json {
    let connection = fleet.value.get("connection");
    let text = |name: &str| connection.get(name).as_str().expect("known").to_owned();
    let endpoint = connection.get("endpoints").elements()[0]
        .as_str()
        .expect("known");
    json!({"id": text("id"), "endpoints": [endpoint], "ca_pin": text("ca_pin")})
}

pub(crate) fn text<'a>(state: &'a State, name: &str) -> &'a str {
    state.value.get(name).as_str().unwrap_or_default()
}

pub(crate) fn number(state: &State, name: &str) -> i64 {
    state.value.get(name).as_i64().unwrap_or(-1)
}

pub(crate) fn details(applied: &Applied) -> String {
    let all = applied
        .diagnostics
        .iter()
        .map(|d| format!("{}: {}", d.summary, d.detail));
    all.collect::<Vec<_>>().join("\n")
}

/// A test that failed half-way leaves no lead behind.
impl Drop for Rig {
    fn drop(&mut self) {
        for name in self.left().iter().filter(|name| !name.starts_with('.')) {
            let lock =
                std::fs::read_to_string(self.root().join(name).join("lock")).unwrap_or_default();
            let pid = lock.split(' ').next().and_then(|pid| pid.parse().ok());
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
                // It has ended already when the test went to its end.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}
