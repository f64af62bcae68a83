//! Live prices between runs: a file of dated quotes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use gpuloom_fleet::{Millis, Seconds};
use serde::{Deserialize, Serialize};

use crate::live::MAX_QUOTES;
use crate::price::Quote;

/// Quotes older than this are dropped: the embedded catalog is as good.
pub const KEPT_FOR: Seconds = Seconds(365 * 86_400);

/// Largest file that is read, in bytes.
pub const MAX_CACHE_BYTES: u64 = 64 << 20;

const VERSION: u32 = 1;

/// A file of quotes. One that does not exist is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    path: PathBuf,
}

/// A cache that cannot be used; live prices are asked for anew without it.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Reading or writing failed.
    #[error("{path}: cannot be {what}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// It is not a cache of prices of this version: remove it.
    #[error("{path}: not a cache of prices ({what}); remove it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was there.
        what: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    quotes: Vec<Quote>,
}

// === impl Cache ===

impl Cache {
    /// The cache in `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The quotes in it; none when there is no file.
    ///
    /// # Errors
    /// [`CacheError`] when it cannot be read, is larger than [`MAX_CACHE_BYTES`] or of another kind.
    pub fn load(&self) -> Result<Vec<Quote>, CacheError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.io("opened", e)),
        };
        let mut text = Vec::new();
        file.take(MAX_CACHE_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(|e| self.io("read", e))?;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_CACHE_BYTES {
            return Err(self.unreadable(format!("more than {MAX_CACHE_BYTES} bytes")));
        }
        let kept: Kept =
            serde_json::from_slice(&text).map_err(|e| self.unreadable(e.to_string()))?;
        if kept.version != VERSION {
            return Err(self.unreadable(format!("version {}", kept.version)));
        }
        Ok(kept.quotes)
    }

    /// Puts `quotes` beside those that are there, the newest of each machine, region and market; drops what is
    /// older at `now` than [`KEPT_FOR`]. A file that does not read is replaced. Readers see the old file or the new.
    ///
    /// # Errors
    /// [`CacheError::Io`] when it cannot be written.
    pub fn store(&self, quotes: &[Quote], now: Millis) -> Result<(), CacheError> {
        let old = self.load().unwrap_or_else(|error| {
            tracing::warn!(%error, "prices are kept anew");
            Vec::new()
        });
        let mut newest: BTreeMap<_, Quote> = BTreeMap::new();
        let young = |q: &&Quote| q.at.plus(KEPT_FOR) >= now;
        for quote in old.iter().chain(quotes).filter(young) {
            let key = (
                quote.cloud,
                &quote.region,
                &quote.instance_type,
                quote.market,
            );
            let kept = newest.entry(key).or_insert_with(|| quote.clone());
            if kept.at <= quote.at {
                *kept = quote.clone();
            }
        }
        let kept = Kept {
            version: VERSION,
            quotes: newest.into_values().take(MAX_QUOTES).collect(),
        };
        self.replace(&kept)
    }

    fn replace(&self, kept: &Kept) -> Result<(), CacheError> {
        let text = serde_json::to_vec(kept).map_err(|e| self.io("written", e.into()))?;
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(|e| self.io("made room for", e))?;
        }
        let new = self
            .path
            .with_extension(format!("new-{}", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)
        };
        write().map_err(|e| {
            let _ = fs::remove_file(&new);
            self.io("written", e)
        })
    }

    fn io(&self, what: &'static str, source: std::io::Error) -> CacheError {
        CacheError::Io {
            path: self.path.clone(),
            what,
            source,
        }
    }

    fn unreadable(&self, what: String) -> CacheError {
        CacheError::Unreadable {
            path: self.path.clone(),
            what,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CloudKind;
    use gpuloom_fleet::{Market, MicroUsd};

    fn quote(region: &str, hourly: u64, at: u64) -> Quote {
        Quote {
            cloud: CloudKind::Azure,
            region: region.to_owned(),
            instance_type: "Standard_NC4as_T4_v3".to_owned(),
            market: Market::Spot,
            hourly: MicroUsd(hourly),
            at: Millis(at),
            source: "list".to_owned(),
        }
    }

    #[test]
    fn quotes_are_kept_the_newest_of_each_and_none_too_old() {
        let dir = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(dir.path().join("deep/prices.json"));
        assert_eq!(cache.load().expect("no file is empty"), []);
        let day = 86_400_000;
        cache
            .store(
                &[quote("eastus", 1, day), quote("westus", 2, day)],
                Millis(day),
            )
            .expect("written");
        let newer = [quote("eastus", 3, 2 * day), quote("westus", 9, 0)];
        cache.store(&newer, Millis(2 * day)).expect("written");
        assert_eq!(
            cache.load().expect("reads"),
            [quote("eastus", 3, 2 * day), quote("westus", 2, day)]
        );
        let later = Millis(2 * day + KEPT_FOR.0 * 1000);
        cache.store(&[], later).expect("written");
        assert_eq!(cache.load().expect("reads"), [quote("eastus", 3, 2 * day)]);
        let left = fs::read_dir(dir.path().join("deep"))
            .expect("there")
            .count();
        assert_eq!(left, 1, "no half-written file stays");
    }

    #[test]
    fn a_file_that_is_no_cache_is_an_error_to_read_and_replaced_by_writing() {
        let dir = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(dir.path().join("prices.json"));
        for text in ["", "{}", "{\"version\":2,\"quotes\":[]}", "[1"] {
            fs::write(cache.path(), text).expect("written");
            let error = cache.load().expect_err(text);
            assert!(error.to_string().contains("remove it"), "{error}");
        }
        cache
            .store(&[quote("eastus", 1, 5)], Millis(5))
            .expect("written");
        assert_eq!(cache.load().expect("reads").len(), 1);
    }
}
