//! Instances of three clouds at the lead's door, each with its own metadata service, and each lie.

use super::*;
use crate::lead::core::Clock;
use crate::lead::record::Piece;
use crate::lead::state::tests::pool;
use crate::lead::state::{Draft, Keep, State};
use gpuloom_api::RefusalCode;
use gpuloom_api::tls::SecretKey;
use gpuloom_cloud::{
    Cloud as _, FakeCloud, LaunchId, LaunchRecord, LaunchRequest, LaunchState, Offering,
};
use gpuloom_cloud::{Role, Token, UserData};
use gpuloom_doubles::clock::Clock as DoubleClock;
use gpuloom_doubles::imds::{Authority, Dialect as Plays, Double, Instance as Played, Options};
use gpuloom_fleet::{AwsPlace, AzurePlace, GcpPlace, Object, ObjectRecord};
use gpuloom_store::{OpenOptions, SqliteStore};
use tokio_util::sync::CancellationToken;

const ACCOUNT_ID: &str = "123456789012";

struct World {
    admission: Admission,
    core: Core,
    authority: Authority,
    clock: DoubleClock,
    plays: Plays,
    dialect: Dialect,
    node: NodeId,
    key: PublicKey,
    _roots: tempfile::TempDir,
}

fn places() -> [(Plays, Dialect, PoolPlace); 3] {
    let aws = AwsPlace {
        region: "us-east-1".to_owned(),
        ..AwsPlace::default()
    };
    let gcp = GcpPlace {
        project: ACCOUNT_ID.to_owned(),
        region: "us-central1".to_owned(),
        ..GcpPlace::default()
    };
    let azure = AzurePlace {
        subscription: ACCOUNT_ID.to_owned(),
        location: "eastus".to_owned(),
        ..AzurePlace::default()
    };
    [
        (Plays::Aws, Dialect::Aws, PoolPlace::Aws(Box::new(aws))),
        (Plays::Gcp, Dialect::Gcp, PoolPlace::Gcp(Box::new(gcp))),
        (
            Plays::Azure,
            Dialect::Azure,
            PoolPlace::Azure(Box::new(azure)),
        ),
    ]
}

fn fleet() -> FleetName {
    FleetName::new("ml").expect("a name")
}

fn pool_name() -> PoolName {
    PoolName::new("t4").expect("a name")
}

/// An instance of the pool, launched in a cloud that tells what a driver tells.
async fn launched(cloud: &FakeCloud) -> gpuloom_cloud::Instance {
    let mut labels = Tags::default();
    labels.0.insert(VM_ID.to_owned(), "vm-1".to_owned());
    labels.0.insert(ACCOUNT.to_owned(), ACCOUNT_ID.to_owned());
    let request = LaunchRequest {
        token: Token::of("x", LaunchId(1), 1),
        fleet: fleet(),
        fleet_id: "f1".to_owned(),
        pool: Some(pool_name()),
        role: Role::Node,
        offerings: vec![Offering("local/T4x2".to_owned())],
        place: PoolPlace::Local,
        gpu: Some(pool("t4").gpu),
        labels,
        revision: String::new(),
        data_disk: None,
        user_data: UserData::default(),
    };
    cloud.launch(&request).await.expect("launches").instance
}

// === impl World ===

impl World {
    async fn new((plays, dialect, place): (Plays, Dialect, PoolPlace)) -> Self {
        let cloud = Arc::new(FakeCloud::new());
        let instance = launched(&cloud).await;
        let clock = DoubleClock::default();
        let authority = Authority::start(clock.clone()).await.expect("keys");
        let roots = tempfile::tempdir().expect("a directory");
        let path = roots.path().join("roots.pem");
        std::fs::write(&path, authority.azure_roots_pem()).expect("writes");
        let store = SqliteStore::in_memory(OpenOptions::default()).expect("a store");
        let ticking = clock.clone();
        let ticking: Clock = Arc::new(move || Millis(ticking.now_ms()));
        let state = State::new(Keep::default());
        let (core, _task) = Core::start(state, Arc::new(store), ticking, CancellationToken::new());
        let mut spec = pool("t4");
        spec.place = place.clone();
        let record = ObjectRecord {
            object: Object::Pool(spec),
            generation: 1,
            owner: "test".to_owned(),
            session: "s".to_owned(),
            confirmed: true,
            withdrawing: false,
            declared_at: Millis(0),
        };
        let launch = LaunchRecord {
            id: LaunchId(1),
            pool: pool_name(),
            attempt: 1,
            offerings: Vec::new(),
            token: Token::of("x", LaunchId(1), 1),
            revision: String::new(),
            state: LaunchState::Launched {
                instance: instance.id.clone(),
            },
            at: Millis(clock.now_ms()),
        };
        let put = move |s: &State, _| {
            let mut draft = Draft::new(s);
            draft.put(Piece::Object(record));
            draft.put(Piece::Launch(launch));
            Ok((draft.finish(), ()))
        };
        core.write("launch", put).await.expect("is stored");
        let clouds = Arc::new(Clouds::new(cloud.clone()));
        clouds.put(&place, cloud).await;
        let attest = AttestConfig {
            aws_account: None,
            aws_sts_endpoint: Some(authority.sts_endpoint()),
            google_keys_url: Some(authority.google_keys_url()),
            azure_roots: Some(path),
        };
        let admission =
            Admission::new(core.clone(), clouds, fleet(), "f1".to_owned(), attest, None);
        Self {
            admission: admission.expect("a door"),
            core,
            authority,
            clock,
            plays,
            dialect,
            node: NodeId::new(instance.id.as_str()).expect("an id"),
            key: SecretKey::generate().expect("a key").public_key(),
            _roots: roots,
        }
    }

