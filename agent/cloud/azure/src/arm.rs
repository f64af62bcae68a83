//! Azure Resource Manager: one call, its errors, its pages and its operations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::http::headers::{CONTENT_TYPE, HeaderName};
use azure_core::http::policies::Policy;
use azure_core::http::{
    ClientOptions, Context, Method, Pipeline, RawResponse, Request, RetryOptions, Transport, Url,
};
use gpuloom_cloud::{CloudError, FailureClass};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::credential::{self, Bearer};
use crate::failure::ArmError;

/// Version of Microsoft.Compute.
pub(crate) const COMPUTE: &str = "2026-04-01";
/// Version of the disks in Microsoft.Compute, which have their own.
pub(crate) const DISKS: &str = "2025-01-02";
/// Version of the list of sizes in Microsoft.Compute, which has its own.
pub(crate) const SKUS: &str = "2021-07-01";
/// Version of Microsoft.Network.
pub(crate) const NETWORK: &str = "2025-09-01";

const PUBLIC: &str = "https://management.azure.com";
const CONNECT_WAIT: Duration = Duration::from_secs(5);
const CALL_WAIT: Duration = Duration::from_secs(30);
/// How often a call that changes nothing, or a deletion, is sent before its error is believed.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Pages of one listing; with 1,000 rows a page far more than a subscription may have.
const MAX_PAGES: usize = 1_000;
/// Between two looks at an operation that does not say when to look again.
const POLL: Duration = Duration::from_secs(2);
const POLL_AT_LEAST: Duration = Duration::from_millis(10);
const POLL_AT_MOST: Duration = Duration::from_secs(30);

/// The door to one resource group of one subscription.
#[derive(Debug)]
pub(crate) struct Arm {
    pipeline: Pipeline,
    endpoint: Url,
    subscription: String,
    group: String,
}

/// What came back, a success.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    body: Vec<u8>,
    operation: Option<String>,
    location: Option<String>,
    retry_after: Option<Duration>,
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    only_new: bool,
    tries: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    #[serde(default = "Vec::new")]
    value: Vec<T>,
    next_link: Option<String>,
}

#[derive(Debug, Deserialize)]
struct OperationState {
    status: String,
    error: Option<ErrorBody>,
}

#[derive(Debug, Deserialize)]
struct ErrorAnswer {
    error: ErrorBody,
}

/// ARM's error; the first detail is often the true one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ErrorBody {
    pub(crate) code: String,
    pub(crate) message: String,
    details: Vec<ErrorBody>,
}

// === impl Call ===

impl Call {
    fn new(method: Method, path: impl Into<String>, version: &str, tries: u32) -> Self {
        Self {
            method,
            path: path.into(),
            query: vec![("api-version", version.to_owned())],
            body: None,
            only_new: false,
            tries,
        }
    }

    /// Reads; sent again after a failure on the way.
    pub(crate) fn get(path: impl Into<String>, version: &str) -> Self {
        Self::new(Method::Get, path, version, TRIES)
    }

    /// Deletes; sent again after a failure on the way, which changes nothing.
    pub(crate) fn delete(path: impl Into<String>, version: &str) -> Self {
        Self::new(Method::Delete, path, version, TRIES)
    }

    /// Creates or changes; sent once.
    pub(crate) fn put(path: impl Into<String>, version: &str, body: &impl Serialize) -> Self {
        Self::new(Method::Put, path, version, 1).with_body(body)
    }

    /// Changes what is named; sent once.
    pub(crate) fn patch(path: impl Into<String>, version: &str, body: &impl Serialize) -> Self {
        Self::new(Method::Patch, path, version, 1).with_body(body)
    }

    /// An action without a body; sent once.
    pub(crate) fn post(path: impl Into<String>, version: &str) -> Self {
        Self::new(Method::Post, path, version, 1)
    }

    /// Refused with 412 when the resource exists: a PUT that never changes another's.
    pub(crate) fn only_new(mut self) -> Self {
        self.only_new = true;
        self
    }

    pub(crate) fn query(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    fn with_body(mut self, body: &impl Serialize) -> Self {
        // Our bodies are structs of strings and numbers: they always serialise.
        self.body = serde_json::to_vec(body).ok();
        self
    }
}

// === impl Answer ===

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ArmError> {
        serde_json::from_slice(&self.body)
            .map_err(|e| ArmError::unreadable(format!("the answer does not read: {e}")))
    }
}

// === impl ErrorBody ===

impl ErrorBody {
    /// The code and text that say most: a general code gives way to its first detail.
    pub(crate) fn innermost(self) -> (String, String) {
        let general = matches!(
            self.code.as_str(),
            "" | "BadRequest"
                | "Conflict"
                | "DeploymentFailed"
                | "InvalidTemplateDeployment"
                | "OperationFailed"
        );
        match self.details.into_iter().next() {
            Some(detail) if general && !detail.code.is_empty() => detail.innermost(),
            _ => (self.code, self.message),
        }
    }
}

