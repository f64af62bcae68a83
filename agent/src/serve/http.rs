//! `/healthz` and `/metrics` over plain HTTP, for probes and Prometheus.

use crate::metrics::Figures;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What an agent says of itself when asked; `Err` says why it is not well.
pub(crate) type Health =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Figures, String>> + Send>> + Send + Sync>;

/// Serves until `stop`; answers with the address once it is bound.
pub(crate) async fn serve_http(
    listen: SocketAddr,
    health: Health,
    stop: CancellationToken,
) -> std::io::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let app = Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(health);
    let task = tokio::spawn(async move {
        let served = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "health and metrics are not served any more");
        }
    });
    Ok((address, task))
}

async fn healthz(State(health): State<Health>) -> Response {
    match health().await {
        Ok(_) => (StatusCode::OK, "ok\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(health): State<Health>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match health().await {
        Ok(figures) => ([(header::CONTENT_TYPE, TYPE)], figures.encode()).into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}
