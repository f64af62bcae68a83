//! The end of an instance, verified.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gpuloom_cloud::{CloudError, FailureClass, failpoint};
use gpuloom_fleet::InstanceId;
use rustix::process::Signal;

use crate::cloud::LocalOptions;
use crate::directory::{self, Manifest};
use crate::lock::{self, MachineLock};
use crate::process::{self, Process};

const STEP: Duration = Duration::from_millis(10);

/// Marks, stops, sweeps, verifies, removes. Cut off anywhere, the next call goes on.
pub(crate) fn terminate(o: &LocalOptions, id: &InstanceId, dir: &Path) -> Result<(), CloudError> {
    let failed = |action: &'static str| {
        move |e: io::Error| {
            CloudError::transient(format!("cannot {action} {id} ({})", dir.display()), e)
        }
    };
    let manifest = match Manifest::read(dir) {
        Ok(manifest) => manifest,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // Gone, or gone but for its files; or its files are gone, and it is not.
            end_strays(o, id, dir)?;
            return remove_leftovers(o, id).map_err(failed("remove what is left of"));
        }
        Err(e) => return Err(failed("read")(e)),
    };
    failpoint::hit("local.mark.before");
    {
        // Under the lock, so that no driver is just starting it.
        let _lock = MachineLock::take(&o.machine).map_err(failed("lock the machine to end"))?;
        directory::write_new(&dir.join("terminating"), b"", 0o644).map_err(failed("mark"))?;
        directory::sync(dir).map_err(failed("mark"))?;
    }
    failpoint::hit("local.mark.after");
    stop_agent(o, dir).map_err(failed("stop the agent of"))?;
    failpoint::hit("local.stop.after");
    let cgroup = cgroup(o, id, dir).map_err(failed("read the cgroup of"))?;
    let left = sweep(o, dir, &manifest.binary.path, cgroup.as_deref())
        .map_err(failed("kill what was started by"))?;
    none_left(o, id, &left)?;
    if !lock_is_freed(o, dir).map_err(failed("look at the lock of"))? {
        let message = format!("the lock of {id} is still held by a process that is not its agent");
        return Err(CloudError::new(FailureClass::Transient, message));
    }
    failpoint::hit("local.sweep.after");
    let _lock = MachineLock::take(&o.machine).map_err(failed("lock the machine to end"))?;
    let gone = directory::retire(&o.root, id).map_err(failed("retire"))?;
    failpoint::hit("local.retire.after");
    directory::remove(&gone).map_err(failed("remove the files of"))?;
    failpoint::hit("local.remove.after");
    Ok(())
}

fn none_left(
    o: &LocalOptions,
    id: &InstanceId,
    left: &std::collections::BTreeSet<Process>,
) -> Result<(), CloudError> {
    if left.is_empty() {
        return Ok(());
    }
    let pids: Vec<_> = left.iter().map(|p| p.pid.to_string()).collect();
    let message = format!(
        "processes {} of {id} are still there {:?} after SIGKILL (waiting for a device?); terminate it again",
        pids.join(", "),
        o.kill_wait
    );
    Err(CloudError::new(FailureClass::Transient, message))
}

/// Ends what still runs of an instance whose directory somebody removed: without it nobody else would.
fn end_strays(o: &LocalOptions, id: &InstanceId, dir: &Path) -> Result<(), CloudError> {
    let failed =
        |e: io::Error| CloudError::transient(format!("cannot end what is left of {id}"), e);
    let binary = std::fs::canonicalize(&o.binary).unwrap_or_else(|_| o.binary.clone());
    if process::of_instance(dir, &binary, None).is_empty() {
        return Ok(());
    }
    // Under the lock: what runs may be of a launch that has just shown its directory.
    let _lock = MachineLock::take(&o.machine).map_err(failed)?;
    if dir.exists() {
        let message = format!("{id} is being launched; terminate it again");
        return Err(CloudError::new(FailureClass::Transient, message));
    }
    let left = sweep(o, dir, &binary, None).map_err(failed)?;
    none_left(o, id, &left)
}

fn remove_leftovers(o: &LocalOptions, id: &InstanceId) -> io::Result<()> {
    let leftovers = [
        o.root.join(format!(".gone-{id}")),
        o.root.join(format!(".new-{id}")),
    ];
    if leftovers.iter().any(|p| p.exists()) {
        let _lock = MachineLock::take(&o.machine)?;
        for leftover in &leftovers {
            directory::remove(leftover)?;
        }
    }
    Ok(())
}

