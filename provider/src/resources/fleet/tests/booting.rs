//! A cloud in memory whose leads run: the stand-in, started from the user data, with its store on the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use gpuloom_cloud::{
    Cloud, CloudError, FakeCloud, Instance, LaunchError, LaunchRequest, Launched, Offered, Role,
    Tags, Token,
};
use gpuloom_fleet::{FleetName, GpuShape, InstanceId, PoolName, PoolPlace};
use tfplug::async_trait;

/// Each test's machines have an address of their own: all leads answer on one port.
static NEXT: AtomicU32 = AtomicU32::new(1);

#[derive(Debug)]
pub(super) struct Booting {
    pub(super) fake: FakeCloud,
    pub(super) address: String,
    disk: PathBuf,
    scripts: Mutex<BTreeMap<InstanceId, String>>,
    running: Mutex<BTreeMap<InstanceId, Child>>,
}

impl Booting {
    pub(super) fn new(dir: &Path) -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        Self {
            fake: FakeCloud::new(),
            address: format!("127.{}.{}.{}", 64 + pid / 250 % 64, pid % 250, n % 250 + 1),
            disk: dir.join("disk"),
            scripts: Mutex::default(),
            running: Mutex::default(),
        }
    }

    /// The last user data.
    pub(super) fn script(&self) -> String {
        let scripts = self.scripts.lock().expect("not poisoned");
        scripts.values().next_back().cloned().unwrap_or_default()
    }

    pub(super) fn has_disk(&self) -> bool {
        self.disk.exists()
    }

    /// Its processes end at once; its disk stays.
    pub(super) fn power_cut(&self, id: &InstanceId) {
        let child = self.running.lock().expect("not poisoned").remove(id);
        if let Some(mut child) = child {
            child.kill().expect("it ran");
            child.wait().expect("it ended");
        }
        // What it said of itself is said anew by the next one.
        let _ = std::fs::remove_dir_all(self.disk.join("attributes"));
    }

    /// A node of a pool, as a lead launches it.
    pub(super) async fn node(&self, fleet: &str, fleet_id: &str, pool: &str) -> InstanceId {
        let token = Token::new(format!("{fleet_id}-{pool}")).expect("a token");
        let request = LaunchRequest {
            token,
            fleet: FleetName::new(fleet).expect("a name"),
            fleet_id: fleet_id.to_owned(),
            pool: Some(PoolName::new(pool).expect("a name")),
            role: Role::Node,
            offerings: vec![super::offering("subnet-0a")],
            place: PoolPlace::Local,
            gpu: None,
            labels: Tags::default(),
            revision: String::new(),
            data_disk: None,
            user_data: Default::default(),
        };
        let launched = self.fake.launch(&request).await.expect("launched");
        launched.instance.id
    }

    fn boot(&self, id: &InstanceId) {
        let mut running = self.running.lock().expect("not poisoned");
        if running.contains_key(id) {
            return;
        }
        let script = self.scripts.lock().expect("not poisoned")[id].clone();
        let config = script
            .split_once("GPULOOM_CONFIG_END'\n")
            .and_then(|(_, rest)| rest.split_once("GPULOOM_CONFIG_END"))
            .expect("a configuration in the script")
            .0;
        let config: String = config
            .lines()
            .map(|line| match line.split_once(" = ") {
                Some(("data_dir", _)) => format!("data_dir = {:?}\n", self.disk),
                Some(("listen", _)) => format!("listen = \"{}:7443\"\n", self.address),
                _ => format!("{line}\n"),
            })
            .collect();
        std::fs::create_dir_all(self.disk.join("attributes")).expect("made");
        let path = self.disk.join("agent.toml");
        std::fs::write(&path, config).expect("written");
        let child = Command::new(standin())
            .args(["agent", "--config"])
            .arg(path)
            .stdin(Stdio::null())
            .spawn()
            .expect("the stand-in starts");
        running.insert(id.clone(), child);
    }

    fn shown(&self, mut instance: Instance) -> Instance {
        instance.private_address = Some(self.address.clone());
        instance
    }
}

fn standin() -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let profile = test.ancestors().nth(2).expect("deps lies in the profile");
    let path = profile.join("examples/standin-lead");
    assert!(path.is_file(), "cargo build -p gpuloom-provider --examples");
    path
}

#[async_trait]
impl Cloud for Booting {
    async fn offerings(
        &self,
        place: &PoolPlace,
        gpu: Option<&GpuShape>,
    ) -> Result<Vec<Offered>, CloudError> {
        self.fake.offerings(place, gpu).await
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchError> {
        assert!(request.data_disk.is_some(), "a lead has a disk");
        let launched = self.fake.launch(request).await;
        for instance in self.fake.truth() {
            if instance.token == request.token {
                let script = request.user_data.script.clone();
                let mut scripts = self.scripts.lock().expect("not poisoned");
                scripts.insert(instance.id.clone(), script);
                drop(scripts);
                self.boot(&instance.id);
            }
        }
        launched
    }

    async fn list(&self, tags: &Tags) -> Result<Vec<Instance>, CloudError> {
        let listed = self.fake.list(tags).await?;
        Ok(listed.into_iter().map(|i| self.shown(i)).collect())
    }

    async fn start(&self, id: &InstanceId) -> Result<Instance, LaunchError> {
        let started = self.fake.start(id).await?;
        self.boot(id);
        Ok(started)
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), CloudError> {
        self.fake.terminate(id).await?;
        self.power_cut(id);
        Ok(())
    }

    async fn read_attribute(
        &self,
        id: &InstanceId,
        key: &str,
    ) -> Result<Option<String>, CloudError> {
        if !self.running.lock().expect("not poisoned").contains_key(id) {
            return Ok(None);
        }
        let path = self.disk.join("attributes").join(key);
        Ok(std::fs::read_to_string(path).ok())
    }

    async fn write_attribute(
        &self,
        id: &InstanceId,
        key: &str,
        value: &str,
    ) -> Result<(), CloudError> {
        self.fake.write_attribute(id, key, value).await
    }

    async fn delete_disks(&self, tags: &Tags) -> Result<(), CloudError> {
        assert!(tags.get(Tags::FLEET_ID).is_some(), "not by a name alone");
        let gone = std::fs::remove_dir_all(&self.disk);
        gone.map_err(|e| CloudError::transient("cannot delete the disk", e))
    }
}

impl Drop for Booting {
    /// A test that failed half-way leaves no lead behind.
    fn drop(&mut self) {
        for child in self.running.lock().expect("not poisoned").values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
