//! An instance's directory: made whole before it appears, gone whole before it disappears.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use gpuloom_cloud::{Instance, InstanceState, LaunchRequest, Offering, Role, Tags, Token};
use gpuloom_fleet::{DeviceId, FleetName, InstanceId, Millis, PoolName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::lock;

/// Longest attribute that is read, in bytes.
const ATTRIBUTE_BYTES: u64 = 64 * 1024;

/// `instance.json`: what the instance is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) v: u32,
    pub(crate) id: InstanceId,
    pub(crate) token: Token,
    pub(crate) fleet: FleetName,
    pub(crate) pool: Option<PoolName>,
    pub(crate) role: Role,
    pub(crate) offering: Offering,
    pub(crate) tags: Tags,
    pub(crate) gpus: Vec<DeviceId>,
    pub(crate) binary: Binary,
    pub(crate) launched_at: Millis,
}

/// The program that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binary {
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
}

// === impl Manifest ===

impl Manifest {
    pub(crate) fn instance(&self, state: InstanceState) -> Instance {
        Instance {
            id: self.id.clone(),
            token: self.token.clone(),
            offering: self.offering.clone(),
            tags: self.tags.clone(),
            state,
            launched_at: self.launched_at,
            pool: self.pool.clone(),
            role: self.role,
            private_address: None,
            public_address: None,
        }
    }

    /// `NotFound` when there is no such instance.
    pub(crate) fn read(dir: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(
            dir.join("instance.json"),
        )?)?)
    }

    /// Replaces the file whole.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let new = dir.join("instance.json.new");
        write_new(&new, &serde_json::to_vec_pretty(self)?, 0o644)?;
        std::fs::rename(new, dir.join("instance.json"))?;
        sync(dir)
    }
}

// === functions ===

/// The id an instance of this request has: `lead-<fleet>` or `<pool>-<8 hex digits of the token's SHA-256>`.
pub(crate) fn id_of(request: &LaunchRequest) -> Result<InstanceId, String> {
    let digest = hex::encode(Sha256::digest(request.token.as_str()));
    let id = match (request.role, &request.pool) {
        (Role::Lead, _) => format!("lead-{}", request.fleet),
        (Role::Node, Some(pool)) => format!("{pool}-{}", &digest[..8]),
        (Role::Node, None) => return Err("a node is launched for a pool: name it".to_owned()),
    };
    InstanceId::new(id).map_err(|e| e.to_string())
}

/// Where the instance `id` is or would be; an id that is no plain file name is nowhere.
pub(crate) fn of(root: &Path, id: &InstanceId) -> Option<PathBuf> {
    (!id.as_str().starts_with('.')).then(|| root.join(id.as_str()))
}

