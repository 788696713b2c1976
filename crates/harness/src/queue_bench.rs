//! A queue of its own, and workers in this process that run scripted jobs from it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apalis::prelude::{AbortError, BoxDynError, Data, DeferredError, WorkerBuilder};
use futures_util::FutureExt as _;
use pricing_core::redis::{Redis, RedisSettings};
use pricing_queue::{DeferFor, Hooks, Lease, NewTask, OnDead, Queue, QueueOptions, TaskRecord, TaskState};
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands as _, InfoDict, RedisResult};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::redis_server::RedisServer;
use crate::replicated::ReplicatedRedis;
use crate::waiting::eventually;

const DEADLINE: Duration = Duration::from_secs(30);
const STREAM: &str = "queue:{bench}:stream";
const GROUP: &str = "workers";

/// Options for tests: waits are short, everything else as usual.
pub fn quick() -> QueueOptions {
    QueueOptions {
        concurrency: 2,
        retry_delay: Duration::from_millis(100),
        visibility_timeout: Duration::from_secs(1),
        ..QueueOptions::default()
    }
}

/// A queue in a Redis of its own.
pub struct QueueBench<S = RedisServer> {
    /// The server, or the servers.
    pub redis: S,
    /// The queue.
    pub queue: Queue,
    /// What the jobs of all workers share.
    pub script: Arc<Script>,
    settings: RedisSettings,
}

/// What the jobs of a test share. A job does what its payload says:
///
/// | payload | job |
/// |---|---|
/// | `ok` | returns the number of its attempt |
/// | `fail N` | fails for a while in its first N attempts |
/// | `abort` | fails for good |
/// | `panic` | panics |
/// | `defer` | asks to be run again at once, the first time |
/// | `later` | asks to be run again in 100 ms, the first time |
/// | `wait` | waits for a permit of [`Script::gate`] |
/// | `hang` | never ends |
#[derive(Debug)]
pub struct Script {
    /// Lets waiting jobs go on.
    pub gate: Semaphore,
    /// Runs begun of each task, in all workers of this process.
    runs: Mutex<HashMap<String, u32>>,
    /// Runs of `on_dead`.
    pub dead_lettered: AtomicU32,
}

impl Script {
    /// Runs begun of a task.
    pub fn runs(&self, id: &str) -> u32 {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied().unwrap_or(0)
    }

    /// Runs begun of all tasks.
    pub fn all_runs(&self) -> HashMap<String, u32> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn job(payload: String, lease: Data<Lease>, script: Data<Arc<Script>>) -> Result<u32, BoxDynError> {
    let (id, attempt) = (lease.record().id.clone(), lease.record().attempts);
    *script.runs.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
    let (verb, number) = payload.split_once(' ').unwrap_or((&payload, "0"));
    match verb {
        "ok" => Ok(attempt),
        "fail" if attempt > number.parse()? => Ok(attempt),
        "fail" => Err("not today".into()),
        "panic" => panic!("as told"),
        "defer" if attempt == 1 => Err(DeferredError::new("once more").into()),
        "later" if attempt == 1 => {
            Err(DeferFor { delay: Duration::from_millis(100), error: "not here".into() }.into())
        }
        "defer" | "later" => Ok(attempt),
        "wait" => {
            script.gate.acquire().await?.forget();
            Ok(attempt)
        }
        "hang" => std::future::pending().await,
        _ => Err(AbortError::new(format!("cannot read {payload:?}")).into()),
    }
}

impl QueueBench {
    /// A queue with these options.
    pub async fn start(options: QueueOptions) -> Self {
        Self::over(RedisServer::start().await, options)
    }

    /// A queue with these options in this Redis.
    pub fn over(redis: RedisServer, options: QueueOptions) -> Self {
        let settings = redis.settings();
        Self::reached_by(redis, settings, options)
    }
}

/// What happened to a queue before the test, or behind its back.
impl QueueBench {
    /// Has a consumer fetch `count` entries and vanish. Returns the entries.
    pub async fn fetch_as(&self, consumer: &str, count: usize) -> Vec<String> {
        let (mut redis, stream) = (self.redis.connection().await, self.redis.key(STREAM));
        let _: Result<(), _> = redis.xgroup_create_mkstream(&stream, GROUP, "0").await; // it may exist
        let options = StreamReadOptions::default().group(GROUP, consumer).count(count);
        let read: RedisResult<StreamReadReply> = redis.xread_options(&[stream], &[">"], &options).await;
        let entries = read.expect("Redis reads").keys.into_iter().flat_map(|key| key.ids);
        entries.map(|entry| entry.id).collect()
    }

