//! This machine as a place for fleets: where they live and what runs them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use gpuloom_cloud_local::{LocalCloud, LocalOptions};
use gpuloom_fleet::InstanceId;
use sha2::{Digest, Sha256};
use tfplug::{Diagnostic, Diagnostics, OrDiag, Value};

use crate::lead_instance::Here;

/// The environment variable for the directory of all local instances.
const ROOT_ENV: &str = "GPULOOM_LOCAL_ROOT";
/// The agent's program.
const BINARY: &str = "gpuloom";

/// The `local` block of the provider, with its defaults found when they are first needed.
#[derive(Debug)]
pub(crate) struct Local {
    root: Setting,
    agent_binary: Setting,
    cloud: OnceLock<LocalCloud>,
    checksum: OnceLock<Program>,
}

#[derive(Debug, PartialEq, Eq)]
enum Setting {
    Is(PathBuf),
    Unset,
    Unknown,
}

/// The program that instances run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
}

/// The part of `instance.json` that the trait does not show.
#[derive(serde::Deserialize)]
struct Manifest {
    binary: ManifestBinary,
}

#[derive(serde::Deserialize)]
struct ManifestBinary {
    path: PathBuf,
    sha256: String,
}

// === impl Setting ===

impl Setting {
    fn of(value: &Value) -> Self {
        match value.as_str() {
            Some(path) => Self::Is(PathBuf::from(path)),
            None if value.is_unknown() => Self::Unknown,
            None => Self::Unset,
        }
    }

    fn known(&self, name: &str) -> Result<Option<&Path>, Diagnostics> {
        match self {
            Self::Is(path) => Ok(Some(path)),
            Self::Unset => Ok(None),
            Self::Unknown => Err(Diagnostic::error(
                format!("The provider's local.{name} is not known yet"),
                "It depends on something that is known only after apply. Apply that first, for instance with -target.",
            )
            .into()),
        }
    }
}

// === impl Local ===

impl Local {
    /// Reads the provider's `local` block, which may be absent or hold unknown values.
    pub(crate) fn from_config(block: &Value) -> Self {
        Self {
            root: Setting::of(block.get("root")),
            agent_binary: Setting::of(block.get("agent_binary")),
            cloud: OnceLock::new(),
            checksum: OnceLock::new(),
        }
    }

    /// True while the block depends on something that is not known yet.
    pub(crate) fn is_unknown(&self) -> bool {
        self.root == Setting::Unknown || self.agent_binary == Setting::Unknown
    }

    /// The directory of all local instances.
    pub(crate) fn root(&self) -> Result<PathBuf, Diagnostics> {
        if let Some(root) = self.root.known("root")? {
            return Ok(root.to_owned());
        }
        if let Some(root) = std::env::var_os(ROOT_ENV).filter(|r| !r.is_empty()) {
            return std::path::absolute(root).or_diag(format!("{ROOT_ENV} is no path"));
        }
        default_root().ok_or_else(|| {
            let detail =
                "Neither XDG_STATE_HOME nor HOME is set. Set local { root } in the provider block.";
            Diagnostic::error("No place for local fleets", detail).into()
        })
    }

    /// The root for messages.
    pub(crate) fn shown_root(&self) -> String {
        self.root()
            .map_or_else(|_| "the local root".to_owned(), |r| r.display().to_string())
    }

    /// The agent's program: as set, else beside the provider, else on PATH.
    pub(crate) fn program_path(&self) -> Result<PathBuf, Diagnostics> {
        if let Some(path) = self.agent_binary.known("agent_binary")? {
            return Ok(path.to_owned());
        }
        let beside = std::env::current_exe()
            .ok()
            .and_then(|exe| Some(exe.parent()?.join(BINARY)));
        let on_path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&on_path)
            .map(|dir| dir.join(BINARY))
            .filter(|p| p.is_absolute());
        beside.into_iter().chain(on_path).find(|p| p.is_file()).ok_or_else(|| {
            let detail = "It is neither beside the provider's binary nor on PATH. Install it, or set \
                          local { agent_binary } in the provider block.";
            Diagnostic::error(format!("The agent {BINARY:?} was not found"), detail).into()
        })
    }

    /// The agent's program with its checksum, computed once in this process.
    pub(crate) fn program(&self) -> Result<Program, Diagnostics> {
        if let Some(program) = self.checksum.get() {
            return Ok(program.clone());
        }
        let path = self.program_path()?;
        let program = checksum(&path).or_diag(format!(
            "The agent's program {} cannot be read",
            path.display()
        ))?;
        Ok(self.checksum.get_or_init(|| program).clone())
    }

    /// The driver of this machine. Making it touches nothing.
    pub(crate) fn cloud(&self) -> Result<&LocalCloud, Diagnostics> {
        if let Some(cloud) = self.cloud.get() {
            return Ok(cloud);
        }
        let root = self.root()?;
        // Listing and terminating need no program: a missing one shows when something is launched.
        let program = self
            .program_path()
            .unwrap_or_else(|_| PathBuf::from(BINARY));
        let mut options = LocalOptions::new(root.clone(), program, Vec::new());
        // Leads take no GPUs: their launches only have to keep out of each other's way in this root.
        options.machine = root.join(".machine");
        Ok(self.cloud.get_or_init(|| LocalCloud::new(options)))
    }

    /// What this machine knows of an instance; `None` when it is gone.
    pub(crate) fn here(&self, id: &InstanceId) -> Result<Option<Here>, Diagnostics> {
        let Some(data_dir) = self.cloud()?.data_dir(id) else {
            return Ok(None);
        };
        let tried = || format!("Cannot read {}", data_dir.display());
        let manifest: Manifest = match std::fs::read(data_dir.join("instance.json")) {
            Ok(text) => serde_json::from_slice(&text).or_diag(tried())?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).or_diag(tried()),
        };
        let program = Program {
            path: manifest.binary.path,
            sha256: manifest.binary.sha256,
        };
        Ok(Some(Here { data_dir, program }))
    }
}

fn default_root() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/gpuloom/local"));
    }
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute());
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state"));
    Some(state.or_else(home)?.join("gpuloom/local"))
}

/// The program at `path` with links followed, as the driver notes it; the file is read in pieces.
fn checksum(path: &Path) -> std::io::Result<Program> {
    let path = std::fs::canonicalize(path)?;
    let before = stamp(&path)?;
    let mut file = std::fs::File::open(&path)?;
    let mut digest = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut piece)? {
            0 => break,
            n => digest.update(&piece[..n]),
        }
    }
    if stamp(&path)? != before {
        return Err(std::io::Error::other("it changed while it was read"));
    }
    Ok(Program {
        path,
        sha256: hex::encode(digest.finalize()),
    })
}

fn stamp(path: &Path) -> std::io::Result<(u64, SystemTime)> {
    let meta = std::fs::metadata(path)?;
    Ok((meta.len(), meta.modified()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_checksum_is_that_of_its_file_whatever_link_leads_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::write(&file, b"abc").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        let program = checksum(&link).expect("read");
        assert_eq!(program.path, std::fs::canonicalize(&file).expect("there"));
        assert!(
            program.sha256.starts_with("ba7816bf8f01cfea"),
            "{}",
            program.sha256
        );
    }

    #[test]
    fn what_is_unknown_is_neither_a_path_nor_a_default() {
        let block = Value::object([("root", Value::unknown()), ("agent_binary", Value::Null)]);
        let local = Local::from_config(&block);
        assert!(local.is_unknown());
        assert!(local.root().is_err());
        assert!(!Local::from_config(&Value::Null).is_unknown());
    }
}
