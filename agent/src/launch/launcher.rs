//! Carries out orders on this node: records an attempt, makes its cgroup, spawns its shim.

use super::cgroup::{Hierarchy, HostLimits};
use super::error::{LaunchError, OnPath as _};
use super::fence::Fence;
use super::hands::{Hands, Holder};
use super::log_keep::KeptLogs;
use super::log_write::{LOG_FILE_BYTES, LOG_FILES};
use super::process;
use super::record::{
    self, AttemptRecord, ExecPlan, Exited, Started, StopRecord, now, read_json, write_json,
    write_json_once,
};
use super::user::JobUser;
use gpuloom_cloud::failpoint;
use gpuloom_fleet::{AttemptEnd, AttemptId, DeviceGrant, JobSpec, NodeId, StopCause};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// How long a shim may take from its start to the job's exec.
const START_BOUND: Duration = Duration::from_secs(30);
/// Between two looks at a shim that starts its job.
const SHIM_LOOK: Duration = Duration::from_millis(5);
/// Attempts remembered after they were forgotten, so that a late order never starts one again.
const MAX_FORGOTTEN: usize = 20_000;
const FORGOTTEN: &str = "forgotten";
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where and how a node runs its jobs.
#[derive(Debug, Clone)]
pub struct LaunchConfig {
    /// Holds a directory per attempt; made when missing.
    pub dir: PathBuf,
    /// The node, as jobs read it in `GPULOOM_NODE`, and the name of its cgroup.
    pub node: NodeId,
    /// Program and first arguments of a shim; `--attempt-dir DIR` is added.
    pub shim: Vec<OsString>,
    /// The account jobs run under; only root can change to it.
    pub job_user: String,
    /// `None`: where cgroup v2 is mounted.
    pub cgroup_parent: Option<PathBuf>,
    /// False: never use cgroups.
    pub use_cgroups: bool,
    /// What each job may use of the host.
    pub limits: HostLimits,
    /// Bytes of one log file.
    pub log_file_bytes: u64,
    /// Log files kept per stream, the current one included.
    pub log_files: u32,
    /// Told to jobs on simulated nodes.
    pub sim_state: Option<PathBuf>,
    /// Where `gpuloom jobs-holder` does what takes privileges; `None`: this process does it. The
    /// holder then decides on shims and cgroups, whatever is stated here.
    pub jobs_socket: Option<PathBuf>,
}

/// What is to be started.
#[derive(Debug, Clone)]
pub struct Order {
    /// The attempt.
    pub attempt: AttemptId,
    /// What was submitted.
    pub spec: JobSpec,
    /// What it holds.
    pub grants: Vec<DeviceGrant>,
}

/// Carries out what was decided for this node. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Launcher {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: LaunchConfig,
    hands: Hands,
    user: Option<JobUser>,
    boot_id: String,
    forgotten: Mutex<Forgotten>,
    kept_logs: Mutex<KeptLogs>,
    pub(super) log_readers: Arc<tokio::sync::Semaphore>,
}

#[derive(Debug, Default)]
struct Forgotten {
    order: VecDeque<AttemptId>,
    set: BTreeSet<AttemptId>,
    /// Lines in the file, at most twice [`MAX_FORGOTTEN`].
    lines: usize,
}

// === impl LaunchConfig ===

impl LaunchConfig {
    /// The defaults for `node`, whose attempts are in `dir`; the shim is this program's.
    pub fn new(dir: PathBuf, node: NodeId) -> io::Result<Self> {
        Ok(Self {
            dir,
            node,
            shim: vec![std::env::current_exe()?.into(), "shim".into()],
            job_user: "nobody".to_owned(),
            cgroup_parent: None,
            use_cgroups: true,
            limits: HostLimits::default(),
            log_file_bytes: LOG_FILE_BYTES,
            log_files: LOG_FILES,
            sim_state: None,
            jobs_socket: None,
        })
    }
}

// === impl Forgotten ===

impl Forgotten {
    fn read(dir: &Path) -> Result<Self, LaunchError> {
        let path = dir.join(FORGOTTEN);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e).on("read", path),
        };
        let mut out = Self::default();
        // A torn last line belongs to an attempt whose directory is still there.
        for id in text.lines().filter_map(|l| l.parse().ok()) {
            out.push(id);
        }
        out.lines = text.lines().count();
        Ok(out)
    }

    fn push(&mut self, id: AttemptId) {
        if self.set.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > MAX_FORGOTTEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }

    /// Puts `id` on disk.
    fn add(&mut self, dir: &Path, id: AttemptId) -> io::Result<()> {
        self.push(id);
        let path = dir.join(FORGOTTEN);
        if self.lines < 2 * MAX_FORGOTTEN {
            self.lines += 1;
            let mut file = OpenOptions::new().append(true).create(true).open(path)?;
            file.write_all(format!("{id}\n").as_bytes())?;
            return file.sync_data();
        }
        let temporary = dir.join(".forgotten");
        let mut file = File::create(&temporary)?;
        for id in &self.order {
            writeln!(file, "{id}")?;
        }
        file.sync_all()?;
        fs::rename(temporary, path)?;
        self.lines = self.order.len();
        File::open(dir)?.sync_all()
    }
}

