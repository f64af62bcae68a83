//! Asks clouds whether a proof is true, as far as its signature does not say so by itself.

use crate::aws::Signed;
use crate::azure::Message;
use crate::cert;
use crate::challenge::Cloud;
use crate::google::{self, KeySet};
use crate::judge::Claims;
use crate::refusal::Refusal;
use gpuloom_fleet::Millis;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls_pki_types::CertificateDer;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long a cloud may take to answer.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
pub const MAX_ANSWER_BYTES: usize = 256 << 10;
/// The most bytes of a proof.
pub const MAX_PROOF_BYTES: usize = 64 << 10;
/// Google's keys are asked for again at the latest after this, and no sooner than [`MIN_KEYS_AGE`].
pub const MAX_KEYS_AGE: Duration = Duration::from_secs(24 * 3600);
/// An unknown key does not make the keys be fetched at each try.
const MIN_KEYS_AGE: Duration = Duration::from_secs(60);
/// Certificates of issuers kept.
const MAX_ISSUERS: usize = 16;
const GOOGLE_KEYS: &str = "https://www.googleapis.com/oauth2/v3/certs";

/// What stands in place of the clouds' own, for private endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifierOptions {
    /// In place of the regions' STS.
    pub aws_sts_endpoint: Option<String>,
    /// In place of Google's key set.
    pub google_keys_url: Option<String>,
    /// PEM of the roots that Azure's documents have to lead to; `None`: the pinned ones, of this machine's bundle.
    pub azure_roots: Option<PathBuf>,
}

