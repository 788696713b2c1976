//! The queue: what a task's life is like when nothing goes wrong but the jobs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use pricing_harness::queue_bench::{QueueBench, quick};
use pricing_harness::waiting::eventually;
use pricing_queue::{Depths, ListedState, NewTask, QueueError, QueueOptions, TaskState};
use redis::AsyncCommands as _;

#[tokio::test]
async fn a_task_starts_without_waiting_for_any_poll() {
    let bench = QueueBench::start(quick()).await;
    let worker = bench.worker("w");
    bench.enqueue("first", "ok").await;
    bench.wait_for("first", TaskState::Succeeded).await;
    let mut waits = Vec::new();
    for n in 0..20 {
        let id = format!("t{n}");
        bench.enqueue(&id, "ok").await;
        let record = bench.wait_for(&id, TaskState::Succeeded).await;
        waits.push(record.started_at_ms.unwrap() - record.created_at_ms);
    }
    waits.sort_unstable();
    assert!(
        waits[waits.len() / 2] < 200,
        "the worker looks around once a second, so it was told: {waits:?} ms"
    );
    worker.stop().await;
}

#[tokio::test]
async fn a_task_that_succeeds_leaves_its_result_for_a_day_and_nothing_else() {
    let bench = QueueBench::start(quick()).await;
    let worker = bench.worker("w");
    bench.enqueue("t", "ok").await;
    let record = bench.wait_for("t", TaskState::Succeeded).await;
    assert_eq!((record.attempts, record.result.as_deref(), record.error), (1, Some("1"), None));
    assert!(
        record.finished_at_ms >= record.started_at_ms && record.started_at_ms >= Some(record.created_at_ms)
    );
    worker.stop().await;

    let mut redis = bench.redis.connection().await;
    let life: i64 = redis.pttl(bench.redis.key("queue:{bench}:task:t")).await.unwrap();
    assert!((86_000_000..=86_400_000).contains(&life), "{life}");
    assert_eq!(bench.queue.depths().await.unwrap(), Depths::default());
}

#[tokio::test]
async fn all_keys_of_a_queue_share_its_hash_tag() {
    let bench = QueueBench::start(quick()).await;
    let worker = bench.worker("w");
    for (id, payload) in [("a", "ok"), ("b", "fail 9"), ("c", "abort"), ("d", "hang")] {
        bench.enqueue(id, payload).await;
    }
    bench.wait_for("c", TaskState::Dead).await;
    let keys: Vec<String> = bench.redis.connection().await.keys("*").await.unwrap();
    let tag = bench.redis.key("queue:{bench}:");
    assert!(keys.iter().all(|key| key.starts_with(&tag)), "{keys:?}");
    worker.kill().await;
}

#[tokio::test]
async fn the_same_id_is_one_task_also_after_it_ended() {
    let bench = QueueBench::start(quick()).await;
    let worker = bench.worker("w");
    assert!(bench.enqueue("t", "ok").await);
    assert!(!bench.enqueue("t", "ok").await);
    bench.wait_for("t", TaskState::Succeeded).await;
    assert!(!bench.enqueue("t", "ok").await);
    bench.enqueue("later", "ok").await;
    bench.wait_for("later", TaskState::Succeeded).await;
    assert_eq!(bench.script.runs("t"), 1);
    worker.stop().await;
}

#[tokio::test]
async fn requests_are_numbered_in_their_order() {
    let bench = QueueBench::start(quick()).await;
    let mut numbers = Vec::new();
    for id in ["a", "b", "a", "c"] {
        let task = NewTask { id, payload: "ok", traceparent: None };
        numbers.push(bench.queue.enqueue(task).await.unwrap().number);
    }
    assert_eq!(numbers, [1, 2, 1, 3]);
}