// === impl Arm ===

impl Arm {
    pub(crate) fn new(
        subscription: &str,
        group: &str,
        endpoint: Option<&str>,
    ) -> Result<Self, CloudError> {
        let text = endpoint.unwrap_or(PUBLIC);
        let invalid = |why: &str| {
            let message =
                format!("endpoint {text:?} {why}: give an https:// address such as {PUBLIC}");
            CloudError::new(FailureClass::Invalid, message)
        };
        let endpoint =
            Url::parse(text).map_err(|e| invalid(&format!("is not an address ({e})")))?;
        let local = credential::is_loopback(&endpoint);
        if endpoint.scheme() != "https" && !(endpoint.scheme() == "http" && local) {
            return Err(invalid("would carry tokens without TLS"));
        }
        let mut client = reqwest::Client::builder()
            .connect_timeout(CONNECT_WAIT)
            .timeout(CALL_WAIT)
            .redirect(reqwest::redirect::Policy::none());
        if local {
            client = client.no_proxy();
        }
        let client = client
            .build()
            .map_err(|e| CloudError::transient("no HTTP client for Azure", e))?;
        let options = ClientOptions {
            transport: Some(Transport::new(Arc::new(client))),
            retry: RetryOptions::none(),
            ..ClientOptions::default()
        };
        let credential = credential::of(&endpoint, &options);
        let bearer: Arc<dyn Policy> = Arc::new(Bearer::new(credential, scope(&endpoint)));
        let pipeline = Pipeline::new(
            option_env!("CARGO_PKG_NAME"),
            option_env!("CARGO_PKG_VERSION"),
            options,
            Vec::new(),
            vec![bearer],
            None,
        );
        Ok(Self {
            pipeline,
            endpoint,
            subscription: subscription.to_owned(),
            group: group.to_owned(),
        })
    }

    /// `/subscriptions/<ours>/<rest>`.
    pub(crate) fn in_subscription(&self, rest: &str) -> String {
        format!("/subscriptions/{}/{rest}", self.subscription)
    }

    /// The id of one of our group's resources: `kind` such as `Microsoft.Compute/virtualMachines`; without a name
    /// the collection.
    pub(crate) fn in_group(&self, kind: &str, name: &str) -> String {
        let base = format!(
            "/subscriptions/{}/resourceGroups/{}/providers/{kind}",
            self.subscription, self.group
        );
        if name.is_empty() {
            base
        } else {
            format!("{base}/{name}")
        }
    }

