//! Bodies from the web, with limits on time and size.

use std::sync::Once;

use reqwest::{Client, Response, Url};
use serde::de::DeserializeOwned;

use super::{CONNECT_TIMEOUT, LiveError, MAX_PAGE_BYTES, READ_TIMEOUT};

/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 3;

#[derive(Debug, Clone)]
pub(super) struct Http(Client);

/// A body in pieces.
pub(super) struct Body {
    url: String,
    response: Response,
    left: u64,
    limit: u64,
}

// === impl Http ===

impl Http {
    pub(super) fn new() -> Result<Self, LiveError> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // One that the program chose before stays.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        });
        Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
            .user_agent(concat!("gpuloom/", env!("CARGO_PKG_VERSION")))
            .build()
            .map(Self)
            .map_err(|e| LiveError::Client(super::say(&e)))
    }

    /// The body of `url`, at most `limit` bytes. `secret` is sent as a header and never shown.
    pub(super) async fn open(
        &self,
        url: &Url,
        secret: Option<(&'static str, &str)>,
        limit: u64,
    ) -> Result<Body, LiveError> {
        let mut request = self.0.get(url.clone());
        if let Some((name, value)) = secret {
            request = request.header(name, value);
        }
        let shown = url.to_string();
        let response = request.send().await.map_err(|e| no_answer(&shown, e))?;
        let status = response.status();
        if !status.is_success() {
            let status = status.as_u16();
            return Err(LiveError::Status { url: shown, status });
        }
        Ok(Body {
            url: shown,
            response,
            left: limit,
            limit,
        })
    }

    /// A page of JSON.
    pub(super) async fn page<T: DeserializeOwned>(
        &self,
        url: &Url,
        secret: Option<(&'static str, &str)>,
    ) -> Result<T, LiveError> {
        let mut body = self.open(url, secret, MAX_PAGE_BYTES).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await? {
            bytes.extend_from_slice(piece.as_ref());
        }
        serde_json::from_slice(&bytes).map_err(|e| LiveError::Unreadable {
            url: url.to_string(),
            what: format!("not a page of prices: {e}"),
        })
    }
}

// === impl Body ===

impl Body {
    /// The next piece; `None` at the end. A body that ends before it said is an error.
    pub(super) async fn next(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, LiveError> {
        let piece = self.response.chunk().await;
        let piece = piece.map_err(|e| no_answer(&self.url, e))?;
        if let Some(piece) = &piece {
            let size = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            self.left = self.left.checked_sub(size).ok_or(LiveError::TooLarge {
                url: self.url.clone(),
                limit: self.limit,
                unit: "bytes",
            })?;
        }
        Ok(piece)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

fn no_answer(url: &str, error: reqwest::Error) -> LiveError {
    LiveError::NoAnswer {
        url: url.to_owned(),
        source: error.without_url().into(),
    }
}

/// `base` with `path` and `query`.
pub(super) fn address(base: &str, path: &str, query: &[(&str, &str)]) -> Result<Url, LiveError> {
    let text = format!("{}/{path}", base.trim_end_matches('/'));
    let parsed = if query.is_empty() {
        Url::parse(&text)
    } else {
        Url::parse_with_params(&text, query)
    };
    parsed.map_err(|e| LiveError::Unreadable {
        url: text.clone(),
        what: format!("not an address: {e}"),
    })
}