fn hands(config: &LaunchConfig) -> Result<Hands, LaunchError> {
    if let Some(socket) = &config.jobs_socket {
        let (node, dir) = (config.node.clone(), config.dir.clone());
        let holder = Holder::new(socket.clone(), node, dir);
        let hierarchy = holder.open()?;
        return Ok(Hands::Holder(holder, hierarchy));
    }
    Ok(Hands::Here(if config.use_cgroups {
        Hierarchy::probe(config.cgroup_parent.as_deref(), config.node.as_str())
    } else {
        Hierarchy::absent("switched off in the configuration")
    }))
}

/// A shim for the attempt in `dir`, from its program and first arguments. `None`: there is none.
pub(super) fn shim_command(shim: &[OsString], dir: &Path) -> Option<std::process::Command> {
    let (program, first) = shim.split_first()?;
    let mut command = std::process::Command::new(program);
    command.args(first).arg("--attempt-dir").arg(dir);
    command.env_clear().current_dir("/").stdin(Stdio::null());
    Some(command)
}

// === impl Launcher ===

impl Launcher {
    /// Looks at the host and opens the node's attempts. Errors: the directory cannot be made, or
    /// the job user does not exist.
    pub fn open(config: LaunchConfig) -> Result<Self, LaunchError> {
        let dir = &config.dir;
        // Jobs reach their own directory through it; its list is nobody's business.
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(dir);
        made.on("make", dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).on("open to jobs", dir)?;
        let is_root = rustix::process::geteuid().is_root();
        let user = (is_root || config.jobs_socket.is_some())
            .then(|| JobUser::find(&config.job_user))
            .transpose()?;
        let hands = hands(&config)?;
        Ok(Self {
            inner: Arc::new(Inner {
                hands,
                user,
                boot_id: process::boot_id().on("read", "/proc/sys/kernel/random/boot_id")?,
                forgotten: Mutex::new(Forgotten::read(dir)?),
                kept_logs: Mutex::new(KeptLogs::open(dir).on("read the kept logs in", dir)?),
                log_readers: Arc::new(tokio::sync::Semaphore::new(super::MAX_LOG_READERS)),
                config,
            }),
        })
    }

    /// What the host can enforce: `yes`, a value, or `no: ` and why, by name.
    pub fn capabilities(&self) -> BTreeMap<String, String> {
        let mut out = self.hierarchy().capabilities();
        let user = match &self.inner.user {
            Some(user) => user.name.clone(),
            None => "no: the agent is not root, so jobs run as its own user".to_owned(),
        };
        out.insert("job_user".to_owned(), user);
        out
    }

    /// The id of the machine's present boot.
    pub fn boot_id(&self) -> &str {
        &self.inner.boot_id
    }

    /// The cgroup above all of the node's jobs; `None` without cgroups. Killing it kills them.
    pub fn cgroup(&self) -> Option<&Path> {
        self.hierarchy().instance()
    }

    pub(super) fn config(&self) -> &LaunchConfig {
        &self.inner.config
    }

    pub(super) fn hierarchy(&self) -> &Hierarchy {
        self.inner.hands.hierarchy()
    }

    pub(super) fn hands(&self) -> &Hands {
        &self.inner.hands
    }

