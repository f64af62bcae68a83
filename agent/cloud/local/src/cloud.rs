//! The local machine behind [`gpuloom_cloud::Cloud`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use gpuloom_cloud::{
    Cloud, CloudError, FailureClass, Instance, InstanceState, LaunchError, LaunchRequest, Launched,
    Offered, Tags, failpoint,
};
use gpuloom_fleet::{GpuShape, InstanceId, Millis, PoolPlace};
use sha2::{Digest, Sha256};

use crate::directory::{self, Binary, Manifest};
use crate::gpus::{self, LocalGpu};
use crate::lock::{self, MachineLock};
use crate::{process, spawn, terminate};

/// Where and how instances of this machine are made.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// The directory of the instances, absolute; made when missing.
    pub root: PathBuf,
    /// The `gpuloom` program, absolute.
    pub binary: PathBuf,
    /// The GPUs that may be given to instances, in the order they are given. One machine, one inventory.
    pub gpus: Vec<LocalGpu>,
    /// Where the drivers of this machine meet: its lock and its list of roots. The same for every root that shares
    /// the GPUs; a simulated machine has one of its own. Default of [`LocalOptions::new`]: see there.
    pub machine: PathBuf,
    /// How long an agent may take from its start to its lock.
    pub start_wait: Duration,
    /// How long an agent may take to end after SIGTERM, before SIGKILL.
    pub stop_grace: Duration,
    /// How long what was sent SIGKILL may take to be gone.
    pub kill_wait: Duration,
    /// Where cgroups are mounted; an instance's own is read from `attributes/cgroup` and lies below.
    pub cgroup_mount: PathBuf,
}

/// Instances as processes of this machine. Cloning shares what was computed (the binary's checksum).
#[derive(Debug, Clone)]
pub struct LocalCloud {
    options: Arc<LocalOptions>,
    checksum: Arc<Mutex<Option<(Stamp, String)>>>,
}

/// A file's identity and age: when these are the same the content is.
type Stamp = (u64, u64, SystemTime);

// === impl LocalOptions ===

impl LocalOptions {
    /// The machine's default meeting place is `/var/lib/gpuloom/machine` for root, else `<root>/.machine`: users
    /// without root on one machine each need an inventory of their own.
    #[must_use]
    pub fn new(root: PathBuf, binary: PathBuf, gpus: Vec<LocalGpu>) -> Self {
        let machine = if rustix::process::geteuid().is_root() {
            // Not below /run: it has to outlive a reboot as the instances do.
            PathBuf::from("/var/lib/gpuloom/machine")
        } else {
            root.join(".machine")
        };
        Self {
            root,
            binary,
            gpus,
            machine,
            start_wait: Duration::from_secs(20),
            stop_grace: Duration::from_secs(10),
            kill_wait: Duration::from_secs(10),
            cgroup_mount: PathBuf::from("/sys/fs/cgroup"),
        }
    }
}

// === impl LocalCloud ===

impl LocalCloud {
    /// A driver; touches nothing yet.
    #[must_use]
    pub fn new(options: LocalOptions) -> Self {
        Self {
            options: Arc::new(options),
            checksum: Arc::default(),
        }
    }

    /// The data directory of `id`, whether it exists or not; `None` when the id is no file name.
    #[must_use]
    pub fn data_dir(&self, id: &InstanceId) -> Option<PathBuf> {
        directory::of(&self.options.root, id)
    }

