//! The endpoints that people and monitoring look at.

use anyhow::{Result, ensure};

use crate::validate::report::{Finding, passed};
use crate::validate::stack::Stack;

/// The stack takes traffic.
pub(crate) async fn ready(stack: &Stack) -> Result<Finding> {
    let answer = stack.http().get("/health/ready").await?;
    ensure!(answer.status == 200, "/health/ready answers {}: {}", answer.status, answer.body);
    passed(answer.body)
}

/// The histogram that latency is read from is exported.
pub(crate) async fn metrics(stack: &Stack) -> Result<Finding> {
    let answer = stack.http().get("/metrics").await?;
    ensure!(answer.status == 200, "/metrics answers {}", answer.status);
    let series =
        answer.body.lines().filter(|line| line.starts_with("http_request_duration_seconds_bucket{")).count();
    ensure!(series > 0, "/metrics has no http_request_duration_seconds_bucket");
    passed(format!("{series} buckets"))
}

/// People get a page and generators get a description that names the price call.
pub(crate) async fn documentation(stack: &Stack) -> Result<Finding> {
    let page = stack.http().get("/docs").await?;
    ensure!(page.status == 200, "/docs answers {}", page.status);
    ensure!(page.content_type.starts_with("text/html"), "/docs is {}", page.content_type);
    let description: serde_json::Value = stack.http().get("/openapi.json").await?.json()?;
    let paths = description["paths"].as_object().map_or(0, serde_json::Map::len);
    ensure!(
        description["paths"]["/api/v1/price"].is_object(),
        "/openapi.json does not describe /api/v1/price"
    );
    passed(format!("{paths} paths described"))
}
