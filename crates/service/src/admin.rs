//! What every process serves to those who run it: metrics and health.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use redis::aio::ConnectionManager;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Ending};
use crate::telemetry::Metrics;
use pricing_core::catalogue::Catalogue;

/// Longest to wait for the answer of Redis or the database to a probe.
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);
/// Longest to wait for the answer of the own process to a health check.
const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// A part that has not beaten for this long is stalled: ten times what it waits for anything.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// How far a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not yet at work.
    Starting,
    /// At work.
    Ready,
    /// A part of it has not moved for half a minute, whatever the reason: it should be started again.
    Stalled,
    /// Ending: finishing what it began.
    Draining,
}

/// The health of a process. Clones share it.
#[derive(Clone)]
pub struct Health {
    started: Arc<AtomicBool>,
    shutdown: CancellationToken,
    pulses: Arc<[Pulse]>,
    redis: ConnectionManager,
    catalogue: Option<Catalogue>,
}

/// The sign of life of a part that goes round in a loop. Clones share it.
#[derive(Debug, Clone)]
pub struct Pulse {
    part: &'static str,
    born: Instant,
    /// When it beat last, in milliseconds since `born`.
    beat: Arc<AtomicU64>,
}

impl Pulse {
    /// The pulse of a part that starts now.
    pub fn of(part: &'static str) -> Self {
        Self { part, born: Instant::now(), beat: Arc::new(AtomicU64::new(0)) }
    }

    /// The part has gone round once more. Whatever it waits for, it must do so at least every few seconds.
    pub fn beat(&self) {
        self.beat.store(self.age(), Ordering::Relaxed);
    }

    /// Whose pulse it is.
    pub fn part(&self) -> &'static str {
        self.part
    }

    fn is_stalled(&self) -> bool {
        let silent = self.age().saturating_sub(self.beat.load(Ordering::Relaxed));
        Duration::from_millis(silent) > STALLED_AFTER
    }

    fn age(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Body of `GET /health/ready`.
#[derive(Debug, Serialize)]
pub struct HealthReport {
    /// How far the process is in its life.
    pub status: Phase,
    /// The parts that do not move; absent when all do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stalled: Vec<&'static str>,
    /// `up` or `down`.
    pub redis: &'static str,
    /// `up` or `down`; absent in a process without a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<&'static str>,
    /// Whether something the process depends on is down.
    pub degraded: bool,
}

impl Health {
    /// The health of a process that is starting, drains after `shutdown`, and depends on Redis and perhaps on
    /// the catalogue. It stalls when one of the `pulses` does.
    pub fn new(
        shutdown: CancellationToken,
        pulses: &[&Pulse],
        redis: ConnectionManager,
        catalogue: Option<Catalogue>,
    ) -> Self {
        let pulses = pulses.iter().copied().cloned().collect();
        Self { started: Arc::default(), shutdown, pulses, redis, catalogue }
    }

    /// The process is at work from now on.
    pub fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// Probes what the process depends on.
    pub async fn report(&self) -> HealthReport {
        let stalled = self.pulses.iter().filter(|pulse| pulse.is_stalled()).map(|pulse| pulse.part);
        let stalled: Vec<_> = stalled.collect();
        let word = |up| if up { "up" } else { "down" };
        let (redis, database) = tokio::join!(self.redis_answers(), self.database_answers());
        let degraded = !redis || database == Some(false);
        let status = self.phase(stalled.is_empty());
        HealthReport { status, stalled, redis: word(redis), database: database.map(word), degraded }
    }

    fn phase(&self, is_moving: bool) -> Phase {
        if self.shutdown.is_cancelled() {
            Phase::Draining
        } else if !self.started.load(Ordering::Relaxed) {
            Phase::Starting
        } else if is_moving {
            Phase::Ready
        } else {
            Phase::Stalled
        }
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
/// (503) while it starts or drains, nor when one of its parts has stopped moving.
pub fn router(health: Health, metrics: Metrics) -> Router {
    let render = move || std::future::ready(render(&metrics));
    Router::new()
        .route("/metrics", get(render))
        .route("/health/live", get(|| std::future::ready("alive\n")))
        .route("/health/ready", get(ready))
        .with_state(health)
}

fn render(metrics: &Metrics) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    let report = health.report().await;
    let status = match report.status {
        Phase::Ready => StatusCode::OK,
        Phase::Starting | Phase::Stalled | Phase::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report))
}

/// Serves [`router`] on a port of its own for as long as it is polled: the end of the process can be watched
/// there.
pub async fn serve(listener: TcpListener, health: Health, metrics: Metrics) {
    let never = CancellationToken::new();
    let ending = Ending { delay: Duration::ZERO, drain: Duration::ZERO };
    http::serve(listener, router(health, metrics), never, ending).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_move_for_half_a_minute_is_stalled() {
        let pulse = Pulse::of("the reader");
        tokio::time::advance(STALLED_AFTER).await;
        assert!(!pulse.is_stalled());
        pulse.beat();
        tokio::time::advance(STALLED_AFTER).await;
        assert!(!pulse.is_stalled(), "it moved");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(pulse.is_stalled());
        pulse.beat();
        assert!(!pulse.is_stalled(), "it moves again");
    }

    #[tokio::test]
    async fn readiness_follows_the_life_of_the_process() {
        let (shutdown, pulse) = (CancellationToken::new(), Pulse::of("the reader"));
        let client = redis::Client::open("redis://127.0.0.1:1").unwrap();
        let config = redis::aio::ConnectionManagerConfig::new();
        let redis = ConnectionManager::new_lazy_with_config(client, config).unwrap();
        let health = Health::new(shutdown.clone(), &[&pulse], redis, None);
        assert_eq!(health.phase(true), Phase::Starting);
        health.started();
        assert_eq!((health.phase(true), health.phase(false)), (Phase::Ready, Phase::Stalled));
        shutdown.cancel();
        assert_eq!(health.phase(true), Phase::Draining);
    }
}
