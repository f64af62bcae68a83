//! Small files that are there whole or not at all.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}", path = path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Makes `path` and its parents, mode 0700.
pub(crate) fn make_dir(path: &Path) -> Result<(), FileError> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|source| FileError {
        action: "make the directory",
        path: path.to_owned(),
        source,
    })
}

/// The file's text; `None` when there is no such file.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, FileError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError {
            action: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes the file whole and durably: beside it, then in its place.
pub(crate) fn write_whole(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    make_dir(parent)?;
    let failed = |source| FileError {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = parent.join(name);
    match std::fs::remove_file(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let open = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside);
    let mut file = open.map_err(failed)?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)?;
    std::fs::File::open(parent)
        .and_then(|d| d.sync_all())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_written_whole_with_its_mode_over_what_was_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b.key");
        assert_eq!(read_if_there(&path).expect("readable"), None);
        std::fs::create_dir_all(dir.path().join("a")).expect("made");
        std::fs::write(dir.path().join("a/b.key.new"), "left by a crash").expect("written");
        for text in ["one", "two"] {
            write_whole(&path, text.as_bytes(), 0o600).expect("written");
            assert_eq!(
                read_if_there(&path).expect("readable").as_deref(),
                Some(text)
            );
        }
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