/// What the verifier cannot be made of.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    /// The roots do not read.
    #[error("cannot read the roots of Azure's documents in {}", path.display())]
    Roots {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// No HTTP client can be made.
    #[error("the client that asks clouds about proofs cannot be made")]
    Client(#[from] reqwest::Error),
}

#[derive(Debug)]
struct Kept<T> {
    value: T,
    since: Instant,
    fresh_for: Duration,
}

/// Checks proofs; what it fetched is kept for as long as it may be.
#[derive(Debug)]
pub struct Verifier {
    options: VerifierOptions,
    http: Client,
    keys: Mutex<Option<Kept<KeySet>>>,
    roots: Vec<CertificateDer<'static>>,
    issuers: Mutex<Vec<CertificateDer<'static>>>,
}

// === impl Verifier ===

impl Verifier {
    /// A verifier that has asked nobody yet.
    pub fn new(options: VerifierOptions) -> Result<Self, VerifierError> {
        let roots = match &options.azure_roots {
            None => cert::pinned(),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| VerifierError::Roots {
                        path: path.clone(),
                        source,
                    })?;
                cert::from_pem(&text)
            }
        };
        // An earlier provider stays.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(FETCH_TIMEOUT / 2)
            .timeout(FETCH_TIMEOUT)
            .build()?;
        Ok(Self {
            options,
            http,
            keys: Mutex::new(None),
            roots,
            issuers: Mutex::default(),
        })
    }

    /// Where an AWS request has to be signed for; `None`: the region's own STS.
    #[must_use]
    pub fn aws_sts_endpoint(&self) -> Option<&str> {
        self.options.aws_sts_endpoint.as_deref()
    }

    /// What a proof says, once it is known to be its cloud's word. `BadProof` when it is not,
    /// `Unavailable` when the cloud cannot be asked.
    pub async fn claims(
        &self,
        cloud: Cloud,
        document: &str,
        now: Millis,
    ) -> Result<Claims, Refusal> {
        if document.len() > MAX_PROOF_BYTES {
            return Err(Refusal::BadProof {
                cloud: cloud.as_str(),
                why: format!("it has more than {MAX_PROOF_BYTES} bytes"),
            });
        }
        match cloud {
            Cloud::Aws => self.aws(document).await,
            Cloud::Gcp => self.google(document).await,
            Cloud::Azure => self.azure(document, now).await,
        }
    }

    async fn aws(&self, document: &str) -> Result<Claims, Refusal> {
        let signed = Signed::read(document, self.aws_sts_endpoint())?;
        let mut request = self.http.post(&signed.url).body(signed.body);
        for (name, value) in &signed.headers {
            request = request.header(name, value);
        }
        let (status, answer, _) = fetch("AWS's STS", request).await?;
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(unavailable("AWS's STS", format!("it answers {status}")));
        }
        let text = String::from_utf8_lossy(&answer);
        signed.claims(status.as_u16(), &text)
    }

    async fn google(&self, token: &str) -> Result<Claims, Refusal> {
        let wanted = google::key_id(token)?;
        let mut kept = self.keys.lock().await;
        let good = kept.as_ref().is_some_and(|k| {
            let age = k.since.elapsed();
            age < k.fresh_for && (k.value.has(&wanted) || age < MIN_KEYS_AGE)
        });
        if !good {
            *kept = Some(self.fetch_keys().await?);
        }
        match kept.as_ref() {
            Some(keys) => google::claims(token, &keys.value),
            None => Err(unavailable("Google's key set", "it was not kept")),
        }
    }

    async fn fetch_keys(&self) -> Result<Kept<KeySet>, Refusal> {
        const WHAT: &str = "Google's key set";
        let url = self
            .options
            .google_keys_url
            .as_deref()
            .unwrap_or(GOOGLE_KEYS);
        let (status, body, fresh_for) = fetch(WHAT, self.http.get(url)).await?;
        if status != StatusCode::OK {
            return Err(unavailable(WHAT, format!("it answers {status}")));
        }
        let value = serde_json::from_slice(&body).map_err(|e| unavailable(WHAT, e))?;
        Ok(Kept {
            value,
            since: Instant::now(),
            fresh_for: fresh_for
                .unwrap_or(MIN_KEYS_AGE)
                .clamp(MIN_KEYS_AGE, MAX_KEYS_AGE),
        })
    }

    async fn azure(&self, document: &str, now: Millis) -> Result<Claims, Refusal> {
        let message = Message::read(document)?;
        let signer = message.signer()?;
        let mut issuers = self.issuers.lock().await;
        let mut last = signer.clone();
        // The message brings its signer alone: who issued that is fetched, at most two of them.
        for more in 0..3 {
            match message.is_trusted(signer, &issuers, &self.roots, now) {
                Ok(()) => return message.claims(),
                Err(why) => {
                    let url = cert::issuer_url(&last).filter(|_| more < 2);
                    let Some(url) = url else {
                        return Err(Refusal::BadProof {
                            cloud: "azure",
                            why: format!("its certificate leads to no trusted root: {why}"),
                        });
                    };
                    last = self.issuer(&url).await?;
                    if issuers.len() == MAX_ISSUERS {
                        issuers.remove(0);
                    }
                    issuers.push(last.clone());
                }
            }
        }
        Err(Refusal::BadProof {
            cloud: "azure",
            why: "its certificate leads to no trusted root".to_owned(),
        })
    }

    async fn issuer(&self, url: &str) -> Result<CertificateDer<'static>, Refusal> {
        let (status, body, _) = fetch(url, self.http.get(url)).await?;
        if status != StatusCode::OK {
            return Err(unavailable(url, format!("it answers {status}")));
        }
        Ok(CertificateDer::from(body))
    }
}

fn unavailable(what: &str, why: impl ToString) -> Refusal {
    Refusal::Unavailable {
        what: what.to_owned(),
        why: why.to_string(),
    }
}

type Fetched = (StatusCode, Vec<u8>, Option<Duration>);

async fn fetch(what: &str, request: RequestBuilder) -> Result<Fetched, Refusal> {
    let failed = |e: reqwest::Error| unavailable(what, e.without_url());
    let mut response = request.send().await.map_err(failed)?;
    let (status, fresh_for) = (response.status(), max_age(&response));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(unavailable(what, "its answer is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body, fresh_for))
}

fn max_age(response: &Response) -> Option<Duration> {
    let header = response.headers().get("cache-control")?.to_str().ok()?;
    let seconds = header
        .split(',')
        .find_map(|part| part.trim().strip_prefix("max-age="))?;
    seconds.parse().ok().map(Duration::from_secs)
}
