//! One trace, from the request to the prices.

use std::collections::BTreeSet;
use std::time::Duration;

use pricing_e2e::otlp_receiver::{OtlpReceiver, Span};
use pricing_harness::service::Binary;
use pricing_harness::stack::Stack;
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(20);
const SERVICES: [&str; 3] = ["pricing-api-service", "pricing-listener-service", "pricing-worker-service"];

/// The span of this name and kind in this service.
fn find<'a>(spans: &'a [Span], service: &str, kind: &str, name: &str) -> Option<&'a Span> {
    spans.iter().find(|span| span.service == service && span.kind == kind && span.name == name)
}

/// Names from a span up to the root of its trace.
fn ancestry(spans: &[Span], from: &Span) -> Vec<String> {
    let parent = |span: &&Span| spans.iter().find(|other| other.span_id == span.parent_span_id);
    std::iter::successors(Some(from), parent).map(|span| span.name.clone()).collect()
}

fn trace(spans: &[Span], id: &str) -> Vec<Span> {
    spans.iter().filter(|span| span.trace_id == id).cloned().collect::<Vec<Span>>()
}

#[tokio::test]
async fn an_event_is_one_trace_from_the_request_to_the_last_batch() {
    let receiver = OtlpReceiver::start().await;
    let stack = Stack::builder().traced_by(&receiver.endpoint()).start().await;
    let id = stack.publish().await;
    let task = stack.wait_for_task(&id).await;
    let result = &task["result"];
    assert_eq!((&result["status"], &result["updated_count"]), (&json!("updated"), &json!(900)), "{result}");
    let trace_id = task["trace_id"].as_str().expect("the record names the trace").to_owned();

    let spans = receiver
        .wait_until(DEADLINE, "the job's span", |spans| {
            find(&trace(spans, &trace_id), SERVICES[2], "CONSUMER", "process recalculate").is_some()
                && find(&trace(spans, &trace_id), SERVICES[0], "SERVER", "POST /api/v1/publish-market-event")
                    .is_some()
                && find(&trace(spans, &trace_id), SERVICES[1], "CONSUMER", "process market_events").is_some()
        })
        .await;
    let spans = trace(&spans, &trace_id);
    let services: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services, BTreeSet::from(SERVICES));

    let batch = find(&spans, SERVICES[2], "INTERNAL", "write batch").expect("batches are traced");
    assert_eq!(
        ancestry(&spans, batch),
        [
            "write batch",
            "scan",
            "process recalculate",
            "publish recalculate",
            "process market_events",
            "publish market_events",
            "POST /api/v1/publish-market-event",
        ]
    );
    // The event arrives by the log and by the channel. Only one of the two published a task.
    let spans = receiver
        .wait_until(DEADLINE, "both deliveries of the event", |spans| {
            let spans = trace(spans, &trace_id);
            spans.iter().filter(|span| span.name == "process market_events").count() == 2
        })
        .await;
    let spans = trace(&spans, &trace_id);
    let mut duplicates: Vec<&str> = spans
        .iter()
        .filter_map(|span| span.attributes.get("pricing.duplicate"))
        .map(String::as_str)
        .collect();
    duplicates.sort_unstable();
    assert_eq!(duplicates, ["false", "true"]);
    let published = spans.iter().filter(|span| span.kind == "PRODUCER").map(|span| span.name.as_str());
    assert_eq!(
        published.collect::<BTreeSet<_>>(),
        BTreeSet::from(["publish market_events", "publish recalculate"])
    );
    assert_eq!(spans.iter().filter(|span| span.kind == "PRODUCER").count(), 2, "one for each hop");

    let job = find(&spans, SERVICES[2], "CONSUMER", "process recalculate").expect("seen above");
    assert!(job.attributes["pricing.queue_wait_ms"].parse::<u64>().expect("a number") < 5_000);
    assert!(find(&spans, SERVICES[2], "CLIENT", "EVALSHA acquire lock").is_some());
    for span in spans.iter().filter(|span| !span.parent_span_id.is_empty()) {
        assert!(spans.iter().any(|other| other.span_id == span.parent_span_id), "no parent: {span:?}");
    }
    let root: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
    assert_eq!(root.len(), 1, "one root: {root:?}");

    let price = stack.price("P-500", "NY", false).await;
    assert_eq!(price["source"], "cache", "written ahead of the first read");
}