    /// What the instance `id` of `account` says for the lead's next challenge and `key`.
    async fn proof(&self, id: &str, vm_id: &str, account: &str, key: &PublicKey) -> proto::Proof {
        let asked = self.admission.challenge().await.expect("a challenge");
        let double = Double::start(Options {
            dialect: self.plays,
            instance: Played {
                id: id.to_owned(),
                vm_id: vm_id.to_owned(),
                account: account.to_owned(),
                region: "us-east-1".to_owned(),
                zone: "us-east-1a".to_owned(),
                instance_type: "g4dn.xlarge".to_owned(),
                private_address: "10.0.0.7".to_owned(),
                public_address: String::new(),
                identity: true,
            },
            authority: self.authority.clone(),
            clock: self.clock.clone(),
            listen: ([127, 0, 0, 1], 0).into(),
        });
        let endpoint = double.await.expect("a metadata service");
        let service = InstanceConfig {
            dialect: self.dialect,
            metadata: Some(endpoint.endpoint()),
            endpoint: None,
            resource_group: None,
        };
        let cloud: Cloud = self.dialect.as_str().parse().expect("a cloud");
        let challenge = Challenge::new(&asked.fleet_id, &asked.nonce, key.spki_der());
        let proof = service.service().expect("a client");
        let proof = proof
            .proof(&challenge.text(cloud), Some(&asked.aws_sts_endpoint))
            .await;
        proto::Proof {
            cloud: cloud.to_string(),
            nonce: asked.nonce,
            document: proof.expect("a proof").document,
        }
    }

    async fn own_proof(&self) -> proto::Proof {
        self.proof(self.node.as_str(), "vm-1", ACCOUNT_ID, &self.key)
            .await
    }

    async fn judge(&self, proof: &proto::Proof, key: &PublicKey) -> Result<InstanceJoin, Refusal> {
        let (pool, node) = (pool_name(), self.node.clone());
        self.admission
            .judge(proof, pool, node, key, "1".to_owned())
            .await
    }

    async fn join(&self, ask: InstanceJoin) {
        let join = move |s: &State, now| s.join_instance(&ask, now);
        self.core.write("join", join).await.expect("joins");
    }
}

fn denied(refused: Result<InstanceJoin, Refusal>, says: &str) {
    let refusal = refused.expect_err(says);
    assert_eq!(refusal.code, RefusalCode::Denied, "{refusal}");
    assert!(refusal.message.contains(says), "{says}: {refusal}");
    assert!(!refusal.fix.is_empty(), "{refusal}");
}

#[tokio::test]
async fn an_instance_joins_by_its_clouds_word_and_once() {
    for which in places() {
        let w = World::new(which).await;
        let proof = w.own_proof().await;
        let ask = w.judge(&proof, &w.key).await.expect("is let in");
        assert_eq!(ask.key, key_hash(&w.key));
        w.join(ask).await;
        // The very same proof, by itself or by who saw it.
        denied(w.judge(&proof, &w.key).await, "used before");
        // The answer was lost: asked again with a new challenge.
        let again = w.own_proof().await;
        w.judge(&again, &w.key).await.expect("is let in again");
        let other = SecretKey::generate().expect("a key").public_key();
        let second = w.proof(w.node.as_str(), "vm-1", ACCOUNT_ID, &other).await;
        denied(w.judge(&second, &other).await, "with another key");
    }
}

#[tokio::test]
async fn a_proof_of_another_key_instance_or_account_lets_nobody_in() {
    for which in places() {
        let w = World::new(which).await;
        let thief = SecretKey::generate().expect("a key").public_key();
        let stolen = w.own_proof().await;
        denied(w.judge(&stolen, &thief).await, "used before");
        let other = w.proof("i-0other", "vm-2", ACCOUNT_ID, &w.key).await;
        denied(w.judge(&other, &w.key).await, "is of instance");
        let account = w
            .proof(w.node.as_str(), "vm-1", "999999999999", &w.key)
            .await;
        denied(w.judge(&account, &w.key).await, "999999999999");
    }
}

#[tokio::test]
async fn an_instance_that_was_not_launched_or_too_long_ago_stays_outside() {
    for which in places() {
        let mut w = World::new(which).await;
        let put = move |s: &State, now: Millis| {
            let mut draft = Draft::new(s);
            for launch in s.launches.values() {
                let at = Millis(now.0 - 3_700_000);
                draft.put(Piece::Launch(LaunchRecord {
                    at,
                    ..launch.clone()
                }));
            }
            Ok((draft.finish(), ()))
        };
        w.core.write("launch", put).await.expect("is stored");
        let late = w.own_proof().await;
        denied(w.judge(&late, &w.key).await, "has never joined");
        w.node = NodeId::new("i-0stranger").expect("an id");
        let stranger = w.own_proof().await;
        denied(w.judge(&stranger, &w.key).await, "not launched");
    }
}

#[tokio::test]
async fn a_challenge_is_good_for_five_minutes_and_one_of_nobody_never() {
    let [aws, ..] = places();
    let w = World::new(aws).await;
    let mut proof = w.own_proof().await;
    w.clock.advance(std::time::Duration::from_secs(301));
    let refusal = w.judge(&proof, &w.key).await.expect_err("too late");
    // The node asks again by itself.
    assert_eq!(refusal.code, RefusalCode::Unavailable, "{refusal}");
    proof.nonce = "made.up.00".to_owned();
    let refusal = w.judge(&proof, &w.key).await.expect_err("nobody's");
    assert_eq!(refusal.code, RefusalCode::Unavailable, "{refusal}");
}
