//! What a test leaves behind: found, and ended.

use crate::process;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The ids of the instances below `root`.
pub(crate) fn instances(root: &Path) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("instance.json").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    found.sort();
    found
}

/// Everything that should be gone: what lies in `root`, processes that mention it, cgroups of `ids`.
pub(crate) fn find(root: &Path, ids: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Where the drivers of this machine meet; it holds a lock and no instance.
        if name != ".machine" {
            left.push(format!("file {}", entry.path().display()));
        }
    }
    for (pid, command) in process::mentioning(root) {
        left.push(format!("process {pid}: {command}"));
    }
    for cgroup in cgroups(ids) {
        left.push(format!("cgroup {}", cgroup.display()));
    }
    left
}

/// SIGKILL to every process that mentions `dir`, until none is left: shims follow their agents, jobs their shims.
pub(crate) fn end_processes(dir: &Path, deadline: Instant) {
    loop {
        let left = process::mentioning(dir);
        for (pid, _) in &left {
            process::kill(*pid);
        }
        if left.is_empty() || Instant::now() >= deadline {
            return;
        }
        std::thread::yield_now();
    }
}

/// Removes the cgroups of instances, deepest first.
pub(crate) fn end_cgroups(ids: &[String]) {
    for top in cgroups(ids) {
        remove_tree(&top);
    }
}

fn remove_tree(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    std::fs::remove_dir(dir).ok();
}

/// `gpuloom/<id>` of nodes in every cgroup tree. A lead starts no job and has none; its id is not unique on a machine.
fn cgroups(ids: &[String]) -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let at = fields.next()?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(at))
        })
        .flat_map(|mount| {
            let nodes = ids.iter().filter(|id| !id.starts_with("lead-"));
            nodes.map(move |id| mount.join("gpuloom").join(id))
        })
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found.dedup();
    found
}
