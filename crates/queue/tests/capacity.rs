//! The queue: what it holds when it is full, and when Redis is.

#![expect(clippy::unwrap_used, reason = "where a test unwraps, the panic is the report")]

use std::time::Duration;

use pricing_harness::queue_bench::{QueueBench, quick};
use pricing_harness::waiting::eventually;
use pricing_queue::{Depths, ListedState, NewTask, QueueError, QueueOptions, SourceEntry, TaskState};
use redis::AsyncCommands as _;

fn task(id: &str) -> NewTask<'_> {
    NewTask { id, payload: "ok", traceparent: None }
}

/// A queue with room for so many tasks of [`task`].
async fn bench_of(tasks: u64) -> QueueBench {
    QueueBench::start(QueueOptions { capacity_bytes: tasks * 1_050, ..quick() }).await
}

async fn set_maxmemory(bench: &QueueBench, bytes: &str) {
    let mut config = redis::cmd("CONFIG");
    config.arg(&["SET", "maxmemory", bytes]);
    config.query_async::<()>(&mut bench.redis.connection().await).await.unwrap();
}

async fn empty(bench: &QueueBench) {
    eventually(Duration::from_secs(20), "an empty queue", async || {
        let depths = bench.queue.depths().await.unwrap();
        (depths == Depths { dead: depths.dead, ..Depths::default() }).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_queue_is_full_by_the_bytes_of_its_tasks_and_empty_when_they_have_ended() {
    let bench = QueueBench::start(QueueOptions { capacity_bytes: 100_000, ..quick() }).await;
    let long = "x".repeat(40_000);
    for id in ["a", "b"] {
        bench.queue.enqueue(NewTask { id, payload: &long, traceparent: None }).await.unwrap();
    }
    let refused = bench.queue.enqueue(NewTask { id: "c", payload: &long, traceparent: None }).await;
    assert!(matches!(refused, Err(QueueError::Full)));
    assert_eq!(bench.queue.task("c").await.unwrap(), None, "nothing half-done");
    for (id, payload) in [("fails", "fail 1"), ("defers", "defer"), ("later", "later")] {
        bench.enqueue(id, payload).await;
    }
    let worker = bench.worker("w");
    bench.wait_for("b", TaskState::Dead).await;
    empty(&bench).await;
    assert!(bench.queue.replay("a").await.unwrap());
    bench.wait_for("a", TaskState::Dead).await;
    assert_eq!(bench.queue.depths().await.unwrap(), Depths { dead: 2, ..Depths::default() });
    worker.stop().await;
}

#[tokio::test]
async fn the_dead_list_keeps_what_fits_into_its_bytes() {
    let bench = QueueBench::start(QueueOptions { dead_capacity_bytes: 100_000, ..quick() }).await;
    let worker = bench.worker("w");
    let long = "x".repeat(40_000);
    for id in ["a", "b", "c", "d"] {
        bench.queue.enqueue(NewTask { id, payload: &long, traceparent: None }).await.unwrap();
        bench.wait_for(id, TaskState::Dead).await;
    }
    let dead = bench.queue.list(ListedState::Dead, None, 10).await.unwrap().tasks;
    assert_eq!(dead.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["d", "c"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_full_queue_drops_only_while_a_task_waits_that_will_see_the_mark() {
    let bench = bench_of(2).await;
    let (mark, mut redis) = (bench.redis.key("recalculate_skipped"), bench.redis.connection().await);
    let offer = async |id: &'static str| bench.queue.enqueue_or_drop(&mark, task(id)).await.unwrap();
    assert!(offer("a").await.unwrap().created);
    assert!(!offer("a").await.unwrap().created, "known");
    assert!(offer("b").await.unwrap().created);
    assert_eq!(offer("c").await, None);
    assert_eq!(bench.queue.task("c").await.unwrap(), None);
    assert_eq!(bench.queue.last_request().await.unwrap(), 3, "the drop is a request");
    assert_eq!(redis.get::<_, u64>(&mark).await.unwrap(), 3);

    // Both are begun, and may have looked at the mark already.
    let stream = bench.redis.key("queue:{bench}:stream");
    let _: () = redis.xgroup_create(&stream, "workers", "0").await.unwrap();
    let read = redis::streams::StreamReadOptions::default().group("workers", "w").count(2);
    let _: redis::Value = redis.xread_options(&[&stream], &[">"], &read).await.unwrap();
    assert_eq!(offer("d").await.unwrap().number, 4, "beyond the capacity");
    assert_eq!(offer("e").await, None, "one waits again");
    assert_eq!(redis.get::<_, u64>(&mark).await.unwrap(), 5);
}

#[tokio::test]
async fn a_task_takes_the_place_of_the_entry_that_it_is_made_from() {
    let bench = bench_of(1).await;
    let (stream, mut redis) = (bench.redis.key("events"), bench.redis.connection().await);
    let mut entries = Vec::new();
    for _ in 0..3 {
        let entry: String = redis.xadd(&stream, "*", &[("event", "x")]).await.unwrap();
        entries.push(entry);
    }
    let _: () = redis.xgroup_create(&stream, "listener", "0").await.unwrap();
    let read = redis::streams::StreamReadOptions::default().group("listener", "l").count(3);
    let _: redis::Value = redis.xread_options(&[&stream], &[">"], &read).await.unwrap();
    let source = |n: usize| SourceEntry { stream: &stream, group: "listener", entry: &entries[n] };
    let left = async || {
        let mut pipe = redis::pipe();
        pipe.xlen(&stream).cmd("XPENDING").arg(&stream).arg("listener");
        let (length, pending): (u64, (u64, redis::Value, redis::Value, redis::Value)) =
            pipe.query_async(&mut redis.clone()).await.unwrap();
        (length, pending.0)
    };
    assert!(bench.queue.enqueue_from(source(0), task("a")).await.unwrap().created);
    assert_eq!(left().await, (2, 2));
    let refused = bench.queue.enqueue_from(source(1), task("b")).await;
    assert!(matches!(refused, Err(QueueError::Full)));
    assert_eq!(left().await, (2, 2), "the entry stays");
    assert!(!bench.queue.enqueue_from(source(1), task("a")).await.unwrap().created);
    assert_eq!(left().await, (1, 1), "its task exists");
}

#[tokio::test]
async fn tasks_whose_records_were_deleted_do_not_fill_the_queue_for_ever() {
    let bench = bench_of(1).await;
    bench.enqueue("a", "ok").await;
    let record = bench.redis.key("queue:{bench}:task:a");
    let _: () = bench.redis.connection().await.del(record).await.unwrap();
    let worker = bench.worker("w");
    eventually(Duration::from_secs(20), "the entry to be removed", async || {
        (bench.queue.depths().await.unwrap().queued == 0).then_some(())
    })
    .await;
    bench.enqueue("b", "ok").await;
    bench.wait_for("b", TaskState::Succeeded).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_queue_drains_although_redis_is_out_of_memory() {
    let bench = QueueBench::start(quick()).await;
    let tasks = [("a", "ok"), ("b", "fail 2"), ("c", "abort"), ("d", "defer"), ("e", "later")];
    for (id, payload) in tasks {
        bench.enqueue(id, payload).await;
    }
    set_maxmemory(&bench, "1").await;
    let refused = bench.queue.enqueue(task("refused")).await;
    assert!(matches!(refused, Err(QueueError::Redis(_))), "{refused:?}");
    bench.queue.enqueue_beyond_capacity(task("follow-up")).await.unwrap();
    let worker = bench.worker("w");
    empty(&bench).await;
    for id in ["a", "b", "d", "e", "follow-up"] {
        assert_eq!(bench.record(id).await.state, TaskState::Succeeded, "{id}");
    }
    assert_eq!(bench.record("c").await.state, TaskState::Dead);
    worker.stop().await;
}

#[tokio::test]
async fn a_task_that_waits_for_another_worker_uses_no_retry() {
    let bench = QueueBench::start(QueueOptions { max_retries: 0, ..quick() }).await;
    let worker = bench.worker("w");
    bench.enqueue("t", "later").await;
    let record = bench.wait_for("t", TaskState::Succeeded).await;
    assert_eq!((record.attempts, record.retries), (2, 0));
    assert!(record.started_at_ms.unwrap() - record.created_at_ms >= 100, "it waited");
    worker.stop().await;
}
