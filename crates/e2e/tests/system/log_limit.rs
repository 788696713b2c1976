//! An outage that fails every request does not flood the log.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(20);
const REQUESTS: u64 = 500;
/// Lines of one kind that are written at once.
const BURST: u64 = 10;
const KIND: &str = "answering 503";

#[tokio::test]
async fn of_many_failures_a_few_are_logged_and_the_others_are_counted() {
    let mut stack = Stack::builder().listeners(0).workers(0).start().await;
    stack.redis.stop();
    let begun = Instant::now();
    let event = json!({});
    for (status, body) in
        join_all((0..REQUESTS).map(|_| stack.post("/api/v1/publish-market-event", &event))).await
    {
        assert_eq!(status.as_u16(), 503, "{body}");
    }
    let is_about = |line: &Value, field: &str| line[field].as_str().is_some_and(|text| text.contains(KIND));
    let (written, suppressed) = eventually(DEADLINE, "every failure to be written or reported", async || {
        let log = stack.api.log();
        let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let written = lines.iter().filter(|line| is_about(line, "message")).count() as u64;
        let reports = lines.iter().filter(|line| line["message"] == "log lines suppressed");
        let suppressed = reports.filter(|line| is_about(line, "kind"));
        let suppressed: u64 = suppressed.filter_map(|line| line["suppressed"].as_u64()).sum();
        (written + suppressed == REQUESTS).then_some((written, suppressed))
    })
    .await;
    let most = BURST + begun.elapsed().as_secs() + 1;
    assert!(written >= BURST && written <= most, "{written} lines, at most {most}");
    assert_eq!(stack.api.metric("pricing_log_lines_suppressed_total").await as u64, suppressed);
}
