//! Connections to a fleet: endpoints tried in turn, TLS, and what went wrong in people's words.

use crate::refusal::Refusal;
use crate::tls::{CaPin, Credential, Expect, PinMismatch, TlsError, client_config};
use crate::{PROTOCOL_HEADER, PROTOCOL_MAX};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Most endpoints a client is given.
pub const MAX_ENDPOINTS: usize = 16;

/// Where a fleet answers: 1 to [`MAX_ENDPOINTS`] of `host:port`, tried in order. Written with
/// commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints(Vec<String>);

/// Endpoints that do not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not an endpoint: use host:port, or up to 16 of them with commas between")]
pub struct ParseEndpointsError {
    /// The part that does not read.
    pub input: String,
}

/// How long a client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For TCP and TLS with one endpoint.
    pub connect: Duration,
    /// For the answer to one call; for a stream, for its beginning.
    pub call: Duration,
}

/// A call that brought no answer, or a refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No endpoint could be reached: nothing was done.
    #[error(
        "the fleet cannot be reached: {tried}; check that its lead runs and that this is its endpoint"
    )]
    Unreachable {
        /// Each endpoint with what happened.
        tried: String,
    },
    /// Something answers that is not the pinned fleet: nothing was done.
    #[error(
        "{endpoint}: {why}; if the fleet was made anew, take the new pin from `terraform output` or the lead's `ca/ca.pin`, otherwise something else answers there"
    )]
    WrongCa {
        /// The endpoint.
        endpoint: String,
        /// What is wrong with its certificate.
        why: String,
    },
    /// The connection broke or no answer came in time: the fleet may or may not have done it.
    #[error(
        "no answer came: {why}; the fleet may have done it all the same, look before you repeat it"
    )]
    NoAnswer {
        /// What happened.
        why: String,
    },
    /// The fleet answered no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What the fleet sent does not read.
    #[error("the fleet's answer does not read: {why}; use a gpuloom of the fleet's version")]
    Unreadable {
        /// What does not read.
        why: String,
    },
    /// The caller's own key, certificate or pin cannot be used.
    #[error("{why}")]
    Credential {
        /// Which, and why.
        why: String,
    },
}

/// A channel whose calls carry the protocol and the credential.
pub(crate) type Line = InterceptedService<Channel, Headers>;

/// Adds what every call carries.
#[derive(Debug, Clone)]
pub(crate) struct Headers {
    protocol: MetadataValue<Ascii>,
    authorization: Option<MetadataValue<Ascii>>,
}

#[derive(Debug)]
struct Dialer {
    endpoints: Endpoints,
    /// The endpoint that answered last, tried first.
    first: AtomicUsize,
    tls: Arc<rustls::ClientConfig>,
    server_name: ServerName<'static>,
    timeout: Duration,
}

/// Every endpoint with why it did not answer.
#[derive(Debug, Clone)]
struct DialError(Vec<(String, DialCause)>);

#[derive(Debug, Clone)]
enum DialCause {
    Io(String),
    WrongCa(String),
    /// The server ended the handshake because of what this side presented.
    Refused(rustls::AlertDescription),
}

// === impl Endpoints ===

