//! Who we are to Azure: the environment, a managed identity, or the command line's login, in this order.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::headers::{AUTHORIZATION, CONTENT_TYPE};
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{ClientOptions, Context, Method, Pipeline, Request, Url};
use azure_core::time::{Duration as Span, OffsetDateTime};
use azure_core::{Error, Result};
use azure_identity::{
    AzureCliCredential, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential,
};
use serde::Deserialize;
use tokio::sync::{Mutex, OnceCell};

/// How long one member of the chain may take to say whether it can name us. The command line takes seconds to start.
const LINK_WAIT: Duration = Duration::from_secs(20);
/// The same for a managed identity: outside of Azure its address does not answer at all.
const IDENTITY_WAIT: Duration = Duration::from_secs(5);
/// A token is renewed when it has less than this left.
const RENEW_BEFORE: Span = Span::minutes(5);

/// Tries its members in order and stays with the first that works.
#[derive(Debug)]
pub(crate) struct Chain {
    members: Vec<(Duration, Arc<dyn TokenCredential>)>,
    chosen: OnceCell<Arc<dyn TokenCredential>>,
}

/// A client secret or managed identity over plain HTTP on this machine's loopback: `azure_identity` accepts only
/// HTTPS, and a stand-in for Azure has no certificate.
#[derive(Debug)]
pub(crate) struct Loopback {
    pipeline: Pipeline,
    endpoint: Url,
}

/// Adds the token to each request. `azure_core`'s own policy refuses HTTP, this one accepts it on loopback;
/// elsewhere [`crate::arm::Arm`] has made sure of HTTPS.
#[derive(Debug)]
pub(crate) struct Bearer {
    credential: Arc<dyn TokenCredential>,
    scope: String,
    token: Mutex<Option<AccessToken>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    /// Seconds; a number from Entra, a string from the identity service.
    expires_in: serde_json::Value,
}

/// The credential for `endpoint`; contacts nobody yet.
pub(crate) fn of(endpoint: &Url, options: &ClientOptions) -> Arc<dyn TokenCredential> {
    if endpoint.scheme() == "http" {
        let pipeline = Pipeline::new(None, None, options.clone(), Vec::new(), Vec::new(), None);
        return Arc::new(Loopback {
            pipeline,
            endpoint: endpoint.clone(),
        });
    }
    Arc::new(Chain {
        members: members(options),
        chosen: OnceCell::new(),
    })
}

fn members(options: &ClientOptions) -> Vec<(Duration, Arc<dyn TokenCredential>)> {
    let mut members: Vec<(Duration, Arc<dyn TokenCredential>)> = Vec::new();
    let client = env::var("AZURE_CLIENT_ID").ok();
    if let (Some(client), Ok(tenant), Ok(secret)) = (
        client.clone(),
        env::var("AZURE_TENANT_ID"),
        env::var("AZURE_CLIENT_SECRET"),
    ) {
        let with = ClientSecretCredentialOptions {
            client_options: options.clone(),
        };
        if let Ok(c) = ClientSecretCredential::new(&tenant, client, Secret::new(secret), Some(with))
        {
            members.push((LINK_WAIT, c));
        }
    }
    if let Ok(c) = WorkloadIdentityCredential::new(None) {
        members.push((LINK_WAIT, c));
    }
    let with = ManagedIdentityCredentialOptions {
        user_assigned_id: client.map(UserAssignedId::ClientId),
        client_options: options.clone(),
    };
    if let Ok(c) = ManagedIdentityCredential::new(Some(with)) {
        members.push((IDENTITY_WAIT, c));
    }
    if let Ok(c) = AzureCliCredential::new(None) {
        members.push((LINK_WAIT, c));
    }
    members
}

// === impl Chain ===

#[async_trait]
impl TokenCredential for Chain {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> Result<AccessToken> {
        if let Some(chosen) = self.chosen.get() {
            return chosen.get_token(scopes, None).await;
        }
        let mut said = Vec::new();
        for (wait, member) in &self.members {
            match tokio::time::timeout(*wait, member.get_token(scopes, None)).await {
                Ok(Ok(token)) => {
                    // Two callers may find one at the same time: the first stays, both are the same.
                    let _ = self.chosen.set(Arc::clone(member));
                    return Ok(token);
                }
                Ok(Err(e)) => said.push(e.to_string()),
                Err(_) => said.push(format!("{member:?} did not answer within {wait:?}")),
            }
        }
        Err(Error::with_message(
            ErrorKind::Credential,
            format!(
                "no credentials for Azure: set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, give this \
                 machine a managed identity, or run `az login`. Tried: {}",
                said.join("; ")
            ),
        ))
    }
}

