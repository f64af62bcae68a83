//! The socket: in a directory that only its owner can enter, gone when the process is.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, geteuid, test_kill_process};

/// How directories of sockets are named: with the process id behind it.
const PREFIX: &str = "tfplug-";
/// The socket inside.
const SOCKET: &str = "plugin.sock";
/// Kernel limit of a socket's path, less its final zero.
const MAX_PATH_BYTES: usize = 107;
/// How many entries of the parent directory are looked at in search of stale ones.
const MAX_SCANNED: usize = 10_000;

/// A directory with a socket, removed when dropped.
#[derive(Debug)]
pub(crate) struct SocketDir {
    path: PathBuf,
}

// === impl SocketDir ===

impl SocketDir {
    /// A new directory of mode 0700 below `base`, or below /tmp where `base` is too long for a socket.
    pub(crate) fn create(base: &Path) -> io::Result<Self> {
        let mut random = [0_u8; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(io::Error::other)?;
        let name = format!(
            "{PREFIX}{}-{:016x}",
            std::process::id(),
            u64::from_be_bytes(random)
        );
        let fits = |base: &Path| base.join(&name).join(SOCKET).as_os_str().len() <= MAX_PATH_BYTES;
        let base = if fits(base) { base } else { Path::new("/tmp") };
        let path = base.join(name);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    /// The path of the socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// Removes the directories that killed processes of the same user left beside this one.
    pub(crate) fn remove_stale(base: &Path) {
        let Ok(entries) = fs::read_dir(base) else {
            return;
        };
        for entry in entries.take(MAX_SCANNED).flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|n| {
                n.strip_prefix(PREFIX)?
                    .split_once('-')?
                    .0
                    .parse::<i32>()
                    .ok()
            });
            if let Some(pid) = pid.and_then(Pid::from_raw)
                && test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
                && fs::symlink_metadata(entry.path())
                    .is_ok_and(|m| m.is_dir() && m.uid() == geteuid().as_raw())
            {
                remove(&entry.path());
            }
        }
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(dir: &Path) {
    let _ = fs::remove_file(dir.join(SOCKET));
    if let Err(error) = fs::remove_dir(dir) {
        tracing::debug!(%error, dir = %dir.display(), "cannot remove a socket directory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_directory_is_private_and_goes_with_its_owner() {
        let base = tempfile::tempdir().expect("a directory");
        let dir = SocketDir::create(base.path()).expect("a socket directory");
        let mode = fs::metadata(&dir.path)
            .expect("exists")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::write(dir.socket(), "").expect("a file in its place");
        drop(dir);
        assert_eq!(fs::read_dir(base.path()).expect("readable").count(), 0);
    }

    #[test]
    fn only_what_dead_processes_left_is_removed() {
        let base = tempfile::tempdir().expect("a directory");
        let mut child = std::process::Command::new("true")
            .spawn()
            .expect("true runs");
        child.wait().expect("true ends");
        let dead = base.path().join(format!("{PREFIX}{}-0", child.id()));
        let other = base.path().join("tfplug-notes");
        fs::create_dir(&dead).expect("made");
        fs::create_dir(&other).expect("made");
        let live = SocketDir::create(base.path()).expect("made");
        SocketDir::remove_stale(base.path());
        assert!(!dead.exists() && other.exists() && live.path.exists());
    }

    #[test]
    fn a_base_too_long_for_a_socket_is_replaced() {
        let base = tempfile::tempdir().expect("a directory");
        let long = base.path().join("x".repeat(120));
        let dir = SocketDir::create(&long).expect("made below /tmp");
        assert!(dir.path.starts_with("/tmp"));
    }
}
