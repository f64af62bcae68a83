//! The driver against the double of Azure: the contract of all clouds, and what goes wrong on this one.

mod disks;
mod faults;
mod lifecycle;
mod plan;

use gpuloom_cloud::contract::{self, Setup};
use gpuloom_cloud::{
    Cloud, LaunchError, LaunchRequest, Launched, Offering, Role, Tags, Token, UserData,
};
use gpuloom_cloud_azure::{AzureCloud, AzureOptions};
use gpuloom_doubles::azure::{Double, GROUP, LOCATION, Options, SUBNET, SUBSCRIPTION};
use gpuloom_fleet::{AgentSource, AzurePlace, FleetName, GpuModel, GpuShape, PoolName, PoolPlace};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What most tests ask for.
pub(crate) const T4: &str = "azure/eastus/1/Standard_NC4as_T4_v3/on-demand";

/// A driver and the double it talks to.
pub(crate) struct Azure {
    pub(crate) double: Double,
    pub(crate) cloud: Arc<AzureCloud>,
}

impl Azure {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let double = Double::start(options).await.expect("a free port");
        let cloud = Arc::new(driver(&double.endpoint()));
        Self { double, cloud }
    }

    pub(crate) async fn launch(&self, token: &str) -> Result<Launched, LaunchError> {
        self.cloud.launch(&request(token, T4)).await
    }

    /// How many requests of `action` there were.
    pub(crate) fn sent(&self, action: &str) -> usize {
        let log = self.double.control().log();
        log.iter().filter(|l| l.action == action).count()
    }

    /// Nothing exists, nothing of the contract was broken, and no request held a secret.
    pub(crate) fn finish(&self) {
        assert_eq!(self.double.machines(), [], "machines are left");
        assert_eq!(self.double.others(), [""; 0], "something is left");
        self.fair();
    }

    /// Nothing of the contract was broken, and no request held a secret.
    pub(crate) fn fair(&self) {
        assert_eq!(self.double.control().violations(), [""; 0]);
        for entry in self.double.control().log() {
            for secret in ["Bearer", "azure-double-token", "join-me"] {
                assert!(
                    !entry.body.contains(secret),
                    "{secret} in {}: {}",
                    entry.line,
                    entry.body
                );
                assert!(!entry.line.contains(secret), "{secret} in {}", entry.line);
            }
        }
    }
}

pub(crate) fn driver(endpoint: &str) -> AzureCloud {
    AzureCloud::new(AzureOptions {
        subscription: SUBSCRIPTION.to_owned(),
        resource_group: GROUP.to_owned(),
        location: LOCATION.to_owned(),
        endpoint: Some(endpoint.to_owned()),
    })
    .expect("a driver")
}

pub(crate) fn place() -> AzurePlace {
    AzurePlace {
        subscription: SUBSCRIPTION.to_owned(),
        resource_group: GROUP.to_owned(),
        location: LOCATION.to_owned(),
        zones: vec!["1".to_owned(), "2".to_owned()],
        vm_sizes: vec!["Standard_NC4as_T4_v3".to_owned()],
        image: "canonical:ubuntu-24_04-lts:server:latest".to_owned(),
        subnet_id: SUBNET.to_owned(),
        identity: Some(format!(
            "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/nodes"
        )),
        ssh_public_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA ops".to_owned(),
        public_address: false,
        os_disk_gib: 64,
        tags: BTreeMap::from([("team".to_owned(), "ml".to_owned())]),
        endpoint: None,
        agent: AgentSource::Image,
    }
}

pub(crate) fn request(token: &str, offering: &str) -> LaunchRequest {
    LaunchRequest {
        token: Token::new(token).expect("a token"),
        fleet: FleetName::new("ml").expect("a name"),
        fleet_id: "0011223344556677".to_owned(),
        pool: Some(PoolName::new("t4").expect("a name")),
        role: Role::Node,
        offerings: vec![Offering(offering.to_owned())],
        place: PoolPlace::Azure(Box::new(place())),
        gpu: Some(t4()),
        labels: Tags(BTreeMap::from([(
            "example.com/tier".to_owned(),
            "gold".to_owned(),
        )])),
        revision: "0a1b2c3d4e5f".to_owned(),
        data_disk: None,
        user_data: UserData {
            config: String::new(),
            join_token: Some("join-me".to_owned()),
            script: "#!/bin/sh\necho up\n".to_owned(),
        },
    }
}

pub(crate) fn t4() -> GpuShape {
    GpuShape {
        model: GpuModel::new("T4").expect("a model"),
        per_node: 1,
    }
}

#[tokio::test]
async fn holds_the_contract_of_all_clouds() {
    let doubles = Arc::new(Mutex::new(Vec::new()));
    contract::run(|| {
        let doubles = Arc::clone(&doubles);
        async move {
            let azure = Azure::start().await;
            azure.double.set_room("*/Standard_NC4as_T4_v3/*", 3);
            let cloud = azure.cloud.clone();
            doubles.lock().expect("no panic holds it").push(azure);
            let foreign = LaunchRequest {
                fleet: FleetName::new("other").expect("a name"),
                ..request("t-0", T4)
            };
            Setup {
                cloud,
                request: request("t-0", T4),
                foreign,
            }
        }
    })
    .await;
    let doubles = doubles.lock().expect("no panic holds it");
    assert!(doubles.len() >= 6);
    for azure in doubles.iter() {
        azure.finish();
    }
}

#[tokio::test]
async fn holds_it_when_listings_lag() {
    // A new instance may be missing from one listing; what was ended is never shown.
    let azure = Azure::with(Options {
        lag: 1,
        ..Options::default()
    })
    .await;
    let a = azure.launch("t-1").await.expect("a launch").instance;
    assert_eq!(
        azure
            .cloud
            .list(&Tags::default())
            .await
            .expect("a list")
            .len(),
        0
    );
    assert_eq!(
        azure
            .cloud
            .list(&Tags::default())
            .await
            .expect("a list")
            .len(),
        1
    );
    azure.double.set_lag(3);
    azure.cloud.terminate(&a.id).await.expect("ends");
    for _ in 0..4 {
        assert_eq!(
            azure.cloud.list(&Tags::default()).await.expect("a list"),
            []
        );
    }
    azure.finish();
}
