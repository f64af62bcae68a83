//! The node's part of the cgroup v2 tree: `<parent>/gpuloom/<instance>/jobs/<attempt>/work`.
//!
//! `jobs/` and `<attempt>/` hold no processes, so limits on `<attempt>/` are the agent's alone;
//! `work/` holds the job's. A cgroup is made fresh for each attempt and never used again: one that
//! has ever received `cgroup.kill` may kill what is put into it later.

use super::error::{LaunchError, OnPath as _};
use gpuloom_fleet::{AttemptId, Bytes};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a job may use of the host; each holds only where its controller exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostLimits {
    /// Host memory; the whole job is killed above it.
    pub memory: Option<Bytes>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// CPU time in thousandths of a core per second of wall time.
    pub cpu_milli: Option<u32>,
}

/// What the host can do, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hierarchy {
    /// `<parent>/gpuloom/<instance>/jobs`, or why there is none.
    jobs: Result<PathBuf, String>,
    has_kill: bool,
    controllers: BTreeSet<String>,
}

const WANTED_CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

pub(crate) fn mount_point() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let at = fields.nth(1)?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(at))
    })
}

/// The cgroup that holds jobs where systemd runs the agent: its service has a neighbour of this
/// name, delegated to us, that outlives a restart of the agent.
const JOBS_UNIT: &str = "gpuloom-jobs.service";

/// Where the tree goes unless stated: below the delegated neighbour, else below the mount.
fn default_parent() -> Option<PathBuf> {
    let mount = mount_point()?;
    let me = i32::try_from(std::process::id()).ok()?;
    let own = super::process::cgroup_of(me).unwrap_or_default();
    let beside = Path::new(own.trim_start_matches('/')).parent();
    let delegated = mount.join(beside.unwrap_or(Path::new(""))).join(JOBS_UNIT);
    Some(if delegated.is_dir() { delegated } else { mount })
}

/// Takes every controller back from the children of `dir`, deepest first, so that processes may
/// be put into `dir` itself again: into the unit's own cgroup, when its service is restarted.
pub(crate) fn disable_controllers(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            disable_controllers(&entry.path());
        }
    }
    let control = dir.join("cgroup.subtree_control");
    for controller in fs::read_to_string(&control)
        .unwrap_or_default()
        .split_whitespace()
    {
        if let Err(error) = fs::write(&control, format!("-{controller}")) {
            eprintln!(
                "gpuloom: cannot take {controller} back from {}: {error}",
                dir.display()
            );
        }
    }
}

pub(crate) fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Makes `jobs` three levels below `parent`, with controllers handed down to it.
fn make_tree(parent: &Path, jobs: &Path) -> io::Result<()> {
    enable_controllers(parent);
    let mut down: Vec<_> = jobs.ancestors().take(3).collect();
    while let Some(dir) = down.pop() {
        make(dir)?;
        enable_controllers(dir);
    }
    Ok(())
}

/// Hands the wanted controllers on to the children of `dir`, as far as there are any.
fn enable_controllers(dir: &Path) {
    for controller in WANTED_CONTROLLERS {
        let control = dir.join("cgroup.subtree_control");
        if let Err(error) = fs::write(&control, format!("+{controller}")) {
            // What holds in the end is read back from the tree and told as a capability.
            tracing::debug!(%controller, control = %control.display(), %error, "not enabled");
        }
    }
}

fn remove_if_there(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether any live process is in `dir` or below; a cgroup that is gone holds none.
pub(crate) fn is_populated(dir: &Path) -> bool {
    match fs::read_to_string(dir.join("cgroup.events")) {
        Ok(text) => !text.lines().any(|l| l == "populated 0"),
        Err(e) => !matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)),
    }
}

/// The processes in `dir`; none when it is gone.
pub(crate) fn processes(dir: &Path) -> Vec<i32> {
    fs::read_to_string(dir.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|l| l.parse().ok())
        .filter(|pid| *pid > 0)
        .collect()
}

/// Removes an attempt's two directories; those that are gone already are fine.
pub(crate) fn remove(leaf: &Path) -> io::Result<()> {
    remove_if_there(leaf)?;
    leaf.parent().map_or(Ok(()), remove_if_there)
}

// === impl Hierarchy ===

