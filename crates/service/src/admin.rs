//! The routes for operators: metrics and health.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::health::{Health, Phase};
use crate::http::{self, ConnectionSettings, DrainPolicy};
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;

/// Longest to wait for the answer to a health check.
const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves `/metrics`, `/health/live` and `/health/ready`.
///
/// A process is live while it answers. It is ready (200) while it does its work, also when Redis or the
/// database is down: reads go on then, and taking every replica out of service would end them. It is not ready
/// (503) while it starts or drains, nor when one of its loops is stalled.
///
/// Metrics are rendered, and dependencies probed, at most once a second: these routes cost the same under any number
/// of requests.
pub fn router(health: Health, metrics: Metrics) -> Router {
    let rendered = Snapshot::new();
    let metrics = move || {
        let (metrics, rendered) = (metrics.clone(), rendered.clone());
        async move {
            let text = rendered.get_or_make(async { Bytes::from(metrics.render()) }).await;
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
        }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(|| std::future::ready("alive\n")))
        .route("/health/ready", get(ready))
        .with_state(health)
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    let report = health.report().await;
    let status = match report.status {
        Phase::Ready => StatusCode::OK,
        Phase::Starting | Phase::Stalled | Phase::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report))
}

/// Serves [`router`] on a port of its own until it is dropped, so that the end of the process can be observed.
pub async fn serve(listener: TcpListener, health: Health, metrics: Metrics) {
    let never = CancellationToken::new();
    let at_once = DrainPolicy { delay: Duration::ZERO, timeout: Duration::ZERO };
    let router = http::ignoring_peer(router(health, metrics));
    http::serve(listener, router, never, at_once, ConnectionSettings::admin()).await;
}

/// The process behind `url` is not ready.
#[derive(Debug, thiserror::Error)]
#[error("not ready: GET {url}")]
pub struct NotReady {
    url: String,
    source: Box<ureq::Error>,
}

/// Asks the process that listens on `addr` of this host whether it is ready: the health check of a
/// container image without another program. Blocks for at most two seconds.
///
/// # Errors
///
/// When it is not ready or does not answer.
pub fn check_health(addr: SocketAddr) -> Result<(), NotReady> {
    let host = if addr.ip().is_unspecified() { "127.0.0.1".to_owned() } else { addr.ip().to_string() };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let url = format!("http://{host}:{}/health/ready", addr.port());
    let agent = ureq::Agent::config_builder().timeout_global(Some(HEALTH_CHECK_TIMEOUT)).build().new_agent();
    match agent.get(&url).call() {
        Ok(_) => Ok(()),
        Err(source) => Err(NotReady { url, source: Box::new(source) }),
    }
}
