//! Reading what a job printed, across rotated files, while it is being written.

use super::error::{LaunchError, OnPath as _};
use super::launcher::Launcher;
use super::log_keep;
use super::log_write::nth;
use super::record;
use gpuloom_fleet::AttemptId;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// Logs read at the same time on one node.
pub const MAX_LOG_READERS: usize = 64;
/// Most bytes in one chunk.
const CHUNK: usize = 64 * 1024;
/// Between two looks for more, while following.
const FOLLOW_LOOK: Duration = Duration::from_millis(100);
/// Scans until two agree; a rename takes microseconds.
const SETTLE: usize = 20;
/// More files than any configuration keeps.
const MOST_FILES: u32 = 1_000;

/// What is asked of an attempt's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogRequest {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Go on until the attempt has ended.
    pub follow: bool,
    /// Only this many of the last bytes of each stream; `None` for everything kept.
    pub tail_bytes: Option<u64>,
}

/// A piece of one stream, 1 byte to 64 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Of standard error; otherwise of standard output.
    pub stderr: bool,
    /// What was printed.
    pub data: Vec<u8>,
}

/// A place in one stream.
#[derive(Debug)]
pub(crate) struct Cursor {
    path: PathBuf,
    file: Option<File>,
}

fn inode(path: &Path) -> io::Result<Option<(u64, u64)>> {
    match fs::metadata(path) {
        Ok(m) => Ok(Some((m.ino(), m.len()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Inode and size by number; a hole is a file being renamed, or one that could not be made.
fn scan(path: &Path) -> io::Result<Vec<Option<(u64, u64)>>> {
    let mut out = Vec::new();
    for n in 0..MOST_FILES {
        let found = inode(&nth(path, n))?;
        if found.is_none() && out.last().is_some_and(Option::is_none) {
            break;
        }
        out.push(found);
    }
    out.truncate(out.len() - out.iter().rev().take_while(|f| f.is_none()).count());
    Ok(out)
}

/// Inodes and sizes of the kept files, newest first, seen while they were not being renamed.
fn kept(path: &Path) -> io::Result<Vec<(u64, u64)>> {
    let inodes = |files: &[Option<(u64, u64)>]| -> Vec<Option<u64>> {
        files.iter().map(|f| f.map(|(ino, _)| ino)).collect()
    };
    let mut files = scan(path)?;
    for _ in 0..SETTLE {
        let again = scan(path)?;
        let settled = inodes(&again) == inodes(&files) && again.iter().all(Option::is_some);
        files = again;
        if settled {
            break;
        }
    }
    Ok(files.into_iter().flatten().collect())
}

/// The kept file with this inode, wherever it has been renamed to; `None` when it was dropped.
fn open_inode(path: &Path, ino: u64) -> io::Result<Option<File>> {
    for n in 0..MOST_FILES {
        match File::open(nth(path, n)) {
            Ok(file) if file.metadata()?.ino() == ino => return Ok(Some(file)),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound && n > 0 => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// The file after the one being read; `None` while there is none.
fn after(path: &Path, current: &File) -> io::Result<Option<File>> {
    let ino = current.metadata()?.ino();
    let files = kept(path)?;
    match files.iter().position(|(i, _)| *i == ino) {
        Some(0) => Ok(None),
        Some(n) => open_inode(path, files[n - 1].0),
        // Dropped while it was read: what is left begins with the oldest.
        None => files.last().map_or(Ok(None), |(i, _)| open_inode(path, *i)),
    }
}

// === impl Cursor ===

impl Cursor {
    /// At the oldest byte kept, or `tail` bytes before the end.
    pub(crate) fn open(path: PathBuf, tail: Option<u64>) -> io::Result<Self> {
        let mut cursor = Self { path, file: None };
        let files = kept(&cursor.path)?;
        let total: u64 = files.iter().map(|(_, size)| size).sum();
        let mut skip = tail.map_or(0, |tail| total.saturating_sub(tail));
        for (ino, size) in files.into_iter().rev() {
            if skip < size || size == 0 {
                cursor.file = open_inode(&cursor.path, ino)?;
                break;
            }
            skip -= size;
        }
        if let Some(file) = &mut cursor.file {
            file.seek(SeekFrom::Start(skip))?;
        } else if tail.is_some() && total > 0 {
            // Everything is skipped: stand at the end of the newest file.
            cursor.file = File::open(&cursor.path).ok();
            if let Some(file) = &mut cursor.file {
                file.seek(SeekFrom::End(0))?;
            }
        }
        Ok(cursor)
    }

    /// The next piece; `None` at the end of what is written so far.
    pub(crate) fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if self.file.is_none() {
                let oldest = kept(&self.path)?.last().map(|(ino, _)| *ino);
                self.file = oldest.map_or(Ok(None), |ino| open_inode(&self.path, ino))?;
            }
            let Some(file) = &mut self.file else {
                return Ok(None);
            };
            // A later file is looked for first: once there is one, this one grows no more.
            let next = after(&self.path, file)?;
            let mut data = Vec::new();
            file.take(u64::try_from(CHUNK).unwrap_or(u64::MAX))
                .read_to_end(&mut data)?;
            if !data.is_empty() {
                return Ok(Some(data));
            }
            match next {
                Some(next) => self.file = Some(next),
                None => return Ok(None),
            }
        }
    }
}

// === impl Launcher ===

impl Launcher {
    /// Streams an attempt's log; the receiver ends after the last piece. With `follow` that is
    /// when the attempt has ended and everything was read. Dropping the receiver ends the reading.
    pub fn read_log(
        &self,
        attempt: AttemptId,
        request: LogRequest,
    ) -> Result<mpsc::Receiver<Result<LogChunk, LaunchError>>, LaunchError> {
        let mut dir = self.dir_of(attempt);
        if !dir.join(record::SPEC).exists() {
            dir = log_keep::place(&dir);
            if !dir.exists() && !self.is_forgotten(attempt) {
                return Err(LaunchError::Unknown { attempt });
            }
        }
        let limit = LaunchError::Limit {
            what: "too many logs are being read on this node",
            limit: MAX_LOG_READERS,
        };
        let permit = self.log_readers().clone().try_acquire_owned();
        let permit = permit.map_err(|_| limit)?;
        let mut cursors = Vec::new();
        for (wanted, stderr, name) in [
            (request.stdout, false, "out.log"),
            (request.stderr, true, "err.log"),
        ] {
            if wanted {
                let path = dir.join(name);
                let cursor = Cursor::open(path.clone(), request.tail_bytes).on("read", path)?;
                cursors.push((stderr, cursor));
            }
        }
        let (send, receive) = mpsc::channel(4);
        tokio::spawn(async move {
            let follow = request.follow.then_some(dir.as_path());
            if let Err(error) = copy(cursors, follow, &send).await {
                let told = send.send(Err(error).on("read the log in", &dir)).await;
                if told.is_err() {
                    tracing::debug!(%attempt, "nobody reads the log any more");
                }
            }
            drop(permit);
        });
        Ok(receive)
    }
}

/// True when nothing more will be written: the end is recorded, or the directory is gone.
fn is_over(dir: &Path) -> bool {
    dir.join(record::EXIT).exists()
        || dir.join(record::ENDED).exists()
        || !dir.join(record::SPEC).exists()
}

async fn copy(
    mut cursors: Vec<(bool, Cursor)>,
    follow: Option<&Path>,
    send: &mpsc::Sender<Result<LogChunk, LaunchError>>,
) -> io::Result<()> {
    loop {
        // Looked at before reading: what is there afterwards is everything.
        let last = follow.is_none_or(is_over);
        let mut moved = false;
        for (stderr, cursor) in &mut cursors {
            // From the page cache: short enough for a runtime thread.
            while let Some(data) = cursor.read()? {
                moved = true;
                let chunk = LogChunk {
                    stderr: *stderr,
                    data,
                };
                if send.send(Ok(chunk)).await.is_err() {
                    return Ok(());
                }
            }
        }
        if last {
            return Ok(());
        }
        if !moved {
            tokio::select! {
                () = tokio::time::sleep(FOLLOW_LOOK) => {}
                () = send.closed() => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::log_write::RotatingLog;
    use super::*;
    use proptest::prelude::*;

    fn drain(cursor: &mut Cursor) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(piece) = cursor.read().expect("reads") {
            out.extend(piece);
        }
        out
    }

    #[test]
    fn the_tail_reaches_back_over_rotated_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("out.log");
        let mut log = RotatingLog::create(path.clone(), 4, 3).expect("creates");
        log.write(b"abcdefghij");
        for (tail, text) in [
            (None, "abcdefghij"),
            (Some(0), ""),
            (Some(1), "j"),
            (Some(2), "ij"),
            (Some(5), "fghij"),
            (Some(99), "abcdefghij"),
        ] {
            let mut cursor = Cursor::open(path.clone(), tail).expect("opens");
            assert_eq!(
                String::from_utf8_lossy(&drain(&mut cursor)),
                text,
                "{tail:?}"
            );
        }
    }

    #[test]
    fn a_log_that_does_not_exist_yet_is_empty_and_then_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("out.log");
        let mut cursor = Cursor::open(path.clone(), Some(10)).expect("opens");
        assert_eq!(drain(&mut cursor), b"");
        RotatingLog::create(path, 4, 2)
            .expect("creates")
            .write(b"abcdef");
        assert_eq!(drain(&mut cursor), b"abcdef");
    }

    proptest! {
        /// A reader that keeps up sees every byte once, wherever the files are rotated.
        #[test]
        fn a_follower_that_keeps_up_misses_nothing(
            sizes in proptest::collection::vec(0usize..9, 1..40),
        ) {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("out.log");
            let mut log = RotatingLog::create(path.clone(), 5, 4).expect("creates");
            let mut cursor = Cursor::open(path, None).expect("opens");
            let (mut written, mut read) = (Vec::new(), Vec::new());
            for (n, size) in sizes.into_iter().enumerate() {
                let piece = vec![u8::try_from(n).expect("few"); size];
                log.write(&piece);
                written.extend(piece);
                read.extend(drain(&mut cursor));
            }
            prop_assert_eq!(read, written);
        }
    }
}
