//! Serves the logs of the node's attempts to the lead, and to nobody else.

use super::config::NodeConfig;
use super::error::NodeError;
use crate::launch::{LaunchError, Launcher, LogChunk, LogRequest};
use gpuloom_api::proto::node_logs_server::NodeLogs;
use gpuloom_api::proto::{self, ReadNodeLogRequest};
use gpuloom_api::tls::KeyAndCertificate;
use gpuloom_api::{Identity, Refusal, ServerConfig};
use gpuloom_fleet::AttemptId;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

#[derive(Debug)]
struct Service {
    launcher: Launcher,
}

/// Where the lead reaches `listener`: its address, or, when it listens on all, the one this
/// machine has towards the lead.
pub(crate) fn endpoint(listener: &TcpListener, config: &NodeConfig) -> Result<String, NodeError> {
    let bound = listener.local_addr().map_err(|source| NodeError::Listen {
        address: config.listen,
        source,
    })?;
    if !bound.ip().is_unspecified() {
        return Ok(bound.to_string());
    }
    let towards = config.fleet_endpoints.iter().find_map(|lead| towards(lead));
    let ip = towards.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    Ok(SocketAddr::new(ip, bound.port()).to_string())
}

/// Our address towards `peer`. Nothing is sent: the kernel only chooses a route.
fn towards(peer: &str) -> Option<IpAddr> {
    let peer = peer.to_socket_addrs().ok()?.next()?;
    let any: SocketAddr = if peer.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Serves until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    identity: watch::Receiver<KeyAndCertificate>,
    launcher: Launcher,
    shutdown: &CancellationToken,
) -> Result<(), NodeError> {
    let routes = Routes::new(gpuloom_api::node_logs_server(Service { launcher }));
    let config = ServerConfig::renewed(identity);
    gpuloom_api::serve(listener, config, routes, shutdown.cancelled()).await?;
    Ok(())
}

fn refusal(error: &LaunchError) -> Refusal {
    let message = super::attempt::chain(error);
    match error {
        LaunchError::Unknown { attempt } => Refusal::not_found("attempt", attempt, ""),
        LaunchError::Limit { .. } => Refusal::unavailable(message, "try again later"),
        _ => Refusal::internal(message),
    }
}

fn chunk(chunk: LogChunk) -> proto::LogChunk {
    proto::LogChunk {
        stderr: chunk.stderr,
        data: chunk.data,
    }
}

fn wanted(request: &ReadNodeLogRequest) -> LogRequest {
    use proto::read_logs_request::Stream;
    let stream = request.stream();
    LogRequest {
        stdout: stream != Stream::Stderr,
        stderr: stream != Stream::Stdout,
        follow: request.follow,
        tail_bytes: (request.tail_bytes > 0).then_some(request.tail_bytes),
    }
}

// === impl Service ===

type Chunks = Box<dyn tokio_stream::Stream<Item = Result<proto::LogChunk, Status>> + Send>;

#[tonic::async_trait]
impl NodeLogs for Service {
    type ReadLogStream = std::pin::Pin<Chunks>;

    async fn read_log(
        &self,
        request: Request<ReadNodeLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        if Identity::of(&request) != Identity::Lead {
            let fix = "ask the lead: `gpuloom logs JOB`";
            return Err(Refusal::denied("logs are read through the lead", fix).into());
        }
        let request = request.into_inner();
        let attempt: AttemptId = request.attempt.parse().map_err(|e| {
            let fix = "use an attempt id such as \"17#1\"";
            Refusal::invalid_field("attempt", &request.attempt, format!("{e}"), fix)
        })?;
        let chunks = self.launcher.read_log(attempt, wanted(&request));
        let chunks = chunks.map_err(|e| refusal(&e))?;
        let chunks = ReceiverStream::new(chunks)
            .map(|piece| piece.map(chunk).map_err(|e| refusal(&e).into()));
        Ok(Response::new(Box::pin(chunks)))
    }
}