impl Hierarchy {
    /// Looks at the host and makes `<parent>/gpuloom/<instance>/jobs`; `parent` is the mount point
    /// of cgroup v2, or its `gpuloom-jobs.service` beside the agent's own, unless stated. Where that fails there is still a hierarchy: it says why, and
    /// jobs are held together by [`super::fence::Fence::Marker`].
    pub fn probe(parent: Option<&Path>, instance: &str) -> Self {
        match Self::find(parent, instance) {
            Ok(found) => found,
            Err(why) => Self {
                jobs: Err(why),
                has_kill: false,
                controllers: BTreeSet::new(),
            },
        }
    }

    /// A hierarchy without cgroups, as on a host that has none.
    pub fn absent(why: impl Into<String>) -> Self {
        Self {
            jobs: Err(why.into()),
            has_kill: false,
            controllers: BTreeSet::new(),
        }
    }

    fn find(parent: Option<&Path>, instance: &str) -> Result<Self, String> {
        let parent = match parent {
            Some(stated) => stated.to_owned(),
            None => default_parent().ok_or("cgroup v2 is not mounted")?,
        };
        if !parent.join("cgroup.procs").exists() {
            return Err(format!("{} is not a cgroup v2 directory", parent.display()));
        }
        let jobs = parent.join("gpuloom").join(instance).join("jobs");
        // Another instance that ends may remove the shared directory while we go down.
        let mut made = make_tree(&parent, &jobs);
        for _ in 0..3 {
            if made.is_ok() {
                break;
            }
            made = make_tree(&parent, &jobs);
        }
        made.map_err(|e| format!("cannot make {}: {e}", jobs.display()))?;
        let procs = jobs.join("cgroup.procs");
        rustix::fs::access(&procs, rustix::fs::Access::WRITE_OK)
            .map_err(|e| format!("cannot write {}: {e}", procs.display()))?;
        let enabled = fs::read_to_string(jobs.join("cgroup.subtree_control"))
            .map_err(|e| format!("cannot read {}: {e}", jobs.display()))?;
        Ok(Self {
            has_kill: jobs.join("cgroup.kill").exists(),
            controllers: enabled.split_whitespace().map(str::to_owned).collect(),
            jobs: Ok(jobs),
        })
    }

    /// True when jobs run in cgroups of their own.
    pub fn is_available(&self) -> bool {
        self.jobs.is_ok()
    }

    /// Why there are no cgroups, when there are none.
    pub(crate) fn lacks(&self) -> Option<&str> {
        self.jobs.as_ref().err().map(String::as_str)
    }

    /// What the host can enforce: `yes`, or `no: ` and why, by name.
    pub fn capabilities(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        let mut say = |name: &str, holds: Result<(), String>| {
            let text = holds.map_or_else(|why| format!("no: {why}"), |()| "yes".to_owned());
            out.insert(name.to_owned(), text);
        };
        let tree = self.jobs.as_ref().map(|_| ()).map_err(Clone::clone);
        say("cgroup_v2", tree.clone());
        let kill = self
            .has_kill
            .then_some(())
            .ok_or_else(|| "the kernel has no cgroup.kill (5.14 and later do)".to_owned());
        say("cgroup_kill", tree.clone().and(kill));
        for controller in WANTED_CONTROLLERS {
            let enabled = self.controllers.contains(controller).then_some(());
            let why = format!("the {controller} controller is not available in cgroup v2");
            say(
                &format!("cgroup_{controller}"),
                tree.clone().and(enabled.ok_or(why)),
            );
        }
        out
    }

    /// The node's own cgroup, above all of its jobs; `None` without cgroups.
    pub(crate) fn instance(&self) -> Option<&Path> {
        self.jobs.as_ref().ok()?.parent()
    }

    /// The leaf an attempt's processes would be in; `None` without cgroups.
    pub(crate) fn leaf(&self, attempt: AttemptId) -> Option<PathBuf> {
        let jobs = self.jobs.as_ref().ok()?;
        Some(jobs.join(attempt.path_name()).join("work"))
    }

