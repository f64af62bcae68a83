//! The real moto, as a child process that ends with us.

use super::wire::Params;
use crate::http::{Request, Response};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use std::io;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// The longest that moto may take to start on a loaded machine.
const START: Duration = Duration::from_secs(120);

/// Serves moto on a free port, says which, and ends when standard input does: also when we are killed.
const PROGRAM: &str = r#"
import os, sys, threading
try:
    from moto.server import ThreadedMotoServer
except ImportError as error:
    print("missing", error, flush=True)
    sys.exit(3)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("port", server.get_host_and_port()[1], flush=True)
sys.stdin.buffer.read()
os._exit(0)
"#;

/// Moto did not start or does not answer.
#[derive(Debug, thiserror::Error)]
pub enum MotoError {
    /// It is not installed.
    #[error("moto is missing ({said}): install it with `pip install 'moto[server]'`")]
    Missing {
        /// What Python said.
        said: String,
    },
    /// There is no Python to run it.
    #[error(
        "python3 does not start, which moto needs: install Python 3.9 or later, then `pip install 'moto[server]'`"
    )]
    Python(#[source] io::Error),
    /// It said something else than its port.
    #[error("moto did not start within {} s: it said {said:?}", START.as_secs())]
    Start {
        /// What it said.
        said: String,
    },
    /// The proxy has no port.
    #[error("the proxy in front of moto has no port")]
    Listen(#[source] io::Error),
    /// A machine did not boot.
    #[error("a machine cannot be booted")]
    Boot(#[source] io::Error),
    /// It was asked and did not answer.
    #[error("moto does not answer: {said}")]
    Answer {
        /// What was met.
        said: String,
    },
}

/// The child. Its standard input is kept open: it ends when that closes.
#[derive(Debug)]
pub(crate) struct Moto {
    port: u16,
    _child: Child,
}

// === impl Moto ===

impl Moto {
    pub(crate) async fn start() -> Result<Self, MotoError> {
        let mut child = Command::new("python3")
            .args(["-c", PROGRAM])
            .env_remove("MOTO_PORT")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(MotoError::Python)?;
        let mut said = String::new();
        if let Some(out) = child.stdout.take() {
            let mut lines = BufReader::new(out);
            let read = tokio::time::timeout(START, lines.read_line(&mut said)).await;
            if !matches!(read, Ok(Ok(_))) {
                return Err(MotoError::Start { said });
            }
        }
        let said = said.trim().to_owned();
        if let Some(what) = said.strip_prefix("missing ") {
            let said = what.to_owned();
            return Err(MotoError::Missing { said });
        }
        match said.strip_prefix("port ").map(str::parse) {
            Some(Ok(port)) => Ok(Self {
                port,
                _child: child,
            }),
            _ => Err(MotoError::Start { said }),
        }
    }

    /// Moto's answer to `request` with these parameters in place of its own.
    pub(crate) async fn forward(
        &self,
        request: &Request,
        params: &Params,
    ) -> Result<Response, MotoError> {
        let kept = |name: &str| {
            let dropped = [
                "host",
                "content-length",
                "transfer-encoding",
                "connection",
                "expect",
            ];
            !dropped.contains(&name)
        };
        let headers = request.headers.iter().filter(|(name, _)| kept(name));
        let headers: Vec<_> = headers.cloned().collect();
        self.send(&headers, params.encode()).await
    }

    /// Moto's answer to a call of our own.
    pub(crate) async fn call(&self, region: &str, params: &Params) -> Result<Response, MotoError> {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIADOUBLE/20260101/{region}/ec2/aws4_request, \
             SignedHeaders=host, Signature=00"
        );
        let headers = [
            ("authorization".to_owned(), authorization),
            (
                "content-type".to_owned(),
                "application/x-www-form-urlencoded".to_owned(),
            ),
        ];
        self.send(&headers, params.encode()).await
    }

    /// Empties it.
    pub(crate) async fn reset(&self) -> Result<(), MotoError> {
        let answer = self.post("/moto-api/reset", &[], String::new()).await?;
        match answer.status {
            200 => Ok(()),
            status => Err(MotoError::Answer {
                said: format!("HTTP {status} to its reset"),
            }),
        }
    }

    async fn send(
        &self,
        headers: &[(String, String)],
        body: String,
    ) -> Result<Response, MotoError> {
        self.post("/", headers, body).await
    }

    async fn post(
        &self,
        path: &str,
        headers: &[(String, String)],
        body: String,
    ) -> Result<Response, MotoError> {
        let met = |error: &dyn std::fmt::Display| MotoError::Answer {
            said: error.to_string(),
        };
        let stream = TcpStream::connect(("127.0.0.1", self.port))
            .await
            .map_err(|e| met(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, axum::body::Body>(TokioIo::new(stream))
                .await
                .map_err(|e| met(&e))?;
        tokio::spawn(connection);
        let mut request = hyper::Request::post(path)
            .header("host", format!("127.0.0.1:{}", self.port))
            .header("content-length", body.len());
        for (name, value) in headers {
            request = request.header(name.as_str(), value.as_str());
        }
        let request = request
            .body(axum::body::Body::from(body))
            .map_err(|e| met(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| met(&e))?;
        let status = answer.status().as_u16();
        let kind = answer.headers().get("content-type");
        let kind = kind
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or("text/xml");
        let kind = kind.to_owned();
        let body = axum::body::to_bytes(axum::body::Body::new(answer.into_body()), usize::MAX);
        let body: Bytes = body.await.map_err(|e| met(&e))?;
        Ok(Response::new(status, &kind, body))
    }
}
