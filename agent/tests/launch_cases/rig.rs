//! A node's launcher over a scratch directory.

use gpuloom_agent::launch::{
    Gone, LaunchConfig, LaunchError, Launcher, LogRequest, Order, Started,
};
use gpuloom_fleet::{
    AttemptId, Bytes, DeviceGrant, DeviceId, GpuRequest, JobSpec, MilliGpu, NodeId, TenantName,
};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longest a step of a test may take; nothing waits that long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What holds the processes of a job together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Cgroup,
    Marker,
    /// In cgroups, by a holder.
    Held,
}

pub(crate) struct Host {
    cgroup: Result<(), String>,
    root: bool,
}

/// A real holder, with a cgroup of its own.
pub(crate) struct Holder {
    root: PathBuf,
    pub(crate) cgroup: PathBuf,
    child: Child,
}

pub(crate) struct Rig {
    pub(crate) holder: Option<Holder>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: LaunchConfig,
    pub(crate) launcher: Launcher,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Cgroup, Self::Marker, Self::Held];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Marker => "marker",
            Self::Held => "held",
        }
    }
}

impl Host {
    pub(crate) fn probe() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let node = NodeId::new(format!("probe-{}", std::process::id())).expect("an id");
        let config = LaunchConfig::new(dir.path().join("attempts"), node).expect("a config");
        let launcher = Launcher::open(config).expect("opens");
        let told = launcher.capabilities();
        launcher.release();
        let cgroup = match told["cgroup_v2"].as_str() {
            "yes" => Ok(()),
            no => Err(no.trim_start_matches("no: ").to_owned()),
        };
        Self {
            cgroup,
            root: rustix::process::geteuid().is_root(),
        }
    }

    /// Why a case cannot run here; `None` when it can.
    pub(crate) fn lacks(&self, kind: Kind, needs_root: bool) -> Option<String> {
        if (needs_root || kind == Kind::Held) && !self.root {
            return Some("needs root".to_owned());
        }
        match (kind, &self.cgroup) {
            (Kind::Cgroup | Kind::Held, Err(why)) => Some(format!("needs cgroup v2, but {why}")),
            _ => None,
        }
    }
}

pub(crate) fn attempt(text: &str) -> AttemptId {
    text.parse().expect("an attempt id")
}

/// A directory the job user reaches.
pub(crate) fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    open(dir.path(), 0o777);
    dir
}

pub(crate) fn open(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("opens");
}

pub(crate) fn order(id: &str, command: &[&str]) -> Order {
    Order {
        attempt: attempt(id),
        spec: JobSpec {
            name: "test".to_owned(),
            tenant: TenantName::new("research").expect("a name"),
            priority_class: None,
            pool: None,
            command: command.iter().map(|s| (*s).to_owned()).collect(),
            env: BTreeMap::new(),
            workdir: None,
            request: GpuRequest::default(),
            walltime: None,
            retries: 0,
            array: None,
            depends_on: Vec::new(),
            labels: BTreeMap::new(),
            grace: None,
        },
        grants: vec![DeviceGrant {
            device: DeviceId::new("GPU-1").expect("an id"),
            share: MilliGpu(500),
            memory: Bytes::gib(8),
        }],
    }
}

pub(crate) fn config(kind: Kind, dir: PathBuf, node: &str) -> LaunchConfig {
    let node = NodeId::new(node).expect("an id");
    let mut config = LaunchConfig::new(dir, node).expect("a config");
    config.use_cgroups = kind == Kind::Cgroup;
    config.jobs_socket = (kind == Kind::Held).then(|| config.dir.with_file_name("jobs.sock"));
    config
}

impl Holder {
    fn new(root: &Path, name: &str) -> Self {
        let mount = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let mount = mount.iter().find(|m| m.join("cgroup.controllers").exists());
        let cgroup = mount.expect("cgroup v2").join(format!("gpuloom-{name}"));
        std::fs::create_dir(&cgroup).expect("a cgroup");
        let child = Self::spawn(root, &cgroup);
        Self {
            root: root.to_owned(),
            cgroup,
            child,
        }
    }

    pub(crate) fn command(root: &Path, cgroup: &Path) -> Command {
        let mut command = Command::new(this_program());
        command.args(["jobs-holder", "--agent-uid", "65533", "--socket"]);
        command.arg(root.join("jobs.sock")).arg("--root").arg(root);
        command.arg("--cgroup").arg(cgroup).stderr(Stdio::null());
        command
    }

