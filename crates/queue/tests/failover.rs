//! The queue: what holds when Redis fails over to a replica, or restarts, while workers live.

use std::time::Duration;

use pricing_harness::queue_bench::{QueueBench, quick};
use pricing_harness::redis_server::RedisServer;
use pricing_harness::waiting::eventually;
use pricing_queue::{QueueError, QueueOptions, TaskState};
use redis::AsyncCommands as _;

/// Longer than any test waits: nothing is taken over because a worker is silent.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_run_begun_before_a_failover_ends_nothing_and_its_worker_runs_the_task_again_at_once() {
    let mut bench = QueueBench::start_replicated(QueueOptions { visibility_timeout: LONG, ..quick() }).await;
    let worker = bench.worker("w");
    bench.enqueue("t", "wait").await;
    bench.wait_for_runs("t", 1).await;
    bench.redis.replicated().await;
    bench.redis.fail_over().await;
    bench.wait_for_runs("t", 2).await;
    bench.script.gate.add_permits(1);
    let record = ended(&bench, "t").await;
    assert_eq!((record.state, record.attempts, record.retries), (TaskState::Succeeded, 2, 0));
    worker.stop().await;
}

#[tokio::test]
async fn a_task_whose_end_was_lost_in_a_failover_is_run_again_at_once() {
    let mut bench = QueueBench::start_replicated(QueueOptions { visibility_timeout: LONG, ..quick() }).await;
    let worker = bench.worker("w");
    bench.enqueue("t", "wait").await;
    bench.wait_for_runs("t", 1).await;
    bench.redis.replicated().await;
    bench.redis.stop_replication();
    bench.script.gate.add_permits(2);
    bench.wait_for("t", TaskState::Succeeded).await;
    bench.redis.fail_over().await;
    bench.wait_for_runs("t", 2).await;
    assert_eq!(ended(&bench, "t").await.state, TaskState::Succeeded);
    worker.stop().await;
}

#[tokio::test]
async fn a_restart_of_redis_is_a_failover_too() {
    let options = QueueOptions { visibility_timeout: LONG, ..quick() };
    let mut bench = QueueBench::over(RedisServer::start_durable().await, options);
    let worker = bench.worker("w");
    bench.enqueue("t", "wait").await;
    bench.wait_for_runs("t", 1).await;
    bench.redis.stop();
    bench.redis.restart().await;
    bench.wait_for_runs("t", 2).await;
    bench.script.gate.add_permits(1);
    assert_eq!(ended(&bench, "t").await.attempts, 2);
    worker.stop().await;
}

#[tokio::test]
async fn a_delivery_that_a_failover_interrupted_does_not_count() {
    let mut bench = QueueBench::start_replicated(quick()).await;
    bench.enqueue("t", "hang").await;
    for delivery in 1..=3 {
        let worker = bench.worker(&format!("victim-{delivery}"));
        bench.wait_for_runs("t", delivery).await;
        worker.kill().await;
    }
    bench.redis.replicated().await;
    bench.redis.fail_over().await;
    let worker = bench.worker("last");
    bench.wait_for_runs("t", 4).await;
    let record = bench.redis.primary.key("queue:{bench}:task:t");
    let deliveries: u32 = bench.redis.primary.connection().await.hget(&record, "deliveries").await.unwrap();
    assert_eq!(deliveries, 3, "the third delivery, begun again");
    worker.kill().await;
}

#[tokio::test]
async fn a_replay_waits_for_as_many_replicas_as_an_enqueued_task() {
    let bench = QueueBench::start_replicated(QueueOptions { replicas: 1, ..quick() }).await;
    let worker = bench.worker("w");
    for id in ["kept", "lost"] {
        bench.enqueue(id, "abort").await;
        bench.wait_for(id, TaskState::Dead).await;
    }
    worker.stop().await;
    assert!(bench.queue.replay("kept").await.unwrap());
    bench.redis.stop_replication();
    let unconfirmed = bench.queue.replay("lost").await;
    assert!(matches!(unconfirmed, Err(QueueError::NotReplicated)), "{unconfirmed:?}");
}

/// Waits until a task has ended; the connection of the bench may have to reconnect first.
async fn ended<S>(bench: &QueueBench<S>, id: &str) -> pricing_queue::TaskRecord {
    eventually(Duration::from_secs(20), "the task to end", async || {
        let record = bench.queue.task(id).await.ok().flatten()?;
        matches!(record.state, TaskState::Succeeded | TaskState::Dead).then_some(record)
    })
    .await
}
