//! A lead that lets every node in, keeps the last report of the present session and says what it is told to say.

use gpuloom_api::proto::node_server::Node;
use gpuloom_api::proto::{
    HelloReply, HelloRequest, JoinReply, JoinRequest, NodeOrders, NodeReport,
};
use gpuloom_api::tls::{Ca, KeyAndCertificate};
use gpuloom_api::{PROTOCOL_MAX, ServerConfig};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

pub(crate) struct Lead {
    pub(crate) ca: Arc<Ca>,
    pub(crate) own: KeyAndCertificate,
    pub(crate) endpoint: String,
    pub(crate) orders: watch::Sender<NodeOrders>,
    pub(crate) reports: watch::Receiver<NodeReport>,
    pub(crate) stop: CancellationToken,
}

#[derive(Clone)]
struct Session {
    orders: watch::Receiver<NodeOrders>,
    reports: watch::Sender<NodeReport>,
}

/// The two calls of `Fleet` that a node makes.
#[derive(Clone)]
struct Door(Arc<Ca>);

impl Lead {
    pub(crate) async fn start() -> Self {
        let fleet = "ml".parse().expect("a name");
        let ca = Arc::new(Ca::create(&fleet, SystemTime::now()).expect("a CA"));
        let own = ca.issue_lead(SystemTime::now()).expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let endpoint = listener.local_addr().expect("is bound").to_string();
        let orders = watch::Sender::new(NodeOrders::default());
        let reports = watch::Sender::new(NodeReport::default());
        let session = Session {
            orders: orders.subscribe(),
            reports: reports.clone(),
        };
        let mut routes = tonic::service::Routes::builder();
        routes.add_service(gpuloom_api::node_server(session));
        routes.add_service(Door(ca.clone()));
        let stop = CancellationToken::new();
        let (config, stopped) = (ServerConfig::new(own.clone()), stop.clone());
        let routes = routes.routes();
        tokio::spawn(async move {
            let stopped = stopped.cancelled();
            gpuloom_api::serve(listener, config, routes, stopped)
                .await
                .expect("serves");
        });
        Self {
            ca,
            own,
            endpoint,
            orders,
            reports: reports.subscribe(),
            stop,
        }
    }
}

#[tonic::async_trait]
impl Node for Session {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<NodeOrders, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<NodeReport>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let reports = self.reports.clone();
        tokio::spawn(async move {
            while let Ok(Some(report)) = incoming.message().await {
                reports.send_replace(report);
            }
            reports.send_replace(NodeReport::default());
        });
        let orders = WatchStream::new(self.orders.clone()).map(Ok);
        Ok(Response::new(Box::pin(orders)))
    }
}

impl NamedService for Door {
    const NAME: &'static str = "gpuloom.v1.Fleet";
}

type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Service<http::Request<Body>> for Door {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let door = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/gpuloom.v1.Fleet/Hello" => {
                    let codec = ProstCodec::<HelloReply, HelloRequest>::default();
                    Grpc::new(codec).unary(door, request).await
                }
                "/gpuloom.v1.Fleet/Join" => {
                    let codec = ProstCodec::<JoinReply, JoinRequest>::default();
                    Grpc::new(codec).unary(door, request).await
                }
                _ => Status::unimplemented("a node has no business here").into_http(),
            })
        })
    }
}

impl UnaryService<HelloRequest> for Door {
    type Response = HelloReply;
    type Future = Answer<Result<Response<HelloReply>, Status>>;

    fn call(&mut self, _: Request<HelloRequest>) -> Self::Future {
        let reply = HelloReply {
            protocol: PROTOCOL_MAX,
            ..HelloReply::default()
        };
        Box::pin(async move { Ok(Response::new(reply)) })
    }
}

impl UnaryService<JoinRequest> for Door {
    type Response = JoinReply;
    type Future = Answer<Result<Response<JoinReply>, Status>>;

    fn call(&mut self, request: Request<JoinRequest>) -> Self::Future {
        let request = request.into_inner();
        let node = request.node_id.parse().expect("an id");
        let signed = self.0.sign_node(&request.csr_der, &node, SystemTime::now());
        let reply = JoinReply {
            certificate_der: signed.expect("signs").to_vec(),
            ca_der: self.0.certificate().to_vec(),
            fleet_id: "fleet".to_owned(),
        };
        Box::pin(async move { Ok(Response::new(reply)) })
    }
}
