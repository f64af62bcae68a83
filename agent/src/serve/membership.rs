//! How nodes become and stay members: challenges for proofs, and fresh certificates.

use super::fleet::FleetService;
use crate::lead::admission::key_hash;
use crate::lead::state::Presented;
use gpuloom_api::proto::{self, membership_server::Membership};
use gpuloom_api::tls::{NodeCertificate, PublicKey};
use gpuloom_api::{Identity, Refusal};
use gpuloom_fleet::Millis;
use std::time::{SystemTime, UNIX_EPOCH};
use tonic::{Request, Response, Status};

/// Whose certificate a node's call came with.
pub(super) fn presented<T>(request: &Request<T>) -> Result<Presented, Refusal> {
    let (Identity::Node(node), Some(certificate)) =
        (Identity::of(request), NodeCertificate::of(request))
    else {
        return Err(Refusal::denied("this is for nodes", ""));
    };
    let end = certificate.not_after.duration_since(UNIX_EPOCH);
    let end = end.unwrap_or_default().as_millis();
    Ok(Presented {
        node,
        key: key_hash(&certificate.key),
        not_after: Millis(u64::try_from(end).unwrap_or(u64::MAX)),
    })
}

#[tonic::async_trait]
impl Membership for FleetService {
    async fn join_challenge(
        &self,
        _: Request<proto::JoinChallengeRequest>,
    ) -> Result<Response<proto::JoinChallengeReply>, Status> {
        Ok(Response::new(self.admission.challenge().await?))
    }

    async fn renew(
        &self,
        request: Request<proto::RenewRequest>,
    ) -> Result<Response<proto::JoinReply>, Status> {
        let from = presented(&request)?;
        let csr = request.into_inner().csr_der;
        let bad = |e: gpuloom_api::tls::TlsError| {
            let fix = "let `gpuloom agent` make the request";
            Refusal::invalid_field("csr_der", "", e.to_string(), fix)
        };
        let signed = self.ca.sign_node(&csr, &from.node, SystemTime::now());
        let certificate = signed.map_err(bad)?;
        let key = PublicKey::of_certificate(&certificate).map_err(bad)?;
        if key_hash(&key) != from.key {
            let message = "a certificate is renewed for the key it is of";
            return Err(Refusal::denied(message, "").into());
        }
        self.core
            .write("join", move |s, now| s.renew(&from, now))
            .await?;
        Ok(Response::new(self.signed(&certificate)))
    }
}
