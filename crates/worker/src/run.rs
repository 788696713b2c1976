//! A worker from start to end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use apalis::prelude::{WorkerBuilder, WorkerContext};
use metrics_exporter_prometheus::PrometheusHandle;
use pricing_core::admin::{self, Health, Phase};
use pricing_core::cache::PriceCache;
use pricing_core::catalogue::Catalogue;
use pricing_core::connections::Redis;
use pricing_core::ids::TaskId;
use pricing_core::lock::RecalculationLock;
use pricing_core::price::Policy;
use pricing_queue::Queue;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
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
const JOB_RUNNER: &str = "the job runner";

/// A worker that is ready to run.
pub struct Worker {
    queue: Queue,
    health: Health,
    recalculator: Arc<Recalculator>,
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
        let lock = RecalculationLock::new(&redis, queue.numbers_key().to_owned(), lock_ttl);
        let scanner = Scanner {
            catalogue: catalogue.clone(),
            cache: PriceCache::new(&redis, config.cache).patient(&redis),
            simulation: config.simulation,
            policy: Policy::default(),
        };
        Ok(Self {
            health: Health::new(redis.commands.clone(), Some(catalogue)),
            recalculator: Arc::new(Recalculator { lock, queue: queue.clone(), scanner }),
            queue,
            drain: Duration::from_secs(config.drain_timeout_seconds),
        })
    }
}

/// Runs jobs and reports on `port` until `shutdown`; then fetches no more and lets the runs under way end,
/// for as long as `DRAIN_TIMEOUT_SECONDS` says. A run that is cut off is handed back.
///
/// # Errors
///
/// When one of the parts ends by itself.
pub async fn run(
    port: TcpListener,
    worker: Worker,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> Result<()> {
    let Worker { queue, health, recalculator, drain } = worker;
    let mut parts: JoinSet<(&'static str, Result<()>)> = JoinSet::new();

    let (admin_health, ended) = (health.clone(), CancellationToken::new());
    let admin = admin::serve(port, admin_health, metrics, ended.clone());
    parts.spawn(async move { ("the metrics port", admin.await.context("cannot serve")) });

    let (depths, measured) = (queue.clone(), ended.clone());
    parts.spawn(async move {
        measure_depths(&depths, &measured).await;
        ("the measuring of depths", Ok(()))
    });

    let jobs = run_jobs(queue, recalculator, drain, shutdown.clone());
    parts.spawn(async move { (JOB_RUNNER, jobs.await) });

    health.enter(Phase::Ready);
    let draining = health.clone();
    let asked = shutdown.clone();
    parts.spawn(async move {
        asked.cancelled().await;
        draining.enter(Phase::Draining);
        ("the watch for the end", Ok(()))
    });

    // The first part to end by being asked to is the watch, then the job runner; then the others may end.
    while let Some(ended_part) = parts.join_next().await {
        let (part, result) = ended_part.context("a part of the worker panicked")?;
        result.context(part)?;
        if !shutdown.is_cancelled() {
            bail!("{part} ended by itself");
        }
        if part == JOB_RUNNER {
            ended.cancel();
        }
    }
    Ok(())
}

/// Runs jobs until `shutdown`, and those under way for `drain` more; then cuts them off, which hands their
/// tasks back.
async fn run_jobs(
    queue: Queue,
    recalculator: Arc<Recalculator>,
    drain: Duration,
    shutdown: CancellationToken,
) -> Result<()> {
    // Redis knows who runs a task by the worker's name, so no two workers ever share one.
    let context = WorkerContext::new(&format!("worker-{}", TaskId::generate()));
    tracing::info!(worker = context.name(), "waiting for jobs");
    let backend =
        queue.backend(context.name(), shutdown.child_token(), Some(job::on_dead(recalculator.clone())));
    let cut_off = backend.cut_off();
    let worker = WorkerBuilder::new(&context).backend(backend).data(recalculator).build(recalculate);
    let end = async {
        shutdown.cancelled().await;
        let _ = context.stop(); // fails only if it has not started, and then it ends by the closed queue
        tokio::time::sleep(drain).await;
        cut_off.cancel();
        tokio::time::sleep(HAND_BACK).await;
    };
    tokio::select! {
        ended = worker.run() => Ok(ended?),
        () = end => bail!("runs did not end within DRAIN_TIMEOUT_SECONDS ({}); others take them over", drain.as_secs()),
    }
}

async fn measure_depths(queue: &Queue, ended: &CancellationToken) {
    loop {
        match queue.depths().await {
            Ok(depths) => metrics::depths(depths),
            Err(error) => tracing::debug!(%error, "the depths of the queue are unknown"),
        }
        tokio::select! {
            () = tokio::time::sleep(DEPTH_PERIOD) => {}
            () = ended.cancelled() => return,
        }
    }
}
