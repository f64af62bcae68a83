//! Live prices: Azure's retail prices and AWS's offer files without credentials, Google's billing catalog with an
//! API key.

mod aws;
mod azure;
mod csv;
mod gcp;
mod http;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt;
use std::time::Duration;

use gpuloom_fleet::Millis;

use crate::catalog::{Catalog, CloudKind};
use crate::price::Quote;
use http::Http;

/// Longest time that one region (of Google Cloud: all of them) may take.
pub const REGION_TIMEOUT: Duration = Duration::from_secs(900);

/// Longest wait for a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for the next bytes.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest page of a paged list, in bytes.
pub const MAX_PAGE_BYTES: u64 = 32 << 20;

/// Most pages of one list.
pub const MAX_PAGES: usize = 400;

/// Largest offer file, in bytes. It is read in pieces and never held whole.
pub const MAX_OFFER_BYTES: u64 = 8 << 30;

/// Longest line of an offer file, in bytes.
pub const MAX_LINE_BYTES: usize = 64 << 10;

/// Most quotes from one refresh.
pub const MAX_QUOTES: usize = 100_000;

/// A region of a cloud.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// The cloud.
    pub cloud: CloudKind,
    /// The region or location.
    pub region: String,
}

/// Where to ask; the default is the public addresses.
#[derive(Clone, PartialEq, Eq)]
pub struct LiveOptions {
    /// Azure Retail Prices, without a path.
    pub azure: String,
    /// AWS's price list files, without a path.
    pub aws: String,
    /// Google's billing catalog, without a path.
    pub gcp: String,
    /// The key of Google's billing catalog; without one Google Cloud's prices stay as they are. Never shown.
    pub gcp_api_key: Option<String>,
    /// How long a region may take.
    pub timeout: Duration,
}

/// Asks public price lists.
#[derive(Debug)]
pub struct LivePrices {
    http: Http,
    options: LiveOptions,
}

/// What the lists said.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// Prices of machines that the catalog knows.
    pub quotes: Vec<Quote>,
    /// Regions that gave nothing, and why: their prices stay as they were.
    pub failed: Vec<(Scope, LiveError)>,
}

/// A price list that could not be read. Nothing of it is used.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// It did not answer in time, or the connection broke.
    #[error("{url}: no answer")]
    NoAnswer {
        /// What was asked.
        url: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It answered no.
    #[error("{url}: status {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The answer.
        status: u16,
    },
    /// It is not what such a list looks like.
    #[error("{url}: {what}")]
    Unreadable {
        /// What was asked.
        url: String,
        /// What was expected, and what was there.
        what: String,
    },
    /// It is larger than any such list is.
    #[error("{url}: more than {limit} {unit}")]
    TooLarge {
        /// What was asked.
        url: String,
        /// The limit.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// It took longer than it may.
    #[error("not done within {0:?}")]
    TimedOut(Duration),
    /// Google's catalog wants a key.
    #[error(
        "Google's billing catalog needs an API key: set GPULOOM_GCP_API_KEY, or use the embedded prices"
    )]
    NoKey,
    /// No client can be made on this machine.
    #[error("no HTTPS client can be made: {0}")]
    Client(String),
}

// === impl LivePrices ===

impl LivePrices {
    /// A client of `options`' lists.
    ///
    /// # Errors
    /// [`LiveError::Client`] when this machine has no usable certificates.
    pub fn new(options: LiveOptions) -> Result<Self, LiveError> {
        Ok(Self {
            http: Http::new()?,
            options,
        })
    }

    /// Asks the lists of `scopes` for the prices of `catalog`'s machines. `now` becomes the date of each price.
    /// A list that fails costs only its own region.
    pub async fn refresh(&self, catalog: &Catalog, scopes: &[Scope], now: Millis) -> Refreshed {
        let mut refreshed = Refreshed::default();
        for scope in scopes {
            match scope.cloud {
                CloudKind::Gcp => continue,
                CloudKind::Aws | CloudKind::Azure => {
                    let asked = self.region(catalog, scope, now);
                    let asked = self.in_time(asked).await;
                    refreshed.take(asked, std::slice::from_ref(scope));
                }
            }
        }
        let google: Vec<Scope> = scopes
            .iter()
            .filter(|s| s.cloud == CloudKind::Gcp)
            .cloned()
            .collect();
        if !google.is_empty() {
            // One list says it for all regions.
            let asked = gcp::quotes(&self.http, &self.options, catalog, &google, now);
            let asked = self.in_time(asked).await;
            refreshed.take(asked, &google);
        }
        refreshed
    }

    async fn region(
        &self,
        catalog: &Catalog,
        scope: &Scope,
        now: Millis,
    ) -> Result<Vec<Quote>, LiveError> {
        match scope.cloud {
            CloudKind::Aws => {
                aws::quotes(&self.http, &self.options.aws, catalog, &scope.region, now).await
            }
            _ => azure::quotes(&self.http, &self.options.azure, catalog, &scope.region, now).await,
        }
    }

    async fn in_time<T>(
        &self,
        asked: impl Future<Output = Result<T, LiveError>>,
    ) -> Result<T, LiveError> {
        let limit = self.options.timeout;
        tokio::time::timeout(limit, asked)
            .await
            .unwrap_or(Err(LiveError::TimedOut(limit)))
    }
}

// === impl Refreshed ===

impl Refreshed {
    fn take(&mut self, asked: Result<Vec<Quote>, LiveError>, scopes: &[Scope]) {
        match asked {
            Ok(quotes) => {
                let room = MAX_QUOTES.saturating_sub(self.quotes.len());
                self.quotes.extend(quotes.into_iter().take(room));
            }
            Err(error) => {
                tracing::warn!(scopes = %list(scopes), error = %say(&error), "no live prices");
                let mut scopes = scopes.iter().cloned();
                // The cause stands with the first; the others say where it stands.
                let Some(first) = scopes.next() else { return };
                let text = error.to_string();
                let others = scopes.map(|s| {
                    let what = text.clone();
                    let url = format!("as for {first}");
                    (s, LiveError::Unreadable { url, what })
                });
                let others: Vec<_> = others.collect();
                self.failed.push((first, error));
                self.failed.extend(others);
            }
        }
    }
}

fn list(scopes: &[Scope]) -> String {
    let names: Vec<String> = scopes.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// An error and its causes, as one line.
fn say(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

// === impl Scope, LiveOptions ===

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cloud, self.region)
    }
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            azure: "https://prices.azure.com".to_owned(),
            aws: "https://pricing.us-east-1.amazonaws.com".to_owned(),
            gcp: "https://cloudbilling.googleapis.com".to_owned(),
            gcp_api_key: None,
            timeout: REGION_TIMEOUT,
        }
    }
}

impl fmt::Debug for LiveOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.gcp_api_key.as_ref().map(|_| "(hidden)");
        f.debug_struct("LiveOptions")
            .field("azure", &self.azure)
            .field("aws", &self.aws)
            .field("gcp", &self.gcp)
            .field("gcp_api_key", &key)
            .field("timeout", &self.timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests;
