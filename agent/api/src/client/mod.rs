//! A client of a fleet's lead: typed calls over one connection that mends itself.
//!
//! Reads and calls that are safe to repeat are made a second time when the connection breaks
//! before the answer; others answer [`CallError::NoAnswer`], and the caller decides.

mod fleet;
mod node;
mod stream;

pub use fleet::{Declared, ObjectView, Withdrawn};
pub use node::{Admittance, Challenge, Joined, NodeLogClient, join, join_challenge, renew};
pub use stream::Updates;

use crate::connect::{CallError, Endpoints, Headers, Line, Timeouts, connect};
use crate::proto::fleet_client::FleetClient;
use crate::proto::{HelloReply, HelloRequest};
use crate::refusal::Refusal;
use crate::tls::{CaPin, Credential, Expect};
use crate::{MAX_REPLY_BYTES, MAX_REQUEST_BYTES, PROTOCOL_MAX, PROTOCOL_MIN};
use gpuloom_fleet::Bytes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Response, Status};

/// A client of a fleet's lead. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    headers: Headers,
    timeouts: Timeouts,
    hello: HelloReply,
}

/// Whether a call may be made again when nobody knows whether it was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or the same change twice is one change.
    Safe,
    /// A second call could be answered differently, or do something twice.
    Unsafe,
}

// === impl Client ===

impl Client {
    /// Connects to the first endpoint that answers and settles the protocol.
    pub async fn connect(
        endpoints: Endpoints,
        pin: CaPin,
        credential: Credential,
    ) -> Result<Self, CallError> {
        Self::connect_within(endpoints, pin, credential, Timeouts::default()).await
    }

    /// As [`Client::connect`], with other timeouts.
    pub async fn connect_within(
        endpoints: Endpoints,
        pin: CaPin,
        credential: Credential,
        timeouts: Timeouts,
    ) -> Result<Self, CallError> {
        let expect = Expect::Lead;
        let (channel, headers) = connect(endpoints, pin, &expect, &credential, timeouts).await?;
        let mut client = Self {
            channel,
            headers,
            timeouts,
            hello: HelloReply::default(),
        };
        client.hello = client.say_hello().await?;
        Ok(client)
    }

    /// What the fleet said when the client connected: its name and id, who it takes the caller
    /// for, whether its GPUs are simulated.
    pub fn hello(&self) -> &HelloReply {
        &self.hello
    }

    async fn say_hello(&self) -> Result<HelloReply, CallError> {
        let request = HelloRequest {
            min_protocol: PROTOCOL_MIN,
            max_protocol: PROTOCOL_MAX,
            client: concat!("gpuloom/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let reply = self
            .call(
                Repeat::Safe,
                request,
                |mut c, r| async move { c.hello(r).await },
            )
            .await?;
        if (PROTOCOL_MIN..=PROTOCOL_MAX).contains(&reply.protocol) {
            return Ok(reply);
        }
        let theirs = (reply.protocol, reply.protocol);
        Err(Refusal::version(theirs, (PROTOCOL_MIN, PROTOCOL_MAX)).into())
    }

    pub(crate) fn stub(&self) -> FleetClient<Line> {
        let line = InterceptedService::new(self.channel.clone(), self.headers.clone());
        FleetClient::new(line).max_decoding_message_size(MAX_REPLY_BYTES)
    }

    pub(crate) async fn call<Q, R, F>(
        &self,
        repeat: Repeat,
        request: Q,
        make: impl Fn(FleetClient<Line>, Q) -> F,
    ) -> Result<R, CallError>
    where
        Q: Clone + prost::Message,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        if request.encoded_len() > MAX_REQUEST_BYTES {
            let fix = "make the request smaller";
            return Err(Refusal::limit("a request", Bytes(MAX_REQUEST_BYTES as u64), fix).into());
        }
        let first = self.once(make(self.stub(), request.clone())).await;
        match first {
            Err(CallError::NoAnswer { .. }) if repeat == Repeat::Safe => {
                self.once(make(self.stub(), request)).await
            }
            other => other,
        }
    }

    async fn once<R>(
        &self,
        call: impl Future<Output = Result<Response<R>, Status>>,
    ) -> Result<R, CallError> {
        answered(self.timeouts, call).await
    }
}

/// The answer to `call` within its timeout.
pub(crate) async fn answered<R>(
    timeouts: Timeouts,
    call: impl Future<Output = Result<Response<R>, Status>>,
) -> Result<R, CallError> {
    match tokio::time::timeout(timeouts.call, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err((&status).into()),
        Err(_) => Err(CallError::NoAnswer {
            why: format!("nothing within {:?}", timeouts.call),
        }),
    }
}

#[cfg(test)]
mod tests;
