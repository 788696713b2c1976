//! The queue: what holds when workers die and Redis breaks.

#![expect(clippy::unwrap_used, reason = "where a test unwraps, the panic is the report")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use pricing_harness::queue_bench::{QueueBench, quick};
use pricing_harness::waiting::{eventually, poll};
use pricing_queue::{QueueOptions, TaskState};
use redis::AsyncCommands as _;

#[tokio::test]
async fn a_task_of_a_killed_worker_is_run_by_another() {
    let bench = QueueBench::start(quick()).await;
    let first = bench.worker("first");
    bench.enqueue("t", "wait").await;
    bench.wait_for_runs("t", 1).await;
    assert_eq!(bench.record("t").await.attempts, 1, "counted when begun, not when ended");
    first.kill().await;

    bench.script.gate.add_permits(1);
    let second = bench.worker("second");
    let record = bench.wait_for("t", TaskState::Succeeded).await;
    assert_eq!((record.attempts, record.retries), (2, 0));
    second.stop().await;
}

#[tokio::test]
async fn long_runs_and_a_long_line_behind_them_are_nobody_elses_business() {
    let bench = QueueBench::start(QueueOptions { concurrency: 1, ..quick() }).await;
    let (busy, idle) = (bench.worker("busy"), bench.worker("idle"));
    for n in 0..10 {
        bench.enqueue(&format!("t{n}"), "wait").await;
    }
    // Both workers hold a run for three times the visibility timeout, with tasks waiting behind it.
    let since = tokio::time::Instant::now();
    eventually(Duration::from_secs(10), "three visibility timeouts to pass", async || {
        (since.elapsed() > 3 * bench.queue.options().visibility_timeout).then_some(())
    })
    .await;
    bench.script.gate.add_permits(10);
    for n in 0..10 {
        bench.wait_for(&format!("t{n}"), TaskState::Succeeded).await;
    }
    assert!(bench.script.all_runs().values().all(|runs| *runs == 1), "{:?}", bench.script.all_runs());
    busy.stop().await;
    idle.stop().await;
}