impl Endpoints {
    /// Checks and keeps the endpoints in order.
    pub fn new(
        list: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, ParseEndpointsError> {
        let list: Vec<String> = list.into_iter().map(Into::into).collect();
        let bad = list.iter().find(|e| !is_endpoint(e));
        match bad {
            Some(bad) => Err(ParseEndpointsError { input: bad.clone() }),
            None if list.is_empty() || list.len() > MAX_ENDPOINTS => Err(ParseEndpointsError {
                input: list.join(","),
            }),
            None => Ok(Self(list)),
        }
    }

    /// Each endpoint, in the order they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

fn is_endpoint(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        !host.is_empty()
            && !host.contains(['/', ' ', '@'])
            && (bracketed || !host.contains(':'))
            && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

impl FromStr for Endpoints {
    type Err = ParseEndpointsError;

    fn from_str(text: &str) -> Result<Self, ParseEndpointsError> {
        Self::new(text.split(',').map(str::trim))
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

// === impl Timeouts ===

impl Default for Timeouts {
    /// 5 s for each endpoint, 30 s for a call.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            call: Duration::from_secs(30),
        }
    }
}

// === impl Headers ===

impl Headers {
    fn new(credential: &Credential) -> Result<Self, CallError> {
        let unusable = |_| CallError::Credential {
            why: "the token holds characters a header cannot carry".to_owned(),
        };
        let authorization = match credential {
            Credential::Token(token) => {
                let text = format!("Bearer {}", token.expose());
                let mut value: MetadataValue<Ascii> = text.parse().map_err(unusable)?;
                value.set_sensitive(true);
                Some(value)
            }
            _ => None,
        };
        Ok(Self {
            protocol: MetadataValue::from(PROTOCOL_MAX),
            authorization,
        })
    }

    #[cfg(test)]
    pub(crate) fn claim_protocol(&mut self, protocol: u32) {
        self.protocol = MetadataValue::from(protocol);
    }
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(PROTOCOL_HEADER, self.protocol.clone());
        if let Some(value) = &self.authorization {
            metadata.insert("authorization", value.clone());
        }
        Ok(request)
    }
}

// === connecting ===

/// Connects to the first endpoint that answers. When the connection breaks, the next call
/// connects again, to whichever endpoint then answers.
pub(crate) async fn connect(
    endpoints: Endpoints,
    pin: CaPin,
    expect: &Expect,
    credential: &Credential,
    timeouts: Timeouts,
) -> Result<(Channel, Headers), CallError> {
    let tls = |e: TlsError| CallError::Credential { why: chain(&e) };
    let dialer = Arc::new(Dialer {
        endpoints,
        first: AtomicUsize::new(0),
        tls: client_config(pin, expect, credential).map_err(tls)?,
        server_name: expect.server_name().map_err(tls)?,
        timeout: timeouts.connect,
    });
    let connector = tower::service_fn(move |_| {
        let dialer = dialer.clone();
        async move { dialer.dial().await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://lead.gpuloom")
        .http2_keep_alive_interval(crate::serve::KEEPALIVE)
        .keep_alive_timeout(crate::serve::KEEPALIVE)
        .keep_alive_while_idle(true);
    let channel = endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|e| from_source(&e))?;
    Ok((channel, Headers::new(credential)?))
}

// === impl Dialer ===

impl Dialer {
    async fn dial(&self) -> Result<TlsStream<TcpStream>, DialError> {
        let count = self.endpoints.0.len();
        let first = self.first.load(Ordering::Relaxed);
        let mut tried = Vec::new();
        for step in 0..count {
            let at = (first + step) % count;
            let endpoint = &self.endpoints.0[at];
            match tokio::time::timeout(self.timeout, self.dial_one(endpoint)).await {
                Ok(Ok(stream)) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok(stream);
                }
                Ok(Err(error)) => tried.push((endpoint.clone(), DialCause::of(&error))),
                Err(_) => {
                    let why = format!("no answer within {:?}", self.timeout);
                    tried.push((endpoint.clone(), DialCause::Io(why)));
                }
            }
        }
        Err(DialError(tried))
    }

    async fn dial_one(&self, endpoint: &str) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(endpoint).await?;
        stream.set_nodelay(true)?;
        let mut stream = TlsConnector::from(self.tls.clone())
            .connect(self.server_name.clone(), stream)
            .await?;
        // In TLS 1.3 a server judges the caller's certificate after the caller's side of the
        // handshake is done. HTTP/2 servers speak first: wait for that, so that a refusal is
        // seen here and not as a broken connection later.
        if stream.fill_buf().await?.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(stream)
    }
}

// === impl DialCause ===

impl DialCause {
    fn of(error: &io::Error) -> Self {
        match rustls_error(error) {
            Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other))) => {
                match other.0.downcast_ref::<PinMismatch>() {
                    Some(mismatch) => Self::WrongCa(mismatch.to_string()),
                    None => Self::WrongCa(other.0.to_string()),
                }
            }
            Some(rustls::Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            )) => Self::WrongCa("another member of the fleet answers at this address".to_owned()),
            Some(rustls::Error::InvalidCertificate(why)) => {
                Self::WrongCa(format!("the server's certificate is not valid: {why}"))
            }
            Some(rustls::Error::AlertReceived(alert)) => Self::Refused(*alert),
            Some(rustls::Error::InvalidMessage(_)) => {
                Self::Io("what answers there does not speak TLS".to_owned())
            }
            _ => Self::Io(error.to_string()),
        }
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

