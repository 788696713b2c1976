//! What the trace of a read shows: where its price came from, its calls to Redis and the database, and what failed.

use std::time::{Duration, Instant};

use pricing_e2e::otlp_receiver::{OtlpReceiver, Span};
use pricing_harness::api_key;
use pricing_harness::databases::TestDatabase;
use pricing_harness::proxy::Mode;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;

const DEADLINE: Duration = Duration::from_secs(20);
const READ: &str = "POST /api/v1/price";
/// Beginnings of attributes that say where in the source, on which thread or how busily a span was made.
const PLACES: [&str; 5] = ["code.", "thread.", "busy_ns", "idle_ns", "target"];

/// The server spans of reads, in the order of their arrival.
fn reads(spans: &[Span]) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind == "SERVER" && span.name == READ).collect()
}

/// The spans of calls that a request waited for, by name.
fn calls<'a>(spans: &'a [Span], request: &Span) -> Vec<&'a Span> {
    let of_request = |span: &&Span| span.trace_id == request.trace_id && span.kind == "CLIENT";
    let mut calls: Vec<&Span> = spans.iter().filter(of_request).collect();
    calls.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    calls
}

fn names<'a>(spans: &[&'a Span]) -> Vec<&'a str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

fn attribute<'a>(span: &'a Span, name: &str) -> &'a str {
    span.attributes.get(name).map_or("", String::as_str)
}

async fn after_reads(receiver: &OtlpReceiver, number: usize) -> Vec<Span> {
    receiver.wait_until(DEADLINE, "the reads", |spans| reads(spans).len() == number).await
}

#[tokio::test]
async fn a_miss_shows_its_statements_and_a_hit_shows_none() {
    let receiver = OtlpReceiver::start().await;
    let stack = Stack::builder()
        .traced_by(&receiver.endpoint())
        .workers(0)
        .set("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        .start()
        .await;
    stack.price("P-100", "NY", false).await;
    let spans = after_reads(&receiver, 1).await;
    let miss = reads(&spans)[0];
    assert_eq!(attribute(miss, "pricing.source"), "database", "{miss:?}");
    let miss_calls = calls(&spans, miss);
    assert_eq!(
        names(&miss_calls),
        ["EVALSHA store", "MGET price inputs", "SELECT markets", "SELECT products", "TIME"]
    );
    for statement in &miss_calls[2..4] {
        assert_eq!(attribute(statement, "db.system.name"), "sqlite");
        assert_eq!(attribute(statement, "db.query.summary"), statement.name);
        assert!(statement.numbers.contains("pricing.pool_wait_ms"), "{statement:?}");
        assert_eq!(statement.parent_span_id, miss.span_id, "{statement:?}");
    }

    stack.price("P-100", "NY", false).await;
    let spans = after_reads(&receiver, 2).await;
    let hit = reads(&spans)[1];
    assert_eq!(attribute(hit, "pricing.source"), "cache", "{hit:?}");
    assert_eq!(names(&calls(&spans, hit)), ["MGET price inputs"]);

    for span in &spans {
        assert!(!span.has_failed, "{span:?}");
        let of_place = |name: &&String| PLACES.iter().any(|place| name.starts_with(place));
        assert_eq!(span.attributes.keys().find(of_place), None, "{span:?}");
        assert_eq!(span.resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert!(!span.resource["service.instance.id"].is_empty());
        assert_eq!(span.resource["deployment.environment.name"], "test");
    }
}

#[tokio::test]
async fn a_read_without_redis_shows_the_failed_call_and_the_next_one_that_it_was_skipped() {
    let receiver = OtlpReceiver::start().await;
    let mut stack = Stack::builder().traced_by(&receiver.endpoint()).start().await;
    stack.redis.stop();
    for _ in 0..2 {
        let answer = stack.price("P-100", "NY", false).await;
        assert_eq!(answer["source"], "database");
    }
    let spans = after_reads(&receiver, 2).await;
    let [first, second] = reads(&spans)[..] else { panic!("{spans:?}") };
    for read in [first, second] {
        assert!(!read.has_failed, "the read succeeded: {read:?}");
        assert_eq!(attribute(read, "pricing.source"), "database");
    }
    let first_calls = calls(&spans, first);
    let failed = first_calls.iter().find(|span| span.name == "MGET price inputs").expect("Redis was asked");
    assert!(failed.has_failed, "{failed:?}");
    assert!(!["", "_OTHER"].contains(&attribute(failed, "error.type")), "{failed:?}");
    assert_eq!(attribute(second, "pricing.skipped"), "redis", "{second:?}");
    assert!(!names(&calls(&spans, second)).contains(&"MGET price inputs"), "{second:?}");
}

#[tokio::test]
async fn a_database_that_hangs_is_seen_in_the_trace_of_the_read_that_it_fails() {
    let receiver = OtlpReceiver::start().await;
    let stack = Stack::builder()
        .database(TestDatabase::postgres().await)
        .database_through_proxy()
        .traced_by(&receiver.endpoint())
        .workers(0)
        .start()
        .await;
    stack.price("P-100", "NY", false).await;
    stack.database_proxy.as_ref().expect("there is one").set(Mode::Stalled);
    let body = serde_json::json!({"product_id": "P-101", "user_location": "NY"});
    let (status, _) = stack.post("/api/v1/price", &body).await;
    assert_eq!(status, 503);
    let spans = after_reads(&receiver, 2).await;
    let read = reads(&spans)[1];
    assert!(read.has_failed, "a 5xx is an error of the server span: {read:?}");
    let calls = calls(&spans, read);
    let statement = calls.iter().find(|span| span.name == "SELECT products").expect("it was asked");
    assert!(statement.has_failed, "{statement:?}");
    // Both the wait for a connection and the read end after two seconds.
    assert!(["cancelled", "pool_timed_out"].contains(&attribute(statement, "error.type")), "{statement:?}");
    assert_eq!(attribute(statement, "db.system.name"), "postgresql");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_which_are_counted_and_no_time() {
    let stack =
        Stack::builder().traced_by("http://127.0.0.1:1").set("OTEL_BSP_SCHEDULE_DELAY", 50).start().await;
    eventually(DEADLINE, "lost spans to be counted", async || {
        let started = Instant::now();
        stack.price("P-100", "NY", false).await;
        assert!(started.elapsed() < Duration::from_secs(1), "a read does not wait for the exporter");
        let metrics =
            api_key::client().get(stack.api.url("/metrics")).send().await.ok()?.text().await.ok()?;
        metrics.contains(r#"pricing_spans_dropped_total{reason="export_failed"}"#).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_client_chose_is_cut_in_its_span() {
    let receiver = OtlpReceiver::start().await;
    let stack = Stack::builder().traced_by(&receiver.endpoint()).workers(0).listeners(0).start().await;
    let long = "x".repeat(4_000);
    let url = stack.api.url(&format!("/{long}?{long}"));
    let request = reqwest::Client::new().get(url).header("user-agent", &long).header("host", &long);
    assert_eq!(request.send().await.unwrap().status(), 404);
    let is_it = |span: &Span| span.kind == "SERVER" && attribute(span, "url.path").starts_with("/x");
    let spans = receiver.wait_until(DEADLINE, "the request", |spans| spans.iter().any(is_it)).await;
    let span = spans.iter().find(|span| is_it(span)).unwrap();
    for name in ["url.path", "url.query", "user_agent.original", "server.address"] {
        assert_eq!(attribute(span, name).len(), 256, "{name}");
    }
    assert!(span.attributes.values().all(|value| value.len() <= 256), "{span:?}");
}