    /// Sends `call`; a success of any kind, or the error.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, ArmError> {
        let mut url = self
            .endpoint
            .join(&call.path)
            .map_err(|e| ArmError::unreadable(format!("{:?} is not a path: {e}", call.path)))?;
        url.query_pairs_mut()
            .extend_pairs(call.query.iter().map(|(k, v)| (*k, v.as_str())));
        self.send_to(&url, call).await
    }

    async fn send_to(&self, url: &Url, call: &Call) -> Result<Answer, ArmError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..call.tries {
            match self.once(url, call).await {
                Err(e) if e.is_on_the_way() => tokio::time::sleep(self.pause(pause)).await,
                done => return done,
            }
            pause *= 2;
        }
        self.once(url, call).await
    }

    async fn once(&self, url: &Url, call: &Call) -> Result<Answer, ArmError> {
        let mut request = Request::new(url.clone(), call.method);
        if call.only_new {
            request.insert_header("if-none-match", "*");
        }
        if let Some(body) = &call.body {
            request.insert_header(CONTENT_TYPE, "application/json");
            request.set_body(body.clone());
        }
        let context = Context::default();
        let sent = self.pipeline.send(
            &context,
            &mut request,
            Some(azure_core::http::PipelineSendOptions {
                skip_checks: true,
                ..Default::default()
            }),
        );
        let what = format!("{} {}", call.method, url.path());
        // A credential has calls of its own before this one.
        match tokio::time::timeout(CALL_WAIT * 2, sent).await {
            Ok(Ok(response)) => read(&response, &what),
            Ok(Err(e)) => Err(ArmError::from_core(&what, &e)),
            Err(_) => Err(ArmError::lost(format!(
                "{what}: no answer within {CALL_WAIT:?}"
            ))),
        }
    }

    /// Reads one resource; `None` when there is none.
    pub(crate) async fn find<T: DeserializeOwned>(
        &self,
        call: &Call,
    ) -> Result<Option<T>, ArmError> {
        match self.send(call).await {
            Ok(answer) => answer.json().map(Some),
            Err(e) if e.is_gone() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All rows of a listing, page after page.
    pub(crate) async fn list<T: DeserializeOwned>(&self, call: Call) -> Result<Vec<T>, ArmError> {
        let mut page: Page<T> = self.send(&call).await?.json()?;
        let mut rows = page.value;
        for _ in 1..MAX_PAGES {
            let Some(next) = page.next_link.filter(|n| !n.is_empty()) else {
                return Ok(rows);
            };
            let url = self.same_origin(&next)?;
            page = self.send_to(&url, &call).await?.json()?;
            rows.append(&mut page.value);
        }
        Err(ArmError::unreadable(format!(
            "{} has more than {MAX_PAGES} pages",
            call.path
        )))
    }

    /// Waits until the operation that `answer` began has ended, `until` at the latest.
    ///
    /// # Errors
    /// The operation's own error when it failed; one that is on the way when its end was not seen.
    pub(crate) async fn finish(&self, answer: Answer, until: Instant) -> Result<(), ArmError> {
        let (url, by_status) = match (&answer.operation, &answer.location) {
            (Some(operation), _) => (self.same_origin(operation)?, false),
            (None, Some(location)) if answer.status == 202 => (self.same_origin(location)?, true),
            _ => return Ok(()),
        };
        let call = Call::get(url.path(), "");
        let mut pause = answer.retry_after;
        loop {
            let wait = pause
                .unwrap_or_else(|| self.pause(POLL))
                .clamp(POLL_AT_LEAST, POLL_AT_MOST);
            if Instant::now() + wait > until {
                let message = format!("{} had not ended in the time for it", url.path());
                return Err(ArmError::lost(message));
            }
            tokio::time::sleep(wait).await;
            let polled = match self.send_to(&url, &call).await {
                Ok(polled) => polled,
                // Too many looks, or none seen: the operation goes on all the same.
                Err(e) if e.is_throttled() || e.is_on_the_way() => {
                    pause = e.retry_after();
                    continue;
                }
                // An operation that was forgotten had ended; who asked looks at the resource.
                Err(e) if e.is_gone() => return Ok(()),
                Err(e) => return Err(e),
            };
            pause = polled.retry_after;
            if by_status {
                if polled.status != 202 {
                    return Ok(());
                }
                continue;
            }
            let state: OperationState = polled.json()?;
            match state.status.to_ascii_lowercase().as_str() {
                "succeeded" => return Ok(()),
                "failed" | "canceled" | "cancelled" => {
                    let (code, message) = state.error.unwrap_or_default().innermost();
                    return Err(ArmError::ended(code, message));
                }
                _ => {}
            }
        }
    }

    /// How long to wait between two looks: `usual`, much less for a stand-in on this machine.
    pub(crate) fn pause(&self, usual: Duration) -> Duration {
        if self.endpoint.scheme() == "http" {
            POLL_AT_LEAST
        } else {
            usual
        }
    }

    /// A link of the service's own answer: followed only where our token may go.
    fn same_origin(&self, link: &str) -> Result<Url, ArmError> {
        let url = self
            .endpoint
            .join(link)
            .map_err(|e| ArmError::unreadable(format!("{link:?} is not an address: {e}")))?;
        if url.origin() == self.endpoint.origin() {
            Ok(url)
        } else {
            Err(ArmError::unreadable(format!(
                "the answer leads from {} to {}, where no token is sent",
                self.endpoint.origin().ascii_serialization(),
                url.origin().ascii_serialization()
            )))
        }
    }
}

fn read(response: &RawResponse, what: &str) -> Result<Answer, ArmError> {
    let header = |name: &'static str| {
        let name = HeaderName::from_static(name);
        response
            .headers()
            .get_optional_str(&name)
            .map(str::to_owned)
    };
    let status = u16::from(response.status());
    // Seconds as ARM sends them; a date, which it does not, counts as not said.
    let retry_after = header("retry-after")
        .and_then(|s| s.trim().parse().ok())
        .map(Duration::from_secs);
    let body = response.body().as_ref().to_vec();
    if (200..300).contains(&status) {
        return Ok(Answer {
            status,
            body,
            operation: header("azure-asyncoperation"),
            location: header("location"),
            retry_after,
        });
    }
    let (code, message) = serde_json::from_slice::<ErrorAnswer>(&body)
        .map(|a| a.error)
        .or_else(|_| serde_json::from_slice::<ErrorBody>(&body))
        .unwrap_or_default()
        .innermost();
    Err(ArmError::answered(what, status, code, message, retry_after))
}

/// What a token is asked for: the cloud that the endpoint is of.
fn scope(endpoint: &Url) -> String {
    let host = endpoint.host_str().unwrap_or_default();
    let of_its_own = [
        "management.usgovcloudapi.net",
        "management.chinacloudapi.cn",
    ];
    match of_its_own.iter().find(|h| host.ends_with(**h)) {
        Some(known) => format!("https://{known}/.default"),
        None => format!("{PUBLIC}/.default"),
    }
}
