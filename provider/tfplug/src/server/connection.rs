//! Incoming connections, with or without TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::tls::ALPN;

/// Longest time a TLS handshake may take.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections accepted but not yet served.
const BACKLOG: usize = 16;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection; counts as open until dropped.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    open: Arc<watch::Sender<usize>>,
}

/// Accepts connections until nobody reads the stream any more. `open` tells how many there are.
pub(crate) fn incoming(
    listener: UnixListener,
    tls: Option<Arc<ServerConfig>>,
    open: watch::Sender<usize>,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let open = Arc::new(open);
    let tls = tls.map(TlsAcceptor::from);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let (sender, tls, open) = (sender.clone(), tls.clone(), open.clone());
            tokio::spawn(async move {
                match secure(stream, tls).await {
                    // An error means that the server is gone, and so is the need for the connection.
                    Ok(stream) => drop(sender.send(Ok(Connection::new(stream, open))).await),
                    Err(error) => tracing::warn!(%error, "refused a connection"),
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

async fn secure(stream: UnixStream, tls: Option<TlsAcceptor>) -> io::Result<Box<dyn Stream>> {
    let Some(acceptor) = tls else {
        return Ok(Box::new(stream));
    };
    let accepted = tokio::time::timeout(TLS_TIMEOUT, acceptor.accept(stream)).await;
    let stream = accepted
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timed out"))??;
    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the client did not negotiate h2",
        ));
    }
    Ok(Box::new(stream))
}

// === impl Connection ===

impl Connection {
    fn new(stream: Box<dyn Stream>, open: Arc<watch::Sender<usize>>) -> Self {
        open.send_modify(|n| *n += 1);
        Self { stream, open }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.send_modify(|n| *n = n.saturating_sub(1));
    }
}

impl Connected for Connection {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
