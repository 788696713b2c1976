//! From events and requests to prices.

use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use pricing_harness::databases::TestDatabase;
use pricing_harness::service::Binary;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use redis::AsyncCommands as _;
use reqwest::StatusCode;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_change_is_in_the_cache_when_the_task_of_its_event_has_ended() {
    for database in [TestDatabase::sqlite(), TestDatabase::postgres().await] {
        let stack = Stack::builder().database(database).start().await;
        let before = stack.price("P-100", "NY", false).await;
        assert_eq!(before["final_price"], 47.49);
        stack.database.execute(&["UPDATE products SET base_price_minor = 10000 WHERE id = 'P-100'"]).await;
        let id = stack.publish().await;
        let task = stack.wait_for_task(&id).await;
        assert_eq!(task["state"], "succeeded", "{task}");
        let result = &task["result"];
        assert_eq!(
            (&result["status"], &result["updated_count"]),
            (&json!("updated"), &json!(900)),
            "{result}"
        );
        assert_eq!(task["progress"], json!({"done": 900, "total": 900}));
        assert_eq!((task["attempts"].as_u64(), &task["error"]), (Some(1), &Value::Null));
        let answer = stack.price("P-100", "NY", false).await;
        assert_eq!((&answer["source"], &answer["final_price"]), (&json!("cache"), &json!(95.0)));
        assert!(answer["version"].as_u64() > before["version"].as_u64(), "{answer} after {before}");
        // A line after spans that nobody exports is not lost with them.
        eventually(DEADLINE, "the line of the run in the worker's log", async || {
            stack.workers[0].log().contains(r#""outcome":"updated""#).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_request_is_answered_at_once_whatever_the_workers_do() {
    let stack = Stack::builder().workers(0).listeners(0).start().await;
    let (status, answer) = stack.post("/api/v1/recalculate", &json!({})).await;
    assert_eq!((status, &answer["status"]), (StatusCode::OK, &json!("queued")));
    let task = stack.task(answer["task_id"].as_str().unwrap()).await.unwrap();
    assert_eq!((&task["state"], task["attempts"].as_u64()), (&json!("queued"), Some(0)));
    assert_eq!(
        (&task["started_at"], &task["result"], &task["progress"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );

    // An event without a listener waits in the log; its task is not known yet.
    let (status, event) = stack.post("/api/v1/publish-market-event", &json!({"reason": "flash sale"})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&event["status"], &event["channel"]), (&json!("Event published"), &json!("market_events")));
    assert_eq!(event["event_id"], event["task_id"]);
    assert_eq!(stack.task(event["task_id"].as_str().unwrap()).await, None);
    let _listener = stack.start_another(Binary::Listener).await;
    eventually(DEADLINE, "the event to be a task", async || stack.task(event["task_id"].as_str()?).await)
        .await;
}

#[tokio::test]
async fn of_two_recalculations_at_once_one_is_updated_and_one_skipped() {
    let stack = Stack::builder().workers(2).set_for(Binary::Worker, "SIMULATE_IO", true).start().await;
    let ids = join_all((0..2).map(|_| stack.recalculate())).await;
    let tasks = join_all(ids.iter().map(|id| stack.wait_for_task(id))).await;
    let mut results: Vec<&str> = tasks.iter().filter_map(|task| task["result"]["status"].as_str()).collect();
    results.sort_unstable();
    assert_eq!(results, ["skipped", "updated"], "{tasks:?}");
}

#[tokio::test]
async fn a_burst_of_events_costs_few_scans_and_every_task_ends() {
    let stack = Stack::builder().workers(2).listeners(2).start().await;
    let ids = join_all((0..200).map(|_| stack.publish())).await;
    let tasks = join_all(ids.iter().map(|id| stack.wait_for_task(id))).await;
    assert!(tasks.iter().all(|task| task["state"] == "succeeded"));
    let updated = tasks.iter().filter(|task| task["result"]["status"] == "updated").count();
    assert!((1..=40).contains(&updated), "{updated} of 200 were scans");
    let lock: bool =
        stack.redis.connection().await.exists(stack.redis.key("recalculate_global_lock")).await.unwrap();
    assert!(!lock, "the lock is free");
}

#[tokio::test]
async fn whoever_can_publish_can_ask_for_a_recalculation() {
    let stack = Stack::builder().start().await;
    let mut redis = stack.redis.connection().await;
    // The listener subscribes after it is ready to be asked for its health.
    eventually(DEADLINE, "a subscriber", async || {
        let heard: u64 = redis.publish("market_events", "Recalculate_Triggered_v1").await.ok()?;
        (heard > 0).then_some(())
    })
    .await;
    let event = r#"{"specversion":"1.0","id":"erp-17","source":"erp","type":"price.changed"}"#;
    for _ in 0..3 {
        let _: u64 = redis.publish("market_events", event).await.unwrap();
    }
    let id = eventually(DEADLINE, "the task of the event", async || {
        stack.task_ids().await.into_iter().find(|id| id.starts_with("ce-"))
    })
    .await;
    assert_eq!(stack.wait_for_task(&id).await["state"], "succeeded", "the same event thrice is one task");
    let count: u64 = redis.get(stack.redis.key("queue:{recalculate}:last_request")).await.unwrap();
    eventually(DEADLINE, "both tasks to have ended, and no third", async || {
        let keys: Vec<String> = redis.keys(stack.redis.key("queue:{recalculate}:task:*")).await.ok()?;
        (keys.len() == 2 && count <= 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_job_that_fails_is_retried_and_then_dead_and_can_be_replayed() {
    let mut stack = Stack::builder()
        .set_for(Binary::Worker, "SIMULATE_FAILURE_RATE", 1)
        .set_for(Binary::Worker, "RETRY_DELAY_SECONDS", 0)
        .start()
        .await;
    let id = stack.recalculate().await;
    let task = stack.wait_for_task(&id).await;
    assert_eq!((&task["state"], task["attempts"].as_u64()), (&json!("dead"), Some(6)));
    assert_eq!(task["error"], "external_timeout: An external service did not answer in time.", "{task}");
    assert!(task["causes"].as_str().unwrap().contains("ExternalApiTimeout"), "{task}");

    let environment = stack.environment(Binary::Worker);
    let run = |arguments: &[&str]| {
        let mut command = Binary::Worker.command(&environment);
        let output = command.arg("tasks").args(arguments).stderr(Stdio::piped()).output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (listed, list) = run(&["list"]);
    assert!(listed && list.contains(&id) && list.contains("1 dead"), "{list}");
    let (shown, record) = run(&["show", &id]);
    assert!(shown && record.contains("dead") && record.contains("ExternalApiTimeout"), "{record}");
    assert!(!run(&["show", "nobody"]).0 && !run(&["replay", "nobody"]).0);

    // The cause goes away, and the operator replays.
    stack.workers.clear();
    let mut mended = environment.clone();
    mended.insert("SIMULATE_FAILURE_RATE".to_owned(), "0".to_owned());
    let worker = pricing_harness::service::Service::start(Binary::Worker, &mended).await;
    assert!(run(&["replay", &id]).0);
    let task = eventually(DEADLINE, "the replayed task to succeed", async || {
        stack.task(&id).await.filter(|task| task["state"] == "succeeded")
    })
    .await;
    assert_eq!((task["attempts"].as_u64(), &task["error"]), (Some(7), &Value::Null));
    drop(worker);
}

#[tokio::test]
async fn payloads_that_do_not_decode_are_dead_with_a_clear_error_and_the_worker_lives() {
    let stack = Stack::builder().start().await;
    let redis = stack.redis.connect();
    let queue = pricing_queue::Queue::new(
        &redis.prefix,
        "recalculate",
        redis.commands.clone(),
        redis.pool.clone(),
        pricing_queue::QueueOptions::default(),
    );
    for (id, payload) in [("garbage", "\0\u{1}"), ("deep", &"[".repeat(4_000))] {
        let task = pricing_queue::NewTask { id, payload, traceparent: None };
        queue.enqueue(task).await.unwrap();
        let task = stack.wait_for_task(id).await;
        assert_eq!((&task["state"], task["attempts"].as_u64()), (&json!("dead"), Some(1)), "{task}");
        assert_eq!(task["error"], "invalid_payload: The payload of the task cannot be read.", "{task}");
        assert!(task["causes"].as_str().unwrap().contains("the payload cannot be decoded: "), "{task}");
    }
    let id = stack.publish().await;
    assert_eq!(stack.wait_for_task(&id).await["result"]["status"], "updated");
}

/// As a producer of a newer build makes it, beside a worker that is not replaced yet.
#[tokio::test]
async fn a_payload_of_another_schema_waits_for_a_worker_that_reads_it_and_is_dead_after_an_hour() {
    let stack = Stack::builder().start().await;
    let redis = stack.redis.connect();
    let (commands, pool) = (redis.commands.clone(), redis.pool.clone());
    let queue = pricing_queue::Queue::new(&redis.prefix, "recalculate", commands, pool, Default::default());
    let newer = pricing_queue::NewTask { id: "newer", payload: r#"{"schema":2}"#, traceparent: None };
    queue.enqueue(newer).await.unwrap();
    let waits = eventually(DEADLINE, "the task to wait", async || {
        stack.task("newer").await.filter(|task| task["state"] == "retrying")
    })
    .await;
    assert_eq!(
        waits["causes"],
        "unknown_schema: the payload cannot be decoded: the payload has schema 2, this build reads schema 1"
    );
    let record = stack.redis.key("queue:{recalculate}:task:newer");
    let mut redis = stack.redis.connection().await;
    let created: i64 = redis.hget(&record, "created_at").await.unwrap();
    let _: () = redis.hset(&record, "created_at", created - 3_600_000).await.unwrap();
    let task = stack.wait_for_task("newer").await;
    assert_eq!((&task["state"], task["attempts"].as_u64()), (&json!("dead"), Some(2)), "{task}");
    assert_eq!(queue.task("newer").await.unwrap().unwrap().retries, 0);
}

#[tokio::test]
async fn services_end_on_sigterm_with_success() {
    let mut stack = Stack::builder().start().await;
    let id = stack.publish().await;
    stack.wait_for_task(&id).await;
    assert!(stack.api.terminate(DEADLINE).await.success());
    assert!(stack.listeners[0].terminate(DEADLINE).await.success());
    assert!(stack.workers[0].terminate(DEADLINE).await.success());
}

#[tokio::test]
async fn jobs_that_fail_for_good_do_not_breed() {
    let builder = Stack::builder().set_for(Binary::Worker, "WORKER_CONCURRENCY", 1);
    let stack = builder.set_for(Binary::Worker, "RETRY_MAX", 0).start().await;
    stack.database.execute(&["ALTER TABLE markets RENAME TO places"]).await;
    let ids = join_all((0..10).map(|_| stack.recalculate())).await;
    for id in &ids {
        let task = stack.wait_for_task(id).await;
        assert!(
            task["causes"].as_str().is_some_and(|causes| causes.contains("no such table: markets")),
            "{task}"
        );
    }
    let numbers = stack.redis.key("queue:{recalculate}:last_request");
    let numbers: u64 = stack.redis.connection().await.get(numbers).await.unwrap();
    assert_eq!(numbers, 10, "nobody was skipped trusting them, so nothing takes their place");
}

#[tokio::test]
async fn a_half_sent_request_does_not_hold_up_the_end() {
    use std::io::Write as _;
    let mut stack = Stack::builder().start().await;
    let half = |service: &pricing_harness::service::Service| {
        let address = service.url("").trim_start_matches("http://").to_owned();
        let mut connection = std::net::TcpStream::connect(address).unwrap();
        connection.write_all(b"GET /metrics HTTP/1.1\r\nHo").unwrap();
        connection
    };
    let _connections = [half(&stack.listeners[0]), half(&stack.workers[0])];
    assert!(stack.listeners[0].terminate(Duration::from_secs(5)).await.success());
    assert!(stack.workers[0].terminate(Duration::from_secs(5)).await.success());
}

/// Requests keep coming during every scan, so the holder hands over after three of them.
#[tokio::test]
async fn a_steady_stream_of_requests_is_covered_by_jobs_that_hand_over() {
    let stack = Stack::builder().workers(2).set_for(Binary::Worker, "WORKER_CONCURRENCY", 8).start().await;
    let mut ids = Vec::new();
    let since = tokio::time::Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        ids.push(stack.recalculate().await);
    }
    stack.database.execute(&["UPDATE products SET base_price_minor = 10000 WHERE id = 'P-100'"]).await;
    ids.push(stack.recalculate().await);
    for id in &ids {
        assert_eq!(stack.wait_for_task(id).await["state"], "succeeded");
    }
    eventually(DEADLINE, "the last change to be in the cache", async || {
        let answer = stack.price("P-100", "NY", false).await;
        (answer["final_price"] == 95.0 && answer["source"] == "cache").then_some(())
    })
    .await;
    let mut redis = stack.redis.connection().await;
    eventually(DEADLINE, "every skipped request to be covered", async || {
        let covered: u64 = redis.get(stack.redis.key("recalculate_covered")).await.ok()?;
        let skipped: Option<u64> = redis.get(stack.redis.key("recalculate_skipped")).await.ok()?;
        (covered >= skipped.unwrap_or(0)).then_some(())
    })
    .await;
}