// === impl DialError ===

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (endpoint, cause)) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            match cause {
                DialCause::Io(why) | DialCause::WrongCa(why) => {
                    write!(f, "{comma}{endpoint}: {why}")?;
                }
                DialCause::Refused(alert) => write!(f, "{comma}{endpoint}: refused ({alert:?})")?,
            }
        }
        Ok(())
    }
}

impl StdError for DialError {}

// === impl CallError ===

impl CallError {
    /// The refusal, when the fleet answered no.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// True when the call certainly had no effect and may simply be made again.
    pub fn nothing_was_done(&self) -> bool {
        !matches!(self, Self::NoAnswer { .. } | Self::Unreadable { .. })
    }

    /// True when trying again later may help without changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoAnswer { .. } => true,
            Self::Refused(r) => r.code == crate::RefusalCode::Unavailable,
            _ => false,
        }
    }
}

impl From<&Status> for CallError {
    fn from(status: &Status) -> Self {
        // A status the server sent has no source; one made on this side tells why in its source.
        match status.source() {
            Some(source) => from_source(source),
            None => Self::Refused(status.into()),
        }
    }
}

impl From<gpuloom_fleet::Problems> for CallError {
    /// Problems in what the fleet sent.
    fn from(problems: gpuloom_fleet::Problems) -> Self {
        Self::Unreadable {
            why: problems.to_string(),
        }
    }
}

fn from_source(error: &(dyn StdError + 'static)) -> CallError {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(dial) = error.downcast_ref::<DialError>() {
            return from_dial(dial);
        }
        at = error.source();
    }
    CallError::NoAnswer { why: chain(error) }
}

fn from_dial(dial: &DialError) -> CallError {
    for (endpoint, cause) in &dial.0 {
        match cause {
            DialCause::WrongCa(why) => {
                return CallError::WrongCa {
                    endpoint: endpoint.clone(),
                    why: why.clone(),
                };
            }
            DialCause::Refused(alert) => {
                let message = format!("the fleet does not know this key ({alert:?})");
                let fix = "use the private half of the key the fleet was made with \
                           (admin_public_key), or, on a node, join again with a new token";
                return Refusal::denied(message, fix).into();
            }
            DialCause::Io(_) => {}
        }
    }
    CallError::Unreachable {
        tried: dial.to_string(),
    }
}

/// An error and its causes in one line, each cause once.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        at = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port() {
        for good in ["127.0.0.1:7443", "lead:1", "[::1]:7443", "a:1, b:2"] {
            assert!(good.parse::<Endpoints>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "lead",
            "lead:",
            ":1",
            "lead:0",
            "lead:70000",
            "https://lead:1",
            "::1:7",
        ] {
            let e = bad.parse::<Endpoints>().expect_err(bad).to_string();
            assert!(e.contains("host:port"), "{e}");
        }
        let many = vec!["a:1"; MAX_ENDPOINTS];
        assert!(Endpoints::new(many.clone()).is_ok());
        assert!(Endpoints::new([many, vec!["b:1"]].concat()).is_err());
    }

    #[test]
    fn a_status_the_server_sent_is_a_refusal_and_a_broken_connection_is_not() {
        let sent = Status::unavailable("restarting");
        assert!(matches!(CallError::from(&sent), CallError::Refused(_)));
        let broken = Status::from_error(Box::new(io::Error::other("reset")));
        let error = CallError::from(&broken);
        assert_eq!(
            error,
            CallError::NoAnswer {
                why: "reset".into()
            }
        );
        assert!(error.is_transient() && !error.nothing_was_done());
    }
}
