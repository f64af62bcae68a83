//! What go-plugin expects of every plugin: broker, stdio, controller, health.

use std::pin::Pin;

use futures::{Stream, StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::proto::go_plugin::grpc_broker_server::GrpcBroker;
use crate::proto::go_plugin::grpc_controller_server::GrpcController;
use crate::proto::go_plugin::grpc_stdio_server::GrpcStdio;
use crate::proto::go_plugin::{ConnInfo, Empty, StdioData};
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::health_server::Health;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse};

/// The service name that go-plugin asks the health of.
const HEALTH_NAME: &str = "plugin";

/// All four services; they end with the token, which the controller cancels.
#[derive(Debug, Clone)]
pub(crate) struct Plugin {
    pub(crate) shutdown: CancellationToken,
}

type Silence<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

// === impl Plugin ===

impl Plugin {
    /// A stream that stays open without a word until shutdown.
    fn silence<T: Send + 'static>(&self) -> Silence<T> {
        Box::pin(stream::pending().take_until(self.shutdown.clone().cancelled_owned()))
    }
}

#[tonic::async_trait]
impl GrpcBroker for Plugin {
    async fn start_stream(
        &self,
        request: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<Silence<ConnInfo>>, Status> {
        // Terraform never asks for another connection; its side is read so that the stream stays open.
        let (mut theirs, shutdown) = (request.into_inner(), self.shutdown.clone());
        tokio::spawn(async move {
            shutdown
                .run_until_cancelled(async { while let Ok(Some(_)) = theirs.message().await {} })
                .await
        });
        Ok(Response::new(self.silence()))
    }
}

#[tonic::async_trait]
impl GrpcStdio for Plugin {
    async fn stream_stdio(
        &self,
        _request: Request<()>,
    ) -> Result<Response<Silence<StdioData>>, Status> {
        Ok(Response::new(self.silence()))
    }
}

#[tonic::async_trait]
impl GrpcController for Plugin {
    async fn shutdown(&self, _request: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.shutdown.cancel();
        Ok(Response::new(Empty {}))
    }
}

#[tonic::async_trait]
impl Health for Plugin {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match request.into_inner().service.as_str() {
            "" | HEALTH_NAME => Ok(Response::new(HealthCheckResponse {
                status: ServingStatus::Serving.into(),
            })),
            other => Err(Status::not_found(format!("no service {other:?}"))),
        }
    }
}