/// Every whole instance of `root`, ordered by id; those being made or removed are not among them.
pub(crate) fn manifests(root: &Path) -> io::Result<Vec<Manifest>> {
    let mut found = Vec::new();
    for name in names(root)? {
        if name.starts_with('.') {
            continue;
        }
        match Manifest::read(&root.join(&name)) {
            Ok(manifest) => found.push(manifest),
            // Something else lies here, or it was removed meanwhile.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(e) => {
                let text = format!(
                    "{name}/instance.json under {} does not read: {e}",
                    root.display()
                );
                return Err(io::Error::new(e.kind(), text));
            }
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

/// Where the instance in `dir` stands.
pub(crate) fn state(dir: &Path) -> io::Result<InstanceState> {
    Ok(if dir.join("terminating").exists() {
        InstanceState::Terminating
    } else if lock::is_held(&dir.join("lock"))? {
        InstanceState::Running
    } else {
        InstanceState::Stopped
    })
}

/// Makes the directory under a name nobody looks at; [`publish`] shows it.
pub(crate) fn stage(
    root: &Path,
    manifest: &Manifest,
    request: &LaunchRequest,
) -> io::Result<PathBuf> {
    let staged = root.join(format!(".new-{}", manifest.id));
    remove(&staged)?;
    std::fs::create_dir(&staged)?;
    std::fs::set_permissions(&staged, Permissions::from_mode(0o711))?;
    std::fs::create_dir(staged.join("attributes"))?;
    let data_dir = root.join(manifest.id.as_str());
    let config = fill(
        &request.user_data.config,
        &manifest.id,
        &data_dir,
        &manifest.gpus,
    )?;
    write_new(&staged.join("agent.toml"), config.as_bytes(), 0o600)?;
    if let Some(token) = &request.user_data.join_token {
        write_new(&staged.join("join-token"), token.as_bytes(), 0o600)?;
    }
    manifest.write(&staged)?;
    Ok(staged)
}

/// Shows a staged directory, durably.
pub(crate) fn publish(root: &Path, staged: &Path, id: &InstanceId) -> io::Result<PathBuf> {
    let dir = root.join(id.as_str());
    std::fs::rename(staged, &dir)?;
    sync(root)?;
    Ok(dir)
}

/// Removes what earlier launches and terminations left when they were cut off. Call under the machine's lock.
pub(crate) fn tidy(root: &Path) -> io::Result<()> {
    for name in names(root)? {
        if name.starts_with(".new-") || name.starts_with(".gone-") {
            remove(&root.join(name))?;
        }
    }
    Ok(())
}

/// Removes the files of instances whose end was verified. Needs no lock: nobody makes anything of them any more.
pub(crate) fn remove_gone(root: &Path) -> io::Result<()> {
    let gone = names(root)?
        .into_iter()
        .filter(|name| name.starts_with(".gone-"));
    gone.into_iter()
        .try_for_each(|name| remove(&root.join(name)))
}

/// The directory's end in the eyes of everyone, durably; its files are removed afterwards.
pub(crate) fn retire(root: &Path, id: &InstanceId) -> io::Result<PathBuf> {
    let gone = root.join(format!(".gone-{id}"));
    remove(&gone)?;
    match std::fs::rename(root.join(id.as_str()), &gone) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => sync(root).map(|()| gone),
    }
}

/// Removes a directory with all in it; one that is gone is fine.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// What the agent wrote under `attributes/<key>`, without the line's end.
pub(crate) fn attribute(dir: &Path, key: &str) -> io::Result<Option<String>> {
    let path = attribute_path(dir, key)?;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(file, ATTRIBUTE_BYTES), &mut text)?;
    Ok(Some(text.trim_end_matches('\n').to_owned()))
}

/// Replaces the attribute whole, durably.
pub(crate) fn write_attribute(dir: &Path, key: &str, value: &str) -> io::Result<()> {
    let path = attribute_path(dir, key)?;
    let new = dir.join("attributes").join(format!(".{key}.new"));
    write_new(&new, value.as_bytes(), 0o644)?;
    std::fs::rename(new, path)?;
    sync(&dir.join("attributes"))
}

fn attribute_path(dir: &Path, key: &str) -> io::Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if key.is_empty() || key.starts_with('.') || !key.chars().all(plain) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{key:?} is no attribute's name"),
        ));
    }
    Ok(dir.join("attributes").join(key))
}

/// A new file of its own, on disk when this returns; replaces an unfinished one.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Names in `dir` become durable.
pub(crate) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Puts what the driver knows into the configuration. A JSON string of a path or an id is a TOML string too.
fn fill(template: &str, id: &InstanceId, dir: &Path, gpus: &[DeviceId]) -> io::Result<String> {
    let dir = dir.to_str().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is not UTF-8", dir.display()),
        )
    })?;
    Ok(template
        .replace("{{instance_id}}", &serde_json::to_string(id.as_str())?)
        .replace("{{data_dir}}", &serde_json::to_string(dir)?)
        .replace("{{gpus}}", &serde_json::to_string(gpus)?))
}

/// File names in `dir`; a missing directory has none.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    entries
        .map(|e| e.map(|e| e.file_name().to_string_lossy().into_owned()))
        .collect()
}
