//! The decision: what a cloud said, what the lead knows, and the time.

use crate::challenge::Cloud;
use crate::refusal::Refusal;
use gpuloom_fleet::Millis;

/// How far the clocks of a cloud, a node and the lead may be apart.
pub const MAX_CLOCK_SKEW_MS: u64 = 5 * 60 * 1000;
/// How long after its launch an instance may join for the first time.
pub const MAX_LAUNCH_AGE_MS: u64 = 3_600 * 1000;

/// Whom a proof is of, in the cloud's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// What drivers call the instance.
    Instance(String),
    /// Azure's id of the machine.
    VmId(String),
}

/// What a verified proof says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Whose word it is.
    pub cloud: Cloud,
    /// Account, project or subscription.
    pub account: String,
    /// Whom it is of.
    pub subject: Subject,
    /// The challenge it was made for.
    pub challenge: String,
    /// When it was made.
    pub issued_at: Millis,
    /// When it ends, where it says so.
    pub expires_at: Option<Millis>,
}

/// An instance in the lead's book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What drivers call it.
    pub instance: String,
    /// Azure's id of it, where the cloud's list tells one.
    pub vm_id: Option<String>,
    /// When it was launched.
    pub launched_at: Millis,
    /// The key it joined with, when it has.
    pub joined_with: Option<String>,
}

/// What must be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The pool's cloud.
    pub cloud: Cloud,
    /// The account of the pool's instances.
    pub account: String,
    /// The challenge in the cloud's form.
    pub challenge: String,
    /// The node id of the request.
    pub node: String,
    /// The request's key, as [`Known::joined_with`] has it.
    pub key: String,
    /// The instance of that name; `None` when the lead launched none.
    pub known: Option<Known>,
    /// A launch of the pool is under way whose instance is not known yet.
    pub launching: bool,
}

/// Who may join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What drivers call the instance; its node's id.
    pub instance: String,
    /// Account, project or subscription.
    pub account: String,
    /// It joined before with the same key: the answer was lost, or its certificate has ended.
    pub again: bool,
}

/// Lets an instance in, or says why not. The nonce behind the challenge is spent before.
pub fn judge(claims: &Claims, expected: &Expected, now: Millis) -> Result<Identity, Refusal> {
    if claims.cloud != expected.cloud {
        return Err(Refusal::WrongCloud {
            got: claims.cloud.to_string(),
            want: expected.cloud.to_string(),
        });
    }
    challenge(claims, expected)?;
    fresh(claims, now)?;
    if !claims.account.eq_ignore_ascii_case(&expected.account) || claims.account.is_empty() {
        return Err(Refusal::WrongAccount {
            got: claims.account.clone(),
            want: expected.account.clone(),
        });
    }
    let instance = expected.node.clone();
    let Some(known) = &expected.known else {
        return Err(if expected.launching {
            Refusal::NotKnownYet { instance }
        } else {
            Refusal::NotLaunched { instance }
        });
    };
    let (proven, same) = match &claims.subject {
        Subject::Instance(id) => (id, *id == known.instance),
        Subject::VmId(id) => {
            let same = |known: &String| known.eq_ignore_ascii_case(id);
            (id, known.vm_id.as_ref().is_some_and(same))
        }
    };
    if !same {
        return Err(Refusal::WrongInstance {
            proven: proven.clone(),
            said: expected.node.clone(),
        });
    }
    let again = match &known.joined_with {
        Some(key) if *key == expected.key => true,
        Some(_) => return Err(Refusal::SecondJoin { instance }),
        None => false,
    };
    let age = now.0.saturating_sub(known.launched_at.0);
    if !again && age > MAX_LAUNCH_AGE_MS {
        let minutes = age / 60_000;
        return Err(Refusal::LaunchTooOld { instance, minutes });
    }
    Ok(Identity {
        instance,
        account: claims.account.clone(),
        again,
    })
}

fn challenge(claims: &Claims, expected: &Expected) -> Result<(), Refusal> {
    if claims.challenge == expected.challenge {
        return Ok(());
    }
    // A token for another service is told apart from an old one of ours.
    let fleet = expected
        .challenge
        .rsplit_once(':')
        .map_or("", |(fleet, _)| fleet);
    if claims.cloud == Cloud::Gcp && !claims.challenge.starts_with(&format!("{fleet}:")) {
        let audience = claims.challenge.clone();
        return Err(Refusal::WrongAudience { audience });
    }
    Err(Refusal::Replay)
}

