//! The SDK's clients, with one set of credentials, timeouts and retries.

use std::time::Duration;

use google_cloud_auth::credentials::{self, Credentials};
use google_cloud_compute_v1::client::{
    AcceleratorTypes, Disks, Images, Instances, MachineTypes, RegionInstances, RegionOperations,
    ZoneOperations, Zones,
};
use google_cloud_gax::exponential_backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::retry_policy::{Aip194Strict, NeverRetry, RetryPolicyExt};
use gpuloom_cloud::{CloudError, FailureClass};

/// How long one call may take, tries together not counted.
pub(crate) const CALL: Duration = Duration::from_secs(30);
/// How long one wait for an operation may take: Google answers after two minutes at most.
pub(crate) const WAIT: Duration = Duration::from_secs(130);
/// How often a call that changes nothing is tried.
const READ_TRIES: u32 = 3;
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Names a file with credentials; without it (and without any) a loopback endpoint is asked anonymously.
const KEY_FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// Which project and region, and where it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcpOptions {
    /// The project's id.
    pub project: String,
    /// E.g. `us-central1`.
    pub region: String,
    /// Where Compute Engine answers; `None`: Google's own.
    pub endpoint: Option<String>,
}

/// One client of each kind.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    pub(crate) accelerator_types: AcceleratorTypes,
    pub(crate) disks: Disks,
    pub(crate) images: Images,
    pub(crate) instances: Instances,
    pub(crate) machine_types: MachineTypes,
    pub(crate) region_instances: RegionInstances,
    pub(crate) region_operations: RegionOperations,
    pub(crate) zone_operations: ZoneOperations,
    pub(crate) zones: Zones,
}

macro_rules! client {
    ($kind:ident, $options:expr, $credentials:expr) => {{
        let mut builder = $kind::builder()
            .with_credentials($credentials.clone())
            .with_retry_policy(Aip194Strict.with_attempt_limit(READ_TRIES))
            .with_backoff_policy(backoff())
            .with_attempt_timeout(CALL);
        if let Some(endpoint) = &$options.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        builder.build().await.map_err(|e| not_built(&$options, e))?
    }};
}

// === impl Clients ===

impl Clients {
    /// Clients with the credentials of this process: a key file, gcloud's, or the instance's own.
    ///
    /// # Errors
    /// [`FailureClass::Auth`] when there are none, or they do not read.
    pub(crate) async fn new(options: &GcpOptions) -> Result<Self, CloudError> {
        let credentials = credentials(options)?;
        Ok(Self {
            accelerator_types: client!(AcceleratorTypes, options, credentials),
            disks: client!(Disks, options, credentials),
            images: client!(Images, options, credentials),
            instances: client!(Instances, options, credentials),
            machine_types: client!(MachineTypes, options, credentials),
            region_instances: client!(RegionInstances, options, credentials),
            region_operations: client!(RegionOperations, options, credentials),
            zone_operations: client!(ZoneOperations, options, credentials),
            zones: client!(Zones, options, credentials),
        })
    }
}

/// A call that changes something: sent once, whatever happens to it.
pub(crate) trait Once: RequestOptionsBuilder + Sized {
    /// The call without retries.
    fn once(self) -> Self {
        self.with_retry_policy(NeverRetry)
    }
}

impl<T: RequestOptionsBuilder> Once for T {}

// === functions ===

fn backoff() -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_delay(Duration::from_millis(100))
        .with_maximum_delay(Duration::from_secs(2))
        .clamp()
}

fn credentials(options: &GcpOptions) -> Result<Credentials, CloudError> {
    let loopback = options.endpoint.as_deref().is_some_and(is_loopback);
    if loopback && std::env::var_os(KEY_FILE).is_none() {
        return Ok(credentials::anonymous::Builder::new().build());
    }
    let built = credentials::Builder::default().with_scopes([SCOPE]).build();
    built.map_err(|e| CloudError {
        class: FailureClass::Auth,
        message: format!(
            "no credentials for the project {:?}: set {KEY_FILE} to a key file, run `gcloud auth application-default \
             login`, or give the instance a service account",
            options.project
        ),
        source: Some(e.into()),
    })
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.strip_prefix("http://").unwrap_or_default();
    let host = host.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host.starts_with("127.") || host == "localhost" || host == "[::1]"
}

fn not_built(options: &GcpOptions, e: google_cloud_gax::client_builder::Error) -> CloudError {
    CloudError {
        class: FailureClass::Invalid,
        message: format!(
            "no client for Compute Engine at {}",
            options
                .endpoint
                .as_deref()
                .unwrap_or("Google's own endpoint")
        ),
        source: Some(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_on_loopback_is_asked_without_credentials() {
        for endpoint in [
            "http://127.0.0.1:1",
            "http://127.9.9.9:80/x",
            "http://localhost:1",
            "http://[::1]:2",
        ] {
            assert!(is_loopback(endpoint), "{endpoint}");
        }
        for endpoint in [
            "https://127.0.0.1:1",
            "http://10.0.0.1:1",
            "http://localhost.evil.org",
            "https://compute.googleapis.com",
        ] {
            assert!(!is_loopback(endpoint), "{endpoint}");
        }
    }
}
