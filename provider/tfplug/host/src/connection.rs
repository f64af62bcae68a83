//! One mutual-TLS connection to a provider, as strict as the newest Terraform.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tfplug::proto::go_plugin::grpc_broker_client::GrpcBrokerClient;
use tfplug::proto::go_plugin::grpc_controller_client::GrpcControllerClient;
use tfplug::proto::go_plugin::grpc_stdio_client::GrpcStdioClient;
use tfplug::proto::go_plugin::{ConnInfo, Empty};
use tfplug::proto::tfplugin6::provider_client::ProviderClient;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::HostError;
use crate::cert::{ClientIdentity, SERVER_NAME, client_config};
use crate::handshake::Handshake;

/// What Terraform accepts as an answer to `GetProviderSchema`, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 64 << 20;
/// What Terraform accepts as any other answer, in bytes.
pub const MAX_MESSAGE_BYTES: usize = i32::MAX as usize;

/// Anything bytes can flow through, TLS or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The clients of one connection and the two streams that go-plugin opens at once.
#[derive(Debug)]
pub(crate) struct Connection {
    channel: Channel,
    pub(crate) tls: Option<TlsFacts>,
    _broker_requests: mpsc::Sender<ConnInfo>,
    streams: Vec<JoinHandle<()>>,
}

/// What was agreed on in the TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// The application protocol: always `h2`, or there is no connection.
    pub alpn: String,
    /// The protocol version, such as `TLSv1_3`.
    pub version: String,
}

/// Hands out one established stream, once: a provider may unlink its socket after the first connection.
#[derive(Clone)]
struct Once(Arc<Mutex<Option<Established>>>);

/// A connected stream as hyper wants it.
type Established = TokioIo<Box<dyn Stream>>;

// === impl Connection ===

impl Connection {
    pub(crate) async fn open(
        handshake: &Handshake,
        identity: Option<&ClientIdentity>,
        tls: bool,
    ) -> Result<Self, HostError> {
        let socket = UnixStream::connect(&handshake.socket)
            .await
            .map_err(HostError::Io)?;
        let (stream, facts): (Box<dyn Stream>, _) = if tls {
            let (stream, facts) = encrypt(socket, handshake, identity).await?;
            (stream, Some(facts))
        } else {
            (Box::new(socket), None)
        };
        let once = Once(Arc::new(Mutex::new(Some(TokioIo::new(stream)))));
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(once)
            .await
            .map_err(HostError::Transport)?;
        let (requests, received) = mpsc::channel(1);
        let streams = vec![
            tokio::spawn(hold_broker(channel.clone(), received)),
            tokio::spawn(hold_stdio(channel.clone())),
        ];
        Ok(Self {
            channel,
            tls: facts,
            _broker_requests: requests,
            streams,
        })
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A client with the limits that Terraform uses for every call but the schema.
    pub(crate) fn provider(&self) -> ProviderClient<Channel> {
        ProviderClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// A client with the limit that Terraform uses for the schema.
    pub(crate) fn schema(&self) -> ProviderClient<Channel> {
        ProviderClient::new(self.channel.clone()).max_decoding_message_size(MAX_SCHEMA_BYTES)
    }

    pub(crate) fn controller(&self) -> GrpcControllerClient<Channel> {
        GrpcControllerClient::new(self.channel.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for stream in &self.streams {
            stream.abort();
        }
    }
}

async fn encrypt(
    socket: UnixStream,
    handshake: &Handshake,
    identity: Option<&ClientIdentity>,
) -> Result<(Box<dyn Stream>, TlsFacts), HostError> {
    let config = client_config(identity, &handshake.server_certificate)?;
    let name = ServerName::try_from(SERVER_NAME)
        .map_err(|source| HostError::Certificate(source.to_string()))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
        .map_err(HostError::Tls)?;
    let (_, session) = stream.get_ref();
    let alpn = session
        .alpn_protocol()
        .map(|name| String::from_utf8_lossy(name).into_owned());
    let version = session
        .protocol_version()
        .map_or_else(String::new, |version| format!("{version:?}"));
    match alpn {
        Some(alpn) if alpn == "h2" => Ok((Box::new(stream), TlsFacts { alpn, version })),
        got => Err(HostError::Alpn { got }),
    }
}

/// Opens `GRPCBroker.StartStream` and keeps it; UNIMPLEMENTED is as good (trap 6).
async fn hold_broker(channel: Channel, requests: mpsc::Receiver<ConnInfo>) {
    if let Ok(answer) = GrpcBrokerClient::new(channel)
        .start_stream(ReceiverStream::new(requests))
        .await
    {
        let mut stream = answer.into_inner();
        while let Ok(Some(_)) = stream.message().await {}
    }
}

/// Opens `GRPCStdio.StreamStdio` and keeps it; UNIMPLEMENTED is as good (trap 6).
async fn hold_stdio(channel: Channel) {
    if let Ok(answer) = GrpcStdioClient::new(channel).stream_stdio(()).await {
        let mut stream = answer.into_inner();
        while let Ok(Some(_)) = stream.message().await {}
    }
}

/// The request that ends a provider.
pub(crate) const SHUTDOWN: Empty = Empty {};

// === impl Once ===

impl tower::Service<Uri> for Once {
    type Response = Established;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            stream.ok_or_else(|| {
                std::io::Error::new(
                    std::io::ErrorKind::ConnectionReset,
                    "the connection to the provider is gone",
                )
            })
        })
    }
}
