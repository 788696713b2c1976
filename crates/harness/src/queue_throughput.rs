//! How fast a queue is: tasks whose job does nothing, beside the `XADD`s that the same Redis takes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use apalis::prelude::{BoxDynError, Data, WorkerBuilder};
use futures_util::future::try_join_all;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use pricing_queue::{Hooks, NewTask, Queue, QueueOptions};
use redis::InfoDict;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::queue_bench::queue_of;
use crate::redis_server::RedisServer;
use crate::waiting::poll;

/// Connections of `redis-benchmark`, as many as the tasks that one worker runs at a time.
const CONCURRENCY: usize = 50;
/// Enqueueing calls at a time.
const PRODUCERS: usize = 32;
/// `XADD`s that `redis-benchmark` sends.
const XADDS: usize = 200_000;
/// Longest that all tasks may take, and longest until a worker is idle.
const DEADLINE: Duration = Duration::from_secs(120);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Tasks that are enqueued, and then ended.
    pub tasks: usize,
    /// Tasks that an idle worker starts, one after the other.
    pub starts: usize,
}

/// One measurement on one Redis with `appendfsync everysec`.
#[derive(Debug, Clone, Copy)]
pub struct QueueThroughput {
    /// `XADD`s a second, from `redis-benchmark` with 50 connections.
    pub xadds: f64,
    /// Tasks a second that 32 producers on one connection enqueue.
    pub enqueued: f64,
    /// Tasks a second that one worker ends which may run 50 at a time.
    pub ended: f64,
    /// CPU time of Redis for each task enqueued.
    pub redis_per_enqueue: Duration,
    /// CPU time of Redis for each task that is read, begun and ended.
    pub redis_per_run: Duration,
    /// CPU time of the worker's process for each of them.
    pub worker_per_run: Duration,
    /// Median time from the call that enqueues a task to the start of its job, on an idle worker.
    pub start: Duration,
}

impl QueueThroughput {
    /// Measures once, with a Redis of its own.
    ///
    /// # Errors
    ///
    /// When `redis-benchmark` is missing or something fails.
    pub async fn measure(load: Load) -> Result<Self> {
        let redis = RedisServer::start_everysec().await;
        let xadds = xadds(&redis).await?;
        let options = QueueOptions { concurrency: CONCURRENCY, ..QueueOptions::default() };
        let queue = queue_of(&redis.connect(), options);
        let mut observer = redis.connection().await;

        let before = Sample::take(&mut observer).await?;
        enqueue(&queue, load.tasks).await?;
        let enqueueing = Sample::take(&mut observer).await?.since(before, load.tasks);

        let before = Sample::take(&mut observer).await?;
        let worker = EmptyWorker::start(&redis, queue.options().clone());
        worker.runs(load.tasks).await?;
        let running = Sample::take(&mut observer).await?.since(before, load.tasks);

        let mut starts = Vec::new();
        for n in 0..load.starts {
            worker.is_idle(&mut observer).await?;
            let enqueued = Instant::now();
            enqueue_one(&queue, &format!("start-{n}")).await?;
            worker.runs(load.tasks + n + 1).await?;
            starts.push(worker.started().duration_since(enqueued));
        }
        worker.stop().await?;
        let depths = queue.depths().await?;
        ensure!(depths.queued + depths.running + depths.retrying + depths.dead == 0, "left over: {depths:?}");
        starts.sort_unstable();
        Ok(Self {
            xadds,
            enqueued: enqueueing.per_second,
            ended: running.per_second,
            redis_per_enqueue: enqueueing.redis,
            redis_per_run: running.redis,
            worker_per_run: running.process,
            start: starts.get(starts.len() / 2).copied().unwrap_or_default(),
        })
    }

    /// As JSON: rates per second, times in microseconds.
    pub fn to_json(&self) -> Value {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        json!({
            "xadds_per_second": self.xadds,
            "enqueued_per_second": self.enqueued,
            "ended_per_second": self.ended,
            "enqueued_per_xadd": self.enqueued / self.xadds,
            "ended_per_xadd": self.ended / self.xadds,
            "redis_us_per_enqueue": micros(self.redis_per_enqueue),
            "redis_us_per_run": micros(self.redis_per_run),
            "worker_us_per_run": micros(self.worker_per_run),
            "start_us": micros(self.start),
        })
    }
}

impl fmt::Display for QueueThroughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        write!(
            f,
            "XADD {:.0}/s; enqueued {:.0}/s ({:.2} per XADD, {:.1} µs of Redis); ended {:.0}/s ({:.3} per XADD, \
             {:.1} µs of Redis, {:.1} µs of the worker); idle start {:.0} µs",
            self.xadds,
            self.enqueued,
            self.enqueued / self.xadds,
            micros(self.redis_per_enqueue),
            self.ended,
            self.ended / self.xadds,
            micros(self.redis_per_run),
            micros(self.worker_per_run),
            micros(self.start),
        )
    }
}

