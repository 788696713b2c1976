//! The processes as those see them who run them.

use std::time::Duration;

use pricing_harness::api_key;
use pricing_harness::service::{Binary, Service};
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use reqwest::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

const DEADLINE: Duration = Duration::from_secs(20);

async fn text(service: &Service, path: &str) -> String {
    let answer = api_key::client().get(service.url(path)).send().await.expect("the service answers");
    answer.text().await.expect("in text")
}

#[tokio::test]
async fn every_service_reports_what_it_does() {
    let stack = Stack::builder().start().await;
    stack.price("P-100", "NY", false).await;
    stack.recalculate().await;
    let id = stack.publish().await;
    stack.wait_for_task(&id).await;
    let expected: [(&Service, &[&str]); 3] = [
        (
            &stack.api,
            &[
                "http_request_duration_seconds_bucket{",
                "pricing_cache_results_total{entry=\"product\"",
                "pricing_events_published_total{caller=",
                "pricing_tasks_enqueued_total{caller=",
                "process_resident_memory_bytes",
            ],
        ),
        (
            &stack.listeners[0],
            &[
                "pricing_events_received_total{",
                "pricing_event_enqueue_seconds_bucket{",
                "pricing_event_backlog",
            ],
        ),
        (
            &stack.workers[0],
            &[
                "pricing_recalculations_total{outcome=\"updated\"}",
                "pricing_recalculation_duration_seconds_bucket{",
                "pricing_products_recalculated_total",
                "pricing_queue_wait_seconds_bucket{",
                "pricing_queue_depth{state=\"queued\"}",
                "pricing_event_to_price_seconds_bucket{",
                "pricing_lock_requests_total{answer=\"acquired\"}",
                "tokio_",
            ],
        ),
    ];
    for (service, names) in expected {
        for name in names {
            // Some are measured every few seconds only.
            eventually(DEADLINE, name, async || text(service, "/metrics").await.contains(name).then_some(()))
                .await;
        }
        assert_eq!(text(service, "/health/live").await, "alive\n");
    }
}

#[tokio::test]
async fn each_binary_checks_the_health_of_its_own_process() {
    let stack = Stack::builder().start().await;
    for (binary, service, setting) in [
        (Binary::Api, &stack.api, "API_ADDR"),
        (Binary::Listener, &stack.listeners[0], "METRICS_ADDR"),
        (Binary::Worker, &stack.workers[0], "METRICS_ADDR"),
    ] {
        let check = |address: &str| {
            let mut command = binary.command(&stack.environment(binary));
            command.env(setting, address).arg("healthcheck").output().expect("it runs").status.success()
        };
        assert!(check(service.url("").trim_start_matches("http://")), "{}", binary.name());
        assert!(!check("127.0.0.1:1"), "{}", binary.name());
    }
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_api_ends() {
    let mut stack = Stack::builder().set_for(Binary::Api, "SIMULATE_IO", true).start().await;
    let (client, url) = (api_key::client(), stack.api.url("/api/v1/prices"));
    let price = |n: u32| {
        // A miss of its own, which takes 20 to 50 ms.
        let body = json!({"user_location": format!("L{n}"), "product_ids": ["P-100"]});
        let request = client.post(&url).json(&body).send();
        async { request.await.expect("an answer").status() }
    };
    let mut answers: JoinSet<StatusCode> = (0..50).map(price).collect();
    let first = answers.join_next().await.expect("50 are asked for").expect("no panic");
    let ended = stack.api.terminate(Duration::from_secs(10)).await;
    assert!(ended.success() && first == StatusCode::OK);
    assert_eq!(answers.join_all().await, [StatusCode::OK; 49]);
}

#[tokio::test]
async fn the_listener_ends_although_redis_hangs() {
    let mut stack = Stack::builder().workers(0).start().await;
    stack.redis.pause();
    stack.listeners[0].terminate(Duration::from_secs(15)).await;
}
