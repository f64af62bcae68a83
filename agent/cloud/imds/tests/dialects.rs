//! Each dialect against the double of its metadata service.

use gpuloom_cloud_imds::{Clock, Dialect, Metadata, MetadataError, Notice, NoticeKind};
use gpuloom_doubles::clock::Clock as DoubleClock;
use gpuloom_doubles::imds::{Announcement, Authority, Dialect as Plays, Double, Instance, Options};
use gpuloom_fleet::Millis;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const ALL: [(Dialect, Plays); 3] = [
    (Dialect::Aws, Plays::Aws),
    (Dialect::Gcp, Plays::Gcp),
    (Dialect::Azure, Plays::Azure),
];

fn instance() -> Instance {
    Instance {
        id: "i-0abc".to_owned(),
        vm_id: "13f56399-bd52-4150-9748-7190aae1ff21".to_owned(),
        account: "123456789012".to_owned(),
        region: "us-central1".to_owned(),
        zone: "us-central1-a".to_owned(),
        instance_type: "g2-standard-4".to_owned(),
        private_address: "10.0.0.7".to_owned(),
        public_address: "203.0.113.9".to_owned(),
        identity: true,
    }
}

async fn started(plays: Plays, instance: Instance, clock: &DoubleClock) -> Double {
    let authority = Authority::start(clock.clone()).await.expect("an authority");
    let options = Options {
        dialect: plays,
        instance,
        authority,
        clock: clock.clone(),
        listen: ([127, 0, 0, 1], 0).into(),
    };
    Double::start(options).await.expect("a double")
}

fn client(dialect: Dialect, double: &Double) -> Metadata {
    Metadata::new(dialect, Some(&double.endpoint())).expect("a client")
}

/// What is told, once it is as wanted; whoever waits for ever is ended by the runner.
async fn told(
    seen: &mut watch::Receiver<Arc<Vec<Notice>>>,
    wanted: impl Fn(&[Notice]) -> bool,
) -> Vec<Notice> {
    let found = seen.wait_for(|all| wanted(all.as_slice())).await;
    found.expect("the watcher lives").to_vec()
}

fn watching(
    dialect: Dialect,
    double: &Double,
    clock: &DoubleClock,
) -> watch::Receiver<Arc<Vec<Notice>>> {
    let (tell, seen) = watch::channel(Arc::default());
    let (metadata, clock) = (client(dialect, double), clock.clone());
    let clock: Clock = Arc::new(move || Millis(clock.now_ms()));
    tokio::spawn(async move { metadata.notices(clock, tell).await });
    seen
}

#[tokio::test]
async fn each_service_says_what_the_instance_is() {
    let clock = DoubleClock::default();
    for (dialect, plays) in ALL {
        let double = started(plays, instance(), &clock).await;
        let facts = client(dialect, &double).facts().await.expect("facts");
        assert_eq!(facts.id, "i-0abc", "{dialect}");
        assert_eq!(facts.account, "123456789012");
        assert_eq!(facts.region, "us-central1");
        assert_eq!(facts.zone.as_deref(), Some("us-central1-a"));
        assert_eq!(facts.private_address.to_string(), "10.0.0.7");
        assert_eq!(
            facts.public_address.map(|a| a.to_string()).as_deref(),
            Some("203.0.113.9")
        );
        assert_eq!(facts.vm_id.is_some(), dialect == Dialect::Azure);
    }
}

#[tokio::test]
async fn an_instance_without_a_public_address_has_none() {
    let clock = DoubleClock::default();
    for (dialect, plays) in ALL {
        let bare = Instance {
            public_address: String::new(),
            ..instance()
        };
        let double = started(plays, bare, &clock).await;
        let facts = client(dialect, &double).facts().await.expect("facts");
        assert_eq!(facts.public_address, None, "{dialect}");
    }
}

#[tokio::test]
async fn a_session_that_ends_early_is_opened_anew_and_kept_otherwise() {
    let clock = DoubleClock::default();
    let double = started(Plays::Aws, instance(), &clock).await;
    let metadata = client(Dialect::Aws, &double);
    for _ in 0..3 {
        metadata.facts().await.expect("facts");
    }
    assert_eq!(double.sessions_opened(), 1);
    double.end_sessions();
    metadata.facts().await.expect("facts after a 401");
    assert_eq!(double.sessions_opened(), 2);
}

