//! Proofs that three clouds' doubles signed, checked and judged; and each lie about them.

use gpuloom_cloud_attest::{
    Challenge, Claims, Cloud, Expected, Known, Refusal, Verifier, VerifierOptions, judge,
};
use gpuloom_cloud_imds::{Dialect, Metadata};
use gpuloom_doubles::clock::Clock;
use gpuloom_doubles::imds::{Authority, Dialect as Plays, Double, Instance, Options};
use gpuloom_fleet::Millis;
use std::time::Duration;

const ALL: [(Cloud, Dialect, Plays); 3] = [
    (Cloud::Aws, Dialect::Aws, Plays::Aws),
    (Cloud::Gcp, Dialect::Gcp, Plays::Gcp),
    (Cloud::Azure, Dialect::Azure, Plays::Azure),
];

struct World {
    clock: Clock,
    authority: Authority,
    verifier: Verifier,
    double: Double,
    cloud: Cloud,
    dialect: Dialect,
    _roots: tempfile::TempDir,
}

fn instance() -> Instance {
    Instance {
        id: "i-0abc".to_owned(),
        vm_id: "vm-of-i-0abc".to_owned(),
        account: "123456789012".to_owned(),
        region: "us-east-1".to_owned(),
        zone: "us-east-1a".to_owned(),
        instance_type: "g4dn.xlarge".to_owned(),
        private_address: "10.0.0.7".to_owned(),
        public_address: String::new(),
        identity: true,
    }
}

// === impl World ===

impl World {
    async fn new((cloud, dialect, plays): (Cloud, Dialect, Plays)) -> Self {
        let clock = Clock::default();
        let authority = Authority::start(clock.clone()).await.expect("an authority");
        let roots = tempfile::tempdir().expect("a directory");
        let path = roots.path().join("roots.pem");
        std::fs::write(&path, authority.azure_roots_pem()).expect("writes");
        let verifier = Verifier::new(VerifierOptions {
            aws_sts_endpoint: Some(authority.sts_endpoint()),
            google_keys_url: Some(authority.google_keys_url()),
            azure_roots: Some(path),
        });
        let double = Double::start(Options {
            dialect: plays,
            instance: instance(),
            authority: authority.clone(),
            clock: clock.clone(),
            listen: ([127, 0, 0, 1], 0).into(),
        });
        Self {
            double: double.await.expect("a double"),
            verifier: verifier.expect("a verifier"),
            clock,
            authority,
            cloud,
            dialect,
            _roots: roots,
        }
    }

    fn now(&self) -> Millis {
        Millis(self.clock.now_ms())
    }

    async fn proof(&self, challenge: &Challenge) -> String {
        let metadata =
            Metadata::new(self.dialect, Some(&self.double.endpoint())).expect("a client");
        let sts = self.authority.sts_endpoint();
        let proof = metadata
            .proof(&challenge.text(self.cloud), Some(&sts))
            .await;
        proof.expect("a proof").document
    }

    async fn claims(&self, document: &str) -> Result<Claims, Refusal> {
        self.verifier.claims(self.cloud, document, self.now()).await
    }

    fn expected(&self, challenge: &Challenge) -> Expected {
        Expected {
            cloud: self.cloud,
            account: "123456789012".to_owned(),
            challenge: challenge.text(self.cloud),
            node: "i-0abc".to_owned(),
            key: "k".to_owned(),
            known: Some(Known {
                instance: "i-0abc".to_owned(),
                vm_id: Some("VM-OF-i-0abc".to_owned()),
                launched_at: self.now(),
                joined_with: None,
            }),
            launching: false,
        }
    }
}

fn challenge(nonce: &str) -> Challenge {
    Challenge::new("f1", nonce, b"key")
}

#[tokio::test]
async fn a_true_proof_of_each_cloud_is_believed() {
    for which in ALL {
        let w = World::new(which).await;
        let asked = challenge("n1");
        let claims = w.claims(&w.proof(&asked).await).await.expect("it is true");
        let identity = judge(&claims, &w.expected(&asked), w.now()).expect("is let in");
        assert_eq!(identity.instance, "i-0abc", "{}", w.cloud);
    }
}

#[tokio::test]
async fn a_proof_is_good_for_its_own_challenge_alone() {
    for which in ALL {
        let w = World::new(which).await;
        let stolen = w
            .claims(&w.proof(&challenge("n1")).await)
            .await
            .expect("it is true");
        let others = [
            challenge("n2"),
            Challenge::new("f1", "n1", b"thief"),
            Challenge::new("f2", "n1", b"key"),
        ];
        for other in others {
            let refused = judge(&stolen, &w.expected(&other), w.now());
            assert!(
                matches!(
                    refused,
                    Err(Refusal::Replay | Refusal::WrongAudience { .. })
                ),
                "{}: {refused:?}",
                w.cloud
            );
        }
    }
}

