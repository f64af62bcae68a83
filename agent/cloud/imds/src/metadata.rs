//! The client that all dialects share: one address, no proxy, bounded answers, bounded waits.

use crate::dialect::{Dialect, Facts};
use crate::error::{MetadataError, unreadable};
use crate::notice::{Clock, Notice};
use crate::{aws, azure, google};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// A connection that takes longer is given up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A call that takes longer is given up.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Azure's first look at scheduled events switches the service on and may take two minutes.
pub const FIRST_EVENTS_TIMEOUT: Duration = Duration::from_secs(130);
/// The most bytes of one answer.
pub const MAX_DOCUMENT_BYTES: usize = 256 << 10;

/// A cloud's word for which instance this is. Show it to nobody but the lead.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    /// Whose word.
    pub cloud: Dialect,
    /// AWS: the signed request as JSON; Google: the identity token; Azure: the attested document, base64.
    pub document: String,
}

/// A metadata service.
#[derive(Debug)]
pub struct Metadata {
    dialect: Dialect,
    base: String,
    http: Client,
    /// IMDSv2's session.
    pub(crate) session: Mutex<Option<aws::Session>>,
}

/// An answer: its status, its ETag and its text.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) etag: Option<String>,
    pub(crate) text: String,
}

// === impl Metadata ===

impl Metadata {
    /// The service of `dialect`, at its own address or at `endpoint` (`http://host:port`).
    pub fn new(dialect: Dialect, endpoint: Option<&str>) -> Result<Self, MetadataError> {
        let base = endpoint.unwrap_or(dialect.endpoint()).trim_end_matches('/');
        let host = base.strip_prefix("http://").unwrap_or_default();
        if host.is_empty() || host.contains('/') {
            return Err(MetadataError::Endpoint {
                endpoint: base.to_owned(),
            });
        }
        // The client wants a provider even for plain HTTP; an earlier one stays.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|source| MetadataError::Client { source })?;
        Ok(Self {
            dialect,
            base: base.to_owned(),
            http,
            session: Mutex::new(None),
        })
    }

    /// Whose service it is.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What the instance is. Unproven: anybody on the machine can pretend to be the service.
    pub async fn facts(&self) -> Result<Facts, MetadataError> {
        match self.dialect {
            Dialect::Aws => aws::facts(self).await,
            Dialect::Gcp => google::facts(self).await,
            Dialect::Azure => azure::facts(self).await,
        }
    }

    /// A proof of identity made for `challenge`: what AWS signs in a header, Google as the token's
    /// audience, Azure as the document's nonce (ten digits). `sts` is where the AWS request is
    /// signed for; `None`: the region's own. `NoIdentity` when the instance was given none.
    pub async fn proof(&self, challenge: &str, sts: Option<&str>) -> Result<Proof, MetadataError> {
        let document = match self.dialect {
            Dialect::Aws => aws::proof(self, challenge, sts).await?,
            Dialect::Gcp => google::proof(self, challenge).await?,
            Dialect::Azure => azure::proof(self, challenge).await?,
        };
        Ok(Proof {
            cloud: self.dialect,
            document,
        })
    }

    /// Tells in `told` everything that is announced, whenever that changes; for ever. What cannot
    /// be asked for a while counts as it was.
    pub async fn notices(&self, clock: Clock, told: watch::Sender<Arc<Vec<Notice>>>) {
        match self.dialect {
            Dialect::Aws => aws::watch(self, &told).await,
            Dialect::Gcp => google::watch(self, &clock, &told).await,
            Dialect::Azure => azure::watch(self, &clock, &told).await,
        }
    }

    /// Lets the events `ids` begin before their time: nothing here needs it any more. On AWS and
    /// Google there is nobody to tell, and nothing is done.
    pub async fn acknowledge(&self, ids: &[String]) -> Result<(), MetadataError> {
        match self.dialect {
            Dialect::Azure if !ids.is_empty() => azure::acknowledge(self, ids).await,
            _ => Ok(()),
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match self.dialect {
            Dialect::Aws => request,
            Dialect::Gcp => request.header("Metadata-Flavor", "Google"),
            Dialect::Azure => request.header("Metadata", "true"),
        }
    }

    /// Sends and reads a bounded answer within `timeout`.
    pub(crate) async fn send(
        &self,
        path: &str,
        request: RequestBuilder,
        timeout: Duration,
    ) -> Result<Answer, MetadataError> {
        let failed = |source| MetadataError::Unreachable {
            path: bare(path).to_owned(),
            source,
        };
        let mut response = request.timeout(timeout).send().await.map_err(failed)?;
        let status = response.status();
        let etag = response.headers().get("etag");
        let etag = etag.and_then(|e| e.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_DOCUMENT_BYTES {
                let why = format!("it has more than {MAX_DOCUMENT_BYTES} bytes");
                return Err(unreadable(bare(path), why));
            }
            body.extend_from_slice(&chunk);
        }
        let text =
            String::from_utf8(body).map_err(|_| unreadable(bare(path), "it is not UTF-8"))?;
        Ok(Answer { status, etag, text })
    }

    /// The text at `path`; `None` when nothing is there.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<String>, MetadataError> {
        let answer = match self.dialect {
            Dialect::Aws => aws::get(self, path).await?,
            _ => {
                let request = self.request(Method::GET, path);
                self.send(path, request, CALL_TIMEOUT).await?
            }
        };
        match answer.status {
            StatusCode::OK => Ok(Some(answer.text)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(refused(path, status, self.dialect)),
        }
    }

    /// The JSON at `path`.
    pub(crate) async fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, MetadataError> {
        let text = self.get(path).await?;
        let text = text.ok_or_else(|| refused(path, StatusCode::NOT_FOUND, self.dialect))?;
        serde_json::from_str(&text).map_err(|e| unreadable(bare(path), e))
    }
}

/// Without the query: a challenge has no business in a log.
pub(crate) fn bare(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}

pub(crate) fn refused(path: &str, status: StatusCode, dialect: Dialect) -> MetadataError {
    let hint = match (dialect, status.as_u16()) {
        (Dialect::Aws, 403) => ": the instance's metadata service is switched off; switch it on",
        (Dialect::Gcp, 403) | (Dialect::Azure, 400) => {
            ": something on the way drops the Metadata header; take the proxy away"
        }
        (_, 404) => ": is `instance.cloud` right?",
        _ => "",
    };
    MetadataError::Status {
        path: bare(path).to_owned(),
        status: status.as_u16(),
        hint,
    }
}

/// Puts `new` in place of what was told, when it differs.
pub(crate) fn tell(told: &watch::Sender<Arc<Vec<Notice>>>, new: Vec<Notice>) {
    told.send_if_modified(|present| {
        let changed = **present != new;
        if changed {
            *present = Arc::new(new);
        }
        changed
    });
}

/// Logs an error once for as long as it stays the same.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Option<String>);

// === impl Troubles ===

impl Troubles {
    pub(crate) fn none(&mut self) {
        self.0 = None;
    }

    pub(crate) fn some(&mut self, error: &MetadataError) {
        let text = error.to_string();
        if self.0.as_ref() != Some(&text) {
            tracing::warn!(%error, "what the cloud announces cannot be read; it is asked again");
            self.0 = Some(text);
        }
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof")
            .field("cloud", &self.cloud)
            .finish_non_exhaustive()
    }
}