/// Ends the agent and leaves its instance, and what the agent started, as they are.
pub(crate) fn stop(o: &LocalOptions, id: &InstanceId, dir: &Path) -> Result<(), CloudError> {
    let failed = |e: io::Error| {
        CloudError::transient(
            format!("cannot stop the agent of {id} ({})", dir.display()),
            e,
        )
    };
    let _lock = MachineLock::take(&o.machine).map_err(failed)?;
    stop_agent(o, dir).map_err(failed)?;
    if !lock_is_freed(o, dir).map_err(failed)? {
        let message = format!(
            "the lock of {id} is still held {:?} after its agent ended",
            o.kill_wait
        );
        return Err(CloudError::new(FailureClass::Transient, message));
    }
    Ok(())
}

/// Waits for the lock: a process counts as dead when its first thread has ended, and its files are closed only when
/// the last one has. False when somebody still holds it after the wait.
fn lock_is_freed(o: &LocalOptions, dir: &Path) -> io::Result<bool> {
    let end = Instant::now() + o.kill_wait;
    while lock::is_held(&dir.join("lock"))? {
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(STEP);
    }
    Ok(true)
}

/// SIGTERM, a bounded wait, SIGKILL. The agent is who names itself in the lock it holds.
fn stop_agent(o: &LocalOptions, dir: &Path) -> io::Result<()> {
    let end = Instant::now() + o.stop_grace;
    let agent = loop {
        if let Some(agent) = process::agent(dir) {
            break agent;
        }
        // Just started: it has the lock and names itself next. The sweep finds one that never does.
        if !lock::is_held(&dir.join("lock"))? || Instant::now() >= end {
            return Ok(());
        }
        std::thread::sleep(STEP);
    };
    agent.signal(Signal::TERM)?;
    while agent.lives() {
        if Instant::now() >= end {
            tracing::warn!(pid = agent.pid, "the agent did not end in time, killing it");
            return agent.signal(Signal::KILL);
        }
        std::thread::sleep(STEP);
    }
    Ok(())
}

/// Kills everything of the instance until nothing is found; what is left after the wait is returned.
fn sweep(
    o: &LocalOptions,
    dir: &Path,
    binary: &Path,
    cgroup: Option<&Path>,
) -> io::Result<std::collections::BTreeSet<Process>> {
    let end = Instant::now() + o.kill_wait;
    loop {
        if let Some(cgroup) = cgroup.filter(|c| c.join("cgroup.kill").exists()) {
            // Kills the whole subtree at once, whatever forks meanwhile.
            std::fs::write(cgroup.join("cgroup.kill"), "1")?;
        }
        let found = process::of_instance(dir, binary, cgroup);
        if found.is_empty() {
            if let Some(cgroup) = cgroup {
                remove_cgroups(cgroup);
            }
            return Ok(found);
        }
        for p in &found {
            p.signal(Signal::KILL)?;
        }
        if Instant::now() >= end {
            return Ok(found);
        }
        std::thread::sleep(STEP);
    }
}

/// The subtree of the instance as its agent noted it; only below the mount and only when it names the instance.
fn cgroup(o: &LocalOptions, id: &InstanceId, dir: &Path) -> io::Result<Option<PathBuf>> {
    let Some(text) = directory::attribute(dir, "cgroup")? else {
        return Ok(None);
    };
    let path = PathBuf::from(text);
    let climbs = path
        .components()
        .any(|c| c == std::path::Component::ParentDir);
    let names_it = path
        .components()
        .any(|c| c.as_os_str().to_string_lossy().contains(id.as_str()));
    if climbs || !path.starts_with(&o.cgroup_mount) || !names_it {
        tracing::warn!(cgroup = %path.display(), "ignoring a cgroup that is not the instance's own");
        return Ok(None);
    }
    Ok(path.exists().then_some(path))
}

/// From the leaves up; one that is busy or gone stays for the kernel or a later call.
fn remove_cgroups(cgroup: &Path) {
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    if let Err(e) = std::fs::remove_dir(cgroup) {
        tracing::debug!(cgroup = %cgroup.display(), error = %e, "cgroup not removed");
    }
}
