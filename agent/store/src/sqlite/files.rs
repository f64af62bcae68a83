//! The files beside the database: lock, acknowledged revision, backups put in place.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::StoreError;
use crate::types::Revision;

/// Held while the store is open; the file names the holder. Released by the kernel when the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// The newest acknowledged revision, written without fsync after each commit: it survives the death of the
/// process, and after a power loss it can only be too old, which hides nothing that SQLite itself would keep.
#[derive(Debug)]
pub(super) struct Acked {
    file: File,
    path: PathBuf,
    revision: Option<Revision>,
}

// === impl Lock ===

impl Lock {
    pub(super) fn take(store: &Path) -> Result<Self, StoreError> {
        let path = beside(store, "-lock");
        let mut file = create(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The holder may be writing it just now: a missing pid only shortens the message.
                let pid = file
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| text.trim().parse().ok());
                return Err(StoreError::Locked {
                    path: store.to_owned(),
                    pid,
                });
            }
            Err(TryLockError::Error(source)) => {
                return Err(StoreError::Io {
                    action: "lock",
                    path,
                    source,
                });
            }
        }
        let io = |source| StoreError::Io {
            action: "write",
            path: path.clone(),
            source,
        };
        file.set_len(0).map_err(io)?;
        file.write_all(std::process::id().to_string().as_bytes())
            .map_err(io)?;
        Ok(Self { _file: file })
    }
}

// === impl Acked ===

impl Acked {
    pub(super) fn open(store: &Path) -> Result<Self, StoreError> {
        let path = beside(store, "-acked");
        let mut file = create(&path)?;
        let mut text = String::new();
        let revision = match file.read_to_string(&mut text) {
            Ok(_) => parse_acked(&text),
            Err(source) => {
                return Err(StoreError::Io {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        if revision.is_none() && !text.is_empty() {
            tracing::warn!(path = %path.display(), "unreadable acknowledged revision, starting it anew");
        }
        Ok(Self {
            file,
            path,
            revision,
        })
    }

    pub(super) fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// Notes `revision` as acknowledged.
    pub(super) fn note(&mut self, revision: Revision) -> Result<(), StoreError> {
        if self.revision == Some(revision) {
            return Ok(());
        }
        self.file
            .write_all_at(render_acked(revision).as_bytes(), 0)
            .map_err(|source| StoreError::Io {
                action: "write",
                path: self.path.clone(),
                source,
            })?;
        self.revision = Some(revision);
        Ok(())
    }
}

/// Twice the same fixed-width number: a torn write shows.
fn render_acked(revision: Revision) -> String {
    format!("{0:020} {0:020}\n", revision.0)
}

fn parse_acked(text: &str) -> Option<Revision> {
    let (a, b) = text.trim_end().split_once(' ')?;
    let (a, b): (u64, u64) = (a.parse().ok()?, b.parse().ok()?);
    (a == b).then_some(Revision(a))
}

// === functions ===

/// `store.db` -> `store.db<suffix>`.
pub(super) fn beside(store: &Path, suffix: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn must_exist(path: &Path) -> Result<(), StoreError> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(StoreError::Io {
            action: "find",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Opens or creates, readable by the owner alone.
fn create(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| StoreError::Io {
            action: "open",
            path: path.to_owned(),
            source,
        })
}

/// Makes a name that was just created or renamed in `path`'s directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    let dir = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|source| StoreError::Io {
            action: "sync the directory",
            path: dir.to_owned(),
            source,
        })
}

/// Moves the finished `temporary` to `path`, durably, only if nothing is there.
pub(super) fn publish(temporary: &Path, path: &Path) -> Result<(), StoreError> {
    let io = |action, source| StoreError::Io {
        action,
        path: path.to_owned(),
        source,
    };
    File::open(temporary)
        .and_then(|f| f.sync_all())
        .map_err(|e| io("sync", e))?;
    // A hard link fails when the name exists; a rename would replace it.
    std::fs::hard_link(temporary, path).map_err(|e| io("create", e))?;
    std::fs::remove_file(temporary).map_err(|e| io("tidy up after", e))?;
    sync_dir(path)
}

/// Puts a copy of `backup` at `path`; returns where the former file went.
pub(super) fn replace(backup: &Path, path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let io = |action, p: &Path, source| StoreError::Io {
        action,
        path: p.to_owned(),
        source,
    };
    let temporary = beside(path, ".restoring");
    std::fs::copy(backup, &temporary).map_err(|e| io("copy the backup to", &temporary, e))?;
    File::open(&temporary)
        .and_then(|f| f.sync_all())
        .map_err(|e| io("sync", &temporary, e))?;
    let kept = if path.exists() {
        Some(set_aside(path)?)
    } else {
        None
    };
    for suffix in ["-acked", "-shm"] {
        remove_if_there(&beside(path, suffix))?;
    }
    std::fs::rename(&temporary, path).map_err(|e| io("put the backup at", path, e))?;
    sync_dir(path)?;
    Ok(kept)
}

/// Renames the database and its log to the first free `.replaced-<n>`.
fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let kept = (1u32..)
        .map(|n| beside(path, &format!(".replaced-{n}")))
        .find(|p| !p.exists())
        .unwrap_or_else(|| beside(path, ".replaced"));
    let wal = beside(path, "-wal");
    // The log first: a database without its log would look whole and be older.
    if wal.exists() {
        let to = beside(&kept, "-wal");
        std::fs::rename(&wal, &to).map_err(|source| StoreError::Io {
            action: "set aside",
            path: wal,
            source,
        })?;
    }
    std::fs::rename(path, &kept).map_err(|source| StoreError::Io {
        action: "set aside",
        path: path.to_owned(),
        source,
    })?;
    Ok(kept)
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(StoreError::Io {
            action: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}
