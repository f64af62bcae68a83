//! The driver against the double: real requests, moto's answers.

mod faults;
mod launches;
mod offers;
mod store_disk;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_ec2::config::Credentials;
use gpuloom_cloud::{LaunchRequest, Offering, Role, Tags, Token, UserData, contract};
use gpuloom_doubles::aws::{Double, IMAGE, Options};
use gpuloom_fleet::{
    AgentSource, AwsPlace, FleetName, GpuModel, GpuShape, Market, PoolName, PoolPlace,
};

use crate::{AwsCloud, AwsOptions};

const REGION: &str = "us-east-1";
const SECRET: &str = "wJalrXUtnFEMI-secret-of-this-test";

/// A double, a driver for it and the subnets of zones a and b.
struct Rig {
    double: Double,
    cloud: Arc<AwsCloud>,
    subnets: Vec<String>,
}

impl Rig {
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let double = Double::start(options).await.expect("moto starts");
        let subnets = double.subnets(REGION).await.expect("moto answers");
        let subnets = subnets.into_iter().take(2).map(|(id, _)| id).collect();
        let cloud = driver(&double).await;
        Self {
            double,
            cloud,
            subnets,
        }
    }

    fn place(&self) -> AwsPlace {
        AwsPlace {
            region: REGION.to_owned(),
            subnets: self.subnets.clone(),
            instance_types: vec!["g4dn.xlarge".to_owned()],
            image: IMAGE.to_owned(),
            instance_profile: Some("nodes".to_owned()),
            security_groups: Vec::new(),
            public_address: false,
            root_disk_gib: 60,
            tags: BTreeMap::from([("cost-centre".to_owned(), "42".to_owned())]),
            endpoint: Some(self.double.endpoint()),
            agent: AgentSource::Image,
        }
    }

    fn offering(&self, zone: usize, kind: &str, market: Market) -> Offering {
        Offering::new("aws", REGION, &self.subnets[zone], kind, market)
    }

    /// A node of the pool t4 of the fleet ml: g4dn.xlarge on demand in zone a, then b.
    fn request(&self, token: &str) -> LaunchRequest {
        let offerings = [0, 1].map(|zone| self.offering(zone, "g4dn.xlarge", Market::OnDemand));
        LaunchRequest {
            token: Token::new(token).expect("token"),
            fleet: FleetName::new("ml").expect("name"),
            fleet_id: "0123456789abcdef".to_owned(),
            pool: Some(PoolName::new("t4").expect("name")),
            role: Role::Node,
            offerings: offerings.to_vec(),
            place: PoolPlace::Aws(Box::new(self.place())),
            gpu: Some(GpuShape {
                model: GpuModel::new("T4").expect("a model"),
                per_node: 1,
            }),
            labels: Tags(BTreeMap::from([("team".to_owned(), "vision".to_owned())])),
            revision: "aabbccddeeff".to_owned(),
            data_disk: None,
            user_data: UserData {
                config: String::new(),
                join_token: None,
                script: "#!/bin/sh\necho hello\n".to_owned(),
            },
        }
    }

    fn sent(&self, action: &str) -> usize {
        let log = self.double.control().log();
        log.iter().filter(|logged| logged.action == action).count()
    }
}

async fn driver(double: &Double) -> Arc<AwsCloud> {
    let options = AwsOptions {
        region: REGION.to_owned(),
        endpoint: Some(double.endpoint()),
    };
    let credentials = Credentials::new("AKIATEST", SECRET, None, None, "test");
    let cloud = AwsCloud::with_credentials(options, credentials).await;
    Arc::new(cloud.expect("a region is given"))
}

#[tokio::test]
async fn it_holds_the_contract_of_every_cloud() {
    let rig = Rig::new().await;
    let make = async |rig: &mut Rig| {
        rig.double.reset().await.expect("moto answers");
        rig.double.set_room("*", 3);
        let subnets = rig.double.subnets(REGION).await.expect("moto answers");
        rig.subnets = subnets.into_iter().take(2).map(|(id, _)| id).collect();
        let mut request = rig.request("t-0");
        request.offerings.truncate(1);
        let foreign = LaunchRequest {
            fleet: FleetName::new("other").expect("name"),
            ..request.clone()
        };
        contract::Setup {
            cloud: driver(&rig.double).await,
            request,
            foreign,
        }
    };
    let rig = tokio::sync::Mutex::new(rig);
    contract::run(|| async { make(&mut *rig.lock().await).await }).await;
}
