//! A fleet that tells the story of one job.

use super::Session;
use crate::args::OutputFormat;
use crate::output::Style;
use gpuloom_api::proto::{self, *};
use gpuloom_api::tls::{Ca, Credential};
use gpuloom_api::{BearerToken, Client, Endpoints, Identity, Refusal, ServerConfig};
use gpuloom_fleet::{FleetName, TenantName};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What a watcher of the job sees next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Script {
    /// The job in this state, its attempt with this exit code.
    Job(&'static str, Option<i32>),
    /// The watch ends with an error that is worth trying again.
    Break,
}

/// The fleet, and a tenant's session with it.
pub(super) struct Fixture {
    pub(super) session: Session,
    log_reads: Arc<AtomicUsize>,
}

struct Lead {
    script: Mutex<VecDeque<Script>>,
    /// What reading logs is refused with, if it is.
    no_logs: Option<Refusal>,
    log_reads: Arc<AtomicUsize>,
}

impl Fixture {
    pub(super) fn log_reads(&self) -> usize {
        self.log_reads.load(Ordering::SeqCst)
    }
}

/// A fleet whose only job goes through `script`.
pub(super) async fn serving(script: Vec<Script>) -> Fixture {
    serving_logs(script, None).await
}

/// As [`serving`], refusing to show logs.
pub(super) async fn serving_logs(script: Vec<Script>, no_logs: Option<Refusal>) -> Fixture {
    let now = SystemTime::now();
    let ca = Ca::create(&FleetName::new("ml").expect("a name"), now).expect("a CA");
    let token = BearerToken::new_submit().expect("random");
    let lookup = |_: &str| Some(TenantName::new("research").expect("a name"));
    let own = ca.issue_lead(now).expect("issued");
    let config = ServerConfig::new(own).tokens(Arc::new(lookup));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("binds");
    let address = listener.local_addr().expect("bound").to_string();
    let log_reads = Arc::new(AtomicUsize::new(0));
    let lead = Lead {
        script: Mutex::new(script.into()),
        no_logs,
        log_reads: log_reads.clone(),
    };
    let routes = tonic::service::Routes::new(gpuloom_api::fleet_server(lead));
    tokio::spawn(gpuloom_api::serve(
        listener,
        config,
        routes,
        std::future::pending(),
    ));
    let endpoints = Endpoints::new([address]).expect("one");
    let client = Client::connect(endpoints, ca.pin(), Credential::Token(token)).await;
    Fixture {
        session: Session {
            client: client.expect("connects"),
            output: OutputFormat::Table,
            style: Style {
                colour: false,
                now_ms: 0,
                columns: None,
            },
        },
        log_reads,
    }
}

fn view(state: &str, exit_code: Option<i32>) -> JobView {
    let attempt = AttemptView {
        number: 1,
        node: "n1".into(),
        state: "running".into(),
        started_at_ms: Some(1),
        ended_at_ms: exit_code.map(|_| 2),
        exit_code,
        ..Default::default()
    };
    JobView {
        id: "1".into(),
        state: state.into(),
        attempts: if state == "pending" {
            vec![]
        } else {
            vec![attempt]
        },
        ..Default::default()
    }
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
            Ok(Response::new(HelloReply {
                protocol: 1,
                caller: Identity::of(&r).to_string(),
                ..Default::default()
            }))
        }

        async fn submit(&self, r: Request<SubmitRequest>) -> Result<Response<SubmitReply>, Status> {
            let spec = r.get_ref().spec.clone().unwrap_or_default();
            let tenant = TenantName::new(spec.tenant).expect("a name");
            Identity::of(&r).require_tenant(&tenant)?;
            Ok(Response::new(SubmitReply { ids: vec!["1".into()] }))
        }

        async fn watch_job(
            &self,
            _: Request<GetJobRequest>,
        ) -> Result<Response<Self::WatchJobStream>, Status> {
            let mut views = Vec::new();
            let mut script = self.script.lock().expect("no panic");
            while let Some(step) = script.pop_front() {
                match step {
                    Script::Job(state, exit) => views.push(Ok(view(state, exit))),
                    Script::Break => {
                        views.push(Err(Status::unavailable("the lead restarts")));
                        break;
                    }
                }
            }
            Ok(Response::new(Box::pin(tokio_stream::iter(views))))
        }

        async fn read_logs(
            &self,
            _: Request<ReadLogsRequest>,
        ) -> Result<Response<Self::ReadLogsStream>, Status> {
            self.log_reads.fetch_add(1, Ordering::SeqCst);
            if let Some(refusal) = &self.no_logs {
                return Err(refusal.clone().into());
            }
            let chunk = LogChunk { stderr: false, data: b"epoch 1\n".to_vec() };
            Ok(Response::new(Box::pin(tokio_stream::iter([Ok(chunk)]))))
        }
    }
    join: JoinRequest => JoinReply,
    get_object: GetObjectRequest => ObjectRecord,
    list_jobs: ListJobsRequest => ListJobsReply,
    get_top: GetTopRequest => Top,
    declare: DeclareRequest => DeclareReply,
    withdraw: WithdrawRequest => WithdrawReply,
    list_objects: ListObjectsRequest => ListObjectsReply,
    watch_pool: WatchPoolRequest => Answers<PoolView>,
    get_job: GetJobRequest => JobView,
    cancel: CancelRequest => CancelReply,
    list_nodes: ListNodesRequest => ListNodesReply,
    list_queue: ListQueueRequest => ListQueueReply,
    list_usage: ListUsageRequest => ListUsageReply,
    get_history: GetHistoryRequest => GetHistoryReply,
    list_events: ListEventsRequest => Answers<proto::Event>,
    set_node_schedulable: SetNodeSchedulableRequest => SetNodeSchedulableReply,
    create_token: CreateTokenRequest => CreateTokenReply,
    revoke_token: RevokeTokenRequest => RevokeTokenReply,
}