    fn spawn(root: &Path, cgroup: &Path) -> Child {
        Self::command(root, cgroup).spawn().expect("runs")
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("ends");
    }

    pub(crate) fn start_again(&mut self) {
        self.child = Self::spawn(&self.root, &self.cgroup);
    }

    /// By SIGTERM.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signals");
        self.child.wait().expect("ends")
    }
}

impl Rig {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::with(kind, |_| {})
    }

    pub(crate) fn with(kind: Kind, change: impl FnOnce(&mut LaunchConfig)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = open_dir();
        let node = format!("test-{}-{n}", std::process::id());
        let mut config = config(kind, dir.path().join("attempts"), &node);
        change(&mut config);
        let holder = (kind == Kind::Held).then(|| Holder::new(dir.path(), &node));
        Self {
            holder,
            launcher: Launcher::open(config.clone()).expect("opens"),
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
            config,
            dir,
        }
    }

    /// As after a restart of the agent.
    pub(crate) fn reopen(&mut self) {
        self.launcher = Launcher::open(self.config.clone()).expect("opens");
    }

    pub(crate) fn run<T>(&self, what: impl Future<Output = T>) -> T {
        let bounded = async { tokio::time::timeout(PATIENCE, what).await };
        self.runtime.block_on(bounded).expect("ends in time")
    }

    pub(crate) fn launch(&self, order: Order) -> Result<Started, LaunchError> {
        let record = self.launcher.record(order)?;
        self.run(self.launcher.launch(&record))
    }

    pub(crate) fn gone(&self, id: &str) -> Gone {
        self.run(self.launcher.wait(attempt(id))).expect("waits")
    }

    pub(crate) fn stop(&self, id: &str, grace: Duration) {
        let stopped = self.run(self.launcher.stop(attempt(id), grace));
        stopped.expect("stops");
    }

    /// Everything the attempt printed and kept, standard output and standard error.
    pub(crate) fn output(&self, id: &str) -> (String, String) {
        let request = LogRequest {
            stdout: true,
            stderr: true,
            ..LogRequest::default()
        };
        let read = async {
            let mut chunks = self.launcher.read_log(attempt(id), request).expect("reads");
            let mut out = [Vec::new(), Vec::new()];
            while let Some(chunk) = chunks.recv().await {
                let chunk = chunk.expect("reads");
                out[usize::from(chunk.stderr)].extend(chunk.data);
            }
            out.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let [out, err] = self.run(read);
        (out, err)
    }

    /// Waits until `path` has a whole line, and returns it.
    pub(crate) fn line_in(&self, path: &Path) -> String {
        self.run(async {
            loop {
                match std::fs::read_to_string(path) {
                    Ok(text) if text.ends_with('\n') => return text.trim_end().to_owned(),
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
    }

    /// Waits until process `pid` has ended.
    pub(crate) fn ended(&self, pid: &str) {
        let stat = format!("/proc/{pid}/stat");
        self.run(async {
            while std::fs::read_to_string(&stat).is_ok_and(|s| !s.contains(") Z ")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }

    /// The cgroups of this rig's node, when it has any.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let held = self.holder.iter().map(|h| h.cgroup.as_path());
        ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
            .map(Path::new)
            .into_iter()
            .chain(held)
            .map(|root| root.join("gpuloom").join(self.config.node.as_str()))
            .filter(|path| path.exists())
            .collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let purged = self.runtime.block_on(self.launcher.purge());
        let left = self.cgroups();
        // Whatever is wrong: no holder outlives its test.
        let ended = self.holder.as_mut().map(|holder| {
            let ended = holder.end();
            (ended, std::fs::remove_dir(&holder.cgroup))
        });
        if !std::thread::panicking() {
            purged.expect("nothing is left behind");
            assert_eq!(left, Vec::<PathBuf>::new());
            if let Some((ended, removed)) = ended {
                assert!(ended.success(), "{ended}");
                removed.expect("no cgroup is left behind");
            }
        }
    }
}

/// This program, as another process runs it.
pub(crate) fn this_program() -> OsString {
    std::env::current_exe().expect("a path").into()
}
