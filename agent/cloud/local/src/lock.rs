//! Advisory locks that the kernel releases when their holder ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait for another driver on this machine: it holds the lock for a launch at most.
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(10);

/// One driver of the machine at a time.
#[derive(Debug)]
pub(crate) struct MachineLock {
    _file: File,
}

// === impl MachineLock ===

impl MachineLock {
    /// Waits for the lock in `dir`; `TimedOut` after [`PATIENCE`].
    pub(crate) fn take(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let file = open(&dir.join("lock"))?;
        let end = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(e)) => return Err(e),
                Err(TryLockError::WouldBlock) if Instant::now() >= end => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("another driver has held {} for {PATIENCE:?}", dir.display()),
                    ));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(STEP),
            }
        }
    }
}

/// Somebody holds the lock at `path`; a missing file is held by nobody.
pub(crate) fn is_held(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    // Shared, so that two who ask at the same time do not take each other for the agent.
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path)
}
