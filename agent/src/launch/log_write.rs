//! What a job prints, kept in a bounded set of files: `out.log` is being written, `out.log.1` is
//! the one before it, and so on; the oldest is dropped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Bytes of one log file before the next is begun, unless configured.
pub const LOG_FILE_BYTES: u64 = 16 << 20;
/// Log files kept per stream, the current one included, unless configured: 64 MiB in all.
pub const LOG_FILES: u32 = 4;

/// One stream's files.
#[derive(Debug)]
pub(crate) struct RotatingLog {
    path: PathBuf,
    file: Option<File>,
    written: u64,
    limit: u64,
    keep: u32,
    dropped: u64,
}

/// The `n`th file before the current one, `path` itself for 0.
pub(crate) fn nth(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

fn create(path: &Path) -> io::Result<File> {
    // Never through a link: the shim may write where the owner of the directory may not.
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    options.custom_flags(libc::O_NOFOLLOW).open(path)
}

// === impl RotatingLog ===

impl RotatingLog {
    pub(crate) fn create(path: PathBuf, limit: u64, keep: u32) -> io::Result<Self> {
        let file = create(&path)?;
        Ok(Self {
            written: file.metadata()?.len(),
            file: Some(file),
            path,
            limit: limit.max(1),
            keep: keep.max(1),
            dropped: 0,
        })
    }

    /// Bytes that could not be written (a full disk) since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Keeps `bytes`; what the disk does not take is dropped and counted, never waited for.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.written >= self.limit || self.file.is_none() {
                self.file = self.rotate().ok();
                if self.file.is_none() {
                    self.dropped += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    return;
                }
            }
            let room =
                usize::try_from(self.limit.saturating_sub(self.written)).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room.max(1)));
            let wrote = self.file.as_mut().map(|f| f.write_all(now));
            let size = u64::try_from(now.len()).unwrap_or(u64::MAX);
            match wrote {
                Some(Ok(())) => self.written += size,
                _ => self.dropped += size,
            }
            bytes = later;
        }
    }

    fn rotate(&mut self) -> io::Result<File> {
        if self.written >= self.limit {
            for n in (0..self.keep.saturating_sub(1)).rev() {
                match fs::rename(nth(&self.path, n), nth(&self.path, n + 1)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            if self.keep == 1 {
                fs::remove_file(&self.path)?;
            }
            self.written = 0;
        }
        create(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(dir: &Path) -> Vec<String> {
        (0..9)
            .filter_map(|n| fs::read_to_string(nth(&dir.join("out.log"), n)).ok())
            .collect()
    }

    #[test]
    fn the_newest_files_are_kept_each_at_most_as_long_as_its_limit() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = RotatingLog::create(dir.path().join("out.log"), 4, 3).expect("creates");
        log.write(b"abcd");
        assert_eq!(kept(dir.path()), ["abcd"]);
        log.write(b"efghijklmnop");
        assert_eq!(kept(dir.path()), ["mnop", "ijkl", "efgh"]);
        log.write(b"q");
        assert_eq!(kept(dir.path()), ["q", "mnop", "ijkl"]);
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn a_single_kept_file_starts_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = RotatingLog::create(dir.path().join("out.log"), 4, 1).expect("creates");
        log.write(b"abcdef");
        assert_eq!(kept(dir.path()), ["ef"]);
    }

    #[test]
    fn a_disk_that_takes_nothing_costs_output_not_the_job() {
        let mut log = RotatingLog::create("/dev/full".into(), 1 << 20, 2).expect("opens");
        log.write(b"abc");
        assert_eq!(log.dropped(), 3);
    }
}
