//! A worker from start to end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use apalis::prelude::{WorkerBuilder, WorkerContext};
use pricing_core::cache::PriceCache;
use pricing_core::catalogue::Catalogue;
use pricing_core::ids::TaskId;
use pricing_core::plaintext::warn_of_exposed;
use pricing_core::recalculation::RecalculationQueue;
use pricing_core::redis::Redis;
use pricing_queue::{Hooks, Queue};
use pricing_service::admin;
use pricing_service::health::{Health, Heartbeat};
use pricing_service::shutdown::Shutdown;
use pricing_service::supervisor::Supervisor;
use pricing_service::telemetry::{self, Metrics};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::coordinator::Coordinator;
use crate::follow::Follower;
use crate::job;
use crate::lock::RecalculationLock;
use crate::metrics;
use crate::prune::Pruner;
use crate::scan::{STATEMENT_TIMEOUT, Scanner};

/// How often the depths of the queue are measured.
const DEPTH_PERIOD: Duration = Duration::from_secs(5);
/// Maximum time to requeue the tasks of aborted runs.
const REQUEUE_TIMEOUT: Duration = Duration::from_secs(3);

/// A worker that is ready to run.
pub struct Worker {
    redis: Redis,
    queue: RecalculationQueue,
    lock: RecalculationLock,
    scanner: Arc<Scanner>,
    drain: Duration,
    pruner: Pruner,
}

impl Worker {
    /// Opens the catalogue and prepares the connections to Redis.
    ///
    /// # Errors
    ///
    /// When a setting is wrong or the database is away.
    pub async fn open(config: &Config) -> Result<Self> {
        let redis = Redis::new(&config.redis)?;
        let catalogue = Catalogue::open(&config.database, STATEMENT_TIMEOUT).await?;
        let queue = config.queue_on(&redis);
        let lock_ttl = Duration::from_secs(config.lock_ttl_seconds);
        Ok(Self {
            lock: RecalculationLock::new(&redis, lock_ttl),
            pruner: Pruner::new(&catalogue, config),
            scanner: Arc::new(Scanner {
                catalogue,
                cache: PriceCache::new(&redis, config.cache).patient(&redis),
                simulation: config.simulation,
            }),
            drain: Duration::from_secs(config.drain_timeout_seconds),
            queue,
            redis,
        })
    }
}

/// Runs jobs, and serves health and metrics on `port`, until it is asked to end. Then it fetches no more, and the
/// run that scans requeues its task after the current batch. Runs that go on after `DRAIN_TIMEOUT_SECONDS` are
/// aborted and their tasks requeued.
///
/// # Errors
///
/// When a part of the process ends by itself, or tasks cannot be requeued.
pub async fn run(port: TcpListener, worker: Worker, metrics: Metrics, shutdown: Shutdown) -> Result<()> {
    let Worker { redis, queue, lock, scanner, drain, pruner } = worker;
    let mut parts = Supervisor::new(shutdown);
    let (heartbeat, closing) = (Heartbeat::new("the task consumer"), parts.shutdown());
    let catalogue = Some(scanner.catalogue.clone());
    let health = Health::new(closing.clone(), &[&heartbeat], redis.commands.clone(), catalogue);
    parts.background("the upkeep of metrics", metrics.clone().upkeep());
    let connections = [redis.plaintext(), scanner.catalogue.plaintext(), telemetry::plaintext()];
    parts.background("the check for plaintext connections", warn_of_exposed(connections));
    parts.background("the watch over the primary of Redis", redis.follow_primary());
    parts.background("the metrics port", admin::serve(port, health.clone(), metrics));
    parts.background("the measuring of depths", measure_depths(queue.queue().clone()));
    parts.background("the pruning of history and audit", pruner.run());
    parts.part("the follower of changes", Follower::new(scanner.clone()).run(closing.clone()));
    let jobs = queue.queue().clone();
    let coordinator = Coordinator { lock, queue, scanner, closing: closing.clone() };
    parts.part(heartbeat.name(), run_jobs(jobs, Arc::new(coordinator), heartbeat, drain, closing));
    health.started();
    Ok(parts.run().await?)
}

/// Runs jobs until `shutdown`. Runs under way may go on for `drain`; then they are aborted, which requeues their
/// tasks.
async fn run_jobs(
    queue: Queue,
    coordinator: Arc<Coordinator>,
    heartbeat: Heartbeat,
    drain: Duration,
    shutdown: CancellationToken,
) -> Result<()> {
    // Redis tells workers apart by name, so every start gets a name of its own.
    let context = WorkerContext::new(&format!("worker-{}", TaskId::generate()));
    tracing::info!(worker = context.name(), "waiting for tasks");
    let hooks = Hooks {
        on_dead: Some(job::on_dead(coordinator.clone())),
        on_poll: Some(Arc::new(move || heartbeat.beat())),
        make_span: Some(Arc::new(job::span)),
    };
    let backend = queue.backend(context.name(), shutdown.child_token(), hooks);
    let abort_runs = backend.abort_runs();
    let worker = WorkerBuilder::new(&context).backend(backend).data(coordinator).build(job::recalculate);
    let end = async {
        shutdown.cancelled().await;
        let _ = context.stop(); // fails only if it has not started, and then it ends by the closed queue
        tokio::time::sleep(drain).await;
        abort_runs.cancel();
        tokio::time::sleep(REQUEUE_TIMEOUT).await;
    };
    tokio::select! {
        ended = worker.run() => Ok(ended?),
        () = end => bail!("runs did not end within DRAIN_TIMEOUT_SECONDS ({}); others take them over", drain.as_secs()),
    }
}

async fn measure_depths(queue: Queue) {
    let mut period = tokio::time::interval(DEPTH_PERIOD);
    loop {
        period.tick().await;
        match queue.depths().await {
            Ok(depths) => metrics::depths(depths, queue.options()),
            Err(error) => tracing::debug!(%error, "the depths of the queue are unknown"),
        }
    }
}