// === impl Loopback ===

impl Loopback {
    fn request(&self, scopes: &[&str]) -> Result<Request> {
        let scope = scopes.first().copied().unwrap_or_default();
        let authority = env::var("AZURE_AUTHORITY_HOST").ok();
        let (Ok(tenant), Ok(client), Ok(secret)) = (
            env::var("AZURE_TENANT_ID"),
            env::var("AZURE_CLIENT_ID"),
            env::var("AZURE_CLIENT_SECRET"),
        ) else {
            let mut url = self.endpoint.join("/metadata/identity/oauth2/token")?;
            let resource = scope.trim_end_matches("/.default");
            url.query_pairs_mut()
                .append_pair("api-version", "2019-08-01")
                .append_pair("resource", resource);
            let mut request = Request::new(url, Method::Get);
            request.insert_header("metadata", "true");
            return Ok(request);
        };
        let authority = match authority {
            Some(text) => Url::parse(&text)?,
            None => self.endpoint.clone(),
        };
        if !is_loopback(&authority) && authority.scheme() != "https" {
            return Err(Error::with_message(
                ErrorKind::Credential,
                format!(
                    "AZURE_AUTHORITY_HOST {authority} is neither https nor on this machine's loopback"
                ),
            ));
        }
        let mut form = Url::parse("http://form")?;
        form.query_pairs_mut()
            .append_pair("client_id", &client)
            .append_pair("client_secret", &secret)
            .append_pair("grant_type", "client_credentials")
            .append_pair("scope", scope);
        let url = authority.join(&format!("/{tenant}/oauth2/v2.0/token"))?;
        let mut request = Request::new(url, Method::Post);
        request.insert_header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        request.set_body(form.query().unwrap_or_default().to_owned());
        Ok(request)
    }
}

#[async_trait]
impl TokenCredential for Loopback {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> Result<AccessToken> {
        let mut request = self.request(scopes)?;
        let answer = self
            .pipeline
            .send(&Context::default(), &mut request, None)
            .await
            .map_err(|e| {
                // Busy or out of reach is no word on the credentials.
                let kind = match e.kind() {
                    ErrorKind::HttpResponse { status, .. }
                        if u16::from(*status) != 429 && u16::from(*status) < 500 =>
                    {
                        ErrorKind::Credential
                    }
                    kind => kind.clone(),
                };
                Error::with_error(kind, e, "the token endpoint refused")
            })?;
        let answer: TokenAnswer = serde_json::from_slice(answer.body().as_ref())?;
        let seconds = match &answer.expires_in {
            serde_json::Value::String(text) => text.parse().unwrap_or(0),
            other => other.as_i64().unwrap_or(0),
        };
        let expires = OffsetDateTime::now_utc() + Span::seconds(seconds);
        Ok(AccessToken::new(answer.access_token, expires))
    }
}

// === impl Bearer ===

impl Bearer {
    pub(crate) fn new(credential: Arc<dyn TokenCredential>, scope: String) -> Self {
        Self {
            credential,
            scope,
            token: Mutex::new(None),
        }
    }

    async fn token(&self) -> Result<Secret> {
        let mut kept = self.token.lock().await;
        if let Some(token) = &*kept
            && token.expires_on - RENEW_BEFORE > OffsetDateTime::now_utc()
        {
            return Ok(token.token.clone());
        }
        let fresh = self.credential.get_token(&[&self.scope], None).await?;
        Ok(kept.insert(fresh).token.clone())
    }
}

#[async_trait]
impl Policy for Bearer {
    async fn send(
        &self,
        ctx: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        if request.url().scheme() != "https" && !is_loopback(request.url()) {
            return Err(Error::with_message(
                ErrorKind::Credential,
                format!(
                    "no token is sent to {} without TLS",
                    request.url().origin().ascii_serialization()
                ),
            ));
        }
        let token = self.token().await?;
        request.insert_header(AUTHORIZATION, format!("Bearer {}", token.secret()));
        let response = next[0].send(ctx, request, &next[1..]).await?;
        if u16::from(response.status()) == 401 {
            *self.token.lock().await = None;
        }
        Ok(response)
    }
}

/// `url` names this machine's loopback.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|a| a.is_loopback()),
        None => false,
    }
}
