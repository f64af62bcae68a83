//! The three clouds: their doubles, and what is asked of their drivers.

use gpuloom_cloud::{Cloud, CloudError, Role};
use gpuloom_cloud::{LaunchRequest, Tags, Token, UserData};
use gpuloom_cloud_aws::{AwsCloud, AwsOptions};
use gpuloom_cloud_azure::{AzureCloud, AzureOptions};
use gpuloom_cloud_gcp::{GcpCloud, GcpOptions};
use gpuloom_doubles::control::Control;
use gpuloom_doubles::{aws, azure, gcp};
use gpuloom_fleet::{
    AwsPlace, AzurePlace, FleetName, GcpPlace, GpuModel, GpuShape, PoolName, PoolPlace,
};
use std::sync::Arc;

/// Which cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Which {
    Aws,
    Gcp,
    Azure,
}

/// A running double.
#[derive(Debug)]
pub(crate) enum Double {
    Aws(aws::Double, Vec<String>),
    Gcp(gcp::Double),
    Azure(azure::Double),
}

const AWS_REGION: &str = "us-east-1";
const GCP_REGION: &str = "us-central1";
/// The subnets reach the driver's process by its environment.
const SUBNETS: &str = "CLOUD_FAULTS_SUBNETS";

/// The fleet whose instances these are.
pub(crate) const FLEET: &str = "faults";
const FLEET_ID: &str = "0123456789abcdef";

// === impl Which ===

impl Which {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
        }
    }

    /// The pattern of the calls that make an instance.
    pub(crate) fn creates(self) -> &'static str {
        match self {
            Self::Aws => "CreateFleet",
            Self::Gcp => "instances.insert",
            Self::Azure => "virtualMachines.create",
        }
    }

    /// Starts its double.
    pub(crate) async fn play(self) -> Result<Double, String> {
        Ok(match self {
            Self::Aws => {
                let double = aws::Double::start(aws::Options::default()).await;
                let double = double.map_err(|e| e.to_string())?;
                let subnets = double.subnets(AWS_REGION).await;
                let subnets = subnets.map_err(|e| e.to_string())?;
                let subnets = subnets.into_iter().map(|(subnet, _)| subnet).take(3);
                Double::Aws(double, subnets.collect())
            }
            Self::Gcp => {
                let double = gcp::Double::start(gcp::Options::default()).await;
                Double::Gcp(double.map_err(|e| e.to_string())?)
            }
            Self::Azure => {
                let double = azure::Double::start(azure::Options::default()).await;
                Double::Azure(double.map_err(|e| e.to_string())?)
            }
        })
    }

    /// The driver, with the credentials of this process.
    pub(crate) async fn driver(self, endpoint: &str) -> Result<Arc<dyn Cloud>, CloudError> {
        let endpoint = Some(endpoint.to_owned());
        Ok(match self {
            Self::Aws => {
                let region = AWS_REGION.to_owned();
                Arc::new(AwsCloud::new(AwsOptions { region, endpoint }).await?)
            }
            Self::Gcp => {
                let options = GcpOptions {
                    project: gcp::PROJECT.to_owned(),
                    region: GCP_REGION.to_owned(),
                    endpoint,
                };
                Arc::new(GcpCloud::new(options).await?)
            }
            Self::Azure => {
                let options = AzureOptions {
                    subscription: azure::SUBSCRIPTION.to_owned(),
                    resource_group: azure::GROUP.to_owned(),
                    location: azure::LOCATION.to_owned(),
                    endpoint,
                };
                Arc::new(AzureCloud::new(options)?)
            }
        })
    }

    /// Where instances come from.
    pub(crate) fn place(self, endpoint: &str) -> PoolPlace {
        let endpoint = Some(endpoint.to_owned());
        match self {
            Self::Aws => {
                let subnets = std::env::var(SUBNETS).unwrap_or_default();
                PoolPlace::Aws(Box::new(AwsPlace {
                    region: AWS_REGION.to_owned(),
                    subnets: subnets.split(',').map(str::to_owned).collect(),
                    instance_types: vec!["g4dn.xlarge".to_owned()],
                    image: aws::IMAGE.to_owned(),
                    root_disk_gib: 64,
                    endpoint,
                    ..AwsPlace::default()
                }))
            }
            Self::Gcp => PoolPlace::Gcp(Box::new(GcpPlace {
                project: gcp::PROJECT.to_owned(),
                region: GCP_REGION.to_owned(),
                machine_types: vec!["g2-standard-4".to_owned()],
                image: format!("projects/{}/global/images/family/gpuloom", gcp::PROJECT),
                boot_disk_gib: 64,
                endpoint,
                ..GcpPlace::default()
            })),
            Self::Azure => PoolPlace::Azure(Box::new(AzurePlace {
                subscription: azure::SUBSCRIPTION.to_owned(),
                resource_group: azure::GROUP.to_owned(),
                location: azure::LOCATION.to_owned(),
                zones: vec!["1".to_owned(), "2".to_owned()],
                vm_sizes: vec!["Standard_NC4as_T4_v3".to_owned()],
                image: "canonical:ubuntu-24_04-lts:server:latest".to_owned(),
                subnet_id: azure::SUBNET.to_owned(),
                ssh_public_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA ops".to_owned(),
                os_disk_gib: 64,
                endpoint,
                ..AzurePlace::default()
            })),
        }
    }

    /// The GPUs asked for.
    pub(crate) fn gpu(self) -> Result<GpuShape, String> {
        let model = match self {
            Self::Gcp => "L4",
            Self::Aws | Self::Azure => "T4",
        };
        let model = GpuModel::new(model).map_err(|e| e.to_string())?;
        Ok(GpuShape { model, per_node: 1 })
    }

    /// A request without offerings; its token is set for each launch.
    pub(crate) fn request(self, endpoint: &str) -> Result<LaunchRequest, String> {
        Ok(LaunchRequest {
            token: Token::new("none")?,
            fleet: FleetName::new(FLEET).map_err(|e| e.to_string())?,
            fleet_id: FLEET_ID.to_owned(),
            pool: Some(PoolName::new("p").map_err(|e| e.to_string())?),
            role: Role::Node,
            offerings: Vec::new(),
            place: self.place(endpoint),
            gpu: Some(self.gpu()?),
            labels: Tags::default(),
            revision: "0123456789ab".to_owned(),
            data_disk: None,
            user_data: UserData {
                script: "#!/bin/sh\nexit 0\n".to_owned(),
                ..UserData::default()
            },
        })
    }
}

