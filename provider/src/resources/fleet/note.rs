//! What is remembered of a lead's launch, so that an interrupted one is taken up and never doubled.
//!
//! ```text
//! <root>/.create-<fleet>.json           written before the launch, removed when the fleet is first read back
//! <root>/.create-<fleet>@<place>.json   the same of a lead on a cloud
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

use gpuloom_cloud::{LaunchId, Tags, Token, failpoint};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tfplug::{Diagnostics, OrDiag};

use crate::clouds::shown;
use crate::configure::Settings;
use crate::convert::Site;
use crate::lead_instance;

/// What is remembered of a launch from before it is sent until its fleet is read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::resources) struct Note {
    pub(super) v: u32,
    /// Of the process that began it; part of every token.
    pub(super) salt: String,
    /// Of the fleet's name; part of every token.
    pub(super) launch: u64,
    /// Counts what was tried; each try has a token of its own.
    pub(super) attempt: u32,
    /// As configured, on this machine with any port filled in.
    pub(super) site: Site,
    pub(super) labels: Tags,
    pub(super) admin_public_key: String,
}

// === impl Note ===

impl Note {
    /// A launch that nothing was tried of yet.
    pub(super) fn new(
        settings: &Settings,
        fleet: &str,
        site: Site,
        labels: Tags,
    ) -> Result<Self, Diagnostics> {
        let digest = Sha256::digest(fleet);
        let launch = digest[..4].iter().fold(0, |n, b| n << 8 | u64::from(*b));
        Ok(Self {
            v: 2,
            salt: settings.session.clone(),
            launch,
            attempt: 1,
            site,
            labels,
            admin_public_key: settings.key()?.public_key().to_string(),
        })
    }

    /// The token of the current try.
    pub(super) fn token(&self) -> Token {
        Token::of(&self.salt, LaunchId(self.launch), self.attempt)
    }

    /// Whether an instance with this token came of any try of this launch.
    pub(super) fn made(&self, token: &Token) -> bool {
        (1..=self.attempt).any(|n| Token::of(&self.salt, LaunchId(self.launch), n) == *token)
    }

    pub(super) fn path(
        settings: &Settings,
        site: &Site,
        fleet: &str,
    ) -> Result<PathBuf, Diagnostics> {
        let root = settings.local.root()?;
        Ok(root.join(match site {
            Site::Local(_) => format!(".create-{fleet}.json"),
            Site::Cloud(site) => {
                let place = hex::encode(Sha256::digest(shown(&site.place)));
                format!(".create-{fleet}@{}-{}.json", site.place.kind(), &place[..8])
            }
        }))
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
    pub(super) fn store(&self, path: &Path) -> Result<(), Diagnostics> {
        failpoint::hit("provider.fleet.note.before");
        self.write(path)
            .or_diag(format!("Cannot write {}", path.display()))?;
        failpoint::hit("provider.fleet.note.after");
        Ok(())
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
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
        std::fs::rename(new, path)?;
        std::fs::File::open(directory)?.sync_all()
    }

    /// The fleet was read back: creating it again would be a mistake from now on.
    pub(super) fn confirm(
        settings: &Settings,
        site: &Site,
        fleet: &str,
    ) -> Result<(), Diagnostics> {
        failpoint::hit("provider.fleet.confirm.before");
        Self::remove(settings, site, fleet)?;
        failpoint::hit("provider.fleet.confirm.after");
        Ok(())
    }

    /// Something is about to be declared to the fleet of this id: it is in use from now on.
    pub(in crate::resources) async fn in_use(
        settings: &Settings,
        fleet: &str,
        id: &str,
    ) -> Result<(), Diagnostics> {
        if let Some(at) = settings.seen(id)
            && at.site.cloud().is_some()
        {
            return Self::remove(settings, &at.site, &at.name);
        }
        let site = Site::Local(Default::default());
        // A fleet elsewhere needs no root here.
        let noted = Self::path(settings, &site, fleet).is_ok_and(|p| p.exists());
        if !noted {
            return Ok(());
        }
        let here = lead_instance::find(settings, &site, fleet).await?;
        match here.and_then(|f| f.connection) {
            Some(here) if here.id == id => Self::remove(settings, &site, fleet),
            _ => Ok(()),
        }
    }

    /// Forgets it; one that is not there is fine.
    pub(super) fn remove(settings: &Settings, site: &Site, fleet: &str) -> Result<(), Diagnostics> {
        let path = Self::path(settings, site, fleet)?;
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).or_diag(format!("Cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Whether this is the launch that `other` begins: without its tokens and, for any port, its port.
    pub(super) fn says_the_same(&self, other: &Self, any_port: bool) -> bool {
        let same_site = match (&self.site, &other.site) {
            (Site::Local(a), Site::Local(b)) => {
                let address = |s: &Option<String>| s.as_ref()?.parse::<SocketAddr>().ok();
                let (x, y) = (address(&a.listen), address(&b.listen));
                let same_listen = match (x, y) {
                    (Some(x), Some(y)) if any_port => x.ip() == y.ip(),
                    (x, y) => x == y,
                };
                same_listen && a.simulate == b.simulate
            }
            (Site::Cloud(a), Site::Cloud(b)) => {
                a.place.without_endpoint() == b.place.without_endpoint()
                    && a.data_disk_gib == b.data_disk_gib
            }
            _ => false,
        };
        same_site && self.labels == other.labels && self.admin_public_key == other.admin_public_key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::LocalSite;

    fn note() -> Note {
        Note {
            v: 2,
            salt: "abc".to_owned(),
            launch: 7,
            attempt: 2,
            site: Site::Local(LocalSite {
                listen: Some("127.0.0.1:4000".to_owned()),
                simulate: Some("8xT4".to_owned()),
            }),
            labels: Tags::default(),
            admin_public_key: "key".to_owned(),
        }
    }

    fn listening(port: u16, simulate: Option<&str>) -> Note {
        Note {
            site: Site::Local(LocalSite {
                listen: Some(format!("127.0.0.1:{port}")),
                simulate: simulate.map(str::to_owned),
            }),
            ..note()
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
        assert!(old.says_the_same(&listening(0, Some("8xT4")), true));
        assert!(!old.says_the_same(&listening(4001, Some("8xT4")), false));
        assert!(!old.says_the_same(&listening(0, None), true));
    }

    #[test]
    fn every_try_has_a_token_of_its_own_and_all_of_them_are_its_own() {
        let first = Note {
            attempt: 1,
            ..note()
        };
        assert_ne!(first.token(), note().token());
        assert!(note().made(&first.token()));
        assert!(!first.made(&note().token()));
        assert!(!note().made(&Token::new("another").expect("a token")));
    }
}
