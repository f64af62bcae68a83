//! The local driver against a stand-in agent: real processes, real locks, real kills.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpuloom_cloud::{
    Cloud, FailureClass, InstanceState, LaunchRequest, Offering, Role, Tags, Token, UserData,
    contract,
};
use gpuloom_cloud_local::{FAILPOINTS, LocalCloud, LocalGpu, LocalOptions};
use gpuloom_fleet::{FleetName, GpuModel, GpuShape, InstanceId, PoolName, PoolPlace};

const STANDIN: &str = env!("CARGO_BIN_EXE_gpuloom-local-standin");
const CONFIG: &str =
    "instance_id = {{instance_id}}\ndata_dir = {{data_dir}}\n[node]\ngpus = {{gpus}}\n";

/// A machine with a root; whatever still runs there at the end is killed.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("directory"))
    }

    fn root(&self) -> PathBuf {
        self.0
            .path()
            .canonicalize()
            .expect("path")
            .join("instances")
    }

    fn driver(&self, gpus: usize) -> LocalCloud {
        self.driver_of(self.root(), gpus)
    }

    fn driver_of(&self, root: PathBuf, gpus: usize) -> LocalCloud {
        let gpu = |i| LocalGpu {
            id: format!("GPU-{i}").parse().expect("id"),
            model: GpuModel::new("T4").expect("model"),
        };
        LocalCloud::new(LocalOptions {
            machine: self.0.path().join("machine"),
            stop_grace: Duration::from_millis(300),
            ..LocalOptions::new(root, STANDIN.into(), (0..gpus).map(gpu).collect())
        })
    }

    /// Pids of the stand-ins that work below this machine's directory.
    fn agents(&self) -> BTreeSet<u32> {
        let root = self.root();
        pids_where(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(&*root.to_string_lossy()) && line.contains("--config") && alive(pid)
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for pid in self.agents() {
            kill(pid);
        }
    }
}

fn pids_where(wanted: impl Fn(u32) -> bool) -> BTreeSet<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid| wanted(*pid)).collect()
}

fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = text.get(text.rfind(')')? + 2..)?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

/// Runs, and is no zombie.
fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|s| s[0] != "Z" && s[0] != "X")
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("pid")).expect("pid");
    // It may have ended meanwhile.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn request(token: &str, config: &str) -> LaunchRequest {
    LaunchRequest {
        token: Token::new(token).expect("token"),
        fleet: FleetName::new("ml").expect("name"),
        pool: Some(PoolName::new("t4").expect("name")),
        role: Role::Node,
        fleet_id: String::new(),
        offerings: vec![Offering("local/T4x1".to_owned())],
        place: PoolPlace::Local,
        gpu: Some(GpuShape {
            model: GpuModel::new("T4").expect("model"),
            per_node: 1,
        }),
        labels: Tags::default(),
        revision: String::new(),
        data_disk: None,
        user_data: UserData {
            config: format!("{CONFIG}{config}"),
            join_token: Some("secret".to_owned()),
            script: String::new(),
        },
    }
}

fn dir(cloud: &LocalCloud, id: &InstanceId) -> PathBuf {
    cloud.data_dir(id).expect("a plain id")
}

fn agent_pid(dir: &Path) -> u32 {
    let lock = std::fs::read_to_string(dir.join("lock")).expect("lock");
    lock.split(' ')
        .next()
        .expect("pid")
        .parse()
        .expect("a number")
}

