//! The health of a process and of what it depends on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pricing_core::catalogue::Catalogue;
use pricing_core::clock::millis;
use redis::aio::ConnectionManager;
use serde::Serialize;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::snapshot::Snapshot;

/// Longest to wait for Redis or the database to answer a probe.
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);
/// A loop without a heartbeat for this long is stalled: ten times the longest wait of any loop.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// The state of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The process is starting.
    Starting,
    /// The process does its work.
    Ready,
    /// A loop of the process has not moved for half a minute: it should be restarted.
    Stalled,
    /// The process is shutting down and finishes what it began.
    Draining,
}

/// Whether a dependency answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dependency {
    /// It answers.
    Up,
    /// It does not.
    Down,
}

impl Dependency {
    fn of(answers: bool) -> Self {
        if answers { Self::Up } else { Self::Down }
    }
}

/// The body of `GET /health/ready`.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthReport {
    /// State of the process.
    pub status: Phase,
    /// Names of the loops that do not move; absent when all do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub stalled: Vec<&'static str>,
    /// Redis.
    pub redis: Dependency,
    /// The database; absent in a process that uses none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub database: Option<Dependency>,
    /// Whether a dependency is down. A degraded process goes on serving.
    pub degraded: bool,
}

/// The health of a process. Clones share it.
#[derive(Clone)]
pub struct Health {
    started: Arc<AtomicBool>,
    shutdown: CancellationToken,
    heartbeats: Arc<[Heartbeat]>,
    redis: ConnectionManager,
    catalogue: Option<Catalogue>,
    answers: Snapshot<Answers>,
}

/// Whether Redis and the database, if there is one, answered their probes.
#[derive(Debug, Clone, Copy)]
struct Answers {
    redis: bool,
    database: Option<bool>,
}

impl Health {
    /// The health of a process that starts, drains once `shutdown` is cancelled, and depends on Redis and perhaps
    /// on the catalogue. The process is stalled when one of the `heartbeats` stops.
    pub fn new(
        shutdown: CancellationToken,
        heartbeats: &[&Heartbeat],
        redis: ConnectionManager,
        catalogue: Option<Catalogue>,
    ) -> Self {
        let heartbeats = heartbeats.iter().copied().cloned().collect();
        let answers = Snapshot::new();
        Self { started: Arc::default(), shutdown, heartbeats, redis, catalogue, answers }
    }

    /// Ends the phase [`Phase::Starting`].
    pub fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// Reports the state of the process, and whether Redis and the database answer: they are probed at most once a
    /// second, however often they are asked about.
    pub async fn report(&self) -> HealthReport {
        let stalled = self.heartbeats.iter().filter(|heartbeat| heartbeat.is_stalled());
        let stalled: Vec<_> = stalled.map(Heartbeat::name).collect();
        let probe = async {
            let (redis, database) = tokio::join!(self.redis_answers(), self.database_answers());
            Answers { redis, database }
        };
        let Answers { redis, database } = self.answers.get_or_make(probe).await;
        HealthReport {
            status: self.phase(stalled.is_empty()),
            stalled,
            redis: Dependency::of(redis),
            database: database.map(Dependency::of),
            degraded: !redis || database == Some(false),
        }
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
        let (mut redis, ping) = (self.redis.clone(), redis::cmd("PING"));
        matches!(timeout(PROBE_TIMEOUT, ping.query_async::<()>(&mut redis)).await, Ok(Ok(())))
    }

    async fn database_answers(&self) -> Option<bool> {
        let ping = self.catalogue.as_ref()?.ping();
        Some(matches!(timeout(PROBE_TIMEOUT, ping).await, Ok(Ok(()))))
    }
}

/// The heartbeat of a loop. Clones share it.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    name: &'static str,
    created: Instant,
    /// The latest beat, in milliseconds since `created`.
    latest: Arc<AtomicU64>,
}

impl Heartbeat {
    /// The heartbeat of the loop `name`, which starts now.
    pub fn new(name: &'static str) -> Self {
        Self { name, created: Instant::now(), latest: Arc::new(AtomicU64::new(0)) }
    }

    /// Reports that the loop moves. It must beat every few seconds, whatever it waits for.
    pub fn beat(&self) {
        self.latest.store(millis(self.created.elapsed()), Ordering::Relaxed);
    }

    /// The name of the loop.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn is_stalled(&self) -> bool {
        let silent = millis(self.created.elapsed()).saturating_sub(self.latest.load(Ordering::Relaxed));
        Duration::from_millis(silent) > STALLED_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_move_for_half_a_minute_is_stalled() {
        let heartbeat = Heartbeat::new("the reader");
        tokio::time::advance(STALLED_AFTER).await;
        assert!(!heartbeat.is_stalled());
        heartbeat.beat();
        tokio::time::advance(STALLED_AFTER).await;
        assert!(!heartbeat.is_stalled(), "it moved");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(heartbeat.is_stalled());
        heartbeat.beat();
        assert!(!heartbeat.is_stalled(), "it moves again");
    }

    #[tokio::test]
    async fn readiness_follows_the_life_of_the_process() {
        let (shutdown, heartbeat) = (CancellationToken::new(), Heartbeat::new("the reader"));
        let client = redis::Client::open("redis://127.0.0.1:1").unwrap();
        let config = redis::aio::ConnectionManagerConfig::new();
        let redis = ConnectionManager::new_lazy_with_config(client, config).unwrap();
        let health = Health::new(shutdown.clone(), &[&heartbeat], redis, None);
        assert_eq!(health.phase(true), Phase::Starting);
        health.started();
        assert_eq!((health.phase(true), health.phase(false)), (Phase::Ready, Phase::Stalled));
        shutdown.cancel();
        assert_eq!(health.phase(true), Phase::Draining);
    }
}
