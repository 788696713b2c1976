//! One trace through the three services, as Jaeger has it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pricing_harness::waiting::pause;
use serde_json::Value;

use crate::http::Http;
use crate::validate::report::{Finding, passed};
use crate::validate::stack::Task;

/// The names that the services give themselves in traces.
const SERVICES: [&str; 3] = ["pricing-api-service", "pricing-listener-service", "pricing-worker-service"];

/// Spans are exported every few seconds.
const POLL: Duration = Duration::from_secs(1);

/// The service of each span of the trace, from Jaeger's answer.
fn services(answer: &Value, trace_id: &str) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut services = Vec::new();
    for trace in list(&answer["data"]) {
        for span in list(&trace["spans"]) {
            let process = span["processID"].as_str().unwrap_or_default();
            let service = trace["processes"][process]["serviceName"].as_str();
            let is_of_trace = span["traceID"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(trace_id));
            services.extend(service.filter(|_| is_of_trace).map(str::to_owned));
        }
    }
    services
}

/// Waits until the trace of `task` has spans of all three services.
pub(crate) async fn spans_services(jaeger: &str, task: &Task, patience: Duration) -> Result<Finding> {
    let trace_id = task.trace_id.as_deref();
    let trace_id =
        trace_id.with_context(|| format!("task {} has no trace_id: is tracing on?", task.task_id))?;
    let http = Http::new(jaeger);
    let path = format!("/api/traces/{trace_id}");
    let deadline = Instant::now() + patience;
    loop {
        let answer = http.get(&path).await?;
        // It has no data until the first span has arrived.
        let spans = if answer.status == 404 { Vec::new() } else { services(&answer.json()?, trace_id) };
        if SERVICES.iter().all(|service| spans.iter().any(|span| span == service)) {
            return passed(format!("trace {trace_id}: {} spans", spans.len()));
        }
        ensure!(
            Instant::now() < deadline,
            "after {patience:?} the trace {trace_id} has spans of {:?} only",
            BTreeSet::from_iter(spans)
        );

        pause(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn only_services_with_a_span_of_the_trace_count() {
        let answer = json!({"data": [{
            "spans": [
                {"traceID": "0af7", "processID": "p1"},
                {"traceID": "0af7", "processID": "p2"},
                {"traceID": "ffff", "processID": "p3"}
            ],
            "processes": {
                "p1": {"serviceName": "api"},
                "p2": {"serviceName": "worker"},
                "p3": {"serviceName": "listener"}
            }
        }]});
        assert_eq!(super::services(&answer, "0AF7"), ["api", "worker"]);
    }
}