async fn attribute(cloud: &LocalCloud, id: &InstanceId, key: &str) -> String {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = cloud
            .read_attribute(id, key)
            .await
            .expect("read")
            .filter(|v| !v.is_empty())
        {
            return value;
        }
        assert!(Instant::now() < end, "no attribute {key}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_machine_keeps_the_contract_of_every_cloud() {
    let machines = std::sync::Mutex::new(Vec::new());
    contract::run(|| async {
        let machine = Machine::new();
        let cloud = Arc::new(machine.driver(3));
        machines.lock().expect("machines").push(machine);
        let foreign = LaunchRequest {
            fleet: FleetName::new("other").expect("name"),
            ..request("t", "")
        };
        contract::Setup {
            cloud,
            request: request("t", ""),
            foreign,
        }
    })
    .await;
    for machine in machines.into_inner().expect("machines") {
        wait_until("no process is left", || machine.agents().is_empty());
    }
}

#[tokio::test]
async fn an_instance_stands_on_its_own() {
    let m = Machine::new();
    let cloud = m.driver(1);
    let i = cloud
        .launch(&request("a", ""))
        .await
        .expect("launch")
        .instance;
    let dir = dir(&cloud, &i.id);
    let pid = agent_pid(&dir);
    assert_eq!(
        stat(pid).expect("stat")[3],
        pid.to_string(),
        "a session of its own"
    );
    assert_eq!(
        std::fs::read_link(format!("/proc/{pid}/cwd")).expect("cwd"),
        dir
    );
    // stdin, stdout, stderr, the lock, and the directory it counts them in.
    assert_eq!(
        attribute(&cloud, &i.id, "descriptors").await,
        "5",
        "no descriptor of the driver's"
    );
    let config = std::fs::read_to_string(dir.join("agent.toml")).expect("config");
    let expected = format!(
        "instance_id = {:?}\ndata_dir = {dir:?}\n[node]\ngpus = [\"GPU-0\"]\n",
        i.id.as_str()
    );
    assert_eq!(config, expected);
    let manifest = std::fs::read_to_string(dir.join("instance.json")).expect("manifest");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("json");
    let output = Command::new("sha256sum")
        .arg(STANDIN)
        .output()
        .expect("sha256sum");
    let sum = String::from_utf8_lossy(&output.stdout)[..64].to_owned();
    assert_eq!(manifest["binary"]["sha256"], sum);
    assert!(
        i.id.as_str().starts_with("t4-") && i.id.as_str().len() == 11,
        "{}",
        i.id
    );
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(dir.join("join-token"))
        .expect("token")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    cloud.terminate(&i.id).await.expect("terminate");
    assert!(!dir.exists() && !alive(pid));
}

#[tokio::test]
async fn a_dead_agent_is_stopped_and_started_again_in_its_place() {
    let m = Machine::new();
    let cloud = m.driver(1);
    let i = cloud
        .launch(&request("a", ""))
        .await
        .expect("launch")
        .instance;
    let first = agent_pid(&dir(&cloud, &i.id));
    std::fs::write(dir(&cloud, &i.id).join("store.db"), "kept").expect("write");
    kill(first);
    wait_until("the agent is dead", || !alive(first));
    let listed = cloud.list(&Tags::default()).await.expect("list");
    assert_eq!(listed[0].state, InstanceState::Stopped);
    let again = m
        .driver(1)
        .start(&i.id)
        .await
        .expect("another driver starts it");
    assert_eq!(
        (again.id.clone(), again.state),
        (i.id.clone(), InstanceState::Running)
    );
    let second = agent_pid(&dir(&cloud, &i.id));
    assert_ne!(first, second);
    assert!(dir(&cloud, &i.id).join("store.db").exists(), "same data");
    assert_eq!(
        cloud.gpus_of(&i.id).expect("gpus").expect("instance").len(),
        1,
        "same GPUs"
    );
    cloud.start(&i.id).await.expect("start");
    assert_eq!(
        agent_pid(&dir(&cloud, &i.id)),
        second,
        "one that runs is left alone"
    );
    cloud.terminate(&i.id).await.expect("terminate");
}

#[tokio::test]
async fn no_gpu_belongs_to_two_instances_of_the_machine_whatever_their_root() {
    let m = Machine::new();
    let other_root = m.root().join("other");
    let (one, two) = (m.driver(2), m.driver_of(other_root, 2));
    let a = one
        .launch(&request("a", ""))
        .await
        .expect("launch")
        .instance;
    let b = two
        .launch(&request("b", ""))
        .await
        .expect("launch")
        .instance;
    let gpus = |c: &LocalCloud, id| c.gpus_of(id).expect("gpus").expect("instance");
    assert_ne!(gpus(&one, &a.id), gpus(&two, &b.id));
    let refused = one
        .launch(&request("c", ""))
        .await
        .expect_err("both are taken");
    assert_eq!(refused.class, FailureClass::Capacity);
    let says = refused.to_string();
    assert!(
        says.contains("0 of 2 GPUs")
            && says.contains(a.id.as_str())
            && says.contains(b.id.as_str()),
        "{says}"
    );
    two.terminate(&b.id).await.expect("terminate");
    let c = one
        .launch(&request("c", ""))
        .await
        .expect("free again")
        .instance;
    let mut large = request("d", "");
    large.gpu = large.gpu.map(|g| GpuShape { per_node: 3, ..g });
    let refused = one.launch(&large).await.expect_err("more than there are");
    assert_eq!(refused.class, FailureClass::Unsupported, "{refused}");
    for i in [a, c] {
        one.terminate(&i.id).await.expect("terminate");
    }
}

#[tokio::test]
async fn an_end_takes_a_deaf_agent_and_everything_it_started() {
    let m = Machine::new();
    let cloud = m.driver(1);
    let i = cloud
        .launch(&request("a", "deaf = true\njob = true\n"))
        .await
        .expect("launch")
        .instance;
    attribute(&cloud, &i.id, "ready").await;
    let pids = attribute(&cloud, &i.id, "job-pids").await;
    let mut pids: Vec<u32> = pids.split(' ').map(|p| p.parse().expect("pid")).collect();
    pids.push(agent_pid(&dir(&cloud, &i.id)));
    assert!(pids.iter().all(|p| alive(*p)));
    cloud.terminate(&i.id).await.expect("terminate");
    assert!(pids.iter().all(|p| !alive(*p)), "{pids:?}");
    assert!(cloud.list(&Tags::default()).await.expect("list").is_empty());
}

#[tokio::test]
async fn jobs_that_outlive_a_dead_agent_end_with_the_instance() {
    let m = Machine::new();
    let cloud = m.driver(1);
    let i = cloud
        .launch(&request("a", "job = true\n"))
        .await
        .expect("launch")
        .instance;
    let pids = attribute(&cloud, &i.id, "job-pids").await;
    let pids: Vec<u32> = pids.split(' ').map(|p| p.parse().expect("pid")).collect();
    let agent = agent_pid(&dir(&cloud, &i.id));
    kill(agent);
    wait_until("the agent is dead", || !alive(agent));
    assert!(pids.iter().all(|p| alive(*p)), "jobs outlive their agent");
    cloud.terminate(&i.id).await.expect("terminate");
    assert!(pids.iter().all(|p| !alive(*p)), "{pids:?}");
}

#[tokio::test]
async fn a_process_that_only_has_a_recorded_number_is_not_killed() {
    let m = Machine::new();
    let cloud = m.driver(1);
    let i = cloud
        .launch(&request("a", ""))
        .await
        .expect("launch")
        .instance;
    let mut bystander = Command::new(STANDIN).arg("sleep").spawn().expect("spawn");
    let attempt = dir(&cloud, &i.id).join("attempts/1-1");
    std::fs::create_dir_all(&attempt).expect("attempt");
    // The pid of the record was given to somebody else: the start time differs.
    let record = format!(r#"{{"pid": {}, "start_time": 1}}"#, bystander.id());
    std::fs::write(attempt.join("shim.json"), record).expect("record");
    cloud.terminate(&i.id).await.expect("terminate");
    assert!(
        bystander.try_wait().expect("wait").is_none(),
        "a reused pid is somebody else"
    );
    bystander.kill().expect("kill");
    bystander.wait().expect("wait");
}

#[tokio::test]
async fn what_runs_in_the_instances_cgroups_ends_with_it_and_what_runs_in_others_does_not() {
    let m = Machine::new();
    let mount = m.0.path().join("cgroup");
    let cloud = LocalCloud::new(LocalOptions {
        machine: m.0.path().join("machine"),
        cgroup_mount: mount.clone(),
        ..LocalOptions::new(m.root(), STANDIN.into(), Vec::new())
    });
    let plain = LaunchRequest {
        gpu: None,
        ..request("a", "")
    };
    for (own, path) in [
        (true, "gpuloom/{id}"),
        (false, "gpuloom/another"),
        (false, "{id}/../gpuloom/another"),
    ] {
        let i = cloud.launch(&plain).await.expect("launch").instance;
        let cgroup = mount.join(path.replace("{id}", i.id.as_str()));
        // Nothing but its cgroup tells whose this process is. A file plays the kernel's.
        let mut job = Command::new(STANDIN)
            .arg("sleep")
            .env_clear()
            .spawn()
            .expect("spawn");
        std::fs::create_dir_all(mount.join(i.id.as_str())).expect("directory");
        std::fs::create_dir_all(cgroup.join("job-1")).expect("cgroup");
        std::fs::write(cgroup.join("job-1/cgroup.procs"), format!("{}\n", job.id()))
            .expect("procs");
        let note = dir(&cloud, &i.id).join("attributes/cgroup");
        std::fs::write(note, cgroup.to_string_lossy().as_bytes()).expect("attribute");
        cloud.terminate(&i.id).await.expect("terminate");
        let ended = job.try_wait().expect("wait").is_some();
        job.kill().expect("kill");
        job.wait().expect("wait");
        assert_eq!(ended, own, "{path}");
    }
}

#[tokio::test]
async fn an_agent_that_cannot_start_is_reported_with_its_own_words() {
    let m = Machine::new();
    let cloud = m.driver(1);
    let refused = cloud
        .launch(&request("a", "fails = true\n"))
        .await
        .expect_err("it fails");
    assert!(
        refused.to_string().contains("not to my liking"),
        "{refused}"
    );
    assert_eq!(
        refused.class,
        FailureClass::Transient,
        "its directory exists: the same token tries again"
    );
    let listed = cloud.list(&Tags::default()).await.expect("list");
    assert_eq!((listed.len(), listed[0].state), (1, InstanceState::Stopped));
    cloud.terminate(&listed[0].id).await.expect("terminate");
    assert!(cloud.list(&Tags::default()).await.expect("list").is_empty());
}

#[tokio::test]
async fn a_second_lead_of_a_fleet_is_refused() {
    let m = Machine::new();
    let cloud = m.driver(0);
    let lead = LaunchRequest {
        pool: None,
        role: Role::Lead,
        gpu: None,
        ..request("a", "")
    };
    let i = cloud.launch(&lead).await.expect("launch").instance;
    assert_eq!(i.id.as_str(), "lead-ml");
    assert_eq!(attribute(&cloud, &i.id, "ca-pin").await, "sha256:00");
    let other = LaunchRequest {
        token: Token::new("b").expect("token"),
        ..lead
    };
    let refused = cloud.launch(&other).await.expect_err("the name is taken");
    assert_eq!(refused.class, FailureClass::Invalid, "{refused}");
    cloud.terminate(&i.id).await.expect("terminate");
    cloud.launch(&other).await.expect("free again");
    cloud.terminate(&i.id).await.expect("terminate");
}

#[tokio::test]
async fn names_that_lead_elsewhere_lead_nowhere() {
    let m = Machine::new();
    let cloud = m.driver(1);
    let i = cloud
        .launch(&request("a", ""))
        .await
        .expect("launch")
        .instance;
    for key in ["", "..", "../lock", "a/b", ".hidden"] {
        assert!(cloud.read_attribute(&i.id, key).await.is_err(), "{key:?}");
    }
    for id in ["..", ".machine"] {
        let id = InstanceId::new(id).expect("an opaque id");
        cloud.terminate(&id).await.expect("no such instance");
        assert_eq!(
            cloud.start(&id).await.expect_err("no such").class,
            FailureClass::Invalid
        );
    }
    assert!(m.root().exists());
    cloud.terminate(&i.id).await.expect("terminate");
}

#[tokio::test]
async fn an_instance_whose_directory_was_removed_is_not_gone_before_its_processes_are() {
    let m = Machine::new();
    let cloud = m.driver(1);
    let i = cloud.launch(&request("a", "job = true\n")).await;
    let i = i.expect("launch").instance;
    let dir = dir(&cloud, &i.id);
    wait_until("the agent is ready", || {
        dir.join("attributes/ready").exists()
    });
    let agent = agent_pid(&dir);
    std::fs::remove_dir_all(&dir).expect("removed");
    assert!(cloud.list(&Tags::default()).await.expect("list").is_empty());
    assert!(alive(agent));
    cloud.terminate(&i.id).await.expect("terminate");
    assert!(!alive(agent) && m.agents().is_empty());
}

#[tokio::test]
async fn an_agent_gets_none_of_the_secrets_in_its_drivers_environment() {
    let m = Machine::new();
    let request = serde_json::to_string(&request("a", "")).expect("json");
    let launched = Command::new(STANDIN)
        .args(["driver", "launch"])
        .arg(m.root())
        .arg(request)
        .env("GPULOOM_ADMIN_KEY", "secret")
        .env("TF_VAR_password", "secret")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .status();
    assert!(launched.expect("driver").success());
    let cloud = m.driver(1);
    let listed = cloud.list(&Tags::default()).await.expect("list");
    let attributes = dir(&cloud, &listed[0].id).join("attributes");
    wait_until("the agent is ready", || attributes.join("ready").exists());
    let environment = std::fs::read_to_string(attributes.join("environment")).expect("written");
    assert!(environment.contains("GPULOOM_INSTANCE_DIR") && environment.contains("PATH"));
    // This one is a node: what a lead gets for its pools on clouds is none of its business.
    for secret in [
        "GPULOOM_ADMIN_KEY",
        "TF_VAR_password",
        "AWS_SECRET_ACCESS_KEY",
    ] {
        assert!(!environment.contains(secret), "{environment}");
    }
    cloud.terminate(&listed[0].id).await.expect("terminate");
}

/// Runs a driver of its own process; true when the failpoint killed it.
fn driver(root: &Path, words: &[&str], failpoint: Option<&str>) -> bool {
    let mut command = Command::new(STANDIN);
    command
        .arg("driver")
        .arg(words[0])
        .arg(root)
        .args(&words[1..]);
    if let Some(name) = failpoint {
        command.env("GPULOOM_FAILPOINTS", format!("{name}=kill"));
    }
    let output = command.output().expect("driver");
    let killed = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
    assert!(
        killed || output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    killed
}

#[tokio::test]
async fn a_driver_killed_at_any_step_leaves_exactly_one_instance_after_the_next_run_and_none_after_its_end()
 {
    let request = serde_json::to_string(&request("a", "job = true\n")).expect("json");
    let mut killed_at = BTreeSet::new();
    for name in FAILPOINTS {
        let m = Machine::new();
        let root = m.root();
        if driver(&root, &["launch", &request], Some(name)) {
            killed_at.insert(*name);
        }
        assert!(!driver(&root, &["launch", &request], None));
        wait_until(&format!("{name}: exactly one agent"), || {
            m.agents().len() == 1
        });
        let names: Vec<_> = std::fs::read_dir(&root)
            .expect("root")
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(
            names.len(),
            2,
            "{name}: one instance and .machine: {names:?}"
        );
        let pids = job_pids(&root);
        if driver(&root, &["sweep"], Some(name)) {
            killed_at.insert(*name);
        }
        assert!(!driver(&root, &["sweep"], None));
        assert!(m.agents().is_empty(), "{name}: no agent is left");
        assert!(pids.iter().all(|p| !alive(*p)), "{name}: no job is left");
        let names: Vec<_> = std::fs::read_dir(&root)
            .expect("root")
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(
            names,
            [".machine"],
            "{name}: whoever lists removes the files of an end that was cut off"
        );
        assert!(
            !driver(&root, &["launch", &request], None),
            "{name}: the GPU is free again"
        );
        assert!(!driver(&root, &["sweep"], None));
        let names: Vec<_> = std::fs::read_dir(&root)
            .expect("root")
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(names, [".machine"], "{name}");
    }
    assert_eq!(
        killed_at.len(),
        FAILPOINTS.len(),
        "every failpoint was passed: {killed_at:?}"
    );
}

/// The pids of the one instance's job, once it has told them.
fn job_pids(root: &Path) -> Vec<u32> {
    let mut pids = Vec::new();
    wait_until("the job runs", || {
        for entry in std::fs::read_dir(root).expect("root").flatten() {
            let text = std::fs::read_to_string(entry.path().join("attributes/job-pids"))
                .unwrap_or_default();
            pids = text.split(' ').filter_map(|p| p.parse().ok()).collect();
            if pids.len() == 2 {
                return true;
            }
        }
        false
    });
    pids
}
