//! A long line of jobs.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use pricing_core::recalculation::QUEUE;
use pricing_core::recalculation::Recalculation;
use pricing_e2e::rounds::Rounds;
use pricing_harness::redis_server::RedisServer;
use pricing_harness::service::Binary;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use pricing_queue::{Depths, NewTask, Queue, QueueOptions};

/// Longest until a tenth of the line is gone.
const DEADLINE: Duration = Duration::from_secs(600);
/// How much longer one half of the line may take than the other.
const STEADY: f64 = 3.0;
/// How much more memory the worker may have after the drain than after the first tenth, in bytes: while a
/// worker is young, its allocator takes what it needs.
const WORKER_GROWTH: f64 = 32e6;
/// How much more memory Redis may use when the records have expired than before the first job, in bytes.
const REDIS_GROWTH: i64 = 4_000_000;

#[tokio::test]
async fn a_long_line_of_jobs_drains_steadily_and_leaves_no_memory_behind() {
    let rounds = Rounds::of(
        "100,000 jobs are queued, then a worker is started (one such round for every 50)",
        "they drain steadily; afterwards the memory of Redis and of the worker is flat",
    );
    let mut rounds = rounds.one_of(50);
    let jobs = rounds.either(1_000, 100_000);
    while let Some(_round) = rounds.next_round() {
        let mut stack = Stack::builder().redis(RedisServer::start_durable().await).workers(0).start().await;
        let redis = stack.redis.connect();
        let options = QueueOptions::default();
        let queue = Queue::new(&redis.prefix, QUEUE, redis.commands.clone(), redis.pool.clone(), options);
        // What a first run leaves for good, such as the cache, is there before.
        stack.workers.push(stack.start_another(Binary::Worker).await);
        let first = stack.recalculate().await;
        stack.wait_for_task(&first).await;
        stack.workers.clear();
        let before = stack.redis.used_memory().await;

        let payload = Recalculation::now("a long line").encode();
        let ids: Vec<String> = (0..jobs).map(|n| format!("t{n}")).collect();
        let enqueue = async |id: &String| {
            queue.enqueue(NewTask { id, payload: &payload, traceparent: None }).await.expect("there is room");
        };
        stream::iter(&ids).map(enqueue).buffer_unordered(256).collect::<()>().await;
        let queued = stack.redis.used_memory().await;

        stack.workers.push(stack.start_another(Binary::Worker).await);
        let (mut tenths, mut early) = (Vec::new(), 0.0);
        for tenth in 1..=10_u64 {
            let started = Instant::now();
            let left = jobs - jobs / 10 * tenth;
            eventually(DEADLINE, "a tenth of the jobs to end", async || {
                let Depths { queued, running, .. } = queue.depths().await.ok()?;
                (queued + running <= left).then_some(())
            })
            .await;
            tenths.push(started.elapsed().as_secs_f64());
            eprintln!(
                "tenth {tenth}: {:.1} s, {:.1} MB",
                tenths[tenth as usize - 1],
                stack.workers[0].metric("process_resident_memory_bytes").await / 1e6
            );
            if tenth == 1 {
                early = stack.workers[0].metric("process_resident_memory_bytes").await;
            }
        }
        let late = stack.workers[0].metric("process_resident_memory_bytes").await;
        let drained = stack.redis.used_memory().await;
        rounds.record(stack.findings(&ids, DEADLINE).await);
        stack.redis.expire_all("queue:{recalculate}:task:*").await;
        let after = stack.redis.used_memory().await;

        let (first, second): (f64, f64) = (tenths[..5].iter().sum(), tenths[5..].iter().sum());
        let bytes_a_job = |bytes: i64| (bytes - before) as f64 / jobs as f64;
        rounds.count("jobs", ids.len());
        rounds.measure("jobs a second", jobs as f64 / tenths.iter().sum::<f64>());
        rounds.measure("time of the second half : first half", second / first);
        rounds.measure("bytes a job queued", bytes_a_job(queued));
        rounds.measure("bytes a record kept", bytes_a_job(drained));
        rounds.measure("MB more in Redis after the records expired", (after - before) as f64 / 1e6);
        rounds.measure("MB more in the worker", (late - early) / 1e6);
        // The short line may be gone before it is looked at again.
        let steady = rounds.either(f64::INFINITY, STEADY);
        assert!((second / first).max(first / second) < steady, "{tenths:?}");
        assert!(late - early < WORKER_GROWTH, "the worker had {early} and has {late} bytes");
        assert!(
            after - before < REDIS_GROWTH,
            "Redis used {before} bytes, then {queued}, {drained}, now {after}"
        );
    }
}