#[tokio::test]
async fn all_attempts_of_a_retried_job_are_in_the_trace_of_its_request() {
    let receiver = OtlpReceiver::start().await;
    let stack = Stack::builder()
        .traced_by(&receiver.endpoint())
        .set_for(Binary::Worker, "SIMULATE_FAILURE_RATE", 1)
        .set_for(Binary::Worker, "RETRY_MAX", 2)
        .set_for(Binary::Worker, "RETRY_DELAY_SECONDS", 0)
        .start()
        .await;
    let id = stack.recalculate().await;
    let task = stack.wait_for_task(&id).await;
    assert_eq!((task["state"].as_str(), task["attempts"].as_u64()), (Some("dead"), Some(3)));
    let trace_id = task["trace_id"].as_str().expect("the record names the trace").to_owned();
    let spans = receiver
        .wait_until(DEADLINE, "three attempts", |spans| {
            trace(spans, &trace_id).iter().filter(|span| span.name == "process recalculate").count() == 3
        })
        .await;
    let spans = trace(&spans, &trace_id);
    let mut attempts: Vec<&str> =
        spans.iter().filter_map(|span| span.attributes.get("pricing.attempt")).map(String::as_str).collect();
    attempts.sort_unstable();
    assert_eq!(attempts, ["1", "2", "3"]);
    for span in spans.iter().filter(|span| span.name == "process recalculate") {
        assert_eq!(ancestry(&spans, span)[1..], ["publish recalculate", "POST /api/v1/recalculate"]);
    }
}

#[tokio::test]
async fn a_recalculation_is_linked_to_the_requests_that_it_covers() {
    let receiver = OtlpReceiver::start().await;
    let stack = Stack::builder()
        .traced_by(&receiver.endpoint())
        .set_for(Binary::Worker, "SIMULATE_IO", true)
        .start()
        .await;
    let (first, second) = (stack.recalculate().await, stack.recalculate().await);
    let tasks = [stack.wait_for_task(&first).await, stack.wait_for_task(&second).await];
    let of = |status: &str| {
        let task = tasks.iter().find(|task| task["result"]["status"] == status);
        task.unwrap_or_else(|| panic!("one is {status}: {tasks:?}"))["trace_id"]
            .as_str()
            .expect("traced")
            .to_owned()
    };
    let (updated, skipped) = (of("updated"), of("skipped"));
    receiver
        .wait_until(DEADLINE, "the link", |spans| {
            let job = find(&trace(spans, &updated), SERVICES[2], "CONSUMER", "process recalculate").cloned();
            job.is_some_and(|job| job.linked_traces.contains(&skipped))
        })
        .await;
}

#[tokio::test]
async fn log_lines_of_a_request_and_of_its_job_carry_the_trace_id_also_of_a_trace_that_nobody_records() {
    let receiver = OtlpReceiver::start().await;
    for sampler in ["always_on", "parentbased_always_off"] {
        let stack = Stack::builder().traced_by(&receiver.endpoint()).set("OTEL_TRACES_SAMPLER", sampler);
        let stack = stack.start().await;
        let id = stack.publish().await;
        let task = stack.wait_for_task(&id).await;
        let trace_id = task["trace_id"].as_str().expect("the record names the trace");
        for service in [&stack.listeners[0], &stack.workers[0]] {
            let log = service.log();
            assert!(log.lines().any(|line| line.contains(&id) && line.contains(trace_id)), "{log}");
        }
    }
}
