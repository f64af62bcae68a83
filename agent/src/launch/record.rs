//! The facts of one attempt, a file each, in `attempts/<job>-<attempt>/`.
//!
//! ```text
//! spec.json     agent, before anything is made        what to run (never changed)
//! shim.json     shim, before it forks                 who supervises; made once, by link(2)
//! started.json  shim, once exec has succeeded         the job's first process
//! stop.json     agent, before the first signal        why it is stopped
//! exit.json     shim, once no process is left         how the first process ended
//! ended.json    agent, once the devices are free too  what is reported until forgotten
//! out.log err.log (+ .1 .2 .3, older)                 what it printed
//! work/                                               its directory
//! ```
//! Each is written to a temporary file, synced, renamed, and the directory synced.

use super::cgroup::HostLimits;
use super::error::{LaunchError, OnPath as _};
use super::fence::Fence;
use super::process::Identity;
use super::user::JobUser;
use gpuloom_fleet::{AttemptId, DeviceGrant, JobSpec, Millis, StopCause};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub(crate) const SPEC: &str = "spec.json";
pub(crate) const SHIM: &str = "shim.json";
pub(crate) const STARTED: &str = "started.json";
pub(crate) const STOP: &str = "stop.json";
pub(crate) const EXIT: &str = "exit.json";
pub(crate) const ENDED: &str = "ended.json";

/// What an attempt is to run, and with what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// 1.
    pub v: u32,
    /// The attempt.
    pub attempt: AttemptId,
    /// The machine's boot it belongs to.
    pub boot_id: String,
    /// When the order arrived.
    pub received_at: Millis,
    /// What was submitted.
    pub spec: JobSpec,
    /// What it holds.
    pub grants: Vec<DeviceGrant>,
    /// Exactly what the shim does.
    pub(crate) plan: ExecPlan,
}

/// Exactly what the shim does: nothing else is forwarded to the job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExecPlan {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// The whole environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Where it starts.
    pub(crate) workdir: PathBuf,
    /// True for the attempt's own directory: entered before privileges are dropped.
    pub(crate) own_workdir: bool,
    /// `None`: the agent's own user, as it may not change it.
    pub(crate) user: Option<JobUser>,
    /// What holds its processes together.
    pub(crate) fence: Fence,
    /// Host limits of its cgroup.
    pub(crate) limits: HostLimits,
    /// Bytes of one log file.
    pub(crate) log_file_bytes: u64,
    /// Log files kept per stream, the current one included.
    pub(crate) log_files: u32,
}

/// Who supervises an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShimRecord {
    /// `None`: an agent that found no shim took the place, so that a late shim does nothing.
    pub(crate) shim: Option<Identity>,
}

/// The job's first process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    /// The process.
    pub(crate) job: Identity,
    /// When exec had succeeded.
    pub at: Millis,
}

/// Why an attempt is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRecord {
    /// The first cause; later ones change nothing.
    pub cause: StopCause,
    /// When.
    pub at: Millis,
}

/// How the first process ended; written when no process of the attempt is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// `None` when it was never started.
    pub exit: Option<gpuloom_fleet::Exit>,
    /// When the first process ended.
    pub at: Millis,
    /// Why it was never started.
    pub launch_failed: Option<String>,
    /// Processes of the attempt that outlived the first one and were killed.
    pub leftovers: u32,
    /// Bytes of output that could not be written.
    pub log_bytes_dropped: u64,
}

/// The clock on the wall.
pub(crate) fn now() -> Millis {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// An empty file at `path`, which must not be a link.
pub(crate) fn create_here(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    options.custom_flags(libc::O_NOFOLLOW).open(path)
}

fn write_temporary(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let path = dir.join(format!(".{name}.{}", std::process::id()));
    // Never through a link: a shim has privileges that whoever may write here need not have.
    let mut file = create_here(&path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(path)
}

/// Writes `value` to `dir/name` so that it is there whole, or not at all, after a power cut.
pub(crate) fn write_json(dir: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let temporary = write_temporary(dir, name, &serde_json::to_vec(value)?)?;
    fs::rename(&temporary, dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// Like [`write_json`], but false, changing nothing, when the file exists already.
pub(crate) fn write_json_once(dir: &Path, name: &str, value: &impl Serialize) -> io::Result<bool> {
    let temporary = write_temporary(dir, name, &serde_json::to_vec(value)?)?;
    let linked = fs::hard_link(&temporary, dir.join(name));
    fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => File::open(dir)?.sync_all().map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

/// The value in `dir/name`; `None` when there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(
    dir: &Path,
    name: &str,
) -> Result<Option<T>, LaunchError> {
    let path = dir.join(name);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| LaunchError::Corrupt { path, source }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).on("read", path),
    }
}

// === impl AttemptRecord ===

impl AttemptRecord {
    /// Refuses a record that asks a holder, whose jobs are in `jobs`, for more than a job may have:
    /// whoever wrote it has fewer privileges than who carries it out.
    pub(crate) fn check_held(&self, jobs: &Path) -> Result<(), LaunchError> {
        let refuse = |message: String| {
            Err(LaunchError::Refused {
                why: super::wire::Why::Privileged,
                message,
            })
        };
        let leaf = jobs.join(self.attempt.path_name()).join("work");
        if self.plan.fence != (Fence::Cgroup { leaf: leaf.clone() }) {
            let leaf = leaf.display();
            return refuse(format!("attempt {} must run in {leaf}", self.attempt));
        }
        match &self.plan.user {
            Some(user) if user.uid != 0 && user.gid != 0 => Ok(()),
            user => {
                let name = user.as_ref().map_or("nobody in particular", |u| &u.name);
                refuse(format!(
                    "attempt {} must run as an unprivileged user, not as {name:?}",
                    self.attempt
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_made_once_is_never_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(write_json_once(dir.path(), SHIM, &1).expect("writes"));
        assert!(!write_json_once(dir.path(), SHIM, &2).expect("writes"));
        assert_eq!(read_json(dir.path(), SHIM).expect("reads"), Some(1));
        write_json(dir.path(), SHIM, &3).expect("writes");
        assert_eq!(read_json(dir.path(), SHIM).expect("reads"), Some(3));
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
    }

    #[test]
    fn a_torn_file_is_an_error_and_a_missing_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(EXIT), "{\"exit\":").expect("writes");
        assert!(matches!(
            read_json::<Exited>(dir.path(), EXIT),
            Err(LaunchError::Corrupt { .. })
        ));
        assert!(matches!(read_json::<Exited>(dir.path(), SPEC), Ok(None)));
    }
}
