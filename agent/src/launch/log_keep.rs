//! Logs that outlive their attempt's directory: people read them after the job's end.
//!
//! `<attempts>/.logs/<attempt>/` holds what `out.log` and `err.log` were; the oldest go when there
//! are too many.

use super::log_write::nth;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Attempts whose logs are kept after the lead has stored their end.
pub const LOGS_KEPT: usize = 2_000;
/// Bytes of them in all.
pub const LOG_BYTES_KEPT: u64 = 2 << 30;

/// Its name is no attempt's.
const FOLDER: &str = ".logs";
/// More files than any configuration keeps.
const MOST_FILES: u32 = 1_000;

/// The logs that are kept, oldest first, with their bytes.
#[derive(Debug, Default)]
pub(super) struct KeptLogs {
    folder: PathBuf,
    order: VecDeque<(PathBuf, u64)>,
    bytes: u64,
}

/// Where the logs of the attempt in `dir` are once it is forgotten.
pub(super) fn place(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or_default();
    dir.with_file_name(FOLDER).join(name)
}

/// True for the folder of kept logs itself, which is no attempt's.
pub(super) fn is_folder(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == FOLDER)
}

// === impl KeptLogs ===

impl KeptLogs {
    /// What is kept below `attempts`.
    pub(super) fn open(attempts: &Path) -> io::Result<Self> {
        let mut kept = Self {
            folder: attempts.join(FOLDER),
            ..Self::default()
        };
        let listed = match fs::read_dir(&kept.folder) {
            Ok(listed) => listed,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(kept),
            Err(e) => return Err(e),
        };
        let mut found = Vec::new();
        for entry in listed {
            let entry = entry?;
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
        found.sort();
        for (_, path) in found {
            kept.push(path)?;
        }
        Ok(kept)
    }

    /// Moves the logs out of an attempt's directory. One without logs, or gone, is left as it is.
    pub(super) fn keep(&mut self, dir: &Path) -> io::Result<()> {
        let place = place(dir);
        let mut moved = false;
        for name in ["out.log", "err.log"] {
            for n in 0..MOST_FILES {
                let from = nth(&dir.join(name), n);
                match fs::metadata(&from) {
                    Ok(meta) if meta.len() == 0 => continue,
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::NotFound => break,
                    Err(e) => return Err(e),
                }
                // Every job may pass through the folder above; what others wrote it may not read.
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&place)?;
                fs::rename(&from, nth(&place.join(name), n))?;
                moved = true;
            }
        }
        if moved {
            self.push(place)?;
            self.drop_oldest()?;
        }
        Ok(())
    }

    fn push(&mut self, path: PathBuf) -> io::Result<()> {
        let mut bytes = 0;
        for entry in fs::read_dir(&path)? {
            bytes += entry?.metadata()?.len();
        }
        self.bytes += bytes;
        self.order.push_back((path, bytes));
        Ok(())
    }

    fn drop_oldest(&mut self) -> io::Result<()> {
        while self.order.len() > LOGS_KEPT || self.bytes > LOG_BYTES_KEPT {
            let Some((path, bytes)) = self.order.pop_front() else {
                return Ok(());
            };
            self.bytes = self.bytes.saturating_sub(bytes);
            match fs::remove_dir_all(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(attempts: &Path, name: &str, out: &str) -> PathBuf {
        let dir = attempts.join(name);
        fs::create_dir(&dir).expect("a directory");
        fs::write(dir.join("out.log"), out).expect("written");
        fs::write(dir.join("out.log.1"), "earlier").expect("written");
        fs::write(dir.join("err.log"), "").expect("written");
        dir
    }

    #[test]
    fn logs_are_moved_with_their_rotated_files_and_found_again_after_a_restart() {
        let attempts = tempfile::tempdir().expect("a directory");
        let dir = attempt(attempts.path(), "1-1", "hello");
        let mut kept = KeptLogs::open(attempts.path()).expect("opens");
        kept.keep(&dir).expect("kept");
        kept.keep(&dir).expect("twice is once");
        let read = |name: &str| fs::read_to_string(place(&dir).join(name)).expect("it is kept");
        assert_eq!(
            (read("out.log"), read("out.log.1")),
            ("hello".into(), "earlier".into())
        );
        assert!(!dir.join("out.log").exists());
        let again = KeptLogs::open(attempts.path()).expect("opens");
        assert_eq!((again.order.len(), again.bytes), (1, 12));
        assert_eq!((kept.order.len(), kept.bytes), (1, 12));
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let attempts = tempfile::tempdir().expect("a directory");
        let mut kept = KeptLogs::open(attempts.path()).expect("opens");
        let first = attempt(attempts.path(), "1-1", "first");
        kept.keep(&first).expect("kept");
        for n in 0..LOGS_KEPT {
            assert!(place(&first).exists(), "{n} others are kept beside it");
            let dir = attempts.path().join(format!("2.{n}-1"));
            fs::create_dir(&dir).expect("a directory");
            fs::write(dir.join("err.log"), "x").expect("written");
            kept.keep(&dir).expect("kept");
        }
        assert!(!place(&first).exists());
        assert_eq!(kept.order.len(), LOGS_KEPT);
    }

    #[test]
    fn an_attempt_that_wrote_nothing_or_is_gone_leaves_nothing() {
        let attempts = tempfile::tempdir().expect("a directory");
        let mut kept = KeptLogs::open(attempts.path()).expect("opens");
        kept.keep(&attempts.path().join("9-1"))
            .expect("nothing to keep");
        assert!(!attempts.path().join(FOLDER).exists());
    }
}
