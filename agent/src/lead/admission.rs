//! Lets instances in: gives out challenges, and judges what their clouds say of them.

use super::core::Core;
use super::provision::Clouds;
use super::state::InstanceJoin;
use crate::instance::{AttestConfig, InstanceConfig};
use gpuloom_api::tls::PublicKey;
use gpuloom_api::{Refusal, proto};
use gpuloom_cloud::{Instance, Tags};
use gpuloom_cloud_attest::{
    Challenge, Cloud, Expected, Known, NONCE_TTL_MS, Nonces, Refusal as Refused, Verifier,
    VerifierError, judge,
};
use gpuloom_cloud_imds::Dialect;
use gpuloom_fleet::{FleetName, Millis, NodeId, PoolName, PoolPlace};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What a driver tells, as a tag, of the machine's own id (Azure).
pub(crate) const VM_ID: &str = "gpuloom:vm-id";
/// What a driver tells, as a tag, of the account an instance is in (AWS).
pub(crate) const ACCOUNT: &str = "gpuloom:account";

/// The lead's door for instances.
pub(crate) struct Admission {
    core: Core,
    clouds: Arc<Clouds>,
    fleet: FleetName,
    fleet_id: String,
    attest: AttestConfig,
    /// The instance the lead itself is.
    own: Option<InstanceConfig>,
    verifier: Verifier,
    nonces: Mutex<Nonces>,
}

/// Hex of SHA-256 of a public key, as records have it.
pub(crate) fn key_hash(key: &PublicKey) -> String {
    hex::encode(Sha256::digest(key.spki_der()))
}

fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Refusal::internal(format!("no random numbers: {e}")))?;
    Ok(bytes)
}

/// On the wire: who may try again is told so, everybody else is denied.
fn refusal(refused: &Refused) -> Refusal {
    tracing::warn!(%refused, "an instance is not let in");
    if refused.is_transient() {
        Refusal::unavailable(refused.to_string(), refused.fix())
    } else {
        Refusal::denied(refused.to_string(), refused.fix())
    }
}

fn cloud_of(place: &PoolPlace) -> Option<Cloud> {
    match place {
        PoolPlace::Local | PoolPlace::Existing => None,
        PoolPlace::Aws(_) => Some(Cloud::Aws),
        PoolPlace::Gcp(_) => Some(Cloud::Gcp),
        PoolPlace::Azure(_) => Some(Cloud::Azure),
    }
}

// === impl Admission ===

impl Admission {
    /// The door of a fleet's lead. `VerifierError` when the roots do not read.
    pub(crate) fn new(
        core: Core,
        clouds: Arc<Clouds>,
        fleet: FleetName,
        fleet_id: String,
        attest: AttestConfig,
        own: Option<InstanceConfig>,
    ) -> Result<Self, VerifierError> {
        let verifier = Verifier::new(attest.verifier())?;
        // Without random numbers every nonce is refused, and the refusal says why.
        let key = random().unwrap_or([0; 32]);
        Ok(Self {
            core,
            clouds,
            fleet,
            fleet_id,
            attest,
            own,
            verifier,
            nonces: Mutex::new(Nonces::new(&key)),
        })
    }

    /// A nonce for whoever asks.
    pub(crate) async fn challenge(&self) -> Result<proto::JoinChallengeReply, Refusal> {
        let now = self.core.read(|_, now| now).await?;
        let random = random()?;
        let nonce = self.nonces().issue(&random, now);
        Ok(proto::JoinChallengeReply {
            nonce,
            fleet_id: self.fleet_id.clone(),
            valid_s: NONCE_TTL_MS / 1000,
            aws_sts_endpoint: self
                .verifier
                .aws_sts_endpoint()
                .unwrap_or_default()
                .to_owned(),
        })
    }

