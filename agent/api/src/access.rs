//! The gate every call passes: protocol, identity, and whether the two open this call.

use crate::identity::Identity;
use crate::refusal::Refusal;
use crate::tls::PeerCertificate;
use crate::token::BearerToken;
use crate::{PROTOCOL_HEADER, PROTOCOL_MAX, PROTOCOL_MIN};
use gpuloom_fleet::TenantName;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tower::{Layer, Service};

const HELLO: &str = "/gpuloom.v1.Fleet/Hello";

/// Knows tenants' tokens by their hash.
pub trait TokenLookup: Send + Sync {
    /// Whose token has this SHA-256 (lower-case hex); `None` when unknown, revoked or expired.
    fn tenant_of(&self, sha256: &str) -> Option<TenantName>;
}

impl<F: Fn(&str) -> Option<TenantName> + Send + Sync> TokenLookup for F {
    fn tenant_of(&self, sha256: &str) -> Option<TenantName> {
        self(sha256)
    }
}

/// Makes [`Gate`]s.
#[derive(Clone)]
pub(crate) struct Access {
    tokens: Option<Arc<dyn TokenLookup>>,
}

/// A service behind the gate.
#[derive(Clone)]
pub(crate) struct Gate<S> {
    access: Access,
    inner: S,
}

// === impl Access ===

impl Access {
    pub(crate) fn layer(tokens: Option<Arc<dyn TokenLookup>>) -> Self {
        Self { tokens }
    }

    fn admit<B>(&self, request: &Request<B>) -> Result<Identity, Refusal> {
        let path = request.uri().path();
        if path != HELLO {
            check_protocol(request.headers())?;
        }
        let peer = request.extensions().get::<PeerCertificate>();
        let identity = self.identify(peer, request.headers())?;
        identity.may_call(path)?;
        Ok(identity)
    }

    fn identify(
        &self,
        peer: Option<&PeerCertificate>,
        headers: &HeaderMap,
    ) -> Result<Identity, Refusal> {
        match peer {
            Some(PeerCertificate::Admin) => return Ok(Identity::Admin),
            Some(PeerCertificate::Node(id, _)) => return Ok(Identity::Node(id.clone())),
            Some(PeerCertificate::Lead) => return Ok(Identity::Lead),
            Some(PeerCertificate::None) | None => {}
        }
        let Some(header) = headers.get(AUTHORIZATION) else {
            return Ok(Identity::Anonymous);
        };
        let token = header
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("Bearer "))
            .and_then(|text| text.parse::<BearerToken>().ok());
        let tenant = token
            .zip(self.tokens.as_ref())
            .and_then(|(token, tokens)| tokens.tenant_of(&token.sha256()));
        tenant.map(Identity::Tenant).ok_or_else(|| {
            Refusal::denied(
                "the token is unknown, revoked or expired",
                "ask an admin for a new one: `gpuloom token create --tenant NAME`",
            )
        })
    }
}

fn check_protocol(headers: &HeaderMap) -> Result<(), Refusal> {
    let stated = headers
        .get(PROTOCOL_HEADER)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<u32>().ok())
        // Callers from before the header existed speak no protocol of ours.
        .unwrap_or(0);
    if (PROTOCOL_MIN..=PROTOCOL_MAX).contains(&stated) {
        return Ok(());
    }
    let ours = (PROTOCOL_MIN, PROTOCOL_MAX);
    Err(Refusal::version(ours, (stated, stated)))
}

/// The protocol both sides speak: the newest in both ranges. For the server's `Hello`.
pub fn negotiate(theirs_min: u32, theirs_max: u32) -> Result<u32, Refusal> {
    let common = theirs_max.min(PROTOCOL_MAX);
    if common >= PROTOCOL_MIN && common >= theirs_min {
        return Ok(common);
    }
    let ours = (PROTOCOL_MIN, PROTOCOL_MAX);
    Err(Refusal::version(ours, (theirs_min, theirs_max)))
}

impl<S> Layer<S> for Access {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate {
            access: self.clone(),
            inner,
        }
    }
}

// === impl Gate ===

impl<S, B> Service<Request<B>> for Gate<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.access.admit(&request) {
            Ok(identity) => {
                request.extensions_mut().insert(identity);
                Box::pin(self.inner.call(request))
            }
            Err(refusal) => {
                let path = request.uri().path();
                tracing::info!(path, %refusal, "a call was refused");
                let response = Status::from(refusal).into_http();
                Box::pin(async move { Ok(response) })
            }
        }
    }
}
