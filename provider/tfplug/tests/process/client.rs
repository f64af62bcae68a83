//! go-plugin's part: starting the process, reading its line, connecting.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tfplug::{COOKIE_KEY, COOKIE_VALUE};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdout, Command};
use tonic::transport::{Channel, Endpoint};

/// Longest time any step may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running plugin.
pub(crate) struct Plugin {
    pub(crate) child: Child,
    /// Where sockets are made.
    pub(crate) base: TempDir,
    /// The fields of the handshake line.
    pub(crate) line: Vec<String>,
    pub(crate) stdout: BufReader<ChildStdout>,
}

pub(crate) fn command(base: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tfplug-example"));
    command
        .env_clear()
        .env("PLUGIN_UNIX_SOCKET_DIR", base)
        .kill_on_drop(true);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

// === impl Plugin ===

impl Plugin {
    /// Starts a plugin, with TLS where a certificate is given.
    pub(crate) async fn start(client_cert: Option<&str>) -> Self {
        let base = tempfile::tempdir().expect("a directory");
        let mut command = command(base.path());
        command
            .env(COOKIE_KEY, COOKIE_VALUE)
            .env("PLUGIN_PROTOCOL_VERSIONS", "6,5");
        if let Some(pem) = client_cert {
            command.env("PLUGIN_CLIENT_CERT", pem);
        }
        let mut child = command.spawn().expect("the example starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, stdout.read_line(&mut line)).await;
        read.expect("in time").expect("a line");
        assert!(line.ends_with('\n'), "{line:?}");
        let line = line
            .trim_end_matches('\n')
            .split('|')
            .map(str::to_owned)
            .collect();
        Self {
            child,
            base,
            line,
            stdout,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        PathBuf::from(&self.line[3])
    }

    /// The certificate of the line.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        STANDARD_NO_PAD
            .decode(&self.line[5])
            .expect("base64 without padding")
    }

    /// A gRPC channel without TLS.
    pub(crate) async fn channel(&self) -> Channel {
        let socket = self.socket();
        channel(
            UnixStream::connect(socket)
                .await
                .expect("the plugin listens"),
        )
        .await
        .expect("HTTP/2")
    }

    /// The rest of stdout and the exit code.
    pub(crate) async fn end(&mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        let both = async {
            self.stdout.read_to_string(&mut rest).await.expect("text");
            self.child.wait().await.expect("an end").code()
        };
        let code = tokio::time::timeout(PATIENCE, both)
            .await
            .expect("ends in time");
        (rest, code)
    }
}

/// A gRPC channel over one stream.
pub(crate) async fn channel<S>(stream: S) -> Result<Channel, tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().map(TokioIo::new);
        async move { stream.ok_or_else(|| io::Error::other("one connection is all there is")) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
}