#[tokio::test]
async fn a_transient_failure_is_tried_again_exactly_as_often_as_configured() {
    let bench = QueueBench::start(quick()).await;
    let worker = bench.worker("w");
    for failures in 1..=6 {
        bench.enqueue(&format!("t{failures}"), &format!("fail {failures}")).await;
    }
    for failures in 1..=5_u32 {
        let record = bench.wait_for(&format!("t{failures}"), TaskState::Succeeded).await;
        assert_eq!((record.attempts, record.retries), (failures + 1, failures));
        let waited = record.started_at_ms.unwrap() - record.created_at_ms;
        assert!(waited >= i64::from(failures) * 100, "{failures} retries within {waited} ms");
    }
    let record = bench.wait_for("t6", TaskState::Dead).await;
    assert_eq!((record.attempts, record.retries), (6, 5));
    assert_eq!(record.error.as_deref(), Some("not today (after 5 retries)"));
    assert_eq!(bench.script.dead_lettered.load(Ordering::SeqCst), 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_payload_that_cannot_be_read_is_a_dead_task_and_not_a_dead_worker() {
    let bench = QueueBench::start(quick()).await;
    let worker = bench.worker("w");
    bench.enqueue("garbage", "\u{1}\0{not json").await;
    bench.enqueue("panics", "panic").await;
    let record = bench.wait_for("garbage", TaskState::Dead).await;
    assert_eq!((record.attempts, record.error.as_deref()), (1, Some("cannot read \"\\u{1}\\0{not json\"")));
    let record = bench.wait_for("panics", TaskState::Dead).await;
    assert_eq!(record.error.as_deref(), Some("panicked: as told"));
    bench.enqueue("t", "ok").await;
    bench.wait_for("t", TaskState::Succeeded).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_dead_task_can_be_replayed_with_all_its_retries() {
    let bench = QueueBench::start(QueueOptions { max_retries: 1, ..quick() }).await;
    let worker = bench.worker("w");
    bench.enqueue("t", "fail 3").await;
    let first = bench.wait_for("t", TaskState::Dead).await;
    let dead = bench.queue.list(ListedState::Dead, None, 10).await.unwrap().tasks;
    assert_eq!(dead.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["t"]);
    assert!(bench.queue.replay("t").await.unwrap());
    let record = bench.wait_for("t", TaskState::Succeeded).await;
    assert_eq!((record.attempts, record.error), (4, None));
    assert!(record.number > first.number, "a replay is a new request");
    assert!(!bench.queue.replay("t").await.unwrap() && !bench.queue.replay("nobody").await.unwrap());
    worker.stop().await;
}

#[tokio::test]
async fn the_dead_list_keeps_the_latest() {
    let bench = QueueBench::start(QueueOptions { dead_capacity: 3, ..quick() }).await;
    assert_eq!(bench.queue.list(ListedState::Dead, None, 10).await.unwrap().tasks, []);
    let worker = bench.worker("w");
    for n in 0..6 {
        bench.enqueue(&format!("t{n}"), "abort").await;
        bench.wait_for(&format!("t{n}"), TaskState::Dead).await;
    }
    let dead = bench.queue.list(ListedState::Dead, None, 10).await.unwrap().tasks;
    assert_eq!(dead.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["t5", "t4", "t3"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_full_queue_refuses_and_forgets_nothing() {
    let bench = QueueBench::start(QueueOptions { capacity_bytes: 2_100, ..quick() }).await;
    bench.enqueue("a", "ok").await;
    bench.enqueue("b", "ok").await;
    let refused = bench.queue.enqueue(NewTask { id: "c", payload: "ok", traceparent: None }).await;
    assert!(matches!(refused, Err(QueueError::Full)));
    assert_eq!(bench.queue.task("c").await.unwrap(), None, "nothing half-done");
    let worker = bench.worker("w");
    bench.wait_for("b", TaskState::Succeeded).await;
    assert!(bench.enqueue("c", "ok").await);
    bench.wait_for("c", TaskState::Succeeded).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_deferred_run_is_repeated_at_once_and_costs_no_retry() {
    let bench = QueueBench::start(QueueOptions { retry_delay: Duration::from_secs(3_600), ..quick() }).await;
    let worker = bench.worker("w");
    bench.enqueue("t", "defer").await;
    let record = bench.wait_for("t", TaskState::Succeeded).await;
    assert_eq!((record.attempts, record.retries), (2, 0));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_due_tasks_drain() {
    let bench =
        QueueBench::start(QueueOptions { concurrency: 32, retry_delay: Duration::ZERO, ..quick() }).await;
    for chunk in 0..20 {
        let ids: Vec<String> = (0..1_000).map(|n| format!("t{chunk}-{n}")).collect();
        join_all(ids.iter().map(|id| bench.enqueue(id, "ok"))).await;
    }
    // As if they had all failed once and their waiting were over: the ready ones are made due.
    let mut redis = bench.redis.connection().await;
    let make_due = redis::Script::new(
        "for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
             local id = entry[2][2]
             redis.call('ZADD', KEYS[2], 1, id)
             redis.call('HSET', ARGV[1] .. id, 'state', 'retrying')
         end
         redis.call('DEL', KEYS[1])",
    );
    let key = |name: &str| bench.redis.key(&format!("queue:{{bench}}:{name}"));
    let mut call = make_due.key(key("stream"));
    let _: () = call.key(key("delayed")).arg(key("task:")).invoke_async(&mut redis).await.unwrap();
    assert_eq!(bench.queue.depths().await.unwrap().retrying, 20_000);

    let worker = bench.worker("w");
    eventually(Duration::from_secs(120), "the queue to be empty", async || {
        (bench.queue.depths().await.unwrap() == Depths::default()).then_some(())
    })
    .await;
    worker.stop().await;
    let runs = bench.script.all_runs();
    assert_eq!(runs.len(), 20_000);
    assert!(runs.values().all(|runs| *runs == 1), "each once");
}
