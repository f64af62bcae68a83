//! One agent for a data directory: its driver sees from the lock whether it lives.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A driver that looks holds the lock for a moment: an agent tries for this long.
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(20);

/// The data directory is this process's until it ends.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

/// A data directory that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent has it.
    #[error("{path} is in use by an agent ({holder}): stop it first, or configure another data_dir", path = path.display())]
    Held {
        /// The lock.
        path: PathBuf,
        /// What the lock says.
        holder: String,
    },
    /// The file system.
    #[error("cannot lock {path}", path = path.display())]
    Io {
        /// The lock.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

// === impl DataDirLock ===

impl DataDirLock {
    /// Takes the lock `<data_dir>/lock` and writes `pid starttime` into it.
    pub fn take(data_dir: &Path) -> Result<Self, LockError> {
        let path = data_dir.join("lock");
        let failed = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path);
        let mut file = open.map_err(failed)?;
        let end = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(e)) => return Err(failed(e)),
                Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(STEP),
                Err(TryLockError::WouldBlock) => {
                    let said = std::fs::read_to_string(&path).unwrap_or_default();
                    return Err(LockError::Held {
                        path,
                        holder: format!("pid and start time {:?}", said.trim()),
                    });
                }
            }
        }
        let content = format!(
            "{} {}\n",
            std::process::id(),
            own_start_time().map_err(failed)?
        );
        file.set_len(0)
            .and_then(|()| file.write_all(content.as_bytes()))
            .and_then(|()| file.sync_data())
            .map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Field 22 of `/proc/self/stat`: clock ticks since boot at which this process began.
fn own_start_time() -> io::Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let field = after_name.split_ascii_whitespace().nth(19);
    field
        .and_then(|f| f.parse().ok())
        .ok_or_else(|| io::Error::other("/proc/self/stat does not read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_agents_and_the_lock_says_whose() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = DataDirLock::take(dir.path()).expect("free");
        let text = std::fs::read_to_string(dir.path().join("lock")).expect("readable");
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        assert_eq!(fields[0], std::process::id().to_string());
        assert!(fields[1].parse::<u64>().expect("ticks") > 0);
        let second = DataDirLock::take(dir.path()).expect_err("held").to_string();
        assert!(
            second.contains(fields[0]) && second.contains("data_dir"),
            "{second}"
        );
        drop(lock);
        DataDirLock::take(dir.path()).expect("free again");
    }
}
