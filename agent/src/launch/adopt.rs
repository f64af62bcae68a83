//! What an agent that starts finds of earlier attempts.
//!
//! ```text
//! ended.json                 -> Ended       reported until forgotten
//! exit.json                  -> Gone        seen to its end by its shim
//! other boot                 -> Gone(lost)
//! shim alive, started.json   -> Running     shim alive, none yet -> Starting
//! shim dead, processes left  -> Running     waited for; how it ends stays unknown
//! no shim                    -> Gone(lost)  the place is taken first: a late shim does nothing
//! ```

use super::error::{LaunchError, OnPath as _};
use super::launcher::Launcher;
use super::log_keep;
use super::record::{self, AttemptRecord, Exited, Started, StopRecord, read_json};
use super::stop::Gone;
use gpuloom_fleet::AttemptEnd;
use std::fs;
use std::path::Path;

/// An attempt found on disk.
#[derive(Debug, Clone)]
pub struct Adopted {
    /// What it runs.
    pub record: AttemptRecord,
    /// The order to stop it, when there was one.
    pub stop: Option<StopRecord>,
    /// Where it stands.
    pub found: Found,
    /// When its first process started, if it did.
    pub started: Option<Started>,
}

/// Where a found attempt stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Its shim lives and has not started the job yet.
    Starting,
    /// Processes of it live.
    Running {
        /// True when its shim is gone: how it ends will not be known.
        orphan: bool,
    },
    /// No process is left; its end is not recorded yet.
    Gone(Gone),
    /// It has ended; the lead may not have stored that yet.
    Ended(AttemptEnd),
}

// === impl Launcher ===

impl Launcher {
    /// Every attempt this node knows and was not told to forget, by id. Directories without a
    /// record (the agent died while it made them: nothing had started) are removed, and so are
    /// cgroups that no attempt needs.
    pub fn adopt(&self) -> Result<Vec<Adopted>, LaunchError> {
        let mut found = Vec::new();
        let attempts = &self.config().dir;
        for entry in fs::read_dir(attempts).on("list", attempts)? {
            let entry = entry.on("list", attempts)?;
            if !entry.file_type().on("look at", entry.path())?.is_dir() {
                continue;
            }
            let dir = entry.path();
            if log_keep::is_folder(&dir) {
                continue;
            }
            match read_json::<AttemptRecord>(&dir, record::SPEC)? {
                Some(record) if !self.is_forgotten(record.attempt) => {
                    found.push(self.look(&dir, record)?);
                }
                forgotten => {
                    let kept = self.kept_logs().keep(&dir);
                    kept.on("keep the logs of", &dir)?;
                    match forgotten {
                        Some(record) => self.hands().remove_dir(record.attempt, &dir)?,
                        // Nobody else's yet: no job was started in it.
                        None => fs::remove_dir_all(&dir).on("remove", &dir)?,
                    }
                }
            }
        }
        found.sort_by_key(|a| a.record.attempt);
        let keep = found.iter().map(|a| a.record.attempt.path_name());
        self.hands().remove_unused(keep.collect());
        Ok(found)
    }

    fn look(&self, dir: &Path, record: AttemptRecord) -> Result<Adopted, LaunchError> {
        let stop = read_json(dir, record::STOP)?;
        let started = read_json(dir, record::STARTED)?;
        let found = self.find(dir, &record, started.is_some())?;
        Ok(Adopted {
            record,
            stop,
            found,
            started,
        })
    }

    fn find(
        &self,
        dir: &Path,
        record: &AttemptRecord,
        has_started: bool,
    ) -> Result<Found, LaunchError> {
        if let Some(end) = read_json(dir, record::ENDED)? {
            return Ok(Found::Ended(end));
        }
        let exited = || read_json::<Exited>(dir, record::EXIT).map(|e| e.map(Gone::from));
        if let Some(gone) = exited()? {
            return Ok(Found::Gone(gone));
        }
        if record.boot_id != self.boot_id() {
            return Ok(Found::Gone(Gone::lost("the node was restarted")));
        }
        // Taking the shim's place settles whether one can still come.
        if self.take_place(record.attempt)? {
            self.hands()
                .remove_cgroup(record.attempt, &record.plan.fence)?;
            return Ok(Found::Gone(Gone::lost(
                "the agent ended before it had started the job",
            )));
        }
        if self.live_shim(record.attempt).is_some() {
            return Ok(if has_started {
                Found::Running { orphan: false }
            } else {
                Found::Starting
            });
        }
        // It may have recorded the end between the two looks.
        if let Some(gone) = exited()? {
            return Ok(Found::Gone(gone));
        }
        if record.plan.fence.is_populated(None) {
            return Ok(Found::Running { orphan: true });
        }
        self.hands()
            .remove_cgroup(record.attempt, &record.plan.fence)?;
        Ok(Found::Gone(Gone::lost(
            "its shim was killed, so nobody saw how its processes ended",
        )))
    }
}
