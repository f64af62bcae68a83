//! A double, a driver and what to ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use gpuloom_cloud::{DataDisk, LaunchRequest, Offering, Role, Tags, Token, UserData};
use gpuloom_cloud_gcp::{GcpCloud, GcpOptions};
use gpuloom_doubles::gcp::{Double, Options, PROJECT};
use gpuloom_fleet::{FleetName, GcpPlace, GpuModel, GpuShape, Market, PoolName, PoolPlace};

pub(crate) const REGION: &str = "us-central1";
pub(crate) const IMAGE: &str = "projects/gpuloom-images/global/images/family/node";

/// A double with a driver on it. Dropping it asserts that no request was against the contract.
pub(crate) struct Rig {
    pub(crate) double: Double,
    pub(crate) cloud: Arc<GcpCloud>,
}

// === impl Rig ===

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let double = Double::start(options).await.unwrap();
        if let Err(why) = double.contract() {
            panic!("these tests need the contract: {why}");
        }
        let cloud = Arc::new(driver(&double).await);
        Self { double, cloud }
    }

    /// Requests of an action so far.
    pub(crate) fn count(&self, action: &str) -> usize {
        let log = self.double.control().log();
        log.iter().filter(|l| l.action == action).count()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.double.control().violations(), [""; 0]);
        }
    }
}

pub(crate) async fn driver(double: &Double) -> GcpCloud {
    let options = GcpOptions {
        project: PROJECT.to_owned(),
        region: REGION.to_owned(),
        endpoint: Some(double.endpoint()),
    };
    GcpCloud::new(options).await.unwrap()
}

pub(crate) fn place() -> GcpPlace {
    GcpPlace {
        project: PROJECT.to_owned(),
        region: REGION.to_owned(),
        image: IMAGE.to_owned(),
        boot_disk_gib: 50,
        service_account: Some("nodes@gpuloom-test.iam.gserviceaccount.com".to_owned()),
        labels: BTreeMap::from([("cost-center".to_owned(), "ml-42".to_owned())]),
        ..GcpPlace::default()
    }
}

pub(crate) fn offering(zone: &str, machine_type: &str, market: Market) -> Offering {
    Offering::new(
        "gcp",
        REGION,
        &format!("{REGION}-{zone}"),
        machine_type,
        market,
    )
}

pub(crate) fn shape(model: &str, per_node: u32) -> GpuShape {
    GpuShape {
        model: GpuModel::new(model).unwrap(),
        per_node,
    }
}

pub(crate) fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

/// A node with an L4 in zone a, on demand.
pub(crate) fn node(name: &str) -> LaunchRequest {
    LaunchRequest {
        token: token(name),
        fleet: FleetName::new("ml").unwrap(),
        fleet_id: "0123456789abcdef".to_owned(),
        pool: Some(PoolName::new("l4").unwrap()),
        role: Role::Node,
        offerings: vec![offering("a", "g2-standard-4", Market::OnDemand)],
        place: PoolPlace::Gcp(Box::new(place())),
        gpu: Some(shape("L4", 1)),
        labels: Tags(BTreeMap::from([(
            "Team".to_owned(),
            "Vision & Co".to_owned(),
        )])),
        revision: "00112233aabb".to_owned(),
        data_disk: None,
        user_data: UserData {
            config: String::new(),
            join_token: Some("a-secret-token".to_owned()),
            script: "#!/bin/sh\ntrue\n".to_owned(),
        },
    }
}

/// A lead without GPUs and with a data disk, in zone a or else b.
pub(crate) fn lead(name: &str) -> LaunchRequest {
    LaunchRequest {
        pool: None,
        role: Role::Lead,
        offerings: vec![
            offering("a", "e2-standard-4", Market::OnDemand),
            offering("b", "e2-standard-4", Market::OnDemand),
        ],
        gpu: None,
        revision: String::new(),
        data_disk: Some(DataDisk { size_gib: 20 }),
        ..node(name)
    }
}
