//! What the trace of a job shows: its attempts, its calls to Redis and the database, and what failed.

use std::time::Duration;

use pricing_e2e::otlp_receiver::{OtlpReceiver, Span};
use pricing_harness::service::Binary;
use pricing_harness::stack::Stack;
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(20);
const WORKER: &str = "pricing-worker-service";

/// The spans of the worker in this trace.
fn of_worker(spans: &[Span], trace_id: &str) -> Vec<Span> {
    let is_ours = |span: &&Span| span.trace_id == trace_id && span.service == WORKER;
    spans.iter().filter(is_ours).cloned().collect()
}

fn runs(spans: &[Span]) -> Vec<&Span> {
    let mut runs: Vec<&Span> = spans.iter().filter(|span| span.name == "process recalculate").collect();
    runs.sort_unstable_by_key(|run| run.attributes["pricing.attempt"].clone());
    runs
}

/// The names of the calls that a run waited for, sorted.
fn calls<'a>(spans: &'a [Span], run: &Span) -> Vec<&'a str> {
    let of_run = |span: &&Span| span.parent_span_id == run.span_id && span.kind == "CLIENT";
    let mut calls: Vec<&str> = spans.iter().filter(of_run).map(|span| span.name.as_str()).collect();
    calls.sort_unstable();
    calls
}

fn attribute<'a>(span: &'a Span, name: &str) -> &'a str {
    span.attributes.get(name).map_or("", String::as_str)
}

/// The trace of a task, once it holds so many runs.
async fn trace_of(receiver: &OtlpReceiver, task: &serde_json::Value, count: usize) -> (String, Vec<Span>) {
    let trace_id = task["trace_id"].as_str().expect("the record names the trace").to_owned();
    let spans = receiver
        .wait_until(DEADLINE, "the runs", |spans| runs(&of_worker(spans, &trace_id)).len() == count)
        .await;
    let spans = of_worker(&spans, &trace_id);
    (trace_id, spans)
}

#[tokio::test]
async fn a_job_that_fails_twice_shows_both_attempts_as_errors_and_its_death_in_one_trace() {
    let receiver = OtlpReceiver::start().await;
    let stack = Stack::builder()
        .traced_by(&receiver.endpoint())
        .set_for(Binary::Worker, "SIMULATE_FAILURE_RATE", 1)
        .set_for(Binary::Worker, "RETRY_MAX", 1)
        .set_for(Binary::Worker, "RETRY_DELAY_SECONDS", 0)
        .start()
        .await;
    let id = stack.recalculate().await;
    let task = stack.wait_for_task(&id).await;
    assert_eq!((task["state"].as_str(), task["attempts"].as_u64()), (Some("dead"), Some(2)));
    let (trace_id, spans) = trace_of(&receiver, &task, 2).await;
    let runs = runs(&spans);
    for (attempt, run) in (1..).zip(&runs) {
        assert!(run.has_failed, "{run:?}");
        assert_eq!(attribute(run, "pricing.attempt"), attempt.to_string());
        assert_eq!(attribute(run, "pricing.outcome"), "failed");
        assert!(!attribute(run, "error.type").is_empty(), "{run:?}");
        for number in ["pricing.attempt", "pricing.queue_wait_ms"] {
            assert!(run.numbers.contains(number), "{number} is a number: {run:?}");
        }
    }
    assert_eq!(
        calls(&spans, runs[0]),
        ["EVALSHA abandon lock", "EVALSHA ack task", "EVALSHA acquire lock"],
        "a run that is retried"
    );
    assert_eq!(
        calls(&spans, runs[1]),
        ["EVALSHA abandon lock", "EVALSHA ack task", "EVALSHA acquire lock", "EVALSHA forfeit lock"],
        "a run whose task dies"
    );
    let log = stack.workers[0].log();
    let line = log.lines().find(|line| line.contains("task is dead")).expect("a dead task is logged");
    assert!(line.contains(&trace_id), "{line}");
}

#[tokio::test]
async fn a_run_shows_each_call_that_it_waited_for_and_its_outcome() {
    let receiver = OtlpReceiver::start().await;
    let stack = Stack::builder().traced_by(&receiver.endpoint()).start().await;
    // Each list price is recorded with the new version of the market, and nothing but a recalculation does that.
    stack.database.execute(&["UPDATE markets SET multiplier_ppm = 1000000 WHERE location = 'default'"]).await;
    let id = stack.recalculate().await;
    let task = stack.wait_for_task(&id).await;
    let result = &task["result"];
    assert_eq!((&result["status"], &result["updated_count"]), (&json!("updated"), &json!(900)), "{result}");
    let (_, spans) = trace_of(&receiver, &task, 1).await;
    let run = runs(&spans)[0];
    assert!(!run.has_failed, "{run:?}");
    assert_eq!(attribute(run, "pricing.outcome"), "updated");
    assert_eq!(
        calls(&spans, run),
        ["EVALSHA ack task", "EVALSHA acquire lock", "EVALSHA last request", "EVALSHA release lock"]
    );
    let below = |parent: &str| {
        let parents = spans.iter().filter(|span| span.name == parent);
        let mut systems: Vec<&str> = parents
            .flat_map(|parent| spans.iter().filter(|span| span.parent_span_id == parent.span_id))
            .filter(|span| span.kind == "CLIENT")
            .map(|span| attribute(span, "db.system.name"))
            .collect();
        systems.sort_unstable();
        systems.dedup();
        systems.join(", ")
    };
    assert_eq!(below("scan"), "redis, sqlite", "reads of the catalogue, progress");
    assert_eq!(below("write batch"), "redis", "cache entries; no list price has changed");
    for call in spans.iter().filter(|span| span.kind == "CLIENT") {
        let what = ["db.operation.name", "db.query.summary"].map(|name| attribute(call, name));
        assert!(what.iter().any(|what| !what.is_empty()), "{call:?}");
    }
}

#[tokio::test]
async fn a_statement_that_fails_is_marked_in_the_trace() {
    let receiver = OtlpReceiver::start().await;
    let stack = Stack::builder()
        .traced_by(&receiver.endpoint())
        .set_for(Binary::Worker, "RETRY_MAX", 0)
        .start()
        .await;
    stack.database.execute(&["ALTER TABLE markets RENAME TO markets_away"]).await;
    let id = stack.recalculate().await;
    let task = stack.wait_for_task(&id).await;
    assert_eq!(task["state"], "dead", "{task}");
    let (_, spans) = trace_of(&receiver, &task, 1).await;
    let failed = spans.iter().find(|span| span.kind == "CLIENT" && span.has_failed);
    let failed = failed.unwrap_or_else(|| panic!("a failed call: {spans:?}"));
    assert_eq!(attribute(failed, "db.system.name"), "sqlite", "{failed:?}");
    assert!(!attribute(failed, "error.type").is_empty(), "{failed:?}");
}
