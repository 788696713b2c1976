//! What the recalculation lock promises: one holder at a time, and no request is lost.

#![expect(clippy::unwrap_used, reason = "where a test unwraps, the panic is the report")]

mod coverage;
mod expiry;
mod failover;
mod takeover;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use pricing_core::ids::TaskId;
use pricing_core::redis::Redis;
use pricing_harness::redis_server::RedisServer;
use pricing_queue::{Fence, Queue, QueueOptions};
use pricing_worker::lock::{Acquire, Forfeit, LockGuard, RecalculationLock, Release};
use redis::aio::MultiplexedConnection;

/// Life of a lock that no test waits to expire.
const LONG: Duration = Duration::from_secs(60);

/// A lock in a Redis of its own, and the queue that numbers requests.
struct Bench<S = RedisServer> {
    server: S,
    redis: Redis,
    queue: Queue,
    lock: RecalculationLock,
    connection: MultiplexedConnection,
}

impl Bench {
    async fn start(ttl: Duration) -> Self {
        let server = RedisServer::start().await;
        let (redis, connection) = (server.connect(), server.connection().await);
        Self::over(server, redis, connection, ttl)
    }
}

impl<S> Bench<S> {
    fn over(server: S, redis: Redis, connection: MultiplexedConnection, ttl: Duration) -> Self {
        let (commands, pool) = (redis.commands.clone(), redis.pool.clone());
        let queue = Queue::new(&redis.prefix, "bench", commands, pool, QueueOptions::default());
        let lock = RecalculationLock::new(&redis, ttl);
        Self { server, redis, queue, lock, connection }
    }

    /// A name below the prefix, as Redis knows it.
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.redis.prefix)
    }

    /// Takes a number, as a request does when it is enqueued.
    async fn request(&self) -> u64 {
        let mut incr = redis::cmd("INCR");
        incr.arg(self.last_request_key()).query_async(&mut self.connection.clone()).await.unwrap()
    }

    /// Begins an attempt of a task, as the queue does.
    async fn begin(&self, id: &str, attempt: u32) {
        let mut begin = redis::cmd("HSET");
        let record = self.key(&format!("queue:{{bench}}:task:{id}"));
        begin.arg(record).arg("lease").arg(format!("lease {attempt}@{}", self.redis_id().await));
        let _: u64 = begin.query_async(&mut self.connection.clone()).await.unwrap();
    }

    /// The name of the Redis, as leases have it.
    async fn redis_id(&self) -> String {
        let mut info = redis::cmd("INFO");
        let info = info.arg("replication").query_async(&mut self.connection.clone()).await;
        let info: redis::InfoDict = info.unwrap();
        info.get("master_replid").unwrap()
    }

    /// Begins an attempt of a task, and asks for the lock.
    async fn acquire(&self, id: &str, attempt: u32, number: u64) -> Acquire {
        self.begin(id, attempt).await;
        self.claim(&self.lock, id, attempt, number).await
    }

    /// Gives up for good under the lease of an attempt that may have been taken over.
    async fn forfeit(&self, id: &str, attempt: u32, number: u64) -> Forfeit {
        self.lock.forfeit(&self.fence(id, attempt, number)).await.unwrap()
    }

    /// Asks for a lock under the lease of an attempt that may have been taken over.
    async fn claim(&self, lock: &RecalculationLock, id: &str, attempt: u32, number: u64) -> Acquire {
        lock.acquire(self.fence(id, attempt, number)).await.unwrap()
    }

    fn fence(&self, id: &str, attempt: u32, number: u64) -> Fence {
        self.queue.fence(id, number, attempt, &format!("lease {attempt}"))
    }

    fn last_request_key(&self) -> String {
        self.key("queue:{bench}:last_request")
    }

    async fn last_request(&self) -> u64 {
        self.queue.last_request().await.unwrap()
    }

    async fn hold(&self, id: &str, attempt: u32, number: u64) -> LockGuard {
        match self.acquire(id, attempt, number).await {
            Acquire::Acquired(held) => held,
            other => panic!("{id} was to acquire the lock: {other:?}"),
        }
    }

    async fn lock_value(&self) -> Option<String> {
        let mut get = redis::cmd("GET");
        get.arg(self.key("recalculate_global_lock"));
        get.query_async(&mut self.connection.clone()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_ask_at_once_one_acquires_and_the_others_are_told_so() {
    let bench = Bench::start(LONG).await;
    let bench = Arc::new(bench);
    let asking = (1..=64).map(|number| {
        let bench = bench.clone();
        tokio::spawn(async move { bench.acquire(TaskId::generate().as_str(), 1, number).await })
    });
    let answers: Vec<Acquire> = join_all(asking).await.into_iter().map(Result::unwrap).collect();
    let acquired = answers.iter().filter(|answer| matches!(answer, Acquire::Acquired(_))).count();
    let held = answers.iter().filter(|answer| matches!(answer, Acquire::HeldByAnother)).count();
    assert_eq!((acquired, held), (1, 63));
}

/// Twelve workers, two hundred requests: never two scans at once, and at the end each request is covered by
/// a scan that began after it was made, although most of them were skipped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_exclude_each_other_and_cover_every_request() {
    let bench = Bench::start(LONG).await;
    let (scanning, scans) = (AtomicU32::new(0), AtomicU32::new(0));
    join_all((0..12).map(async |_| {
        for _ in 0..16 {
            let number = bench.request().await;
            let answer = bench.acquire(TaskId::generate().as_str(), 1, number).await;
            let Acquire::Acquired(held) = answer else { continue };
            assert_eq!(scanning.fetch_add(1, Ordering::SeqCst), 0, "another scan is under way");
            loop {
                let covers = bench.last_request().await;
                assert!(covers >= number);
                scans.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                scanning.fetch_sub(1, Ordering::SeqCst);
                match held.release_if_covered(covers).await.unwrap() {
                    Release::Released => break,
                    Release::NewerRequests => assert_eq!(scanning.fetch_add(1, Ordering::SeqCst), 0),
                    Release::Lost => panic!("nobody else may have it"),
                }
            }
        }
    }))
    .await;
    assert_eq!(bench.lock_value().await, None);
    assert!(matches!(bench.acquire("late", 1, 192).await, Acquire::Covered), "all 192 are covered");
    assert!(scans.into_inner() < 192, "a burst costs fewer scans than requests");
}

#[tokio::test]
async fn locks_of_different_prefixes_are_different_locks() {
    let bench = Bench::start(LONG).await;
    let _held = bench.hold("one", 1, 1).await;
    bench.server.allow("other:", "market_events").await;
    let elsewhere =
        pricing_core::redis::RedisSettings { redis_prefix: "other:".to_owned(), ..bench.server.settings() };
    let redis = pricing_core::redis::Redis::new(&elsewhere).unwrap();
    let other = RecalculationLock::new(&redis, LONG);
    bench.acquire("two", 1, 1).await;
    assert!(matches!(bench.claim(&other, "two", 1, 1).await, Acquire::Acquired(_)));
}
