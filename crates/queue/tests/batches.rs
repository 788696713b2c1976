//! The queue: what is begun and ended together.

#![expect(clippy::unwrap_used, reason = "where a test unwraps, the panic is the report")]

use std::time::Duration;

use pricing_harness::queue_bench::{QueueBench, quick};
use pricing_harness::waiting::eventually;
use pricing_queue::{NewTask, QueueOptions, TaskState};
use redis::{AsyncCommands as _, InfoDict};

/// A queue whose tasks are taken over after the deadlines of all waiting: what is not begun at once fails a test.
async fn bench_of(concurrency: usize) -> QueueBench {
    let visibility_timeout = Duration::from_secs(60);
    QueueBench::start(QueueOptions { concurrency, visibility_timeout, ..quick() }).await
}

/// How often Redis has run a command since it started.
async fn calls(bench: &QueueBench, command: &str) -> usize {
    let mut info = redis::cmd("INFO");
    let info: InfoDict =
        info.arg("commandstats").query_async(&mut bench.redis.connection().await).await.unwrap();
    let stats: Option<String> = info.get(&format!("cmdstat_{command}"));
    let calls = stats.as_deref().and_then(|stats| stats.strip_prefix("calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

/// Waits until so many entries are left in the stream.
async fn stream_of(bench: &QueueBench, entries: usize) {
    eventually(Duration::from_secs(20), "the other entries to leave the stream", async || {
        let left: usize = bench.redis.connection().await.xlen(bench.stream_key()).await.unwrap();
        (left == entries).then_some(())
    })
    .await;
}

#[tokio::test]
async fn tasks_that_wait_together_are_begun_and_ended_by_few_scripts() {
    let bench = bench_of(50).await;
    for n in 0..50 {
        bench.enqueue(&format!("t{n}"), "wait").await;
    }
    let before = calls(&bench, "evalsha").await;
    let worker = bench.worker("w");
    for n in 0..50 {
        bench.wait_for_runs(&format!("t{n}"), 1).await;
    }
    bench.script.gate.add_permits(50);
    for n in 0..50 {
        bench.wait_for(&format!("t{n}"), TaskState::Succeeded).await;
    }
    let scripts = calls(&bench, "evalsha").await - before;
    assert!(scripts < 25, "{scripts} scripts for 50 tasks, that is one for each");
    assert!(calls(&bench, "xdel").await < 25, "entries leave the stream together");
    worker.stop().await;
}

#[tokio::test]
async fn of_entries_that_are_begun_together_each_is_treated_by_itself() {
    let bench = bench_of(20).await;
    let ids = ["first", "suspect", "poisoned", "taken", "stale", "overwritten", "damaged", "deleted", "last"];
    for id in ids {
        bench.enqueue(id, "ok").await;
    }
    let (mut redis, stream) = (bench.redis.connection().await, bench.stream_key());
    let _: String = redis.xadd(&stream, "*", &[("other", "x")]).await.unwrap();
    // As if this worker had read them all, and its connection had broken before it began them.
    let entries = bench.fetch_as("w", 10).await;
    bench.make_suspect("suspect", 2).await;
    bench.make_suspect("poisoned", 3).await;
    let _: redis::Value = redis.xclaim(&stream, "workers", "someone", 0, &entries[3..4]).await.unwrap();
    let _: () = redis.hset(bench.record_key("stale"), "entry", "1-1").await.unwrap();
    let _: () = redis.set(bench.record_key("overwritten"), "no record").await.unwrap();
    let _: () = redis.hset(bench.record_key("damaged"), "attempts", "many").await.unwrap();
    let _: () = redis.del(bench.record_key("deleted")).await.unwrap();

    let worker = bench.worker("w");
    for id in ["first", "last", "suspect"] {
        let record = bench.wait_for(id, TaskState::Succeeded).await;
        assert_eq!(record.attempts, if id == "suspect" { 3 } else { 1 }, "{id}");
    }
    bench.wait_for("poisoned", TaskState::Dead).await;
    stream_of(&bench, 1).await;
    let left = bench.script.all_runs();
    let mut run: Vec<&str> = left.keys().map(String::as_str).collect();
    run.sort_unstable();
    assert_eq!(run, ["first", "last", "suspect"], "nothing else is run");
    assert_eq!(bench.record("taken").await.state, TaskState::Queued, "still the other worker's to begin");
    worker.stop().await;
}

#[tokio::test]
async fn tasks_with_large_payloads_are_begun_by_more_than_one_script() {
    let bench = bench_of(20).await;
    let payload = format!("ok {}", "x".repeat(60_000));
    for n in 0..20 {
        let id = format!("t{n}");
        bench.queue.enqueue(NewTask { id: &id, payload: &payload, traceparent: None }).await.unwrap();
    }
    let worker = bench.worker("w");
    for n in 0..20 {
        bench.wait_for(&format!("t{n}"), TaskState::Succeeded).await;
    }
    assert!(bench.script.all_runs().values().all(|runs| *runs == 1), "{:?}", bench.script.all_runs());
    worker.stop().await;
}

#[tokio::test]
async fn a_record_that_somebody_overwrote_fails_no_other_run() {
    let bench = bench_of(10).await;
    for id in ["a", "overwritten", "b"] {
        bench.enqueue(id, "wait").await;
    }
    let worker = bench.worker("w");
    for id in ["a", "overwritten", "b"] {
        bench.wait_for_runs(id, 1).await;
    }
    let _: () =
        bench.redis.connection().await.set(bench.record_key("overwritten"), "no record").await.unwrap();
    bench.script.gate.add_permits(3);
    for id in ["a", "b"] {
        bench.wait_for(id, TaskState::Succeeded).await;
    }
    stream_of(&bench, 0).await;
    worker.stop().await;
}