    /// Makes the fresh cgroup `leaf` (of this hierarchy) and states its limits. An empty one left
    /// behind by a removed instance is replaced; one with processes in it is an error.
    pub(crate) fn create(&self, leaf: &Path, limits: HostLimits) -> Result<(), LaunchError> {
        let dir = leaf.parent().unwrap_or(leaf);
        remove(leaf).on("replace cgroup", leaf)?;
        fs::create_dir(dir).on("make cgroup", dir)?;
        self.limit(dir, limits)?;
        fs::create_dir(leaf).on("make cgroup", leaf)
    }

    /// States the limits of an attempt's cgroup `dir`.
    pub(crate) fn limit(&self, dir: &Path, limits: HostLimits) -> Result<(), LaunchError> {
        let mut settings = Vec::new();
        if let Some(memory) = limits.memory {
            settings.push(("memory.max", memory.0.to_string()));
            settings.push(("memory.oom.group", "1".to_owned()));
        }
        if let Some(pids) = limits.pids {
            settings.push(("pids.max", pids.to_string()));
        }
        if let Some(milli) = limits.cpu_milli {
            settings.push(("cpu.max", format!("{} 100000", u64::from(milli) * 100)));
        }
        for (file, value) in settings {
            let controller = file.split('.').next().unwrap_or(file);
            if self.controllers.contains(controller) {
                fs::write(dir.join(file), value).on("limit cgroup by", dir.join(file))?;
            }
        }
        Ok(())
    }

    /// The attempt whose processes are in the cgroup `path` (as /proc/PID/cgroup shows it).
    pub(crate) fn attempt_of(&self, path: &str) -> Option<AttemptId> {
        let jobs = self.jobs.as_ref().ok()?;
        let above = Path::new(path.strip_suffix("/work")?);
        // The path is seen from the agent's cgroup namespace: the tree's own part is compared.
        let tree: PathBuf = jobs.iter().rev().take(3).collect();
        let seen: PathBuf = above.iter().rev().skip(1).take(3).collect();
        if tree != seen {
            return None;
        }
        let (job, number) = above.file_name()?.to_str()?.rsplit_once('-')?;
        format!("{job}#{number}").parse().ok()
    }

    /// Removes the empty cgroups of attempts not in `keep`.
    pub(crate) fn remove_unused(&self, keep: &BTreeSet<String>) {
        let Ok(jobs) = &self.jobs else { return };
        for entry in fs::read_dir(jobs).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
            if is_dir && !keep.contains(&name) {
                ignore(remove(&entry.path().join("work")));
            }
        }
    }

    /// Removes the node's own cgroups when no attempt is in them: nothing can be launched after.
    pub(crate) fn release(&self) {
        let Ok(jobs) = &self.jobs else { return };
        for dir in jobs.ancestors().take(3) {
            ignore(fs::remove_dir(dir));
        }
    }
}

/// A cgroup that is in use stays, and is looked at again at the next start.
fn ignore(removed: io::Result<()>) {
    if let Err(error) = removed {
        tracing::debug!(%error, "a cgroup stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Hierarchy {
        Hierarchy {
            jobs: Ok(PathBuf::from("/sys/fs/cgroup/x.service/gpuloom/n-1/jobs")),
            has_kill: true,
            controllers: BTreeSet::new(),
        }
    }

    #[test]
    fn a_cgroup_path_names_its_attempt_in_our_tree_alone() {
        let of = |path| tree().attempt_of(path).map(|a| a.to_string());
        let ours = Some("17.3#2".to_owned());
        assert_eq!(of("/x.service/gpuloom/n-1/jobs/17.3-2/work"), ours);
        assert_eq!(of("/gpuloom/n-1/jobs/17.3-2/work"), ours);
        for other in [
            "/gpuloom/n-2/jobs/17.3-2/work",
            "/gpuloom/n-1/jobs/17.3-2",
            "/gpuloom/n-1/jobs/17.3-2/work/deeper",
            "/gpuloom/n-1/jobs/x/work",
            "/",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_host_without_cgroups_says_why_for_each_capability() {
        let told = Hierarchy::probe(Some(Path::new("/nowhere")), "n-1").capabilities();
        assert_eq!(told.len(), 5);
        for (name, text) in told {
            assert_eq!(text, "no: /nowhere is not a cgroup v2 directory", "{name}");
        }
        let told = tree().capabilities();
        assert_eq!(told["cgroup_kill"], "yes");
        assert!(told["cgroup_memory"].starts_with("no: the memory controller"));
    }
}