#[tokio::test]
async fn an_instance_without_an_identity_is_told_what_to_give_it() {
    let clock = DoubleClock::default();
    for (dialect, plays, says) in [
        (Dialect::Aws, Plays::Aws, "instance_profile"),
        (Dialect::Gcp, Plays::Gcp, "service_account"),
    ] {
        let bare = Instance {
            identity: false,
            ..instance()
        };
        let double = started(plays, bare, &clock).await;
        let proof = client(dialect, &double).proof("abc", None).await;
        let error = proof.expect_err("it has none").to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_proof_is_shown_to_nobody() {
    let clock = DoubleClock::default();
    for (dialect, plays) in ALL {
        let double = started(plays, instance(), &clock).await;
        let proof = client(dialect, &double)
            .proof("0123456789", None)
            .await
            .expect("a proof");
        assert!(!proof.document.is_empty());
        let shown = format!("{proof:?}");
        assert!(!shown.contains(&proof.document), "{shown}");
        assert!(
            !proof.document.contains("secret/of"),
            "the key itself is in no proof"
        );
    }
}

#[tokio::test]
async fn aws_tells_of_spot_rebalance_and_scheduled_events() {
    let clock = DoubleClock::default();
    let double = started(Plays::Aws, instance(), &clock).await;
    double.announce(Announcement::Maintenance { in_ms: 86_400_000 });
    double.announce(Announcement::Rebalance);
    let mut seen = watching(Dialect::Aws, &double, &clock);
    let first = told(&mut seen, |all| all.len() == 2).await;
    let kinds: Vec<_> = first.iter().map(|n| n.kind).collect();
    assert_eq!(kinds, [NoticeKind::Rebalance, NoticeKind::Stop]);
    assert_eq!(first[0].at, None);
    let now = clock.now_ms();
    double.announce(Announcement::Preempt { in_ms: 120_000 });
    let all = told(&mut seen, |all| all.len() == 3).await;
    let at = all[0].at.expect("a time").0;
    assert_eq!(all[0].kind, NoticeKind::Preempt);
    assert!((118_000..=121_000).contains(&(at - now)), "{}", at - now);
}

#[tokio::test]
async fn google_answers_a_waiting_call_as_soon_as_the_value_changes() {
    let clock = DoubleClock::default();
    let double = started(Plays::Gcp, instance(), &clock).await;
    let mut seen = watching(Dialect::Gcp, &double, &clock);
    // It waits: the second call of each value names the ETag it knows.
    while !double
        .asked()
        .iter()
        .any(|p| p.contains("preempted?") && p.contains("last_etag=0000000000000001"))
    {
        tokio::task::yield_now().await;
    }
    let now = clock.now_ms();
    double.announce(Announcement::Preempt { in_ms: 0 });
    let all = told(&mut seen, |all| !all.is_empty()).await;
    assert_eq!(all[0].kind, NoticeKind::Preempt);
    let left = all[0].at.expect("a time").0 - now;
    assert!((30_000..32_000).contains(&left), "{left}");
    double.announce(Announcement::Maintenance { in_ms: 0 });
    let both = told(&mut seen, |all| all.len() == 2).await;
    // The other value's change does not put the first one's time off.
    assert_eq!(both[0].at, all[0].at);
    double.withdraw();
    told(&mut seen, <[Notice]>::is_empty).await;
}

#[tokio::test]
async fn azure_tells_of_its_own_events_and_acknowledges_them() {
    let clock = DoubleClock::default();
    let double = started(Plays::Azure, instance(), &clock).await;
    double.announce(Announcement::OfAnother { in_ms: 30_000 });
    let now = clock.now_ms();
    double.announce(Announcement::Preempt { in_ms: 30_000 });
    let mut seen = watching(Dialect::Azure, &double, &clock);
    let all = told(&mut seen, |all| !all.is_empty()).await;
    assert_eq!(all.len(), 1, "the other machine's is not ours: {all:?}");
    let at = all[0].at.expect("a time").0;
    assert!((28_000..=31_000).contains(&(at - now)), "{}", at - now);
    let metadata = client(Dialect::Azure, &double);
    metadata
        .acknowledge(std::slice::from_ref(&all[0].id))
        .await
        .expect("is taken");
    assert_eq!(double.acknowledged(), [all[0].id.clone()]);
    let unknown = metadata.acknowledge(&["nobody".to_owned()]).await;
    assert!(
        matches!(unknown, Err(MetadataError::Status { status: 400, .. })),
        "{unknown:?}"
    );
    // Started: the date is gone from the document, and kept here.
    let started = told(&mut seen, |all| all.len() == 1).await;
    assert_eq!(started[0].at, all[0].at);
}

#[tokio::test]
async fn azures_first_look_may_take_longer_than_any_other_call() {
    let clock = DoubleClock::default();
    let double = started(Plays::Azure, instance(), &clock).await;
    // Longer than a call may take: the real one may take two minutes.
    double.delay_first_events(gpuloom_cloud_imds::CALL_TIMEOUT + Duration::from_millis(300));
    double.announce(Announcement::Preempt { in_ms: 30_000 });
    let mut seen = watching(Dialect::Azure, &double, &clock);
    told(&mut seen, |all| all.len() == 1).await;
    let looks = double
        .asked()
        .iter()
        .filter(|p| p.contains("scheduledevents"))
        .count();
    assert_eq!(looks, 1, "the first look was waited for, not given up");
}

#[tokio::test]
async fn a_service_that_is_away_is_transient_and_a_wrong_address_is_not() {
    let clock = DoubleClock::default();
    let double = started(Plays::Aws, instance(), &clock).await;
    let metadata = client(Dialect::Aws, &double);
    drop(double);
    let error = metadata.facts().await.expect_err("nobody answers");
    assert!(error.is_transient(), "{error}");
    for endpoint in ["https://x", "169.254.169.254", "http://", "http://h/p"] {
        let made = Metadata::new(Dialect::Aws, Some(endpoint));
        assert!(
            matches!(made, Err(MetadataError::Endpoint { .. })),
            "{endpoint}"
        );
    }
}

#[tokio::test]
async fn another_clouds_service_says_that_the_cloud_may_be_wrong() {
    let clock = DoubleClock::default();
    let double = started(Plays::Gcp, instance(), &clock).await;
    let error = client(Dialect::Azure, &double)
        .facts()
        .await
        .expect_err("not Azure's");
    assert!(
        matches!(error, MetadataError::Status { status: 403, .. }),
        "{error}"
    );
}
