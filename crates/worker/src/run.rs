//! A worker from start to end.

use std::sync::Arc;
use std::time::Duration;

use crate::lock::RecalculationLock;
use anyhow::{Result, bail};
use apalis::prelude::{WorkerBuilder, WorkerContext};
use pricing_core::cache::PriceCache;
use pricing_core::catalogue::Catalogue;
use pricing_core::ids::TaskId;
use pricing_core::price::Policy;
use pricing_core::redis::Redis;
use pricing_queue::{Hooks, Queue};
use pricing_service::admin::{self, Health, Pulse};
use pricing_service::shutdown::Shutdown;
use pricing_service::supervisor::Supervisor;
use pricing_service::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::job::{self, recalculate};
use crate::metrics;
use crate::recalculate::Recalculator;
use crate::scan::Scanner;

/// How often the depths of the queue are measured.
const DEPTH_PERIOD: Duration = Duration::from_secs(5);
/// Longest to wait for tasks to be handed back.
const HAND_BACK: Duration = Duration::from_secs(3);

/// A worker that is ready to run.
pub struct Worker {
    redis: Redis,
    queue: Queue,
    lock: RecalculationLock,
    scanner: Scanner,
    drain: Duration,
}

impl Worker {
    /// Opens the catalogue and prepares the connections to Redis.
    ///
    /// # Errors
    ///
    /// When a setting is wrong or the database is away.
    pub async fn open(config: &Config) -> Result<Self> {
        let redis = Redis::new(&config.redis)?;
        let catalogue = Catalogue::open(&config.database).await?;
        let queue = config.queue_on(&redis);
        let lock_ttl = Duration::from_secs(config.lock_ttl_seconds);
        Ok(Self {
            lock: RecalculationLock::new(&redis, lock_ttl),
            scanner: Scanner {
                catalogue,
                cache: PriceCache::new(&redis, config.cache).patient(&redis),
                simulation: config.simulation,
                policy: Policy::default(),
            },
            drain: Duration::from_secs(config.drain_timeout_seconds),
            queue,
            redis,
        })
    }
}

/// Runs jobs and reports on `port` until it is asked to end; then fetches no more, and has the run that scans
/// hand its task back after the batch it is at. Whatever still runs after `DRAIN_TIMEOUT_SECONDS` is cut off
/// and handed back as it is.
///
/// # Errors
///
/// When one of the parts ends by itself, or runs cannot be handed back.
pub async fn run(port: TcpListener, worker: Worker, metrics: Metrics, shutdown: Shutdown) -> Result<()> {
    let Worker { redis, queue, lock, scanner, drain } = worker;
    let mut parts = Supervisor::new(shutdown);
    let (pulse, closing) = (Pulse::of("the job runner"), parts.shutdown());
    let catalogue = Some(scanner.catalogue.clone());
    let health = Health::new(closing.clone(), &[&pulse], redis.commands.clone(), catalogue);
    parts.background("the upkeep of metrics", metrics.clone().upkeep());
    parts.background("the metrics port", admin::serve(port, health.clone(), metrics));
    parts.background("the measuring of depths", measure_depths(queue.clone()));
    let recalculator = Recalculator { lock, queue: queue.clone(), scanner, closing: closing.clone() };
    parts.part(pulse.part(), run_jobs(queue, Arc::new(recalculator), pulse, drain, closing));
    health.started();
    Ok(parts.run().await?)
}

/// Runs jobs until `shutdown`, and those under way for `drain` more; then cuts them off, which hands their
/// tasks back.
async fn run_jobs(
    queue: Queue,
    recalculator: Arc<Recalculator>,
    pulse: Pulse,
    drain: Duration,
    shutdown: CancellationToken,
) -> Result<()> {
    // Redis knows who runs a task by the worker's name, so no two workers ever share one.
    let context = WorkerContext::new(&format!("worker-{}", TaskId::generate()));
    tracing::info!(worker = context.name(), "waiting for jobs");
    let hooks = Hooks {
        on_dead: Some(job::on_dead(recalculator.clone())),
        on_poll: Some(Arc::new(move || pulse.beat())),
        ..Hooks::default()
    };
    let backend = queue.backend(context.name(), shutdown.child_token(), hooks);
    let abort_runs = backend.abort_runs();
    let worker = WorkerBuilder::new(&context).backend(backend).data(recalculator).build(recalculate);
    let end = async {
        shutdown.cancelled().await;
        let _ = context.stop(); // fails only if it has not started, and then it ends by the closed queue
        tokio::time::sleep(drain).await;
        abort_runs.cancel();
        tokio::time::sleep(HAND_BACK).await;
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