    /// The join of an instance whose cloud vouches for it.
    pub(crate) async fn judge(
        &self,
        proof: &proto::Proof,
        pool: PoolName,
        node: NodeId,
        key: &PublicKey,
        agent_version: String,
    ) -> Result<InstanceJoin, Refusal> {
        let cloud: Cloud = proof
            .cloud
            .parse()
            .map_err(|e: String| Refusal::invalid_field("proof.cloud", &proof.cloud, e, ""))?;
        let (name, id) = (pool.clone(), node.clone());
        let found = move |s: &super::state::State, now: Millis| {
            let place = s.pool(&name).map(|(spec, _)| spec.place.clone());
            (place, s.launched(&name, &id), now)
        };
        let (place, (known, launching), now) = self.core.read(found).await?;
        let place = place.ok_or_else(|| {
            Refusal::not_found(
                "pool",
                &pool,
                "the pool was destroyed: terminate the instance",
            )
        })?;
        let want = cloud_of(&place).ok_or_else(|| {
            let refused = Refused::WrongCloud {
                got: cloud.to_string(),
                want: place.kind().to_owned(),
            };
            refusal(&refused)
        })?;
        self.nonces()
            .spend(&proof.nonce, now)
            .map_err(|r| refusal(&r))?;
        let claims = self.verifier.claims(cloud, &proof.document, now).await;
        let claims = claims.map_err(|r| refusal(&r))?;
        if known.is_none() {
            // Nobody has to be asked about an instance that is not ours.
            let instance = node.to_string();
            return Err(refusal(&if launching {
                Refused::NotKnownYet { instance }
            } else {
                Refused::NotLaunched { instance }
            }));
        }
        let listed = self.listed(&place, &pool, known.as_ref()).await?;
        let account = self.account(&place, listed.as_ref()).await?;
        let challenge = Challenge::new(&self.fleet_id, &proof.nonce, key.spki_der());
        let key = key_hash(key);
        let vm_id = listed
            .as_ref()
            .and_then(|i| i.tags.get(VM_ID))
            .map(str::to_owned);
        let expected = Expected {
            cloud: want,
            account,
            challenge: challenge.text(cloud),
            node: node.to_string(),
            key: key.clone(),
            known: known.map(|k| Known { vm_id, ..k }),
            launching,
        };
        judge(&claims, &expected, now).map_err(|r| refusal(&r))?;
        Ok(InstanceJoin {
            node,
            pool,
            key,
            agent_version,
        })
    }

    /// The instance as its cloud lists it, where the judgement needs that.
    async fn listed(
        &self,
        place: &PoolPlace,
        pool: &PoolName,
        known: Option<&Known>,
    ) -> Result<Option<Instance>, Refusal> {
        let needed = match place {
            PoolPlace::Azure(_) => true,
            PoolPlace::Aws(_) => self.attest.aws_account.is_none() && !self.is_on_aws(),
            _ => false,
        };
        let Some(known) = known.filter(|_| needed) else {
            return Ok(None);
        };
        let asked = async {
            let cloud = self.clouds.of(place).await?;
            cloud.list(&Tags::of_pool(&self.fleet, pool)).await
        };
        let listed = asked.await.map_err(|e| {
            let why = format!("the cloud cannot be asked about the instance: {e}");
            Refusal::unavailable(why, "try again in a moment")
        })?;
        Ok(listed.into_iter().find(|i| i.id.as_str() == known.instance))
    }

    fn is_on_aws(&self) -> bool {
        self.own
            .as_ref()
            .is_some_and(|own| own.dialect == Dialect::Aws)
    }

    /// The account that the pool's instances are in.
    async fn account(
        &self,
        place: &PoolPlace,
        listed: Option<&Instance>,
    ) -> Result<String, Refusal> {
        if let Some(account) = place.account() {
            return Ok(account.to_owned());
        }
        if let Some(account) = &self.attest.aws_account {
            return Ok(account.clone());
        }
        if let Some(own) = self.own.as_ref().filter(|_| self.is_on_aws()) {
            let facts = match own.service() {
                Ok(service) => service.facts().await,
                Err(error) => Err(error),
            };
            return facts.map(|f| f.account).map_err(|e| {
                Refusal::unavailable(
                    format!("the lead's own account is not known: {e}"),
                    "try again",
                )
            });
        }
        let told = listed.and_then(|i| i.tags.get(ACCOUNT));
        told.map(str::to_owned).ok_or_else(|| {
            let message = "the lead does not know which AWS account the pool's instances are in";
            Refusal::unavailable(
                message,
                "state `[attest] aws_account` in the lead's configuration",
            )
        })
    }

    fn nonces(&self) -> std::sync::MutexGuard<'_, Nonces> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("fleet", &self.fleet)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
