//! The calls that the provider makes; all others are not there.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use gpuloom_api::proto::{self, *};
use gpuloom_api::{Identity, Refusal};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::objects::Objects;

pub(crate) struct Lead {
    pub(crate) objects: Arc<Mutex<Objects>>,
    pub(crate) fleet_id: String,
    pub(crate) name: String,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

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
                fleet_id: self.fleet_id.clone(),
                fleet_name: self.name.clone(),
                version: "0.0.1-standin".to_owned(),
                caller: Identity::of(&r).to_string(),
                backend: "simulated".to_owned(),
            }))
        }
        async fn declare(&self, r: Request<DeclareRequest>) -> Result<Response<DeclareReply>, Status> {
            let reply = self.objects.lock().expect("never poisoned").declare(r.into_inner());
            reply.map(Response::new).map_err(Status::from)
        }
        async fn withdraw(&self, r: Request<WithdrawRequest>) -> Result<Response<WithdrawReply>, Status> {
            let reply = self.objects.lock().expect("never poisoned").withdraw(r.get_ref());
            reply.map(Response::new).map_err(Status::from)
        }
        async fn get_object(&self, r: Request<GetObjectRequest>) -> Result<Response<ObjectRecord>, Status> {
            let r = r.into_inner();
            let found = self.objects.lock().expect("never poisoned").get(&r.kind, &r.name, r.confirm);
            found.map(Response::new).ok_or_else(|| Refusal::not_found(r.kind, r.name, "").into())
        }
        async fn list_objects(&self, r: Request<ListObjectsRequest>) -> Result<Response<ListObjectsReply>, Status> {
            let objects = self.objects.lock().expect("never poisoned").list(&r.get_ref().kind);
            Ok(Response::new(ListObjectsReply { objects }))
        }
        async fn watch_pool(&self, r: Request<WatchPoolRequest>) -> Result<Response<Self::WatchPoolStream>, Status> {
            let view = self.objects.lock().expect("never poisoned").watch(&r.get_ref().name);
            let last = view.gone;
            let first = tokio_stream::once(Ok(view));
            if last {
                return Ok(Response::new(Box::pin(first)));
            }
            // Nothing ever changes.
            let rest = tokio_stream::StreamExt::chain(first, tokio_stream::pending());
            Ok(Response::new(Box::pin(rest)))
        }
        async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesReply>, Status> {
            let devices = vec![DeviceView {
                device: Some(Device {
                    id: "GPU-1".into(),
                    model: "T4".into(),
                    memory_bytes: 16 << 30,
                    ..Device::default()
                }),
                health: "healthy".into(),
                ..DeviceView::default()
            }];
            let nodes = vec![NodeView { id: "t4-1".into(), pool: "t4".into(), state: "ready".into(), devices, ..NodeView::default() }];
            Ok(Response::new(ListNodesReply { nodes }))
        }
        async fn list_queue(&self, _: Request<ListQueueRequest>) -> Result<Response<ListQueueReply>, Status> {
            let job = JobView { id: "1".into(), state: "pending".into(), why: vec!["no GPU is free".into()], ..JobView::default() };
            Ok(Response::new(ListQueueReply { jobs: vec![job], pending: 1, active: 0 }))
        }
        async fn create_token(&self, r: Request<CreateTokenRequest>) -> Result<Response<CreateTokenReply>, Status> {
            let token = format!("glj_{}", r.get_ref().pool);
            Ok(Response::new(CreateTokenReply { token, id: "7".into(), expires_at_ms: 1_000 }))
        }
    }
    submit: SubmitRequest => SubmitReply,
    list_jobs: ListJobsRequest => ListJobsReply,
    get_job: GetJobRequest => JobView,
    watch_job: GetJobRequest => Self::WatchJobStream,
    cancel: CancelRequest => CancelReply,
    read_logs: ReadLogsRequest => Self::ReadLogsStream,
    list_usage: ListUsageRequest => ListUsageReply,
    get_top: GetTopRequest => Top,
    get_history: GetHistoryRequest => GetHistoryReply,
    list_events: ListEventsRequest => Self::ListEventsStream,
    set_node_schedulable: SetNodeSchedulableRequest => SetNodeSchedulableReply,
    revoke_token: RevokeTokenRequest => RevokeTokenReply,
    join: JoinRequest => JoinReply,
}