#[tokio::test]
async fn an_old_proof_is_refused_by_the_clock() {
    for which in ALL {
        let w = World::new(which).await;
        let asked = challenge("n1");
        let claims = w.claims(&w.proof(&asked).await).await.expect("it is true");
        let late = Millis(w.now().0 + 2 * 3_600_000);
        let refused = judge(&claims, &w.expected(&asked), late).expect_err("two hours later");
        let by_clock = matches!(refused, Refusal::Expired { .. } | Refusal::ClockSkew { .. });
        assert!(by_clock, "{}: {refused}", w.cloud);
        assert!(refused.fix().contains("NTP"));
        let early = Millis(w.now().0 - 3_600_000);
        let refused = judge(&claims, &w.expected(&asked), early).expect_err("an hour before");
        assert!(
            matches!(refused, Refusal::ClockSkew { .. }),
            "{}: {refused}",
            w.cloud
        );
    }
}

#[tokio::test]
async fn a_changed_proof_is_nobodys_word() {
    for which in ALL {
        let w = World::new(which).await;
        let document = w.proof(&challenge("n1")).await;
        let changed = match w.cloud {
            Cloud::Aws => document.replace(
                &challenge("n1").text(Cloud::Aws),
                &challenge("n2").text(Cloud::Aws),
            ),
            // Another payload under the same signature.
            Cloud::Gcp => {
                let forged = w
                    .authority
                    .identity_token(&instance(), "x", true, w.clock.now_ms());
                let mut parts: Vec<&str> = document.split('.').collect();
                parts[1] = forged.split('.').nth(1).expect("a payload");
                parts.join(".")
            }
            Cloud::Azure => {
                use base64::Engine as _;
                let engine = base64::engine::general_purpose::STANDARD;
                let mut der = engine.decode(&document).expect("base64");
                let at = der
                    .windows(7)
                    .position(|w| w == b"\"vmId\":")
                    .expect("is there");
                der[at + 9] ^= 1;
                engine.encode(der)
            }
        };
        assert_ne!(changed, document);
        let refused = w.claims(&changed).await;
        assert!(
            matches!(refused, Err(Refusal::BadProof { .. })),
            "{}: {refused:?}",
            w.cloud
        );
    }
}

#[tokio::test]
async fn another_authoritys_word_is_not_believed() {
    for which in ALL {
        let (ours, theirs) = (World::new(which).await, World::new(which).await);
        let asked = challenge("n1");
        let metadata =
            Metadata::new(theirs.dialect, Some(&theirs.double.endpoint())).expect("a client");
        // Signed for our STS with keys that it never gave.
        let sts = ours.authority.sts_endpoint();
        let proof = metadata
            .proof(&asked.text(theirs.cloud), Some(&sts))
            .await
            .expect("a proof");
        let refused = ours.claims(&proof.document).await;
        assert!(
            matches!(refused, Err(Refusal::BadProof { .. })),
            "{}: {refused:?}",
            ours.cloud
        );
    }
}

#[tokio::test]
async fn a_request_for_another_host_is_sent_nowhere() {
    let w = World::new(ALL[0]).await;
    let metadata = Metadata::new(w.dialect, Some(&w.double.endpoint())).expect("a client");
    let elsewhere = metadata
        .proof("abc", Some("http://127.0.0.1:1/"))
        .await
        .expect("a proof");
    let refused = w
        .claims(&elsewhere.document)
        .await
        .expect_err("another host");
    assert!(refused.to_string().contains("another host"), "{refused}");
}

#[tokio::test]
async fn a_node_whose_clock_is_wrong_is_told_so_by_sts() {
    let w = World::new(ALL[0]).await;
    let document = w.proof(&challenge("n1")).await;
    w.clock.advance(Duration::from_secs(3_600));
    let refused = w.claims(&document).await.expect_err("an hour late");
    assert!(refused.to_string().contains("clock"), "{refused}");
}

#[tokio::test]
async fn an_authority_that_is_away_is_asked_again_later() {
    for which in [ALL[0], ALL[1]] {
        let w = World::new(which).await;
        let document = w.proof(&challenge("n1")).await;
        let gone = Verifier::new(VerifierOptions {
            aws_sts_endpoint: Some(w.authority.sts_endpoint()),
            google_keys_url: Some("http://127.0.0.1:1/keys".to_owned()),
            azure_roots: None,
        });
        let World {
            authority,
            double,
            cloud,
            ..
        } = w;
        drop((authority, double));
        let refused = gone
            .expect("a verifier")
            .claims(cloud, &document, Millis(0))
            .await;
        let refused = refused.expect_err("nobody answers");
        assert!(refused.is_transient(), "{cloud}: {refused}");
    }
}

#[tokio::test]
async fn a_token_without_the_instance_and_a_proof_of_a_megabyte_are_refused() {
    let w = World::new(ALL[1]).await;
    let token = w
        .authority
        .identity_token(&instance(), "a", false, w.clock.now_ms());
    let refused = w.claims(&token).await.expect_err("format=standard");
    assert!(refused.to_string().contains("format=full"), "{refused}");
    let refused = w.claims(&"x".repeat(1 << 20)).await;
    assert!(
        matches!(refused, Err(Refusal::BadProof { .. })),
        "{refused:?}"
    );
}
