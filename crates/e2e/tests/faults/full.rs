//! A queue that is full, and a Redis that is.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use pricing_core::recalculation::{QUEUE, Recalculation};
use pricing_e2e::rounds::Rounds;
use pricing_harness::redis_server::RedisServer;
use pricing_harness::service::Binary;
use pricing_harness::settled::Findings;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::{eventually, pause};
use pricing_queue::{NewTask, Queue, QueueError, QueueOptions};
use rand::RngExt as _;
use redis::AsyncCommands as _;
use reqwest::StatusCode;
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(120);
/// `QUEUE_CAPACITY_MB`: room for about 900 tasks.
const CAPACITY_MB: u64 = 1;

/// The queue of the stack, for a producer that fills it.
fn queue_of(stack: &Stack) -> Queue {
    let redis = stack.redis.connect();
    let options = QueueOptions { capacity_bytes: CAPACITY_MB << 20, ..QueueOptions::default() };
    Queue::new(&redis.prefix, QUEUE, redis.commands.clone(), redis.pool.clone(), options)
}

/// Enqueues tasks of this round until the queue is full; returns their ids.
async fn fill(queue: &Queue, round: u32, made: &mut u32) -> Vec<String> {
    let payload = Recalculation::now("a full queue").encode();
    let mut ids = Vec::new();
    loop {
        *made += 1;
        let id = format!("r{round}-t{made}");
        match queue.enqueue(NewTask { id: &id, payload: &payload, traceparent: None }).await {
            Ok(_) => ids.push(id),
            Err(QueueError::Full) => return ids,
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_message_that_a_full_queue_drops_is_covered() {
    let mut rounds = Rounds::of(
        "bare PUBLISH while the queue is full, at random moments of its draining",
        "a message is dropped only as a request with a number that a later scan covers",
    );
    let stack = Stack::builder()
        .redis(RedisServer::start_durable().await)
        .set("QUEUE_CAPACITY_MB", CAPACITY_MB)
        .start()
        .await;
    let (queue, mut redis) = (queue_of(&stack), stack.redis.connection().await);
    let covered = stack.redis.key("recalculate_covered");
    while let Some(mut round) = rounds.next_round() {
        let (mut made, before) = (0, stack.dropped().await);
        let mut ids = fill(&queue, round.number, &mut made).await;
        let messages = round.random.random_range(5..30);
        for _ in 0..messages {
            let _: () = redis.publish("market_events", "changed by hand").await.expect("Redis answers");
            pause(Duration::from_millis(round.random.random_range(0..40))).await;
            if round.random.random_bool(0.5) {
                ids.extend(fill(&queue, round.number, &mut made).await);
            }
        }
        let last = async {
            let all = stack.listeners[0].metric("pricing_events_received_total").await;
            (all as u64, queue.last_request().await.expect("Redis answers"))
        };
        let (received, last) = last.await;
        assert!(received >= u64::from(round.number), "the listener hears the channel");
        rounds.record(stack.findings(&ids, DEADLINE).await);
        let covers: u64 = redis.get(&covered).await.expect("a scan has ended");
        assert!(covers >= last, "{covers} is covered, {last} was the latest request");
        rounds.count("messages", messages);
        rounds.count("dropped", usize::try_from(stack.dropped().await - before).expect("few"));
        rounds.count("tasks", ids.len());
    }
}

#[tokio::test]
async fn a_full_queue_in_a_redis_without_memory_drains_by_itself() {
    let rounds = Rounds::of(
        "Redis is at maxmemory with a full queue, and a worker is started (one such round for every 5)",
        "it refuses further work with 503, drains by itself and takes work again",
    );
    let mut rounds = rounds.one_of(5);
    let mut stack = Stack::builder()
        .redis(RedisServer::start_durable().await)
        .workers(0)
        .set("QUEUE_CAPACITY_MB", CAPACITY_MB)
        .start()
        .await;
    let (queue, mut redis) = (queue_of(&stack), stack.redis.connection().await);
    config(&mut redis, "maxmemory-policy", "volatile-lru").await;
    while let Some(round) = rounds.next_round() {
        let ids = fill(&queue, round.number, &mut 0).await;
        let used = stack.redis.used_memory().await;
        config(&mut redis, "maxmemory", &(used / 2).to_string()).await;
        let refused = eventually(DEADLINE, "Redis to refuse", async || {
            let (status, _) = stack.post("/api/v1/recalculate", &json!({})).await;
            (status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
        });
        refused.await;
        let started = Instant::now();
        stack.workers.push(stack.start_another(Binary::Worker).await);
        eventually(DEADLINE, "the queue to drain", async || {
            let depths = queue.depths().await.expect("Redis answers");
            assert_eq!(depths.dead, 0, "no task dies of it");
            (depths.queued + depths.running + depths.retrying == 0).then_some(())
        })
        .await;
        rounds.measure("s to drain", started.elapsed().as_secs_f64());
        rounds.count("tasks", ids.len());
        // Records of tasks that succeeded may be evicted; those that are left have succeeded.
        let records = stream::iter(stack.records(&ids).await);
        let unfinished = records.filter(|record| {
            std::future::ready(record.as_ref().is_some_and(|record| record["state"] != "succeeded"))
        });
        assert_eq!(unfinished.count().await, 0);
        config(&mut redis, "maxmemory", "0").await;
        let last = [stack.publish().await];
        assert_eq!(stack.not_succeeded(&last, DEADLINE).await, [""; 0]);
        stack.workers.clear();
    }
    rounds.record(Findings::default());
}

async fn config(redis: &mut redis::aio::MultiplexedConnection, name: &str, value: &str) {
    let mut config = redis::cmd("CONFIG");
    config.arg(&["SET", name, value]).query_async::<()>(redis).await.expect("Redis answers");
}