    /// Carries `step` out; a holder is asked on a thread that may wait for its answer.
    pub(super) async fn by_hands<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Hands) -> Result<T, LaunchError> + Send + 'static,
    ) -> Result<T, LaunchError> {
        if self.hands().holder().is_none() {
            return step(self.hands());
        }
        let launcher = self.clone();
        let asked = tokio::task::spawn_blocking(move || step(launcher.hands())).await;
        asked.unwrap_or_else(|e| {
            let message = format!("asking the jobs holder was broken off: {e}");
            Err(LaunchError::NotStarted { message })
        })
    }

    pub(super) fn log_readers(&self) -> &Arc<tokio::sync::Semaphore> {
        &self.inner.log_readers
    }

    fn forgotten(&self) -> MutexGuard<'_, Forgotten> {
        // Nothing panics while it is held; were it so, the set is still whole.
        self.inner
            .forgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn kept_logs(&self) -> MutexGuard<'_, KeptLogs> {
        self.inner
            .kept_logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_forgotten(&self, attempt: AttemptId) -> bool {
        self.forgotten().set.contains(&attempt)
    }

    /// True when this node has known the attempt: it is never started again.
    pub fn has_seen(&self, attempt: AttemptId) -> bool {
        self.is_forgotten(attempt) || self.dir_of(attempt).join(record::SPEC).exists()
    }

    /// The attempt's directory.
    pub fn dir_of(&self, attempt: AttemptId) -> PathBuf {
        self.inner.config.dir.join(attempt.path_name())
    }

    pub(super) fn record_of(&self, attempt: AttemptId) -> Result<AttemptRecord, LaunchError> {
        read_json(&self.dir_of(attempt), record::SPEC)?.ok_or(LaunchError::Unknown { attempt })
    }

    /// Puts the attempt on disk; nothing is started. Blocks on the disk.
    pub fn record(&self, order: Order) -> Result<AttemptRecord, LaunchError> {
        let attempt = order.attempt;
        if self.has_seen(attempt) {
            return Err(LaunchError::SeenBefore { attempt });
        }
        failpoint::hit("launch.record.before");
        let dir = self.dir_of(attempt);
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o711).create(&dir);
        made.on("make", &dir)?;
        // Whatever the umask: jobs name files in it by their whole path.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o711)).on("open to jobs", &dir)?;
        let work = dir.join("work");
        builder.mode(0o700).create(&work).on("make", &work)?;
        // A holder does this when it starts the attempt.
        if let (Some(user), None) = (&self.inner.user, self.hands().holder()) {
            std::os::unix::fs::chown(&work, Some(user.uid), Some(user.gid))
                .on("hand over", &work)?;
        }
        let record = AttemptRecord {
            v: 1,
            attempt,
            boot_id: self.inner.boot_id.clone(),
            received_at: now(),
            plan: self.plan(&order, work),
            spec: order.spec,
            grants: order.grants,
        };
        write_json(&dir, record::SPEC, &record).on("write", dir.join(record::SPEC))?;
        let parent = &self.inner.config.dir;
        File::open(parent)
            .and_then(|d| d.sync_all())
            .on("sync", parent)?;
        failpoint::hit("launch.record.after");
        Ok(record)
    }

    fn plan(&self, order: &Order, own: PathBuf) -> ExecPlan {
        let config = &self.inner.config;
        let own_workdir = order.spec.workdir.is_none();
        let env = self.environment(order, &own);
        let fence = match self.hierarchy().leaf(order.attempt) {
            Some(leaf) => Fence::Cgroup { leaf },
            None => Fence::Marker {
                entries: ["GPULOOM_NODE", "GPULOOM_ATTEMPT"]
                    .iter()
                    .filter_map(|name| Some(format!("{name}={}", env.get(*name)?)))
                    .collect(),
            },
        };
        ExecPlan {
            command: order.spec.command.clone(),
            env,
            workdir: order.spec.workdir.as_ref().map_or(own, PathBuf::from),
            own_workdir,
            user: self.inner.user.clone(),
            fence,
            limits: config.limits,
            log_file_bytes: config.log_file_bytes,
            log_files: config.log_files,
        }
    }

    /// The job's whole environment: nothing of the agent's own goes in.
    fn environment(&self, order: &Order, own: &Path) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        env.insert("PATH".to_owned(), DEFAULT_PATH.to_owned());
        env.insert("HOME".to_owned(), own.display().to_string());
        if let Some(user) = &self.inner.user {
            env.insert("USER".to_owned(), user.name.clone());
            env.insert("LOGNAME".to_owned(), user.name.clone());
        }
        env.extend(order.spec.env.clone());
        let devices: Vec<_> = order.grants.iter().map(|g| g.device.as_str()).collect();
        let memory: Vec<_> = order.grants.iter().map(|g| g.memory.0).collect();
        let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
        set("CUDA_VISIBLE_DEVICES", devices.join(","));
        set("GPULOOM_JOB_ID", order.attempt.job.to_string());
        set("GPULOOM_ATTEMPT", order.attempt.to_string());
        set("GPULOOM_TENANT", order.spec.tenant.to_string());
        set("GPULOOM_NODE", self.inner.config.node.to_string());
        // Per device, as the limit is; all of a job's grants are alike.
        let least = memory.iter().min().copied().unwrap_or(0);
        set("GPULOOM_GPU_MEMORY_BYTES", least.to_string());
        if let Some(index) = order.attempt.job.index {
            set("GPULOOM_ARRAY_INDEX", index.to_string());
        }
        if let Some(state) = &self.inner.config.sim_state {
            set("GPULOOM_SIM_STATE", state.display().to_string());
        }
        env
    }

    /// Starts a recorded attempt and returns when its first process runs. An error means that it
    /// does not run, and no process of it is left.
    pub async fn launch(&self, record: &AttemptRecord) -> Result<Started, LaunchError> {
        let launched = match self.hands() {
            Hands::Here(_) => self.spawn_shim(record).await,
            Hands::Holder(holder, _) => self.have_spawned(record, holder).await,
        };
        if launched.is_err() {
            self.stop(record.attempt, Duration::ZERO).await?;
            self.remove_cgroup(record).await?;
        }
        launched
    }

    pub(super) async fn remove_cgroup(&self, record: &AttemptRecord) -> Result<(), LaunchError> {
        let (attempt, fence) = (record.attempt, record.plan.fence.clone());
        self.by_hands(move |hands| hands.remove_cgroup(attempt, &fence))
            .await
    }

    /// Has the holder spawn the shim.
    async fn have_spawned(
        &self,
        record: &AttemptRecord,
        holder: &Holder,
    ) -> Result<Started, LaunchError> {
        let (attempt, holder) = (record.attempt, holder.clone());
        failpoint::hit("launch.cgroup.before");
        failpoint::hit("launch.spawn.before");
        let spawned = self.by_hands(move |_| holder.start(attempt)).await;
        failpoint::hit("launch.cgroup.after");
        failpoint::hit("launch.spawn.after");
        match spawned {
            Ok(shim) => self.claimed(attempt, shim).await?,
            // The holder may have died between the spawn and its answer: taking the shim's place
            // settles whether one can still come.
            Err(error) if self.take_place(attempt)? => return Err(error),
            Err(error) => tracing::warn!(%attempt, %error, "its shim was started all the same"),
        }
        self.wait_started(attempt).await
    }

    /// Waits until the shim has taken its place, or is gone.
    async fn claimed(
        &self,
        attempt: AttemptId,
        shim: process::Identity,
    ) -> Result<(), LaunchError> {
        let place = self.dir_of(attempt).join(record::SHIM);
        let deadline = tokio::time::Instant::now() + START_BOUND;
        while !place.exists() && shim.is_alive() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(SHIM_LOOK).await;
        }
        self.take_place(attempt).map(drop)
    }

    /// True when no shim had taken its place: none will start anything from now on.
    pub(super) fn take_place(&self, attempt: AttemptId) -> Result<bool, LaunchError> {
        let dir = self.dir_of(attempt);
        let nobody = record::ShimRecord { shim: None };
        write_json_once(&dir, record::SHIM, &nobody).on("write", dir.join(record::SHIM))
    }

    async fn spawn_shim(&self, record: &AttemptRecord) -> Result<Started, LaunchError> {
        let dir = self.dir_of(record.attempt);
        failpoint::hit("launch.cgroup.before");
        if let Fence::Cgroup { leaf } = &record.plan.fence {
            self.hierarchy().create(leaf, record.plan.limits)?;
        }
        failpoint::hit("launch.cgroup.after");
        let log = dir.join("shim.log");
        let stderr = File::create(&log).on("write", &log)?;
        let command = shim_command(&self.inner.config.shim, &dir).ok_or_else(|| {
            let message = "the shim's program is not configured".to_owned();
            LaunchError::NotStarted { message }
        })?;
        let program = PathBuf::from(command.get_program());
        let mut command = tokio::process::Command::from(command);
        if cfg!(debug_assertions) {
            let failpoints = std::env::var_os("GPULOOM_FAILPOINTS");
            command.envs(failpoints.map(|f| ("GPULOOM_FAILPOINTS", f)));
        }
        command.stdout(Stdio::piped()).stderr(stderr);
        failpoint::hit("launch.spawn.before");
        let mut child = command.spawn().on("run the shim", program)?;
        failpoint::hit("launch.spawn.after");
        let stdout = child.stdout.take();
        // Reaps it whenever it ends; what it did is on disk.
        tokio::spawn(async move { child.wait().await });
        if let Some(mut stdout) = stdout {
            let mut nothing = Vec::new();
            let closed = stdout.read_to_end(&mut nothing);
            if tokio::time::timeout(START_BOUND, closed).await.is_err() {
                self.kill_shim(record.attempt).await?;
            }
        }
        self.started(record.attempt)
    }

    async fn kill_shim(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        match self.live_shim(attempt) {
            Some(shim) => self.by_hands(move |h| h.kill_shim(attempt, shim)).await,
            None => Ok(()),
        }
    }

    /// Waits until an adopted attempt that was starting runs, as [`Self::launch`] does.
    pub async fn wait_started(&self, attempt: AttemptId) -> Result<Started, LaunchError> {
        let dir = self.dir_of(attempt);
        let deadline = tokio::time::Instant::now() + START_BOUND;
        while self.live_shim(attempt).is_some() && !dir.join(record::STARTED).exists() {
            if tokio::time::Instant::now() >= deadline {
                self.kill_shim(attempt).await?;
            }
            tokio::time::sleep(SHIM_LOOK).await;
        }
        let started = self.started(attempt);
        if started.is_err() {
            self.stop(attempt, Duration::ZERO).await?;
        }
        started
    }

    fn started(&self, attempt: AttemptId) -> Result<Started, LaunchError> {
        let dir = self.dir_of(attempt);
        if let Some(Exited {
            launch_failed: Some(message),
            ..
        }) = read_json(&dir, record::EXIT)?
        {
            return Err(LaunchError::NotStarted { message });
        }
        if let Some(started) = read_json(&dir, record::STARTED)? {
            return Ok(started);
        }
        let said = fs::read_to_string(dir.join("shim.log")).unwrap_or_default();
        let said = said.lines().last().unwrap_or("it said nothing");
        Err(LaunchError::NotStarted {
            message: format!("the job's shim ended before the job had started: {said}"),
        })
    }

    /// Puts on disk why the attempt is stopped; the first cause stays. Blocks on the disk.
    pub fn record_stop(
        &self,
        attempt: AttemptId,
        cause: StopCause,
    ) -> Result<StopRecord, LaunchError> {
        let dir = self.dir_of(attempt);
        failpoint::hit("launch.stop.before");
        let stop = StopRecord { cause, at: now() };
        let path = dir.join(record::STOP);
        let first = write_json_once(&dir, record::STOP, &stop).on("write", path)?;
        failpoint::hit("launch.stop.after");
        let earlier = if first {
            None
        } else {
            read_json(&dir, record::STOP)?
        };
        Ok(earlier.unwrap_or(stop))
    }

    /// Puts the attempt's end on disk, to be reported until it is forgotten. Blocks on the disk.
    pub fn record_end(&self, attempt: AttemptId, end: &AttemptEnd) -> Result<(), LaunchError> {
        let dir = self.dir_of(attempt);
        failpoint::hit("launch.ended.before");
        write_json(&dir, record::ENDED, end).on("write", dir.join(record::ENDED))?;
        failpoint::hit("launch.ended.after");
        Ok(())
    }

    /// Drops an ended attempt with its directory, remembering its id; its logs stay a while, see
    /// [`super::log_keep`]. What is gone already is fine. Blocks on the disk.
    pub fn forget(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        failpoint::hit("launch.forget.before");
        let attempts = &self.inner.config.dir;
        if !self.is_forgotten(attempt) {
            let added = self.forgotten().add(attempts, attempt);
            added.on("write", attempts.join(FORGOTTEN))?;
        }
        let dir = self.dir_of(attempt);
        let kept = self.kept_logs().keep(&dir);
        kept.on("keep the logs of", &dir)?;
        self.hands().remove_dir(attempt, &dir)?;
        failpoint::hit("launch.forget.after");
        Ok(())
    }

    /// The attempt that process `pid` belongs to, while it lives.
    pub fn attempt_of(&self, pid: i32) -> Option<AttemptId> {
        let path = process::cgroup_of(pid)?;
        if self.hierarchy().is_available() {
            return self.hierarchy().attempt_of(&path);
        }
        let node = format!("GPULOOM_NODE={}", self.inner.config.node);
        if !process::environ_has(pid, &node) {
            return None;
        }
        process::environ_value(pid, "GPULOOM_ATTEMPT")?.parse().ok()
    }

    /// Kills every process of every attempt and removes the node's cgroups: for an instance that
    /// is terminated.
    pub async fn purge(&self) -> Result<(), LaunchError> {
        for adopted in self.adopt()? {
            self.stop(adopted.record.attempt, Duration::ZERO).await?;
            self.remove_cgroup(&adopted.record).await?;
        }
        self.release();
        Ok(())
    }

    /// Removes the node's cgroups unless an attempt is in them; the last thing an agent does.
    pub fn release(&self) {
        self.hands().release();
    }
}
