//! The calls between nodes and the lead.

use super::{Client, Repeat, Updates, answered};
use crate::connect::{CallError, Endpoints, Line, Timeouts, connect};
use crate::proto::membership_client::MembershipClient;
use crate::proto::node_client::NodeClient;
use crate::proto::node_logs_client::NodeLogsClient;
use crate::proto::{
    JoinChallengeRequest, JoinReply, JoinRequest, LogChunk, NodeOrders, NodeReport, Proof,
    ReadNodeLogRequest, RenewRequest,
};
use crate::tls::{CaPin, Credential, Expect, KeyAndCertificate, SecretKey};
use crate::token::BearerToken;
use crate::{MAX_REPLY_BYTES, MAX_REQUEST_BYTES};
use gpuloom_fleet::{NodeId, PoolName};
use tokio_stream::Stream;
use tonic::service::interceptor::InterceptedService;

/// What a node got for its join token.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Its key with the certificate the lead signed.
    pub identity: KeyAndCertificate,
    /// The fleet it belongs to now.
    pub fleet_id: String,
}

/// What lets a node in.
#[derive(Debug, Clone)]
pub enum Admittance {
    /// A single-use token.
    Token(BearerToken),
    /// A cloud's word for which instance this is, and the pool it says it is of.
    Proof {
        /// Made for the lead's challenge.
        proof: Proof,
        /// The pool.
        pool: PoolName,
    },
    /// The key alone: the node is a member with this key, and its certificate has ended.
    Member,
}

/// What a proof of identity has to be made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Used once.
    pub nonce: String,
    /// The fleet that asks.
    pub fleet_id: String,
    /// Where an AWS request has to be signed for; `None`: the region's own STS.
    pub aws_sts_endpoint: Option<String>,
}

/// A client of one node's own server, for the lead.
#[derive(Debug, Clone)]
pub struct NodeLogClient {
    inner: NodeLogsClient<Line>,
    timeouts: Timeouts,
}

/// Asks the lead for what a proof of identity is to be made for.
pub async fn join_challenge(endpoints: Endpoints, pin: CaPin) -> Result<Challenge, CallError> {
    let client = Client::connect(endpoints, pin, Credential::Anonymous).await?;
    let request = JoinChallengeRequest {};
    let reply = answered(client.timeouts, client.membership().join_challenge(request)).await?;
    Ok(Challenge {
        nonce: reply.nonce,
        fleet_id: reply.fleet_id,
        aws_sts_endpoint: Some(reply.aws_sts_endpoint).filter(|e| !e.is_empty()),
    })
}

/// A fresh certificate for the member that `identity` is of, with the same key.
pub async fn renew(
    endpoints: Endpoints,
    pin: CaPin,
    identity: &KeyAndCertificate,
) -> Result<Joined, CallError> {
    let credential = Credential::Certificate(identity.clone());
    let client = Client::connect(endpoints, pin, credential).await?;
    let request = RenewRequest {
        csr_der: signing_request(&identity.key)?,
    };
    let reply = answered(client.timeouts, client.membership().renew(request)).await?;
    joined(reply, identity.key.clone(), pin)
}

fn signing_request(key: &SecretKey) -> Result<Vec<u8>, CallError> {
    let made = key.signing_request();
    made.map_err(|e| CallError::Credential { why: e.to_string() })
}

/// Joins a fleet as `node`: sends a signing request for `key`, and checks that the certificate
/// that comes back is of this key and of the pinned CA.
pub async fn join(
    endpoints: Endpoints,
    pin: CaPin,
    by: &Admittance,
    node: &NodeId,
    key: SecretKey,
) -> Result<Joined, CallError> {
    let client = Client::connect(endpoints, pin, Credential::Anonymous).await?;
    let mut request = JoinRequest {
        node_id: node.to_string(),
        csr_der: signing_request(&key)?,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..JoinRequest::default()
    };
    match by {
        Admittance::Token(token) => token.expose().clone_into(&mut request.token),
        Admittance::Proof { proof, pool } => {
            request.proof = Some(proof.clone());
            request.pool = pool.to_string();
        }
        Admittance::Member => {}
    }
    // Repeating is safe: a lead that has used the token up answers with a refusal.
    let reply = client
        .call(
            Repeat::Safe,
            request,
            |mut c, r| async move { c.join(r).await },
        )
        .await?;
    joined(reply, key, pin)
}

/// Checks that what came back is of this key and of the pinned CA.
fn joined(reply: JoinReply, key: SecretKey, pin: CaPin) -> Result<Joined, CallError> {
    let identity = KeyAndCertificate {
        key,
        certificate: reply.certificate_der.into(),
        ca: reply.ca_der.into(),
    };
    let theirs = crate::tls::read_certificate(&identity.certificate).map(|(public, _)| public);
    let same_ca = CaPin::of(&identity.ca).ok() == Some(pin);
    if theirs != Some(identity.key.public_key()) || !same_ca {
        return Err(CallError::Unreadable {
            why: "the certificate is not of this node's key and the pinned CA".to_owned(),
        });
    }
    Ok(Joined {
        identity,
        fleet_id: reply.fleet_id,
    })
}

// === impl Client ===

impl Client {
    fn membership(&self) -> MembershipClient<Line> {
        let line = InterceptedService::new(self.channel.clone(), self.headers.clone());
        MembershipClient::new(line).max_decoding_message_size(MAX_REPLY_BYTES)
    }

    /// Opens the session of a node: its reports go out as `reports` yields them, the lead's orders
    /// come back. Needs a node's certificate.
    pub async fn session(
        &self,
        reports: impl Stream<Item = NodeReport> + Send + 'static,
    ) -> Result<Updates<NodeOrders>, CallError> {
        let line = InterceptedService::new(self.channel.clone(), self.headers.clone());
        let mut stub = NodeClient::new(line)
            .max_decoding_message_size(MAX_REPLY_BYTES)
            .max_encoding_message_size(MAX_REQUEST_BYTES);
        answered(self.timeouts, stub.session(reports))
            .await
            .map(Updates::new)
    }
}

// === impl NodeLogClient ===

impl NodeLogClient {
    /// Connects to `node` at `endpoint` with the lead's certificate.
    pub async fn connect(
        endpoint: Endpoints,
        pin: CaPin,
        lead: KeyAndCertificate,
        node: NodeId,
    ) -> Result<Self, CallError> {
        let timeouts = Timeouts::default();
        let credential = Credential::Certificate(lead);
        let expect = Expect::Node(node);
        let (channel, headers) = connect(endpoint, pin, &expect, &credential, timeouts).await?;
        let inner = NodeLogsClient::new(InterceptedService::new(channel, headers))
            .max_decoding_message_size(MAX_REPLY_BYTES)
            .max_encoding_message_size(MAX_REQUEST_BYTES);
        Ok(Self { inner, timeouts })
    }

    /// What an attempt wrote; with `follow` until it has ended.
    pub async fn read_log(
        &self,
        request: ReadNodeLogRequest,
    ) -> Result<Updates<LogChunk>, CallError> {
        let mut stub = self.inner.clone();
        answered(self.timeouts, stub.read_log(request))
            .await
            .map(Updates::new)
    }
}