    /// The GPUs that belong to `id`; `None` when there is no such instance.
    ///
    /// # Errors
    /// When its record does not read.
    pub fn gpus_of(&self, id: &InstanceId) -> io::Result<Option<Vec<gpuloom_fleet::DeviceId>>> {
        let Some(dir) = self.data_dir(id) else {
            return Ok(None);
        };
        match Manifest::read(&dir) {
            Ok(manifest) => Ok(Some(manifest.gpus)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Ends the agent of `id` and leaves the instance: [`Cloud::start`] brings it back with the present program.
    /// One that does not run, or does not exist, is left as it is.
    ///
    /// # Errors
    /// [`CloudError`]: it may still run, call again.
    pub async fn stop(&self, id: &InstanceId) -> Result<(), CloudError> {
        let (this, id) = (self.clone(), id.clone());
        tokio::task::spawn_blocking(move || match directory::of(&this.options.root, &id) {
            Some(dir) => terminate::stop(&this.options, &id, &dir),
            None => Ok(()),
        })
        .await
        .map_err(|e| CloudError::transient("stopping was cut off", e))?
    }

    fn launch_now(&self, request: &LaunchRequest) -> Result<Instance, LaunchError> {
        let o = &*self.options;
        let id =
            directory::id_of(request).map_err(|e| LaunchError::new(FailureClass::Invalid, e))?;
        let failed = |action: &'static str| move |e: io::Error| launch_failed(action, &o.root, &e);
        std::fs::create_dir_all(&o.root).map_err(failed("make"))?;
        let _lock = MachineLock::take(&o.machine).map_err(failed("lock the machine for"))?;
        directory::tidy(&o.root).map_err(failed("tidy"))?;
        let dir = o.root.join(id.as_str());
        let manifest = match Manifest::read(&dir) {
            Ok(manifest) if manifest.token == request.token => manifest,
            Ok(manifest) => return Err(foreign(&manifest, &dir)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.create(id, request)?,
            Err(e) => return Err(failed("read an instance of")(e)),
        };
        if dir.join("terminating").exists() {
            let message = format!(
                "{} is being terminated: launch again when it is gone",
                manifest.id
            );
            return Err(LaunchError::new(FailureClass::Transient, message));
        }
        self.bring_up(&dir, &manifest)
    }

    /// Makes the directory of a new instance with its GPUs. Under the machine's lock.
    fn create(&self, id: InstanceId, request: &LaunchRequest) -> Result<Manifest, LaunchError> {
        let o = &*self.options;
        let failed = |action: &'static str| move |e: io::Error| launch_failed(action, &o.root, &e);
        gpus::register(&o.machine, &o.root).map_err(failed("register"))?;
        let gpus = match &request.gpu {
            Some(shape) => {
                let taken = gpus::taken(&o.machine).map_err(failed("read the instances of"))?;
                gpus::choose(&o.gpus, &taken, shape)?
            }
            None => Vec::new(),
        };
        let manifest = Manifest {
            v: 1,
            id,
            token: request.token.clone(),
            fleet: request.fleet.clone(),
            pool: request.pool.clone(),
            role: request.role,
            offering: request.offering().cloned().ok_or_else(|| {
                LaunchError::new(FailureClass::Invalid, "the launch asks for no offering")
            })?,
            tags: request.tags(),
            gpus,
            binary: self.binary()?,
            launched_at: now(),
        };
        failpoint::hit("local.stage.before");
        let staged =
            directory::stage(&o.root, &manifest, request).map_err(failed("make an instance in"))?;
        failpoint::hit("local.stage.after");
        directory::publish(&o.root, &staged, &manifest.id)
            .map_err(failed("show an instance in"))?;
        failpoint::hit("local.publish.after");
        Ok(manifest)
    }

    /// Starts the agent unless it runs, and waits until it holds its lock. Under the machine's lock.
    fn bring_up(&self, dir: &Path, manifest: &Manifest) -> Result<Instance, LaunchError> {
        let failed = |action: &'static str| move |e: io::Error| launch_failed(action, dir, &e);
        let running = manifest.instance(InstanceState::Running);
        let end = Instant::now() + self.options.start_wait;
        let look = || lock::is_held(&dir.join("lock")).map_err(failed("look at the lock of"));
        // One that just took its lock names itself in it next.
        while look()? {
            if process::agent(dir).is_some() {
                return Ok(running);
            }
            if Instant::now() >= end {
                return Err(self.silent(dir, manifest));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let binary = self.binary()?;
        if binary != manifest.binary {
            let upgraded = Manifest {
                binary: binary.clone(),
                ..manifest.clone()
            };
            upgraded.write(dir).map_err(failed("note the binary of"))?;
        }
        let ended =
            spawn::agent(&binary.path, dir, manifest.role).map_err(failed("start the agent of"))?;
        failpoint::hit("local.spawn.after");
        loop {
            if look()? && process::agent(dir).is_some() {
                failpoint::hit("local.alive.after");
                return Ok(running);
            }
            // One that was started before us and lost its driver may have won the lock: then ours has ended.
            match ended.recv_timeout(Duration::from_millis(5)) {
                Ok(status) if !look()? => {
                    let message = format!(
                        "the agent of {} ended at its start ({status}); the last lines of {} say why:\n{}",
                        manifest.id,
                        dir.join("agent.log").display(),
                        tail(&dir.join("agent.log"))
                    );
                    return Err(LaunchError::new(FailureClass::Transient, message));
                }
                Ok(_) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if Instant::now() >= end {
                return Err(self.silent(dir, manifest));
            }
        }
    }

    fn silent(&self, dir: &Path, manifest: &Manifest) -> LaunchError {
        let message = format!(
            "the agent of {} did not take its lock and name itself in it within {:?}; see {}",
            manifest.id,
            self.options.start_wait,
            dir.join("agent.log").display()
        );
        LaunchError::new(FailureClass::Transient, message)
    }

    fn list_now(&self, tags: &Tags) -> io::Result<Vec<Instance>> {
        // Who looks for what there is ends what was cut off; if not now, then the next one does.
        if let Err(e) = directory::remove_gone(&self.options.root) {
            tracing::debug!(root = %self.options.root.display(), error = %e, "files of ended instances not removed");
        }
        let mut found = Vec::new();
        for manifest in directory::manifests(&self.options.root)? {
            if manifest.tags.contain(tags) {
                let dir = self.options.root.join(manifest.id.as_str());
                found.push(manifest.instance(directory::state(&dir)?));
            }
        }
        Ok(found)
    }

    fn start_now(&self, id: &InstanceId) -> Result<Instance, LaunchError> {
        let o = &*self.options;
        let none = || {
            let message = format!("there is no instance {id} in {}", o.root.display());
            LaunchError::new(FailureClass::Invalid, message)
        };
        let dir = directory::of(&o.root, id).ok_or_else(none)?;
        let failed = |action: &'static str| move |e: io::Error| launch_failed(action, &o.root, &e);
        let _lock = MachineLock::take(&o.machine).map_err(failed("lock the machine for"))?;
        let manifest = match Manifest::read(&dir) {
            Ok(manifest) => manifest,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(none()),
            Err(e) => return Err(failed("read an instance of")(e)),
        };
        if dir.join("terminating").exists() {
            let message = format!("{id} is being terminated and is not started again");
            return Err(LaunchError::new(FailureClass::Invalid, message));
        }
        self.bring_up(&dir, &manifest)
    }

    fn terminate_now(&self, id: &InstanceId) -> Result<(), CloudError> {
        match directory::of(&self.options.root, id) {
            Some(dir) => terminate::terminate(&self.options, id, &dir),
            None => Ok(()),
        }
    }

    /// The program and its checksum, computed again only when the file has changed.
    fn binary(&self) -> Result<Binary, LaunchError> {
        use std::os::unix::fs::MetadataExt;
        let path = &self.options.binary;
        let unreadable = |e: io::Error| {
            let message = format!("the agent's program {} cannot be read: {e}", path.display());
            LaunchError::new(FailureClass::Invalid, message)
        };
        let path_buf = std::fs::canonicalize(path).map_err(unreadable)?;
        let meta = std::fs::metadata(&path_buf).map_err(unreadable)?;
        let stamp = (meta.ino(), meta.len(), meta.modified().map_err(unreadable)?);
        let mut known = self.checksum.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((have, sha256)) = &*known
            && *have == stamp
        {
            return Ok(Binary {
                path: path_buf,
                sha256: sha256.clone(),
            });
        }
        let mut digest = Sha256::new();
        let mut file = std::fs::File::open(&path_buf).map_err(unreadable)?;
        io::copy(&mut file, &mut digest).map_err(unreadable)?;
        let sha256 = hex::encode(digest.finalize());
        *known = Some((stamp, sha256.clone()));
        Ok(Binary {
            path: path_buf,
            sha256,
        })
    }
}

#[async_trait]
impl Cloud for LocalCloud {
    async fn offerings(
        &self,
        _place: &PoolPlace,
        gpu: Option<&GpuShape>,
    ) -> Result<Vec<Offered>, CloudError> {
        Ok(gpu.map(Offered::local).into_iter().collect())
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchError> {
        let (this, request) = (self.clone(), request.clone());
        tokio::task::spawn_blocking(move || this.launch_now(&request))
            .await
            .map_err(cut_off)?
            .map(Launched::from)
    }

    async fn list(&self, tags: &Tags) -> Result<Vec<Instance>, CloudError> {
        let (this, tags) = (self.clone(), tags.clone());
        let listed = tokio::task::spawn_blocking(move || this.list_now(&tags)).await;
        let root = self.options.root.display();
        listed
            .map_err(|e| CloudError::transient("listing was cut off", e))?
            .map_err(|e| CloudError::transient(format!("cannot list the instances in {root}"), e))
    }

    async fn start(&self, id: &InstanceId) -> Result<Instance, LaunchError> {
        let (this, id) = (self.clone(), id.clone());
        tokio::task::spawn_blocking(move || this.start_now(&id))
            .await
            .map_err(cut_off)?
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), CloudError> {
        let (this, id) = (self.clone(), id.clone());
        tokio::task::spawn_blocking(move || this.terminate_now(&id))
            .await
            .map_err(|e| CloudError::transient("termination was cut off", e))?
    }

    async fn read_attribute(
        &self,
        id: &InstanceId,
        key: &str,
    ) -> Result<Option<String>, CloudError> {
        let Some(dir) = self.data_dir(id) else {
            return Ok(None);
        };
        directory::attribute(&dir, key)
            .map_err(|e| CloudError::transient(format!("cannot read attribute {key} of {id}"), e))
    }

    async fn write_attribute(
        &self,
        id: &InstanceId,
        key: &str,
        value: &str,
    ) -> Result<(), CloudError> {
        let dir = self
            .data_dir(id)
            .filter(|d| d.join("instance.json").exists());
        let dir = dir.ok_or_else(|| {
            let message = format!("there is no instance {id} to write {key} to");
            CloudError::new(FailureClass::Invalid, message)
        })?;
        directory::write_attribute(&dir, key, value)
            .map_err(|e| CloudError::transient(format!("cannot write attribute {key} of {id}"), e))
    }
}

// === functions ===

fn launch_failed(action: &str, path: &Path, e: &io::Error) -> LaunchError {
    let class = match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FailureClass::Auth,
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => FailureClass::Invalid,
        _ => FailureClass::Transient,
    };
    LaunchError::new(class, format!("cannot {action} {}: {e}", path.display()))
}

fn foreign(manifest: &Manifest, dir: &Path) -> LaunchError {
    let message = format!(
        "instance {} exists already in {} and was launched by another request: import it, or terminate it first",
        manifest.id,
        dir.display()
    );
    LaunchError::new(FailureClass::Invalid, message)
}

fn cut_off(e: tokio::task::JoinError) -> LaunchError {
    LaunchError::new(
        FailureClass::Transient,
        format!("the launch was cut off: {e}"),
    )
}

fn now() -> Millis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The last lines of a log, for an error message.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().rev().take(10).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
