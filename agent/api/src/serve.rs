//! Serving: TLS connections in, calls whose caller is known out.

use crate::access::{Access, TokenLookup};
use crate::tls::{KeyAndCertificate, PeerCertificate, PublicKey, TlsError, server_config};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;

/// Most connections at once; more wait to be accepted.
pub const MAX_CONNECTIONS: usize = 4_096;
/// Most calls at once on one connection.
pub const MAX_STREAMS: u32 = 1_024;
/// A TLS handshake that takes longer is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long calls may go on after shutdown was asked for: less than an agent has to end, or it would be cut off.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);
/// Peers are pinged this often and given as long to answer.
pub const KEEPALIVE: Duration = Duration::from_secs(10);
const REFUSED_LINGER: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server presents and whom it lets in.
#[derive(Clone)]
pub struct ServerConfig {
    own: watch::Receiver<KeyAndCertificate>,
    admin: Option<PublicKey>,
    tokens: Option<Arc<dyn TokenLookup>>,
}

/// A server that could not start or broke.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its TLS configuration cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// HTTP/2 failed.
    #[error("the API server broke")]
    Transport(#[from] tonic::transport::Error),
}

/// A TLS connection together with whose it is.
struct Connection {
    tls: TlsStream<TcpStream>,
    peer: PeerCertificate,
    _slot: tokio::sync::OwnedSemaphorePermit,
}

// === impl ServerConfig ===

impl ServerConfig {
    /// A server with this key and certificate, that knows callers of the same CA.
    pub fn new(own: KeyAndCertificate) -> Self {
        Self::renewed(watch::channel(own).1)
    }

    /// As [`ServerConfig::new`], presenting what `own` holds at each handshake.
    pub fn renewed(own: watch::Receiver<KeyAndCertificate>) -> Self {
        Self {
            own,
            admin: None,
            tokens: None,
        }
    }

    /// Lets the holder of this key in as admin.
    #[must_use]
    pub fn admin(mut self, key: PublicKey) -> Self {
        self.admin = Some(key);
        self
    }

    /// Lets holders of tokens that `lookup` knows in as their tenants.
    #[must_use]
    pub fn tokens(mut self, lookup: Arc<dyn TokenLookup>) -> Self {
        self.tokens = Some(lookup);
        self
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("own", &*self.own.borrow())
            .field("admin", &self.admin)
            .field("tokens", &self.tokens.is_some())
            .finish()
    }
}

/// Serves `routes` on `listener` until `shutdown`; calls in progress then get
/// [`SHUTDOWN_GRACE`]. Handlers learn the caller with [`crate::Identity::of`].
pub async fn serve(
    listener: TcpListener,
    config: ServerConfig,
    routes: Routes,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let tls = server_config(&config.own, config.admin.as_ref())?;
    let acceptor = TlsAcceptor::from(tls);
    let (accepted, incoming) = mpsc::channel(16);
    let accepting = tokio::spawn(accept(listener, acceptor, config.admin, accepted));
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .layer(Access::layer(config.tokens))
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), async {
            // An error means the sender is gone: that is a shutdown as well.
            let _ = stopped.await;
        });
    tokio::pin!(server);
    let served = tokio::select! {
        served = &mut server => served,
        () = shutdown => {
            accepting.abort();
            let _ = stop.send(());
            tokio::time::timeout(SHUTDOWN_GRACE, server).await.unwrap_or(Ok(()))
        }
    };
    accepting.abort();
    Ok(served?)
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    admin: Option<PublicKey>,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let admin = Arc::new(admin);
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, or a peer that left before it was accepted.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, admin, accepted) = (acceptor.clone(), admin.clone(), accepted.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let Some(tls) = handshake(acceptor, stream).await else {
                return;
            };
            let chain = tls.get_ref().1.peer_certificates();
            let connection = Connection {
                peer: PeerCertificate::of(chain, (*admin).as_ref()),
                tls,
                _slot: slot,
            };
            // An error means the server has shut down.
            let _ = accepted.send(Ok(connection)).await;
        });
    }
}

async fn handshake(acceptor: TlsAcceptor, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    let peer = stream.peer_addr().ok();
    let accepting = acceptor.accept(stream).into_fallible();
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting).await {
        Ok(Ok(tls)) => Some(tls),
        Ok(Err((error, mut stream))) => {
            tracing::info!(?peer, %error, "a caller was refused at the handshake");
            linger(&mut stream).await;
            None
        }
        Err(_) => {
            tracing::info!(?peer, "a handshake took too long");
            None
        }
    }
}

/// Closes a refused connection only once the peer has had time to read the alert: closing with
/// unread bytes would reset the connection, and the caller would not learn why.
async fn linger(stream: &mut TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        let mut sink = [0; 1024];
        while stream.read(&mut sink).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(REFUSED_LINGER, drain).await;
}

// === impl Connection ===

impl Connected for Connection {
    type ConnectInfo = PeerCertificate;

    fn connect_info(&self) -> PeerCertificate {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
