//! What is remembered of a fleet's creation, so that an interrupted one is taken up and never doubled.
//!
//! ```text
//! <root>/.create-<fleet>.json   written before the launch, removed when the fleet is first read back
//! ```
//! It is removed before the first object is declared, too: who declares knows the fleet, and another
//! configuration of the name must not take it for the rest of an interrupted creation, and end it.
//!
//! A note that is there at a creation is the rest of an interrupted one: its launch is repeated with
//! the same token, so that the same lead is adopted; without a note an existing lead is somebody's.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use gpuloom_cloud::{LaunchRequest, Offering, Role, Tags, Token, UserData, failpoint};
use gpuloom_fleet::{FleetName, PoolPlace};
use serde::{Deserialize, Serialize};
use tfplug::{Diagnostic, Diagnostics, OrDiag};

use crate::configure::Settings;

/// What is remembered of a creation from before its launch until it is read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::resources) struct Note {
    pub(super) v: u32,
    pub(super) token: Token,
    /// As configured, with any port filled in.
    pub(super) listen: SocketAddr,
    pub(super) simulate: Option<String>,
    pub(super) labels: Tags,
    pub(super) admin_public_key: String,
}

// === impl Note ===

impl Note {
    pub(super) fn path(settings: &Settings, fleet: &str) -> Result<PathBuf, Diagnostics> {
        Ok(settings.local.root()?.join(format!(".create-{fleet}.json")))
    }

    pub(super) fn load(path: &Path) -> Result<Option<Self>, Diagnostics> {
        let tried = || {
            format!(
                "The note of an interrupted creation, {}, does not read",
                path.display()
            )
        };
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).or_diag(tried()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).or_diag(tried()),
        }
    }

    /// Writes it whole and durably.
    pub(super) fn store(&self, path: &Path) -> std::io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory)?;
        let new = path.with_extension("new");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        std::fs::File::open(directory)?.sync_all()
    }

    /// The fleet was read back: creating it again would be a mistake from now on.
    pub(super) fn confirm(settings: &Settings, fleet: &str) -> Result<(), Diagnostics> {
        failpoint::hit("provider.fleet.confirm.before");
        Self::remove(settings, fleet)?;
        failpoint::hit("provider.fleet.confirm.after");
        Ok(())
    }

    /// Something is about to be declared to the fleet of this id: it is in use from now on.
    pub(in crate::resources) async fn in_use(
        settings: &Settings,
        fleet: &str,
        id: &str,
    ) -> Result<(), Diagnostics> {
        // A fleet elsewhere needs no root here.
        let noted = Self::path(settings, fleet).is_ok_and(|p| p.exists());
        if !noted {
            return Ok(());
        }
        let here = settings.local.fleet(fleet).await?;
        match here.and_then(|f| f.connection) {
            Some(here) if here.id == id => Self::remove(settings, fleet),
            _ => Ok(()),
        }
    }

    /// Forgets it; one that is not there is fine.
    pub(super) fn remove(settings: &Settings, fleet: &str) -> Result<(), Diagnostics> {
        let path = Self::path(settings, fleet)?;
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).or_diag(format!("Cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// The note of this creation without its token and port, which a second try keeps.
    pub(super) fn says_the_same(&self, other: &Self, any_port: bool) -> bool {
        let same_listen = if any_port {
            self.listen.ip() == other.listen.ip()
        } else {
            self.listen == other.listen
        };
        same_listen
            && self.simulate == other.simulate
            && self.labels == other.labels
            && self.admin_public_key == other.admin_public_key
    }

    pub(super) fn request(
        &self,
        fleet: FleetName,
        root: &Path,
    ) -> Result<LaunchRequest, Diagnostics> {
        Ok(LaunchRequest {
            token: self.token.clone(),
            user_data: UserData {
                config: self.config(&fleet, root)?,
                join_token: None,
                script: String::new(),
            },
            fleet,
            pool: None,
            role: Role::Lead,
            fleet_id: String::new(),
            offerings: vec![Offering("local/lead".to_owned())],
            place: PoolPlace::Local,
            gpu: None,
            labels: self.labels.clone(),
            revision: String::new(),
            data_disk: None,
        })
    }

    /// The lead's configuration. JSON strings of what is in it are TOML strings, too.
    fn config(&self, fleet: &FleetName, root: &Path) -> Result<String, Diagnostics> {
        let root = root.to_str().ok_or_else(|| {
            Diagnostic::error("The local root is not UTF-8", root.display().to_string())
        })?;
        let text = |s: &str| serde_json::Value::from(s).to_string();
        let simulate = self
            .simulate
            .as_deref()
            .map(|s| format!("simulate = {}\n", text(s)));
        Ok(format!(
            "instance_id = {{{{instance_id}}}}\ndata_dir = {{{{data_dir}}}}\nlisten = {}\n\n[fleet]\nname = {}\n\n\
             [lead]\nadmin_public_key = {}\n{}local_root = {}\n",
            text(&self.listen.to_string()),
            text(fleet.as_str()),
            text(&self.admin_public_key),
            simulate.unwrap_or_default(),
            text(root),
        ))
    }
}

/// A text setting of the configuration we wrote: `key = "value"` on a line of its own.
pub(super) fn setting(config: &str, key: &str) -> Option<String> {
    let value = config
        .lines()
        .find_map(|l| l.strip_prefix(key)?.trim_start().strip_prefix('='))?;
    serde_json::from_str(value.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        Note {
            v: 1,
            token: Token::new("abc").expect("a token"),
            listen: "127.0.0.1:4000".parse().expect("an address"),
            simulate: Some("8xT4".to_owned()),
            labels: Tags::default(),
            admin_public_key: "key".to_owned(),
        }
    }

    #[test]
    fn a_note_outlives_its_process_and_is_adopted_only_for_the_same_fleet() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("root/.create-ml.json");
        assert_eq!(Note::load(&path).expect("reads"), None);
        note().store(&path).expect("written");
        let old = Note::load(&path).expect("reads").expect("there");
        assert_eq!(old, note());
        let port = |p| Note {
            listen: SocketAddr::new(note().listen.ip(), p),
            ..note()
        };
        assert!(old.says_the_same(&port(0), true));
        assert!(!old.says_the_same(&port(4001), false));
        assert!(!old.says_the_same(
            &Note {
                simulate: None,
                ..note()
            },
            true
        ));
    }

    #[test]
    fn what_the_lead_is_told_reads_back() {
        let fleet = FleetName::new("ml").expect("a name");
        let config = note().config(&fleet, Path::new("/r \"q\"")).expect("UTF-8");
        let assigned = "instance_id = {{instance_id}}\ndata_dir = {{data_dir}}\n";
        assert!(config.starts_with(assigned), "{config}");
        assert_eq!(
            setting(&config, "listen").as_deref(),
            Some("127.0.0.1:4000")
        );
        assert_eq!(setting(&config, "simulate").as_deref(), Some("8xT4"));
        assert_eq!(setting(&config, "local_root").as_deref(), Some("/r \"q\""));
        assert_eq!(setting(&config, "name").as_deref(), Some("ml"));
    }
}
