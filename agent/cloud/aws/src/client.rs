//! The driver's client, which retries everything but launches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::{Builder, Credentials};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use gpuloom_cloud::{CloudError, FailureClass, Token};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for the answer to one call.
const CALL: Duration = Duration::from_secs(30);
/// So often is a call sent that may be sent again, the first time included.
const ATTEMPTS: u32 = 3;

/// Most tokens that are remembered as unknown.
const MAX_UNSURE: usize = 10_000;

/// One region of EC2.
#[derive(Debug)]
pub struct AwsCloud {
    pub(crate) region: String,
    /// Retries; a launch says [`once`].
    pub(crate) ec2: Client,
    known: Mutex<Known>,
}

/// Where and how to reach EC2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AwsOptions {
    /// E.g. `us-east-1`.
    pub region: String,
    /// In place of the region's public endpoint.
    pub endpoint: Option<String>,
}

/// What need not be asked again.
#[derive(Debug, Default)]
struct Known {
    /// Names of launch templates that exist.
    templates: BTreeSet<String>,
    /// Root device by image.
    roots: BTreeMap<String, String>,
    /// Zone by subnet.
    zones: BTreeMap<String, String>,
    /// Tokens of which it is unknown whether they launched.
    unsure: BTreeSet<Token>,
}

// === impl AwsCloud ===

impl AwsCloud {
    /// A driver with the credentials of the SDK's default chain: environment, files, then the instance's own.
    /// Nothing is called yet.
    ///
    /// # Errors
    /// [`FailureClass::Invalid`] when no region is given.
    pub async fn new(options: AwsOptions) -> Result<Self, CloudError> {
        Self::with(options, None).await
    }

    /// The same with these credentials.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub async fn with_credentials(
        options: AwsOptions,
        credentials: Credentials,
    ) -> Result<Self, CloudError> {
        Self::with(options, Some(credentials)).await
    }

    async fn with(options: AwsOptions, given: Option<Credentials>) -> Result<Self, CloudError> {
        if options.region.is_empty() {
            let message = "aws.region is empty: name one, e.g. \"us-east-1\"";
            return Err(CloudError::new(FailureClass::Invalid, message));
        }
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(CALL)
            .build();
        let mut config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(options.region.clone()))
            .timeout_config(timeouts);
        if let Some(credentials) = given {
            config = config.credentials_provider(credentials);
        }
        let config = config.load().await;
        let retry = RetryConfig::standard().with_max_attempts(ATTEMPTS);
        let mut config = Builder::from(&config).retry_config(retry);
        config.set_endpoint_url(options.endpoint);
        Ok(Self {
            region: options.region,
            ec2: Client::from_conf(config.build()),
            known: Mutex::default(),
        })
    }

    /// Whether the template is known to exist.
    pub(crate) fn knows_template(&self, name: &str) -> bool {
        self.known().templates.contains(name)
    }

    pub(crate) fn note_template(&self, name: &str) {
        self.known().templates.insert(name.to_owned());
    }

    pub(crate) fn forget_template(&self, name: &str) {
        self.known().templates.remove(name);
    }

    pub(crate) fn root_of(&self, image: &str) -> Option<String> {
        self.known().roots.get(image).cloned()
    }

    pub(crate) fn note_root(&self, image: &str, device: &str) {
        let (image, device) = (image.to_owned(), device.to_owned());
        self.known().roots.insert(image, device);
    }

    /// The zones of these subnets, when all of them are known.
    pub(crate) fn known_zones(&self, subnets: &[String]) -> Option<Vec<(String, String)>> {
        let known = self.known();
        let zone = |subnet: &String| Some((subnet.clone(), known.zones.get(subnet)?.clone()));
        subnets.iter().map(zone).collect()
    }

    pub(crate) fn note_zones(&self, zones: &[(String, String)]) {
        self.known().zones.extend(zones.iter().cloned());
    }

    /// Whether an earlier request under this token may have been carried out unseen.
    pub(crate) fn is_unsure(&self, token: &Token) -> bool {
        self.known().unsure.contains(token)
    }

    pub(crate) fn note_unsure(&self, token: &Token, unsure: bool) {
        let mut known = self.known();
        if !unsure {
            known.unsure.remove(token);
            return;
        }
        if known.unsure.len() >= MAX_UNSURE {
            known.unsure.pop_first();
        }
        known.unsure.insert(token.clone());
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The configuration of a call that is sent once and never again by itself.
pub(crate) fn once() -> Builder {
    Builder::new().retry_config(RetryConfig::disabled())
}
