//! A server on a loopback address whose handler may also close the connection without a word.

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// The largest body that is taken, in bytes.
pub const MAX_BODY: usize = 16 << 20;

/// A request, read whole.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST`, ...
    pub method: String,
    /// Without the query, as sent: percent-encoded.
    pub path: String,
    /// Without its `?`, as sent; empty without one.
    pub query: String,
    /// Names in lower case, in the order sent.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
    /// Who asks; on loopback an instance's own address.
    pub from: SocketAddr,
    /// Where it was asked.
    pub to: SocketAddr,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

/// What a handler says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This response.
    Reply(Response),
    /// Nothing: the connection closes.
    Drop,
}

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The answer to one request.
    fn handle(self: Arc<Self>, request: Request) -> impl Future<Output = Answer> + Send;
}

/// A server; dropping it closes its port and ends what it was answering.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Dropped;

// === impl Request ===

impl Request {
    /// The first header of this name, which is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(have, _)| have == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `Null` when it is empty.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn json(&self) -> Result<Value, serde_json::Error> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body)
    }

    /// The query's parameters, decoded, in their order.
    #[must_use]
    pub fn parameters(&self) -> Vec<(String, String)> {
        pairs(&self.query)
    }

    /// The first parameter of the query with this name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut found = self.parameters().into_iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value)
    }

    /// The fields of a body `application/x-www-form-urlencoded`, decoded, in their order.
    #[must_use]
    pub fn form(&self) -> Vec<(String, String)> {
        pairs(&self.text())
    }

    /// Path, query and body as one text, decoded: what a fault rule's `matches` looks through.
    #[must_use]
    pub fn all(&self) -> String {
        let form = self
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        let body = self.text();
        let body = if form { decode(&body) } else { body };
        format!("{}?{}\n{body}", decode(&self.path), decode(&self.query))
    }
}

// === impl Response ===

impl Response {
    /// A response with this body.
    #[must_use]
    pub fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into(),
        }
    }

    /// A response without a body.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// JSON.
    #[must_use]
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).unwrap_or_else(|e| e.to_string().into_bytes());
        Self::new(status, "application/json", body)
    }

    /// Plain text.
    #[must_use]
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.into())
    }

    /// XML.
    #[must_use]
    pub fn xml(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, "text/xml; charset=utf-8", body.into())
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Reply(response)
    }
}

// === impl Server ===

impl Server {
    /// Serves on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(handler: Arc<impl Handler>) -> io::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), handler).await
    }

    /// Serves at this address; port 0 takes a free one.
    ///
    /// # Errors
    /// When it is taken.
    pub async fn start_at(address: SocketAddr, handler: Arc<impl Handler>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, handler));
        Ok(Self { address, task })
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === functions ===

/// A client for plain HTTP on loopback, past any proxy of the machine.
#[must_use]
pub fn client() -> reqwest::Client {
    // Another part of the process may have chosen one already.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let client = reqwest::Client::builder().no_proxy().build();
    client.unwrap_or_else(|_| reqwest::Client::new())
}

async fn serve(listener: TcpListener, handler: Arc<impl Handler>) {
    // Ends every connection when this future is dropped.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, from)) = accepted else {
                    // Out of file descriptors, or a client that left at once.
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    continue;
                };
                let (handler, to) = (handler.clone(), stream.local_addr().unwrap_or(from));
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        answer(handler.clone(), request, from, to)
                    });
                    // An error here is the client's leaving or our own `Drop`.
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .ok();
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(
    handler: Arc<impl Handler>,
    request: hyper::Request<Incoming>,
    from: SocketAddr,
    to: SocketAddr,
) -> Result<hyper::Response<Body>, Dropped> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(Body::new(body), MAX_BODY).await;
    let body = body.map_err(|_| Dropped)?;
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let request = Request {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body,
        from,
        to,
    };
    // What a client no longer waits for is done all the same, as a cloud does it.
    let done = tokio::spawn(handler.handle(request)).await;
    match done.map_err(|_| Dropped)? {
        Answer::Drop => Err(Dropped),
        Answer::Reply(response) => to_hyper(response),
    }
}

fn to_hyper(response: Response) -> Result<hyper::Response<Body>, Dropped> {
    let mut made = hyper::Response::new(Body::from(response.body));
    *made.status_mut() = hyper::StatusCode::from_u16(response.status).map_err(|_| Dropped)?;
    for (name, value) in response.headers {
        let name = HeaderName::try_from(name).map_err(|_| Dropped)?;
        let value = HeaderValue::try_from(value).map_err(|_| Dropped)?;
        made.headers_mut().append(name, value);
    }
    Ok(made)
}

/// `a=1&b=2`, decoded; a name without `=` has an empty value.
#[must_use]
pub fn pairs(text: &str) -> Vec<(String, String)> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    let parts = parts.map(|part| part.split_once('=').unwrap_or((part, "")));
    parts
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

/// Percent and plus signs decoded; what is no escape stays as it is.
#[must_use]
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3);
        let escape = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], escape) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection was dropped")
    }
}

impl std::error::Error for Dropped {}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Handler for Echo {
        async fn handle(self: Arc<Self>, request: Request) -> Answer {
            if request.path == "/drop" {
                return Answer::Drop;
            }
            Response::text(200, request.all())
                .with("x-from", request.from.ip().to_string())
                .into()
        }
    }

    #[tokio::test]
    async fn it_answers_and_it_can_close_the_connection_without_a_word() {
        let server = Server::start(Arc::new(Echo)).await.expect("a port");
        let client = client();
        let url = format!("{}/a%20b?x=1+2", server.url());
        let answer = client.post(url).body("{}").send().await.expect("answers");
        assert_eq!(answer.headers()["x-from"], "127.0.0.1");
        assert_eq!(answer.text().await.expect("text"), "/a b?x=1 2\n{}");
        let dropped = client.get(format!("{}/drop", server.url())).send().await;
        assert!(dropped.is_err(), "{dropped:?}");
    }

    #[tokio::test]
    async fn its_port_closes_with_it() {
        let server = Server::start(Arc::new(Echo)).await.expect("a port");
        let address = server.address();
        drop(server);
        tokio::task::yield_now().await;
        // The abort is asynchronous; the port is free when it can be taken again.
        let mut taken = TcpListener::bind(address).await;
        while taken.is_err() {
            tokio::task::yield_now().await;
            taken = TcpListener::bind(address).await;
        }
    }

    #[test]
    fn forms_are_decoded() {
        let pairs = pairs("a=1%2B1&b=x+y&c&d=%zz");
        let expected = [("a", "1+1"), ("b", "x y"), ("c", ""), ("d", "%zz")];
        let expected: Vec<_> = expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(pairs, expected);
    }
}