#[tokio::test]
async fn a_task_that_keeps_killing_its_worker_is_dead_after_three_deliveries() {
    let bench = QueueBench::start(quick()).await;
    bench.enqueue("bad", "hang").await;
    for delivery in 1..=3 {
        let worker = bench.worker(&format!("victim-{delivery}"));
        bench.wait_for_runs("bad", delivery).await;
        worker.kill().await;
    }
    let worker = bench.worker("last");
    bench.enqueue("good", "ok").await;
    let record = bench.wait_for("bad", TaskState::Dead).await;
    assert_eq!((record.attempts, bench.script.runs("bad")), (3, 3), "the fourth delivery is not run");
    assert!(record.error.unwrap().starts_with("poisoned: delivered 3 times without a run ending"));
    assert_eq!(bench.script.dead_lettered.load(Ordering::SeqCst), 1);
    bench.wait_for("good", TaskState::Succeeded).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_run_that_was_taken_over_ends_and_changes_nothing() {
    let bench = QueueBench::start(quick()).await;
    let worker = bench.worker("w");
    bench.enqueue("t", "wait").await;
    bench.wait_for_runs("t", 1).await;
    // Another worker's lease, as after a pause of this one for longer than the visibility timeout.
    let record = bench.redis.key("queue:{bench}:task:t");
    let mut redis = bench.redis.connection().await;
    let entry: String = redis.hget(&record, "entry").await.unwrap();
    let _: redis::Value = redis
        .xclaim(bench.redis.key("queue:{bench}:stream"), "workers", "someone", 0, &[entry])
        .await
        .unwrap();
    let _: () = redis.hset(&record, "lease", "someone:0123").await.unwrap();
    bench.script.gate.add_permits(1);
    worker.stop().await;
    assert_eq!(bench.record("t").await.state, TaskState::Running);
    assert_eq!(bench.queue.depths().await.unwrap().running, 1, "still the other one's to acknowledge");
}

#[tokio::test]
async fn the_waiting_of_a_retry_outlives_its_worker() {
    let bench = QueueBench::start(QueueOptions { retry_delay: Duration::from_secs(1), ..quick() }).await;
    let first = bench.worker("first");
    bench.enqueue("t", "fail 1").await;
    let failed = bench.wait_for("t", TaskState::Retrying).await;
    first.kill().await;
    let second = bench.worker("second");
    let record = bench.wait_for("t", TaskState::Succeeded).await;
    assert!(record.started_at_ms.unwrap() - failed.started_at_ms.unwrap() >= 1_000);
    second.stop().await;
}

#[tokio::test]
async fn broken_connections_neither_end_a_worker_nor_repeat_a_run() {
    let bench =
        QueueBench::start(QueueOptions { visibility_timeout: Duration::from_secs(10), ..quick() }).await;
    let worker = bench.worker("w");
    let mut redis = bench.redis.connection().await;
    for n in 0..20 {
        let id = format!("t{n}");
        bench.enqueue(&id, "wait").await;
        bench.wait_for_runs(&id, 1).await;
        let _: i64 = redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
            .query_async(&mut redis)
            .await
            .unwrap();
        bench.script.gate.add_permits(1);
        eventually(Duration::from_secs(20), "the task to succeed", async || {
            let record = bench.queue.task(&id).await.ok().flatten()?; // this connection was killed, too
            (record.state == TaskState::Succeeded).then_some(())
        })
        .await;
    }
    assert!(bench.script.all_runs().values().all(|runs| *runs == 1), "{:?}", bench.script.all_runs());
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_may_come_back_under_its_old_name() {
    let bench = QueueBench::start(quick()).await;
    let worker = bench.worker("same");
    bench.enqueue("a", "hang").await;
    bench.wait_for_runs("a", 1).await;
    worker.kill().await;
    let worker = bench.worker("same");
    bench.enqueue("b", "ok").await;
    bench.wait_for("b", TaskState::Succeeded).await;
    bench.wait_for_runs("a", 2).await;
    worker.kill().await;
}

#[tokio::test]
async fn a_worker_that_stops_finishes_its_runs_and_leaves_the_rest() {
    let bench = QueueBench::start(QueueOptions { concurrency: 1, ..quick() }).await;
    let worker = bench.worker("w");
    bench.enqueue("under way", "wait").await;
    bench.wait_for_runs("under way", 1).await;
    bench.enqueue("behind it", "ok").await;
    let script = bench.script.clone();
    let stopped = tokio::spawn(worker.stop());
    script.gate.add_permits(1);
    stopped.await.unwrap();
    assert_eq!(bench.record("under way").await.state, TaskState::Succeeded);
    assert_eq!(bench.record("behind it").await.state, TaskState::Queued);
    let consumers: Vec<redis::Value> = redis::cmd("XINFO")
        .arg("CONSUMERS")
        .arg(bench.redis.key("queue:{bench}:stream"))
        .arg("workers")
        .query_async(&mut bench.redis.connection().await)
        .await
        .unwrap();
    assert!(consumers.is_empty(), "it has left the group: {consumers:?}");
}

#[tokio::test]
async fn a_task_whose_run_is_aborted_is_requeued_at_once_and_uses_nothing_up() {
    let bench =
        QueueBench::start(QueueOptions { visibility_timeout: Duration::from_secs(60), ..quick() }).await;
    for run in 1..=4 {
        let worker = bench.worker(&format!("w{run}"));
        if run == 1 {
            bench.enqueue("t", "wait").await;
        }
        bench.wait_for_runs("t", run).await;
        worker.abort().await;
        assert_eq!(bench.record("t").await.state, TaskState::Queued);
    }
    bench.script.gate.add_permits(1);
    let worker = bench.worker("last");
    let record = bench.wait_for("t", TaskState::Succeeded).await;
    assert_eq!((record.attempts, record.retries), (5, 0), "neither retries nor deliveries are used up");
    worker.stop().await;
}

#[tokio::test]
async fn a_task_whose_record_is_gone_troubles_nobody() {
    let bench = QueueBench::start(QueueOptions { max_retries: 1, ..quick() }).await;
    bench.enqueue("ready", "ok").await;
    bench.enqueue("waiting", "fail 9").await;
    let mut redis = bench.redis.connection().await;
    let record = |id: &str| bench.redis.key(&format!("queue:{{bench}}:task:{id}"));
    let _: u64 = redis.del(record("ready")).await.unwrap();
    let worker = bench.worker("w");
    bench.wait_for("waiting", TaskState::Dead).await;
    let _: u64 = redis.del(record("waiting")).await.unwrap();
    assert!(!bench.queue.replay("waiting").await.unwrap());
    eventually(Duration::from_secs(10), "an empty queue", async || {
        let depths = bench.queue.depths().await.unwrap();
        (depths.queued + depths.running + depths.retrying + depths.dead == 0).then_some(())
    })
    .await;
    worker.stop().await;
}

#[tokio::test]
async fn what_was_read_on_a_connection_that_broke_is_begun_at_once() {
    let options = QueueOptions { concurrency: 1, visibility_timeout: Duration::from_secs(60), ..quick() };
    let bench = QueueBench::start(options).await;
    let worker = bench.worker("w");
    bench.enqueue("under way", "wait").await;
    bench.wait_for_runs("under way", 1).await;
    bench.enqueue("read", "ok").await;
    // As if the worker had read the entry, and Redis had died before it was begun.
    let mut redis = bench.redis.connection().await;
    let stream = bench.redis.key("queue:{bench}:stream");
    let options = redis::streams::StreamReadOptions::default().group("workers", "w").count(1);
    let read: redis::streams::StreamReadReply =
        redis.xread_options(&[stream], &[">"], &options).await.unwrap();
    assert_eq!(read.keys[0].ids.len(), 1);
    // Perhaps it was begun even, and the answer was lost: that must not count as a run that ended its worker.
    let record = bench.redis.key("queue:{bench}:task:read");
    let lease = format!("w:0123@{}", bench.redis_id().await);
    let begun = [("state", "running"), ("lease", &lease), ("deliveries", "1")];
    let _: () = redis.hset_multiple(&record, &begun).await.unwrap();
    let kill = ["KILL", "TYPE", "normal", "SKIPME", "yes"];
    let _: i64 = redis::cmd("CLIENT").arg(&kill).query_async(&mut redis).await.unwrap();
    bench.script.gate.add_permits(1);
    eventually(Duration::from_secs(20), "the task to succeed", async || {
        let record = bench.queue.task("read").await.ok().flatten()?; // this connection was killed, too
        (record.state == TaskState::Succeeded).then_some(())
    })
    .await;
    assert_eq!(bench.script.runs("under way"), 1);
    let deliveries: u32 = bench.redis.connection().await.hget(&record, "deliveries").await.unwrap();
    assert_eq!(deliveries, 1);
    worker.stop().await;
}

/// Makes the entries look as if their consumer had been silent for an hour.
async fn age(bench: &QueueBench, consumer: &str, entries: &[String]) {
    let mut xclaim = redis::cmd("XCLAIM");
    xclaim.arg(bench.redis.key("queue:{bench}:stream")).arg(&["workers", consumer, "0"]).arg(entries);
    xclaim.arg(&["IDLE", "3600000", "JUSTID"]);
    let _: redis::Value = xclaim.query_async(&mut bench.redis.connection().await).await.unwrap();
}

#[tokio::test]
async fn suspects_run_alone_also_when_they_are_read_again_after_a_reconnect() {
    let bench =
        QueueBench::start(QueueOptions { visibility_timeout: Duration::from_secs(60), ..quick() }).await;
    for id in ["a", "b"] {
        bench.enqueue(id, "wait").await;
    }
    // As if this worker had read them, and its connection had broken before it began them.
    bench.fetch_as("w", 2).await;
    for id in ["a", "b"] {
        bench.make_suspect(id, 2).await;
    }
    let worker = bench.worker("w");
    eventually(Duration::from_secs(20), "a run", async || {
        (bench.script.runs("a") + bench.script.runs("b") > 0).then_some(())
    })
    .await;
    let both = poll(Duration::from_secs(2), async || {
        (bench.script.runs("a") + bench.script.runs("b") > 1).then_some(())
    })
    .await;
    assert!(both.is_none(), "two suspects run beside each other: if one ends the worker, both die");
    bench.script.gate.add_permits(2);
    for id in ["a", "b"] {
        bench.wait_for(id, TaskState::Succeeded).await;
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_claimed_entry_that_is_not_begun_at_shutdown_is_released_at_once() {
    let bench =
        QueueBench::start(QueueOptions { visibility_timeout: Duration::from_secs(60), ..quick() }).await;
    bench.enqueue("suspect", "ok").await;
    let entries = bench.fetch_as("dead", 1).await;
    bench.make_suspect("suspect", 2).await;
    let first = bench.worker("first");
    bench.enqueue("under way", "wait").await;
    bench.wait_for_runs("under way", 1).await;
    age(&bench, "dead", &entries).await; // it must run alone, so it waits for the run under way
    let mut redis = bench.redis.connection().await;
    let stream = bench.redis.key("queue:{bench}:stream");
    eventually(Duration::from_secs(20), "the worker to claim it", async || {
        let pending: redis::streams::StreamPendingCountReply =
            redis.xpending_count(&stream, "workers", &entries[0], &entries[0], 1).await.unwrap();
        (pending.ids.first()?.consumer == "first").then_some(())
    })
    .await;
    let stopping = tokio::spawn(first.stop());
    let second = bench.worker("second");
    let ended = bench.wait_for("suspect", TaskState::Succeeded).await;
    assert_eq!(ended.attempts, 3);
    let record = bench.redis.key("queue:{bench}:task:suspect");
    let deliveries: u32 = redis.hget(record, "deliveries").await.unwrap();
    assert_eq!(deliveries, 3, "the deliveries before it still count");
    bench.script.gate.add_permits(1);
    stopping.await.unwrap();
    second.stop().await;
}

#[tokio::test]
async fn a_silent_worker_is_found_at_once_however_many_entries_are_pending() {
    let options = QueueOptions { concurrency: 1, visibility_timeout: Duration::from_secs(60), ..quick() };
    let bench = QueueBench::start(options).await;
    for n in 0..2_500 {
        bench.enqueue(&format!("t{n}"), "ok").await;
    }
    let entries = bench.fetch_as("busy", 2_500).await;
    age(&bench, "silent", &entries[2_499..]).await;
    let worker = bench.worker("w");
    eventually(Duration::from_secs(5), "the entry of the silent worker to be run", async || {
        (bench.script.runs("t2499") > 0).then_some(())
    })
    .await;
    worker.stop().await;
}
