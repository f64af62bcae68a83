//! An agent that is an instance of a cloud: where its metadata service is, and how proofs are checked.

use gpuloom_cloud_attest::VerifierOptions;
use gpuloom_cloud_imds::{Dialect, Facts, Metadata, MetadataError};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a metadata service that does not answer yet is waited for at the start.
pub const FACTS_PATIENCE: Duration = Duration::from_secs(120);
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(1);
/// In place of the metadata service's own address, where the configuration states none.
pub const METADATA_ENV: &str = "GPULOOM_METADATA_ENDPOINT";

/// The cloud an agent's machine is an instance of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceConfig {
    /// Whose metadata service it asks.
    pub dialect: Dialect,
    /// `http://host:port` in place of the service's own address.
    pub metadata: Option<String>,
    /// A private endpoint of the cloud's API, for what a lead writes on its own instance.
    pub endpoint: Option<String>,
    /// Azure: the resource group of a lead's instance.
    pub resource_group: Option<String>,
}

/// How a lead checks instances' proofs of identity. Where a value is left out, the environment is asked
/// (`GPULOOM_AWS_STS_ENDPOINT`, `GPULOOM_GOOGLE_KEYS_URL`, `GPULOOM_AZURE_ROOTS`), then the clouds' own hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttestConfig {
    /// The AWS account of the pools' instances; `None`: the one that lists them, or the lead's own.
    pub aws_account: Option<String>,
    /// A private endpoint of STS.
    pub aws_sts_endpoint: Option<String>,
    /// Google's key set from elsewhere.
    pub google_keys_url: Option<String>,
    /// PEM of the roots that Azure's attested documents have to lead to.
    pub azure_roots: Option<PathBuf>,
}

// === impl InstanceConfig ===

impl InstanceConfig {
    /// The metadata service: as configured, as the environment says, else at its own address.
    pub fn service(&self) -> Result<Metadata, MetadataError> {
        let told = std::env::var(METADATA_ENV).ok().filter(|e| !e.is_empty());
        let endpoint = self.metadata.clone().or(told);
        Metadata::new(self.dialect, endpoint.as_deref())
    }

    /// What the instance is; a service that does not answer yet is asked for up to [`FACTS_PATIENCE`].
    pub async fn facts(&self) -> Result<Facts, MetadataError> {
        let service = self.service()?;
        let begun = Instant::now();
        loop {
            match service.facts().await {
                Err(error) if error.is_transient() && begun.elapsed() < FACTS_PATIENCE => {
                    tracing::warn!(%error, "the metadata service is asked again");
                    sleep(AGAIN).await;
                }
                other => return other,
            }
        }
    }
}

// === impl AttestConfig ===

impl AttestConfig {
    pub(crate) fn verifier(&self) -> VerifierOptions {
        let told = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        VerifierOptions {
            aws_sts_endpoint: self
                .aws_sts_endpoint
                .clone()
                .or_else(|| told("GPULOOM_AWS_STS_ENDPOINT")),
            google_keys_url: self
                .google_keys_url
                .clone()
                .or_else(|| told("GPULOOM_GOOGLE_KEYS_URL")),
            azure_roots: self
                .azure_roots
                .clone()
                .or_else(|| told("GPULOOM_AZURE_ROOTS").map(PathBuf::from)),
        }
    }
}
