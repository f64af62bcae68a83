//! A fleet's lead on a cloud, from its launch to its end: a cloud in memory that boots the stand-in lead.

mod booting;

use std::sync::Arc;
use std::time::Duration;

use gpuloom_api::tls::SecretKey;
use gpuloom_cloud::{Faults, Offered, Offering, Tags};
use gpuloom_fleet::{AwsPlace, Bytes, Market, PoolPlace};
use tempfile::TempDir;
use tfplug::CancellationToken;

use super::bring_up::{self, Last};
use super::launch::Limit;
use super::note::Note;
use crate::configure::Settings;
use crate::convert::{CloudSite, Reachability, Site};
use crate::lead::Unreachable;
use crate::lead_instance::{self, LeadAt, LeadInstance};
use crate::lost;
use booting::Booting;

struct Rig {
    settings: Settings,
    cloud: Arc<Booting>,
    site: Site,
    key: SecretKey,
    dir: TempDir,
}

fn site(image: &str) -> Site {
    Site::Cloud(Box::new(CloudSite {
        place: PoolPlace::Aws(Box::new(AwsPlace {
            region: "us-east-1".to_owned(),
            subnets: vec!["subnet-0a".to_owned(), "subnet-0b".to_owned()],
            instance_types: vec!["m7i.large".to_owned()],
            image: image.to_owned(),
            root_disk_gib: 100,
            ..AwsPlace::default()
        })),
        data_disk_gib: 20,
        reachability: Reachability::Private,
        keep_disk: false,
    }))
}

fn offering(zone: &str) -> Offering {
    Offering::new("aws", "us-east-1", zone, "m7i.large", Market::OnDemand)
}

fn offered() -> Vec<Offered> {
    let spot = Offering::new("aws", "us-east-1", "subnet-0a", "m7i.large", Market::Spot);
    [spot, offering("subnet-0a"), offering("subnet-0b")]
        .map(|offering| Offered {
            offering,
            gpu: None,
            gpu_memory_each: None,
            vcpus: 2,
            memory: Bytes::gib(8),
            hourly: None,
            price_at: None,
        })
        .into()
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let key = SecretKey::generate().expect("a key");
        let cloud = Arc::new(Booting::new(&dir.path().join("cloud")));
        cloud.fake.set(Faults {
            offered: offered(),
            ..Faults::default()
        });
        let mut rig = Self {
            settings: Settings::of_test(dir.path(), dir.path(), key.clone()),
            cloud,
            site: site("ami-1"),
            key,
            dir,
        };
        rig.walk().await;
        rig
    }

    /// The next graph walk: another process of the same user.
    async fn walk(&mut self) {
        let root = self.dir.path().join("root");
        self.settings = Settings::of_test(&root, self.dir.path(), self.key.clone());
        let cloud: Arc<dyn gpuloom_cloud::Cloud> = self.cloud.clone();
        self.settings.clouds.put(self.site.place(), cloud).await;
    }

    fn limit(&self) -> Limit {
        Limit::new(Duration::from_secs(60), &CancellationToken::new())
    }

    async fn create(&self) -> Result<LeadInstance, bring_up::NotCreated> {
        let labels = Tags::default();
        bring_up::create(&self.settings, &self.site, "ml", labels, &self.limit()).await
    }

    async fn start(&self, last: &Last) -> LeadInstance {
        let labels = Tags::default();
        let limit = self.limit();
        bring_up::start(&self.settings, &self.site, "ml", labels, last, &limit)
            .await
            .expect("started")
    }

    async fn end(&self, id: &str) {
        let limit = Duration::from_secs(30);
        lost::end_fleet(&self.settings, &self.site, "ml", Some(id), limit)
            .await
            .expect("ended");
        assert_eq!(self.cloud.fake.truth(), []);
    }
}

fn said(diagnostics: &tfplug::Diagnostics) -> String {
    let all = diagnostics
        .iter()
        .map(|d| format!("{}: {}\n", d.summary, d.detail));
    all.collect()
}

fn last(lead: &LeadInstance) -> Last {
    Last {
        offering: Some(lead.instance.offering.0.clone()),
        token: Some(lead.instance.token.to_string()),
    }
}

fn id(lead: &LeadInstance) -> String {
    lead.connection.as_ref().expect("it has said").id.clone()
}