// === impl Double ===

impl Double {
    pub(crate) fn endpoint(&self) -> String {
        match self {
            Self::Aws(double, _) => double.endpoint(),
            Self::Gcp(double) => double.endpoint(),
            Self::Azure(double) => double.endpoint(),
        }
    }

    pub(crate) fn control(&self) -> &Control {
        match self {
            Self::Aws(double, _) => double.control(),
            Self::Gcp(double) => double.control(),
            Self::Azure(double) => double.control(),
        }
    }

    /// The ids of the instances that exist, with their tokens, from the double's own state.
    pub(crate) fn living(&self) -> Vec<(String, String)> {
        let pair =
            |id: &str, token: Option<&String>| (id.to_owned(), token.cloned().unwrap_or_default());
        match self {
            Self::Aws(double, _) => double
                .living()
                .iter()
                .map(|m| pair(&m.id, m.tags.get("gpuloom:token")))
                .collect(),
            Self::Gcp(double) => double
                .living()
                .iter()
                .map(|m| pair(&m.name, m.labels.get("gpuloom-token")))
                .collect(),
            Self::Azure(double) => double
                .machines()
                .iter()
                .map(|m| pair(&m.id, m.tags.get("gpuloom:token")))
                .collect(),
        }
    }

    /// What the driver's process has in its environment.
    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Aws(_, subnets) => vec![
                ("AWS_ACCESS_KEY_ID", "AKIADOUBLE".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", "double-of-aws".to_owned()),
                ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
                (SUBNETS, subnets.join(",")),
            ],
            Self::Gcp(_) => Vec::new(),
            Self::Azure(double) => vec![
                ("AZURE_TENANT_ID", azure::TENANT.to_owned()),
                ("AZURE_CLIENT_ID", azure::CLIENT.to_owned()),
                ("AZURE_CLIENT_SECRET", azure::SECRET.to_owned()),
                ("AZURE_AUTHORITY_HOST", double.endpoint()),
            ],
        }
    }
}
