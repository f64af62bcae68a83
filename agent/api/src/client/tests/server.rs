//! A lead and a node with just enough behind their doors.

use crate::proto::{self, *};
use crate::tls::{Ca, KeyAndCertificate, SecretKey};
use crate::{BearerToken, Endpoints, Identity, MAX_PROBLEMS, Refusal, ServerConfig};
use gpuloom_fleet::{FleetName, NodeId, Problems, TenantName};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::{Stream, StreamExt};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A running fleet and the credentials that open it.
pub(super) struct Fixture {
    pub(super) ca: Arc<Ca>,
    pub(super) admin: SecretKey,
    pub(super) token: BearerToken,
    pub(super) address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

struct Lead {
    ca: Arc<Ca>,
    address: SocketAddr,
}

struct OneNode;

/// A fleet on a free port of loopback.
pub(super) async fn started() -> Fixture {
    let name = FleetName::new("ml").expect("a name");
    let ca = Arc::new(Ca::create(&name, SystemTime::now()).expect("a CA"));
    let admin = SecretKey::generate().expect("a key");
    let token = BearerToken::new_submit().expect("random");
    let (address, stop, serving) = lead(&ca, &admin, &token).await;
    Fixture {
        ca,
        admin,
        token,
        address,
        stop,
        serving,
    }
}

impl Fixture {
    pub(super) fn endpoints(&self) -> Endpoints {
        Endpoints::new([self.address.to_string()]).expect("one")
    }

    /// The same fleet at a second address.
    pub(super) async fn another_server(&self) -> SocketAddr {
        let (address, stop, _) = lead(&self.ca, &self.admin, &self.token).await;
        // It runs until the test's runtime ends.
        std::mem::forget(stop);
        address
    }

    pub(super) async fn stop(self) {
        self.stop.send(()).expect("it runs");
        self.serving.await.expect("it ends");
    }
}

async fn lead(
    ca: &Arc<Ca>,
    admin: &SecretKey,
    token: &BearerToken,
) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let known = token.sha256();
    let lookup =
        move |sha256: &str| (sha256 == known).then(|| TenantName::new("research").expect("a name"));
    let own = ca.issue_lead(SystemTime::now()).expect("issued");
    let config = ServerConfig::new(own)
        .admin(admin.public_key())
        .tokens(Arc::new(lookup));
    let service = Lead {
        ca: ca.clone(),
        address,
    };
    let routes = Routes::new(crate::fleet_server(service)).add_service(crate::node_server(OneNode));
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(async move {
        let until = async {
            let _ = stopped.await;
        };
        let served = crate::serve(listener, config, routes, until).await;
        served.expect("it serves");
    });
    (address, stop, serving)
}

/// A node's server with this certificate, until the test ends.
pub(super) async fn serve_with(own: KeyAndCertificate) -> Endpoints {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound").to_string();
    let routes = Routes::new(crate::node_logs_server(OneNode));
    tokio::spawn(crate::serve(
        listener,
        ServerConfig::new(own),
        routes,
        std::future::pending(),
    ));
    Endpoints::new([address]).expect("one")
}

/// A refusal as large as they come.
pub(super) fn largest_refusal() -> Refusal {
    let text = "ä".repeat(crate::MAX_TEXT_BYTES / 2);
    let mut problems = Problems::default();
    for _ in 0..MAX_PROBLEMS {
        problems.add(&text, &text, &text, &text);
    }
    let mut refusal = Refusal::invalid("quota refused", problems);
    refusal.message = text.clone();
    refusal.fix = text;
    refusal
}

macro_rules! lead_service {
    ({$($real:item)*} $($name:ident: $request:ident => $reply:ty,)*) => {
        #[tonic::async_trait]
        impl fleet_server::Fleet for Lead {
            type WatchPoolStream = Answers<PoolView>;
            type WatchJobStream = Answers<JobView>;
            type ReadLogsStream = Answers<LogChunk>;
            type ListEventsStream = Answers<proto::Event>;
            $($real)*
            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$reply>, Status> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

lead_service! {
    {
        async fn hello(&self, r: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
            let caller = Identity::of(&r).to_string();
            let hello = r.into_inner();
            Ok(Response::new(HelloReply {
                protocol: crate::negotiate(hello.min_protocol, hello.max_protocol)?,
                fleet_name: "ml".into(),
                caller,
                ..Default::default()
            }))
        }

        async fn join(&self, r: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
            let join = r.into_inner();
            let node = NodeId::new(join.node_id).expect("an id");
            let signed = self.ca.sign_node(&join.csr_der, &node, SystemTime::now());
            Ok(Response::new(JoinReply {
                certificate_der: signed.expect("signed").to_vec(),
                ca_der: self.ca.certificate().to_vec(),
                fleet_id: "f1".into(),
            }))
        }

        async fn get_object(
            &self,
            r: Request<GetObjectRequest>,
        ) -> Result<Response<ObjectRecord>, Status> {
            Err(match r.get_ref().name.as_str() {
                "refused" => largest_refusal(),
                name => Refusal::not_found("quota", name, ""),
            }
            .into())
        }

        async fn list_jobs(
            &self,
            r: Request<ListJobsRequest>,
        ) -> Result<Response<ListJobsReply>, Status> {
            let tenant = TenantName::new(r.get_ref().tenant.clone()).expect("a name");
            Identity::of(&r).require_tenant(&tenant)?;
            Ok(Response::new(ListJobsReply::default()))
        }

        async fn get_top(&self, _: Request<GetTopRequest>) -> Result<Response<Top>, Status> {
            Ok(Response::new(Top {
                fleet: self.address.to_string(),
                ..Default::default()
            }))
        }
    }
    declare: DeclareRequest => DeclareReply,
    withdraw: WithdrawRequest => WithdrawReply,
    list_objects: ListObjectsRequest => ListObjectsReply,
    watch_pool: WatchPoolRequest => Answers<PoolView>,
    submit: SubmitRequest => SubmitReply,
    get_job: GetJobRequest => JobView,
    watch_job: GetJobRequest => Answers<JobView>,
    cancel: CancelRequest => CancelReply,
    read_logs: ReadLogsRequest => Answers<LogChunk>,
    list_nodes: ListNodesRequest => ListNodesReply,
    list_queue: ListQueueRequest => ListQueueReply,
    list_usage: ListUsageRequest => ListUsageReply,
    get_history: GetHistoryRequest => GetHistoryReply,
    list_events: ListEventsRequest => Answers<proto::Event>,
    set_node_schedulable: SetNodeSchedulableRequest => SetNodeSchedulableReply,
    create_token: CreateTokenRequest => CreateTokenReply,
    revoke_token: RevokeTokenRequest => RevokeTokenReply,
}

#[tonic::async_trait]
impl node_server::Node for OneNode {
    type SessionStream = Answers<NodeOrders>;

    async fn session(
        &self,
        r: Request<Streaming<NodeReport>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let echo = r.into_inner().map(|report| {
            report.map(|report| NodeOrders {
                seq: report.seq,
                ..Default::default()
            })
        });
        Ok(Response::new(Box::pin(echo)))
    }
}

#[tonic::async_trait]
impl node_logs_server::NodeLogs for OneNode {
    type ReadLogStream = Answers<LogChunk>;

    async fn read_log(
        &self,
        _: Request<ReadNodeLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        let chunk = LogChunk {
            stderr: false,
            data: b"hello\n".to_vec(),
        };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(chunk)]))))
    }
}
