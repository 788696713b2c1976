//! What every process serves to those who run it: metrics and health.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use redis::aio::ConnectionManager;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::catalogue::Catalogue;

/// Longest to wait for the answer of Redis or the database to a probe.
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);
/// Longest to wait for the answer of the own process to a health check.
const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest that an answer may take at the end of the process.
const CUT_OFF: Duration = Duration::from_secs(1);

/// How far a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Phase {
    /// Not yet at work.
    Starting = 0,
    /// At work.
    Ready = 1,
    /// Ending: finishing what it began.
    Draining = 2,
}

/// The health of a process. Clones share it.
#[derive(Clone)]
pub struct Health {
    phase: Arc<AtomicU8>,
    redis: ConnectionManager,
    catalogue: Option<Catalogue>,
}

/// Body of `GET /health/ready`.
#[derive(Debug, Serialize)]
pub struct HealthReport {
    /// How far the process is in its life.
    pub status: Phase,
    /// `up` or `down`.
    pub redis: &'static str,
    /// `up` or `down`; absent in a process without a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<&'static str>,
    /// Whether something the process depends on is down.
    pub degraded: bool,
}

impl Health {
    /// The health of a process that is starting and depends on Redis and perhaps on the catalogue.
    pub fn new(redis: ConnectionManager, catalogue: Option<Catalogue>) -> Self {
        Self { phase: Arc::new(AtomicU8::new(Phase::Starting as u8)), redis, catalogue }
    }

    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Probes what the process depends on.
    pub async fn report(&self) -> HealthReport {
        let status = match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        };
        let word = |up| if up { "up" } else { "down" };
        let (redis, database) = tokio::join!(self.redis_answers(), self.database_answers());
        let degraded = !redis || database == Some(false);
        HealthReport { status, redis: word(redis), database: database.map(word), degraded }
    }

    async fn redis_answers(&self) -> bool {
        let mut redis = self.redis.clone();
        let ping = redis::cmd("PING");
        let ping = ping.query_async::<()>(&mut redis);
        matches!(tokio::time::timeout(PROBE_TIMEOUT, ping).await, Ok(Ok(())))
    }

    async fn database_answers(&self) -> Option<bool> {
        let ping = self.catalogue.as_ref()?.ping();
        Some(matches!(tokio::time::timeout(PROBE_TIMEOUT, ping).await, Ok(Ok(()))))
    }
}

/// Serves `/metrics`, `/health/live` and `/health/ready`.
///
/// A process is live while it answers. It is ready (200) while it is at work, also when Redis or the
/// database is down: reads go on then, and taking every replica out of service would end them. It is not
/// (503) while it starts or drains.
pub fn router(health: Health, metrics: PrometheusHandle) -> Router {
    let render = move || std::future::ready(render(&metrics));
    Router::new()
        .route("/metrics", get(render))
        .route("/health/live", get(|| std::future::ready("alive\n")))
        .route("/health/ready", get(ready))
        .with_state(health)
}

fn render(metrics: &PrometheusHandle) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    let report = health.report().await;
    let status = match report.status {
        Phase::Ready => StatusCode::OK,
        Phase::Starting | Phase::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report))
}

/// Serves [`router`] on a port of its own until `shutdown`, and answers under way for a second more.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let cut_off = async {
        shutdown.cancelled().await;
        tokio::time::sleep(CUT_OFF).await;
    };
    let ending = shutdown.clone().cancelled_owned();
    tokio::select! {
        ended = axum::serve(listener, router(health, metrics)).with_graceful_shutdown(ending).into_future() => ended,
        () = cut_off => Ok(()), // a client that sends half a request would hold up the end
    }
}

/// The process that listens on `addr` is not ready.
#[derive(Debug, thiserror::Error)]
#[error("not ready: GET {url}")]
pub struct NotReady {
    url: String,
    source: Box<ureq::Error>,
}

/// Asks the process that listens on `addr` of this host whether it is ready: the health check of a
/// container whose image has no other program in it. Blocks for at most two seconds.
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