fn fresh(claims: &Claims, now: Millis) -> Result<(), Refusal> {
    let skew = |ms: u64, side| Refusal::ClockSkew {
        seconds: ms / 1000,
        side,
    };
    let ahead = claims.issued_at.0.saturating_sub(now.0);
    if ahead > MAX_CLOCK_SKEW_MS {
        return Err(skew(ahead, "in the future"));
    }
    match claims.expires_at {
        Some(end) if end.0.saturating_add(MAX_CLOCK_SKEW_MS) < now.0 => Err(Refusal::Expired {
            seconds: (now.0 - end.0) / 1000,
        }),
        Some(_) => Ok(()),
        // What does not end by itself has to be fresh.
        None => {
            let age = now.0.saturating_sub(claims.issued_at.0);
            if age > MAX_CLOCK_SKEW_MS {
                return Err(skew(age, "ago"));
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_800_000_000_000);

    fn claims() -> Claims {
        Claims {
            cloud: Cloud::Aws,
            account: "123456789012".to_owned(),
            subject: Subject::Instance("i-1".to_owned()),
            challenge: "abc".to_owned(),
            issued_at: NOW,
            expires_at: None,
        }
    }

    fn expected() -> Expected {
        Expected {
            cloud: Cloud::Aws,
            account: "123456789012".to_owned(),
            challenge: "abc".to_owned(),
            node: "i-1".to_owned(),
            key: "k1".to_owned(),
            known: Some(Known {
                instance: "i-1".to_owned(),
                vm_id: None,
                launched_at: Millis(NOW.0 - 60_000),
                joined_with: None,
            }),
            launching: false,
        }
    }

    fn known(change: impl FnOnce(&mut Known)) -> Expected {
        let mut expected = expected();
        change(expected.known.as_mut().expect("is known"));
        expected
    }

    #[test]
    fn an_instance_that_was_launched_and_proves_itself_is_let_in() {
        let identity = judge(&claims(), &expected(), NOW).expect("is let in");
        assert_eq!((identity.instance.as_str(), identity.again), ("i-1", false));
        let again = known(|k| {
            k.joined_with = Some("k1".to_owned());
            k.launched_at = Millis(0);
        });
        assert!(judge(&claims(), &again, NOW).expect("the same key").again);
    }

    #[test]
    fn each_lie_is_refused_for_what_it_is_and_says_what_to_do() {
        let minute = 60_000;
        let skewed = |at: u64| Claims {
            issued_at: Millis(at),
            ..claims()
        };
        let ended = |end: u64| Claims {
            expires_at: Some(Millis(end)),
            issued_at: Millis(end - minute),
            ..claims()
        };
        let cases: Vec<(Claims, Expected, &str)> = vec![
            (
                Claims {
                    challenge: "old".to_owned(),
                    ..claims()
                },
                expected(),
                "used before",
            ),
            (
                Claims {
                    account: "999".to_owned(),
                    ..claims()
                },
                expected(),
                "of account 999",
            ),
            (
                Claims {
                    account: String::new(),
                    ..claims()
                },
                Expected {
                    account: String::new(),
                    ..expected()
                },
                "of account",
            ),
            (
                Claims {
                    cloud: Cloud::Gcp,
                    ..claims()
                },
                expected(),
                "the pool is on aws",
            ),
            (
                Claims {
                    subject: Subject::Instance("i-2".to_owned()),
                    ..claims()
                },
                expected(),
                "is of instance i-2",
            ),
            (
                Claims {
                    subject: Subject::VmId("v".to_owned()),
                    ..claims()
                },
                expected(),
                "is of instance v",
            ),
            (
                claims(),
                Expected {
                    known: None,
                    ..expected()
                },
                "was not launched",
            ),
            (
                claims(),
                Expected {
                    known: None,
                    launching: true,
                    ..expected()
                },
                "not known yet",
            ),
            (
                claims(),
                known(|k| k.joined_with = Some("k2".to_owned())),
                "with another key",
            ),
            (
                claims(),
                known(|k| k.launched_at = Millis(NOW.0 - 61 * minute)),
                "61 minutes ago",
            ),
            (skewed(NOW.0 - 6 * minute), expected(), "360 s ago"),
            (skewed(NOW.0 + 6 * minute), expected(), "in the future"),
            (ended(NOW.0 - 6 * minute), expected(), "ended 360 s ago"),
        ];
        for (claims, expected, says) in cases {
            let refusal = judge(&claims, &expected, NOW).expect_err(says);
            assert!(refusal.to_string().contains(says), "{says}: {refusal}");
            assert!(!refusal.fix().is_empty());
        }
    }

    #[test]
    fn a_token_for_another_audience_is_told_from_a_replayed_one() {
        let of = |audience: &str| {
            let claims = Claims {
                cloud: Cloud::Gcp,
                challenge: audience.to_owned(),
                ..claims()
            };
            let expected = Expected {
                cloud: Cloud::Gcp,
                challenge: "gpuloom:f1:new".to_owned(),
                ..expected()
            };
            judge(&claims, &expected, NOW)
        };
        assert!(of("gpuloom:f1:new").is_ok());
        assert_eq!(of("gpuloom:f1:old"), Err(Refusal::Replay));
        for audience in ["https://vault.example", "gpuloom:f2:new", "gpuloom:f11:new"] {
            let refused = of(audience);
            assert!(
                matches!(refused, Err(Refusal::WrongAudience { .. })),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn azure_machines_are_known_by_their_own_id() {
        let claims = Claims {
            subject: Subject::VmId("ABC".to_owned()),
            ..claims()
        };
        let expected = known(|k| k.vm_id = Some("abc".to_owned()));
        assert!(judge(&claims, &expected, NOW).is_ok());
    }
}