    /// Makes a task look as if it had ended so many workers, each in the middle of a run.
    pub async fn make_suspect(&self, id: &str, workers: u32) {
        let lease = format!("gone:0123@{}", self.redis_id().await);
        let workers = workers.to_string();
        let begun =
            [("state", "running"), ("lease", &lease), ("deliveries", &workers), ("attempts", &workers)];
        let mut redis = self.redis.connection().await;
        let () = redis.hset_multiple(self.record_key(id), &begun).await.expect("Redis writes");
    }

    /// The name of the Redis, as leases have it.
    pub async fn redis_id(&self) -> String {
        let mut info = redis::cmd("INFO");
        let info: RedisResult<InfoDict> =
            info.arg("replication").query_async(&mut self.redis.connection().await).await;
        info.expect("Redis answers").get("master_replid").expect("it has an id")
    }

    /// The key of a task's record.
    pub fn record_key(&self, id: &str) -> String {
        self.redis.key(&format!("queue:{{bench}}:task:{id}"))
    }

    /// The key of the stream.
    pub fn stream_key(&self) -> String {
        self.redis.key(STREAM)
    }
}

impl QueueBench<ReplicatedRedis> {
    /// A queue with these options in a Redis that can fail over.
    pub async fn start_replicated(options: QueueOptions) -> Self {
        let redis = ReplicatedRedis::start().await;
        let settings = redis.settings();
        Self::reached_by(redis, settings, options)
    }
}

impl<S> QueueBench<S> {
    fn reached_by(redis: S, settings: RedisSettings, options: QueueOptions) -> Self {
        let queue = queue_of(&connect(&settings), options);
        let script =
            Script { gate: Semaphore::new(0), runs: Mutex::default(), dead_lettered: AtomicU32::new(0) };
        Self { redis, queue, script: Arc::new(script), settings }
    }

    /// Starts a worker with connections of its own, as if in another process.
    pub fn worker(&self, name: &str) -> BenchWorker {
        let queue = queue_of(&connect(&self.settings), self.queue.options().clone());
        let closing = CancellationToken::new();
        let script = self.script.clone();
        let on_dead: OnDead = Arc::new(move |_, _| {
            script.dead_lettered.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }.boxed()
        });
        let backend =
            queue.backend(name, closing.clone(), Hooks { on_dead: Some(on_dead), ..Hooks::default() });
        let abort_runs = backend.abort_runs();
        let worker = WorkerBuilder::new(name).backend(backend).data(self.script.clone()).build(job);
        let stopping = closing.clone();
        let run = worker.run_until(async move {
            stopping.cancelled().await;
            Ok::<_, std::io::Error>(())
        });
        BenchWorker {
            closing,
            abort_runs,
            task: tokio::spawn(async { run.await.expect("no error of Redis ends a worker") }),
        }
    }

    /// Enqueues a task; returns whether it is new.
    pub async fn enqueue(&self, id: &str, payload: &str) -> bool {
        let task = NewTask { id, payload, traceparent: None };
        self.queue.enqueue(task).await.expect("the task is enqueued").created
    }

    /// The record of a task that exists.
    pub async fn record(&self, id: &str) -> TaskRecord {
        self.queue.task(id).await.expect("Redis answers").unwrap_or_else(|| panic!("task {id} has a record"))
    }

    /// Waits until a task is in `state`; returns its record.
    pub async fn wait_for(&self, id: &str, state: TaskState) -> TaskRecord {
        eventually(DEADLINE, &format!("task {id} to be {}", state.as_str()), async || {
            let record = self.record(id).await;
            (record.state == state).then_some(record)
        })
        .await
    }

    /// Waits until a task has been begun so many times in this process.
    pub async fn wait_for_runs(&self, id: &str, runs: u32) {
        eventually(DEADLINE, &format!("task {id} to be begun {runs} times"), async || {
            (self.script.runs(id) >= runs).then_some(())
        })
        .await;
    }
}

fn connect(settings: &RedisSettings) -> Redis {
    Redis::new(settings).expect("the settings are good")
}

/// The queue of a bench, for a process of its own.
pub fn queue_of(redis: &Redis, options: QueueOptions) -> Queue {
    Queue::new(&redis.prefix, "bench", redis.commands.clone(), redis.pool.clone(), options)
}

/// A worker in this process.
pub struct BenchWorker {
    closing: CancellationToken,
    abort_runs: CancellationToken,
    task: JoinHandle<()>,
}

impl BenchWorker {
    /// Ends it as SIGTERM would: no new tasks, the runs under way finish.
    pub async fn stop(self) {
        self.closing.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("a worker ends").expect("it does not panic");
    }

    /// Ends it as the end of the drain timeout would: its runs are aborted and their tasks requeued.
    pub async fn abort(self) {
        self.closing.cancel();
        self.abort_runs.cancel();
        self.stop().await;
    }

    /// Ends it as SIGKILL would: everything it does stops here.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}
