//! What a lead would have in its store: launches before they are sent, their outcome, and terminations.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "did")]
pub(crate) enum Entry {
    /// This attempt of a launch is about to be sent.
    Sent {
        /// The launch.
        launch: u64,
        /// Its attempt.
        attempt: u32,
    },
    /// It gave this instance: an operation.
    Launched {
        /// The launch.
        launch: u64,
        /// The instance.
        instance: String,
    },
    /// Nothing of this attempt exists.
    Refused {
        /// The launch.
        launch: u64,
        /// Its attempt.
        attempt: u32,
    },
    /// An instance is about to be ended.
    Ending {
        /// Which.
        instance: String,
    },
    /// It is gone: an operation.
    Ended {
        /// Which.
        instance: String,
    },
}

/// The lines so far, and what they come to.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    file: Option<File>,
    /// The next launch's number.
    pub(crate) next: u64,
    /// Launches without an instance: their last attempt, and whether it was refused.
    pub(crate) open: BTreeMap<u64, (u32, bool)>,
    /// Instances that should exist.
    pub(crate) live: BTreeSet<String>,
    /// Those of them whose end has begun.
    pub(crate) ending: BTreeSet<String>,
    /// Launches and terminations that are done.
    pub(crate) done: u64,
    /// Instances that two launches gave.
    pub(crate) shared: Vec<String>,
    seen: BTreeSet<String>,
}

// === impl Journal ===

impl Journal {
    /// Reads what is there; a last line that was cut off counts for nothing.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut journal = Self::read(path)?;
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        journal.file = Some(file);
        // Whatever was cut off ends here.
        if let Some(file) = &mut journal.file {
            file.write_all(b"\n")?;
        }
        Ok(journal)
    }

    /// Reads without writing.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        let mut journal = Self::default();
        for entry in text.lines().filter_map(|l| serde_json::from_str(l).ok()) {
            journal.take(entry);
        }
        Ok(journal)
    }

    /// Writes a line; it is with the system when this returns, and outlives our being killed.
    pub(crate) fn note(&mut self, entry: Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        if let Some(file) = &mut self.file {
            file.write_all(&line)?;
        }
        self.take(entry);
        Ok(())
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Sent { launch, attempt } => {
                self.next = self.next.max(launch + 1);
                self.open.insert(launch, (attempt, false));
            }
            Entry::Refused { launch, attempt } => {
                self.open.insert(launch, (attempt, true));
            }
            Entry::Launched { launch, instance } => {
                if self.open.remove(&launch).is_some() {
                    self.done += 1;
                    if !self.seen.insert(instance.clone()) {
                        self.shared.push(instance.clone());
                    }
                    self.live.insert(instance);
                }
            }
            Entry::Ending { instance } => {
                self.ending.insert(instance);
            }
            Entry::Ended { instance } => {
                self.ending.remove(&instance);
                if self.live.remove(&instance) {
                    self.done += 1;
                }
            }
        }
    }
}