#[tokio::test]
async fn a_lead_comes_up_on_demand_in_the_first_zone_and_ends_with_its_disk() {
    let rig = Rig::new().await;
    let lead = rig.create().await.expect("up");
    assert_eq!(lead.instance.offering, offering("subnet-0a"));
    let tags = &lead.instance.tags;
    let tag = rig.settings.lead_tag().expect("a key");
    assert_eq!(tags.get(Tags::FLEET_ID), Some(tag.as_str()));
    assert_eq!(tags.get(Tags::ROLE), Some("lead"));
    let endpoints = lead.connection.as_ref().expect("said").endpoints.clone();
    assert_eq!(endpoints, [format!("{}:7443", rig.cloud.address)]);
    let script = rig.cloud.script();
    let secret = rig.key.to_pem();
    let secret = secret.lines().nth(1).expect("PEM");
    assert!(!script.contains(secret), "no secret in user data");
    assert!(rig.cloud.has_disk());
    rig.end(&id(&lead)).await;
    assert!(!rig.cloud.has_disk());
}

#[tokio::test]
async fn a_disk_that_is_kept_outlives_its_fleet() {
    let mut rig = Rig::new().await;
    let lead = rig.create().await.expect("up");
    if let Site::Cloud(site) = &mut rig.site {
        site.keep_disk = true;
    }
    rig.end(&id(&lead)).await;
    assert!(rig.cloud.has_disk());
    Note::remove(&rig.settings, &rig.site, "ml").expect("forgotten");
    rig.walk().await;
    let again = rig.create().await.expect("up again");
    assert_eq!(again.connection, lead.connection);
    rig.end(&id(&again)).await;
}

#[tokio::test]
async fn a_zone_without_room_is_passed_over_and_all_of_them_are_named_when_none_has_any() {
    let mut rig = Rig::new().await;
    let full = |zones: &[&str]| Faults {
        offered: offered(),
        capacity: zones.iter().map(|z| (offering(z), 0)).collect(),
        ..Faults::default()
    };
    rig.cloud.fake.set(full(&["subnet-0a", "subnet-0b"]));
    let not = rig.create().await.expect_err("no room");
    let said = said(&not.diagnostics);
    assert!(!not.left, "{said}");
    for zone in ["subnet-0a", "subnet-0b"] {
        let line = format!("{}: capacity", offering(zone));
        assert!(said.contains(&line), "{said}");
    }
    assert_eq!(rig.cloud.fake.truth(), []);
    rig.cloud.fake.set(full(&["subnet-0a"]));
    rig.walk().await;
    let lead = rig.create().await.expect("up");
    assert_eq!(lead.instance.offering, offering("subnet-0b"));
    rig.end(&id(&lead)).await;
}

#[tokio::test]
async fn lost_answers_give_one_lead() {
    let rig = Rig::new().await;
    rig.cloud.fake.set(Faults {
        offered: offered(),
        lost_requests: 1,
        lost_answers: 1,
        listing_lag: 2,
        ..Faults::default()
    });
    let lead = rig.create().await.expect("up");
    assert_eq!(rig.cloud.fake.calls().made, 1);
    rig.end(&id(&lead)).await;
}

#[tokio::test]
async fn an_interrupted_creation_is_taken_up_and_a_fleet_that_was_read_is_not() {
    let mut rig = Rig::new().await;
    let lead = rig.create().await.expect("up");
    rig.walk().await;
    let again = rig.create().await.expect("adopted");
    assert_eq!(again.instance.id, lead.instance.id);
    Note::confirm(&rig.settings, &rig.site, "ml").expect("read back");
    rig.walk().await;
    let not = rig.create().await.expect_err("it is somebody's");
    let said = said(&not.diagnostics);
    assert!(
        said.contains("terraform import gpuloom_fleet.<label> 'aws/us-east-1/ml'"),
        "{said}"
    );
    assert_eq!(rig.cloud.fake.truth().len(), 1);
    rig.end(&id(&lead)).await;
}