/// `XADD`s a second that `redis-benchmark` makes.
async fn xadds(redis: &RedisServer) -> Result<f64> {
    let key = redis.key("xadds");
    let mut benchmark = redis.benchmark();
    benchmark.args(["-c", &CONCURRENCY.to_string(), "-n", &XADDS.to_string(), "--csv"]);
    benchmark.args(["XADD", &key, "*", "task", "01J0000000000000000000000"]);
    let output = tokio::process::Command::from(benchmark).output().await.context("redis-benchmark")?;
    let table = String::from_utf8_lossy(&output.stdout);
    let rate = table.lines().last().and_then(|row| row.rsplit("\",\"").nth(6)?.parse().ok());
    let rate = rate.with_context(|| format!("no rate in the answer of redis-benchmark: {table}"))?;
    let () = redis::cmd("DEL").arg(key).query_async(&mut redis.connection().await).await?;
    Ok(rate)
}

async fn enqueue(queue: &Queue, tasks: usize) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let producer = |_| {
        let (queue, next) = (queue.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= tasks {
                    return anyhow::Ok(());
                }
                enqueue_one(&queue, &format!("task-{n:020}")).await?;
            }
        })
    };
    for ended in try_join_all((0..PRODUCERS).map(producer)).await? {
        ended?;
    }
    Ok(())
}

async fn enqueue_one(queue: &Queue, id: &str) -> Result<()> {
    let is_new = queue.enqueue(NewTask { id, payload: "{}", traceparent: None }).await?.created;
    ensure!(is_new, "task {id} exists");
    Ok(())
}

/// A moment, and the CPU time until then.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    redis: Duration,
    process: Duration,
}

/// What one of many took.
struct Cost {
    per_second: f64,
    redis: Duration,
    process: Duration,
}

impl Sample {
    async fn take(observer: &mut MultiplexedConnection) -> Result<Self> {
        let at = Instant::now();
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let process = (usage.user_time() + usage.system_time()).num_microseconds();
        let info: InfoDict = redis::cmd("INFO").arg("cpu").query_async(observer).await?;
        let seconds = |field| info.get::<f64>(field).context("INFO names no CPU time");
        let redis = seconds("used_cpu_user")? + seconds("used_cpu_sys")?;
        Ok(Self {
            at,
            redis: Duration::from_secs_f64(redis),
            process: Duration::from_micros(process.unsigned_abs()),
        })
    }

    fn since(self, before: Self, tasks: usize) -> Cost {
        let tasks = tasks.max(1) as f64;
        Cost {
            per_second: tasks / (self.at - before.at).as_secs_f64(),
            redis: (self.redis - before.redis).div_f64(tasks),
            process: (self.process - before.process).div_f64(tasks),
        }
    }
}

/// Runs of a worker: how many have begun, and when the last one did.
type Runs = watch::Sender<(usize, Instant)>;

async fn job(_: String, runs: Data<Arc<Runs>>) -> Result<(), BoxDynError> {
    runs.send_modify(|(begun, at)| (*begun, *at) = (*begun + 1, Instant::now()));
    Ok(())
}

/// A worker in this process whose jobs do nothing.
struct EmptyWorker {
    queue: Queue,
    runs: Arc<Runs>,
    closing: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl EmptyWorker {
    fn start(redis: &RedisServer, options: QueueOptions) -> Self {
        let (queue, closing) = (queue_of(&redis.connect(), options), CancellationToken::new());
        let runs: Arc<Runs> = Arc::new(watch::Sender::new((0, Instant::now())));
        let backend = queue.backend("throughput", closing.clone(), Hooks::default());
        let worker = WorkerBuilder::new("throughput").backend(backend).data(runs.clone()).build(job);
        let stopping = closing.clone();
        let run = worker.run_until(async move {
            stopping.cancelled().await;
            Ok::<_, std::io::Error>(())
        });
        let task = tokio::spawn(async { run.await.expect("no error of Redis ends a worker") });
        Self { queue, runs, closing, task }
    }

    /// Waits until so many runs have begun and all have ended.
    async fn runs(&self, begun: usize) -> Result<()> {
        let mut runs = self.runs.subscribe();
        tokio::time::timeout(DEADLINE, runs.wait_for(|runs| runs.0 >= begun)).await??;
        let ended = poll(DEADLINE, async || {
            let depths = self.queue.depths().await.ok()?;
            (depths.queued + depths.running == 0).then_some(())
        });
        ended.await.context("the tasks do not end")
    }

    /// When the last run began.
    fn started(&self) -> Instant {
        self.runs.borrow().1
    }

    /// Waits until the worker waits for tasks, in a blocking read.
    async fn is_idle(&self, observer: &mut MultiplexedConnection) -> Result<()> {
        let idle = poll(DEADLINE, async || {
            let info: InfoDict = redis::cmd("INFO").arg("clients").query_async(observer).await.ok()?;
            (info.get::<usize>("blocked_clients")? == 1).then_some(())
        });
        idle.await.context("the worker does not wait for tasks")
    }

    async fn stop(self) -> Result<()> {
        self.closing.cancel();
        Ok(tokio::time::timeout(DEADLINE, self.task).await??)
    }
}