#[tokio::test]
async fn a_lead_that_died_is_replaced_where_its_disk_is_and_stays_the_same_fleet() {
    let mut rig = Rig::new().await;
    rig.cloud.fake.set(Faults {
        offered: offered(),
        capacity: [(offering("subnet-0a"), 0)].into(),
        ..Faults::default()
    });
    let lead = rig.create().await.expect("up");
    assert_eq!(lead.instance.offering.zone(), "subnet-0b");
    rig.cloud.fake.set(Faults {
        offered: offered(),
        ..Faults::default()
    });
    rig.cloud.power_cut(&lead.instance.id);
    rig.cloud.fake.kill(&lead.instance.id);
    rig.walk().await;
    let found = lead_instance::find(&rig.settings, &rig.site, "ml").await;
    assert!(found.expect("listed").is_none());
    let after = rig.start(&last(&lead)).await;
    assert_ne!(after.instance.id, lead.instance.id);
    assert_ne!(after.instance.token, lead.instance.token);
    assert_eq!(
        after.instance.offering.zone(),
        "subnet-0b",
        "the disk lies there"
    );
    assert_eq!(after.connection, lead.connection);
    rig.end(&id(&after)).await;
}

#[tokio::test]
async fn another_image_replaces_the_instance_and_another_road_does_not() {
    let mut rig = Rig::new().await;
    let lead = rig.create().await.expect("up");
    let same = rig.start(&last(&lead)).await;
    assert_eq!(same.instance.id, lead.instance.id);
    rig.site = site("ami-2");
    rig.walk().await;
    let other = rig.start(&last(&lead)).await;
    assert_ne!(other.instance.id, lead.instance.id);
    assert_eq!(other.connection, lead.connection);
    assert_eq!(rig.cloud.fake.truth().len(), 1, "the old one has ended");
    rig.end(&id(&other)).await;
}

#[tokio::test]
async fn a_lead_that_is_down_is_started_and_not_doubled() {
    let mut rig = Rig::new().await;
    let lead = rig.create().await.expect("up");
    rig.cloud.power_cut(&lead.instance.id);
    rig.cloud.fake.stop(&lead.instance.id);
    rig.walk().await;
    let after = rig.start(&last(&lead)).await;
    assert_eq!(after.instance.id, lead.instance.id);
    assert_eq!(rig.cloud.fake.calls().made, 1);
    rig.end(&id(&after)).await;
}

#[tokio::test]
async fn what_a_destroy_cannot_end_is_named() {
    let rig = Rig::new().await;
    let lead = rig.create().await.expect("up");
    rig.cloud.fake.set(Faults {
        offered: offered(),
        lost_terminations: 1_000_000,
        ..Faults::default()
    });
    let limit = Duration::from_millis(300);
    let refused = lost::end_fleet(&rig.settings, &rig.site, "ml", Some(&id(&lead)), limit).await;
    let said = said(&refused.expect_err("one is left"));
    assert!(said.contains(lead.instance.id.as_str()), "{said}");
    assert!(rig.cloud.has_disk(), "a disk in use is nobody's to delete");
    assert_eq!(rig.cloud.fake.calls().starts, 0);
    rig.cloud.fake.set(Faults::default());
    rig.end(&id(&lead)).await;
}

#[tokio::test]
async fn the_nodes_of_a_lost_lead_are_ended_by_their_tags_and_nobody_elses() {
    let rig = Rig::new().await;
    let lead = rig.create().await.expect("up");
    let connection = lead.connection.clone().expect("said");
    let mine = rig.cloud.node("ml", &connection.id, "t4").await;
    let others = rig.cloud.node("ml", "another-fleet", "t4").await;
    let at = LeadAt {
        name: "ml".to_owned(),
        site: rig.site.clone(),
    };
    let silent = || Unreachable::Silent("no answer".to_owned());
    let end = lost::end_of(&rig.settings, &connection, Some(&at), silent()).await;
    assert!(end.is_err(), "its instance runs: it may come back");
    rig.cloud.power_cut(&lead.instance.id);
    rig.cloud.fake.kill(&lead.instance.id);
    let end = lost::end_of(&rig.settings, &connection, Some(&at), silent()).await;
    assert!(
        matches!(end, Ok(lost::FleetEnd::Stopped { .. })),
        "its disk is there: {end:?}"
    );
    let pool = lost::LostPool {
        connection: &connection,
        fleet: Some("ml"),
        name: "t4",
        place: rig.site.place(),
    };
    let ids = pool.ids(&rig.settings).await.expect("listed");
    assert_eq!(ids, [mine.to_string()]);
    let limit = Duration::from_secs(30);
    let ended = pool.terminate(&rig.settings, limit).await.expect("ended");
    assert_eq!(ended, 1);
    let left: Vec<_> = rig.cloud.fake.truth().into_iter().map(|i| i.id).collect();
    assert_eq!(left, [others]);
    assert_eq!(rig.cloud.fake.calls().starts, 0);
}
